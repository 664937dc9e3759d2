"""The real sender against real servers on 127.0.0.1, behaving and not."""

from __future__ import annotations

import asyncio
import gzip
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from datetime import timedelta
from email.utils import format_datetime

import pytest
import pytest_asyncio
from aiohttp.abc import AbstractResolver, ResolveResult

from settler.clock import FakeClock
from settler.domain.delivery import RETRY_AFTER_MAX_S, Answered, NoAnswer, Reply
from settler.webhook import network
from settler.webhook import send as send_module
from settler.webhook.network import SystemNetwork
from settler.webhook.send import BODY_BYTES, DRAIN_BYTES, HttpSender
from tests.webhook.receiver import Receiver, raw_server, receiving, reset
from tests.webhook.samples import NOW

BODY = '{"a":"✓"}'.encode()
HEADERS = {"content-type": "application/json", "webhook-id": "evt_1"}


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as running:
        yield running


async def _send(
    url: str,
    *,
    body: bytes = BODY,
    allow_private: bool = True,
    resolver: AbstractResolver | None = None,
    timeout_s: float = 5.0,
) -> Reply:
    async with HttpSender(
        clock=FakeClock(NOW), allow_private=allow_private, network=SystemNetwork(resolver), timeout_s=timeout_s
    ) as sender:
        return await sender.send(url, HEADERS, body)


def _reason(reply: Reply) -> str:
    assert isinstance(reply, NoAnswer), reply
    return reply.reason


