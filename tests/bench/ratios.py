"""Processor time against a floor of the same moment: what a regression guard can rest on, on any machine.

Each piece of work is timed in turn with its floor, several times, and the least of each counts: what disturbs one of
them disturbs the other, and the least is what it costs undisturbed. Seconds are compared with nothing.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

ROUNDS = 5
LOOKS = 3
"""Measurements until a ratio counts as too high: a machine may be busy throughout one of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """A ratio that is watched."""

    what: str
    against: str
    written: float
    """Of today's machine, when this was written or last changed on purpose."""
    at_most: float
    """Fails above it: far enough from `written` for another machine and another Python."""


async def held(guard: Guard, measured: Callable[[], Awaitable[float]]) -> float:
    """The ratio. Fails if it is beyond the guard's bound each time that it is looked at."""
    assert guard.written < guard.at_most <= 3 * guard.written, "it has to notice what is three times slower"
    ratios: list[float] = []
    for _ in range(LOOKS):
        ratios.append(await measured())
        if ratios[-1] <= guard.at_most:
            return ratios[-1]
    seen = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    raise AssertionError(
        f"{guard.what} cost {seen} times the processor time of {guard.against}, in the same run; it was "
        f"{guard.written:g} when this was written, and up to {guard.at_most:g} is let pass. `settler bench` shows more"
    )


async def ratio(
    work: Callable[[], Awaitable[object]], floor: Callable[[], Awaitable[object]], *, rounds: int = ROUNDS
) -> float:
    """Of the least processor times of both."""
    works: list[float] = []
    floors: list[float] = []
    for _ in range(rounds):
        floors.append(await cpu_s(floor))
        works.append(await cpu_s(work))
    return min(works) / min(floors)


async def cpu_s(work: Callable[[], Awaitable[object]]) -> float:
    """Of this process, all its threads."""
    gc.collect()
    started = time.process_time()
    await work()
    return time.process_time() - started
