"""`EvmReader` against a node that lies, moves or is broken: whole and right, or an exception."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from chains.errors import (
    BlockNotFound,
    ChainError,
    FilterTooLong,
    MethodUnsupported,
    NodeInconsistent,
    RangeTooWide,
    Transient,
)
from chains.evm import EvmReader
from chains.model import Address, BlockNumber, BlockSpan, LogQuery, Tag
from chains.planning import FILTER_RECIPIENTS_MAX, Learned
from tests.chains.conftest import Observed
from tests.chains.scripted_node import (
    ALICE,
    HEAD,
    OTHER_TOKEN,
    SHOP,
    STRANGER,
    TOKEN,
    RpcError,
    ScriptedNode,
    block_hash,
    digest,
    header,
    log,
    replying,
    word,
)

SPAN = BlockSpan(first=BlockNumber(5), last=BlockNumber(12))
TO_SHOP = LogQuery(tokens=frozenset([Address(TOKEN)]), recipients=frozenset([Address(SHOP)]))
TO_ANYBODY = LogQuery(tokens=frozenset([Address(TOKEN)]), recipients=None)


def to_many(count: int) -> LogQuery:
    others = frozenset(Address(number.to_bytes(20)) for number in range(1, count))
    return LogQuery(tokens=TO_SHOP.tokens, recipients=others | {Address(SHOP)})


# -- headers -----------------------------------------------------------------------------------------------------------


async def test_headers__numbers_and_tags__one_call_each_in_one_batch(
    node: ScriptedNode, reader: EvmReader, observed: Observed
) -> None:
    found = await reader.headers([Tag.LATEST, Tag.FINALIZED, BlockNumber(3), BlockNumber(HEAD + 1)])
    assert [each.number if each else None for each in found] == [HEAD, HEAD - 10, 3, None]
    assert found[2] is not None
    assert found[2].hash.hex() == block_hash(3)[2:]
    assert found[2].time == datetime(2026, 1, 1, 0, 0, 6, tzinfo=UTC)
    assert len(node.bodies) == 1
    assert observed.calls == [("eth_getBlockByNumber", "ok")] * 4
    assert node.calls("eth_getBlockByNumber")[1] == ["finalized", False]


async def test_headers__none_wanted__asks_nothing(node: ScriptedNode, reader: EvmReader) -> None:
    assert await reader.headers([]) == ()
    assert node.bodies == []


async def test_headers__more_than_a_batch__all_are_found(node: ScriptedNode, reader: EvmReader) -> None:
    node.head = 300
    found = await reader.headers([BlockNumber(number) for number in range(250)])
    assert [each.number if each else None for each in found] == list(range(250))
    assert [len(body) for body in node.bodies] == [100, 100, 50]


@pytest.mark.parametrize(
    "changed",
    [
        {"number": "0x4"},
        {"number": "3"},
        {"number": 3},
        {"number": None},
        {"number": "0x"},
        {"number": "0xzz"},
        {"number": "0x_3"},
        {"number": "0x" + "f" * 17},
        {"number": "0x" + "1" * 100},
        {"number": "-0x3"},
        {"hash": None},
        {"hash": "0x12"},
        {"hash": block_hash(3)[2:]},
        {"hash": block_hash(3) + "00"},
        {"hash": "0x" + "g" * 64},
        {"hash": "0x" + "é" * 64},
        {"parentHash": "0x"},
        {"parentHash": None},
        {"timestamp": "0x" + "f" * 16},
        {"timestamp": "soon"},
        {"timestamp": 1.5},
        {"timestamp": "0x+1"},
    ],
)
async def test_headers__malformed_field__is_inconsistent(
    node: ScriptedNode, reader: EvmReader, changed: dict[str, Any]
) -> None:
    node.methods["eth_getBlockByNumber"] = header(3, **changed)
    with pytest.raises(NodeInconsistent):
        await reader.headers([BlockNumber(3)])


@pytest.mark.parametrize("answer", [[], "0x3", 7, {}, {"number": "0x3"}, [header(3)], True])
async def test_headers__answer_of_another_shape__is_inconsistent(
    node: ScriptedNode, reader: EvmReader, answer: object
) -> None:
    node.methods["eth_getBlockByNumber"] = answer
    with pytest.raises(NodeInconsistent):
        await reader.headers([BlockNumber(3), BlockNumber(4)])


async def test_headers__neighbours_of_two_forks__are_inconsistent(node: ScriptedNode, reader: EvmReader) -> None:
    node.methods["eth_getBlockByNumber"] = lambda params: header(int(params[0], 16), "ab"[int(params[0], 16) % 2])
    with pytest.raises(NodeInconsistent, match="does not stand on"):
        await reader.headers([BlockNumber(3), BlockNumber(4)])


async def test_headers__two_hashes_of_one_height__are_inconsistent(node: ScriptedNode, reader: EvmReader) -> None:
    node.methods["eth_getBlockByNumber"] = lambda params: header(HEAD, "a" if params[0] == "latest" else "b")
    with pytest.raises(NodeInconsistent, match="two headers"):
        await reader.headers([Tag.LATEST, BlockNumber(HEAD)])


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("finalized is not a supported commitment", -32602),
        ("malformed blocknumber", -32602),
        ("`safe` isn't supported. Use `finalized` instead.", None),
        ("invalid argument 0: hex string without 0x prefix", -32602),
        ("Invalid params", -32602),
    ],
)
async def test_headers__tag_the_node_does_not_know__is_unsupported(
    node: ScriptedNode, reader: EvmReader, message: str, code: int | None
) -> None:
    node.methods["eth_getBlockByNumber"] = lambda params: (
        header(HEAD) if params[0] == "latest" else RpcError(code, message)
    )
    with pytest.raises(MethodUnsupported):
        await reader.headers([Tag.LATEST, Tag.SAFE])


@pytest.mark.parametrize("message", ["finalized block not found", "header not found", "Unknown block"])
async def test_headers__block_refused_as_not_there__is_none(
    node: ScriptedNode, reader: EvmReader, message: str
) -> None:
    node.methods["eth_getBlockByNumber"] = lambda params: (
        header(HEAD) if params[0] == "latest" else RpcError(-39001, message)
    )
    assert await reader.headers([Tag.FINALIZED, BlockNumber(2)]) == (None, None)


async def test_chain_id__is_what_the_node_says(node: ScriptedNode, reader: EvmReader) -> None:
    node.methods["eth_chainId"] = "0x2105"
    assert await reader.chain_id() == 8453
    node.methods["eth_chainId"] = "8453"
    with pytest.raises(NodeInconsistent, match="eth_chainId"):
        await reader.chain_id()


# -- read_span: what is asked ------------------------------------------------------------------------------------------


async def test_read_span__idle__is_two_calls_in_one_batch(
    node: ScriptedNode, reader: EvmReader, observed: Observed
) -> None:
    read = await reader.read_span(SPAN, TO_SHOP)
    assert (read.end.number, read.anchor, read.transfers, read.blocks) == (12, None, (), {})
    assert observed.calls == [("eth_getBlockByNumber", "ok"), ("eth_getLogs", "ok")]
    assert len(node.bodies) == 1


async def test_read_span__with_anchor__is_three_calls(
    node: ScriptedNode, reader: EvmReader, observed: Observed
) -> None:
    read = await reader.read_span(SPAN, TO_SHOP, anchor=BlockNumber(4))
    assert read.anchor is not None
    assert read.anchor.number == 4
    assert len(observed.calls) == 3
    assert len(node.bodies) == 1


async def test_read_span__few_recipients__are_in_the_filter(node: ScriptedNode, reader: EvmReader) -> None:
    await reader.read_span(SPAN, TO_SHOP)
    (asked,) = node.calls("eth_getLogs")
    assert asked == [
        {
            "fromBlock": "0x5",
            "toBlock": "0xc",
            "address": ["0x" + TOKEN.hex()],
            "topics": [
                "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef",
                None,
                [word(SHOP)],
            ],
        }
    ]


async def test_read_span__many_recipients__are_matched_here(node: ScriptedNode, reader: EvmReader) -> None:
    node.logs = [log(6), log(7, to=STRANGER)]
    read = await reader.read_span(SPAN, to_many(FILTER_RECIPIENTS_MAX + 1))
    assert [each.block_number for each in read.transfers] == [6]
    assert len(node.calls("eth_getLogs")[0][0]["topics"]) == 1
    await reader.read_span(SPAN, TO_ANYBODY)
    assert len(node.calls("eth_getLogs")[1][0]["topics"]) == 1


async def test_read_span__filter_too_long_for_the_provider__is_matched_here_from_then_on(
    node: ScriptedNode, reader: EvmReader
) -> None:
    def logs(params: list[Any]) -> object:
        if len(params[0]["topics"]) > 1 and len(params[0]["topics"][2]) > 20:
            return RpcError(-32602, "exceed max addresses or topics per search position")
        return [log(6)] if len(params[0]["topics"]) > 1 else [log(6), log(7, to=STRANGER)]

    node.methods["eth_getLogs"] = logs
    for asked in (2, 1):
        node.bodies.clear()
        read = await reader.read_span(SPAN, to_many(100))
        assert [each.block_number for each in read.transfers] == [6]
        assert len(node.calls("eth_getLogs")) == asked
    await reader.read_span(SPAN, to_many(20))
    assert len(node.calls("eth_getLogs")[-1][0]["topics"]) == 3


def _of_the_filter(logs: list[dict[str, Any]]) -> Any:
    """As a node answers: what is to the recipients of the filter, or all."""

    def answer(params: list[Any]) -> object:
        wanted = params[0]["topics"][2] if len(params[0]["topics"]) > 1 else None
        return [each for each in logs if wanted is None or each["topics"][2] in wanted]

    return answer


async def test_read_span__filtered_split_or_not__is_the_same(node: ScriptedNode, reader: EvmReader) -> None:
    """Three ways to ask, one reading: also where equal logs of one transaction are counted."""
    query = to_many(5)
    assert query.recipients is not None
    one, *_, other = sorted(query.recipients)
    logs = [log(12, 3), log(6, 5, to=other), log(6, 2, to=one), log(6, 4), log(6, 3), log(7, to=STRANGER)]
    node.methods["eth_getLogs"] = _of_the_filter(logs)
    reads = []
    for learned, calls in (
        (Learned(), [5]),
        (Learned(recipients_max=2, blocks=1.0, logs=1e6), [2, 2, 1]),
        (Learned(recipients_max=0), [0]),
    ):
        reader._learned = learned
        node.bodies.clear()
        reads.append(await reader.read_span(SPAN, query, anchor=BlockNumber(4)))
        asked = [params[0]["topics"] for params in node.calls("eth_getLogs")]
        assert [len(topics[2]) if len(topics) > 1 else 0 for topics in asked] == calls
        assert len(node.bodies[0]) == 2 + len(calls), "headers and logs are one batch"
    assert [each.log_count for each in reads] == [5, 5, 6]
    assert reads[0].transfers == reads[1].transfers == reads[2].transfers
    assert reads[0].blocks == reads[1].blocks == reads[2].blocks
    assert len(reads[0].transfers) == 5


async def test_read_span__answered_in_two_filters__came_twice(node: ScriptedNode, reader: EvmReader) -> None:
    node.methods["eth_getLogs"] = [log(6)]
    reader._learned = Learned(recipients_max=2, blocks=1.0, logs=1e6)
    with pytest.raises(NodeInconsistent, match="twice"):
        await reader.read_span(SPAN, to_many(5))


async def test_read_span__many_recipients_on_a_quiet_chain__are_matched_here_and_filtered_again_when_it_is_busy(
    node: ScriptedNode, reader: EvmReader
) -> None:
    """The provider's own answers show which costs less."""
    logs: list[dict[str, Any]] = []
    node.methods["eth_getLogs"] = _of_the_filter(logs)
    many = to_many(FILTER_RECIPIENTS_MAX)
    head = BlockSpan(first=BlockNumber(12), last=BlockNumber(12))
    for _ in range(20):
        await reader.read_span(head, many)
    assert {len(params[0]["topics"]) for params in node.calls("eth_getLogs")} == {1}
    logs += [log(12, index, tx=f"{index}", to=STRANGER) for index in range(200)]
    for _ in range(10):
        await reader.read_span(head, many)
    node.bodies.clear()
    await reader.read_span(head, many)
    assert {len(params[0]["topics"]) for params in node.calls("eth_getLogs")} == {3}


