"""What clients may do to the server: too slow, too many, too large, deaf, or no HTTP at all. Over real sockets."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from settler.api.body import MAX_BODY_BYTES, read_json
from settler.api.connections import WRITE_LEAST_BYTES, Bounds, Connections, Refused
from settler.api.errors import problems_middleware
from settler.api.server import LOBBY_MAX, protect, serve

WITHIN_S = 20.0
HASTY = Bounds(head_timeout_s=0.15, write_timeout_s=0.15, close_timeout_s=0.15, linger_s=0.15, sweep_s=0.02)
LARGE = 32 << 20
"""More than the kernel keeps for a reader who does not read."""


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> Any:
        """Checked to be RFC 9457, and to say nothing of how it was found."""
        assert self.headers["content-type"] == "application/problem+json; charset=utf-8"
        assert self.headers["server"] == "settler"
        assert self.headers["cache-control"] == "no-store"
        found = json.loads(self.body)
        assert found["status"] == self.status
        assert found["type"].startswith("urn:settler:problem:")
        assert "aiohttp" not in str(found) and "b'" not in str(found)
        return found


class Client:
    """One connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> Answer:
        async with asyncio.timeout(WITHIN_S):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            status, *lines = head.strip().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return Answer(int(status.split(" ")[1]), headers, body)

    async def head(self) -> str:
        """Of the next answer, which has no body."""
        async with asyncio.timeout(WITHIN_S):
            return (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")

    async def is_closed(self) -> None:
        """Returns once the server has ended the connection; whatever it still sends is read."""
        async with asyncio.timeout(WITHIN_S):
            try:
                while await self.reader.read(1 << 20):
                    pass
            except ConnectionError:
                pass


@dataclass
class Served:
    runner: web.AppRunner
    host: str
    port: int
    opened: list[asyncio.StreamWriter] = field(default_factory=list)

    async def client(self) -> Client:
        reader, writer = await asyncio.open_connection(self.host, self.port)
        self.opened.append(writer)
        return Client(reader, writer)

    async def ask(self, data: bytes) -> Answer:
        client = await self.client()
        client.send(data)
        return await client.answer()

    async def is_well(self) -> None:
        assert (await self.ask(GOOD)).status == 200


GOOD = b"GET /small HTTP/1.1\r\nHost: x\r\n\r\n"


@asynccontextmanager
async def serving(bounds: Bounds = HASTY) -> AsyncIterator[Served]:
    """Our server, over an application that reads bodies as the API does."""

    async def small(_request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def large(_request: web.Request) -> web.Response:
        return web.Response(body=bytes(LARGE))

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(bytes(1 << 20))

    async def echo(request: web.Request) -> web.Response:
        return web.json_response(await read_json(request))

    app = web.Application(middlewares=[problems_middleware], client_max_size=MAX_BODY_BYTES)
    app.on_response_prepare.append(protect)
    for path in ("/small", "/livez", "/readyz"):
        app.router.add_get(path, small)
    app.router.add_get("/large", large)
    app.router.add_get("/stream", stream)
    app.router.add_post("/echo", echo)
    runner = await serve(app, "127.0.0.1", 0, bounds=bounds)
    served = Served(runner, *runner.addresses[0][:2])
    try:
        yield served
    finally:
        for writer in served.opened:
            writer.close()
        async with asyncio.timeout(WITHIN_S):
            await runner.cleanup()


# -- heads -------------------------------------------------------------------------------------------------------------


async def test_head__dripped_byte_by_byte__is_408_and_the_connection_ends() -> None:
    async with serving() as server:
        client = await server.client()

        async def drip() -> None:
            for byte in b"GET /small HTTP/1.1\r\nHost: x\r\nX-Slow: " + b"a" * 10_000:
                client.send(bytes([byte]))
                await asyncio.sleep(0.01)

        dripping = asyncio.create_task(drip())
        answer = await client.answer()
        assert (answer.status, answer.problem["type"]) == (408, "urn:settler:problem:request-timeout")
        await client.is_closed()
        dripping.cancel()
        await server.is_well()


async def test_head__of_the_second_request_on_a_connection__is_bounded_too() -> None:
    async with serving() as server:
        client = await server.client()
        client.send(GOOD)
        assert (await client.answer()).status == 200
        client.send(b"GET /sm")
        assert (await client.answer()).status == 408
        await client.is_closed()


async def test_head__half_sent_and_half_closed__ends() -> None:
    async with serving() as server:
        client = await server.client()
        client.send(b"GET /small HT")
        client.writer.write_eof()
        await client.is_closed()
        await server.is_well()


async def test_idle__longer_than_a_head_may_take__is_no_slow_head() -> None:
    """A load balancer opens connections before it needs them."""
    async with serving() as server:
        client, other = await server.client(), await server.client()
        other.send(b"G")
        assert (await other.answer()).status == 408, "so much time has passed"
        client.send(GOOD)
        assert (await client.answer()).status == 200


async def test_idle__longer_than_allowed__is_closed() -> None:
    async with serving(Bounds(idle_timeout_s=0.1)) as server:
        await (await server.client()).is_closed()


# -- answers that are not read -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/large", "/stream"])
async def test_answer__never_read__ends_the_connection(path: str) -> None:
    async with serving() as server:
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            deaf.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(deaf, (server.host, server.port))
            await loop.sock_sendall(deaf, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())

            async def is_reset() -> bool:
                return deaf.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0

            await _until(is_reset)
        await server.is_well()


async def test_answers__never_read_of_a_flood_of_requests__end_the_connection() -> None:
    """Pipelined: each answer is small, all of them together are not."""
    async with serving() as server:
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            deaf.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(deaf, (server.host, server.port))

            async def flood() -> None:
                while True:
                    await loop.sock_sendall(deaf, GOOD * 1_000)

            with pytest.raises(ConnectionError):
                async with asyncio.timeout(WITHIN_S):
                    await flood()
        await server.is_well()


async def test_answers__to_a_pipeline_that_is_read__all_come_in_order() -> None:
    async with serving() as server:
        client = await server.client()
        client.send(GOOD * 300)
        assert [(await client.answer()).body for _ in range(300)] == [b"ok"] * 300


# -- how many ----------------------------------------------------------------------------------------------------------


async def test_connections__more_than_allowed__the_longest_idle_makes_room() -> None:
    async with serving(Bounds(max_connections=3)) as server:
        first, second, third = [await server.client() for _ in range(3)]
        for client in (first, second, third):
            client.send(GOOD)
            assert (await client.answer()).status == 200
        newest = await server.client()
        newest.send(GOOD)
        assert (await newest.answer()).status == 200
        await first.is_closed()
        for client in (second, third):
            client.send(GOOD)
            assert (await client.answer()).status == 200


async def test_connections__all_at_work__a_new_one_is_told_503() -> None:
    async with serving(Bounds(max_connections=2)) as server:
        await _take_all(server, 2)
        refused = await server.client()
        refused.send(GOOD)
        answer = await refused.answer()
        assert (answer.status, answer.problem["type"]) == (503, "urn:settler:problem:too-many-connections")
        assert int(answer.headers["retry-after"]) > 0
        await refused.is_closed()


async def _take_all(server: Served, many: int) -> None:
    """So many bodies that never come."""
    for _ in range(many):
        busy = await server.client()
        busy.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n")
    await _until(lambda: _refuses(server))


async def _refuses(server: Served) -> bool:
    return (await server.ask(GOOD)).status == 503


async def _until(is_so: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not await is_so():  # noqa: ASYNC110 -- the other side of a socket sets no event
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("probe", [b"GET /livez HTTP/1.1", b"HEAD /readyz HTTP/1.1"])
async def test_connections__all_at_work__a_probe_is_answered_all_the_same(probe: bytes) -> None:
    """Five hosts that send bodies byte by byte took all connections; the orchestrator's probe was told 503 for it, and
    the daemon would have been killed for being busy.
    """
    async with serving(Bounds(max_connections=2)) as server:
        await _take_all(server, 2)
        for _ in range(40):
            client = await server.client()
            client.send(probe + b"\r\nHost: x\r\n\r\n")
            assert (await client.head()).startswith("HTTP/1.1 200")
            await client.is_closed()
        for other in (GOOD, probe + b"\r\nHost: x\r\n", probe + b"\r\nHost: x\r\n\r\n" + GOOD + b"x"):
            assert (await server.ask(other)).status == 503


async def test_connections__all_at_work__who_says_nothing_is_told_503_and_keeps_no_probe_out() -> None:
    async with serving(Bounds(max_connections=2)) as server:
        await _take_all(server, 2)
        silent = [await server.client() for _ in range(LOBBY_MAX + 10)]
        assert (await server.ask(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")).status == 200
        for client in silent:
            assert (await client.answer()).status == 503
            await client.is_closed()


async def test_rest_of_a_body__that_nobody_wanted__is_no_slow_head() -> None:
    """A body answered before it was all there (401, 404) ended on a connection that idled by then. Its bytes were taken
    for the beginning of the next request's head, and after the time for it an honest client that kept the connection
    found a 408 to nothing on it, or to what it had just sent.
    """
    async with serving(Bounds(head_timeout_s=0.15, sweep_s=0.02, linger_s=5.0)) as server:
        client, other = await server.client(), await server.client()
        client.send(b"POST /small HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nsome")
        assert (await client.answer()).status == 405
        client.send(b" more")
        other.send(b"G")
        assert (await other.answer()).status == 408, "so much time has passed"
        client.send(GOOD)
        assert (await client.answer()).status == 200


# -- how large, and how odd --------------------------------------------------------------------------------------------

HEAD = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


async def test_body__of_10_mb_with_its_length__is_413_before_it_is_read() -> None:
    async with serving() as server:
        client = await server.client()
        client.send(HEAD + b"Content-Length: 10000000\r\n\r\n")
        answer = await client.answer()
        assert (answer.status, answer.problem["type"]) == (413, "urn:settler:problem:body-too-large")
        assert answer.headers["connection"] == "close"


async def test_body__of_10_mb_in_chunks__is_413() -> None:
    async with serving() as server:
        client = await server.client()
        client.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(40):
            client.send(b"40000\r\n" + bytes(0x40000) + b"\r\n")
        assert (await client.answer()).problem["status"] == 413


async def test_body__dripped_in_chunks__is_408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("settler.api.body.BODY_TIMEOUT_S", 0.1)
    async with serving() as server:
        client = await server.client()
        client.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n")
        assert (await client.answer()).problem["status"] == 408


async def test_body__whose_second_chunk_is_broken__is_a_body_that_never_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """aiohttp does not tell who reads it; the bound on bodies ends it."""
    monkeypatch.setattr("settler.api.body.BODY_TIMEOUT_S", 0.1)
    async with serving() as server:
        client = await server.client()
        client.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n")
        await server.is_well()
        client.send(b"zz\r\n}\r\n0\r\n\r\n")
        assert (await client.answer()).problem["status"] == 408
        await client.is_closed()


async def test_body__hung_up_in_the_middle__is_no_error_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever reached the port could fill the log with tracebacks, one for each connection."""
    with capture_logs() as said:
        async with serving() as server:
            client = await server.client()
            client.send(HEAD + b"Content-Length: 9\r\n\r\n{")
            await server.is_well()
            client.writer.transport.abort()

            async def is_noticed() -> bool:
                return "api.hung_up" in [line["event"] for line in said]

            await _until(is_noticed)
            await server.is_well()
    assert {line["log_level"] for line in said} == {"debug"}
    assert caplog.records == []


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /small HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
        (b"GET /small HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: y\r\n" % i for i in range(1_000)) + b"\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03garbage\r\n\r\n", 400),
        (b"G\x00T /small HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"NONSENSE /small HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /small HTTP/9.9\r\nHost: x\r\n\r\n", 400),
        (b"GET /small HTTP/one\r\nHost: x\r\n\r\n", 400),
        (b"GET /small HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n", 400),
        (b"GET /small HTTP/1.1\r\nHost: x\r\nX : y\r\n\r\n", 400),
        (b"GET /small HTTP/1.1\r\nHost: x\r\nX: y\r\n z: folded\r\n\r\n", 400),
        (HEAD + b"Content-Length: -5\r\n\r\n", 400),
        (HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}   ", 400),
        (HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n", 400),
        (b"GET /small HTTP/1.1\r\nHost: x\r\nExpect: miracles\r\n\r\n", 417),
        (b"OPTIONS /small HTTP/1.1\r\nHost: x\r\nOrigin: https://evil.example\r\n\r\n", 405),
        (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"TRACE /small HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"CONNECT evil.example:443 HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    ],
    ids=lambda sent: sent[:24].decode("latin-1").encode("unicode_escape").decode() if isinstance(sent, bytes) else None,
)
async def test_odd_request__is_a_problem_and_nothing_else(sent: bytes, status: int) -> None:
    async with serving() as server:
        client = await server.client()
        client.send(sent)
        answer = await client.answer()
        assert (answer.status, answer.problem["status"]) == (status, status)
        assert not [name for name in answer.headers if name.startswith("access-control")], "no other site may read us"
        await server.is_well()


async def test_upgrade__to_what_we_do_not_speak__is_an_ordinary_request() -> None:
    upgrade = b"Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    async with serving() as server:
        client = await server.client()
        client.send(GOOD[:-2] + upgrade + b"\r\n" + GOOD * 2)
        assert [(await client.answer()).body for _ in range(3)] == [b"ok"] * 3


async def test_slow_heads__more_than_there_may_be_connections__keep_nobody_out() -> None:
    """Slowloris: each connection sends a little now and then, and none ever a whole request."""
    async with serving(Bounds(max_connections=20)) as server:
        for _ in range(60):
            (await server.client()).send(b"GET /small HTTP/1.1\r\nX: ")
        for _ in range(20):
            await server.is_well()


async def test_smuggled_request__behind_two_lengths__is_never_answered() -> None:
    """Had the two lengths been taken differently by a proxy and by us, the second request would be the attacker's."""
    async with serving() as server:
        client = await server.client()
        client.send(HEAD + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + GOOD)
        assert (await client.answer()).status == 400
        async with asyncio.timeout(WITHIN_S):
            assert await client.reader.read() == b"", "the connection is over"


# -- the rules, without sockets ----------------------------------------------------------------------------------------


@dataclass(eq=False)
class Wire:
    unread: int = 0
    is_closed: bool = False
    is_aborted: bool = False

    def is_closing(self) -> bool:
        return self.is_closed

    def abort(self) -> None:
        self.is_aborted = True

    def get_write_buffer_size(self) -> int:
        return self.unread

    def get_extra_info(self, name: str) -> None:
        assert name == "socket"


def ends(connections: Connections, wire: Wire, *, at: float) -> bool:
    """Whether a sweep then ends it."""
    connections.sweep(at)
    assert (len(connections) == 0) is wire.is_aborted
    return wire.is_aborted


def test_sweep__an_answer_that_is_read_slowly__stays_as_long_as_it_shrinks() -> None:
    connections = Connections(Bounds())
    wire = Wire(unread=10 * WRITE_LEAST_BYTES)
    connections.add(wire, "192.0.2.1")
    connections.sweep(0.0)
    for at in (30.0, 60.0, 90.0):
        wire.unread -= WRITE_LEAST_BYTES
        assert not ends(connections, wire, at=at)
    wire.unread -= WRITE_LEAST_BYTES - 1
    assert not ends(connections, wire, at=119.0), "there is time yet"
    assert ends(connections, wire, at=120.0)


def test_sweep__an_answer_that_was_read__has_its_time_again() -> None:
    connections = Connections(Bounds())
    wire = Wire(unread=1)
    connections.add(wire, "192.0.2.1")
    connections.sweep(0.0)
    wire.unread = 0
    connections.sweep(29.0)
    wire.unread = 1
    assert not ends(connections, wire, at=31.0)
    assert not ends(connections, wire, at=60.0)
    assert ends(connections, wire, at=61.0)


def test_sweep__a_close_that_is_not_taken__is_an_abort() -> None:
    connections = Connections(Bounds())
    wire = Wire(is_closed=True)
    connections.add(wire, "192.0.2.1")
    assert not ends(connections, wire, at=0.0)
    assert not ends(connections, wire, at=4.9)
    assert ends(connections, wire, at=5.0)


def test_add__more_of_one_address_than_allowed__refused_and_others_are_not() -> None:
    connections = Connections(Bounds(max_per_address=2))
    first = connections.add(Wire(), "192.0.2.1")
    connections.add(Wire(), "::ffff:192.0.2.1")
    with pytest.raises(Refused):
        connections.add(Wire(), "192.0.2.1")
    connections.add(Wire(), "192.0.2.2")
    connections.remove(first)
    connections.remove(first)
    connections.add(Wire(), "192.0.2.1")
    with pytest.raises(Refused):
        connections.add(Wire(), "192.0.2.1")


def test_add__from_this_machine__is_not_counted_by_address() -> None:
    connections = Connections(Bounds(max_per_address=1))
    for peer in ("127.0.0.1", "127.0.0.1", "::1", "::1", None, None):
        connections.add(Wire(), peer)
    assert len(connections) == 6


def test_add__an_ipv6_customer__is_one_address() -> None:
    connections = Connections(Bounds(max_per_address=1))
    connections.add(Wire(), "2001:db8:1:2::1")
    with pytest.raises(Refused):
        connections.add(Wire(), "2001:db8:1:2:ffff::9")
    connections.add(Wire(), "2001:db8:1:3::1")


async def test_cleanup__an_answer_under_way__arrives_whole() -> None:
    async with serving(Bounds()) as server:
        client = await server.client()
        client.send(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(WITHIN_S):
            head = await client.reader.readuntil(b"\r\n\r\n")
            stopping = asyncio.create_task(server.runner.cleanup())
            body = await client.reader.readexactly(LARGE)
            await stopping
    assert head.startswith(b"HTTP/1.1 200")
    assert body == bytes(LARGE)
