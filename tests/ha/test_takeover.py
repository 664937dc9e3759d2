"""RULES.md 7: the leader is killed (SIGKILL) or stands still (SIGSTOP) and wakes up again, in turn, under load. Another
worker leads within 15 s, a leader that wakes up commits nothing, and in the end nothing was lost or doubled.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal

import pytest

from tests.ha.crew import Crew, Takeover, now, table
from tests.ha.shop import SEED
from tests.support.daemon import show, until

WITHIN_S = 15.0
"""What is promised: so soon another worker leads."""
READS_WITHIN_S = 30.0
"""After that it has to read what was mined meanwhile: how long that takes is the machine's affair."""
FREEZES = 200
"""Tries to stop a process while it is inside a transaction."""
NAMES = {"a", "b"}


@pytest.mark.postgres
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("rounds", [2, pytest.param(50, marks=pytest.mark.system)])
async def test_leader__killed_and_frozen_in_turn__is_replaced_and_nothing_is_lost(crew: Crew, rounds: int) -> None:
    chance, takeovers = random.Random(SEED), []
    await crew.shop.open(*await crew.start("a", "b"))
    first = await crew.led_by(*NAMES)
    await crew.shop.goes_on(crew.workers[first].api, within_s=READS_WITHIN_S)
    for number in range(rounds):
        await asyncio.sleep(chance.uniform(0.2, 1.0))
        takeovers.append(await (freeze if number % 2 else kill)(crew, within=number % 4 in (1, 2)))
    assert crew.lease()[1] == 1 + rounds, "nobody took a lease but in these rounds"
    figures = await crew.shop.reckon(list(crew.workers.values()), crew.database)
    usurped = crew.usurped()
    assert not usurped, f"{len(usurped)} writes by another than the leader: {usurped[:5]}"
    show(f"{table(takeovers)}\nleaders' writes {crew.witnessed()}, none by another than the leader\n{figures}")


async def kill(crew: Crew, *, within: bool) -> Takeover:
    """The leader ends by SIGKILL. It is started again, as standby."""
    leader, fencing = crew.lease()
    assert leader is not None
    (other,) = NAMES - {leader}
    process, standby = crew.workers[leader], crew.workers[other]
    crew.shop.doors.open.remove(process)
    was_in_write = within and await stopped_within(crew, leader)
    started = now()
    await process.kill()
    takeover = await watched(crew, other, fencing, started, how="SIGKILL", was_in_write=was_in_write)
    (process,) = await crew.start(leader)
    crew.shop.doors.open = [process, standby]
    return takeover


async def freeze(crew: Crew, *, within: bool) -> Takeover:
    """The leader stands still, until after another leads; then it wakes up, and is refused.

    It stays where customers ask: a load balancer needs a while to find out.
    """
    leader, fencing = crew.lease()
    assert leader is not None
    (other,) = NAMES - {leader}
    process, heard = crew.workers[leader], len(crew.workers[leader].errors)
    was_in_write = within and await stopped_within(crew, leader)
    os.kill(process.pid, signal.SIGSTOP)
    started = now()
    try:
        takeover = await watched(crew, other, fencing, started, how="SIGSTOP", was_in_write=was_in_write)
    finally:
        os.kill(process.pid, signal.SIGCONT)

    async def lost() -> list[int]:
        return [line["fencing"] for line in process.log[heard:] if line["event"] == "lease.lost"]

    assert await until(lost, bool, what=f"{leader} to notice that it leads no more") == [fencing]
    await until(process.api.metrics, lambda m: m.one("settler_leader", chain="anvil") == 0, what=f"{leader} to say so")
    await crew.shop.goes_on(process.api, within_s=READS_WITHIN_S)  # it serves what the new leader reads
    assert crew.lease() == (other, fencing + 1)
    return takeover


async def watched(crew: Crew, other: str, fencing: int, started: float, *, how: str, was_in_write: bool) -> Takeover:
    """Waits for the other worker; fails if it comes later than promised."""
    assert await crew.led_by(other) == other
    taken_s = crew.taken_at(fencing + 1) - started
    assert taken_s <= WITHIN_S, f"{how}: the lease was taken after {taken_s:.1f} s"
    await crew.shop.goes_on(crew.workers[other].api, within_s=READS_WITHIN_S)
    return Takeover(how=how, taken_s=taken_s, reads_s=now() - started, was_in_write=was_in_write)


async def stopped_within(crew: Crew, name: str) -> bool:
    """Stops the worker when it is inside a transaction that has written: whether that came about."""
    pid = crew.workers[name].pid
    for _ in range(FREEZES):
        os.kill(pid, signal.SIGSTOP)
        if crew.is_in_write(name):
            return True
        os.kill(pid, signal.SIGCONT)
        await asyncio.sleep(0.01)
    return False
