"""Where webhooks go out: who finds names, who connects, and which addresses are not connected to.

Promises of every connection that a `BoundedConnector` makes: its address passed `Vet` right before, it serves one
request, and it yields a bounded number of bytes. What does not belong here: what is sent and what an answer means
(`settler.webhook.send`), which addresses are refused (`settler.webhook.guard`).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar, cast

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler

from settler.webhook.guard import refusal

T = TypeVar("T")

ANSWER_BYTES = 131_072
"""Of an answer altogether, as it comes off the wire: headers, hints that go before them (1xx), framing. Parsing costs
time that all tasks of this process share."""
RESOLVER_THREADS = 256
"""Name servers that never answer hold threads of our own, not those the rest of the process waits for. Twice as many as
sends may be under way, since a look-up outlives the send that gave up on it: nobody waits for a thread."""


class AddressRefused(OSError):
    """A URL led to an address we do not call. Caught by `HttpSender.send`: a failed attempt."""


class AnswerTooLong(OSError):
    """More came back than anybody has to say to a webhook. Caught by `HttpSender.send`: a failed attempt."""


class Vet(Protocol):
    def __call__(self, address: str) -> None:
        """Raises `AddressRefused` if `address` is not to be called."""
        ...


def vet(address: str) -> None:
    word = refusal(address)
    if word is not None:
        raise AddressRefused(f"refused: {address} is a {word} address")


def vet_nothing(address: str) -> None:
    pass


class Network(Protocol):
    """What `HttpSender` reaches others through: this machine's network, or a simulated one."""

    def connector(self, vet: Vet) -> BoundedConnector:
        """A new one, inside the running event loop. Its owner closes it."""
        ...


@dataclass(frozen=True, slots=True)
class SystemNetwork:
    """This machine's."""

    resolver: AbstractResolver | None = None
    """Who is asked for names; `None`: `getaddrinfo`."""

    def connector(self, vet: Vet) -> BoundedConnector:
        return BoundedConnector(self.resolver or SystemResolver(), vet)


class BoundedConnector(aiohttp.TCPConnector):
    """Vets twice: all that a name means when it is looked up, and each address when it is connected to."""

    def __init__(self, resolver: AbstractResolver, vet: Vet) -> None:
        self.vet = vet
        super().__init__(
            resolver=VettingResolver(resolver, vet),
            # The last word before each connect, and the only one for IP addresses in the URL: those are not
            # resolved.
            socket_factory=functools.partial(_vetted_socket, vet),
            use_dns_cache=False,
            force_close=True,  # each attempt connects, and so is checked, anew
            limit=0,  # the dispatch stage bounds how many are under way
        )
        self._factory = functools.partial(_bounded, loop=self._loop)


def _vetted_socket(vet: Vet, info: aiohttp.AddrInfoType) -> socket.socket:
    family, type_, proto, _, address = info
    vet(str(address[0]))
    return socket.socket(family, type_, proto)


def _bounded(loop: asyncio.AbstractEventLoop) -> ResponseHandler:
    return _BoundedProtocol(loop=loop)


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