class FakeResolver(AbstractResolver):
    """Answers the next list of addresses at each call, the last one for ever."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.calls = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        addresses = self.answers[min(self.calls, len(self.answers) - 1)]
        self.calls += 1
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        pass


# What goes out


async def test_send__ok__the_very_bytes_arrive_once(receiver: Receiver) -> None:
    assert await _send(receiver.base + "/ok?x=1") == Answered(status_code=200)
    (got,) = receiver.got
    assert got.body == BODY
    assert got.headers["webhook-id"] == "evt_1"
    assert got.headers["content-type"] == "application/json"
    assert got.headers["user-agent"].startswith("settler/")


async def test_send__cookies_set__are_not_sent_back(receiver: Receiver) -> None:
    receiver.answer_headers["set-cookie"] = "a=b"
    async with HttpSender(clock=FakeClock(NOW), allow_private=True) as sender:
        for _ in range(2):
            await sender.send(receiver.base + "/", HEADERS, BODY)
    assert len(receiver.got) == 2
    assert all("cookie" not in got.headers for got in receiver.got)


async def test_send__body_too_large__is_not_sent(receiver: Receiver) -> None:
    assert "limit" in _reason(await _send(receiver.base, body=bytes(BODY_BYTES + 1)))
    assert not receiver.got
    assert await _send(receiver.base, body=bytes(BODY_BYTES)) == Answered(status_code=200)


async def test_send__proxy_in_the_environment__is_not_used(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert await _send(receiver.base) == Answered(status_code=200)


# What comes back


@pytest.mark.parametrize("code", [204, 400, 404, 410, 429, 500, 503])
async def test_send__any_status__is_answered(receiver: Receiver, code: int) -> None:
    receiver.codes["/"] = [code]
    assert await _send(receiver.base + "/") == Answered(status_code=code)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_send__redirect__is_not_followed(receiver: Receiver, code: int) -> None:
    receiver.codes["/"] = [code]
    receiver.answer_headers["location"] = receiver.base + "/elsewhere"
    assert await _send(receiver.base + "/") == Answered(status_code=code)
    assert not receiver.got_at("/elsewhere")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("999999999", RETRY_AFTER_MAX_S),
        (format_datetime(NOW + timedelta(seconds=30), usegmt=True), 30.0),
        ("later", None),
    ],
)
async def test_send__retry_after__is_read_and_capped(receiver: Receiver, value: str, seconds: float | None) -> None:
    receiver.codes["/"] = [429]
    receiver.answer_headers["retry-after"] = value
    assert await _send(receiver.base + "/") == Answered(status_code=429, retry_after_s=seconds)


async def test_send__hanging__gives_up_in_time(receiver: Receiver) -> None:
    started = asyncio.get_running_loop().time()
    reply = await _send(receiver.base + "/hang", timeout_s=0.2)
    assert "0.2 s" in _reason(reply)
    assert asyncio.get_running_loop().time() - started < 2


async def test_send__accepts_and_says_nothing__gives_up_in_time() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with raw_server(silent) as url:
        assert "0.2 s" in _reason(await _send(url, timeout_s=0.2))


async def test_send__200_mb_answer__is_not_read(receiver: Receiver) -> None:
    assert await _send(receiver.base + "/huge") == Answered(status_code=200)
    # What the sockets' buffers hold went out as well.
    assert receiver.sent_bytes < 20 * 2**20


async def test_send__answer_drips_for_ever__status_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(send_module, "DRAIN_S", 0.1)

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
        try:
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.01)
        except ConnectionError:
            writer.close()

    async with raw_server(drip) as url:
        started = asyncio.get_running_loop().time()
        assert await _send(url) == Answered(status_code=200)
        assert asyncio.get_running_loop().time() - started < 2


async def test_send__gzip_bomb__is_not_inflated() -> None:
    bomb = gzip.compress(bytes(50 * 2**20))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(bomb))
        writer.write(bomb)
        await reader.read()
        writer.close()

    async with raw_server(serve) as url:
        assert len(bomb) < DRAIN_BYTES
        assert await _send(url) == Answered(status_code=200)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"a" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 banana\r\n\r\n",
        b"HTTP/1.1 500 \x1b[31mred\r\ncontent-length: 0\r\n\r\n",
        b"\x16\x03\x01\x00\x01",
    ],
)
async def test_send__something_other_than_http__is_a_failed_attempt(said: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(said)
        writer.close()

    async with raw_server(serve) as url:
        reply = await _send(url)
        assert isinstance(reply, NoAnswer) or reply.status_code == 500


async def test_send__connection_reset__is_a_failed_attempt() -> None:
    async with raw_server(reset) as url:
        assert _reason(await _send(url))


async def test_send__nobody_listens__is_a_failed_attempt() -> None:
    async with raw_server(reset) as url:
        pass
    assert "Connect" in _reason(await _send(url))


async def test_send__tls_to_a_plain_port__is_a_failed_attempt(receiver: Receiver) -> None:
    assert _reason(await _send(receiver.base.replace("http:", "https:")))


async def test_send__no_such_name__is_a_failed_attempt() -> None:
    assert _reason(await _send("http://no-such-name.invalid/"))


async def test_send__host_that_is_no_name__is_a_failed_attempt() -> None:
    assert _reason(await _send("http://" + "a" * 70 + ".test/"))
    assert _reason(await _send("http://a..b/"))


# Whom it may call (attack 24)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.0.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
        *("::", "::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "fd00::1", "fe80::1%lo"),
    ],
)
async def test_send__name_of_a_private_address__is_refused(address: str) -> None:
    reply = await _send("http://rebind.test/", allow_private=False, resolver=FakeResolver([address]))
    assert _reason(reply).startswith(f"refused: {address} is a ")


async def test_send__one_private_address_among_public__is_refused(receiver: Receiver) -> None:
    resolver = FakeResolver(["93.184.216.34", "127.0.0.1"])
    port = receiver.base.rsplit(":", 1)[1]
    reply = await _send(f"http://rebind.test:{port}/", allow_private=False, resolver=resolver)
    assert "refused: 127.0.0.1" in _reason(reply)
    assert not receiver.got


async def test_send__rebinding_name__is_asked_once_an_attempt_and_vetted_each_time(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name means something else at each question: only the answer that was vetted is connected to."""
    # 127.0.0.9 stands for an address of the Internet: nobody listens there
    monkeypatch.setattr(network, "refusal", {"127.0.0.9": None, "127.0.0.1": "loopback"}.__getitem__)
    port = receiver.base.rsplit(":", 1)[1]
    resolver = FakeResolver(["127.0.0.9"], ["127.0.0.1"])
    async with HttpSender(clock=FakeClock(NOW), allow_private=False, network=SystemNetwork(resolver)) as sender:
        first = await sender.send(f"http://rebind.test:{port}/", HEADERS, BODY)
        assert "ConnectorError" in _reason(first)
        assert resolver.calls == 1
        second = await sender.send(f"http://rebind.test:{port}/", HEADERS, BODY)
        assert _reason(second).startswith("refused: 127.0.0.1 is a loopback")
        assert resolver.calls == 2
    assert not receiver.got


