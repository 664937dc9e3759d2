"""Webhook receivers of a simulated world, behind the real `HttpSender`, and what they know to be true.

    receivers = Receivers(random, true_clock)
    shop = receivers.add("shop.example")          # shop.url and shop.secrets for the endpoint's row
    sender = receivers.sender(clock, life)        # of one process
    receivers.inject("410 gone", 0.01)
    shop.processed, receivers.violations          # for the checkers

Each receiver verifies as docs/examples/receiver.py tells merchants to: signature over the raw body, a timestamp within
five minutes, one body under one id. It does so with code of its own, none of `settler.webhook`'s. Where the sender may
never go, somebody listens and writes down who came.

What does not belong here: what faults do (`receiver_faults`), how bytes travel (`receiver_net`), whether all events
arrived (`checks`).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

from settler.clock import Clock
from settler.domain.ids import EventId
from settler.simulation.life import Life
from settler.simulation.receiver_faults import (
    ANSWER_FAULTS,
    CONNECT_FAULTS,
    FAULTS,
    NAME_FAULTS,
    PRIVATE,
    Plan,
    Scene,
    refused,
    well,
)
from settler.simulation.receiver_net import Peer, SimulatedNetwork, Wire
from settler.simulation.receiver_records import PATH, Processed, Receiver, Violation
from settler.simulation.receiver_requests import Request, Wrong, event_type, is_timely
from settler.simulation.receiver_visits import Trap, Visit, WatchedSender

__all__ = ["FAULTS", "Processed", "Receiver", "Receivers", "Violation"]


class Receivers:
    """All of a world's. Outlives processes. A `receiver_net.Internet`."""

    def __init__(
        self,
        drawn: random.Random,
        clock: Clock,
        *,
        on_trace: Callable[[str], None] | None = None,
        timestamps_may_be_off: bool = False,
    ) -> None:
        """`clock`: the true one."""
        self.struck: Counter[str] = Counter()
        """How often each fault did something."""
        self.violations: list[Violation] = []
        self.timestamps_may_be_off = timestamps_may_be_off
        """Clocks jump or processes stand still: an old timestamp is answered 401, as everywhere, and no violation."""
        self.refused = 0
        """Requests answered 401 for an old timestamp."""
        self._random = drawn
        self._clock = clock
        self._on_trace = on_trace
        self._by_host: dict[str, Receiver] = {}
        self._by_address: dict[str, Receiver] = {}
        self._faults: dict[str, float] = {}
        self._places: list[str] = []
        """Where redirects to receivers lead."""

    # -- the world's side ----------------------------------------------------------------------------------------------

    def add(self, host: str, *, secret: str | None = None, think_s: tuple[float, float] = (0.005, 0.2)) -> Receiver:
        """A receiver at `http://host/hook` that behaves, but for the faults injected so far. Draws a `secret` if it is
        given none.
        """
        number = len(self._by_host)
        addresses: tuple[str, ...] = (f"93.184.{number // 250}.{number % 250 + 1}",)
        if number % 2:
            addresses = (f"2606:2800:220:1::{number:x}", *addresses)
        receiver = Receiver(
            host=host,
            addresses=addresses,
            secrets=[secret if secret is not None else self._new_secret()],
            think_s=think_s,
            faults=dict(self._faults),
        )
        self._by_host[host] = receiver
        self._places.append(f"http://{host}")
        self._by_address.update(dict.fromkeys(addresses, receiver))
        return receiver

    def __iter__(self) -> Iterator[Receiver]:
        return iter(self._by_host.values())

    def network(self, life: Life, *, allow_private: bool = False) -> SimulatedNetwork:
        """What `HttpSender(network=…)` of one process takes."""
        return SimulatedNetwork(self, life, allow_private=allow_private)

    def sender(self, clock: Clock, life: Life, *, allow_private: bool = False) -> WatchedSender:
        """The real one, of a process with this clock."""
        network = self.network(life, allow_private=allow_private)
        sender = WatchedSender(clock=clock, allow_private=allow_private, network=network)
        sender.on_failed = self._failed
        return sender

    def _failed(self, host: str, event_id: str) -> None:
        receiver = self._by_host.get(host)
        if receiver is not None:
            receiver.failed[EventId(event_id)] += 1

    def inject(self, name: str, probability: float, host: str | None = None) -> None:
        """At one receiver, or at all, also those added later."""
        assert name in FAULTS, f"no such fault: {name!r}"
        if host is None:
            self._faults[name] = probability
        for receiver in self._those(host):
            receiver.faults[name] = probability

    def withdraw(self, name: str, host: str | None = None) -> None:
        if host is None:
            self._faults.pop(name, None)
        for receiver in self._those(host):
            receiver.faults.pop(name, None)

    def heal(self, host: str | None = None) -> None:
        """No fault any more; what is under way still ends as it was to."""
        if host is None:
            self._faults.clear()
        for receiver in self._those(host):
            receiver.faults.clear()
            receiver.bound_to = None

    def _those(self, host: str | None) -> list[Receiver]:
        return list(self._by_host.values()) if host is None else [self._by_host[host]]

    def _new_secret(self) -> str:
        return "whsec_" + base64.b64encode(self._random.randbytes(32)).decode("ascii")

    # -- names and addresses -------------------------------------------------------------------------------------------

    async def look_up(self, host: str) -> list[str]:
        receiver = self._by_host.get(host)
        if receiver is None:
            if host == "localhost":
                return ["127.0.0.1"]
            raise _not_found()
        if receiver.bound_to is not None:
            bound_to, receiver.bound_to = receiver.bound_to, None
            return bound_to
        match self._draw(receiver, NAME_FAULTS):
            case "name does not resolve":
                raise _not_found()
            case "name server is silent":
                await asyncio.sleep(60.0)
                raise _not_found()
            case "DNS rebinding":
                return self._rebind(receiver)
            case _:
                return list(receiver.addresses)

    def _rebind(self, receiver: Receiver) -> list[str]:
        """A private address now, among public ones, or at the next look-up."""
        private, public = self._random.choice(PRIVATE), list(receiver.addresses)
        match self._random.randrange(3):
            case 0:
                return [private]
            case 1:
                return [private, *public] if self._random.random() < 0.5 else [*public, private]
            case _:
                receiver.bound_to = [private]
                return public

    async def connect(self, address: str, port: int, *, is_trusted: bool) -> Peer:
        receiver = self._by_address.get(address)
        if receiver is None or port != 80:
            if receiver is None and address in PRIVATE and not is_trusted:
                self._violated(address, f"a connection to a private address, port {port}")
                return Trap()
            raise ConnectionRefusedError(111, f"Connect call failed ({address!r}, {port})")
        match self._draw(receiver, CONNECT_FAULTS):
            case "refuses connections":
                raise ConnectionRefusedError(111, f"Connect call failed ({address!r}, {port})")
            case "connection hangs":
                await asyncio.sleep(130.0)  # as long as Linux tries
                raise TimeoutError(110, f"Connect call failed ({address!r}, {port})")
            case _:
                return Visit(
                    on_request=lambda request, wire, visit: self._receive(receiver, request, wire, visit),
                    on_violation=lambda what: self._violated(receiver.host, what),
                )

    def _draw(self, receiver: Receiver, names: Iterable[str]) -> str | None:
        """One of the faults that strike now, and counts it."""
        faults = receiver.faults
        if not faults:
            return None
        drawn = self._random
        hits = [name for name in names if name in faults and drawn.random() < faults[name]]
        if not hits:
            return None
        hit = hits[0] if len(hits) == 1 else drawn.choice(hits)
        self.struck[hit] += 1
        return hit

    # -- requests ------------------------------------------------------------------------------------------------------

    def _receive(self, receiver: Receiver, request: Request, wire: Wire, visit: Visit) -> None:
        """Plans what becomes of a request, and sets it going: it goes on when the client is gone."""
        scene = Scene(self._random, self._clock.now(), self._random.uniform(*receiver.think_s), self._places)
        type_ = self._verified(receiver, request, scene.now)
        if type_ is None:
            plan, how = refused(scene), "refused"
        else:
            name = self._draw(receiver, ANSWER_FAULTS)
            plan, how = (well(scene), "well") if name is None else (ANSWER_FAULTS[name](scene), name)
        visit.says_success = plan.code is not None and 200 <= plan.code <= 299
        if self._on_trace is not None:
            self._on_trace(f"{receiver.host} {request.headers.get('webhook-id')}: {how} {plan.code or '-'}")
        asyncio.get_running_loop().call_later(plan.think_s, self._act, receiver, request, type_, plan, wire)

    def _verified(self, receiver: Receiver, request: Request, now: datetime) -> str | None:
        """The event's type; `None`: not to be processed."""
        type_ = event_type(request, host=receiver.host, path=PATH, secrets=receiver.secrets)
        if isinstance(type_, Wrong):
            self._violated(receiver.host, type_.what)
            return None
        if is_timely(request, now):
            return type_
        self.refused += 1
        if not self.timestamps_may_be_off:
            self._violated(receiver.host, f"{request.id} came {now - request.sent_at} after its timestamp")
        return None

    def _act(self, receiver: Receiver, request: Request, type_: str | None, plan: Plan, wire: Wire) -> None:
        if plan.processes and type_ is not None:
            self._process(receiver, request, type_, plan)
        if plan.code is not None:
            receiver.answered[plan.code] += 1
        wire.say(iter(plan.parts), plan.end)

    def _process(self, receiver: Receiver, request: Request, type_: str, plan: Plan) -> None:
        id_, body = EventId(request.id), request.body
        before = receiver.first.get(id_)
        if before is not None and before.body == body:
            body, sha256 = before.body, before.sha256  # kept once, however often it comes
        else:
            sha256 = hashlib.sha256(body).hexdigest()
            if before is not None:
                self._violated(receiver.host, f"two bodies under the id {id_}")
        taken = Processed(
            event_id=id_,
            type=type_,
            body=body,
            sha256=sha256,
            sent_at=request.sent_at,
            at=self._clock.now(),
            answered=plan.code,
        )
        receiver.processed.append(taken)
        receiver.times[id_] += 1
        receiver.first.setdefault(id_, taken)

    def _violated(self, host: str, what: str) -> None:
        self.violations.append(Violation(at=self._clock.now(), host=host, what=what))


def _not_found() -> OSError:
    return socket.gaierror(-2, "Name or service not known")
