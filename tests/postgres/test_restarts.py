"""PostgreSQL ends and comes back under load, again and again, in every way a server ends. The one daemon before it is
never restarted: it reconnects by itself, and in the end nothing is lost or doubled.

The server is as it would be run for money (`DURABLE`): fsync, full pages and synchronous commits on. A killed process
would lose nothing that the kernel was given, whatever fsync says; without synchronous commits it would.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from settler.storage import migrate
from tests.ha.shop import SEED, open_shop
from tests.support.daemon import Process, show
from tests.support.postgres import PostgresServer

BACK_WITHIN_S = 15.0
"""After the server answers again, until the daemon reads on. It takes a second on an idle machine."""
ENDS: Final[dict[str, Callable[[PostgresServer], None]]] = {
    "kill -9 of the postmaster": PostgresServer.kill,
    "kill -9 of all its processes": lambda server: server.kill(sessions=True),
    "immediate shutdown": PostgresServer.crash,
    "fast shutdown": PostgresServer.stop,
}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("rounds", [len(ENDS), pytest.param(20, marks=pytest.mark.system)])
async def test_server__ended_again_and_again_under_load__nothing_is_lost(
    rounds: int, durable_server: PostgresServer, tmp_path: Path
) -> None:
    database, chance = durable_server.create_database("shop"), random.Random(SEED)
    await migrate.upgrade(database)
    back: dict[str, list[float]] = {how: [] for how in ENDS}
    async with open_shop(tmp_path) as shop, Process(shop.config("only", database), is_installed=True) as worker:
        await shop.open(worker)
        await shop.goes_on(worker.api, within_s=BACK_WITHIN_S)
        for number in range(rounds):
            how = list(ENDS)[number % len(ENDS)]
            await asyncio.sleep(chance.uniform(0.3, 1.0))
            await asyncio.to_thread(ENDS[how], durable_server)
            await asyncio.sleep(chance.uniform(0.0, 2.0))
            await asyncio.to_thread(durable_server.start)
            back[how].append(await shop.goes_on(worker.api, within_s=BACK_WITHIN_S))
        figures = await shop.reckon([worker], database)
        starts = [line for line in worker.log if line["event"] == "daemon.started"]
        assert len(starts) == 1, "it was one daemon throughout"
        refused = [line for line in worker.log if line["event"] == "tick" and line["outcome"] == "storage"]
        assert refused, "the daemon noticed"
    for how, seconds in back.items():
        show(f"{how:30} {len(seconds):2} times; reads on after {min(seconds):.1f} .. {max(seconds):.1f} s")
    show(figures)
