"""`NodeSession`: stands in for `aiohttp.ClientSession` below `chains.post`, over an honest simulated node."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType

import msgspec

from chains.simulated_node import SimulatedNode


class NodeSession:
    """Takes POST alone, batches included, and answers at once."""

    def __init__(self, node: SimulatedNode) -> None:
        self._node = node

    def post(self, url: str, *, data: bytes, **_: object) -> _Exchange:
        assert url
        asked = msgspec.json.decode(data)
        answered = [self._node.reply(call) for call in asked] if isinstance(asked, list) else self._node.reply(asked)
        return _Exchange(msgspec.json.encode(answered))


class _Exchange:
    """Both the request under way and its response."""

    status = 200

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.headers: dict[str, str] = {}
        self.content_length = len(body)
        self.content = self

    async def __aenter__(self) -> _Exchange:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    async def iter_any(self) -> AsyncIterator[bytes]:
        yield self._body
