"""How fast one provider is asked: calls a second, each request waiting until those before it are paid for.

In any T seconds at most `max_rps` * T calls leave, and one request more: whatever its size, a batch leaves as soon as
the calls before it are paid for, and those after it wait for all of its calls.

#  2 a second:  batch of 4 ├────────── 2 s ──────────┤ 1 ├─ 0.5 s ─┤ 1

A library's leaky bucket (aiolimiter) was not taken: it refuses more than the bucket holds, lets small requests overtake
large ones without end, and cannot say beforehand how long the wait will be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from chains.errors import RateLimited

MAX_PACE_WAIT_S = 30.0
"""A longer queue means that more is asked than the provider's plan allows: it is said instead of queued."""


class Pace:
    """Requests leave in the order in which they asked."""

    def __init__(self, max_rps: float, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        if not max_rps > 0:
            raise ValueError(f"calls a second must be more than 0, got {max_rps}")
        self._seconds_a_call = 1 / max_rps
        self._sleep = sleep
        self._free_at_s = float("-inf")

    async def wait(self, calls: int) -> None:
        """Returns when these calls may leave. Raises `RateLimited` at once if that is beyond `MAX_PACE_WAIT_S`."""
        now_s = asyncio.get_running_loop().time()
        wait_s = max(0.0, self._free_at_s - now_s)
        if wait_s > MAX_PACE_WAIT_S:
            raise RateLimited(f"our own bound of calls a second is used up for {wait_s:.0f} s", retry_after_s=wait_s)
        # Taken before the sleep, so that the next one queues behind; a cancelled sleeper leaves its slot unused.
        self._free_at_s = now_s + wait_s + calls * self._seconds_a_call
        if wait_s > 0:
            await self._sleep(wait_s)
