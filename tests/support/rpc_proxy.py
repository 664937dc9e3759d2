"""Stands between the daemon and a node and understands JSON-RPC: counts what is asked, and tells what it was given to
tell.

    async with RpcProxy(node.url) as proxy:
        proxy.inject(FAULTS["tampered amount"], probability=0.3)    # from now on
        proxy.be_honest()                                           # again
        proxy.told["tampered amount"]                               # how often

Its counters are the truth a test compares the daemon's figures with. All that is not told otherwise, receipts too,
is the node's own. Which faults strike is `chains.faults`' to say; here an answer goes out over a real connection.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import Callable
from typing import Any, Self

import aiohttp
import msgspec
from aiohttp import web

from chains.faults import End, Exchange, Fault, Harm, Injector, Sent
from chains.faults.injector import FOREVER
from chains.faults.model import JSON_HEADERS, Json, changed_results

Lie = Callable[[Any, Any], Any]
"""(params, the honest result) to the result that is told."""


class RpcProxy(Injector):
    """`async with RpcProxy(node.url) as proxy:`"""

    def __init__(self, upstream: str, *, seed: object = 0) -> None:
        """`seed`: what is drawn, whether a fault strikes and what it then does, depends on it and on the requests."""
        super().__init__(random.Random(f"{seed}"))
        self._upstream = upstream
        self.url = ""
        self._speaks = asyncio.Event()
        self._speaks.set()

    def lie(self, method: str, lie: Lie, *, times: float = FOREVER) -> None:
        """Answers the method with `lie` from now on, `times` times, or until `be_honest`; told under its name."""
        change = changed_results(lambda params, result, _exchange: lie(params, result))
        self.inject(Fault(name=method, harm=Harm.LIE, change=change, methods=frozenset({method})), times=times)

    def be_silent(self) -> None:
        """Takes requests and answers none, until `be_honest`."""
        self._speaks.clear()

    def be_honest(self) -> None:
        super().be_honest()
        self._speaks.set()

    async def ask(self, method: str, *params: object) -> Any:
        """The node's own result."""
        call = {"jsonrpc": "2.0", "id": 0, "method": method, "params": params}
        return msgspec.json.decode(await self._forward(msgspec.json.encode(call))).get("result")

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
            random=self.random,
            figures=self.figures,
        )
        return await self._send(request, await self.tampered(exchange))

    async def _send(self, request: web.Request, sent: Sent) -> web.StreamResponse:
        """Enacts how an answer goes out."""
        await asyncio.sleep(sent.delay_s)
        if sent.status is None:
            await _end(request, sent.end)
            return web.Response()
        if sent.end is End.WHOLE and not sent.padding_bytes:
            return web.Response(body=sent.body, status=sent.status, headers=sent.headers)
        headers = dict(sent.headers)
        if sent.content_length is not None:
            headers["Content-Length"] = str(sent.content_length)
        response = web.StreamResponse(status=sent.status, headers=headers)
        try:
            await response.prepare(request)
            for chunk in sent.chunks(self.figures):
                await response.write(chunk)
        except ConnectionError:
            return response  # the client hung up: what a huge answer is to come to
        await _end(request, sent.end)
        return response

    async def _forward(self, raw: bytes) -> bytes:
        async with self._session.post(self._upstream, data=raw, headers=JSON_HEADERS) as response:
            return await response.read()


async def _end(request: web.Request, end: End) -> None:
    match end:
        case End.SILENCE:
            await asyncio.Event().wait()  # until the client hangs up: aiohttp then cancels the handler
        case End.RESET:
            _reset(request)
        case End.CLOSED if request.transport is not None:
            request.transport.close()
        case _:
            pass


def _reset(request: web.Request) -> None:
    """RST instead of FIN."""
    transport = request.transport
    if transport is None:
        return
    peer: socket.socket = transport.get_extra_info("socket")
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
