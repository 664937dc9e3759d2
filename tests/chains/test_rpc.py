"""One provider over real HTTP: every malformed, refused, slow and lying answer we could think of."""

from __future__ import annotations

import asyncio
import random
import traceback
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from chains.errors import (
    BlockNotFound,
    ChainError,
    MethodUnsupported,
    NodeInconsistent,
    RangeTooWide,
    RateLimited,
    Rejected,
    ResultTooLarge,
    Timeout,
    Transient,
)
from chains.replies import Call
from chains.rpc import BATCHES_SENT_ALONE, MAX_BATCH, MAX_WAIT_S, RpcProvider
from chains.url import checked_host
from chains.wire import ANYTHING, HEADER, LOGS, TEXT
from tests.chains.conftest import Observed, Waits
from tests.chains.scripted_node import RpcError, ScriptedNode, as_json, replying, replying_bytes

CHAIN_ID: Call[object] = Call(method="eth_chainId", params=[], result=ANYTHING)
GOOD = {"jsonrpc": "2.0", "id": "$id", "result": "0x1"}


async def ask(provider: RpcProvider) -> object:
    return await provider.call("eth_chainId", [], TEXT)


async def test_call__honest_node__gives_the_decoded_result(
    node: ScriptedNode, provider: RpcProvider, observed: Observed
) -> None:
    assert await ask(provider) == "0x1"
    assert node.content_types == ["application/json"]
    assert observed.calls == [("eth_chainId", "ok")]


HTML = b"<html><body>502 Bad Gateway</body></html>"


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        pytest.param(HTML, 200, Transient, id="html with 200"),
        pytest.param(HTML, 502, Transient, id="html with 502"),
        pytest.param(b"", 200, Transient, id="empty"),
        pytest.param(b"", 500, Transient, id="empty 500"),
        pytest.param(b'{"jsonrpc":"2.0","id":1,"resu', 200, Transient, id="truncated"),
        pytest.param(b"\xff\xfe\x00", 200, Transient, id="no utf-8"),
        pytest.param(b'{"id":1,"result":' + b"[" * 100_000, 200, Transient, id="nested without end"),
        pytest.param(b'{"a":' * 20_000, 200, Transient, id="objects without end"),
        pytest.param(b"null", 200, NodeInconsistent, id="null"),
        pytest.param(b"42", 200, NodeInconsistent, id="a number"),
        pytest.param(b'"ok"', 200, NodeInconsistent, id="a string"),
        pytest.param(b'[{"id":1,"result":"0x1"}]', 200, NodeInconsistent, id="an array for one call"),
        pytest.param(
            b'{"jsonrpc":"2.0","id":{"a":1},"result":"0x1"}', 200, NodeInconsistent, id="an id that is an object"
        ),
        pytest.param(b'{"jsonrpc":"2.0","id":true,"result":"0x1"}', 200, NodeInconsistent, id="an id that is true"),
        pytest.param(b"Too Many Requests", 429, RateLimited, id="text 429"),
        pytest.param(b'{"message":"slow down"}', 429, RateLimited, id="json 429 without an error member"),
        pytest.param(b"error code: 1015", 429, RateLimited, id="cloudflare"),
        pytest.param(b"", 401, Rejected, id="401"),
        pytest.param(b"", 403, Rejected, id="403"),
        pytest.param(b"", 404, Rejected, id="404"),
        pytest.param(b"Method Not Allowed", 405, MethodUnsupported, id="405"),
        pytest.param(b"", 408, Timeout, id="408"),
        pytest.param(b"", 413, ResultTooLarge, id="413"),
        pytest.param(b"", 504, Timeout, id="504"),
        pytest.param(b"", 301, Rejected, id="redirect"),
    ],
)
async def test_call__http_answer_that_is_no_result__raises_what_it_means(
    node: ScriptedNode, provider: RpcProvider, body: bytes, status: int, error: type[ChainError]
) -> None:
    node.next_responses.extend([replying_bytes(body, status=status)] * 3)
    with pytest.raises(error) as raised:
        await ask(provider)
    assert type(raised.value) is error


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        pytest.param({"id": "$id"}, Transient, id="neither result nor error"),
        pytest.param({"id": "$id", "error": None}, Transient, id="null error and no result"),
        pytest.param({"id": 999_999, "result": "0x1"}, NodeInconsistent, id="wrong id"),
        pytest.param({"result": "0x1"}, NodeInconsistent, id="no id"),
        pytest.param({"id": "1", "result": "0x1"}, NodeInconsistent, id="id as text"),
        pytest.param({"id": "$id", "result": None}, NodeInconsistent, id="null where none may be"),
        pytest.param({"id": "$id", "result": 5}, NodeInconsistent, id="number for text"),
        pytest.param({"id": "$id", "result": ["0x1"]}, NodeInconsistent, id="array for text"),
        pytest.param(
            {"id": "$id", "result": "0x1", "error": {"code": -32601, "message": "Method not found"}},
            MethodUnsupported,
            id="both: the error wins",
        ),
        pytest.param(
            {"id": None, "error": {"code": -32600, "message": "Must be authenticated!"}},
            Rejected,
            id="error with null id",
        ),
        pytest.param({"id": "$id", "error": "header not found"}, BlockNotFound, id="error as text"),
        pytest.param({"id": "$id", "error": {}}, Transient, id="empty error"),
        pytest.param({"id": "$id", "error": []}, Transient, id="error as array"),
        pytest.param({"id": "$id", "error": 7}, Transient, id="error as number"),
        pytest.param({"id": "$id", "error": {"code": "x", "message": {"a": 1}}}, Transient, id="error of objects"),
        pytest.param({"id": "$id", "error": {"code": 1e300, "message": ""}}, Transient, id="code beyond int"),
        pytest.param(
            {"id": "$id", "error": {"code": -32000, "message": "limited to a 1000 blocks range"}},
            RangeTooWide,
            id="200 with error",
        ),
    ],
)
async def test_call__json_that_is_no_result__raises_what_it_means(
    node: ScriptedNode, provider: RpcProvider, reply: dict[str, Any], error: type[ChainError]
) -> None:
    node.next_responses.extend([replying(reply)] * 3)
    with pytest.raises(error):
        await ask(provider)


