"""I5: a run killed at any point and restarted ends in the same state as one that was not.

The daemon is a process of its own and is ended by SIGKILL, at moments drawn by chance: while it starts, and while it
watches, settles, answers and delivers. Money keeps coming, blocks keep coming and forking. Then an undisturbed daemon
reads the same chain into a new database that knows the same invoices, and both must hold the same.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
import sqlalchemy as sa

from settler.anvil import Anvil, find_anvil
from settler.storage import schema
from settler.storage.engine import Database
from tests.e2e.traffic import flowing
from tests.support import evm
from tests.support.daemon import ChainTable, Process, TokenTable, cli, cli_json, show, until, write_config
from tests.support.dump import audit, dump
from tests.webhook.receiver import receiving

FINALITY = 4
ROUNDS = {"sqlite": 20, "postgres": 8}
STARTING = 0.25
"""Share of the kills that come while it starts."""
LONG_OUTAGE_BLOCKS = 300
"""Mined while it is down, once: more than it would follow block by block."""
SEED = 20_240


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def test_killed_again_and_again__ends_as_if_it_had_not_been(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    killed_url: str = request.getfixturevalue(f"{kind}_db_url")
    chance = random.Random(SEED)
    moments: Counter[str] = Counter()
    async with Anvil(find_anvil(), no_mining=True, prune_history=1024) as node, receiving() as merchant:
        tables = [TokenTable(address=await evm.deploy_token(node, s), symbol=s) for s in ("USDC", "USDT")]
        chain = ChainTable(rpc=node.url, tokens=tables, finality=FINALITY, poll_interval_s=0.1)
        config = write_config(
            tmp_path, chain, database=killed_url, extra="[webhooks]\nallow_private_addresses = true"
        )  # fmt: skip
        assert cli("webhook", "endpoint", "add", f"{merchant.base}/hooks", config=config).returncode == 0
        process = Process(config)
        started = time.monotonic()
        async with flowing(node, tables[0].address, tables[1].address, seed=SEED) as traffic:
            for number in range(ROUNDS[kind]):
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
                if number == ROUNDS[kind] // 2:
                    await traffic.mine(LONG_OUTAGE_BLOCKS)
            await process.start()
            api = await process.listening()
            await traffic.close_doors(api)
        took_s = time.monotonic() - started
        head = await traffic.mine(FINALITY)
        await api.decided(head - FINALITY)
        settled = await until(
            lambda: api.every("/v1/invoices", status="settled"),
            lambda found: len(found) == len(traffic.paid),
            what="every invoice to be settled",
        )
        assert {i["id"] for i in settled} == {i["id"] for i in traffic.paid}, "none is lost, none is made twice"
        told = {e["id"] for e in await api.events()}
        await until(
            lambda: api.get("/v1/webhook-deliveries", status="pending"),
            lambda page: page["data"] == [],
            what="delivery",
        )
        assert {json.loads(got.body)["id"] for got in merchant.got} == told, "each event was delivered, and no other"
        assert await process.signal(signal.SIGTERM) == 0
        await process.kill()
        assert "Traceback" not in "".join(process.errors)

        undisturbed = tmp_path / "undisturbed"
        undisturbed.mkdir()
        calm_url = request.getfixturevalue(f"{'empty_' if kind == 'postgres' else ''}{kind}_db_url")
        if kind == "sqlite":
            calm_url = f"sqlite:///{undisturbed / 'settler.db'}"
        calm = write_config(undisturbed, chain, database=calm_url)
        assert cli("migrate", config=calm).returncode == 0
        await copy_invoices(killed_url, calm_url)
        async with Process(calm) as calm_process:
            await calm_process.api.decided(head - FINALITY)
            await until(
                lambda: calm_process.api.every("/v1/invoices", status="settled"),
                lambda found: len(found) == len(traffic.paid),
                what="the undisturbed run to settle",
            )
            assert await calm_process.signal(signal.SIGTERM) == 0

    disturbed, expected = await dump(killed_url), await dump(calm_url)
    disturbed.assert_same_outcome(expected)
    assert max(disturbed.passing.values()) <= 1 + 2 * traffic.forks
    await audit(killed_url)
    await audit(calm_url)
    show(
        f"{kind}: {ROUNDS[kind]} kills ({dict(moments)}) in {took_s:.0f} s, {len(traffic.paid)} invoices "
        f"({dict(traffic.ways)}), {len(disturbed.outcome['transfers'])} transfers, {head} blocks, {traffic.forks} forks, "
        f"{traffic.refused} requests cut off, {traffic.hits} answered again, {len(told)} events, "
        f"{len(merchant.got)} webhooks"
    )


async def copy_invoices(source: str, target: str) -> None:
    """The invoices as they were when they were made; nothing of what became of them."""
    new = {"status": "pending", "exceptions": "", "settled_at": None, "settlement_id": None, "version": 1}
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
