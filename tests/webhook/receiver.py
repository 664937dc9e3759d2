"""Endpoints on 127.0.0.1 that behave, and such that do not."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import standardwebhooks
from aiohttp import web

from tests.webhook.samples import SECRET


@dataclass
class Got:
    path: str
    headers: dict[str, str]
    body: bytes
    at: float
    """Of the event loop's clock."""


@dataclass
class Receiver:
    base: str = ""
    got: list[Got] = field(default_factory=list)
    codes: dict[str, list[int]] = field(default_factory=dict)
    """Per path, the next status codes; then 200."""
    answer_headers: dict[str, str] = field(default_factory=dict)
    sent_bytes: int = 0
    """Of an endless answer, how much went out."""
    released: asyncio.Event = field(default_factory=asyncio.Event)

    def got_at(self, path: str) -> list[Got]:
        return [got for got in self.got if got.path == path]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        now = asyncio.get_running_loop().time()
        self.got.append(Got(request.path, {k.lower(): v for k, v in request.headers.items()}, body, now))
        if request.path.startswith("/hang"):
            await self.released.wait()
        if request.path == "/huge":
            return await self._huge(request)
        codes = self.codes.get(request.path, [])
        return web.Response(status=codes.pop(0) if codes else 200, headers=self.answer_headers, text="thanks")

    async def _huge(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-length": str(200 * 2**20)})
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while self.sent_bytes < 200 * 2**20:
                await response.write(bytes(65_536))
                self.sent_bytes += 65_536
        return response


@contextlib.asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application(client_max_size=2**22)
    app.router.add_route("*", "/{tail:.*}", receiver.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        receiver.base = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield receiver
    finally:
        receiver.released.set()
        await runner.cleanup()


@contextlib.asynccontextmanager
async def raw_server(
    handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """A server that need not speak HTTP; its address."""
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        server.close()


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reads a little and resets the connection."""
    await reader.read(10)
    # linger for 0 s: close() sends RST
    writer.get_extra_info("socket").setsockopt(1, 13, struct.pack("ii", 1, 0))
    writer.close()


def verify(got: Got, secret: str = SECRET) -> None:
    """As a merchant does, with the library. Raises if the signature does not hold (or is older than 5
    minutes)."""
    standardwebhooks.Webhook(secret).verify(got.body, got.headers)


def timestamp(got: Got) -> datetime:
    return datetime.fromtimestamp(int(got.headers["webhook-timestamp"]), UTC)
