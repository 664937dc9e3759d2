"""Ticks a stage until asked to stop: sleeps, backs off, counts, and writes one canonical log line a tick.

The only place that catches `Exception` (STYLE 14): whatever a tick raises, nothing of it was written; it is
counted, logged,
and tried again on a timer, so that one chain's trouble never stops another's loop, nor this one for good.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from chains.errors import ChainError
from settler.clock import Clock, first_of
from settler.logs import get_logger
from settler.runtime.tally import counting
from settler.stages.progress import Progress
from settler.storage.chains import ChainState, CursorMoved
from settler.storage.engine import StorageUnavailable
from settler.tracing import SILENT, Tracer, Work

BACK_OFF_FACTOR = 2.0
BACK_OFF_MAX_S = 15.0
"""A node that comes back is noticed within this."""
LEAST_PAUSE_S = 0.2
"""Of a loop that is woken: heads may be pushed a hundred times a second, and each tick costs calls."""
BACK_OFF_JITTER = 0.2
"""Share of the pause that is drawn, so that chains of one provider do not ask it all at once."""

_log = get_logger(__name__)


class Stage(Protocol):
    async def tick(self) -> Progress: ...


class Watcher(Protocol):
    """Told how ticks ended: metrics and health."""

    def before_tick(self, chain: str) -> int:
        """A mark, for `Ticked.mark`."""
        ...

    async def after_tick(self, tick: Ticked) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticked:
    """How a tick ended."""

    stage: str
    chain: str
    """Its name; empty for a stage of the whole process."""
    outcome: str
    error: Exception | None = None
    row: ChainState | None = None
    """The chain's, as the tick saw or wrote it last; `None`: it does not say."""
    mark: int = 0
    """What the watcher gave before the tick: `row` is not older."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """One stage on its timer."""

    stage: Stage
    name: str
    """`watch`, `settle`, …"""
    chain: str
    """Its chain's name; empty for a stage of the whole process."""
    pause_s: Callable[[], Awaitable[float]]
    """How long to sleep when there is nothing more to do now."""
    clock: Clock
    jitter: Callable[[], float]
    """Draws from 0 .. 1."""
    watcher: Watcher
    wake: asyncio.Event | None = None
    """Set by others to end a pause early, though not before `LEAST_PAUSE_S`."""
    on_facts: Callable[[Progress], None] | None = None
    is_done: Callable[[], bool] = bool
    """Asked after each tick; a loop that is done ends. The default never is."""
    back_off_max_s: float = BACK_OFF_MAX_S
    """The longest pause after failures."""
    tracer: Tracer = SILENT
    """Ticks that did something or failed are told to it."""


async def run(loop: Loop, stop: asyncio.Event) -> None:
    """Ticks until `stop` is set or the loop is done; a tick under way is let finish."""
    failures = 0
    while not stop.is_set():
        progress, error = await _tick(loop)
        if loop.is_done():
            return
        if error is None:
            assert progress is not None, "a tick that did not fail has progress"
            if not progress.is_partial:
                failures = 0
            pause = 0.0 if progress.has_more else await _pause(loop)
        else:
            failures += 1
            pause = _back_off_s(await _pause(loop), failures, loop.jitter(), at_most_s=loop.back_off_max_s)
        await _sleep(loop, stop, pause, is_backing_off=error is not None)


async def _pause(loop: Loop) -> float:
    """The stage's pause; a second when even asking fails (the database is away)."""
    try:
        return await loop.pause_s()
    except StorageUnavailable:
        return 1.0


async def _tick(loop: Loop) -> tuple[Progress | None, Exception | None]:
    with loop.tracer.work("stage.tick") as work:
        if work is not None:
            work.is_kept = False  # until something happens in it
        return await _watched_tick(loop, work)


async def _watched_tick(loop: Loop, work: Work | None) -> tuple[Progress | None, Exception | None]:
    started, mark = loop.clock.monotonic(), loop.watcher.before_tick(loop.chain)
    progress: Progress | None = None
    error: Exception | None = None
    with counting() as tally:
        try:
            progress = await loop.stage.tick()
            outcome = "ok"
        except CursorMoved as moved:
            # somebody else moved on: not a failure of anything, the next tick starts from there
            progress, outcome = Progress(has_more=False, facts={"state": str(moved)}), "conflict"
        except ChainError as failed:
            error, outcome = failed, getattr(failed, "label", "transient")
        except StorageUnavailable as failed:
            error, outcome = failed, "storage"
        except Exception as bug:  # noqa: BLE001 - see the module's promise: counted, logged, tried again
            error, outcome = bug, "bug"
    facts = dict(progress.facts) if progress is not None else {}
    elapsed_ms = round((loop.clock.monotonic() - started) * 1000, 1)
    line = {"stage": loop.name, "chain": loop.chain, **facts, "rpc_calls": tally.calls, "elapsed_ms": elapsed_ms}
    if error is None:
        (_log.info if _is_news(facts) else _log.debug)("tick", **line, outcome=outcome)
        if loop.on_facts is not None and progress is not None:
            loop.on_facts(progress)
    elif outcome == "bug":
        _log.error("tick", **line, outcome=outcome, exc_info=error)
    else:
        _log.warning("tick", **line, outcome=outcome, error=str(error))
    if work is not None:
        _show(work, loop, outcome, facts, is_failure=error is not None)
    row = None if progress is None else progress.chain
    await loop.watcher.after_tick(
        Ticked(
            stage=loop.name,
            chain=loop.chain,
            outcome=outcome,
            error=error,
            row=row,
            mark=mark,
        )
    )
    return progress, error


def _show(work: Work, loop: Loop, outcome: str, facts: dict[str, int | str], *, is_failure: bool) -> None:
    """What a trace says of a tick: the same as its log line, and of the same ticks."""
    work.is_kept = work.is_kept or is_failure or _is_news(facts)
    work.attributes.update({"settler.stage": loop.name, "settler.chain": loop.chain, "settler.outcome": outcome})
    work.attributes.update({f"settler.tick.{name}": value for name, value in facts.items()})
    work.error = outcome if is_failure else None


def _is_news(facts: dict[str, int | str]) -> bool:
    """Whether a tick did something a person wants to see without asking for details."""
    return any(isinstance(value, int) and value for name, value in facts.items() if name in _NEWS) or "state" in facts


_NEWS = frozenset(
    {"transfers", "moved", "orphaned", "settled", "reorg_depth", "reversed", "invoices", "claimed", "dead"}
)


def _back_off_s(pause_s: float, failures: int, drawn: float, *, at_most_s: float) -> float:
    grown = min(at_most_s, max(pause_s, 0.1) * BACK_OFF_FACTOR ** min(failures - 1, 16))
    return grown * (1 - BACK_OFF_JITTER * drawn)


async def _woken(loop: Loop, wake: asyncio.Event, *, at_least_s: float) -> None:
    await loop.clock.sleep(at_least_s)
    await wake.wait()


async def _sleep(loop: Loop, stop: asyncio.Event, seconds: float, *, is_backing_off: bool) -> None:
    if seconds <= 0:
        await asyncio.sleep(0)
        return
    waits: list[Coroutine[Any, Any, object]] = [stop.wait(), loop.clock.sleep(seconds)]
    if loop.wake is not None and not is_backing_off:
        waits.append(_woken(loop, loop.wake, at_least_s=min(seconds, LEAST_PAUSE_S)))
    try:
        await first_of(*waits)
    finally:
        if loop.wake is not None:
            loop.wake.clear()
