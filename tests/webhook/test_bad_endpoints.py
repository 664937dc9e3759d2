"""Endpoints with bad habits, over real sockets: each attempt ends in bounded time and memory, and hurts nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ipaddress
import socket
import ssl
import threading
import tracemalloc
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp.connector
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from settler.clock import FakeClock
from settler.domain.delivery import Answered, NoAnswer, Reply
from settler.stages.dispatch import MAX_IN_FLIGHT, Dispatch
from settler.storage import webhooks
from settler.storage.engine import Database
from settler.webhook import network as network_module
from settler.webhook import send as send_module
from settler.webhook.network import ANSWER_BYTES, SystemNetwork
from settler.webhook.send import HttpSender
from tests.webhook.bad_servers import ENDLESS, OK, endless, saying
from tests.webhook.receiver import raw_server, receiving
from tests.webhook.samples import NOW, added, an_endpoint, an_event

MEMORY_BYTES = 8 * 2**20
"""Of one attempt, whatever comes back. Most of it: 128 kB of the shortest answers there are, each an object."""
IN_SOCKETS_BYTES = 20 * 2**20
"""What the sockets' buffers hold goes out as well."""
WITH_STATUS = {"body until closed", "chunk's extension", "tiny chunks", "answers", "switched protocol"}
"""An answer came before the endless part."""


async def _send(url: str, *, timeout_s: float = 5.0, resolver: AbstractResolver | None = None) -> Reply:
    network = SystemNetwork(resolver)
    async with HttpSender(clock=FakeClock(NOW), allow_private=True, timeout_s=timeout_s, network=network) as sender:
        return await sender.send(url, {"webhook-id": "evt_1"}, b"{}")


@pytest.mark.parametrize("name", ENDLESS)
async def test_send__endless__is_cut_off_in_bounded_memory(name: str) -> None:
    async with endless(name) as (url, said):
        tracemalloc.start()
        try:
            reply = await _send(url)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        await said.gone.wait()
    assert isinstance(reply, Answered) == (name in WITH_STATUS), reply
    assert reply != NoAnswer(reason="no answer within 5 s"), "cut off for its length, not for its time"
    assert peak < MEMORY_BYTES
    assert said.bytes < IN_SOCKETS_BYTES


async def test_send__hints_for_ever__says_why_it_hung_up() -> None:
    async with endless("continue") as (url, _):
        assert await _send(url) == NoAnswer(reason=f"ClientOSError: more than {ANSWER_BYTES} bytes came back")


async def test_send__some_hints_first__are_no_answer_and_no_harm() -> None:
    hints = [b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"] * 3
    async with saying(lambda: iter([*hints, OK + b"content-length: 0\r\n\r\n"])) as (url, _):
        assert await _send(url) == Answered(status_code=200)


async def test_send__long_body_in_one_breath__its_status_counts() -> None:
    async with saying(lambda: iter([OK + b"\r\n" + bytes(4 * ANSWER_BYTES)])) as (url, _):
        assert await _send(url) == Answered(status_code=200)


async def test_send__headers_one_by_one_for_ever__gives_up_in_time() -> None:
    lines = [OK, *(b"x-%d: y\r\n" % n for n in range(100_000))]
    async with saying(lambda: iter(lines), every_s=0.02) as (url, said):
        assert await _send(url, timeout_s=0.2) == NoAnswer(reason="no answer within 0.2 s")
        await said.gone.wait()


@pytest.mark.parametrize("said", [b"", b"HTTP/1", OK, OK + b"content-le", OK + b"x: y\r\n"])
@pytest.mark.parametrize("resets", [False, True])
async def test_send__ends_before_its_headers_do__is_a_failed_attempt(said: bytes, resets: bool) -> None:
    async with saying(lambda: iter([said]), resets=resets) as (url, _):
        assert isinstance(await _send(url), NoAnswer)


async def test_send__reset_in_the_body__its_status_counts() -> None:
    async with saying(lambda: iter([OK + b"content-length: 100\r\n\r\nhalf"]), resets=True) as (url, _):
        assert await _send(url) == Answered(status_code=200)


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (b"HTTP/1.1 000 Nothing\r\ncontent-length: 0\r\n\r\n", 0),
        (b"HTTP/1.1 999 Too much\r\ncontent-length: 0\r\n\r\n", 999),
        (b"HTTP/1.1 302 Found\r\nlocation: http://[::bad\r\ncontent-length: 0\r\n\r\n", 302),
        (OK + b"set-cookie: \xff\x80=;;;\r\ncontent-length: 0\r\n\r\n", 200),
        (OK + b"content-type: text/html; charset=\xff\r\ncontent-length: 0\r\n\r\n", 200),
        (b"HTTP/1.1 429 Slow\r\nretry-after: \xff\xfe\r\nretry-after: -1\r\ncontent-length: 0\r\n\r\n", 429),
        (OK + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello", None),
        (OK + b"content-length: -5\r\n\r\nhello", None),
        (OK + b"content-length: 99999999999999999999999\r\n\r\nhello", None),
        (b"HTTP/9.9 200 OK\r\n\r\n", None),
    ],
)
async def test_send__odd_answer__never_raises(said: bytes, code: int | None) -> None:
    async with saying(lambda: iter([said])) as (url, _):
        reply = await _send(url)
    assert reply == Answered(status_code=code) if code is not None else isinstance(reply, NoAnswer)


