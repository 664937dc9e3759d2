"""What a webhook endpoint may send instead of an answer: raw servers on 127.0.0.1, each with one bad habit."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field

from tests.webhook.receiver import raw_server

OK = b"HTTP/1.1 200 OK\r\n"
ENDLESS: dict[str, tuple[bytes, bytes]] = {
    # said once, then said for ever
    "headers": (OK, b"x: aaaaaaaaaaaaaaaaaaaaaaaa\r\n" * 500),
    "one header": (OK + b"x: ", b"a" * 65_536),
    "status line": (b"HTTP/1.1 200 ", b"a" * 65_536),
    "early hints": (b"", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * 500),
    "continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 500),
    "HTTP/0.9": (b"", b"<html>hello</html>\r\n" * 500),
    "body until closed": (OK + b"\r\n", b"a" * 65_536),
    "chunk's extension": (OK + b"transfer-encoding: chunked\r\n\r\n1;", b"a" * 65_536),
    "tiny chunks": (OK + b"transfer-encoding: chunked\r\n\r\n", b"1\r\na\r\n" * 5_000),
    "trailers": (OK + b"transfer-encoding: chunked\r\n\r\n0\r\n", b"x: aaaaaaaaaaaaaaaaaaaaaaaa\r\n" * 500),
    "answers": (b"", b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n" * 500),
    "switched protocol": (
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
        b"a" * 65_536,
    ),
}
"""Endless …"""


@dataclass
class Said:
    bytes: int = 0
    times: int = 0
    """Connections that were answered."""
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """The client has hung up."""


@contextlib.asynccontextmanager
async def endless(name: str) -> AsyncIterator[tuple[str, Said]]:
    """A server that never ends what it says, with its address."""
    first, rest = ENDLESS[name]
    async with saying(lambda: itertools.chain([first], itertools.repeat(rest))) as found:
        yield found


@contextlib.asynccontextmanager
async def saying(
    parts: Callable[[], Iterator[bytes]], *, every_s: float = 0.0, resets: bool = False
) -> AsyncIterator[tuple[str, Said]]:
    """A server that says these parts to each connection, then closes it, or `resets` it."""
    said = Said()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said.times += 1
        try:
            await reader.read(10)
            for part in parts():
                writer.write(part)
                await writer.drain()
                said.bytes += len(part)
                await asyncio.sleep(every_s)
            if resets:
                await asyncio.sleep(0.05)  # what was said is read before the RST, which would discard it
                # linger for 0 s: close() sends RST
                writer.get_extra_info("socket").setsockopt(1, 13, struct.pack("ii", 1, 0))
        except ConnectionError:
            pass
        finally:
            said.gone.set()
            writer.close()

    async with raw_server(handle) as url:
        yield url, said
