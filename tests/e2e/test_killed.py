"""I5: a run killed at any point and restarted ends in the same state as one that was not.

The daemon is a process of its own and is ended by SIGKILL, at moments drawn by chance: while it starts, and while it
watches, settles, answers and delivers. Money keeps coming, blocks keep coming and forking. Then an undisturbed daemon
reads the same chain into a new database that knows the same invoices, and both must hold the same.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa

from settler.anvil import Anvil, find_anvil
from settler.stages.dispatch import LEASE_S
from settler.storage import schema
from settler.storage.engine import Database
from tests.e2e.traffic import Traffic, flowing
from tests.support import evm
from tests.support.daemon import (
    WITHIN_S,
    Api,
    ChainTable,
    Process,
    TokenTable,
    cli,
    cli_json,
    show,
    until,
    write_config,
)
from tests.support.dump import audit, dump
from tests.webhook.receiver import Receiver, receiving, verify

FINALITY = 4
ROUNDS = {"sqlite": 8, "postgres": 5}
STARTING = 0.4
"""Share of the kills that come while it starts."""
LONG_OUTAGE_BLOCKS = 300
"""Mined while it is down, once: more than it would follow block by block."""
SEED = 20_240


@dataclass(frozen=True, kw_only=True)
class Databases:
    kind: str
    killed: str
    """URL of the database of the daemon that is killed."""
    calm: str
    """URL of the undisturbed one's, without tables."""


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def databases(request: pytest.FixtureRequest, tmp_path: Path) -> Databases:
    if request.param == "sqlite":
        killed, calm = f"sqlite:///{tmp_path / 'killed.db'}", f"sqlite:///{tmp_path / 'calm.db'}"
    else:
        killed, calm = (request.getfixturevalue(f"{which}postgres_db_url") for which in ("", "empty_"))
    return Databases(kind=request.param, killed=killed, calm=calm)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_killed_again_and_again__ends_as_if_it_had_not_been(databases: Databases, tmp_path: Path) -> None:
    async with Anvil(find_anvil(), no_mining=True, prune_history=1024) as node, receiving() as merchant:
        tables = [TokenTable(address=await evm.deploy_token(node, s), symbol=s) for s in ("USDC", "USDT")]
        chain = ChainTable(rpc=node.url, tokens=tables, finality=FINALITY, poll_interval_s=0.1)
        config = configured(tmp_path / "killed", chain, databases.killed)
        hooks = await cli_json("webhook", "endpoint", "add", f"{merchant.base}/hooks", config=config)
        async with flowing(node, tables[0].address, tables[1].address, seed=SEED) as traffic:
            killed, moments = Process(config), Counter[str]()
            try:
                started = time.monotonic()
                await kill_again_and_again(killed, traffic, ROUNDS[databases.kind], moments)
                await killed.start()
                await traffic.close_doors(await killed.listening())
                took_s = time.monotonic() - started
                traffic.stop_mining()
                head = await traffic.mine(FINALITY)
                await settled(killed.api, traffic, head)
                await undisturbed(configured(tmp_path / "calm", chain, databases.calm), databases, traffic, head)
                told = {e["id"] for e in await killed.api.events()}
                await until(
                    lambda: delivered(merchant),
                    lambda ids: ids >= told,
                    what="every event to be delivered",
                    within_s=LEASE_S + WITHIN_S,
                )
                assert await delivered(merchant) == told, "and nothing else"
                assert await killed.signal(signal.SIGTERM) == 0
            finally:
                await killed.kill()
        verify(merchant.got[-1], hooks["secret"])
        assert "Traceback" not in "".join(killed.errors)

    disturbed, expected = await dump(databases.killed), await dump(databases.calm)
    disturbed.assert_same_outcome(expected)
    await audit(databases.killed)
    await audit(databases.calm)
    show(
        f"{databases.kind}: {ROUNDS[databases.kind]} kills ({dict(moments)}) in {took_s:.0f} s, "
        f"{len(traffic.paid)} invoices ({dict(traffic.ways)}), {len(disturbed.outcome['transfers'])} transfers, "
        f"{head} blocks, {traffic.forks} forks, {traffic.refused} requests cut off, {traffic.hits} answered again, "
        f"{len(told)} events, {len(merchant.got)} webhooks"
    )


def configured(folder: Path, chain: ChainTable, database: str) -> Path:
    folder.mkdir()
    return write_config(folder, chain, database=database, extra="[webhooks]\nallow_private_addresses = true")


async def kill_again_and_again(process: Process, traffic: Traffic, rounds: int, moments: Counter[str]) -> None:
    chance = random.Random(SEED)
    for number in range(rounds):
        await process.start()
        if chance.random() < STARTING:
            await asyncio.sleep(chance.uniform(0.05, 2.5))
            moments["starting"] += 1
        else:
            traffic.api = await process.listening()
            await traffic.api.is_ready()
            await asyncio.sleep(chance.uniform(0.05, 1.0))
            moments["under load"] += 1
        await process.kill()
        traffic.api = None
        if number == rounds // 2:
            await traffic.mine(LONG_OUTAGE_BLOCKS)


async def settled(api: Api, traffic: Traffic, head: int) -> None:
    """Returns once all is decided; every invoice that was paid is there, once, and no other."""
    await api.decided(head - FINALITY)
    found = await until(
        lambda: api.every("/v1/invoices", status="settled"),
        lambda invoices: len(invoices) >= len(traffic.paid),
        what="every invoice to be settled",
    )
    assert sorted(i["id"] for i in found) == sorted(i["id"] for i in traffic.paid)


async def undisturbed(config: Path, databases: Databases, traffic: Traffic, head: int) -> None:
    """Reads the whole chain with the same invoices, left alone."""
    assert (await asyncio.to_thread(cli, "migrate", config=config)).returncode == 0
    await copy_invoices(databases.killed, databases.calm)
    async with Process(config) as process:
        await settled(process.api, traffic, head)
        assert await process.signal(signal.SIGTERM) == 0


async def delivered(merchant: Receiver) -> set[str]:
    return {got.headers["webhook-id"] for got in merchant.got}


async def copy_invoices(source: str, target: str) -> None:
    """The invoices as they were when they were made; nothing of what became of them."""
    new = {"status": "pending", "exceptions": " ", "settled_at": None, "settlement_id": None, "version": 1}
    one, other = await Database.open(source, pool_size=1), await Database.open(target, pool_size=1)
    try:
        async with one.read() as reading, other.write() as writing:
            for table, change in (
                (schema.invoices, new),
                (schema.invoice_options, {}),
                (schema.watched_addresses, {}),
                (schema.amount_reservations, {}),
                (schema.events, {}),
            ):
                query = sa.select(table)
                if table is schema.events:
                    query = query.where(table.c.type == "invoice.created").order_by(table.c.seq)
                rows = [{**row._mapping, **change} for row in await reading.execute(query)]
                if table is schema.events:
                    rows = [{k: v for k, v in row.items() if k != "seq"} for row in rows]
                if rows:
                    await writing.execute(sa.insert(table), rows)
    finally:
        await one.dispose()
        await other.dispose()
