"""The HTTP server under the application: aiohttp's, with bounds on what clients may do to it, and errors as everywhere.

Promises: a client that is slow, silent, deaf or many holds nothing for longer than `settler.api.connections.Bounds`
say; `/livez` and `/readyz` are answered however many there are; what is not HTTP is answered `application/problem+json`
as well, without a word of what our parser thought of it.

What aiohttp 3.14 offers for it, and is used: `data_received` and `connection_made` are asyncio's; `finish_response` and
`handle_error` are public methods of its `RequestHandler`; the request factory is a parameter of `web.Server`. The one
private name is `AppRunner._make_server`, which is abstract in its base and there to be written.
"""

from __future__ import annotations

import asyncio
import json
import logging
import resource
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus
from typing import Any, cast

import structlog
from aiohttp import StreamReader, web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from settler.api.connections import Bounds, Connection, Connections, Refused
from settler.api.errors import PROBLEM_JSON, Problem, problem_of

log = structlog.get_logger(__name__)

SHUTDOWN_TIMEOUT_S = 10.0
"""Requests under way have this long to end. Below the 30 s after which orchestrators kill."""
BACKLOG = 128
OTHER_DESCRIPTORS = 256
"""File descriptors that the rest of the process needs: database, providers, webhooks, the event loop."""

LOBBY_MAX = 64
LOBBY_S = 1.0
"""So many connections above the bound may say what they want, so long each, before they are told that there is no room:
a probe is answered all the same. Who is killed for being busy is not there for anybody.
"""
PROBES_MAX = 16
"""Probes at once above the bound."""
_PROBES = tuple(f"{method} {path} ".encode() for method in ("GET", "HEAD") for path in ("/livez", "/readyz"))
_END_OF_HEAD = b"\r\n\r\n"

HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Server": "settler"}
"""Of every answer, those of the server itself too: nobody keeps it, nobody guesses what it is, and not which versions
of what made it.
"""


async def serve(app: web.Application, host: str, port: int, *, bounds: Bounds | None = None) -> web.AppRunner:
    """Listens, and returns at once; `await runner.cleanup()` stops within `SHUTDOWN_TIMEOUT_S`.

    `port` 0 takes a free one, to be found in `runner.addresses`. Raises `OSError` when it cannot listen there.
    """
    runner = _Runner(app, Connections(_within_descriptors(bounds or Bounds())))
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, backlog=BACKLOG).start()
    except BaseException:
        await runner.cleanup()
        raise
    return runner


def _within_descriptors(bounds: Bounds) -> Bounds:
    """No more connections than there may be open files: else accepting one fails, and with it everything else."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed == resource.RLIM_INFINITY:
        return bounds
    room = max(16, allowed - OTHER_DESCRIPTORS)
    if room < bounds.max_connections:
        log.warning("api.fewer_connections", configured=bounds.max_connections, possible=room, open_files=allowed)
        return replace(bounds, max_connections=room)
    return bounds


async def protect(_request: web.Request, response: web.StreamResponse) -> None:
    """An `on_response_prepare` hook: `HEADERS` on every answer that does not say otherwise."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["Server"] = HEADERS["Server"]  # aiohttp's own name is there by default


class _Runner(web.AppRunner):
    """aiohttp's runner of an application, with our server."""

    def __init__(self, app: web.Application, connections: Connections) -> None:
        super().__init__(app, shutdown_timeout=SHUTDOWN_TIMEOUT_S)
        self._connections = connections
        self._bounded: BoundedServer | None = None

    async def _make_server(self) -> web.Server:
        self._bounded = BoundedServer(await super()._make_server(), self._connections)
        return self._bounded

    async def cleanup(self) -> None:
        await super().cleanup()
        await asyncio.sleep(0)  # connections closed just now say so
        if self._bounded is not None:
            self._bounded.stop_sweeping()
        self._connections.abort_all()


