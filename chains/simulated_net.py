"""The way between `chains.post` and simulated nodes, without sockets: providers that fail and lie, and the session that
reaches them.

    provider = SimulatedProvider(node.reply, name="a.example", drawn=random.Random("7/a"), latency_s=(0.01, 0.2))
    provider.inject(FAULTS["5xx"], probability=0.1)
    session = SimulatedSession({"a.example": provider}, gate=life.gate)
    RpcProvider("http://a.example", session=session)

What it promises: requests and answers are the bytes that go over HTTP, so that all of `chains.post` and what stands
above it runs as it ships; what a broken connection raises is what aiohttp raises; delays are `asyncio.sleep`, on
whatever clock the loop has; all follows from what is drawn and from the requests in their order.

What it is not: a limit of connections, redirects, TLS, and WebSockets.
"""

from __future__ import annotations

import asyncio
import errno
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, NoReturn, Self

import aiohttp
import msgspec
from aiohttp.client_reqrep import ConnectionKey

from chains.faults.injector import Injector
from chains.faults.model import End, Exchange, Json, Sent
from chains.url import checked_host

DOWN = "provider down"
"""As which a refused connection is counted and told."""

NodeReply = Callable[[Json], Json]
"""One JSON-RPC call to its reply."""
Gate = Callable[[], Awaitable[None]]
OnExchange = Callable[["SimulatedProvider", tuple[str, ...], str], None]
"""(provider, methods, outcome) of each request. The outcome is `ok`, or the names of the faults told."""

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_PORT = 80


class SimulatedProvider(Injector):
    """A node, and what may be wrong between it and us."""

    def __init__(
        self,
        node_reply: NodeReply,
        *,
        name: str,
        drawn: random.Random,
        latency_s: tuple[float, float] = (0.0, 0.0),
        on_exchange: OnExchange | None = None,
    ) -> None:
        """`latency_s`: between these, the time a request and its answer take together."""
        super().__init__(drawn)
        self.node_reply = node_reply
        """May be replaced by another node's: as a load balancer does."""
        self.name = name
        self.latency_s = latency_s
        self.is_down = False
        self._on_exchange = on_exchange

    def __repr__(self) -> str:
        return f"SimulatedProvider({self.name})"

    def be_down(self) -> None:
        """Refuses connections, until `be_up` or `be_honest`."""
        self.is_down = True

    def be_up(self) -> None:
        self.is_down = False

    def be_honest(self) -> None:
        """No fault is at work any more, and it is up."""
        super().be_honest()
        self.is_down = False

    def draw_latency_s(self) -> float:
        low, high = self.latency_s
        return self.random.uniform(low, high) if high > 0 else 0.0

    async def answer(self, body: bytes) -> Sent | None:
        """How the request is answered, `None` where nobody takes it. The node is asked now."""
        asked = _decode(body)
        is_batch = isinstance(asked, list)
        calls: list[Json] = asked if is_batch else [asked]
        if self.is_down:
            self.told[DOWN] += 1
            self._note(calls, DOWN)
            return None
        self.requests += 1
        for call in calls:
            self.calls[call["method"]] += 1
        replies = [self.node_reply(call) for call in calls]
        if not self._injected:
            self._note(calls, "ok")
            return Sent(body=_encode(replies if is_batch else replies[0]))
        exchange = Exchange(
            calls=calls,
            # the node may hold on to its own
            replies=[dict(reply) for reply in replies],
            is_batch=is_batch,
            ask=self._ask,
            random=self.random,
            figures=self.figures,
        )
        sent = await self.tampered(exchange)
        self._note(calls, ", ".join(exchange.told) or "ok")
        return sent

    async def _ask(self, method: str, *params: object) -> Any:
        return self.node_reply({"jsonrpc": "2.0", "id": 0, "method": method, "params": params}).get("result")

    def _note(self, calls: list[Json], outcome: str) -> None:
        if self._on_exchange is not None:
            self._on_exchange(self, tuple([call["method"] for call in calls]), outcome)


