"""Faults of the line and of what stands before the node: no answer, half of one, far too much of one, a refusal."""

from __future__ import annotations

import asyncio
import socket
import struct

import msgspec
from aiohttp import web

from tests.support.faults.model import Exchange, Fault, Harm, Send

LATE_S = (0.5, 12.0)
"""Between these an answer comes late: before and after a client's time-out."""
RETRY_AFTER_S = 1
HUGE_BYTES = 200 * 2**20
_CHUNK = b" " * 2**20
JSON_HEADERS = {"Content-Type": "application/json"}


async def never(_request: web.Request, _exchange: Exchange, _body: bytes) -> web.StreamResponse:
    """Until the client hangs up: aiohttp then cancels the handler."""
    await asyncio.Event().wait()
    raise AssertionError("an event that nobody sets")


async def late(_request: web.Request, exchange: Exchange, body: bytes) -> web.StreamResponse:
    await asyncio.sleep(exchange.random.uniform(*LATE_S))
    return web.Response(body=body, headers=JSON_HEADERS)


async def reset_before(request: web.Request, _exchange: Exchange, _body: bytes) -> web.StreamResponse:
    _reset(request)
    return web.Response()


async def reset_in_body(request: web.Request, _exchange: Exchange, body: bytes) -> web.StreamResponse:
    response = web.StreamResponse(headers={**JSON_HEADERS, "Content-Length": str(len(body))})
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    _reset(request)
    return response


async def truncated(_request: web.Request, exchange: Exchange, body: bytes) -> web.StreamResponse:
    """A whole HTTP answer that holds half a JSON text."""
    return web.Response(body=body[: exchange.random.randrange(len(body))], headers=JSON_HEADERS)


async def too_many(_request: web.Request, _exchange: Exchange, _body: bytes) -> web.StreamResponse:
    return web.Response(status=429, text="Too Many Requests")


def too_many_for(seconds: int) -> Send:
    async def send(_request: web.Request, _exchange: Exchange, _body: bytes) -> web.StreamResponse:
        return web.Response(status=429, text="Too Many Requests", headers={"Retry-After": str(seconds)})

    return send


async def gateway(_request: web.Request, exchange: Exchange, _body: bytes) -> web.StreamResponse:
    status = exchange.random.choice((500, 502, 503, 504))
    return web.Response(status=status, text=f"<html><h1>{status}</h1></html>", content_type="text/html")


async def huge(request: web.Request, exchange: Exchange, _body: bytes) -> web.StreamResponse:
    return await _stream(request, exchange, web.StreamResponse(headers=JSON_HEADERS))


async def huge_announced(request: web.Request, exchange: Exchange, _body: bytes) -> web.StreamResponse:
    headers = {**JSON_HEADERS, "Content-Length": str(HUGE_BYTES)}
    return await _stream(request, exchange, web.StreamResponse(headers=headers))


async def _stream(request: web.Request, exchange: Exchange, response: web.StreamResponse) -> web.StreamResponse:
    """The beginning of an answer, and spaces after it until the client hangs up; notes how much went out."""
    exchange.figures["huge answers"] += 1
    sent = 0
    try:
        await response.prepare(request)
        while sent < HUGE_BYTES:
            await response.write(_CHUNK)
            sent += len(_CHUNK)
        exchange.figures["huge answers taken whole"] += 1
    except ConnectionError:
        pass  # cut off: what is wanted
    finally:
        exchange.figures["longest huge answer"] = max(exchange.figures["longest huge answer"], sent)
    return response


async def refuse_batch(_request: web.Request, exchange: Exchange, body: bytes) -> web.StreamResponse:
    if exchange.is_batch:
        error = {"code": -32600, "message": "batch requests are not supported"}
        body = msgspec.json.encode({"jsonrpc": "2.0", "id": None, "error": error})
    return web.Response(body=body, headers=JSON_HEADERS)


async def missing_reply(_request: web.Request, exchange: Exchange, body: bytes) -> web.StreamResponse:
    """One reply of a batch is left out."""
    if exchange.is_batch:
        left_out = exchange.random.choice(exchange.replies)
        body = msgspec.json.encode([reply for reply in exchange.replies if reply is not left_out])
    return web.Response(body=body, headers=JSON_HEADERS)


def _reset(request: web.Request) -> None:
    """RST instead of FIN."""
    transport = request.transport
    if transport is None:
        return
    peer: socket.socket = transport.get_extra_info("socket")
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


SENDING = (
    Fault(name="never answers", harm=Harm.PLAIN, send=never),
    Fault(name="answers late", harm=Harm.PLAIN, send=late),
    Fault(name="connection reset", harm=Harm.PLAIN, send=reset_before),
    Fault(name="connection reset in mid-body", harm=Harm.PLAIN, send=reset_in_body),
    Fault(name="truncated JSON", harm=Harm.PLAIN, send=truncated),
    Fault(name="429", harm=Harm.PLAIN, send=too_many),
    Fault(name="429 with Retry-After", harm=Harm.PLAIN, send=too_many_for(RETRY_AFTER_S)),
    Fault(name="5xx", harm=Harm.PLAIN, send=gateway),
    Fault(name="huge answer", harm=Harm.PLAIN, send=huge),
    Fault(name="huge answer, announced", harm=Harm.PLAIN, send=huge_announced),
    Fault(name="missing reply", harm=Harm.PLAIN, send=missing_reply, is_about_batches=True),
    Fault(name="batch refused", harm=Harm.NONE, send=refuse_batch, is_about_batches=True),
)
