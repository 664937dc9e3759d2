"""`Line`: a TCP line between the daemon and a node that can be cut and mended; it understands nothing of what
passes.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self


class Line:
    """`async with Line(node.url) as line:` — its port stays the same."""

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
