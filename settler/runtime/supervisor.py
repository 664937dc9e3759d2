"""Builds the daemon from its settings, runs it, and stops it: one TaskGroup, named tasks, a bounded drain.

    start   database, schema, API (so that /readyz can say why not), then a task a chain, expiry, webhooks, gauges
    stop    SIGTERM or SIGINT: no new ticks; those under way, requests and webhook sends end within
    `drain_timeout_s`; the rest is
            cancelled (nothing of it was written); exit 0

One chain's trouble never stops another: a loop raises nothing that a node or the database could cause.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, assert_never

from aiohttp import web

from settler import __version__
from settler.api.app import make_app
from settler.api.server import serve
from settler.api.stream import StreamBounds
from settler.clock import Clock
from settler.config import Settings
from settler.health import MAX_TICK_SILENCE_S, Health
from settler.logs import get_logger
from settler.metrics import ChainCalls, Metrics
from settler.runtime.chain_tasks import ChainParts, run_led
from settler.runtime.leading import Leading
from settler.runtime.loop import BACK_OFF_MAX_S, Loop, Stage
from settler.runtime.loop import run as run_loop
from settler.runtime.outside import ClosableSender, Outside
from settler.runtime.providers import ProviderWatcher, head_wakers, make_pool, provider_view
from settler.runtime.setups import judgement_of, setup_of, usual_finality_s
from settler.runtime.tally import TallyingObserver
from settler.runtime.telemetry import bounds_of, limits_of, tracing
from settler.runtime.watching import Gauges, TickWatcher
from settler.stages.dispatch import Dispatch
from settler.stages.effects import Reporter
from settler.stages.expire import Expire
from settler.stages.mute import Mute
from settler.stages.noting import Noting
from settler.stages.operating import Operating
from settler.stages.payment_traces import PaymentTraces
from settler.stages.placing import Placing
from settler.stages.tidy import Tidy
from settler.storage import migrate
from settler.storage.api_keys import KeyUses
from settler.storage.engine import Database, StorageUnavailable
from settler.storage.errors import StorageError
from settler.tracing import Tracer

LOOPS_SHARE = 0.8
"""Of the drain, at most, for ticks under way."""
SENDS_SHARE = 0.95
"""Of the drain, at most, until webhook sends are cut off; they are sent again by the next process."""

_log = get_logger(__name__)


class SchemaMismatch(StorageError):
    """The database's tables are not this release's. Caught by the CLI (exit 2), which shows the message."""


def run_daemon(settings: Settings, *, shadow: bool = False) -> int:
    """The daemon as the process's main job: until SIGTERM or SIGINT. Returns the exit code.

    uvloop where it is installed. Raises `SchemaMismatch`, `StorageUnavailable`, `OSError` (the port) before
    anything runs.
    """
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(daemon(settings, shadow=shadow))


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's where there is one (it has no Windows), else asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def daemon(
    settings: Settings,
    *,
    shadow: bool = False,
    stop: asyncio.Event | None = None,
    on_listening: Callable[[str], None] | None = None,
    outside: Outside | None = None,
) -> int:
    """Runs until `stop` is set, or a signal asks for it if no `stop` is given.

    `on_listening`: told the API's address (`http://host:port`) once it answers. `shadow`: no webhooks are sent.
    `outside`: the world it runs in; `None`: the real one.
    """
    outside = outside or Outside()
    async with AsyncExitStack() as stack:
        if stop is None:
            stop = stack.enter_context(_stop_on_signals())
        clock = outside.clock
        db = await outside.open_database(settings.database_url)
        stack.push_async_callback(db.dispose)
        await _check_schema(db)
        if shadow:
            stack.push_async_callback(_mute_the_rest, db)
        drain = _Drain(settings.runtime.drain_timeout_s)
        tracer = await stack.enter_async_context(
            tracing(settings.telemetry, clock=clock, entropy=outside.entropy, left_s=drain.left_s)
        )
        process = _Process(
            settings=settings,
            outside=outside,
            db=db,
            clock=clock,
            metrics=Metrics(clock, version=__version__),
            health=Health(clock),
            drain=drain,
            key_uses=KeyUses(),
            tracer=tracer,
            traces=PaymentTraces(tracer),
        )
        if tracer.is_on:
            db.on_told(process.traces.told)
        chains = await stack.enter_async_context(_chain_parts(process))
        address = ""
        if outside.serves_api:
            runner = await _serve_api(process, chains)
            stack.push_async_callback(_close, runner, process.drain)
            address = "http://{}:{}".format(*runner.addresses[0][:2])
        _log.info("daemon.started", version=__version__, listen=address, chains=sorted(chains), shadow=shadow)
        if on_listening is not None:
            on_listening(address)
        drained = await _run_tasks(process, chains, stop, shadow=shadow)
        _log.info("daemon.stopped", drained=drained)
    return 0


class _Drain:
    """The time a stop may take in all: what ends earlier leaves the rest to what comes after it."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self._ends_at: float | None = None

    def begin(self) -> None:
        self._ends_at = asyncio.get_running_loop().time() + self.limit_s

    def left_s(self, share: float = 1.0) -> float:
        """Seconds left of that share of the whole; before `begin`, all of it."""
        if self._ends_at is None:
            return self.limit_s * share
        now = asyncio.get_running_loop().time()
        return max(0.0, self._ends_at - (1 - share) * self.limit_s - now)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Process:
    """What everything in this process shares."""

    settings: Settings
    outside: Outside
    db: Database
    clock: Clock
    metrics: Metrics
    health: Health
    drain: _Drain
    key_uses: KeyUses
    tracer: Tracer
    traces: PaymentTraces


