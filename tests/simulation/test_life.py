"""The life of a simulated process: dead is dead, and who is frozen does nothing."""

from __future__ import annotations

import asyncio

import pytest

from settler.simulation.life import Dead, Life
from tests.simulation.virtual import virtual


@virtual
async def test_alive__passes_every_gate() -> None:
    life = Life("one")
    life.check()
    await life.gate()
    assert not life.is_dead


@virtual
async def test_killed__does_nothing_more() -> None:
    life = Life("one")
    life.kill()
    assert (life.is_dead, life.died_early) == (True, True)
    with pytest.raises(Dead):
        life.check()
    with pytest.raises(Dead):
        await life.gate()


def test_dead__is_not_caught_as_an_error() -> None:
    """The daemon's loops catch `Exception`: a dead process must not count and go on."""
    assert not issubclass(Dead, Exception)


def test_ended__by_itself__did_not_die_early() -> None:
    life = Life("one")
    life.end()
    life.kill()
    assert (life.is_dead, life.died_early) == (True, False)


def test_on_kill__is_called_once_each_in_order() -> None:
    life, seen = Life("one"), list[str]()
    life.on_kill(lambda: seen.append("lock"))
    life.on_kill(lambda: seen.append("sockets"))
    life.kill()
    life.kill()
    life.end()
    assert seen == ["lock", "sockets"]


def test_on_kill__sees_a_process_that_is_dead_already() -> None:
    """What a callback starts must not count as the process's."""
    life, seen = Life("one"), list[bool]()
    life.on_kill(lambda: seen.append(life.is_dead))
    life.kill()
    assert seen == [True]


@virtual
async def test_frozen__waits_at_the_gate_until_thawed() -> None:
    life = Life("one")
    life.freeze()
    passing = asyncio.create_task(life.gate())
    await asyncio.sleep(3_600)
    assert (life.is_frozen, passing.done()) == (True, False)
    life.thaw()
    await passing
    assert not life.is_frozen


@virtual
async def test_frozen__then_killed__learns_of_it_at_the_gate() -> None:
    life = Life("one")
    life.freeze()
    passing = asyncio.create_task(life.gate())
    await asyncio.sleep(1)
    life.kill()
    with pytest.raises(Dead):
        await passing


@virtual
async def test_dead__cannot_be_frozen() -> None:
    """Else what waits for its end would wait for ever."""
    life = Life("one")
    life.kill()
    life.freeze()
    assert not life.is_frozen
    with pytest.raises(Dead):
        await life.gate()