async def test_read_span__filter_too_long_without_recipients__goes_up(node: ScriptedNode, reader: EvmReader) -> None:
    node.methods["eth_getLogs"] = RpcError(-32602, "request exceeded max allowed addresses")
    for query in (TO_ANYBODY, TO_SHOP):
        with pytest.raises(FilterTooLong):
            await reader.read_span(SPAN, query)


@pytest.mark.parametrize(
    "query",
    [
        LogQuery(tokens=frozenset(), recipients=None),
        LogQuery(tokens=frozenset([Address(TOKEN)]), recipients=frozenset()),
    ],
)
async def test_read_span__nothing_wanted__asks_no_logs(node: ScriptedNode, reader: EvmReader, query: LogQuery) -> None:
    node.logs = [log(6)]
    read = await reader.read_span(SPAN, query, anchor=BlockNumber(4))
    assert read.transfers == ()
    assert (read.end.number, read.anchor is not None) == (12, True)
    assert node.calls("eth_getLogs") == []


# -- read_span: what is answered ---------------------------------------------------------------------------------------


async def test_read_span__transfers__stand_in_verified_blocks(
    node: ScriptedNode, reader: EvmReader, observed: Observed
) -> None:
    node.logs = [log(12, 1), log(6, 3), log(6, 2), log(12, 0, tx="other", amount=2**256 - 1)]
    read = await reader.read_span(SPAN, TO_SHOP)
    assert [(each.block_number, each.log_index) for each in read.transfers] == [(6, 2), (6, 3), (12, 0), (12, 1)]
    assert [each.identity.ordinal for each in read.transfers] == [0, 1, 0, 0]
    assert read.transfers[2].identity.amount == 2**256 - 1
    assert {ref.number for ref in read.blocks.values()} == {6, 12}
    assert all(read.block_of(each).number == each.block_number for each in read.transfers)
    assert len(observed.calls) == 3
    assert read.transfers[0].identity.sender == ALICE


