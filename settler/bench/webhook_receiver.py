"""The endpoint of `settler bench webhooks`, a process of its own: takes what is posted, answers 200 and closes.

    python -m settler.bench.webhook_receiver
    > {"url": "http://127.0.0.1:…"}          it takes posts, until its stdin ends

`GET /taken` answers how many posts came, and how many different `webhook-id` they had. It does as little as a receiver
can, since what is measured is the sender beside it.
"""

from __future__ import annotations

import asyncio
import re

from settler.bench.companions import answer, dismissed

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_ID = re.compile(rb"\r\nwebhook-id: *([^\r]+)", re.IGNORECASE)
_HEAD_END = b"\r\n\r\n"
_OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Taken:
    """What came so far."""

    def __init__(self) -> None:
        self.posts = 0
        self.ids: set[bytes] = set()


class Receiver(asyncio.Protocol):
    """One connection, one request."""

    def __init__(self, taken: Taken) -> None:
        self._taken = taken
        self._came = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport), "a connection is one"
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._came += data
        head, end, body = self._came.partition(_HEAD_END)
        length = _LENGTH.search(head)
        if not end or (length is not None and len(body) < int(length[1])):
            return
        self._transport.write(self._told() if head.startswith(b"GET /taken ") else self._take(head))
        self._transport.close()

    def _take(self, head: bytes) -> bytes:
        self._taken.posts += 1
        if (id_ := _ID.search(head)) is not None:
            self._taken.ids.add(id_[1])
        return _OK

    def _told(self) -> bytes:
        said = b'{"posts":%d,"ids":%d}' % (self._taken.posts, len(self._taken.ids))
        return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s" % (len(said), said)


async def serve() -> None:
    """Serves a free port of this machine until it is needed no longer."""
    loop = asyncio.get_running_loop()
    taken = Taken()
    server = await loop.create_server(lambda: Receiver(taken), "127.0.0.1", 0, backlog=1_024)
    answer({"url": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"})
    async with server:
        await dismissed()


if __name__ == "__main__":
    asyncio.run(serve())