# -- retries -----------------------------------------------------------------------------------------------------------


async def test_call__passing_failure__is_tried_again_and_counted_each_time(
    node: ScriptedNode, provider: RpcProvider, observed: Observed, waits: Waits
) -> None:
    node.next_responses.extend([replying_bytes(b"", status=503), replying_bytes(b"<html>")])
    assert await ask(provider) == "0x1"
    assert observed.calls == [("eth_chainId", "transient")] * 2 + [("eth_chainId", "ok")]
    assert len(waits.seconds) == 2
    assert all(0 <= wait <= MAX_WAIT_S for wait in waits.seconds)


async def test_call__failing_three_times__gives_up(
    node: ScriptedNode, provider: RpcProvider, observed: Observed
) -> None:
    node.next_responses.extend([replying_bytes(b"", status=500)] * 5)
    with pytest.raises(Transient):
        await ask(provider)
    assert len(node.bodies) == len(observed.calls) == 3


@pytest.mark.parametrize(
    "message",
    ["header not found", "limited to a 1000 blocks range", "Must be authenticated!", "Method not found"],
)
async def test_call__lasting_failure__is_not_repeated(node: ScriptedNode, provider: RpcProvider, message: str) -> None:
    node.methods["eth_chainId"] = RpcError(-32000, message)
    with pytest.raises(ChainError):
        await ask(provider)
    assert len(node.bodies) == 1


async def test_call__one_attempt__is_not_repeated(node: ScriptedNode) -> None:
    node.next_responses.append(replying_bytes(b"", status=503))
    provider = RpcProvider(node.url, attempts=1)
    with pytest.raises(Transient):
        await ask(provider)
    assert len(node.bodies) == 1
    await provider.close()
    with pytest.raises(ValueError, match="at least 1"):
        RpcProvider(node.url, attempts=0)


async def test_call__retry_after_within_the_bound__is_waited(
    node: ScriptedNode, provider: RpcProvider, waits: Waits, observed: Observed
) -> None:
    node.next_responses.append(replying({"error": "slow"}, status=429, headers={"Retry-After": "2"}))
    assert await ask(provider) == "0x1"
    assert waits.seconds == [2.0]
    assert observed.calls[0] == ("eth_chainId", "rate_limited")


async def test_call__retry_after_beyond_the_bound__goes_up_at_once(
    node: ScriptedNode, provider: RpcProvider, waits: Waits
) -> None:
    node.next_responses.append(replying_bytes(b"", status=429))
    node.next_responses.append(replying({}, status=429, headers={"Retry-After": "3600"}))
    with pytest.raises(RateLimited) as raised:
        await ask(provider)
    assert raised.value.retry_after_s == 3600
    assert len(waits.seconds) == 1