async def test_read_span__erc721_and_old_transfers__are_passed_over(node: ScriptedNode, reader: EvmReader) -> None:
    erc721 = log(6, data="0x")
    erc721["topics"] = [*erc721["topics"], word(b"\x07")]
    old = log(7)
    old["topics"] = old["topics"][:1]
    node.logs = [erc721, old, log(8)]
    read = await reader.read_span(SPAN, TO_ANYBODY)
    assert [each.block_number for each in read.transfers] == [8]
    node.logs = [erc721]
    assert (await reader.read_span(SPAN, TO_SHOP)).transfers == ()


@pytest.mark.parametrize("tx_hash", ["0x" + "00" * 32, block_hash(6)])
async def test_read_span__log_of_no_transaction__is_passed_over(
    node: ScriptedNode, reader: EvmReader, tx_hash: str
) -> None:
    """zkSync and Celo answer logs of the block itself (ponder-sh/ponder#1411, #1430)."""
    node.logs = [log(6, transactionHash=tx_hash)]
    assert (await reader.read_span(SPAN, TO_SHOP)).transfers == ()


async def test_read_span__index_restarting_per_transaction__is_no_duplicate(
    node: ScriptedNode, reader: EvmReader
) -> None:
    """ponder-sh/ponder#2217: the first log of two transactions of a block had the same index."""
    node.logs = [log(6, 0, tx="a"), log(6, 0, tx="b")]
    assert len((await reader.read_span(SPAN, TO_SHOP)).transfers) == 2