async def test_send__redirect_to_a_private_address__goes_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def refusal(address: str) -> str | None:
        asked.append(address)
        return None  # 127.0.0.1 stands for an address of the Internet

    monkeypatch.setattr(network_module, "refusal", refusal)
    monkeypatch.setattr(send_module, "check_url", lambda url, **_: url)
    async with receiving() as outside:
        outside.codes["/"] = [302, 307]
        outside.answer_headers["location"] = "http://169.254.169.254/latest/meta-data"
        async with HttpSender(clock=FakeClock(NOW), allow_private=False) as sender:
            replies = [await sender.send(outside.base + "/", {}, b"{}") for _ in range(2)]
    assert replies == [Answered(status_code=302), Answered(status_code=307)]
    assert set(asked) == {"127.0.0.1"}


class HangingResolver(AbstractResolver):
    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")

    async def close(self) -> None:
        pass


async def test_send__name_server_that_hangs__gives_up_in_time() -> None:
    reply = await _send("http://slow.test/", timeout_s=0.1, resolver=HangingResolver())
    assert reply == NoAnswer(reason="no answer within 0.1 s")


async def test_send__as_many_name_servers_hang_as_sends_may_be_under_way__others_are_still_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Their threads were 32: that many endpoints whose name server is silent kept every other name from being found."""
    released = threading.Event()
    loop, crowded = asyncio.get_running_loop(), asyncio.Event()
    asked: list[str] = []
    real = socket.getaddrinfo

    def getaddrinfo(host: str, *args: Any, **how: Any) -> Any:
        if host.endswith(".silent.test"):
            asked.append(host)
            if len(asked) == 32:  # by then all of them wait, for an answer or for a thread
                loop.call_soon_threadsafe(crowded.set)
            released.wait(60)
            raise socket.gaierror("no answer")
        return real("127.0.0.1", *args, **how)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    async with receiving() as receiver, HttpSender(clock=FakeClock(NOW), allow_private=True, timeout_s=60) as sender:
        port = receiver.base.rsplit(":", 1)[1]
        hanging = [
            asyncio.create_task(sender.send(f"http://{n}.silent.test:{port}/", {}, b"{}"))
            for n in range(MAX_IN_FLIGHT - 1)
        ]
        try:
            await crowded.wait()
            assert await sender.send(f"http://well.test:{port}/", {}, b"{}") == Answered(status_code=200)
            assert not any(task.done() for task in hanging)
        finally:
            released.set()
        assert all(isinstance(reply, NoAnswer) for reply in await asyncio.gather(*hanging))


# TLS


def _certificate(folder: Path, host: str, *, days: int = 1) -> Path:
    """A certificate for `host` signed by itself, and its key, in one file. `days`: how long it is still valid."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=9))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "certificate.pem"
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return file


@contextlib.asynccontextmanager
async def _over_tls(certificate: Path) -> AsyncIterator[str]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(OK + b"content-length: 0\r\n\r\n")
            await writer.drain()
        writer.close()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    try:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        server.close()


@pytest.mark.parametrize(
    ("host", "days", "is_known", "said"),
    [
        ("127.0.0.1", 1, True, None),
        ("127.0.0.1", 1, False, "self-signed certificate"),
        ("127.0.0.1", -1, True, "certificate has expired"),
        ("127.0.0.2", 1, True, "IP address mismatch"),
    ],
)
async def test_send__certificate__is_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, days: int, is_known: bool, said: str | None
) -> None:
    certificate = _certificate(tmp_path, host, days=days)
    if is_known:
        context = ssl.create_default_context(cafile=str(certificate))
        monkeypatch.setattr(aiohttp.connector, "_SSL_CONTEXT_VERIFIED", context)
    async with _over_tls(certificate) as url:
        reply = await _send(url)
    if said is None:
        assert reply == Answered(status_code=200)
    else:
        assert isinstance(reply, NoAnswer)
        assert said in reply.reason


async def test_send__tls_handshake_that_hangs__gives_up_in_time() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with raw_server(silent) as url:
        reply = await _send(url.replace("http:", "https:"), timeout_s=0.2)
    assert reply == NoAnswer(reason="no answer within 0.2 s")


# All of them at once


async def test_dispatch__among_bad_endpoints__the_good_one_gets_everything(sqlite_db: Database) -> None:
    clock = FakeClock(datetime.now(UTC))
    async with contextlib.AsyncExitStack() as stack:
        good = await stack.enter_async_context(receiving())
        bad = [(await stack.enter_async_context(endless(name)))[0] for name in ENDLESS if name not in WITH_STATUS]
        bad.append(good.base + "/hang")
        bad.append((await stack.enter_async_context(saying(functools.partial(iter, [OK]), resets=True)))[0])
        sender = await stack.enter_async_context(HttpSender(clock=clock, allow_private=True, timeout_s=1))
        endpoints = [an_endpoint(n, url=url) for n, url in enumerate([*bad, good.base + "/good"])]
        await added(sqlite_db, *endpoints, *(an_event(n) for n in range(5)))
        dispatch = Dispatch(sqlite_db, sender, clock, jitter=lambda: 0.5, patience_s=0.05)
        while (await dispatch.tick()).has_more:
            pass
        assert {got.headers["webhook-id"] for got in good.got_at("/good")} == {an_event(n).id for n in range(5)}
    async with sqlite_db.read() as conn:
        failed = [d for d in await webhooks.find_deliveries(conn, limit=100) if d.endpoint_id != endpoints[-1].id]
        [attempt] = await webhooks.attempts_of(conn, failed[0].id, limit=9)
    assert len(failed) == 5 * len(bad)
    assert {(d.attempts, d.status) for d in failed} == {(1, "pending")}
    assert attempt.error == failed[0].last_error
