"""What went wrong, as RFC 9457 (https://www.rfc-editor.org/rfc/rfc9457) `application/problem+json`.

One place decides which exception is which answer. A caller's mistake is a 4xx that says which value and what to do; a
5xx is ours, and shows nothing of the inside.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any

import structlog
from aiohttp import web

from settler.domain.drafting import InvalidRequest
from settler.domain.errors import Conflict, InvalidInput, NotFound
from settler.storage.errors import StorageUnavailable

log = structlog.get_logger(__name__)

PROBLEM_TYPE = "urn:settler:problem:"
"""Followed by a code that never changes meaning; clients branch on it."""
PROBLEM_JSON = "application/problem+json"
HANDLER_TIMEOUT_S = 30.0
"""Above the database's own waits (lock 10 s, pool 10 s), below what proxies wait (60 s)."""
RETRY_AFTER_S = 2
"""Asked of callers when the database is away; its fail-over takes seconds."""
_REPEAT = "repeat the request, with the same Idempotency-Key if it has one"
MAX_SHOWN = 50
"""Wrong fields told of in one answer."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Renderer = Callable[["Problem", web.Request], web.Response]
_RENDERER = "problem_renderer"
_DEADLINE: web.RequestKey[asyncio.Timeout] = web.RequestKey("deadline", asyncio.Timeout)


class Problem(Exception):
    """An answer that is an error. Raised anywhere below a handler, caught by `problems_middleware` alone."""

    def __init__(
        self,
        status: HTTPStatus,
        code: str,
        detail: str,
        *,
        errors: Iterable[InvalidInput | Conflict] = (),
        headers: Mapping[str, str] | None = None,
        closes: bool = False,
    ) -> None:
        """`code`: the last part of `type`. `closes`: the connection cannot be used on, e.g. its body was not read."""
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})
        self.closes = closes

    def body(self, instance: str) -> dict[str, Any]:
        """The JSON of RFC 9457 section 3, and `errors`: each wrong field with what is wrong and what to do."""
        shown = [{"field": e.field, "detail": e.problem} for e in self.errors[:MAX_SHOWN]]
        if len(self.errors) > MAX_SHOWN:
            shown.append({"field": "", "detail": f"and {len(self.errors) - MAX_SHOWN} more"})
        return {
            "type": PROBLEM_TYPE + self.code,
            "title": _TITLES.get(self.code, self.status.phrase),
            "status": int(self.status),
            "detail": self.detail,
            "instance": instance,
            "errors": shown,
        }


_TITLES = {
    "invalid-request": "The request is not valid",
    "conflict": "The request contradicts the present state",
    "idempotency-key-reused": "The idempotency key was used for another request",
    "idempotency-in-progress": "The first request with this idempotency key is under way",
    "malformed-json": "The body is not JSON",
    "unavailable": "The service is not available just now",
    "too-many-requests": "This caller asks too often",
    "too-many-streams": "There are too many streams already",
    "too-many-connections": "There are too many connections already",
}


def invalid(problems: Iterable[InvalidInput]) -> Problem:
    """422: what was sent cannot be accepted."""
    found = tuple(problems)
    assert found, "an invalid request has something wrong with it"
    more = f" (and {len(found) - 1} more, see errors)" if len(found) > 1 else ""
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-request", f"{found[0]}{more}", errors=found)


def not_found(what: str) -> Problem:
    """404. Also for what exists and belongs to another merchant: that it exists is not told."""
    return Problem(HTTPStatus.NOT_FOUND, "not-found", what)


def problem_of(error: Exception) -> Problem | None:
    """The answer that an error of the core or the storage is; `None` for one that nobody expected."""
    match error:
        case Problem():
            return error
        case InvalidRequest(problems=problems):
            return invalid(problems)
        case InvalidInput():
            return invalid([error])
        case Conflict():
            return Problem(HTTPStatus.CONFLICT, "conflict", str(error), errors=[error])
        case NotFound():
            return not_found(str(error))
        case StorageUnavailable():
            return Problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "unavailable",
                "the database is not to be had just now; " + _REPEAT,
                headers={"Retry-After": str(RETRY_AFTER_S)},
            )
        case web.HTTPException():
            return _of_aiohttp(error)
        case _:
            return None


def _of_aiohttp(error: web.HTTPException) -> Problem | None:
    """aiohttp's own refusals: no such route, wrong method, body too large, and what its parser did not like."""
    if error.status < 400:
        return None
    status = HTTPStatus(error.status)
    allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    match status:
        case HTTPStatus.NOT_FOUND:
            detail = "there is nothing at this address; the API is under /v1"
        case HTTPStatus.METHOD_NOT_ALLOWED:
            detail = f"this address takes {allow.get('Allow', 'other methods')}"
        case _:
            detail = error.reason
    return Problem(status, status.phrase.lower().replace(" ", "-"), detail, headers=allow)


def lift_deadline(request: web.Request) -> None:
    """From here on the request may take as long as it wants: it is a stream, which has bounds of its own."""
    request[_DEADLINE].reschedule(None)


def refusing_as(renderer: Renderer, handler: Handler) -> Handler:
    """The handler, whose problems are not answered as JSON; also those found before it is asked."""

    async def answered(request: web.Request) -> web.StreamResponse:
        return await handler(request)

    setattr(answered, _RENDERER, renderer)
    return answered


def render(problem: Problem, request: web.Request) -> web.Response:
    """The problem as an answer, JSON unless its handler wants another form."""
    renderer: Renderer = getattr(request.match_info.handler, _RENDERER, _as_json)
    return renderer(problem, request)


def _as_json(problem: Problem, request: web.Request) -> web.Response:
    response = web.Response(
        status=problem.status,
        text=json.dumps(problem.body(request.rel_url.raw_path), ensure_ascii=False),
        content_type=PROBLEM_JSON,
        headers=problem.headers,
    )
    if problem.closes:
        response.force_close()
    return response


@web.middleware
async def problems_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns whatever a handler raises into an answer. What nobody expected is a 500 with an id that the log has too."""
    try:
        async with asyncio.timeout(HANDLER_TIMEOUT_S) as deadline:
            request[_DEADLINE] = deadline
            return await handler(request)
    except web.HTTPException as error:
        problem = problem_of(error)
        if problem is None:
            raise
        return render(problem, request)
    except TimeoutError:
        log.warning("api.timed_out", method=request.method, route=_route(request), timeout_s=HANDLER_TIMEOUT_S)
        return render(_timed_out(), request)
    except Exception as error:  # the API's edge: a bug answers 500 and does not end the connection's task
        if isinstance(error, ConnectionError) and _has_hung_up(request):
            log.debug("api.hung_up", method=request.method, route=_route(request))
            raise  # to the server: there is nobody to answer, and nothing of ours went wrong
        problem = problem_of(error)
        if problem is None:
            problem = _bug(request, error)
        elif problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            log.warning("api.unavailable", method=request.method, route=_route(request), error=str(error))
        return render(problem, request)


def _has_hung_up(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


def _timed_out() -> Problem:
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "unavailable",
        f"no answer within {HANDLER_TIMEOUT_S:.0f} s; " + _REPEAT,
        headers={"Retry-After": str(RETRY_AFTER_S)},
    )


def _bug(request: web.Request, error: Exception) -> Problem:
    error_id = secrets.token_hex(8)
    log.error("api.failed", error_id=error_id, method=request.method, route=_route(request), exc_info=error)
    return Problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "internal",
        f"this is a fault of ours; the log has it under {error_id}",
    )


def _route(request: web.Request) -> str:
    """The route's pattern: never an id, never what a stranger typed."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "none"