class SimulatedSession:
    """A `chains.post.HttpSession`, one of each process: what it sends and takes passes the process's gate."""

    def __init__(self, providers: Mapping[str, SimulatedProvider], *, gate: Gate) -> None:
        """`providers`: by the host of their URL. `gate`: awaited before a request leaves, and before an answer or a
        failure is handed over; what it raises goes up.
        """
        self._providers = providers
        self._gate = gate
        self._by_url: dict[str, SimulatedProvider] = {}
        self._is_closed = False

    def post(
        self,
        url: str,
        *,
        data: bytes,
        headers: Mapping[str, str],
        timeout: aiohttp.ClientTimeout,
        allow_redirects: bool,
    ) -> _Posting:
        """Raises as aiohttp's, when entered. `LookupError`: the world has no such host."""
        return _Posting(self._provider(url), data, self._gate)

    async def close(self) -> None:
        self._is_closed = True

    def _provider(self, url: str) -> SimulatedProvider:
        if self._is_closed:
            raise RuntimeError("Session is closed")  # aiohttp's own words
        found = self._by_url.get(url)
        if found is None:
            host = checked_host(url)
            if host not in self._providers:
                raise LookupError(f"there is no simulated host {host}")
            found = self._by_url[url] = self._providers[host]
        return found


class _Posting:
    """One request; entered, it is sent."""

    __slots__ = ("_data", "_gate", "_provider")

    def __init__(self, provider: SimulatedProvider, data: bytes, gate: Gate) -> None:
        self._provider = provider
        self._data = data
        self._gate = gate

    async def __aenter__(self) -> _Response:
        await self._gate()
        sent = await self._provider.answer(self._data)
        wait_s = self._provider.draw_latency_s() + (0.0 if sent is None else sent.delay_s)
        if wait_s > 0:
            # after the node was asked: what it says may be outdated when it arrives
            await asyncio.sleep(wait_s)
        if sent is not None and sent.status is None and sent.end is End.SILENCE:
            await _forever()
        await self._gate()
        if sent is None:
            raise _refused_by(self._provider.name)
        if sent.status is None:
            raise _lost(sent.end)
        return _Response(sent, sent.status, self._provider)

    async def __aexit__(self, *_: object) -> None:
        return None


class _Response:
    """A `chains.post.HttpResponse`, and its content."""

    __slots__ = ("_chunks", "_end", "content_length", "headers", "status")

    def __init__(self, sent: Sent, status: int, provider: SimulatedProvider) -> None:
        self.status = status
        self.headers = sent.headers
        self.content_length = sent.content_length
        self._chunks = sent.chunks(provider.figures, is_in_memory=True)
        self._end = sent.end

    @property
    def content(self) -> Self:
        return self

    def iter_any(self) -> AsyncIterator[bytes]:
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        chunk = next(self._chunks, None)
        if chunk is not None:
            return chunk
        if self._end is End.WHOLE:
            raise StopAsyncIteration
        if self._end is End.SILENCE:
            await _forever()
        raise aiohttp.ClientPayloadError("Response payload is not completed")


async def _forever() -> NoReturn:
    """Until it is cancelled: who hangs up is the client."""
    await asyncio.get_running_loop().create_future()
    raise AssertionError("a future that nobody sets")


def _lost(end: End) -> aiohttp.ClientError:
    """What aiohttp raises where a connection ends before its answer began."""
    if end is End.RESET:
        return aiohttp.ClientOSError(errno.ECONNRESET, "Connection reset by peer")
    return aiohttp.ServerDisconnectedError()


def _refused_by(host: str) -> aiohttp.ClientConnectorError:
    key = ConnectionKey(
        host=host, port=_PORT, is_ssl=False, ssl=True, proxy=None, proxy_auth=None, proxy_headers_hash=None
    )
    return aiohttp.ClientConnectorError(key, ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed"))
