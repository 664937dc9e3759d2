"""Builds what a process is made of from its settings: the parts of each chain, the API, who leads, the loops.

What does not belong here: in which order they start and stop (`supervisor`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

from aiohttp import web

from settler.api.app import make_app
from settler.api.server import serve
from settler.api.stream import StreamBounds
from settler.health import MAX_TICK_SILENCE_S
from settler.metrics import ChainCalls
from settler.runtime.chain_tasks import ChainParts
from settler.runtime.leading import Leading
from settler.runtime.loop import BACK_OFF_MAX_S, Loop, Stage
from settler.runtime.process import Process
from settler.runtime.providers import ProviderWatcher, head_wakers, make_pool, provider_view
from settler.runtime.setups import judgement_of, setup_of, usual_finality_s
from settler.runtime.tally import TallyingObserver
from settler.runtime.telemetry import bounds_of, limits_of
from settler.runtime.watching import Gauges, TickWatcher
from settler.stages.dispatch import Dispatch
from settler.stages.effects import Reporter
from settler.stages.expire import Expire
from settler.stages.mute import Mute
from settler.stages.noting import Noting
from settler.stages.operating import Operating
from settler.stages.placing import Placing
from settler.stages.tidy import Tidy
from settler.storage.watched import WatchedAddresses


def chain_watcher(process: Process) -> TickWatcher:
    """Of the configured chains, for the metrics and the health of this process."""
    chains = {name: chain.chain_id for name, chain in process.settings.chains.items()}
    return TickWatcher(db=process.db, metrics=process.metrics, health=process.health, chains=chains)


@asynccontextmanager
async def chain_parts(process: Process) -> AsyncIterator[dict[str, ChainParts]]:
    """What each chain's loops are made of; closes the providers at the end."""
    configured = process.settings.chains
    judgement = judgement_of(process.settings)
    watcher = chain_watcher(process)
    watched = WatchedAddresses(process.db, monotonic=process.clock.monotonic)
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
                watched=watched,
                clock=process.clock,
                judgement=judgement,
                metrics=process.metrics,
                health=process.health,
                watcher=watcher,
                jitter=process.outside.jitter.random,
                tracer=process.tracer,
            )
        yield parts


def _observed(process: Process, chain: str, provider: str) -> TallyingObserver:
    calls = ChainCalls(process.metrics, chain=chain, provider=provider)
    return TallyingObserver(calls, provider=provider, tracer=process.tracer)


async def serve_api(process: Process, chains: Mapping[str, ChainParts]) -> web.AppRunner:
    """The API, answering. Raises `OSError` where its port is not to be had."""
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


def leading_of(process: Process, chains: Mapping[str, ChainParts]) -> Leading:
    """Who looks after the leases of the configured chains."""
    settings, watcher = process.settings, next(iter(chains.values())).watcher
    return Leading(
        db=process.db,
        clock=process.clock,
        worker=settings.runtime.worker_name,
        chains={name: chain.chain_id for name, chain in settings.chains.items()},
        on_lead=process.metrics.leads,
        on_standby=watcher.on_standby,
    )


def process_loops(
    process: Process, chains: Mapping[str, ChainParts], *, outward: Dispatch | Mute, leading: Leading
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
    watcher = next(iter(chains.values())).watcher  # one a process

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
        loop(Tidy(db=db, clock=clock, give_back=process.outside.give_back), "tidy", every.tidy_s),
    ]
