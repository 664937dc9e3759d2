"""`settler bench match`: what it costs to find whose a transfer is, by how many invoices are open.

The daemon's own look-ups and rules, for spans of transfers to watched addresses, on a database that is filled to
one size after the other: what was recorded before (`transfers.by_identity`), who may be meant (`candidates.find`), who
is (`match`). Each span is done twice, then rolled back: the first time its rows have to be found on their pages
(`cold`, on SQLite after the system was told to forget the file), the second time they are in memory (`warm`). The floor
is the same at the smallest size.

What invoices wait for, twenty by twenty:  14 at an address of their own, 3 for a unique amount at an address that a
thousand share, 2 for an on-chain reference, 1 for a payer. Of the transfers nine in ten are of the right amount.
Addresses count up, so that 10^7 invoices are written in minutes; whom a span pays is drawn from all of them, evenly.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

from chains.model import Address, BaseUnits, BlockNumber, ChainId, Token, TransferIdentity, TxHash
from chains.proof.keccak import keccak
from settler.bench.databases import opened
from settler.bench.filling import NOW, OWNERS, Filler, Waits, postgres_filler, sqlite_filler
from settler.bench.measuring import MIB, Meter, Report, peak_rss_mib, rss_mib
from settler.domain.matching import Arrival, Matched, match
from settler.domain.settlement import InvoicePolicy
from settler.storage import candidates, chains, migrate, transfers
from settler.storage.engine import Database

SIZES = (10**3, 10**5, 10**6)
TRANSFERS = 1_000
"""In a span: a busy block, or a piece of a long gap."""
SPANS = 5
SHARE_PAID = 0.9
CHAIN = ChainId(8453)
TOKEN = Token(chain_id=CHAIN, symbol="USDC", address=Address(b"\xc0" * 20), decimals=6, currency="USD")


async def matching(*, sizes: Sequence[int] = SIZES, database: str | None, transfers_a_span: int = TRANSFERS) -> Report:
    """A row a database and size. `database`: a URL of an empty, migrated PostgreSQL database, beside SQLite."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="settler-bench-") as folder:
        path = Path(folder) / "settler.db"
        await migrate.upgrade(f"sqlite:///{path}")
        rows += await _measured(f"sqlite:///{path}", sqlite_filler(path), sizes, transfers_a_span)
    if database is not None:
        rows += await _measured(database, postgres_filler(database), sizes, transfers_a_span)
    inputs = {"transfers": transfers_a_span, "spans": SPANS, "share_paid": SHARE_PAID}
    return Report(benchmark="match", inputs=inputs, rows=rows)


async def _measured(url: str, filler: Filler, sizes: Sequence[int], count: int) -> list[dict[str, Any]]:
    async with opened(url) as db, db.write() as conn:
        await chains.register(conn, chain_id=CHAIN, name="base", tokens=[TOKEN], now=NOW)
    rows: list[dict[str, Any]] = []
    for size in sorted(sizes):
        with Meter() as filling:
            filler.fill(size, chain="base", token=TOKEN)
        row = await _row(url, filler, size, count)
        first = rows[0] if rows else row
        rows.append(
            {
                **row,
                "cpu_ratio": round(row["warm_cpu_us"] / first["warm_cpu_us"], 2),
                "wall_ratio": round(row["warm_wall_us"] / first["warm_wall_us"], 2),
                "filled_s": round(filling.wall_s, 1),
            }
        )
    return rows


async def _row(url: str, filler: Filler, size: int, count: int) -> dict[str, Any]:
    draw = random.Random(size)  # noqa: S311  # the same transfers at every run
    cold: list[Meter] = []
    warm: list[Meter] = []
    matched = 0
    async with opened(url) as db:
        await _matched(db, _span(draw, size, count))  # statements are compiled, connections made
    for _ in range(SPANS):
        arrivals = _span(draw, size, count)
        filler.forget_pages()
        async with opened(url) as db:
            for spent in (cold, warm):
                with Meter() as meter:
                    matched = await _matched(db, arrivals)
                spent.append(meter)
    return {
        "database": filler.kind,
        "open_invoices": size,
        "warm_cpu_us": _us(warm, lambda meter: meter.cpu_s, count),
        "warm_wall_us": _us(warm, lambda meter: meter.wall_s, count),
        "cold_cpu_us": _us(cold, lambda meter: meter.cpu_s, count),
        "cold_wall_us": _us(cold, lambda meter: meter.wall_s, count),
        "matched": matched,
        "database_mib": round(filler.size_bytes() / MIB),
        "rss_mib": round(rss_mib()),
        "peak_rss_mib": round(peak_rss_mib()),
    }


def _us(spent: Sequence[Meter], of: Callable[[Meter], float], count: int) -> float:
    return round(1e6 * median(map(of, spent)) / count, 1)


class _Undone(Exception):
    """What was locked is let go."""


async def _matched(db: Database, arrivals: Sequence[Arrival]) -> int:
    """How many of the transfers pay an invoice."""
    found = 0
    try:
        async with db.write() as conn:
            known = await transfers.by_identity(conn, (a.identity for a in arrivals))
            assert not known, "nothing was recorded"
            for arrival, near in zip(arrivals, await candidates.find(conn, arrivals), strict=True):
                found += isinstance(match(arrival, near, policy=InvoicePolicy()), Matched)
            raise _Undone
    except _Undone:
        return found


def _span(draw: random.Random, size: int, count: int) -> list[Arrival]:
    """Transfers to watched addresses, each of another invoice while there are so many."""
    numbers = draw.sample(range(size), count) if count <= size else [draw.randrange(size) for _ in range(count)]
    return [_arrival(draw, number, at) for at, number in enumerate(numbers)]


def _arrival(draw: random.Random, number: int, at: int) -> Arrival:
    waits = Waits.of(number)
    amount = waits.amount if draw.random() < SHARE_PAID else 3 * waits.amount + 1
    is_paid = amount == waits.amount
    return Arrival(
        identity=TransferIdentity(
            chain_id=CHAIN,
            tx_hash=TxHash(keccak(b"%d %d" % (number, at))),
            token=TOKEN.address,
            sender=waits.payer or Address((OWNERS + number).to_bytes(20)),
            recipient=waits.pay_to,
            amount=BaseUnits(amount),
            ordinal=1,
        ),
        block_number=BlockNumber(100),
        block_time=NOW + timedelta(minutes=1),
        keys=frozenset([waits.reference]) if waits.reference and is_paid else frozenset(),
    )