async def _close(runner: web.AppRunner, drain: _Drain) -> None:
    """Ends the API: requests under way have what is left of the drain, at least a moment."""
    with suppress(TimeoutError):
        async with asyncio.timeout(max(0.2, drain.left_s())):
            await runner.cleanup()


async def _end_sends(dispatch: Dispatch, sender: ClosableSender, drain: _Drain) -> None:
    """Waits for the sends under way. If the database is away they stay claimed, and are sent again after the lease."""
    try:
        async with asyncio.timeout(max(0.2, drain.left_s())):
            await dispatch.drain(drain.left_s(SENDS_SHARE))
    except (StorageUnavailable, TimeoutError) as error:
        _log.warning("webhooks.not_recorded", error=str(error) or "the database did not answer in time")
    finally:
        await sender.close()


async def _mute_the_rest(db: Database) -> None:
    """After the loops and the API have ended: else a later run would send what they told of last."""
    try:
        await Mute(db).finish()
    except StorageUnavailable as error:
        _log.warning("shadow.not_muted", error=str(error))


async def _check_schema(db: Database) -> None:
    """SQLite is migrated here; PostgreSQL, which others may be using, only by `settler migrate`."""
    state = await migrate.state(db)
    match state:
        case migrate.Current():
            return
        case migrate.Ahead(revision=found, head=head):
            raise SchemaMismatch(
                f"the database is at schema revision {found}, newer than this settler's {head}; run the newer settler"
            )
        case migrate.Behind() | migrate.Empty():
            if db.dialect != "sqlite":
                what = "has no tables yet" if isinstance(state, migrate.Empty) else "has an older schema"
                raise SchemaMismatch(f"the database {what}; run `settler migrate -c FILE` first")
            await migrate.upgrade_open(db)
        case _:
            assert_never(state)


def _chain_watcher(process: _Process) -> TickWatcher:
    chains = {name: chain.chain_id for name, chain in process.settings.chains.items()}
    return TickWatcher(db=process.db, metrics=process.metrics, health=process.health, chains=chains)


@asynccontextmanager
async def _chain_parts(process: _Process) -> AsyncIterator[dict[str, ChainParts]]:
    """What each chain's loops are made of; closes the providers at the end."""
    configured = process.settings.chains
    judgement = judgement_of(process.settings)
    watcher = _chain_watcher(process)
    async with AsyncExitStack() as stack:
        parts: dict[str, ChainParts] = {}
        for name, chain in configured.items():
            process.metrics.add_chain(
                name,
                providers=chain.providers,
                tokens={t.symbol: t.decimals for t in chain.tokens},
                stages=("open", "watch", "settle"),
            )
            process.metrics.usual(
                name,
                block_s=None if chain.facts is None else chain.facts.block_time_s,
                finality_s=usual_finality_s(chain),
            )
            process.health.expect_chain(name)
            pool = make_pool(
                chain,
                monotonic=process.clock.monotonic,
                calls=partial(_observed, process, name),
                observer=ProviderWatcher(chain, metrics=process.metrics, health=process.health),
                session=process.outside.rpc_session,
                jitter=process.outside.jitter,
            )
            stack.push_async_callback(pool.close)
            wake = asyncio.Event()
            parts[name] = ChainParts(
                setup=setup_of(chain),
                pool=pool,
                head_seen=wake,
                head_wakers=head_wakers(chain, wake),
                poll_interval_s=chain.poll_interval_s,
                announced_every_s=process.outside.cadence.announced_s,
                db=process.db,
                clock=process.clock,
                judgement=judgement,
                metrics=process.metrics,
                health=process.health,
                watcher=watcher,
                jitter=process.outside.jitter.random,
                tracer=process.tracer,
            )
        yield parts


def _observed(process: _Process, chain: str, provider: str) -> TallyingObserver:
    calls = ChainCalls(process.metrics, chain=chain, provider=provider)
    return TallyingObserver(calls, provider=provider, tracer=process.tracer)


