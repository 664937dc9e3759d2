"""The regression guard: what is hot costs no more times its floor than it did, whatever machine this is.

A bound is about twice the ratio of the day it was written, so that what becomes three times slower is noticed. Where
one fails for a good reason (the floor became faster, the work has to do more), change the figures here together with
the reason.
"""

from __future__ import annotations

import itertools
import random
import sqlite3
from collections.abc import Container
from contextlib import closing
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from chains.address_set import address_set
from chains.decode import Asked, transfers
from chains.model import Address, BaseUnits, BlockNumber, BlockSpan, ChainId, LogQuery, TransferIdentity, TxHash
from chains.wire import LOGS
from settler.bench import canned
from settler.bench.canned import CannedChain, deposit_address
from settler.bench.floor import BareLog
from settler.bench.proof import prove
from settler.bench.webhooks import deliver
from settler.domain.invoices import Invoice
from settler.domain.matching import Arrival
from settler.storage import candidates, migrate, schema
from settler.storage.engine import Database
from settler.storage.sql import insert
from tests.bench.ratios import Guard, cpu_s, held, ratio
from tests.storage import samples
from tests.support.world import World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

EVENTS = 5_000
PAYMENTS = 500
ARRIVALS = 200


# -- reading -----------------------------------------------------------------------------------------------------------


async def test_ratio__decode_and_match_of_logs__to_decoding_the_same_json() -> None:
    guard = Guard(
        what="decoding and matching 5,000 logs", against="decoding their JSON alone", written=2.0, at_most=3.6
    )
    chain = CannedChain(events=EVENTS, blocks=50, payments_ppm=50_000, invoices=1_000)
    body = b"".join(chain.logs(1, chain.blocks, None))
    span = BlockSpan(first=BlockNumber(1), last=BlockNumber(chain.blocks))
    query = LogQuery(
        tokens=frozenset([canned.TOKEN]), recipients=address_set(deposit_address(n) for n in range(chain.invoices))
    )
    asked = Asked(chain_id=ChainId(canned.CHAIN_ID), span=span, query=query, is_filtered=False)
    bare = msgspec.json.Decoder(list[BareLog])

    async def work() -> None:
        assert len(transfers(LOGS.decode(body), asked)) == chain.payments

    async def floor() -> None:
        assert len(bare.decode(body)) == EVENTS

    await held(guard, lambda: ratio(work, floor))


async def test_ratio__look_up_among_a_million_watched_addresses__to_a_frozenset() -> None:
    """Which is four times as large, and whose look-ups take as long among ten as among a million."""
    guard = Guard(
        what="10,000 look-ups among a million watched addresses",
        against="as many in a frozenset of the same",
        written=1.5,
        at_most=3.2,
    )
    chance = random.Random(8)
    many = [Address(chance.randbytes(20)) for _ in range(1_000_000)]
    packed, plain = address_set(many), frozenset(many)
    asked = [*map(Address, map(bytes, map(bytearray, chance.sample(many, 1_000))))]
    asked += [Address(chance.randbytes(20)) for _ in range(9_000)]

    async def look(among: Container[Address]) -> None:
        assert sum(address in among for address in asked) == 1_000

    await held(guard, lambda: ratio(lambda: look(packed), lambda: look(plain), rounds=9))


async def test_ratio__proof_of_a_block__to_its_json_and_hashes() -> None:
    guard = Guard(
        what="proving a payment in a block of 150 transactions",
        against="decoding the same JSON and hashing the same bytes",
        written=5.5,
        at_most=13.0,
    )

    async def measured() -> float:
        (row,) = (await prove(sizes=((150, 1),), repeats=9)).rows
        return float(row["ratio"])

    await held(guard, measured)


# -- payments ----------------------------------------------------------------------------------------------------------


async def test_ratio__recording_and_settling_payments__to_inserting_as_many_rows(
    sqlite_db: Database, tmp_path: Path
) -> None:
    guard = Guard(
        what="recording and settling 500 payments of a block",
        against="one executemany of as many rows",
        written=12.5,
        at_most=24.0,
    )
    world = await World.on(sqlite_db)
    waves = itertools.count()
    rows: list[int] = []

    async def ready() -> list[Invoice]:
        return [await world.invoice("100") for _ in range(PAYMENTS)]

    async def work() -> None:
        await world.watch()
        world.mine(empty_after=3)
        await world.watch()
        await world.settle()

    async def floor() -> None:
        _insert_rows(tmp_path / f"{next(waves)}.db", rows[-1])

    async def measured() -> float:
        for invoice in await ready():
            world.pay(invoice)
        before = await _rows_of(sqlite_db)
        world.mine()
        spent = await cpu_s(work)
        rows.append(await _rows_of(sqlite_db) - before)
        assert rows[-1] > 6 * PAYMENTS
        return spent / min([await cpu_s(floor) for _ in range(3)])

    await held(guard, measured)
    assert world.counted.settled_amounts


