"""I5: a run killed at any point and restarted ends in the same state as one that was not.

The daemon is a process of its own and is ended by SIGKILL: before, within, at, during and after each of its writes (see
`tests.e2e.felled`), and at moments drawn by chance. Money keeps coming, blocks keep coming and forking, customers walk
away. Then an undisturbed daemon reads the same chain into a new database that knows the same invoices, and both must
hold the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from settler.anvil import Anvil, find_anvil
from tests.e2e.aftermath import Calm, compare, let_leases_run_out, settled, told_once
from tests.e2e.felled import MOMENTS, Felling
from tests.e2e.traffic import Pace, Traffic, flowing
from tests.support import evm
from tests.support.daemon import (
    ChainTable,
    Process,
    TokenTable,
    cli_json,
    show,
    write_config,
)
from tests.webhook.receiver import receiving, verify

FINALITY = 4
OPENING = {"stages/opening.py:open_chain": "blocks"}
"""Where the daemon writes, and a table it writes there. This is committed once and never written again."""
SMALL = {
    "runtime/chain_tasks.py:tick": "tokens",
    "stages/tidy.py:tick": "idempotency_keys",
    "stages/watch.py:_look": "chains",
    "stages/settle.py:_found": "chains",
    "stages/announced.py:read_to": "chains",
}
"""A statement or two that no other follows: killed within is killed at its end."""
LARGE = {
    "api/creating.py:_committed": "invoices",
    "stages/watch.py:_commit": "transfers",
    "stages/settle.py:_commit": "settlements",
    "stages/expire.py:tick": "invoices",
    "stages/dispatch.py:_hand_out": "webhook_deliveries",
    "stages/dispatch.py:_record_finished": "webhook_attempts",
}
RARE = {"stages/opening.py:open_chain", "runtime/chain_tasks.py:tick", "stages/tidy.py:tick", "stages/expire.py:tick"}
"""Once a start, or every other second."""
PATIENCE_S = 20.0
"""How long the moment of a write is waited for. A twentieth of it is ample on an idle machine."""
BY_CHANCE = 3
"""Kills at no particular moment."""
LONG_OUTAGE_BLOCKS = 300
"""Mined while it is down, once: more than it would follow block by block."""
PACE = Pace(pause_s=0.5, walk_away=0.3)
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
        async with flowing(node, tables[0].address, tables[1].address, seed=SEED, pace=PACE) as traffic:
            felled, killed = Process(config, main="tests.e2e.felled"), Process(config, is_installed=True)
            try:
                started = time.monotonic()
                kills = await fell_around_every_write(felled, traffic)
                await kill_by_chance(felled, traffic)
                await let_leases_run_out(databases.killed)
                await killed.start()
                await traffic.close_doors(await killed.listening())
                took_s = time.monotonic() - started
                traffic.stop_mining()
                await node.rpc("evm_setTime", int(time.time()) + 60)  # those who left last have run out of it
                head = await traffic.mine(FINALITY)
                await settled(killed.api, traffic, head - FINALITY)
                told = await told_once(killed.api, merchant)
                assert await killed.signal(signal.SIGTERM) == 0
            finally:
                await killed.kill()
                await felled.kill()
            calm = Calm(config=configured(tmp_path / "calm", chain, databases.calm), database=databases.calm)
            disturbed = await compare(databases.killed, calm, traffic, head - FINALITY)
        verify(merchant.got[-1], hooks["secret"])
        assert "Traceback" not in "".join([*felled.errors, *killed.errors])

    show(
        f"{databases.kind}: {kills.total()} kills around writes ({dict(kills)}) and {BY_CHANCE} by chance "
        f"in {took_s:.0f} s, {len(traffic.left)} invoices left, "
        f"{len(traffic.paid)} invoices ({dict(traffic.ways)}), {len(disturbed.outcome['transfers'])} transfers, "
        f"{head} blocks, {traffic.forks} forks, {traffic.refused} requests cut off, {traffic.hits} answered again, "
        f"{told} events, {len(merchant.got)} webhooks"
    )


def configured(folder: Path, chain: ChainTable, database: str) -> Path:
    folder.mkdir()
    return write_config(folder, chain, database=database, extra="[webhooks]\nallow_private_addresses = true")


def planned(chance: random.Random) -> list[Felling]:
    """All kills around writes, those of the opening first."""

    def each(writes: Mapping[str, str], *moments: str) -> list[Felling]:
        return [
            Felling(
                site=site,
                table=table,
                moment=moment,
                count=1 if site in RARE else chance.randint(1, 2),
                delay=chance.random(),
            )
            for site, table in writes.items()
            for moment in moments
        ]

    later = [*each(SMALL, "at", "after"), *each(LARGE, *MOMENTS)]
    chance.shuffle(later)
    return [*each(OPENING, "before", "within", "at", "after"), *later]


async def fell_around_every_write(process: Process, traffic: Traffic) -> Counter[str]:
    """Kills at each moment of each kind of write; how many each kind. Fails if one does not come."""
    fellings = planned(random.Random(SEED))
    for number, felling in enumerate(fellings):
        heard = len(process.errors)
        await process.start(**felling.environ())
        try:
            with contextlib.suppress(RuntimeError):  # felled before it listened
                traffic.api = await process.listening()
            code = await process.ended(within_s=PATIENCE_S)
        except TimeoutError:
            raise AssertionError(f"{felling} did not come") from None
        finally:
            traffic.api = None
            await process.kill()
        last_words = [line for line in process.errors[heard:] if '"felled"' in line]  # others may come while it commits
        assert (code, len(last_words)) == (-signal.SIGKILL, 1), process.errors[heard:]
        if number == len(fellings) // 2:
            await traffic.mine(LONG_OUTAGE_BLOCKS)
    return Counter(felling.site for felling in fellings)


async def kill_by_chance(process: Process, traffic: Traffic) -> None:
    """Kills that nothing in the process knows of."""
    chance, never = random.Random(SEED), Felling(site="", table="", moment="at")
    for number in range(BY_CHANCE):
        await process.start(**never.environ())
        if number % 2:
            traffic.api = await process.listening()
        await asyncio.sleep(chance.uniform(0.05, 0.5))
        await process.kill()
        traffic.api = None
