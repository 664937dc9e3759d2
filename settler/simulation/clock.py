"""Time of a simulated world: an event loop in which nothing takes time but what says it does.

When every task waits, the loop's time jumps to the next timer; it never sleeps. Should tasks wait for a real socket
(a PostgreSQL server's), the loop waits for that first, and no simulated time goes by. Tasks that are ready always go
before sockets, so that with one statement under way at a time the order of everything is the same in every run.
"""

from __future__ import annotations

import asyncio
import heapq
import selectors
from collections.abc import Callable
from contextvars import Context
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVarTuple, Unpack, cast

_Ts = TypeVarTuple("_Ts")

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
"""When every world begins."""
SOCKET_PATIENCE_S = 60.0
"""Real seconds a socket may stay silent while all wait for it: above any statement's time-out of the database."""

RESOLUTION_S = 1e-6
"""Timers so close to each other go off at once. A float holds it for some two hundred years."""


class Stuck(RuntimeError):
    """Every task waits for another: nothing can ever happen again. A bug of the world or of the daemon."""


class _Numbered:
    """A hash that is the same in each run: asyncio keeps tasks and futures in sets, and goes through these."""

    _next = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        _Numbered._next += 1
        self._number = _Numbered._next
        super().__init__(*args, **kwargs)

    def __hash__(self) -> int:
        return self._number


class _Task(_Numbered, asyncio.Task[Any]):
    pass


class _Future(_Numbered, asyncio.Future[Any]):
    pass


class _Timer(asyncio.TimerHandle):
    """Of timers due at the same moment the one set first comes first; a heap by itself promises no order."""

    __slots__ = ("_order",)

    def __init__(self, number: int, when: float, *args: Any) -> None:
        self._order = (when, number)
        super().__init__(when, *args)

    def __lt__(self, other: object) -> bool:
        assert isinstance(other, _Timer)
        return self._order < other._order


class VirtualLoop(asyncio.SelectorEventLoop):
    """`asyncio.Runner(loop_factory=VirtualLoop)`. Single-threaded: what runs in an executor is not waited for."""

    def __init__(self) -> None:
        self._virtual_s = 0.0
        self._timers = 0
        _Numbered._next = 0
        super().__init__(_JumpingSelector(self))
        self.set_task_factory(lambda loop, coro, **how: _Task(coro, loop=loop, **how))
        # asyncio's nanosecond is less than a float holds after half a year: a timer that is due would never go off
        self._clock_resolution = RESOLUTION_S

    def create_future(self) -> asyncio.Future[Any]:
        return _Future(loop=self)

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[_Ts]], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """As asyncio's own, with timers of ours."""
        self._timers += 1
        timer: Any = _Timer(self._timers, when, callback, args, self, context)
        own: Any = self
        heapq.heappush(own._scheduled, timer)
        timer._scheduled = True
        return cast(asyncio.TimerHandle, timer)

    def time(self) -> float:
        return self._virtual_s

    def jump(self, seconds: float) -> None:
        self._virtual_s += seconds


class _JumpingSelector(selectors.SelectSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._of_loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout <= 0:
            return []  # somebody is ready
        if len(self.get_map()) > 1:  # one is the loop's own
            events = super().select(SOCKET_PATIENCE_S)
            if not events:
                raise Stuck(f"a socket was silent for {SOCKET_PATIENCE_S:g} real seconds")
            return events
        if timeout is None:
            raise Stuck("every task waits for another")
        self._of_loop.jump(timeout)
        return []


class SimClock:
    """A process's `settler.clock.Clock`: the wall clock may be set wrong, the monotonic one never jumps."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.skew_s = 0.0
        """How far ahead of the truth the wall clock stands."""

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=self._loop.time() + self.skew_s)

    def monotonic(self) -> float:
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
