"""Stands between the daemon and a node: counts calls, tells lies, cuts the line.

RpcProxy    understands JSON-RPC: `lie` changes the answers of one method; `calls` counts what was asked
Line        understands nothing: bytes pass, or (cut) connections are refused and those that stand are broken
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from typing import Any, Self

import aiohttp
import msgspec
from aiohttp import web

Json = dict[str, Any]
Lie = Callable[[Any, Any], Any]
"""(params, the honest result) to the result that is told."""


class RpcProxy:
    """`async with RpcProxy(node.url) as proxy:`"""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._lies: dict[str, tuple[Lie, float]] = {}
        self.calls: Counter[str] = Counter()
        """By method; those of a batch one by one."""
        self.lies_told: Counter[str] = Counter()
        self.url = ""
        self._speaks = asyncio.Event()
        self._speaks.set()

    def lie(self, method: str, lie: Lie, *, times: float = float("inf")) -> None:
        """Answers the method with `lie` from now on, `times` times, or until `be_honest`."""
        self._lies[method] = (lie, times)

    def be_silent(self) -> None:
        """Takes requests and answers none, until `be_honest`."""
        self._speaks.clear()

    def be_honest(self) -> None:
        self._lies.clear()
        self._speaks.set()

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession()
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._speaks.set()
        await self._runner.cleanup()
        await self._session.close()

    async def _handle(self, request: web.Request) -> web.Response:
        raw = await request.read()
        asked = msgspec.json.decode(raw)
        items = asked if isinstance(asked, list) else [asked]
        self.calls.update(item["method"] for item in items)
        await self._speaks.wait()
        try:
            async with self._session.post(
                self._upstream, data=raw, headers={"Content-Type": "application/json"}
            ) as response:
                answer = msgspec.json.decode(await response.read())
        except aiohttp.ClientError:
            return web.Response(status=502, text="no upstream")
        by_id = {item["id"]: item for item in items}
        for reply in answer if isinstance(answer, list) else [answer]:
            self._change(by_id[reply["id"]], reply)
        return web.Response(body=msgspec.json.encode(answer), content_type="application/json")

    def _change(self, item: Json, reply: Json) -> None:
        method = item["method"]
        if method not in self._lies or "result" not in reply:
            return
        lie, left = self._lies[method]
        told = lie(item["params"], reply["result"])
        if told == reply["result"]:
            return
        reply["result"] = told
        self.lies_told[method] += 1
        self._lies[method] = (lie, left - 1)
        if left <= 1:
            del self._lies[method]


class Line:
    """`async with Line(node.url) as line:` — a TCP line that can be cut and mended; its port stays the same."""

    def __init__(self, upstream: str, *, is_cut: bool = False) -> None:
        self._upstream_port = int(upstream.rpartition(":")[2])
        self._starts_cut = is_cut
        self._server: asyncio.Server | None = None
        self._passing: set[asyncio.Task[None]] = set()
        self._port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        await self.mend()
        if self._starts_cut:
            await self.cut()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cut()

    async def mend(self) -> None:
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Connections that stand are broken, new ones refused."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in list(self._passing):
            task.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._passing.add(task)
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
            try:
                await asyncio.gather(_copy(reader, up_writer), _copy(up_reader, writer))
            finally:
                up_writer.transport.abort()
        except (OSError, asyncio.CancelledError):
            pass  # cut
        finally:
            writer.transport.abort()
            self._passing.discard(task)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(2**16):
        writer.write(data)
        await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()