async def test_read_span__mixed_case_hex__is_understood(node: ScriptedNode, reader: EvmReader) -> None:
    node.logs = [log(6, address="0x" + TOKEN.hex().upper())]
    node.logs[0]["topics"][2] = "0x" + word(SHOP)[2:].upper()
    assert len((await reader.read_span(SPAN, TO_SHOP)).transfers) == 1


def topics(*changed: str) -> dict[str, Any]:
    return {"topics": list(changed)}


TRANSFER = log(6)["topics"][0]
MALFORMED_LOGS = {
    "below the span": log(4),
    "above the span": log(13),
    "of another token": log(6, address="0x" + OTHER_TOKEN.hex()),
    "address too short": log(6, address="0xaa"),
    "address missing": {key: value for key, value in log(6).items() if key != "address"},
    "data missing": {key: value for key, value in log(6).items() if key != "data"},
    "block hash missing": {key: value for key, value in log(6).items() if key != "blockHash"},
    "pending": log(6, blockHash=None, blockNumber=None),
    "removed": log(6, removed=True),
    "removed is text": log(6, removed="false"),
    "no topics": log(6, topics=[]),
    "topics null": log(6, topics=None),
    "another topic0": log(6, **topics(digest("Approval"), word(ALICE), word(SHOP))),
    "two topics though filtered": log(6, **topics(TRANSFER, word(ALICE))),
    "recipient not asked": log(6, to=STRANGER),
    "dirty recipient": log(6, **topics(TRANSFER, word(ALICE), "0x01" + word(SHOP)[4:])),
    "short sender": log(6, **topics(TRANSFER, "0x" + ALICE.hex(), word(SHOP))),
    "data no hex": log(6, data="0x" + "zz" * 32),
    "data with a blank": log(6, data="0x" + " 1" * 32),
    "data a number": log(6, data=100),
    "hash too short": log(6, blockHash="0x12"),
    "tx hash null": log(6, transactionHash=None),
    "tx hash of another length": log(6, transactionHash="0x" + "1" * 63),
    "log index null": log(6, logIndex=None),
    "log index a number": log(6, logIndex=1),
    "log index without 0x": log(6, logIndex="1"),
    "block number no hex": log(6, blockNumber="six"),
    "not an object": "0x",
    "null": None,
}


