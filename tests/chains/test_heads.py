"""A subscription over a real WebSocket: heads wake, and every way in which it ends is noticed and mended."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web

from chains.errors import ChainError, MethodUnsupported, NodeInconsistent, RateLimited, Rejected, Timeout, Transient
from chains.heads import FIRST_WAIT_S, MAX_MESSAGE_BYTES, MAX_WAIT_S, REFUSED_WAIT_S, HeadsState, HeadWaker
from tests.chains.scripted_node import RpcError
from tests.chains.scripted_socket import SUBSCRIPTION, ScriptedSocket, Socket, dying, nothing, refusing, sending

LIVE, SILENT, DOWN, REFUSED = HeadsState.LIVE, HeadsState.SILENT, HeadsState.DOWN, HeadsState.REFUSED


class Watching:
    """A waker under way: its heads, changes and waits are counted, and can be waited for."""

    def __init__(self, url: str, **options: Any) -> None:
        self.heads = 0
        self.changes: list[tuple[HeadsState, ChainError | None]] = []
        self.waits_s: list[float] = []
        self.may_go_on = asyncio.Event()
        """Cleared by a test that wants it to stay between two tries."""
        self.may_go_on.set()
        self._changed = asyncio.Event()
        self.waker = HeadWaker(
            url,
            on_head=self._on_head,
            on_change=self._on_change,
            sleep=self._sleep,
            jitter=random.Random(1),
            **options,
        )

    @property
    def states(self) -> list[HeadsState]:
        return [state for state, _ in self.changes]

    @property
    def why(self) -> ChainError:
        """Of the last change."""
        error = self.changes[-1][1]
        assert error is not None
        return error

    async def reaches(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    def _on_head(self) -> None:
        self.heads += 1
        self._changed.set()

    def _on_change(self, state: HeadsState, why: ChainError | None) -> None:
        self.changes.append((state, why))
        self._changed.set()

    async def _sleep(self, seconds: float) -> None:
        self.waits_s.append(seconds)
        self._changed.set()
        await self.may_go_on.wait()


@contextlib.asynccontextmanager
async def watching(url: str, **options: Any) -> AsyncIterator[Watching]:
    made = Watching(url, **options)
    running = asyncio.create_task(made.waker.run())
    try:
        yield made
    finally:
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


@pytest.fixture
async def node() -> AsyncIterator[ScriptedSocket]:
    async with ScriptedSocket() as scripted:
        yield scripted


async def test_run__heads__wake(node: ScriptedSocket) -> None:
    async with watching(node.url) as heads:
        assert (heads.waker.state, heads.waker.last_head_at_s) == ("starting", None)
        await heads.reaches(lambda: heads.waker.is_live)
        await node.push_head()
        await node.push_head()
        await heads.reaches(lambda: heads.heads == 2)
        assert heads.waker.last_head_at_s is not None
        assert heads.changes == [(LIVE, None)]
    assert [body["method"] for body in node.bodies] == ["eth_subscribe"]
    assert node.bodies[0]["params"] == ["newHeads"]


async def test_run__cancelled__closes_the_socket(node: ScriptedSocket) -> None:
    before = asyncio.all_tasks()
    async with watching(node.url) as heads:
        await heads.reaches(lambda: heads.waker.is_live)
        assert len(node.sockets) == 1
    await node.reaches(lambda: not node.sockets)
    assert {task for task in asyncio.all_tasks() - before if "heads" in repr(task)} == set()


async def test_run__head_before_the_confirmation__wakes(node: ScriptedSocket) -> None:
    async def hasty(socket: Socket, body: Any) -> None:
        await node.push_head()
        await node.send_answer(socket, body)

    node.next_messages.append(hasty)
    async with watching(node.url) as heads:
        await heads.reaches(lambda: heads.heads == 1)
        await node.push_head()
        await heads.reaches(lambda: heads.heads == 2)
    assert node.handshakes == 1


async def test_run__other_messages__wake_nobody(node: ScriptedSocket) -> None:
    async with watching(node.url) as heads:
        await heads.reaches(lambda: heads.waker.is_live)
        await node.push({"jsonrpc": "2.0", "method": "something_else", "params": {}})
        await node.push({"jsonrpc": "2.0", "id": 5, "result": "0x1"})
        for socket in node.sockets:
            await socket.send_str("no json")
        await node.push_head()
        await heads.reaches(lambda: heads.heads == 1)
    assert heads.changes == [(LIVE, None)]


# -- it ends -----------------------------------------------------------------------------------------------------------


async def test_run__socket_breaks__is_replaced(node: ScriptedSocket) -> None:
    async with watching(node.url) as heads:
        await heads.reaches(lambda: heads.waker.is_live)
        heads.may_go_on.clear()
        node.kill()
        await heads.reaches(lambda: len(heads.waits_s) == 1)
        assert heads.waker.state is DOWN
        assert not heads.waker.is_live
        assert type(heads.why) is Transient
        assert FIRST_WAIT_S / 2 <= heads.waits_s[0] <= FIRST_WAIT_S
        heads.may_go_on.set()
        await heads.reaches(lambda: heads.waker.is_live)
        await node.push_head()
        await heads.reaches(lambda: heads.heads == 1)
    assert heads.states == [LIVE, DOWN, LIVE]


async def test_run__farewell__is_told_with_its_code(node: ScriptedSocket) -> None:
    async with watching(node.url) as heads:
        await heads.reaches(lambda: heads.waker.is_live)
        await node.sockets[0].close(code=1012)
        await heads.reaches(lambda: DOWN in heads.states)
        assert "code 1012" in str(heads.why)


async def test_run__pings_unanswered__is_replaced(node: ScriptedSocket) -> None:
    node.answers_pings = False
    async with watching(node.url, heartbeat_s=0.05) as heads:
        await heads.reaches(lambda: heads.states[:3] == [LIVE, DOWN, LIVE])
    assert node.handshakes >= 2


async def test_run__silent_subscription__is_replaced_and_said_once_until_a_head_comes(node: ScriptedSocket) -> None:
    """A quiet chain looks the same: it must not fill the log with live, silent, live, silent."""

    async def confirm_and_push(socket: Socket, body: Any) -> None:
        await node.send_answer(socket, body)
        await node.push_head()

    async with watching(node.url, silent_after_s=0.05) as heads:
        await heads.reaches(lambda: len(heads.waits_s) >= 3)
        assert heads.states == [LIVE, SILENT]
        assert heads.why.label == "silent"
        assert not heads.waker.is_live
        assert max(heads.waits_s) <= FIRST_WAIT_S, "the silence was wait enough"
        assert node.handshakes >= 3
        node.next_messages.append(confirm_and_push)
        await heads.reaches(lambda: heads.heads == 1)
        assert heads.states[:3] == [LIVE, SILENT, LIVE]


async def test_run__chatter_without_heads__is_silence(node: ScriptedSocket) -> None:
    async with watching(node.url, silent_after_s=0.1) as heads:
        await heads.reaches(lambda: heads.waker.is_live)
        while SILENT not in heads.states:
            await node.push({"jsonrpc": "2.0", "method": "something_else", "params": {}})
            await asyncio.sleep(0.01)


async def test_run__message_beyond_the_bound__is_replaced(node: ScriptedSocket) -> None:
    async with watching(node.url) as heads:
        await heads.reaches(lambda: heads.waker.is_live)
        await node.push({"method": "eth_subscription", "params": "x" * MAX_MESSAGE_BYTES})
        await heads.reaches(lambda: heads.states == [LIVE, DOWN, LIVE])
    assert heads.heads == 0


async def test_run__nobody_listens__waits_grow_to_a_bound_and_it_is_said_once() -> None:
    async with watching("ws://127.0.0.1:1/") as heads:
        await heads.reaches(lambda: len(heads.waits_s) >= 12)
    assert heads.states == [DOWN]
    assert FIRST_WAIT_S / 2 <= heads.waits_s[0] <= FIRST_WAIT_S
    assert FIRST_WAIT_S <= heads.waits_s[2] <= 4 * FIRST_WAIT_S
    assert MAX_WAIT_S / 2 <= heads.waits_s[-1] <= MAX_WAIT_S


async def test_run__confirmed_and_closed_at_once__waits_grow_all_the_same(node: ScriptedSocket) -> None:
    async def confirm_and_leave(socket: Socket, body: Any) -> None:
        await node.send_answer(socket, body)
        await socket.close()

    node.next_messages.extend([confirm_and_leave] * 8)
    async with watching(node.url) as heads:
        await heads.reaches(lambda: len(heads.waits_s) >= 8)
        assert heads.waits_s[7] > 8 * FIRST_WAIT_S
        await heads.reaches(lambda: heads.waker.is_live)
        await node.push_head()
        await heads.reaches(lambda: heads.heads == 1)
        node.kill()
        await heads.reaches(lambda: len(heads.waits_s) >= 9)
        assert heads.waits_s[8] <= FIRST_WAIT_S, "a head forgives what was before"


# -- it does not begin -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param(RpcError(-32601, "Method not found"), MethodUnsupported, id="unsupported"),
        pytest.param(RpcError(-32000, "notifications not supported"), ChainError, id="in words of its own"),
        pytest.param(RpcError(-32000, "Must be authenticated!"), Rejected, id="key"),
        pytest.param(7, NodeInconsistent, id="an id that is none"),
    ],
)
async def test_run__refused__is_said_once_and_asked_again_rarely(
    node: ScriptedSocket, answer: object, error: type[ChainError]
) -> None:
    node.node.methods["eth_subscribe"] = answer
    async with watching(node.url) as heads:
        await heads.reaches(lambda: len(heads.waits_s) >= 3)
        assert heads.states == [REFUSED]
        assert isinstance(heads.why, error)
        assert str(heads.why).startswith("127.0.0.1: eth_subscribe: ")
        assert min(heads.waits_s) >= REFUSED_WAIT_S / 2
        node.node.methods["eth_subscribe"] = SUBSCRIPTION
        await heads.reaches(lambda: heads.waker.is_live)
    assert heads.states == [REFUSED, LIVE]


async def test_run__refused_handshake__is_asked_again_rarely(node: ScriptedSocket) -> None:
    node.next_handshakes.append(refusing(403))
    async with watching(node.url) as heads:
        await heads.reaches(lambda: heads.waker.is_live)
    assert heads.states == [REFUSED, LIVE]
    assert heads.waits_s[0] >= REFUSED_WAIT_S / 2


async def test_run__rate_limited__waits_as_long_as_it_is_asked_to(node: ScriptedSocket) -> None:
    node.next_handshakes.append(refusing(429, {"Retry-After": "90"}))
    node.next_handshakes.append(refusing(429, {"Retry-After": "999999999"}))
    async with watching(node.url) as heads:
        await heads.reaches(lambda: heads.waker.is_live)
    assert heads.states == [DOWN, LIVE]
    assert isinstance(heads.changes[0][1], RateLimited)
    assert heads.waits_s == [90, REFUSED_WAIT_S]


async def test_run__no_confirmation__is_given_up_in_time(node: ScriptedSocket) -> None:
    node.next_messages.extend([nothing, dying, sending("no json")])
    async with watching(node.url, subscribe_timeout_s=0.1) as heads:
        await heads.reaches(lambda: heads.waker.is_live)
    assert heads.states == [DOWN, LIVE]
    assert isinstance(heads.changes[0][1], Timeout)
    assert node.handshakes == 4


async def test_run__handshake_without_an_end__is_given_up_in_time(node: ScriptedSocket) -> None:
    async def stall(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(10)
        return web.Response()

    node.next_handshakes.append(stall)
    async with watching(node.url, subscribe_timeout_s=0.1) as heads:
        await heads.reaches(lambda: heads.waker.is_live)
    assert isinstance(heads.changes[0][1], Timeout)


async def test_errors__never_repeat_the_url_or_its_key(node: ScriptedSocket) -> None:
    echo = RpcError(-32000, f"no subscriptions for {node.url} 0123456789abcdef-secret")
    node.node.methods["eth_subscribe"] = echo
    async with watching(node.url) as heads:
        await heads.reaches(lambda: bool(heads.changes))
        told = str(heads.why) + repr(heads.why) + repr(heads.waker) + heads.waker.name
    assert "no subscriptions" in told
    assert "0123456789abcdef" not in told
    assert "queried-secret" not in told


@pytest.mark.parametrize("url", ["https://host/key-1234", "ftp://host/key-1234", "wss:///key-1234"])
def test_waker__url_that_cannot_push__is_a_value_error_without_the_key(url: str) -> None:
    with pytest.raises(ValueError) as raised:
        HeadWaker(url, on_head=lambda: None)
    assert "key-1234" not in str(raised.value)