async def _serve_api(process: _Process, chains: Mapping[str, ChainParts]) -> web.AppRunner:
    settings, health = process.settings, process.health

    def providers() -> Sequence[Mapping[str, Any]]:
        return [
            provider_view(standing, chain=name) for name, parts in chains.items() for standing in parts.pool.standings
        ]

    app = make_app(
        db=process.db,
        clock=process.clock,
        catalog=settings.catalog(),
        defaults=settings.invoice_defaults(),
        operator=Operating(judgement_of(settings)),
        auth=settings.api.auth,
        metrics=process.metrics,
        health=health,
        providers=providers,
        entropy=process.outside.entropy,
        allow_private_webhooks=settings.webhooks.allow_private_addresses,
        deposits=settings.deposit_policy(),
        key_uses=process.key_uses,
        limits=limits_of(settings.api, process.clock),
        tracer=process.tracer,
        streams=StreamBounds.within(settings.api.max_connections),
    )
    return await serve(app, settings.api.listen.host, settings.api.listen.port, bounds=bounds_of(settings.api))


async def _run_tasks(process: _Process, chains: Mapping[str, ChainParts], stop: asyncio.Event, *, shadow: bool) -> bool:
    """All loops, until `stop`; then as long as the drain allows. Whether all of them ended by themselves."""
    sender = process.outside.make_sender(process.clock, allow_private=process.settings.webhooks.allow_private_addresses)
    dispatch = Dispatch(
        process.db,
        sender,
        process.clock,
        jitter=process.outside.jitter.random,
        on_attempt=process.metrics.delivery,
        traces=process.traces,
    )
    leading = _leading(process)
    loops = _process_loops(process, chains, outward=Mute(process.db) if shadow else dispatch, leading=leading)
    try:
        async with asyncio.timeout(None) as deadline, asyncio.TaskGroup() as tasks:
            for name, parts in chains.items():
                tasks.create_task(run_led(parts, leading, stop), name=f"chain:{name}")
            for loop in loops:
                tasks.create_task(run_loop(loop, stop), name=loop.name)
            await stop.wait()
            process.drain.begin()
            process.health.draining()
            _log.info("daemon.stopping", drain_timeout_s=process.drain.limit_s)
            deadline.reschedule(asyncio.get_running_loop().time() + process.drain.left_s(LOOPS_SHARE))
    except TimeoutError:
        return False
    finally:
        await _end_leads(leading, process.drain)
        await _end_sends(dispatch, sender, process.drain)
    return True


def _leading(process: _Process) -> Leading:
    settings, watcher = process.settings, _chain_watcher(process)
    return Leading(
        db=process.db,
        clock=process.clock,
        worker=settings.runtime.worker_name,
        chains={name: chain.chain_id for name, chain in settings.chains.items()},
        on_lead=process.metrics.leads,
        on_standby=watcher.on_standby,
    )


async def _end_leads(leading: Leading, drain: _Drain) -> None:
    """Those of chains whose last tick was cut off: the others were given back as they ended."""
    with suppress(TimeoutError):
        async with asyncio.timeout(max(0.2, drain.left_s(SENDS_SHARE))):
            await leading.give_back_all()


def _process_loops(
    process: _Process, chains: Mapping[str, ChainParts], *, outward: Dispatch | Mute, leading: Leading
) -> list[Loop]:
    """The loops that belong to no single chain."""
    db, clock, metrics, health = process.db, process.clock, process.metrics, process.health
    every_token = tuple(t for parts in chains.values() for t in parts.setup.tokens)
    expire = Expire(
        db=db,
        clock=clock,
        judgement=next(iter(chains.values())).judgement,
        reporter=Reporter(metrics, chain="", tokens=every_token, tracer=process.tracer),
    )
    gauges = Gauges(db=db, metrics=metrics, clock=clock, tokens={(t.chain_id, t.address): t for t in every_token})
    watcher = TickWatcher(db=db, metrics=metrics, health=health, chains={})

    def loop(stage: Stage, name: str, every_s: float, *, back_off_max_s: float = BACK_OFF_MAX_S) -> Loop:
        async def pause_s() -> float:
            return every_s

        health.expect_loop(name, max_silence_s=every_s + MAX_TICK_SILENCE_S)
        return Loop(
            stage=stage,
            name=name,
            chain="",
            pause_s=pause_s,
            clock=clock,
            jitter=process.outside.jitter.random,
            watcher=watcher,
            back_off_max_s=back_off_max_s,
            tracer=process.tracer,
        )

    every = process.outside.cadence
    return [
        # renewals must not come late because some failed
        loop(leading, "leases", every.lease_s, back_off_max_s=2 * every.lease_s),
        loop(expire, "expire", every.expire_s),
        loop(outward, "dispatch", every.dispatch_s),
        loop(gauges, "gauges", every.gauges_s),
        loop(Placing(db), "feed", every.place_s),
        loop(Noting(db, process.key_uses), "key_uses", every.note_s),
        loop(Tidy(db=db, clock=clock), "tidy", every.tidy_s),
    ]


@contextmanager
def _stop_on_signals() -> Iterator[asyncio.Event]:
    """An event that SIGTERM and SIGINT set."""
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    try:
        yield asked
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