ODD_LOGS = {
    "dirty sender": log(6, **topics(TRANSFER, "0x01" + word(ALICE)[4:], word(SHOP))),
    "data empty": log(6, data="0x"),
    "data too short": log(6, data="0x01"),
    "data too long": log(6, data="0x" + "00" * 64),
}


@pytest.mark.parametrize("odd", list(ODD_LOGS))
async def test_read_span__what_a_contract_may_emit_and_is_no_payment__is_passed_over(
    node: ScriptedNode, reader: EvmReader, odd: str
) -> None:
    """Found by trying: one configured token that emitted such a log stopped its whole chain, for every token."""
    node.logs = [log(5), ODD_LOGS[odd], log(12)]
    read = await reader.read_span(SPAN, TO_SHOP)
    assert [t.block_number for t in read.transfers] == [5, 12]


@pytest.mark.parametrize("bad", list(MALFORMED_LOGS))
async def test_read_span__malformed_log__throws_the_whole_reading_away(
    node: ScriptedNode, reader: EvmReader, bad: str
) -> None:
    node.logs = [log(5), MALFORMED_LOGS[bad], log(12)]  # type: ignore[list-item]  # some are no objects on purpose
    with pytest.raises(NodeInconsistent):
        await reader.read_span(SPAN, TO_SHOP)


@pytest.mark.parametrize(
    "logs",
    [
        pytest.param([log(6), log(6)], id="the same log twice"),
        pytest.param([log(6, amount=1), log(6, amount=2)], id="two logs at one index"),
        pytest.param([log(6), log(7, transactionHash=log(6)["transactionHash"])], id="one transaction in two blocks"),
        pytest.param([log(6, tx="a"), log(6, 1, tx="b", blockHash=block_hash(6, "x"))], id="two hashes at one height"),
        pytest.param([log(12, blockHash=block_hash(12, "x"))], id="last block of another fork than its header"),
        pytest.param([log(6, blockHash=block_hash(6, "x"))], id="a block that is not canonical any more"),
    ],
)
async def test_read_span__logs_that_contradict_each_other_or_the_headers__are_inconsistent(
    node: ScriptedNode, reader: EvmReader, logs: list[Any]
) -> None:
    node.logs = logs
    with pytest.raises(NodeInconsistent):
        await reader.read_span(SPAN, TO_SHOP)


@pytest.mark.parametrize("answer", [None, {}, "0x", 5, "[]", [[]]])
async def test_read_span__logs_of_another_shape__are_inconsistent(
    node: ScriptedNode, reader: EvmReader, answer: object
) -> None:
    node.methods["eth_getLogs"] = answer
    with pytest.raises(NodeInconsistent):
        await reader.read_span(SPAN, TO_SHOP)


async def test_read_span__end_not_there__is_block_not_found_and_no_empty_list(
    node: ScriptedNode, reader: EvmReader
) -> None:
    """The loss of go-ethereum#24078: a lagging node answers [] for blocks it does not have."""
    node.head = 11
    with pytest.raises(BlockNotFound):
        await reader.read_span(SPAN, TO_SHOP)
    node.methods["eth_getLogs"] = RpcError(-32602, "block range extends beyond current head block")
    with pytest.raises(BlockNotFound):
        await reader.read_span(SPAN, TO_SHOP)