@pytest.mark.parametrize("value", ["Wed, 21 Oct 2026 07:28:00 GMT", "-5", "1e9", "soon", "9" * 40])
async def test_call__retry_after_that_is_no_seconds__is_ignored(
    node: ScriptedNode, provider: RpcProvider, waits: Waits, value: str
) -> None:
    node.next_responses.append(replying({}, status=429, headers={"Retry-After": value}))
    assert await ask(provider) == "0x1"
    assert waits.seconds[0] <= MAX_WAIT_S


async def test_call__infura_backoff_of_zero__is_floored(
    node: ScriptedNode, provider: RpcProvider, waits: Waits
) -> None:
    error = {"code": -32005, "message": "project ID request rate exceeded", "data": {"rate": {"backoff_seconds": 0}}}
    node.next_responses.append(replying({"id": "$id", "error": error}))
    await ask(provider)
    assert waits.seconds == [0.25]


# -- time, bytes, connections ------------------------------------------------------------------------------------------


async def test_call__answer_that_trickles__times_out(
    node: ScriptedNode, provider: RpcProvider, observed: Observed
) -> None:
    async def trickle(request: web.Request, raw: bytes) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(100):
            await response.write(b" ")
            await asyncio.sleep(0.05)
        return response

    node.next_responses.extend([trickle] * 3)
    started = asyncio.get_running_loop().time()
    with pytest.raises(Timeout):
        await ask(provider)
    assert asyncio.get_running_loop().time() - started < 3
    assert observed.calls == [("eth_chainId", "timeout")] * 3


async def test_call__waiting_for_a_slot__counts_into_the_time_out(node: ScriptedNode) -> None:
    async def never(request: web.Request, _: bytes) -> web.StreamResponse:
        await asyncio.sleep(5)
        return web.Response()

    node.next_responses.extend([never] * 4)
    provider = RpcProvider(node.url, timeout_s=0.2, attempts=1, max_in_flight=1)
    started = asyncio.get_running_loop().time()
    outcomes = await asyncio.gather(*[ask(provider) for _ in range(4)], return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Timeout] * 4
    assert asyncio.get_running_loop().time() - started < 1
    await provider.close()


@pytest.mark.parametrize("announced", [True, False])
async def test_call__body_beyond_the_bound__is_too_large(
    node: ScriptedNode, provider: RpcProvider, announced: bool
) -> None:
    async def flood(request: web.Request, raw: bytes) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "10000000"} if announced else {})
        await response.prepare(request)
        for _ in range(100):
            await response.write(b"x" * 100_000)
        return response

    node.next_responses.append(flood)
    with pytest.raises(ResultTooLarge):
        await ask(provider)
    assert await ask(provider) == "0x1"


async def test_call__small_body_that_unpacks_beyond_the_bound__is_too_large(
    node: ScriptedNode, provider: RpcProvider
) -> None:
    async def bomb(request: web.Request, _: bytes) -> web.StreamResponse:
        response = web.Response(body=b"0" * 5_000_000)
        response.enable_compression(web.ContentCoding.gzip)
        return response

    node.next_responses.append(bomb)
    with pytest.raises(ResultTooLarge):
        await ask(provider)


async def test_call__connection_reset_in_the_body__is_retried(
    node: ScriptedNode, provider: RpcProvider, observed: Observed
) -> None:
    async def reset(request: web.Request, _: bytes) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "5000"})
        await response.prepare(request)
        await response.write(b'{"jsonrpc":')
        assert request.transport is not None
        request.transport.abort()
        return response

    node.next_responses.append(reset)
    assert await ask(provider) == "0x1"
    assert observed.calls == [("eth_chainId", "transient"), ("eth_chainId", "ok")]


async def test_call__nobody_listens__is_transient() -> None:
    provider = RpcProvider("http://127.0.0.1:1/", attempts=1)
    with pytest.raises(Transient):
        await ask(provider)
    await provider.close()


async def test_call__redirect__is_not_followed(node: ScriptedNode, provider: RpcProvider) -> None:
    node.next_responses.append(replying({}, status=307, headers={"Location": node.url}))
    with pytest.raises(Rejected):
        await ask(provider)
    assert len(node.bodies) == 1


async def test_close__twice_and_then_called__is_transient(provider: RpcProvider) -> None:
    await ask(provider)
    await provider.close()
    await provider.close()
    with pytest.raises(Transient, match="closed"):
        await ask(provider)


