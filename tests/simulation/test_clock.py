"""Virtual time: nothing takes any but what says so, and what is real is waited for meanwhile."""

from __future__ import annotations

import asyncio
import socket
import threading
from datetime import timedelta

import pytest

from settler.simulation import clock
from settler.simulation.clock import EPOCH, SimClock, Stuck, VirtualLoop
from tests.simulation.virtual import virtual


def now_s() -> float:
    return asyncio.get_running_loop().time()


@virtual
async def test_time__all_wait__jumps_to_the_next_timer() -> None:
    await asyncio.sleep(365 * 86_400)
    assert now_s() == 365 * 86_400


@virtual
async def test_time__somebody_works__stands_still() -> None:
    for _ in range(1_000):
        await asyncio.sleep(0)
    assert now_s() == 0


@virtual
async def test_timers__go_off_in_order__each_at_its_time() -> None:
    seen: list[tuple[str, float]] = []

    async def wake(name: str, after_s: float) -> None:
        await asyncio.sleep(after_s)
        seen.append((name, now_s()))

    await asyncio.gather(wake("late", 3.5), wake("early", 0.25), wake("first of two", 2), wake("second of two", 2))
    assert seen == [("early", 0.25), ("first of two", 2), ("second of two", 2), ("late", 3.5)]


@virtual
async def test_timeout__of_a_wait_without_end__comes_at_its_time() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(3_600):
            await asyncio.Event().wait()
    assert now_s() == 3_600


def test_all_wait__for_one_another__is_stuck_and_not_silent() -> None:
    loop = VirtualLoop()
    waits = loop.create_task(asyncio.Event().wait())
    with pytest.raises(Stuck, match="every task waits for another"):
        loop.run_until_complete(waits)
    waits.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(waits)
    loop.close()


@virtual
async def test_socket__that_answers_late__is_waited_for_before_any_timer() -> None:
    """A server needs real time for a statement; in the world none goes by."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        timer = asyncio.create_task(asyncio.sleep(10))
        server = threading.Timer(0.05, theirs.send, [b"rows"])
        server.start()
        assert await asyncio.get_running_loop().sock_recv(ours, 10) == b"rows"
        assert (now_s(), timer.done()) == (0, False)
        server.join()
        await timer
        assert now_s() == 10


def test_socket__silent_for_too_long__is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "SOCKET_PATIENCE_S", 0.01)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        loop = VirtualLoop()
        reading = loop.create_task(loop.sock_recv(ours, 10))
        with pytest.raises(Stuck, match="silent"):
            loop.run_until_complete(reading)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(reading)
        loop.close()


@virtual
async def test_clock__tells_the_time_of_the_world() -> None:
    told = SimClock(asyncio.get_running_loop())
    assert told.now() == EPOCH
    await told.sleep(90)
    assert (told.now(), told.monotonic()) == (EPOCH + timedelta(seconds=90), 90)


@virtual
async def test_clock__set_wrong__moves_the_wall_clock_alone() -> None:
    told = SimClock(asyncio.get_running_loop())
    told.skew_s = -86_400
    await told.sleep(5)
    assert (told.now(), told.monotonic()) == (EPOCH + timedelta(seconds=5 - 86_400), 5)
