"""Sends one webhook once and tells what came back. `WebhookSender` is the port, `HttpSender` the real thing.

Promises: whatever the endpoint does, `send` returns within a bound and has read a bounded number of bytes; it
follows no redirect, keeps no cookie and no connection, uses no proxy, inflates nothing; and unless private
addresses are allowed it connects only to addresses that `settler.webhook.guard` lets pass. What does not
belong here: trying again.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol, Self, TypeVar, cast

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler

from settler import __version__
from settler.clock import Clock
from settler.domain.delivery import Answered, NoAnswer, Reply, parse_retry_after
from settler.domain.errors import InvalidInput
from settler.webhook.guard import check_url, refusal

T = TypeVar("T")

TIMEOUT_S = 15.0
"""From the first byte of DNS to the status line; Standard Webhooks advises 15 to 30 s."""
DRAIN_S = 1.0
DRAIN_BYTES = 65_536
"""How long and how much of an answer's body is read after the status, which alone counts: hanging up at once
would break receivers that stop working when their client is gone."""
ANSWER_BYTES = 131_072
"""Of an answer altogether, as it comes off the wire: headers, hints that go before them (1xx), framing. Parsing costs
time that all tasks of this process share."""
BODY_BYTES = 1_048_576
"""Far above the 20 kB that Standard Webhooks advises; a larger body is not sent."""
RESOLVER_THREADS = 256
"""Name servers that never answer hold threads of our own, not those the rest of the process waits for. Twice as many as
sends may be under way, since a look-up outlives the send that gave up on it: nobody waits for a thread."""


class WebhookSender(Protocol):
    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """POSTs exactly `body` with `headers` to `url`, once. Never raises for what the endpoint or the
        network does."""
        ...


class AddressRefused(OSError):
    """A URL led to an address we do not call. Caught by `HttpSender.send`: a failed attempt."""


class AnswerTooLong(OSError):
    """More came back than anybody has to say to a webhook. Caught by `HttpSender.send`: a failed attempt."""


class HttpSender:
    """Made inside the running event loop; closed by `close` or as a context manager."""

    def __init__(
        self,
        *,
        clock: Clock,
        allow_private: bool,
        resolver: AbstractResolver | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """`allow_private` switches the address check off: `[webhooks] allow_private_addresses`."""
        self._clock = clock
        self._allow_private = allow_private
        self._timeout_s = timeout_s
        vet = _vet_nothing if allow_private else _vet
        connector = _BoundedConnector(
            resolver=VettingResolver(resolver or SystemResolver(), vet),
            # The last word before each connect, and the only one for IP addresses in the URL: those are not
            # resolved.
            socket_factory=functools.partial(_vetted_socket, vet),
            use_dns_cache=False,
            force_close=True,  # each attempt connects, and so is checked, anew
            limit=0,  # the dispatch stage bounds how many are under way
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),  # one time-out, in `send`
            auto_decompress=False,
            headers={"user-agent": f"settler/{__version__}", "accept-encoding": "identity"},
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._session.close()

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        if len(body) > BODY_BYTES:
            return NoAnswer(reason=f"not sent: {len(body)} bytes, the limit is {BODY_BYTES}")
        try:
            check_url(url, allow_private=self._allow_private)
            async with asyncio.timeout(self._timeout_s):
                response = await self._session.post(url, data=body, headers=headers, allow_redirects=False)
        except InvalidInput as error:  # stored before the configuration forbade it
            return NoAnswer(reason=f"refused: {error}")
        except TimeoutError:
            return NoAnswer(reason=f"no answer within {self._timeout_s:g} s")
        except (aiohttp.ClientError, OSError, UnicodeError) as error:
            return NoAnswer(reason=_reason(error))
        try:
            await _drain(response)
        finally:
            response.close()
        return Answered(
            status_code=response.status,
            retry_after_s=parse_retry_after(response.headers.get("retry-after"), self._clock.now()),
        )


class SystemResolver(AbstractResolver):
    """`getaddrinfo` on threads of its own, which the end of the process waits for as little as sends do: an executor's
    would be joined, for as long as a dead name server takes."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(RESOLVER_THREADS)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        ask = functools.partial(
            socket.getaddrinfo, host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
        )
        await self._free.acquire()
        found = await _on_a_thread(ask, self._free.release)
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=family_,
                proto=proto,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for family_, _, proto, _, address in found
        ]

    async def close(self) -> None:
        pass


def _on_a_thread(ask: Callable[[], T], on_end: Callable[[], None]) -> asyncio.Future[T]:
    """What `ask` returns or raises. `on_end` is called in the loop when the thread has ended, whoever still waits."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def end(result: T | None, error: BaseException | None) -> None:
        on_end()
        if answer.done():  # nobody waits any more
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(cast(T, result))

    def run() -> None:
        result, failed = None, None
        try:
            result = ask()
        except Exception as error:  # noqa: BLE001 - raised again where it is waited for
            failed = error
        with contextlib.suppress(RuntimeError):  # the loop is gone
            loop.call_soon_threadsafe(end, result, failed)

    try:
        threading.Thread(target=run, name="webhook-dns", daemon=True).start()
    except RuntimeError as error:  # this host has no more of them
        on_end()
        raise OSError(f"the name server was not asked: {error}") from error
    return answer


class Vet(Protocol):
    def __call__(self, address: str) -> None:
        """Raises `AddressRefused` if `address` is not to be called."""
        ...


class VettingResolver(AbstractResolver):
    """Asks `inner` once; refuses a name of which any address is refused: nobody has an honest reason for a
    mixture."""

    def __init__(self, inner: AbstractResolver, vet: Vet) -> None:
        self._inner = inner
        self._vet = vet

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        for result in found:
            self._vet(result["host"])
        return found

    async def close(self) -> None:
        await self._inner.close()


class _BoundedProtocol(ResponseHandler):
    """Reads `ANSWER_BYTES` of a connection and hangs up. aiohttp bounds each header and their number, but not how many
    1xx answers or how much framing a peer may send until the time is up."""

    left = ANSWER_BYTES

    def data_received(self, data: bytes) -> None:
        taken, self.left = data[: self.left], max(0, self.left - len(data))
        super().data_received(taken)
        if self.left == 0 and self.transport is not None:
            self.set_exception(AnswerTooLong(f"more than {ANSWER_BYTES} bytes came back"))
            self.transport.abort()


class _BoundedConnector(aiohttp.TCPConnector):
    def __init__(self, **how: Any) -> None:  # as TCPConnector's own
        super().__init__(**how)
        self._factory = functools.partial(_bounded, loop=self._loop)


def _bounded(loop: asyncio.AbstractEventLoop) -> ResponseHandler:
    return _BoundedProtocol(loop=loop)


def _vet(address: str) -> None:
    word = refusal(address)
    if word is not None:
        raise AddressRefused(f"refused: {address} is a {word} address")


def _vet_nothing(address: str) -> None:
    pass


def _vetted_socket(vet: Vet, info: aiohttp.AddrInfoType) -> socket.socket:
    family, type_, proto, _, address = info
    vet(str(address[0]))
    return socket.socket(family, type_, proto)


async def _drain(response: aiohttp.ClientResponse) -> None:
    left = DRAIN_BYTES
    with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
        async with asyncio.timeout(DRAIN_S):
            while left > 0 and (chunk := await response.content.read(left)):
                left -= len(chunk)


def _reason(error: Exception) -> str:
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, AddressRefused):
        return str(cause)
    return f"{type(error).__name__}: {cause}"
