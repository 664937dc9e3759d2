"""One run of settler over a chain that is served: the real second reading, with its pool, its checks and its database,
from the chain's opening to its final height, and what that cost.

What does not belong here: what it is compared with (`backfill`), and where the chain comes from.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from chains.address import to_checksum
from chains.model import Address
from settler.bench.canned import CHAIN_ID, DECIMALS, GENESIS_S, SYMBOL, UNIT, CannedChain, Served, deposit_address
from settler.bench.databases import opened
from settler.bench.measuring import Meter, forget_peak, peak_rss_mib, rss_mib
from settler.bench.sampling import Sampler
from settler.clock import SystemClock
from settler.config import Settings, load
from settler.domain.ids import make_id
from settler.domain.invoices import InvoiceStatus, Match
from settler.metrics import Metrics
from settler.runtime.providers import make_pool
from settler.runtime.setups import judgement_of, setup_of
from settler.stages.effects import Reporter
from settler.stages.opening import open_chain
from settler.stages.settle import Settle
from settler.storage import chains, invoices, migrate, schema
from settler.storage.engine import Database
from settler.storage.watched import WatchedAddresses

CHAIN = "bench"
CHUNK = 5_000
OPEN_FOR = timedelta(days=36_500)
STEPS = {
    "database": ("/sqlalchemy/", "/aiosqlite/", "/sqlite3/", "/settler/storage/"),
    "checking and matching logs": ("/chains/decode", "/chains/hex", "/chains/evm", "/chains/spans", "/chains/bloom"),
    "decoding": ("/chains/replies", "/msgspec/"),
    "network and HTTP": ("/aiohttp/", "/uvloop/", "/chains/post", "/chains/rpc", "/chains/pace", "/yarl/"),
    "agreement": ("/chains/quorum", "/chains/pool", "/chains/member", "/stages/agreement"),
    "settling": ("/settler/stages/", "/settler/domain/", "/chains/model"),
}
"""By file, the innermost that is known."""
_HEARTBEAT_S = 0.005

OnProgress = Callable[[int, str], None]
"""Told how many events are done, and of what."""


@dataclass(slots=True, kw_only=True)
class Run:
    """What one run of settler came to."""

    cpu_s: float = 0.0
    wall_s: float = 0.0
    peak_mib: float = 0.0
    settled: int = 0
    calls: Counter[str] = field(default_factory=Counter)
    memory: list[tuple[int, float]] = field(default_factory=list)
    """(blocks, MiB) after each tick."""
    held_ms: float = 0.0
    """Processor time between two turns of the event loop, at most; where the run was profiled."""
    shares: dict[str, float] = field(default_factory=dict)


async def catch_up(
    served: Served, chain: CannedChain, folder: Path, on_progress: OnProgress, *, quorum: int = 1, is_profiled: bool
) -> Run:
    """From nothing: a new database in `folder`, with the invoices of the chain. `quorum`: so many providers, who all
    have to agree, on the one server.
    """
    settings = load(_config(folder, served, quorum), {})
    async with opened(settings.database_url) as db:
        await migrate.upgrade_open(db)
        return await _settled(settings, db, served, chain, on_progress, is_profiled=is_profiled)


async def _settled(
    settings: Settings,
    db: Database,
    served: Served,
    chain: CannedChain,
    on_progress: OnProgress,
    *,
    is_profiled: bool,
) -> Run:
    run = Run()
    clock = SystemClock()
    configured = settings.chains[CHAIN]
    setup = setup_of(configured)
    pool = make_pool(configured, monotonic=clock.monotonic, calls=lambda _: _Counting(run.calls))
    try:
        async with db.write() as conn:
            await chains.register(conn, chain_id=setup.chain_id, name=setup.name, tokens=setup.tokens, now=clock.now())
            await _add_invoices(conn, chain.invoices, served.token)
        await open_chain(setup, pool=pool, db=db, clock=clock)
        run.calls.clear()
        reporter = Reporter(Metrics(clock, version="bench"), chain=setup.name, tokens=setup.tokens)
        settle = Settle(
            chain=setup,
            pool=pool,
            db=db,
            watched=WatchedAddresses(db, monotonic=clock.monotonic),
            clock=clock,
            judgement=judgement_of(settings),
            reporter=reporter,
        )
        forget_peak()
        if is_profiled:
            await _profiled(settle, run, served, chain, on_progress)
        else:
            with Meter() as spent:
                await _ticked(settle, run, served, chain, on_progress)
            run.cpu_s, run.wall_s = spent.cpu_s, spent.wall_s
        run.peak_mib = peak_rss_mib()
        async with db.read() as conn:
            run.settled = (await invoices.count_by_status(conn))[InvoiceStatus.SETTLED]
    finally:
        await pool.close()
    return run


async def _ticked(settle: Settle, run: Run, served: Served, chain: CannedChain, on_progress: OnProgress) -> None:
    """Until all is settled, as the daemon's loop does while there is more to do."""
    while True:
        progress = await settle.tick()
        assert progress.chain is not None, "a tick of an open chain knows its row"
        blocks = min(chain.blocks, (progress.chain.settled_number or 0) - served.first + 1)
        run.memory.append((blocks, rss_mib()))
        events = chain.events * blocks // chain.blocks
        on_progress(events, f"{blocks} blocks settled, {run.memory[-1][1]:.0f} MiB")
        if progress.chain.settled_number == served.final:
            return
        await asyncio.sleep(0)


