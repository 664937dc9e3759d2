"""One provider over a real WebSocket: what HTTP cannot do, and that the rest is as over HTTP."""

from __future__ import annotations

import asyncio
import random
import traceback
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from aiohttp import WSMsgType, web

from chains.errors import (
    BlockNotFound,
    ChainError,
    MethodUnsupported,
    NodeInconsistent,
    RateLimited,
    Rejected,
    ResultTooLarge,
    Timeout,
    Transient,
)
from chains.evm import EvmReader
from chains.model import Address, BlockNumber, BlockSpan, ChainId, LogQuery
from chains.replies import Call
from chains.rpc import RpcProvider
from chains.socket import RpcSocket, _Connection, open_socket, socket_session
from chains.wire import ANYTHING, TEXT
from tests.chains.conftest import Observed, Waits
from tests.chains.scripted_node import SHOP, TOKEN, RpcError, log
from tests.chains.scripted_socket import ScriptedSocket, Socket, dying, nothing, refusing, send, sending

CHAIN_ID: Call[object] = Call(method="eth_chainId", params=[], result=ANYTHING)
MAX_BYTES = 200_000


@pytest.fixture
async def node() -> AsyncIterator[ScriptedSocket]:
    async with ScriptedSocket() as scripted:
        yield scripted


@pytest.fixture
async def provider(node: ScriptedSocket, observed: Observed, waits: Waits) -> AsyncIterator[RpcProvider]:
    made = RpcProvider(
        node.url,
        timeout_s=2,
        observer=observed,
        sleep=waits,
        jitter=random.Random(1),
        max_response_bytes=MAX_BYTES,
    )
    yield made
    await made.close()
    assert reading_tasks() == [], "no task is left behind"


@pytest.fixture
async def impatient(node: ScriptedSocket, observed: Observed) -> AsyncIterator[RpcProvider]:
    """One attempt, a short one."""
    made = RpcProvider(node.url, timeout_s=0.1, attempts=1, observer=observed)
    yield made
    await made.close()


def reading_tasks() -> list[str]:
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name().endswith(" socket")]


async def ask(provider: RpcProvider) -> object:
    return await provider.call("eth_chainId", [], TEXT)


# -- replies -----------------------------------------------------------------------------------------------------------


async def test_call__honest_node__gives_the_decoded_result(
    node: ScriptedSocket, provider: RpcProvider, observed: Observed
) -> None:
    assert await ask(provider) == "0x1"
    assert await ask(provider) == "0x1"
    assert node.types == [WSMsgType.TEXT] * 2
    assert node.handshakes == 1
    assert observed.calls == [("eth_chainId", "ok")] * 2


async def test_provider__before_the_first_call__has_no_socket(node: ScriptedSocket, provider: RpcProvider) -> None:
    assert node.handshakes == 0
    assert reading_tasks() == []


async def test_call__replies_in_another_order__are_matched_by_id(node: ScriptedSocket, provider: RpcProvider) -> None:
    held: list[tuple[Socket, Any]] = []

    async def hold(socket: Socket, body: Any) -> None:
        held.append((socket, body))
        if len(held) == 3:
            for waiting, asked in reversed(held):
                await send(waiting, {"jsonrpc": "2.0", "id": asked["id"], "result": asked["params"][0]})

    node.next_messages.extend([hold] * 3)
    calls = [provider.call("echo", [text], TEXT) for text in ("a", "b", "c")]
    assert await asyncio.gather(*calls) == ["a", "b", "c"]
    assert node.handshakes == 1


async def test_batch__array_in_another_order_between_other_replies__is_matched_by_ids(
    node: ScriptedSocket, provider: RpcProvider
) -> None:
    asked: list[Any] = []

    async def hold(socket: Socket, body: Any) -> None:
        asked.append(body)
        if len(asked) == 2:
            for each in asked:
                is_batch = isinstance(each, list)
                await send(
                    socket,
                    [node.node.answer(item) for item in reversed(each)] if is_batch else node.node.answer(each),
                )

    node.node.methods["second"] = "0x2"
    node.next_messages.extend([hold] * 2)
    second: Call[object] = Call(method="second", params=[], result=ANYTHING)
    batched, single = await asyncio.gather(provider.batch([CHAIN_ID, second]), ask(provider))
    assert batched == ("0x1", "0x2")
    assert single == "0x1"


async def test_call__binary_frame__is_read_like_text(node: ScriptedSocket, provider: RpcProvider) -> None:
    node.next_messages.append(sending(b'{"jsonrpc":"2.0","id":1,"result":"0x5"}'))
    assert await ask(provider) == "0x5"