async def test_read_span__end_of_another_height__is_inconsistent(node: ScriptedNode, reader: EvmReader) -> None:
    node.methods["eth_getBlockByNumber"] = header(11)
    with pytest.raises(NodeInconsistent, match="asked for block 12, got block 11"):
        await reader.read_span(SPAN, TO_SHOP)


async def test_read_span__anchor_not_there__is_none(node: ScriptedNode, reader: EvmReader) -> None:
    node.methods["eth_getBlockByNumber"] = lambda params: header(12) if params[0] == "0xc" else None
    assert (await reader.read_span(SPAN, TO_SHOP, anchor=BlockNumber(4))).anchor is None


async def test_read_span__anchor_just_below_a_single_block__must_be_its_parent(
    node: ScriptedNode, reader: EvmReader
) -> None:
    single = BlockSpan(first=BlockNumber(12), last=BlockNumber(12))
    node.methods["eth_getBlockByNumber"] = lambda params: header(int(params[0], 16), params[0])
    with pytest.raises(NodeInconsistent, match="does not stand on"):
        await reader.read_span(single, TO_SHOP, anchor=BlockNumber(11))


async def test_read_span__too_wide__says_how_wide(node: ScriptedNode, reader: EvmReader) -> None:
    node.methods["eth_getLogs"] = RpcError(-32000, "eth_getLogs is limited to a 5 blocks range")
    with pytest.raises(RangeTooWide) as raised:
        await reader.read_span(SPAN, TO_SHOP)
    assert raised.value.max_span == 4


async def test_read_span__batch_that_lacks_the_logs__is_transient(node: ScriptedNode, reader: EvmReader) -> None:
    node.next_responses.extend([replying([{"id": "$id", "result": header(12)}])] * 3)
    with pytest.raises(Transient):
        await reader.read_span(SPAN, TO_SHOP)


async def test_read_span__node_moves_between_the_batches__is_inconsistent(
    node: ScriptedNode, reader: EvmReader
) -> None:
    """The logs came of one fork, the headers of their blocks, a moment later, of another."""
    node.logs = [log(6)]
    node.methods["eth_getBlockByNumber"] = lambda params: header(
        int(params[0], 16), "" if params[0] == "0xc" else "moved"
    )
    with pytest.raises(NodeInconsistent, match="another fork"):
        await reader.read_span(SPAN, TO_SHOP)
    node.methods["eth_getBlockByNumber"] = lambda params: header(12) if params[0] == "0xc" else None
    with pytest.raises(NodeInconsistent, match="not there"):
        await reader.read_span(SPAN, TO_SHOP)


async def test_read_span__provider_without_batches__is_read_all_the_same(node: ScriptedNode, reader: EvmReader) -> None:
    node.logs = [log(6)]
    node.next_responses.append(replying({"id": None, "error": {"code": -32600, "message": "no batches here"}}))
    assert len((await reader.read_span(SPAN, TO_SHOP, anchor=BlockNumber(4))).transfers) == 1


async def test_read_span__transfers_in_many_blocks__are_verified_in_chunks(
    node: ScriptedNode, reader: EvmReader
) -> None:
    node.head = 300
    node.logs = [log(number) for number in range(1, 251)]
    wide = BlockSpan(first=BlockNumber(1), last=BlockNumber(260))
    read = await reader.read_span(wide, TO_SHOP)
    assert len(read.blocks) == len(read.transfers) == 250
    assert [len(body) for body in node.bodies] == [2, 100, 100, 50]


# -- tokens ------------------------------------------------------------------------------------------------------------


