"""A JSON-RPC node over a real WebSocket on 127.0.0.1 that answers what a test tells it to.

Calls and batches are answered by a `ScriptedNode`'s methods; a test replaces the answer of the next message, or the
next handshake. `eth_subscribe` is answered with an id; `push_head` then pushes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Self

import msgspec
from aiohttp import WSMsgType, web

from tests.chains.scripted_node import Json, ScriptedNode

Socket = web.WebSocketResponse
Respond = Callable[[Socket, Any], Awaitable[None]]
"""Told the socket and the decoded message; sends what it likes, or nothing."""
Handshake = Callable[[web.Request], Awaitable[web.StreamResponse]]

SUBSCRIPTION = "0xcd0c3e8af590364c09d0fa6a1210faf5"


class ScriptedSocket:
    """`async with ScriptedSocket() as node:`"""

    def __init__(self) -> None:
        self.node = ScriptedNode()
        self.node.methods["eth_subscribe"] = SUBSCRIPTION
        self.next_messages: deque[Respond] = deque()
        """Each is used for one message, before the scripted methods."""
        self.next_handshakes: deque[Handshake] = deque()
        self.bodies: list[Any] = []
        """Every message, decoded."""
        self.types: list[WSMsgType] = []
        self.sockets: list[Socket] = []
        """Those open now."""
        self.handshakes = 0
        self.answers_pings = True
        self.url = ""
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/{key:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        port = self._runner.addresses[0][1]
        self.url = f"ws://127.0.0.1:{port}/v2/0123456789abcdef-secret?key=queried-secret"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.kill()
        await self._runner.cleanup()

    def kill(self) -> None:
        """Breaks the connections without a farewell."""
        for socket in self.sockets:
            if (request := socket._req) is not None and request.transport is not None:
                request.transport.abort()

    async def push(self, message: Json) -> None:
        for socket in self.sockets:
            await socket.send_bytes(msgspec.json.encode(message))

    async def push_head(self, number: int = 1) -> None:
        params = {"subscription": SUBSCRIPTION, "result": {"number": hex(number)}}
        await self.push({"jsonrpc": "2.0", "method": "eth_subscription", "params": params})

    async def reaches(self, condition: Callable[[], bool]) -> None:
        """Waits until it holds after a message, a handshake or an end."""
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(condition)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.handshakes += 1
        await self._notify()
        if self.next_handshakes:
            return await self.next_handshakes.popleft()(request)
        socket = Socket(autoping=self.answers_pings, max_msg_size=2**26)
        await socket.prepare(request)
        self.sockets.append(socket)
        await self._notify()
        try:
            async for message in socket:
                if message.type in {WSMsgType.TEXT, WSMsgType.BINARY}:
                    await self._answer(socket, msgspec.json.decode(message.data), message.type)
        finally:
            self.sockets.remove(socket)
            await self._notify()
        return socket

    async def _answer(self, socket: Socket, body: Any, kind: WSMsgType) -> None:
        self.bodies.append(body)
        self.types.append(kind)
        if self.next_messages:
            await self.next_messages.popleft()(socket, body)
        else:
            await self.send_answer(socket, body)
        await self._notify()

    async def send_answer(self, socket: Socket, body: Any) -> None:
        """By the scripted methods."""
        is_batch = isinstance(body, list)
        await send(socket, [self.node.answer(item) for item in body] if is_batch else self.node.answer(body))

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


async def send(socket: Socket, value: object) -> None:
    with contextlib.suppress(ConnectionError):
        await socket.send_str(msgspec.json.encode(value).decode())


def sending(*texts: str | bytes) -> Respond:
    """Answers any message with these; texts as text frames, bytes as binary ones."""

    async def respond(socket: Socket, _: Any) -> None:
        for text in texts:
            with contextlib.suppress(ConnectionError):
                await (socket.send_str(text) if isinstance(text, str) else socket.send_bytes(text))

    return respond


async def nothing(socket: Socket, body: Any) -> None:
    """Does not answer."""


async def dying(socket: Socket, body: Any) -> None:
    """Breaks the connection instead of answering."""
    assert socket._req is not None and socket._req.transport is not None
    socket._req.transport.abort()


def refusing(status: int, headers: dict[str, str] | None = None) -> Handshake:
    async def respond(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, headers=headers)

    return respond
