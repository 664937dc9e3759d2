"""What runs for one chain while this worker leads it: it is opened, then watched and settled, each in a loop of its
own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from chains.heads import HeadWaker
from chains.pool import Pool
from settler.clock import Clock
from settler.domain.errors import Conflict
from settler.health import Health
from settler.metrics import Metrics
from settler.runtime.leading import Leading
from settler.runtime.loop import Loop
from settler.runtime.loop import run as run_loop
from settler.runtime.watching import TickWatcher
from settler.stages.announced import Announced
from settler.stages.early import Early
from settler.stages.effects import Reporter
from settler.stages.opening import Refused, open_chain
from settler.stages.progress import Progress
from settler.stages.settle import Settle
from settler.stages.setup import ChainSetup, Judgement
from settler.stages.watch import Watch
from settler.storage import chains
from settler.storage.engine import Database
from settler.storage.watched import WatchedAddresses
from settler.tracing import SILENT, Tracer

UNAWAITED_AT_LEAST_S = 0.0
UNAWAITED_POLLS = 4
"""Polls between two looks at the final height while no payment waits for it: it costs calls, and only a payment
the first
reading missed would show later by that much.
"""
REFUSED_PAUSE_S = 10.0
"""Between two tries to open a chain that is not as configured: a person has to act first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainParts:
    """All a chain's loops are made of."""

    setup: ChainSetup
    pool: Pool
    head_seen: asyncio.Event
    """Set by pushed heads; ends a pause of the first reading."""
    head_wakers: Sequence[HeadWaker]
    poll_interval_s: float
    announced_every_s: float
    db: Database
    watched: WatchedAddresses
    """Of the whole process."""
    clock: Clock
    judgement: Judgement
    metrics: Metrics
    health: Health
    watcher: TickWatcher
    jitter: Callable[[], float]
    tracer: Tracer = SILENT


class Opening:
    """Tries to open the chain, once a tick, until it is open."""

    def __init__(self, parts: ChainParts) -> None:
        self._parts = parts
        self.is_open = False

    async def tick(self) -> Progress:
        """Raises `Refused` or another `ChainError` while it cannot be opened."""
        p = self._parts
        try:
            async with p.db.write() as conn:
                await chains.register(
                    conn,
                    chain_id=p.setup.chain_id,
                    name=p.setup.name,
                    tokens=p.setup.tokens,
                    now=p.clock.now(),
                )
        except Conflict as contradiction:
            raise Refused(str(contradiction)) from contradiction
        await open_chain(p.setup, pool=p.pool, db=p.db, clock=p.clock)
        self.is_open = True
        return Progress(has_more=False, facts={"state": "open"})


async def run_led(parts: ChainParts, leading: Leading, stop: asyncio.Event) -> None:
    """Runs the chain whenever this worker leads it, until `stop` is set; gives it back then."""
    name = parts.setup.name
    while (led := await leading.next(name, stop)) is not None:
        passing_on = asyncio.create_task(_set_after(stop, led.ended), name=f"stop:{name}")
        try:
            await run_chain(replace(parts, db=led.db), led.ended)
        finally:
            passing_on.cancel()
            await asyncio.gather(passing_on, return_exceptions=True)
        await leading.give_back(name)


async def _set_after(first: asyncio.Event, then: asyncio.Event) -> None:
    await first.wait()
    then.set()


async def run_chain(parts: ChainParts, stop: asyncio.Event) -> None:
    """Opens the chain and runs its two readings until `stop` is set. Raises nothing a node or a database could
    cause.
    """
    opening = Opening(parts)

    async def opening_pause() -> float:
        return min(parts.poll_interval_s, REFUSED_PAUSE_S)

    await run_loop(_loop(parts, opening, "open", opening_pause, is_done=lambda: opening.is_open), stop)
    if stop.is_set():
        return
    reporter = Reporter(parts.metrics, chain=parts.setup.name, tokens=parts.setup.tokens, tracer=parts.tracer)
    watch = Watch(
        chain=parts.setup,
        pool=parts.pool,
        db=parts.db,
        watched=parts.watched,
        clock=parts.clock,
        judgement=parts.judgement,
        reporter=reporter,
    )
    settle = Settle(
        chain=parts.setup,
        pool=parts.pool,
        db=parts.db,
        watched=parts.watched,
        clock=parts.clock,
        judgement=parts.judgement,
        reporter=reporter,
    )
    payment_seen, small_payment_seen = asyncio.Event(), asyncio.Event()

    def on_watched(progress: Progress) -> None:
        if any(progress.facts.get(name) for name in ("transfers", "moved", "orphaned")):
            payment_seen.set()
            small_payment_seen.set()

    async def watch_pause() -> float:
        return parts.poll_interval_s

    async def settle_pause() -> float:
        if await settle.is_awaited():
            return parts.poll_interval_s
        return max(UNAWAITED_AT_LEAST_S, parts.poll_interval_s * UNAWAITED_POLLS)

    early = Early(
        chain=parts.setup,
        pool=parts.pool,
        db=parts.db,
        watched=parts.watched,
        clock=parts.clock,
        judgement=parts.judgement,
        reporter=reporter,
    )
    announced = Announced(chain=parts.setup, pool=parts.pool, db=parts.db, clock=parts.clock)

    async def announced_pause() -> float:
        return parts.announced_every_s

    for stage in ("watch", "settle"):
        parts.health.expect_loop(f"{stage}:{parts.setup.name}")
    wakers = [asyncio.create_task(waker.run(), name=f"heads:{waker.name}") for waker in parts.head_wakers]
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(
                run_loop(_loop(parts, watch, "watch", watch_pause, wake=parts.head_seen, on_facts=on_watched), stop),
                name=f"watch:{parts.setup.name}",
            )
            tasks.create_task(
                run_loop(_loop(parts, settle, "settle", settle_pause, wake=payment_seen), stop),
                name=f"settle:{parts.setup.name}",
            )
            if parts.setup.tiers:
                tasks.create_task(
                    run_loop(_loop(parts, early, "early", watch_pause, wake=small_payment_seen), stop),
                    name=f"early:{parts.setup.name}",
                )
            tasks.create_task(
                run_loop(_loop(parts, announced, "announced", announced_pause), stop),
                name=f"announced:{parts.setup.name}",
            )
    finally:
        for stage in ("watch", "settle"):
            parts.health.forget_loop(f"{stage}:{parts.setup.name}")
        for waker in wakers:
            waker.cancel()
        await asyncio.gather(*wakers, return_exceptions=True)


def _loop(
    parts: ChainParts,
    stage: Opening | Watch | Settle | Early | Announced,
    name: str,
    pause_s: Callable[[], Awaitable[float]],
    *,
    wake: asyncio.Event | None = None,
    on_facts: Callable[[Progress], None] | None = None,
    is_done: Callable[[], bool] = bool,
) -> Loop:
    return Loop(
        stage=stage,
        name=name,
        chain=parts.setup.name,
        pause_s=pause_s,
        clock=parts.clock,
        jitter=parts.jitter,
        watcher=parts.watcher,
        wake=wake,
        on_facts=on_facts,
        is_done=is_done,
        tracer=parts.tracer,
    )
