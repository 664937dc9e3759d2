"""The connections of the API's server, and what each may cost: how many there are, how long a request's head may take,
how long an answer may lie unread.

Promises, whatever clients do: there are at most `max_connections`, and of one address at most `max_per_address`; one
that idles makes room for one that comes; a head that is not complete in time, an answer that is not read and a close
that is not taken end the connection. What does not belong here: bodies (`settler.api.body`), and how often somebody
may ask (`settler.api.limits`).

aiohttp bounds the rest: heads in bytes and lines, requests queued on one connection, idle time between requests.

    #  connect ──▶ idle ── first byte ──▶ head ── parsed ──▶ handled, answered ──▶ idle …
    #              idle_timeout_s         head_timeout_s     HANDLER_TIMEOUT_S; unread: write_timeout_s

Times are looked at by one sweep a second over all connections, not by a timer each.
"""

from __future__ import annotations

import socket
import struct
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from settler.api.addresses import Network, grouped, is_in, parse


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    max_connections: int = 1_000
    """Each costs some 10 kB and a file descriptor."""
    max_per_address: int = 200
    """0: as many as there may be in all. Loopback and `proxies` are not counted: a reverse proxy is everybody."""
    proxies: Sequence[Network] = ()
    head_timeout_s: float = 10.0
    """From the first byte of a request to the end of its head: kilobytes, also over the worst of lines."""
    idle_timeout_s: float = 75.0
    """Idle connections are closed after it; longer than the 60 s after which proxies and load balancers close theirs,
    so that no request is sent into a connection we are just closing."""
    write_timeout_s: float = 30.0
    """In each of these, an answer that waits to be read must shrink by `WRITE_LEAST_BYTES` or be gone."""
    close_timeout_s: float = 5.0
    """A connection that we closed may take this long to hand over what was written last."""
    linger_s: float = 5.0
    """What is left of a body that nobody wants is read and thrown away for so long, that the answer is seen; a client
    that sends into a closed connection loses it."""
    sweep_s: float = 1.0
    """Between two looks at all connections: how much later than allowed one may end."""


WRITE_LEAST_BYTES = 65_536
"""In 30 s: 2 kB a second, which the slowest line of a telephone carries."""


class Wire(Protocol):
    """What is asked of a connection's transport; `asyncio.Transport` is one."""

    def is_closing(self) -> bool: ...
    def abort(self) -> None: ...
    def get_write_buffer_size(self) -> int: ...
    def get_extra_info(self, name: str) -> Any: ...


@dataclass(slots=True, eq=False, kw_only=True)
class Connection:
    """One of them. Times are the event loop's; `None`: not so now."""

    wire: Wire
    address: str
    """As it is counted; empty: it is not."""
    head_since: float | None = None
    """The first bytes of a request came, and not all of its head."""
    closing_since: float | None = None
    unread_since: float | None = None
    unread_bytes: int = 0
    """What lay unread then."""


class Refused(Exception):
    """There are too many connections. Caught where one is made."""


class Connections:
    """All of one server."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self._all: set[Connection] = set()
        self._idle: OrderedDict[Connection, None] = OrderedDict()
        """Those without a request under way, the one that idles longest first."""
        self._by_address: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._all)

    def add(self, wire: Wire, peer: str | None, *, is_beyond: bool = False) -> Connection:
        """A new connection, idle. Raises `Refused` where there is no room, and none to be made. `is_beyond`: it needs
        none.
        """
        address = self._counted_as(peer)
        if not is_beyond:
            self._make_room(address)
        made = Connection(wire=wire, address=address)
        self._all.add(made)
        self._idle[made] = None
        if address:
            self._by_address[address] += 1
        return made

    def _make_room(self, address: str) -> None:
        if address and self._by_address[address] >= self.bounds.max_per_address:
            raise Refused(f"{address} has {self._by_address[address]} connections")
        if len(self._all) >= self.bounds.max_connections:
            if not self._idle:
                raise Refused(f"all {len(self._all)} connections are in use")
            longest = next(iter(self._idle))
            longest.wire.abort()
            self.remove(longest)

    def remove(self, gone: Connection) -> None:
        """Told once or more often that a connection ended."""
        if gone not in self._all:
            return
        self._all.discard(gone)
        self._idle.pop(gone, None)
        if gone.address:
            self._by_address[gone.address] -= 1
            if not self._by_address[gone.address]:
                del self._by_address[gone.address]

    def got_bytes(self, of: Connection, now: float) -> None:
        """Something came in; while no request is under way, it is of a head."""
        if of.head_since is None and of in self._idle:
            of.head_since = now

    def began(self, of: Connection) -> None:
        """A request's head is complete, and the request is being handled."""
        of.head_since = None
        self._idle.pop(of, None)

    def ended(self, of: Connection) -> None:
        """Its answer was written."""
        if of in self._all:
            self._idle[of] = None

    def sweep(self, now: float) -> list[Connection]:
        """Ends what took too long; returns those whose head did, which are still open and to be told so."""
        slow: list[Connection] = []
        for each in list(self._all):
            if self._is_stuck(each, now):
                _reset(each.wire)
                self.remove(each)
            elif each.head_since is not None and now - each.head_since >= self.bounds.head_timeout_s:
                each.head_since = None
                slow.append(each)
        return slow

    def abort_all(self) -> None:
        """At the end: what the kernel took over still arrives, what it did not is lost."""
        for each in list(self._all):
            each.wire.abort()
            self.remove(each)

    def _is_stuck(self, each: Connection, now: float) -> bool:
        """Whether it does not take what is sent to it."""
        if each.wire.is_closing():
            each.closing_since = now if each.closing_since is None else each.closing_since
            return now - each.closing_since >= self.bounds.close_timeout_s
        unread = each.wire.get_write_buffer_size()
        if unread == 0:
            each.unread_since = None
            return False
        if each.unread_since is None:
            each.unread_since, each.unread_bytes = now, unread
            return False
        if now - each.unread_since < self.bounds.write_timeout_s:
            return False
        has_moved = unread <= each.unread_bytes - WRITE_LEAST_BYTES
        each.unread_since, each.unread_bytes = now, unread
        return not has_moved

    def _counted_as(self, peer: str | None) -> str:
        address = None if peer is None else parse(peer)
        if not self.bounds.max_per_address or address is None or address.is_loopback:
            return ""
        return "" if is_in(address, self.bounds.proxies) else grouped(address)


def _reset(wire: Wire) -> None:
    """Ends a connection and throws away what is on its way: closed as usual, the kernel would go on offering up to
    megabytes to who does not read."""
    found = wire.get_extra_info("socket")
    if found is not None:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wire.abort()