async def test_call__notifications_and_late_replies_between__are_passed_over(
    node: ScriptedSocket, impatient: RpcProvider
) -> None:
    node.next_messages.append(nothing)
    with pytest.raises(Timeout):
        await ask(impatient)
    late = '{"jsonrpc":"2.0","id":1,"result":"0xbad"}'
    pushed = '{"jsonrpc":"2.0","method":"eth_subscription","params":{"subscription":"0x1","result":{}}}'
    node.next_messages.append(sending(pushed, late, f"[{late}]", pushed, '{"jsonrpc":"2.0","id":2,"result":"0x2"}'))
    assert await ask(impatient) == "0x2"
    assert node.handshakes == 1, "a time-out costs no socket"


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        pytest.param("<html>", Transient, id="no json"),
        pytest.param("", Transient, id="empty"),
        pytest.param(b"\xff\xfe\x00", Transient, id="no utf-8"),
        pytest.param('{"id":1,"result":' + "[" * 100_000, Transient, id="nested without end"),
        pytest.param("null", NodeInconsistent, id="null"),
        pytest.param("[]", NodeInconsistent, id="empty array"),
        pytest.param('{"id":1}', Transient, id="neither result nor error"),
        pytest.param('{"id":99999,"result":"0x1"}', NodeInconsistent, id="wrong id"),
        pytest.param('{"id":"1","result":"0x1"}', NodeInconsistent, id="id as text"),
        pytest.param('{"id":{"a":1},"result":"0x1"}', NodeInconsistent, id="id as object"),
        pytest.param('{"result":"0x1"}', NodeInconsistent, id="no id"),
        pytest.param('{"id":1,"result":5}', NodeInconsistent, id="number for text"),
        pytest.param('{"id":1,"error":{"code":-32000,"message":"header not found"}}', BlockNotFound, id="an error"),
        pytest.param(
            '{"id":null,"error":{"code":429,"message":"Too Many Requests"}}', RateLimited, id="error with null id"
        ),
    ],
)
async def test_call__message_that_is_no_result__raises_what_it_means(
    node: ScriptedSocket, reply: str | bytes, error: type[ChainError]
) -> None:
    """As over HTTP: the only one that waits gets what nobody else can have been meant by."""
    node.next_messages.append(sending(reply))
    provider = RpcProvider(node.url, attempts=1, timeout_s=2)
    with pytest.raises(error) as raised:
        await ask(provider)
    assert not isinstance(raised.value, Timeout)
    assert await ask(provider) == "0x1"
    await provider.close()


async def test_call__error_without_id_while_two_wait__is_nobodys_and_times_out(
    node: ScriptedSocket, impatient: RpcProvider
) -> None:
    node.next_messages.append(nothing)
    node.next_messages.append(sending('{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"Invalid"}}'))
    outcomes = await asyncio.gather(ask(impatient), ask(impatient), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Timeout, Timeout]


async def test_batch__refused_with_a_null_id__is_sent_one_by_one(node: ScriptedSocket, provider: RpcProvider) -> None:
    refusal = '{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"batch requests are not supported"}}'
    node.next_messages.append(sending(refusal))
    assert await provider.batch([CHAIN_ID, CHAIN_ID]) == ("0x1", "0x1")
    assert [isinstance(body, list) for body in node.bodies] == [True, False, False]


async def test_batch__one_reply_of_two__is_never_a_partial_result(node: ScriptedSocket, provider: RpcProvider) -> None:
    async def half(socket: Socket, body: Any) -> None:
        await send(socket, [node.node.answer(body[0])])

    node.next_messages.extend([half] * 3)
    with pytest.raises(Transient, match="lacks 1 of 2"):
        await provider.batch([CHAIN_ID, CHAIN_ID])