async def test_send__allowed_private__connects_to_the_one_answer(receiver: Receiver) -> None:
    port = receiver.base.rsplit(":", 1)[1]
    resolver = FakeResolver(["127.0.0.1"], ["127.0.0.9"])
    assert await _send(f"http://rebind.test:{port}/", resolver=resolver) == Answered(status_code=200)
    assert resolver.calls == 1
    assert receiver.got[0].headers["host"] == f"rebind.test:{port}"


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "0x7f000001", "127.1", "0177.0.0.1", "localhost", "[::1]"])
async def test_send__loopback_in_any_spelling__is_refused(receiver: Receiver, host: str) -> None:
    port = receiver.base.rsplit(":", 1)[1]
    assert _reason(await _send(f"http://{host}:{port}/", allow_private=False))
    assert not receiver.got


async def test_send__literal_address_past_the_first_look__is_refused_at_connect(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(send_module, "check_url", lambda url, **_: url)
    reply = await _send(receiver.base, allow_private=False)
    assert _reason(reply).startswith("refused: 127.0.0.1 is a loopback")
    assert not receiver.got


async def test_send__user_name_in_the_url__is_refused(receiver: Receiver) -> None:
    assert "user name" in _reason(await _send(receiver.base.replace("://", "://user:pass@")))
    assert not receiver.got


async def test_send__close__leaves_no_task() -> None:
    before = asyncio.all_tasks()
    await _send("http://127.0.0.1:1/")
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


def test_process__ends_while_a_name_server_says_nothing() -> None:
    """The threads that asked it were an executor's, which Python joins: a stop took as long as the name server."""
    program = """
import asyncio, socket, time
socket.getaddrinfo = lambda *_, **__: time.sleep(60)
from settler.clock import SystemClock
from settler.webhook.send import HttpSender

async def main():
    async with HttpSender(clock=SystemClock(), allow_private=False, timeout_s=0.2) as sender:
        print((await sender.send("http://shop.example/", {}, b"{}")).reason)

asyncio.run(main())
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert (ran.stdout, ran.stderr) == ("no answer within 0.2 s\n", "")


async def test_resolve__no_thread_to_be_had__is_a_failed_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a bug of ours, which would stop the dispatch for all endpoints."""

    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(network, "RESOLVER_THREADS", 1)
    monkeypatch.setattr(threading.Thread, "start", start)
    for _ in range(2):
        assert "can't start new thread" in _reason(await _send("http://shop.example/"))


async def test_resolve__more_than_there_are_threads__take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look-up that its send gave up on holds a thread until it ends, and then lets the next one go on."""
    may_answer, asked = threading.Event(), 0

    def slow(host: str, port: int, **_: object) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        nonlocal asked
        asked += 1
        may_answer.wait(10)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", port))]

    monkeypatch.setattr(network, "RESOLVER_THREADS", 2)
    monkeypatch.setattr(socket, "getaddrinfo", slow)
    resolver = network.SystemResolver()
    given_up = [asyncio.create_task(resolver.resolve("shop.example", 80)) for _ in range(2)]
    await asyncio.sleep(0.05)
    for task in given_up:
        task.cancel()
    waiting = asyncio.create_task(resolver.resolve("shop.example", 80))
    await asyncio.sleep(0.05)
    assert asked == 2
    may_answer.set()
    assert [result["host"] for result in await waiting] == ["192.0.2.1"]
