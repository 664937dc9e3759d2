"""A JSON-RPC node over real HTTP on 127.0.0.1 that answers what a test tells it to.

By default it serves a small honest chain (`headers`, `logs`); a test replaces the answer of one method, or the whole
HTTP response of the next request, to see what the adapter makes of it.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import web

from contracts_abi import TRANSFER_TOPIC

HEAD = 20
TOKEN = bytes.fromhex("aa" * 20)
OTHER_TOKEN = bytes.fromhex("ab" * 20)
ALICE = bytes.fromhex("a1" * 20)
SHOP = bytes.fromhex("b0" * 20)
STRANGER = bytes.fromhex("c0" * 20)

Json = dict[str, Any]
Respond = Callable[[web.Request, bytes], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class RpcError:
    """An answer that is a JSON-RPC error object."""

    code: Any
    message: Any
    data: Any = None

    def as_json(self) -> Json:
        return {"code": self.code, "message": self.message} | ({} if self.data is None else {"data": self.data})


def digest(*parts: object) -> str:
    return "0x" + hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()


def block_hash(number: int, fork: str = "") -> str:
    return digest("block", number, fork)


def header(number: int, fork: str = "", /, **changed: Any) -> Json:
    return {
        "number": hex(number),
        "hash": block_hash(number, fork),
        "parentHash": block_hash(number - 1, fork),
        "timestamp": hex(1_767_225_600 + 2 * number),
        "extraData": "0x",
        "transactions": [],
    } | changed


def word(address: bytes) -> str:
    return "0x" + address.rjust(32, b"\0").hex()


def log(number: int, index: int = 0, /, *, to: bytes = SHOP, amount: int = 100, tx: str = "tx", **changed: Any) -> Json:
    return {
        "address": "0x" + TOKEN.hex(),
        "topics": ["0x" + TRANSFER_TOPIC.hex(), word(ALICE), word(to)],
        "data": "0x" + amount.to_bytes(32).hex(),
        "blockNumber": hex(number),
        "blockHash": block_hash(number),
        "transactionHash": digest(tx, number),
        "transactionIndex": "0x0",
        "logIndex": hex(index),
        "removed": False,
    } | changed


class ScriptedNode:
    """`methods`: method -> answer (a value, an `RpcError`, or a function of the params)."""

    def __init__(self) -> None:
        self.logs: list[Json] = []
        self.head = HEAD
        self.methods: dict[str, Any] = {
            "eth_chainId": "0x1",
            "eth_getBlockByNumber": self._block,
            "eth_getLogs": lambda _: self.logs,
        }
        self.next_responses: deque[Respond] = deque()
        """Each is used for one request, before the scripted methods."""
        self.bodies: list[Any] = []
        """Every request's decoded body."""
        self.content_types: list[str] = []
        self.url = ""
        self._runner: web.AppRunner | None = None

    def calls(self, method: str) -> list[Any]:
        """The params of every call of a method, in batches or alone."""
        flat = [item for body in self.bodies for item in (body if isinstance(body, list) else [body])]
        return [item["params"] for item in flat if item["method"] == method]

    async def start(self) -> None:
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/{key:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{port}/v2/0123456789abcdef-secret?key=queried-secret"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def answer(self, item: Json) -> Json:
        """The reply to one call, by `methods`."""
        scripted = self.methods.get(item["method"], RpcError(-32601, "Method not found"))
        result = scripted(item["params"]) if callable(scripted) else scripted
        reply: Json = {"jsonrpc": "2.0", "id": item["id"]}
        if isinstance(result, RpcError):
            return reply | {"error": result.as_json()}
        return reply | {"result": result}

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        body = msgspec.json.decode(raw)
        self.bodies.append(body)
        self.content_types.append(request.content_type)
        if self.next_responses:
            return await self.next_responses.popleft()(request, raw)
        if isinstance(body, list):
            return as_json([self.answer(item) for item in body])
        return as_json(self.answer(body))

    def _block(self, params: list[Any]) -> Json | None:
        tags = {"latest": self.head, "safe": self.head - 5, "finalized": self.head - 10}
        number = tags[params[0]] if params[0] in tags else int(params[0], 16)
        return header(number) if 0 <= number <= self.head else None


def as_json(value: object, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(value), status=status, content_type="application/json", headers=headers
    )


def replying(value: object, *, status: int = 200, headers: dict[str, str] | None = None) -> Respond:
    """Answers any request with this JSON; `"$id"` as an id is replaced by the one asked."""

    async def respond(_: web.Request, raw: bytes) -> web.StreamResponse:
        asked = msgspec.json.decode(raw)
        first = asked[0] if isinstance(asked, list) else asked
        return as_json(_with_id(value, first["id"]), status=status, headers=headers)

    return respond


def replying_bytes(body: bytes, *, status: int = 200, content_type: str = "application/json") -> Respond:
    async def respond(_: web.Request, raw: bytes) -> web.StreamResponse:
        return web.Response(body=body, status=status, content_type=content_type)

    return respond


def _with_id(value: Any, call_id: int) -> Any:
    if value == "$id":
        return call_id
    if isinstance(value, dict):
        return {key: _with_id(each, call_id) for key, each in value.items()}
    if isinstance(value, list):
        return [_with_id(each, call_id) for each in value]
    return value
