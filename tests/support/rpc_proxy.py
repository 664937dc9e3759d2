"""Stands between the daemon and a node and understands JSON-RPC: counts what is asked, and tells what it was given to
tell.

    async with RpcProxy(node.url) as proxy:
        proxy.inject(FAULTS["tampered amount"], probability=0.3)    # from now on
        proxy.be_honest()                                           # again
        proxy.told["tampered amount"]                               # how often

Its counters are the truth a test compares the daemon's figures with. All that is not told otherwise, receipts too,
is the node's own.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Self

import aiohttp
import msgspec
from aiohttp import web

from tests.support.faults.model import Exchange, Fault, Harm, Json, changed_results

Lie = Callable[[Any, Any], Any]
"""(params, the honest result) to the result that is told."""

_HEADERS = {"Content-Type": "application/json"}
FOREVER = float("inf")


@dataclass(slots=True, kw_only=True)
class _Injected:
    fault: Fault
    probability: float
    methods: frozenset[str] | None
    left: float


class RpcProxy:
    """`async with RpcProxy(node.url) as proxy:`"""

    def __init__(self, upstream: str, *, seed: object = 0) -> None:
        """`seed`: what is drawn, whether a fault strikes and what it then does, depends on it and on the requests."""
        self._upstream = upstream
        self._random = random.Random(f"{seed}")
        self._injected: dict[str, _Injected] = {}
        self.calls: Counter[str] = Counter()
        """By method; those of a batch one by one."""
        self.told: Counter[str] = Counter()
        """Requests by the faults that struck; a lie by its method."""
        self.figures: Counter[str] = Counter()
        """What faults noted."""
        self.requests = 0
        """Over HTTP."""
        self.url = ""
        self._speaks = asyncio.Event()
        self._speaks.set()

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

    def lie(self, method: str, lie: Lie, *, times: float = FOREVER) -> None:
        """Answers the method with `lie` from now on, `times` times, or until `be_honest`."""
        change = changed_results(lambda params, result, _exchange: lie(params, result))
        self.inject(Fault(name=method, harm=Harm.LIE, change=change, methods=frozenset({method})), times=times)

    def be_silent(self) -> None:
        """Takes requests and answers none, until `be_honest`."""
        self._speaks.clear()

    def be_honest(self) -> None:
        self._injected.clear()
        self._speaks.set()

    async def ask(self, method: str, *params: object) -> Any:
        """The node's own result."""
        call = {"jsonrpc": "2.0", "id": 0, "method": method, "params": params}
        return msgspec.json.decode(await self._forward(msgspec.json.encode(call)))["result"]

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession()
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/", self._handle)
        # cancellation: who hangs up is not waited for by a fault that never answers
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._speaks.set()
        await self._runner.cleanup()
        await self._session.close()

    # -- one request ---------------------------------------------------------------------------------------------------

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        asked = msgspec.json.decode(raw)
        calls: list[Json] = asked if isinstance(asked, list) else [asked]
        self.requests += 1
        self.calls.update(call["method"] for call in calls)
        await self._speaks.wait()
        try:
            answer = msgspec.json.decode(await self._forward(raw))
        except aiohttp.ClientError:
            return web.Response(status=502, text="no upstream")
        by_id = {reply["id"]: reply for reply in (answer if isinstance(answer, list) else [answer])}
        exchange = Exchange(
            calls=calls,
            replies=[by_id[call["id"]] for call in calls],
            is_batch=isinstance(asked, list),
            ask=self.ask,
            random=self._random,
            figures=self.figures,
        )
        return await self._answer(request, exchange)

    async def _answer(self, request: web.Request, exchange: Exchange) -> web.StreamResponse:
        """What is told first, then how it is sent: of several faults that break the sending, one does."""
        struck = [each for each in self._injected.values() if self._strikes(each, exchange)]
        for each in struck:
            exchange.methods = each.methods
            if each.fault.change is not None and each.left > 0 and await each.fault.change(exchange):
                self._count(each)
        body = msgspec.json.encode(exchange.replies if exchange.is_batch else exchange.replies[0])
        for each in struck:
            if each.fault.send is not None and (exchange.is_batch or not each.fault.is_about_batches):
                self._count(each)
                return await each.fault.send(request, exchange, body)
        return web.Response(body=body, status=exchange.status, headers=_HEADERS)

    def _strikes(self, each: _Injected, exchange: Exchange) -> bool:
        is_about_it = each.methods is None or any(call["method"] in each.methods for call in exchange.calls)
        return is_about_it and self._random.random() < each.probability

    def _count(self, each: _Injected) -> None:
        self.told[each.fault.name] += 1
        each.left -= 1
        if each.left <= 0 and self._injected.get(each.fault.name) is each:
            del self._injected[each.fault.name]

    async def _forward(self, raw: bytes) -> bytes:
        async with self._session.post(self._upstream, data=raw, headers=_HEADERS) as response:
            return await response.read()
