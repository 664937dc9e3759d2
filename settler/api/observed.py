"""Each request under a name: an id that caller, answer and log lines share, and a span where traces are on.

X-Request-Id    the caller's if it is one (up to 128 letters, digits and `._:/+=@-`), else made here; in every answer
traceparent     the caller's trace goes on in ours (https://www.w3.org/TR/trace-context/)
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from aiohttp import web
from aiohttp.typedefs import Middleware
from structlog.contextvars import bound_contextvars

from settler.tracing import Place, Tracer, Value, parse_traceparent

REQUEST_ID = "X-Request-Id"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}", re.ASCII)
_ID: web.RequestKey[str] = web.RequestKey("request_id", str)
NO_ROUTE = "none"
"""What no route takes: never what a stranger typed."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def observing(tracer: Tracer) -> Middleware:
    """The outermost middleware: what it sees is what the caller gets."""

    @web.middleware
    async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
        request[_ID] = request_id = _given_id(request) or secrets.token_hex(16)
        with bound_contextvars(request_id=request_id):
            if not tracer.is_on:
                return await handler(request)
            return await _traced(tracer, request, handler, request_id)

    return observe


async def show_id(request: web.Request, response: web.StreamResponse) -> None:
    """An `on_response_prepare` hook."""
    request_id = request.get(_ID)
    if request_id is not None:
        response.headers[REQUEST_ID] = request_id


async def _traced(tracer: Tracer, request: web.Request, handler: Handler, request_id: str) -> web.StreamResponse:
    route = route_of(request)
    with tracer.work(f"{request.method} {route}", kind="server", parent=_caller_of(request)) as work:
        assert work is not None, "the tracer is on"
        attributes: dict[str, Value] = {
            "http.request.method": request.method,
            "http.route": route,
            "settler.request_id": request_id,
        }
        work.attributes = attributes
        response = await handler(request)
        attributes["http.response.status_code"] = response.status
        is_failure = response.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        work.error = str(response.status) if is_failure else None
        work.is_kept = is_failure or not (route in _UNTOLD or response.status in _OF_STRANGERS)
        return response


_UNTOLD = frozenset({"/livez", "/readyz", "/metrics", NO_ROUTE})
"""Probes are asked every few seconds by whoever watches over us, and told of only when they fail. What no route takes
is not told of: anybody could fill the collector with it.
"""
_OF_STRANGERS = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS})
"""For the same reason."""


def route_of(request: web.Request) -> str:
    """The route's pattern, never an id."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else NO_ROUTE


def _given_id(request: web.Request) -> str | None:
    given = request.headers.getall(REQUEST_ID, [])
    return given[0] if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]) else None


def _caller_of(request: web.Request) -> Place | None:
    """Where a key is asked for: elsewhere a stranger would say what is sampled, and crowd out payments."""
    if not request.path.startswith("/v1/"):
        return None
    given = request.headers.getall("traceparent", [])
    return parse_traceparent(given[0]) if len(given) == 1 else None
