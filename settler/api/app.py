"""The application and its server. No globals: what it works with is given to `make_app`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from settler.api.auth import authenticate, everybody
from settler.api.body import MAX_BODY_BYTES
from settler.api.call import AuthMode, Call, Handler, Operator, Services
from settler.api.errors import problems_middleware
from settler.api.routes import chains, events, holds, invoices, qr, settlements, transfers, webhooks
from settler.api.routes.probes import Probes
from settler.clock import Clock
from settler.domain.deposits import POOL_ONLY, DepositPolicy
from settler.domain.drafting import Catalog, InvoiceDefaults
from settler.health import Health
from settler.metrics import Metrics
from settler.storage.api_keys import Scope
from settler.storage.engine import Database

log = structlog.get_logger(__name__)

KEEPALIVE_TIMEOUT_S = 75.0
"""Idle connections are closed after it; longer than the 60 s after which proxies and load balancers close theirs, so
that no request is sent into a connection we are just closing."""
SHUTDOWN_TIMEOUT_S = 10.0
"""Requests under way have this long to end. Below the 30 s after which orchestrators kill."""
BACKLOG = 128

ROUTES: tuple[tuple[str, str, Scope, Handler], ...] = (
    ("POST", "/v1/invoices", Scope.WRITE, invoices.create_invoice),
    ("GET", "/v1/invoices", Scope.READ, invoices.list_invoices),
    ("GET", "/v1/invoices/{id}", Scope.READ, invoices.show_invoice),
    ("GET", "/v1/invoices/{id}/qr.svg", Scope.READ, qr.show_code),
    ("POST", "/v1/invoices/{id}/cancel", Scope.WRITE, invoices.cancel_invoice),
    ("POST", "/v1/invoices/{id}/mark", Scope.OPERATE, invoices.mark_invoice),
    ("GET", "/v1/transfers", Scope.READ, transfers.list_transfers),
    ("GET", "/v1/transfers/{id}", Scope.READ, transfers.show_transfer),
    ("POST", "/v1/transfers/{id}/assign", Scope.OPERATE, transfers.assign_transfer),
    ("POST", "/v1/transfers/{id}/dismiss", Scope.OPERATE, transfers.dismiss_transfer),
    ("POST", "/v1/holds", Scope.OPERATE, holds.place_hold),
    ("GET", "/v1/holds", Scope.READ, holds.list_holds),
    ("GET", "/v1/holds/{id}", Scope.READ, holds.show_hold),
    ("POST", "/v1/holds/{id}/release", Scope.OPERATE, holds.release_hold),
    ("GET", "/v1/settlements", Scope.READ, settlements.list_settlements),
    ("GET", "/v1/settlements/{id}", Scope.READ, settlements.show_settlement),
    ("GET", "/v1/settlements/{id}/evidence", Scope.READ, settlements.show_evidence),
    ("GET", "/v1/chains", Scope.READ, chains.list_chains),
    ("GET", "/v1/events", Scope.READ, events.list_events),
    ("POST", "/v1/webhook-endpoints", Scope.WRITE, webhooks.create_endpoint),
    ("GET", "/v1/webhook-endpoints", Scope.READ, webhooks.list_endpoints),
    ("GET", "/v1/webhook-endpoints/{id}", Scope.READ, webhooks.show_endpoint),
    ("DELETE", "/v1/webhook-endpoints/{id}", Scope.WRITE, webhooks.delete_endpoint),
    ("GET", "/v1/webhook-deliveries", Scope.READ, webhooks.list_deliveries),
    ("POST", "/v1/webhook-deliveries/{id}/retry", Scope.WRITE, webhooks.retry_delivery),
)
"""Everything that needs a key: method, address, the scope it takes, and who answers."""


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
) -> web.Application:
    """The API over an open, migrated database. Starts nothing and closes nothing of what it is given.

    `auth = "none"`: whoever reaches the port may do everything; the configuration allows it on loopback only. For the
    others see `Services`.
    """
    services = Services(
        db=db,
        clock=clock,
        catalog=catalog,
        defaults=defaults,
        operator=operator,
        auth=auth,
        metrics=metrics,
        health=health,
        providers=providers,
        entropy=entropy,
        allow_private_webhooks=allow_private_webhooks,
        deposits=deposits,
    )
    app = web.Application(middlewares=[problems_middleware], client_max_size=MAX_BODY_BYTES)
    for method, path, scope, handler in ROUTES:
        guarded = _guarded(services, scope, handler)
        app.router.add_route(method, path, guarded)
        if method == "GET":
            app.router.add_route("HEAD", path, guarded)
    probes = Probes(services)
    app.router.add_get("/livez", probes.livez)
    app.router.add_get("/readyz", probes.readyz)
    app.router.add_get("/metrics", probes.metrics)
    app.on_response_prepare.append(_forbid_keeping)
    return app


async def serve(app: web.Application, host: str, port: int) -> web.AppRunner:
    """Listens, and returns at once; `await runner.cleanup()` stops within `SHUTDOWN_TIMEOUT_S`.

    `port` 0 takes a free one, to be found in `runner.addresses`. Raises `OSError` when it cannot listen there.
    """
    runner = web.AppRunner(
        app,
        logger=_server_log,
        access_log=None,  # our own log tells of what matters; a line a request would hide it
        keepalive_timeout=KEEPALIVE_TIMEOUT_S,
        shutdown_timeout=SHUTDOWN_TIMEOUT_S,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, backlog=BACKLOG).start()
    except BaseException:
        await runner.cleanup()
        raise
    return runner


def _guarded(services: Services, scope: Scope, handler: Handler) -> Callable[[web.Request], Any]:
    """The handler behind its scope."""

    async def guarded(request: web.Request) -> web.StreamResponse:
        caller = everybody(request) if services.auth == "none" else await authenticate(request, services.db)
        caller.require(scope)
        return await handler(Call(request=request, services=services, caller=caller))

    return guarded


async def _forbid_keeping(_request: web.Request, response: web.StreamResponse) -> None:
    """No cache between us and the caller keeps an answer: it is somebody's money, and of this moment."""
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers["Server"] = "settler"  # not which versions of what


class _NotHttp(logging.Filter):
    """What is not HTTP is somebody else's mistake: one line for who looks for it, no error and no traceback of ours."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, HttpProcessingError):
            return True
        log.debug("api.not_http", status=error.code, error=" ".join(error.message.split()))
        return False


_server_log = logging.getLogger("settler.api.server")
_server_log.addFilter(_NotHttp())
