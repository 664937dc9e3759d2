"""Time of a simulated world: an event loop in which nothing takes time but what says it does.

When every task waits, the loop's time jumps to the next timer; it never sleeps. Should tasks wait for a real socket
(a PostgreSQL server's), the loop waits for that first, and no simulated time goes by. Tasks that are ready always go
before sockets, so that with one statement under way at a time the order of everything is the same in every run.
"""

from __future__ import annotations

import asyncio
import selectors
from datetime import UTC, datetime, timedelta

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
"""When every world begins."""
SOCKET_PATIENCE_S = 60.0
"""Real seconds a socket may stay silent while all wait for it: above any statement's time-out of the database."""

RESOLUTION_S = 1e-6
"""Timers so close to each other go off at once. A float holds it for some two hundred years."""


class Stuck(RuntimeError):
    """Every task waits for another: nothing can ever happen again. A bug of the world or of the daemon."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """`asyncio.Runner(loop_factory=VirtualLoop)`. Single-threaded: what runs in an executor is not waited for."""

    def __init__(self) -> None:
        self._virtual_s = 0.0
        super().__init__(_JumpingSelector(self))
        # asyncio's nanosecond is less than a float holds after half a year: a timer that is due would never go off
        self._clock_resolution = RESOLUTION_S

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