def text_answer(text: bytes) -> str:
    size = len(text).to_bytes(32)
    return "0x" + ((32).to_bytes(32) + size + text.ljust(-(-len(text) // 32) * 32, b"\0")).hex()


DECIMALS_SELECTOR, SYMBOL_SELECTOR = "0x313ce567", "0x95d89b41"
SIX = "0x" + (6).to_bytes(32).hex()


def contract(decimals: object, symbol: object) -> Any:
    def answer(params: list[Any]) -> object:
        return {DECIMALS_SELECTOR: decimals, SYMBOL_SELECTOR: symbol}[params[0].get("data") or params[0]["input"]]

    return answer


REVERT = RpcError(3, "execution reverted")


@pytest.mark.parametrize(
    ("decimals", "symbol", "expected"),
    [
        pytest.param(SIX, text_answer(b"USDC"), (6, "USDC"), id="plain"),
        pytest.param(SIX, text_answer("USD₮0".encode()), (6, "USD₮0"), id="not ascii"),
        pytest.param(SIX, "0x" + b"MKR".ljust(32, b"\0").hex(), (6, "MKR"), id="bytes32"),
        pytest.param(SIX, text_answer(b"US\x1b[2J\nDC"), (6, "US\\x1b[2J\\nDC"), id="control characters"),
        pytest.param(SIX, text_answer("US\u202eCD".encode()), (6, "US\\u202eCD"), id="right to left"),
        pytest.param(SIX, text_answer(b"A" * 500), (6, "A" * 32), id="endless"),
        pytest.param(SIX, text_answer(b"\xff\xfe"), (6, None), id="no utf-8"),
        pytest.param(SIX, text_answer(b""), (6, None), id="empty"),
        pytest.param(REVERT, REVERT, (None, None), id="reverts"),
        pytest.param(
            RpcError(-32000, "execution reverted"),
            RpcError(-32015, "VM execution error."),
            (None, None),
            id="reverts otherwise",
        ),
        pytest.param("0x", "0x", (None, None), id="no such function"),
        pytest.param("0x" + (2**255).to_bytes(32).hex(), "0x1234", (None, None), id="no uint8 and no string"),
        pytest.param("0x06", text_answer(b"USDC"), (None, "USDC"), id="short word"),
    ],
)
async def test_token_facts__whatever_the_contract_answers__are_facts(
    node: ScriptedNode, reader: EvmReader, decimals: object, symbol: object, expected: tuple[object, object]
) -> None:
    node.methods["eth_getCode"] = "0x60806040"
    node.methods["eth_call"] = contract(decimals, symbol)
    facts = await reader.token_facts(Address(TOKEN))
    assert facts.has_code
    assert (facts.decimals, facts.symbol) == expected


async def test_token_facts__no_code__asks_no_contract(node: ScriptedNode, reader: EvmReader) -> None:
    node.methods["eth_getCode"] = "0x"
    facts = await reader.token_facts(Address(TOKEN))
    assert (facts.has_code, facts.decimals, facts.symbol) == (False, None, None)
    assert node.calls("eth_call") == []


@pytest.mark.parametrize(
    "failure", [RpcError(-32603, "Internal error"), RpcError(-32005, "rate limit exceeded"), RpcError(-1, "?")]
)
async def test_token_facts__node_that_fails__is_no_fact(
    node: ScriptedNode, reader: EvmReader, failure: RpcError
) -> None:
    node.methods["eth_getCode"] = "0x60"
    node.methods["eth_call"] = failure
    with pytest.raises(Transient):
        await reader.token_facts(Address(TOKEN))


@pytest.mark.parametrize("nonsense", [None, 7, ["0x"], "yes", "0xabc"])
async def test_token_facts__answer_that_is_no_hex__is_the_nodes_failure(
    node: ScriptedNode, reader: EvmReader, nonsense: object
) -> None:
    """A node that answered null while the chain was opened passed for a bug of ours (found by the simulation)."""
    node.methods["eth_getCode"] = "0x60"
    node.methods["eth_call"] = nonsense
    with pytest.raises(ChainError):
        await reader.token_facts(Address(TOKEN))


async def test_token_facts__calls__are_counted_like_all_others(
    node: ScriptedNode, reader: EvmReader, observed: Observed
) -> None:
    node.methods["eth_getCode"] = "0x60"
    node.methods["eth_call"] = contract(SIX, text_answer(b"USDC"))
    await reader.token_facts(Address(TOKEN))
    assert observed.calls == [("eth_getCode", "ok"), ("eth_call", "ok"), ("eth_call", "ok")]


async def test_token_facts__code_that_is_no_hex__is_inconsistent(node: ScriptedNode, reader: EvmReader) -> None:
    node.methods["eth_getCode"] = "yes"
    with pytest.raises(ChainError):
        await reader.token_facts(Address(TOKEN))
