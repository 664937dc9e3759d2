"""Which faults strike a request: what `RpcProxy` does over HTTP and `SimulatedProvider` in memory, they do by this.

provider.inject(FAULTS["tampered amount"], probability=0.3)    # from now on
provider.withdraw(FAULTS["tampered amount"])
provider.be_honest()                                           # all is well again
provider.told["tampered amount"]                               # how often
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

import msgspec

from chains.faults.model import Exchange, Fault, Sent

FOREVER = float("inf")

_encode = msgspec.json.Encoder().encode


@dataclass(slots=True, kw_only=True)
class _Injected:
    fault: Fault
    probability: float
    methods: frozenset[str] | None
    left: float


class Injector:
    """Faults at work, and how often each was told. Whoever inherits it has a node, and sends what `tampered` says."""

    def __init__(self, drawn: random.Random) -> None:
        """`drawn`: whether a fault strikes and what it then does depends on it, on the faults injected, in their order,
        and on the requests.
        """
        self.random = drawn
        self.calls: Counter[str] = Counter()
        """By method; those of a batch one by one."""
        self.told: Counter[str] = Counter()
        """Requests by the faults that struck."""
        self.figures: Counter[str] = Counter()
        """What faults noted."""
        self.requests = 0
        """Over HTTP."""
        self._injected: dict[str, _Injected] = {}

    @property
    def injected(self) -> tuple[str, ...]:
        """The names of the faults at work, in the order they were injected."""
        return tuple(self._injected)

    def inject(
        self,
        fault: Fault,
        *,
        probability: float = 1.0,
        methods: Collection[str] | None = None,
        times: float = FOREVER,
    ) -> None:
        """From now on the fault strikes requests with this probability, `times` times, or until it is withdrawn.

        `methods`: the calls it may touch; else all it is about. Injected again, it replaces itself.
        """
        about = fault.methods if methods is None else frozenset(methods) & (fault.methods or frozenset(methods))
        self._injected[fault.name] = _Injected(fault=fault, probability=probability, methods=about, left=times)

    def withdraw(self, fault: Fault) -> None:
        self._injected.pop(fault.name, None)

    def be_honest(self) -> None:
        self._injected.clear()

    async def tampered(self, exchange: Exchange) -> Sent:
        """What is told first, then how it is sent: of several faults that break the sending, one does."""
        struck = [each for each in self._injected.values() if self._strikes(each, exchange)]
        for each in struck:
            exchange.methods = each.methods
            if each.fault.change is not None and each.left > 0 and await each.fault.change(exchange):
                self._count(each, exchange)
        body = _encode(exchange.replies if exchange.is_batch else exchange.replies[0])
        for each in struck:
            if each.fault.send is not None and (exchange.is_batch or not each.fault.is_about_batches):
                self._count(each, exchange)
                return each.fault.send(exchange, body)
        return Sent(body=body, status=exchange.status)

    def _strikes(self, each: _Injected, exchange: Exchange) -> bool:
        is_about_it = each.methods is None or any(call["method"] in each.methods for call in exchange.calls)
        return is_about_it and self.random.random() < each.probability

    def _count(self, each: _Injected, exchange: Exchange) -> None:
        exchange.told.append(each.fault.name)
        self.told[each.fault.name] += 1
        each.left -= 1
        if each.left <= 0 and self._injected.get(each.fault.name) is each:
            del self._injected[each.fault.name]