async def _profiled(settle: Settle, run: Run, served: Served, chain: CannedChain, on_progress: OnProgress) -> None:
    beating = asyncio.create_task(_heartbeat(run), name="heartbeat")
    try:
        with Sampler(STEPS, idle="network and HTTP", other_thread="database") as seen:
            await _ticked(settle, run, served, chain, on_progress)
    finally:
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)
    run.shares = {step: round(share, 3) for step, share in seen.shares().items()}


async def _heartbeat(run: Run) -> None:
    """The API is served by the same loop: how long would it wait? By processor time, since other work of the machine
    makes any wait longer.
    """
    while True:
        before = time.thread_time()
        await asyncio.sleep(_HEARTBEAT_S)
        run.held_ms = max(run.held_ms, (time.thread_time() - before) * 1000)


class _Counting:
    """Counts calls by method."""

    def __init__(self, calls: Counter[str]) -> None:
        self._calls = calls

    def on_call(self, method: str, outcome: str, seconds: float) -> None:
        self._calls[method if outcome == "ok" else f"{method} {outcome}"] += 1


# -- what is there before ----------------------------------------------------------------------------------------------


def _config(folder: Path, served: Served, quorum: int) -> Path:
    urls = [f"{served.url}/?provider={number}" for number in range(quorum)]
    config = folder / "settler.toml"
    config.write_text(f"""\
[database]
url = "sqlite:///{folder / "settler.db"}"
[chains.{CHAIN}]
chain_id = {CHAIN_ID}
rpc = {json.dumps(urls)}
start_block = {served.first}
finality = "finalized"
quorum = {quorum}
[chains.{CHAIN}.token.{SYMBOL}]
address = "{to_checksum(served.token)}"
decimals = {DECIMALS}
""")
    return config


async def _add_invoices(conn: AsyncConnection, count: int, token: Address) -> None:
    """Open ones of one token at an address each, as they are stored; without the events that told of them."""
    created_at = datetime.fromtimestamp(GENESIS_S, tz=UTC)
    for first in range(0, count, CHUNK):
        numbers = range(first, min(first + CHUNK, count))
        ids = [make_id("inv", created_at, number.to_bytes(10, "big")) for number in numbers]
        addresses = [deposit_address(number) for number in numbers]
        await conn.execute(
            insert(schema.invoices),
            [
                {
                    "id": id_,
                    "merchant": "bench",
                    "reference": f"bench-{number}",
                    "status": InvoiceStatus.PENDING.value,
                    "exceptions": "  ",
                    "currency": "USD",
                    "amount": UNIT,
                    "scale": DECIMALS,
                    "created_at": created_at,
                    "expires_at": created_at + OPEN_FOR,
                    "monitoring_until": created_at + OPEN_FOR,
                    "settled_at": None,
                    "settlement_id": None,
                    "metadata": {},
                    "version": 1,
                    "pay_token": f"pay_{number:032x}",
                }
                for id_, number in zip(ids, numbers, strict=True)
            ],
        )
        await conn.execute(
            insert(schema.invoice_options),
            [
                {
                    "invoice_id": id_,
                    "index": 0,
                    "chain": CHAIN,
                    "chain_id": CHAIN_ID,
                    "token": SYMBOL,
                    "token_address": token,
                    "decimals": DECIMALS,
                    "pay_to": address,
                    "match": Match.ADDRESS.value,
                    "amount_base": UNIT,
                    "tail_base": 0,
                    "from_block": None,
                    "reference": None,
                    "payer": None,
                }
                for id_, address in zip(ids, addresses, strict=True)
            ],
        )
        await conn.execute(
            insert(schema.watched_addresses),
            [{"address": address, "watched_since": created_at, "has_references": False} for address in addresses],
        )