class BoundedServer(web.Server):
    """A server whose connections are counted, watched and ended."""

    def __init__(self, inner: web.Server, connections: Connections) -> None:
        """`inner`: made by aiohttp for the application; its handler and request factory are taken over."""
        super().__init__(inner.request_handler, request_factory=self._request_of(inner.request_factory))
        self.bounded = connections
        self._told: dict[Connection, Handler] = {}
        self._lobby: dict[Handler, asyncio.TimerHandle] = {}
        """Connections there is no room for, which have not said yet what they want; the longest waiting first."""
        self._refused = 0
        """Since the last sweep, which tells of them: with a line each, anybody could fill the log."""
        self._sweeping = asyncio.get_running_loop().call_later(connections.bounds.sweep_s, self._sweep)

    def __call__(self) -> web.RequestHandler:
        return Handler(
            self,
            loop=asyncio.get_running_loop(),
            logger=logging.getLogger(__name__),
            access_log=None,  # our own log tells of what matters; a line a request would hide it
            keepalive_timeout=self.bounded.bounds.idle_timeout_s,
            lingering_time=self.bounded.bounds.linger_s,
        )

    def stop_sweeping(self) -> None:
        self._sweeping.cancel()
        for handler in list(self._lobby):
            self.refuse(handler)

    def watch(self, connection: Connection, handler: Handler) -> None:
        self._told[connection] = handler

    def forget(self, connection: Connection) -> None:
        self._told.pop(connection, None)
        self.bounded.remove(connection)

    def let_wait(self, handler: Handler) -> None:
        """There is no room: only a probe gets an answer."""
        if len(self._lobby) >= LOBBY_MAX:
            self.refuse(next(iter(self._lobby)))
        self._lobby[handler] = asyncio.get_running_loop().call_later(LOBBY_S, self.refuse, handler)

    def refuse(self, handler: Handler) -> None:
        self.leave_lobby(handler)
        self._refused += 1
        handler.wire.write(_raw(_TOO_MANY))
        handler.wire.close()

    def leave_lobby(self, handler: Handler) -> None:
        timer = self._lobby.pop(handler, None)
        if timer is not None:
            timer.cancel()

    @property
    def has_room_for_a_probe(self) -> bool:
        return len(self.bounded) < self.bounded.bounds.max_connections + PROBES_MAX

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        if self._refused:
            log.warning("api.connections_refused", refused=self._refused, open=len(self.bounded))
            self._refused = 0
        self._sweeping = loop.call_later(self.bounded.bounds.sweep_s, self._sweep)
        for slow in self.bounded.sweep(loop.time()):
            handler = self._told.get(slow)
            if handler is not None:
                handler.hang_up(_TOO_SLOW)

    def _request_of(self, factory: Callable[..., web.BaseRequest]) -> Callable[..., web.BaseRequest]:
        """aiohttp calls the factory once a request's head is read and its turn has come."""

        def make(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
            cast(Handler, protocol).began(payload)
            return factory(message, payload, protocol, writer, task)

        return make


class Handler(web.RequestHandler):
    """One connection."""

    __slots__ = ("_body", "_connection", "_is_probe", "_server", "wire")

    wire: asyncio.Transport

    def __init__(self, server: BoundedServer, **kwargs: Any) -> None:
        super().__init__(server, **kwargs)
        self._server = server
        self._connection: Connection | None = None
        self._body: StreamReader | None = None
        """Of the last request that began."""
        self._is_probe = False
        """There was no room for it: it is answered once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.wire = cast(asyncio.Transport, transport)
        try:
            self._connection = self._server.bounded.add(self.wire, self._peer)
        except Refused:
            self._server.let_wait(self)
            return
        self._enter()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._connection is None:  # refused: aiohttp was never told of it
            self._server.leave_lobby(self)
            return
        self._server.forget(self._connection)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._connection is None:
            self._ask_for_room(data)
        if self._connection is None:
            return
        if data and self._is_body_over:
            self._server.bounded.got_bytes(self._connection, asyncio.get_running_loop().time())
        super().data_received(data)

    def began(self, body: StreamReader) -> None:
        self._body = body
        if self._connection is not None:
            self._server.bounded.began(self._connection)

    def _ask_for_room(self, data: bytes) -> None:
        """A probe that is all there is answered beyond the bound: it waits for nothing."""
        if self.wire.is_closing():
            return
        if data.startswith(_PROBES) and data.endswith(_END_OF_HEAD) and self._server.has_room_for_a_probe:
            self._server.leave_lobby(self)
            self._is_probe = True
            self._connection = self._server.bounded.add(self.wire, self._peer, is_beyond=True)
            self._enter()
        else:
            self._server.refuse(self)

    def _enter(self) -> None:
        assert self._connection is not None, "it was added"
        self._server.watch(self._connection, self)
        super().connection_made(self.wire)

    @property
    def _peer(self) -> str | None:
        peer = self.wire.get_extra_info("peername")
        return peer[0] if isinstance(peer, tuple) else None

    @property
    def _is_body_over(self) -> bool:
        """What comes is no rest of a body that was answered before it was there."""
        return self._body is None or self._body.is_eof()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        if isinstance(resp, web.HTTPException) and resp.status >= HTTPStatus.BAD_REQUEST:
            # raised outside of our middleware: an expectation that is not met
            resp = _answer(problem_of(resp) or _MALFORMED)
        if self._is_probe:
            resp.force_close()
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            if self._connection is not None:
                self._server.bounded.ended(self._connection)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what never became a request, or failed outside of every handler. Closes the connection."""
        if isinstance(exc, ConnectionError):  # the client hung up
            raise ConnectionError from exc
        if isinstance(exc, HttpProcessingError):
            # somebody else's mistake: one line for who looks for it, no error and no traceback of ours
            log.debug("api.not_http", error=exc.message.partition(":")[0][:200])  # after it: what was sent, keys too
        else:
            log.error("api.failed", status=status, exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("an answer was begun, and no other can be sent")
        response = _answer(_problem_of_parser(status, exc))
        response.force_close()
        return response

    def hang_up(self, problem: Problem) -> None:
        """Tells the client why, and closes."""
        if self.transport is not None:
            self.transport.write(_raw(problem))
        self.force_close()


_MALFORMED = Problem(HTTPStatus.BAD_REQUEST, "bad-request", "this is no HTTP/1.1 request; see RFC 9112")
_TOO_LONG = Problem(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "request-header-fields-too-large",
    "the address or a header is longer than 8190 bytes",
)
_TOO_SLOW = Problem(HTTPStatus.REQUEST_TIMEOUT, "request-timeout", "the request's head did not arrive in time")
_TOO_MANY = Problem(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "too-many-connections",
    "there are too many connections; use fewer, and try again in a moment",
    headers={"Retry-After": "2"},
)
_FAILED = Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", "this is a fault of ours; the log has it")


def _problem_of_parser(status: int, exc: BaseException | None) -> Problem:
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _FAILED
    return _TOO_LONG if isinstance(exc, LineTooLong) else _MALFORMED


def _answer(problem: Problem) -> web.Response:
    return web.Response(
        status=problem.status,
        text=json.dumps(problem.body("")),
        content_type=PROBLEM_JSON,
        headers={**HEADERS, **problem.headers},
    )


def _raw(problem: Problem) -> bytes:
    """The same in bytes, for a connection that aiohttp is not answering on."""
    body = json.dumps(problem.body("")).encode()
    fields = {
        **HEADERS,
        **problem.headers,
        "Content-Type": f"{PROBLEM_JSON}; charset=utf-8",
        "Content-Length": str(len(body)),
        "Connection": "close",
    }
    head = f"HTTP/1.1 {problem.status.value} {problem.status.phrase}\r\n"
    return (head + "".join(f"{name}: {value}\r\n" for name, value in fields.items()) + "\r\n").encode() + body
