"""A network in memory for the real `HttpSender`: names, addresses and connections without a socket.

All that ships runs: the vetting of names and of each address, the bounded reading, aiohttp's client and parser. What
stands in for the kernel is `Wire`, a transport whose other end is a simulated peer, and the step of the connector that
would open a socket. One end passes the gate of its process's life: nothing leaves or reaches a process that stands
still, and a process that died is gone for its peer, and its peers for it. No TLS: a URL with https:// finds nobody.

What does not belong here: who is at an address, and what it says (`settler.simulation.receivers`).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler

from settler.simulation.life import Dead, Life
from settler.simulation.receiver_faults import End, Part
from settler.webhook.network import BoundedConnector, Vet

BURIED_AFTER_S = 1.0
"""From a death to the closing of what was left open. Until then, what still runs of the process meets `Dead`, and not
the `RuntimeError` of a session that was closed behind its back."""


class Peer(Protocol):
    """The other end of one connection."""

    def take(self, wire: Wire, data: bytes) -> None:
        """The client wrote `data`."""
        ...

    def told(self, data: bytes) -> None:
        """The client takes `data`."""
        ...


class Internet(Protocol):
    async def look_up(self, host: str) -> list[str]:
        """Addresses of `host`, at least one. Raises `OSError` if it has none."""
        ...

    async def connect(self, address: str, port: int, *, is_trusted: bool) -> Peer:
        """Who listens there. Raises `OSError` if nobody does. `is_trusted`: the caller may go to private addresses."""
        ...


class SimulatedNetwork:
    """A `settler.webhook.network.Network`: one process's way to the simulated `internet`."""

    def __init__(self, internet: Internet, life: Life, *, allow_private: bool) -> None:
        self.internet = internet
        self.life = life
        self.allow_private = allow_private
        self._open: dict[Wire, None] = {}  # in order: what one death does to many connections is the same in every run
        self._connectors: list[SimulatedConnector] = []
        life.on_kill(self._die)

    def connector(self, vet: Vet) -> BoundedConnector:
        made = SimulatedConnector(self, vet)
        self._connectors.append(made)
        return made

    def wire(self, protocol: ResponseHandler, peer: Peer) -> Wire:
        wire = Wire(asyncio.get_running_loop(), protocol, self.life, peer, self._open)
        self._open[wire] = None
        protocol.connection_made(wire)
        return wire

    def _die(self) -> None:
        for wire in list(self._open):
            wire.die()
        for connector in self._connectors:
            asyncio.get_running_loop().call_later(BURIED_AFTER_S, connector.forget)


class _Resolver(AbstractResolver):
    def __init__(self, network: SimulatedNetwork) -> None:
        self._network = network

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        await self._network.life.gate()
        addresses = await self._network.internet.look_up(host)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        pass


class SimulatedConnector(BoundedConnector):
    def __init__(self, network: SimulatedNetwork, vet: Vet) -> None:
        super().__init__(_Resolver(network), vet)
        self._network = network

    async def _wrap_create_connection(
        self,
        *args: Any,  # as TCPConnector's own: the protocol's factory
        addr_infos: list[aiohttp.AddrInfoType],
        req: aiohttp.ClientRequest,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - as TCPConnector's own
        client_error: type[Exception] = aiohttp.ClientConnectorError,
        **kwargs: Any,
    ) -> tuple[asyncio.Transport, ResponseHandler]:
        """Where TCPConnector opens a socket. Tries the first address; the caller goes on to the next."""
        address = addr_infos[0][4]
        try:
            if kwargs.get("ssl") is not None:
                raise ConnectionRefusedError(111, "nobody speaks TLS in a simulated network")
            self.vet(str(address[0]))  # as `_vetted_socket` does it
            peer = await self._dial(str(address[0]), int(address[1]))
        except OSError as error:
            raise client_error(req.connection_key, error) from error
        protocol: ResponseHandler = args[0]()
        return self._network.wire(protocol, peer), protocol

    async def _dial(self, address: str, port: int) -> Peer:
        network = self._network
        await network.life.gate()
        peer = await network.internet.connect(address, port, is_trusted=network.allow_private)
        await network.life.gate()
        return peer

    def forget(self) -> None:
        """Its process is dead: closed without a wait, so that nobody complains that it was left open."""
        self._close()


class Wire(asyncio.Transport):
    """Our end of one connection. What the peer says comes in parts, each after a wait, and only while we read."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        protocol: ResponseHandler,
        life: Life,
        peer: Peer,
        still_open: dict[Wire, None],
    ) -> None:
        super().__init__()
        self._loop = loop
        self._protocol = protocol
        self._life = life
        self._peer = peer
        self._still_open = still_open
        self._is_closing = False
        self._is_paused = False
        self._held: bytes | None = None
        """Arrived while we did not read."""
        self._parts: Iterator[Part] = iter(())
        self._end = End.HANGS
        self._timer: asyncio.TimerHandle | None = None
        self._at_the_gate: list[asyncio.Task[None]] = []

    # -- our side, as aiohttp uses it ----------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._pass(self._send, bytes(data))

    def _send(self, data: bytes) -> None:
        if not self._is_closing and not self._life.is_dead:
            self._peer.take(self, data)

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        self._lose(None)

    def abort(self) -> None:
        self._lose(None)

    def pause_reading(self) -> None:
        self._is_paused = True

    def resume_reading(self) -> None:
        self._is_paused = False
        if self._held is not None:
            held, self._held = self._held, None
            self._loop.call_soon(self._hand_over, held)

    # -- the peer's side -----------------------------------------------------------------------------------------------

    def say(self, parts: Iterator[Part], end: End) -> None:
        """Says all of it, then ends. Who hung up hears nothing of it."""
        self._parts = parts
        self._end = end
        self._say_next()

    def _say_next(self) -> None:
        if self._is_closing:
            return
        part = next(self._parts, None)
        if part is None:
            self._pass(self._finish)
        elif part[0] > 0:
            self._timer = self._loop.call_later(part[0], self._pass, self._hand_over, part[1])
        else:
            self._loop.call_soon(self._pass, self._hand_over, part[1])

    def _hand_over(self, data: bytes) -> None:
        if self._is_closing:
            return
        if self._is_paused:
            self._held = data
            return
        self._peer.told(data)
        self._protocol.data_received(data)
        self._say_next()

    def _finish(self) -> None:
        if self._is_closing or self._end is End.HANGS:
            return
        if self._end is End.RESETS:
            self._lose(ConnectionResetError(104, "Connection reset by peer"))
        else:
            self._protocol.eof_received()
            self._lose(None)

    # -- life ----------------------------------------------------------------------------------------------------------

    def _pass(self, step: Callable[..., None], *args: bytes) -> None:
        """`step`, now or when the process moves again."""
        if not self._life.is_frozen and not self._at_the_gate:
            step(*args)
            return
        self._at_the_gate.append(self._loop.create_task(self._wait_and(step, *args)))

    async def _wait_and(self, step: Callable[..., None], *args: bytes) -> None:
        try:
            await self._life.gate()
        except Dead:
            return  # `die` told those who wait
        finally:
            self._at_the_gate.pop(0)  # they wait, and are woken, in this order
        step(*args)

    def die(self) -> None:
        """The process is gone, and the connection with it."""
        self._protocol.set_exception(Dead(self._life.name))
        self._lose(None)

    def _lose(self, error: Exception | None) -> None:
        if self._is_closing:
            return
        self._is_closing = True
        if self._timer is not None:
            self._timer.cancel()
        del self._still_open[self]
        self._loop.call_soon(self._protocol.connection_lost, error)
