"""Runs the daemon that `building` makes of its settings, and stops it: one TaskGroup, named tasks, a bounded drain.

    start   database, schema, API (so that /readyz can say why not), then a task a chain, expiry, webhooks, gauges
    stop    SIGTERM or SIGINT: no new ticks; those under way, requests and webhook sends end within `drain_timeout_s`,
            chains are given back; the rest is cancelled (nothing of it was written); exit 0

One chain's trouble never stops another: a loop raises nothing that a node or the database could cause.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager, suppress
from typing import assert_never

from aiohttp import web

from settler import __version__
from settler.config import Settings
from settler.health import Health
from settler.logs import get_logger
from settler.metrics import Metrics
from settler.runtime.building import chain_parts, leading_of, process_loops, serve_api
from settler.runtime.chain_tasks import ChainParts, run_led
from settler.runtime.leading import Leading
from settler.runtime.loop import run as run_loop
from settler.runtime.memory import keep_steady
from settler.runtime.outside import ClosableSender, Outside
from settler.runtime.process import Drain, Process
from settler.runtime.telemetry import tracing
from settler.stages.dispatch import Dispatch
from settler.stages.mute import Mute
from settler.stages.payment_traces import PaymentTraces
from settler.storage import migrate
from settler.storage.api_keys import KeyUses
from settler.storage.engine import Database, StorageUnavailable
from settler.storage.errors import StorageError

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
    keep_steady()
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
        drain = Drain(settings.runtime.drain_timeout_s)
        tracer = await stack.enter_async_context(
            tracing(settings.telemetry, clock=clock, entropy=outside.entropy, left_s=drain.left_s)
        )
        process = Process(
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
        chains = await stack.enter_async_context(chain_parts(process))
        address = ""
        if outside.serves_api:
            runner = await serve_api(process, chains)
            stack.push_async_callback(_close, runner, process.drain)
            address = "http://{}:{}".format(*runner.addresses[0][:2])
        _log.info("daemon.started", version=__version__, listen=address, chains=sorted(chains), shadow=shadow)
        if on_listening is not None:
            on_listening(address)
        drained = await _run_tasks(process, chains, stop, shadow=shadow)
        _log.info("daemon.stopped", drained=drained)
    return 0


async def _close(runner: web.AppRunner, drain: Drain) -> None:
    """Ends the API: requests under way have what is left of the drain, at least a moment."""
    with suppress(TimeoutError):
        async with asyncio.timeout(max(0.2, drain.left_s())):
            await runner.cleanup()


async def _end_sends(dispatch: Dispatch, sender: ClosableSender, drain: Drain) -> None:
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


async def _run_tasks(process: Process, chains: Mapping[str, ChainParts], stop: asyncio.Event, *, shadow: bool) -> bool:
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
    leading = leading_of(process, chains)
    loops = process_loops(process, chains, outward=Mute(process.db) if shadow else dispatch, leading=leading)
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


async def _end_leads(leading: Leading, drain: Drain) -> None:
    """Those of chains whose last tick was cut off: the others were given back as they ended."""
    with suppress(TimeoutError):
        async with asyncio.timeout(max(0.2, drain.left_s(SENDS_SHARE))):
            await leading.give_back_all()


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