async def test_batch__array_with_the_ids_of_two_requests__is_no_answer_to_either(
    node: ScriptedSocket, impatient: RpcProvider
) -> None:
    async def mixed(socket: Socket, body: Any) -> None:
        await send(socket, [node.node.answer(item) for each in node.bodies for item in each])

    node.next_messages.extend([nothing, mixed])
    two = [impatient.batch([CHAIN_ID, CHAIN_ID]) for _ in range(2)]
    outcomes = await asyncio.gather(*two, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [NodeInconsistent, NodeInconsistent]


async def test_reader__over_a_socket__reads_a_span(node: ScriptedSocket, provider: RpcProvider) -> None:
    node.node.logs = [log(5), log(12)]
    query = LogQuery(tokens=frozenset([Address(TOKEN)]), recipients=frozenset([Address(SHOP)]))
    span = BlockSpan(first=BlockNumber(5), last=BlockNumber(12))
    read = await EvmReader(provider, chain_id=ChainId(1)).read_span(span, query)
    assert [transfer.block_number for transfer in read.transfers] == [5, 12]
    assert isinstance(node.bodies[0], list)


# -- the socket's life -------------------------------------------------------------------------------------------------


async def test_call__server_dies_in_the_middle__is_retried_on_a_new_socket(
    node: ScriptedSocket, provider: RpcProvider, observed: Observed
) -> None:
    node.next_messages.append(dying)
    assert await ask(provider) == "0x1"
    assert observed.calls == [("eth_chainId", "transient"), ("eth_chainId", "ok")]
    assert node.handshakes == 2
    assert len(reading_tasks()) == 1


async def test_call__server_dies__fails_all_that_wait_each_with_its_own_error(node: ScriptedSocket) -> None:
    provider = RpcProvider(node.url, attempts=1, name="n")
    node.next_messages.extend([nothing, nothing, dying])
    outcomes = await asyncio.gather(*[ask(provider) for _ in range(3)], return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Transient] * 3
    assert all(str(outcome).startswith("n: eth_chainId: the socket") for outcome in outcomes), outcomes
    await provider.close()


async def test_call__server_closed_while_idle__gets_a_new_socket_without_a_failure(
    node: ScriptedSocket, provider: RpcProvider, observed: Observed
) -> None:
    await ask(provider)
    await node.sockets[0].close(code=1001)
    await node.reaches(lambda: not node.sockets)
    assert await ask(provider) == "0x1"
    assert observed.calls == [("eth_chainId", "ok")] * 2


async def test_call__farewell_instead_of_an_answer__is_transient_with_its_code(node: ScriptedSocket) -> None:
    async def leave(socket: Socket, _: Any) -> None:
        await socket.close(code=1013, message=b"0123456789abcdef-secret")

    node.next_messages.append(leave)
    provider = RpcProvider(node.url, attempts=1)
    with pytest.raises(Transient, match="code 1013") as raised:
        await ask(provider)
    assert "secret" not in str(raised.value)
    await provider.close()


async def test_exchange__pings_unanswered__fails_who_waits(node: ScriptedSocket) -> None:
    """A half-open connection: TCP takes what is sent, and nobody is there."""
    node.answers_pings = False
    node.next_messages.append(nothing)
    socket = RpcSocket(node.url, heartbeat_s=0.1)
    with pytest.raises(Transient, match="ServerTimeoutError"):
        await socket.exchange(b'{"id":1}', [1])
    await socket.close()


async def test_call__many_at_once__open_one_socket(node: ScriptedSocket, provider: RpcProvider) -> None:
    await asyncio.gather(*[ask(provider) for _ in range(20)])
    assert node.handshakes == 1


@pytest.mark.parametrize(
    ("status", "headers", "error"),
    [
        (200, {}, Transient),
        (401, {}, Rejected),
        (403, {}, Rejected),
        (405, {}, MethodUnsupported),
        (429, {"Retry-After": "60"}, RateLimited),
        (503, {}, Transient),
        (302, {"Location": "/elsewhere"}, Rejected),
    ],
)
async def test_call__refused_handshake__raises_what_its_status_means(
    node: ScriptedSocket, provider: RpcProvider, status: int, headers: dict[str, str], error: type[ChainError]
) -> None:
    """A redirect is not followed: it would lead to a host nobody configured."""
    node.next_handshakes.extend([refusing(status, headers)] * 3)
    with pytest.raises(error) as raised:
        await ask(provider)
    assert type(raised.value) is error
    if isinstance(raised.value, RateLimited):
        assert raised.value.retry_after_s == 60
        assert node.handshakes == 1
    assert node.handshakes == (3 if error is Transient else 1)
    node.next_handshakes.clear()
    assert await ask(provider) == "0x1"


async def test_call__nobody_listens__is_transient() -> None:
    provider = RpcProvider("ws://127.0.0.1:1/", attempts=1)
    with pytest.raises(Transient, match="no socket"):
        await ask(provider)
    await provider.close()


async def test_call__handshake_without_an_end__times_out(node: ScriptedSocket, impatient: RpcProvider) -> None:
    async def stall(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(10)
        return web.Response()

    node.next_handshakes.append(stall)
    with pytest.raises(Timeout):
        await ask(impatient)
    assert await ask(impatient) == "0x1"


async def test_call__message_beyond_the_bound__is_too_large_and_the_next_is_fine(
    node: ScriptedSocket, provider: RpcProvider, observed: Observed
) -> None:
    node.next_messages.append(sending('{"id":1,"result":"' + "x" * MAX_BYTES + '"}'))
    with pytest.raises(ResultTooLarge):
        await ask(provider)
    assert await ask(provider) == "0x1"
    assert observed.calls == [("eth_chainId", "result_too_large"), ("eth_chainId", "ok")]


async def test_call__message_beyond_the_bound_while_others_wait__is_too_large_for_all(node: ScriptedSocket) -> None:
    """Whose it was cannot be told. As `Transient` it would be asked again as wide as before, for ever."""
    node.next_messages.extend([nothing, sending('{"id":2,"result":"' + "x" * MAX_BYTES + '"}')])
    provider = RpcProvider(node.url, max_response_bytes=MAX_BYTES)
    outcomes = await asyncio.gather(ask(provider), ask(provider), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ResultTooLarge, ResultTooLarge]
    await provider.close()


async def test_call__large_message_within_the_bound__comes_whole(node: ScriptedSocket, provider: RpcProvider) -> None:
    node.node.methods["eth_chainId"] = "x" * (MAX_BYTES - 100)
    assert await ask(provider) == node.node.methods["eth_chainId"]


async def test_close__while_asked__fails_it_and_leaves_nothing(node: ScriptedSocket, waits: Waits) -> None:
    provider = RpcProvider(node.url, sleep=waits)
    node.next_messages.append(nothing)
    asking = asyncio.create_task(ask(provider))
    await node.reaches(lambda: bool(node.bodies))
    await provider.close()
    await provider.close()
    with pytest.raises(Transient, match="closed"):
        await asking
    with pytest.raises(Transient, match="the provider is closed"):
        await ask(provider)
    assert reading_tasks() == []
    await node.reaches(lambda: not node.sockets)


async def test_close__while_the_socket_opens__leaves_nothing(node: ScriptedSocket) -> None:
    may_go = asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        await may_go.wait()
        return await node._handle(request)

    node.next_handshakes.append(slow)
    socket = RpcSocket(node.url)
    asking = asyncio.create_task(socket.exchange(b'{"id":1}', [1]))
    await node.reaches(lambda: node.handshakes == 1)
    await socket.close()
    may_go.set()
    with pytest.raises(Transient):
        await asking
    assert reading_tasks() == []


async def test_close__right_after_the_handshake__fails_who_waits(
    node: ScriptedSocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the reading task has run at all: cancelled then, it would not even clean up."""
    async with socket_session() as session:
        socket = await open_socket(session, node.url, max_bytes=MAX_BYTES, heartbeat_s=10)
        connection = _Connection(socket, max_bytes=MAX_BYTES, name="new socket")
        monkeypatch.setattr("chains.socket.send", lambda *_: connection.close())
        async with asyncio.timeout(5):
            with pytest.raises(Transient, match="closed"):
                await connection.exchange(b'{"id":1}', [1])
        assert socket.closed
    assert reading_tasks() == []


async def test_call__cancelled__leaves_the_socket_usable(node: ScriptedSocket, provider: RpcProvider) -> None:
    node.next_messages.append(nothing)
    asking = asyncio.create_task(ask(provider))
    await node.reaches(lambda: bool(node.bodies))
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert await ask(provider) == "0x1"
    assert node.handshakes == 1


async def test_errors__never_repeat_the_url_or_its_key(node: ScriptedSocket) -> None:
    url = node.url.replace("ws://", "ws://user:hunter22@")
    provider = RpcProvider(url, attempts=1)
    gone = RpcProvider(url.replace("127.0.0.1", "localhost.invalid"), attempts=1, timeout_s=1)
    node.node.methods["eth_chainId"] = RpcError(-32000, f"invalid key in {url}: queried-secret")
    node.next_handshakes.extend([refusing(403), refusing(503)])
    for asked in (provider, provider, provider, gone):
        with pytest.raises(ChainError) as raised:
            await ask(asked)
        told = "".join(traceback.format_exception(raised.value)) + repr(raised.value) + repr(asked) + asked.name
        for secret in ("0123456789abcdef", "queried-secret", "hunter22"):
            assert secret not in told
    assert node.bodies, "the third was asked"
    await provider.close()
    await gone.close()


async def test_exchange__bytes__come_unchanged(node: ScriptedSocket) -> None:
    raw = b' {"result" : 1.0e0,\n"id":7, "jsonrpc":"2.0"}\xff'[:-1]
    node.next_messages.append(sending(raw))
    socket = RpcSocket(node.url)
    answer = await socket.exchange(msgspec.json.encode({"id": 7}), [7])
    assert answer.body == raw
    assert answer.status == 200
    await socket.close()
