"""JSON-RPC over one WebSocket: many requests under way, each given the message that carries its id. URL in no message.

A socket is opened by the first request, and anew by the first one after its death. When it dies, all that waited on it
fail as `Transient`. Nothing is sent twice here: retries are `chains.rpc`'s, and so is the time-out of a request.

Messages nobody asked for go where they can do no harm:
- late (its caller gave up) and notifications: dropped;
- without an id of ours (an error with id null, no JSON, a foreign id): to the request that waits, when just one does;
  when several do, nobody can tell whose it was, and the time-out ends it.

What does not belong here: subscriptions. `chains.heads` has a socket of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import aiohttp
import msgspec
from aiohttp import ClientWSTimeout, WSCloseCode, WSMsgType

from chains.classify import classify
from chains.errors import ChainError, ResultTooLarge, Transient
from chains.post import MAX_RESPONSE_BYTES, retry_after_s, without_url
from chains.replies import Answer

Socket: TypeAlias = aiohttp.ClientWebSocketResponse[Literal[False]]
"""Its texts come as bytes."""

HEARTBEAT_S = 10.0
"""A ping after this much quiet; without a pong in half of it the socket is dead. A half-open one is noticed in 15 s."""
CLOSE_TIMEOUT_S = 1.0
"""How long a farewell may take; the other side may be gone."""


class RpcSocket:
    """A `chains.rpc.Transport` over `ws(s)`."""

    def __init__(
        self, url: str, *, max_bytes: int = MAX_RESPONSE_BYTES, heartbeat_s: float = HEARTBEAT_S, name: str = "rpc"
    ) -> None:
        """`max_bytes`: of one message. `name`: of the task that reads."""
        self._url = url
        self._max_bytes = max_bytes
        self._heartbeat_s = heartbeat_s
        self._name = name
        self._session: aiohttp.ClientSession | None = None
        self._connection: _Connection | None = None
        self._opening = asyncio.Lock()
        self._is_closed = False

    async def exchange(self, body: bytes, ids: Sequence[int]) -> Answer:
        """The first message with one of the ids, its bytes unchanged. Raises `ResultTooLarge`, `Transient`, and, when
        the socket is refused, what the HTTP status means. It has no time-out of its own.
        """
        connection = await self._opened()
        return await connection.exchange(body, ids)

    async def close(self) -> None:
        """Closes the socket; who still waits gets `Transient`. Idempotent."""
        self._is_closed = True
        if self._connection is not None:
            await self._connection.close()
            self._connection = None
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _opened(self) -> _Connection:
        async with self._opening:
            if self._connection is not None and self._connection.is_dead:
                await self._connection.close()
                self._connection = None
            self._refuse_if_closed()
            if self._connection is None:
                if self._session is None:
                    self._session = socket_session()
                socket = await open_socket(
                    self._session, self._url, max_bytes=self._max_bytes, heartbeat_s=self._heartbeat_s
                )
                # no wait between the handshake and here: an open socket always has an owner
                self._connection = _Connection(socket, max_bytes=self._max_bytes, name=f"{self._name} socket")
                try:
                    self._refuse_if_closed()  # meanwhile
                except Transient:
                    await self._connection.close()
                    raise
            return self._connection

    def _refuse_if_closed(self) -> None:
        if self._is_closed:
            raise Transient("the socket is closed")


class _Connection:
    """One open socket, the task that reads it, and those who wait."""

    def __init__(self, socket: Socket, *, max_bytes: int, name: str) -> None:
        self._socket = socket
        self._max_bytes = max_bytes
        self._waiting: dict[int | float | str | None, asyncio.Future[Answer | ChainError]] = {}
        """By id; those of a batch share one future. Errors are values here: who waits may have left."""
        self._highest_id = 0
        self.is_dead = False
        self._reading = asyncio.create_task(self._read(), name=name)

    async def exchange(self, body: bytes, ids: Sequence[int]) -> Answer:
        if self.is_dead:
            raise Transient("the socket closed")
        answered: asyncio.Future[Answer | ChainError] = asyncio.get_running_loop().create_future()
        self._waiting.update(dict.fromkeys(ids, answered))
        self._highest_id = max(self._highest_id, *ids)
        try:
            await send(self._socket, body)
            answer = await answered
        finally:
            for call_id in ids:
                del self._waiting[call_id]
        if isinstance(answer, ChainError):
            raise answer
        return answer

    async def close(self) -> None:
        self._reading.cancel()
        await asyncio.wait([self._reading])
        await self._end(_closed)  # a task cancelled before it began has not done it

    async def _read(self) -> None:
        cause: Callable[[], ChainError] = _closed
        try:
            while True:
                message = await self._socket.receive()
                if message.type not in {WSMsgType.TEXT, WSMsgType.BINARY}:
                    cause = _why_ended(message.data, self._max_bytes)
                    return
                self._deliver(bytes(message.data))
        finally:
            await self._end(cause)

    async def _end(self, cause: Callable[[], ChainError]) -> None:
        self.is_dead = True
        for answered in set(self._waiting.values()):
            # each its own error: `chains.rpc` writes the method into it
            _settle(answered, cause())
        await self._socket.close()

    def _deliver(self, body: bytes) -> None:
        answer = Answer(status=200, body=body)
        read = envelopes(body) or []
        owners = {self._waiting[each.id] for each in read if each.id in self._waiting}
        if not owners and not self._is_unasked(read):
            everybody = set(self._waiting.values())
            owners = everybody if len(everybody) == 1 else set()
        for answered in owners:
            _settle(answered, answer)

    def _is_unasked(self, read: Sequence[_Envelope]) -> bool:
        """A notification, or late."""
        is_late = bool(read) and all(isinstance(each.id, int) and each.id <= self._highest_id for each in read)
        return is_late or any(each.method for each in read)


# -- sockets, also for `chains.heads` ----------------------------------------------------------------------------------


def socket_session() -> aiohttp.ClientSession:
    """A session whose handshakes are not redirected: a socket is to the host that was configured, or is none."""
    tracing = aiohttp.TraceConfig()
    tracing.on_request_redirect.append(_refuse_redirect)
    return aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), trace_configs=[tracing])


async def open_socket(session: aiohttp.ClientSession, url: str, *, max_bytes: int, heartbeat_s: float) -> Socket:
    """An open socket. Raises `Transient`, or what the HTTP status of the refusal means. Without a time-out."""
    try:
        return await session.ws_connect(
            url,
            max_msg_size=max_bytes,
            heartbeat=heartbeat_s,
            timeout=ClientWSTimeout(ws_close=CLOSE_TIMEOUT_S),
            decode_text=False,
        )
    except aiohttp.WSServerHandshakeError as error:
        raise _why_refused(error) from None
    except (aiohttp.ClientError, OSError) as error:
        raise Transient(f"no socket: {type(error).__name__}") from without_url(error)


async def send(socket: Socket, body: bytes) -> None:
    """As a text frame: JSON-RPC is text. Raises `Transient`."""
    try:
        await socket.send_frame(body, WSMsgType.TEXT)
    except (aiohttp.ClientError, OSError) as error:
        raise Transient(f"the socket closed: {type(error).__name__}") from error


async def _refuse_redirect(_: object, __: object, redirected: aiohttp.TraceRequestRedirectParams) -> None:
    redirected.response.close()
    raise classify("", http_status=redirected.response.status)


def _why_refused(error: aiohttp.WSServerHandshakeError) -> ChainError:
    if error.status <= 299:
        return Transient("no socket: the server does not speak WebSocket at this URL")
    after = error.headers.get("Retry-After") if error.headers is not None else None
    return classify("", http_status=error.status, retry_after_s=retry_after_s(after))


def _why_ended(detail: object, max_bytes: int) -> Callable[[], ChainError]:
    """`detail`: what aiohttp gave in place of a message: the code of a farewell, an exception, or nothing."""
    if isinstance(detail, aiohttp.WebSocketError) and detail.code == WSCloseCode.MESSAGE_TOO_BIG:
        # Whose it was is not known, and the span that made it has to shrink: all that wait are told.
        return lambda: ResultTooLarge(f"a message has more than {max_bytes} bytes")
    if isinstance(detail, int):
        return lambda: Transient(f"the socket closed (code {detail})")
    return _closed if detail is None else lambda: Transient(f"the socket broke: {type(detail).__name__}")


def _closed() -> ChainError:
    return Transient("the socket closed")


def _settle(answered: asyncio.Future[Answer | ChainError], outcome: Answer | ChainError) -> None:
    if not answered.done():
        answered.set_result(outcome)


# -- ids of a message --------------------------------------------------------------------------------------------------


class _Envelope(msgspec.Struct, frozen=True):
    """What tells replies and notifications apart. The rest is for `chains.replies`."""

    id: int | float | str | None = None
    method: str = ""


_ENVELOPE = msgspec.json.Decoder(_Envelope)
_ENVELOPES = msgspec.json.Decoder(list[_Envelope])


def envelopes(body: bytes) -> list[_Envelope] | None:
    """One for each reply of the message; `None` when it is no JSON-RPC."""
    try:
        return _ENVELOPES.decode(body) if body.lstrip()[:1] == b"[" else [_ENVELOPE.decode(body)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