async def _rows_of(db: Database) -> int:
    return sum([await _count(db, table) for table in schema.metadata.sorted_tables])


async def _count(db: Database, table: sa.Table) -> int:
    async with db.read() as conn:
        return int((await conn.execute(sa.select(sa.func.count()).select_from(table))).scalar_one())


def _insert_rows(path: Path, count: int) -> None:
    """As wide as a transfer, into a table like those of settler: a text key and durable."""
    with closing(sqlite3.connect(path)) as store:
        store.execute("PRAGMA journal_mode = WAL")
        store.execute("PRAGMA synchronous = FULL")
        store.execute("CREATE TABLE rows (id TEXT PRIMARY KEY, a TEXT, b BLOB, c BLOB, d BLOB, e TEXT, f INT, g TEXT)")
        made = [(f"trf_{n:026}", "final", b"h" * 32, b"s" * 20, b"r" * 20, f"{n:078}", n, "2026") for n in range(count)]
        with store:
            store.executemany("INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, ?, ?)", made)


async def test_ratio__candidates_among_many_invoices__to_those_among_few(tmp_path: Path) -> None:
    guard = Guard(
        what="finding the candidates of 200 payments among 10⁵ invoices",
        against="finding them among 10³",
        written=1.2,
        at_most=2.2,
    )
    many, few = await _crowd(tmp_path / "many.db", 100_000), await _crowd(tmp_path / "few.db", 1_000)
    of_many, of_few = _arrivals(100_000), _arrivals(1_000)
    try:

        async def look(db: Database, arrivals: list[Arrival]) -> None:
            async with db.write() as conn:
                found = await candidates.find(conn, arrivals)
            assert [len(each.invoices) for each in found] == [1] * ARRIVALS

        await held(guard, lambda: ratio(lambda: look(many, of_many), lambda: look(few, of_few)))
    finally:
        await many.dispose()
        await few.dispose()


CHAIN = ChainId(1)
TOKEN = Address(bytes(20))


def _address(number: int) -> Address:
    return Address(sha256(str(number).encode()).digest()[:20])


def _arrivals(invoices: int) -> list[Arrival]:
    """Payments of so many different ones of them."""
    picked = random.Random(5).sample(range(invoices), ARRIVALS)
    return [
        Arrival(
            identity=TransferIdentity(
                chain_id=CHAIN,
                tx_hash=TxHash(n.to_bytes(32, "big")),
                token=TOKEN,
                sender=Address(b"\xaa" * 20),
                recipient=_address(n),
                amount=BaseUnits(1),
                ordinal=0,
            ),
            block_number=BlockNumber(1),
            block_time=samples.row(schema.invoices)["created_at"] + timedelta(seconds=1),
        )
        for n in picked
    ]


async def _crowd(path: Path, invoices: int) -> Database:
    """A database of open invoices, each with an address of its own."""
    db = await Database.open(f"sqlite:///{path}")
    await migrate.upgrade_open(db)
    each = range(invoices)
    parents: dict[sa.Table, list[dict[str, Any]]] = {
        schema.chains: [{"chain_id": CHAIN}],
        schema.tokens: [{"chain_id": CHAIN, "address": TOKEN}],
        schema.watched_addresses: [{"address": _address(n)} for n in each],
        schema.invoices: [{"id": f"inv_{n:026}", "reference": f"order {n}", "pay_token": f"{n:026}"} for n in each],
        schema.invoice_options: [
            {"invoice_id": f"inv_{n:026}", "index": 0, "pay_to": _address(n), "chain_id": CHAIN, "token": TOKEN}
            for n in each
        ],
    }
    async with db.write() as conn:
        for table, rows in parents.items():
            usual = samples.row(table)
            await insert(conn, table, [usual | row for row in rows])
    return db


# -- telling -----------------------------------------------------------------------------------------------------------


async def test_ratio__delivering_webhooks__to_bare_posts() -> None:
    guard = Guard(what="delivering 400 webhooks", against="as many posts of the same bytes", written=1.9, at_most=4.5)

    async def measured() -> float:
        (row,) = (await deliver(count=400, endpoints=(1,))).rows
        return float(row["ratio"])

    await held(guard, measured)