async def test_close__given_session__stays_open(node: ScriptedNode) -> None:
    async with aiohttp.ClientSession() as session:
        provider = RpcProvider(node.url, session=session)
        await ask(provider)
        await provider.close()
        assert not session.closed


# -- batches -----------------------------------------------------------------------------------------------------------


async def test_batch__replies_in_another_order__are_matched_by_id(
    node: ScriptedNode, provider: RpcProvider, observed: Observed
) -> None:
    async def reversed_replies(_: web.Request, raw: bytes) -> web.StreamResponse:
        replies = [node.answer(item) for item in node.bodies[-1]]
        return as_json(replies[::-1])

    node.methods["second"] = "0x2"
    node.next_responses.append(reversed_replies)
    second: Call[object] = Call(method="second", params=[], result=ANYTHING)
    assert await provider.batch([CHAIN_ID, second]) == ("0x1", "0x2")
    assert observed.calls == [("eth_chainId", "ok"), ("second", "ok")]
    assert len(node.bodies) == 1


@pytest.mark.parametrize(
    ("replies", "error"),
    [
        pytest.param([], Transient, id="empty array"),
        pytest.param([GOOD], Transient, id="one of two"),
        pytest.param([GOOD, GOOD], NodeInconsistent, id="the same id twice"),
        pytest.param([GOOD, GOOD | {"id": 10**6}], NodeInconsistent, id="an id not asked"),
        pytest.param(
            [GOOD, {"id": None, "error": {"message": "Too Many Requests"}}], RateLimited, id="an error without id"
        ),
        pytest.param([GOOD, "x"], NodeInconsistent, id="an item that is text"),
        pytest.param([None, None], NodeInconsistent, id="null items"),
        pytest.param([[GOOD]], NodeInconsistent, id="nested array"),
        pytest.param(GOOD, Transient, id="one reply for all"),
        pytest.param(
            {"id": None, "error": {"code": 429, "message": "compute units"}}, RateLimited, id="one error for all"
        ),
    ],
)
async def test_batch__replies_that_do_not_fit__are_never_a_partial_result(
    node: ScriptedNode, provider: RpcProvider, replies: Any, error: type[ChainError]
) -> None:
    node.next_responses.extend([replying(replies)] * 3)
    with pytest.raises(error):
        await provider.batch([CHAIN_ID, CHAIN_ID])


async def test_batch__rate_limit_inside_http_200__repeats_the_whole_batch(
    node: ScriptedNode, provider: RpcProvider, observed: Observed
) -> None:
    node.next_responses.append(
        replying([GOOD, {"id": None, "error": {"code": 429, "message": "compute units per second capacity"}}])
    )
    assert await provider.batch([CHAIN_ID, CHAIN_ID]) == ("0x1", "0x1")
    assert len(node.bodies) == 2
    assert [outcome for _, outcome in observed.calls] == ["ok", "rate_limited", "ok", "ok"]


async def test_batch_outcomes__lasting_error_of_one__is_a_value(node: ScriptedNode, provider: RpcProvider) -> None:
    missing: Call[object] = Call(method="nope", params=[], result=ANYTHING)
    outcomes = await provider.batch_outcomes([CHAIN_ID, missing])
    assert outcomes[0] == "0x1"
    assert isinstance(outcomes[1], MethodUnsupported)


@pytest.mark.parametrize(
    "refusal",
    [
        replying({"id": None, "error": {"code": -32600, "message": "batch requests are not supported"}}),
        replying({"id": None, "error": {"code": -32600, "message": "Invalid Request"}}),
        replying({"id": None, "error": {"code": -32700, "message": "parse error"}}),
        replying({"id": None, "error": {"code": -32600, "message": "batch too large"}}),
        replying(
            [{"id": None, "error": {"code": -32600, "message": "Cancelled due to validation errors in batch request"}}]
        ),
        replying_bytes(b"Bad Request", status=400, content_type="text/plain"),
        replying_bytes(b"", status=405),
    ],
)
async def test_batch__refused_as_such__is_sent_one_by_one_and_remembered(
    node: ScriptedNode, provider: RpcProvider, refusal: Any
) -> None:
    node.next_responses.append(refusal)
    assert await provider.batch([CHAIN_ID, CHAIN_ID]) == ("0x1", "0x1")
    assert [isinstance(body, list) for body in node.bodies] == [True, False, False]
    await provider.batch([CHAIN_ID, CHAIN_ID])
    assert [isinstance(body, list) for body in node.bodies[3:]] == [False, False]


