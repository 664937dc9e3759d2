"""The application. No globals: what it works with is given to `make_app`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiohttp import web

from settler.api import pages, stream
from settler.api.auth import KeyReader
from settler.api.body import MAX_BODY_BYTES
from settler.api.call import AuthMode, Call, Operator, Services, caller_behind
from settler.api.creating import Creating
from settler.api.errors import problems_middleware
from settler.api.limits import NO_LIMITS, Limits, limiting, show_standing
from settler.api.observed import observing, show_id
from settler.api.pages import reference
from settler.api.route import Route
from settler.api.routes import chains, description, events, holds, invoices, qr, settlements, transfers, webhooks
from settler.api.routes import stream as stream_route
from settler.api.routes.probes import Probes
from settler.api.server import protect
from settler.api.stream import DEFAULT_BOUNDS, StreamBounds
from settler.clock import Clock
from settler.domain.deposits import POOL_ONLY, DepositPolicy
from settler.domain.drafting import Catalog, InvoiceDefaults
from settler.health import Health
from settler.metrics import Metrics
from settler.storage.api_keys import KeyUses
from settler.storage.engine import Database
from settler.tracing import SILENT, Tracer

ROUTES: tuple[Route, ...] = (
    *invoices.ROUTES,
    *qr.ROUTES,
    *stream_route.ROUTES,
    *transfers.ROUTES,
    *holds.ROUTES,
    *settlements.ROUTES,
    *events.ROUTES,
    *webhooks.ROUTES,
    *chains.ROUTES,
)
"""Everything that needs a key."""


def make_app(
    *,
    db: Database,
    clock: Clock,
    catalog: Catalog,
    defaults: InvoiceDefaults,
    operator: Operator,
    auth: AuthMode,
    metrics: Metrics,
    health: Health,
    providers: Callable[[], Sequence[Mapping[str, Any]]] | None,
    entropy: Callable[[int], bytes],
    allow_private_webhooks: bool,
    deposits: DepositPolicy = POOL_ONLY,
    key_uses: KeyUses | None = None,
    limits: Limits = NO_LIMITS,
    tracer: Tracer = SILENT,
    streams: StreamBounds = DEFAULT_BOUNDS,
) -> web.Application:
    """The API over an open, migrated database. Starts nothing and closes nothing of what it is given.

    `auth = "none"`: whoever reaches the port may do everything; the configuration allows it on loopback only.
    `deposits`: where the addresses of invoices without `pay_to` come from. For the others see `Services`.
    """
    services = Services(
        db=db,
        clock=clock,
        catalog=catalog,
        operator=operator,
        auth=auth,
        metrics=metrics,
        health=health,
        providers=providers,
        entropy=entropy,
        allow_private_webhooks=allow_private_webhooks,
        creating=Creating(db=db, clock=clock, catalog=catalog, defaults=defaults, deposits=deposits, entropy=entropy),
        keys=KeyReader(db),
        key_uses=key_uses or KeyUses(),
        limits=limits,
    )
    app = web.Application(
        middlewares=[observing(tracer), problems_middleware, limiting(limits)], client_max_size=MAX_BODY_BYTES
    )
    for route in ROUTES:
        guarded = _guarded(services, route)
        app.router.add_route(route.method, route.path, guarded)
        if route.method == "GET":
            app.router.add_route("HEAD", route.path, guarded)
    description.add_routes(app, ROUTES)
    reference.attach(app, ROUTES)
    probes = Probes(services)
    app.router.add_get("/livez", probes.livez)
    app.router.add_get("/readyz", probes.readyz)
    app.router.add_get("/metrics", probes.metrics)
    stream.attach(app, services, streams)
    pages.attach(app, services)
    app.on_cleanup.extend((services.creating.end, services.keys.end))
    app.on_response_prepare.extend((protect, show_id, show_standing))
    return app


def _guarded(services: Services, route: Route) -> Callable[[web.Request], Any]:
    """The route's handler behind its scope."""

    async def guarded(request: web.Request) -> web.StreamResponse:
        caller = await caller_behind(request, services)
        caller.require(route.scope)
        return await route.handler(Call(request=request, services=services, caller=caller, route=route))

    return guarded