async def test_batch__too_large__is_sent_one_by_one_this_time(node: ScriptedNode, provider: RpcProvider) -> None:
    """A batch of large answers says nothing about the next, small one."""
    node.next_responses.append(replying_bytes(b"", status=413))
    assert await provider.batch([CHAIN_ID, CHAIN_ID]) == ("0x1", "0x1")
    await provider.batch([CHAIN_ID, CHAIN_ID])
    assert [isinstance(body, list) for body in node.bodies] == [True, False, False, True]


async def test_batch__refused_long_ago__is_tried_again(node: ScriptedNode, provider: RpcProvider) -> None:
    node.next_responses.append(replying_bytes(b"Bad Request", status=400, content_type="text/plain"))
    for _ in range(BATCHES_SENT_ALONE + 2):
        await provider.batch([CHAIN_ID, CHAIN_ID])
    batches = [at for at, body in enumerate(node.bodies) if isinstance(body, list)]
    assert batches == [0, 2 * BATCHES_SENT_ALONE + 3]


async def test_batch__bad_key__is_not_taken_for_a_refusal_of_batches(node: ScriptedNode, provider: RpcProvider) -> None:
    node.next_responses.extend([replying_bytes(b"invalid api key", status=403)] * 3)
    with pytest.raises(Rejected):
        await provider.batch([CHAIN_ID, CHAIN_ID])
    await provider.batch([CHAIN_ID, CHAIN_ID])
    assert isinstance(node.bodies[-1], list)


async def test_batch__of_one__is_sent_alone(node: ScriptedNode, provider: RpcProvider) -> None:
    assert await provider.batch([CHAIN_ID]) == ("0x1",)
    assert isinstance(node.bodies[0], dict)


async def test_batch__none_or_too_many(node: ScriptedNode, provider: RpcProvider) -> None:
    assert await provider.batch_outcomes([]) == []
    assert node.bodies == []
    with pytest.raises(ValueError, match="at most"):
        await provider.batch_outcomes([CHAIN_ID] * (MAX_BATCH + 1))


# -- secrets -----------------------------------------------------------------------------------------------------------


async def test_errors__never_repeat_the_url_or_its_key(node: ScriptedNode) -> None:
    """A key in a log is a key to rotate: messages, reprs and tracebacks hold the host only."""
    jitter = random.Random(1)
    url = node.url.replace("http://", "http://user:hunter22@")
    provider = RpcProvider(url, attempts=1, timeout_s=0.3, jitter=jitter)
    echo = f"invalid api key 0123456789abcdef-secret for {url} queried-secret".encode()
    node.next_responses.extend([replying_bytes(echo, status=403), replying_bytes(b"<html>" + echo)])
    node.next_responses.append(replying({"id": "$id", "error": {"code": -32000, "message": echo.decode()}}))
    gone = RpcProvider(url.replace("127.0.0.1", "localhost.invalid"), attempts=1, timeout_s=1)
    for asked in (provider, provider, provider, gone):
        with pytest.raises(ChainError) as raised:
            await ask(asked)
        told = "".join(traceback.format_exception(raised.value)) + repr(raised.value) + repr(asked) + asked.name
        for secret in ("0123456789abcdef", "queried-secret", "hunter22"):
            assert secret not in told
    assert provider.name == "127.0.0.1"
    await provider.close()
    await gone.close()


@pytest.mark.parametrize(
    "url",
    [
        "ws:///key-1234",
        "wss://host:99999/key-1234",
        "host/key-1234",
        "",
        "http://",
        "http:///key-1234",
        "ftp://host/key-1234",
        "http://host:99999/key-1234",
        "http://[::1/key-1234",
    ],
)
def test_provider__url_it_cannot_use__is_a_value_error_without_the_key(url: str) -> None:
    with pytest.raises(ValueError, match="RPC URL") as raised:
        RpcProvider(url)
    assert "key-1234" not in str(raised.value)


def test_checked_host__is_the_host_alone() -> None:
    assert checked_host("https://user:pw@Eth.Example.org:8443/v2/key?x=1") == "eth.example.org"
    assert checked_host("wss://user:pw@Eth.Example.org/ws/v2/key") == "eth.example.org"


async def test_call__result_types__are_what_they_say(node: ScriptedNode, provider: RpcProvider) -> None:
    node.logs = [{"address": "0x"}]
    with pytest.raises(NodeInconsistent):
        await provider.call("eth_getLogs", [], LOGS)
    assert await provider.call("eth_getBlockByNumber", ["0x99", False], HEADER) is None
