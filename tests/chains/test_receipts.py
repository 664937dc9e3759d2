"""`EvmReader` reading a block by its receipts: the same checks, the same transfers, and nothing left out."""

from __future__ import annotations

from typing import Any

import pytest

from chains.errors import BlockNotFound, HistoryPruned, MethodUnsupported, NodeInconsistent, ResultTooLarge
from chains.evm import EvmReader
from chains.model import Address, BlockHash, BlockNumber, BlockSpan, ChainId, LogQuery
from chains.rpc import RpcProvider
from chains.spans import WindowedReader
from contracts_abi import TRANSFER_TOPIC
from tests.chains.conftest import Observed
from tests.chains.scripted_node import (
    ALICE,
    OTHER_TOKEN,
    SHOP,
    STRANGER,
    TOKEN,
    Json,
    RpcError,
    ScriptedNode,
    block_hash,
    digest,
    header,
    log,
    word,
)
from tests.chains.test_bloom import bloom_of

NUMBER = BlockNumber(6)
ONE = BlockSpan(first=NUMBER, last=NUMBER)
TO_SHOP = LogQuery(tokens=frozenset([Address(TOKEN)]), recipients=frozenset([Address(SHOP)]))
TO_ANYBODY = LogQuery(tokens=frozenset([Address(TOKEN)]), recipients=None)


def tx_hash(tx: str, number: int = NUMBER) -> str:
    return digest(tx, number)


def receipt(tx: str, *logs: Json, **changed: Any) -> Json:
    return {
        "transactionHash": tx_hash(tx),
        "blockHash": block_hash(NUMBER),
        "status": "0x1",
        "cumulativeGasUsed": "0x1",
        "logsBloom": "0x" + "00" * 256,
        "logs": list(logs),
    } | changed


def approval(index: int, tx: str) -> Json:
    return log(NUMBER, index, tx=tx, topics=[digest("Approval"), word(ALICE), word(SHOP)])


RECEIPTS = [
    receipt("a", log(6, 0, tx="a"), log(6, 1, tx="a", to=STRANGER), log(6, 2, tx="a"), approval(3, "a")),
    receipt("b"),
    receipt("c", log(6, 4, tx="c", address="0x" + OTHER_TOKEN.hex()), log(6, 5, tx="c", amount=7)),
]


@pytest.fixture
def receipts(node: ScriptedNode) -> list[Json]:
    """What the node answers; a test may change it."""
    answered = list(RECEIPTS)
    listed = [each["transactionHash"] for each in RECEIPTS]

    def block(params: list[Any]) -> Json | None:
        number = int(params[0], 16)
        return header(number, transactions=listed if number == NUMBER else []) if number <= node.head else None

    node.methods["eth_getBlockByNumber"] = block
    node.methods["eth_getBlockReceipts"] = lambda _: answered
    return answered


async def test_read_block_by_receipts__is_what_the_logs_would_say(
    node: ScriptedNode, reader: EvmReader, receipts: list[Json], observed: Observed
) -> None:
    node.logs = [each for answered in receipts for each in answered["logs"]]
    node.logs = [each for each in node.logs if each["address"] == "0x" + TOKEN.hex() and len(each["topics"]) == 3]
    node.logs = [each for each in node.logs if each["topics"][0] == "0x" + TRANSFER_TOPIC.hex()]
    direct = await reader.read_span(ONE, TO_ANYBODY, anchor=BlockNumber(5))
    node.bodies.clear()
    observed.calls.clear()
    read = await reader.read_block_by_receipts(NUMBER, TO_ANYBODY, anchor=BlockNumber(5))
    assert read == direct
    assert [(each.log_index, each.identity.ordinal) for each in read.transfers] == [(0, 0), (1, 0), (2, 1), (5, 0)]
    assert observed.calls == [
        ("eth_getBlockByNumber", "ok"),
        ("eth_getBlockReceipts", "ok"),
        ("eth_getBlockByNumber", "ok"),
    ]
    assert len(node.bodies) == 1


async def test_read_block_by_receipts__recipients__are_matched_here(reader: EvmReader, receipts: list[Json]) -> None:
    read = await reader.read_block_by_receipts(NUMBER, TO_SHOP)
    assert [(each.log_index, each.identity.ordinal) for each in read.transfers] == [(0, 0), (2, 1), (5, 0)]


async def test_read_block_by_receipts__receipt_of_no_transaction__is_passed_over(
    reader: EvmReader, receipts: list[Json]
) -> None:
    """Celo answers the logs of the block itself in a receipt more, under the block's hash."""
    own = log(6, 6, transactionHash=block_hash(NUMBER))
    receipts.append(receipt("?", own, transactionHash=block_hash(NUMBER)))
    assert len((await reader.read_block_by_receipts(NUMBER, TO_SHOP)).transfers) == 3


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param([RECEIPTS[0], RECEIPTS[2]], id="a transaction without a receipt"),
        pytest.param([], id="none at all"),
        pytest.param([*RECEIPTS, RECEIPTS[1]], id="a receipt twice"),
        pytest.param([*RECEIPTS[:2], RECEIPTS[2] | {"blockHash": block_hash(6, "x")}], id="of another fork"),
        pytest.param([*RECEIPTS[:2], RECEIPTS[2] | {"blockHash": None}], id="without its block"),
        pytest.param([*RECEIPTS[:2], RECEIPTS[2] | {"transactionHash": "0x12"}], id="without its transaction"),
        pytest.param([receipt("a", log(6, tx="b")), *RECEIPTS[1:]], id="a log of another transaction"),
        pytest.param(
            [receipt("a", log(6, tx="a", blockHash=block_hash(6, "x"))), *RECEIPTS[1:]], id="a log of another fork"
        ),
        pytest.param([receipt("a", log(6, tx="a", blockNumber="0x7")), *RECEIPTS[1:]], id="a log of another height"),
        pytest.param([receipt("a", log(6, tx="a", removed=True)), *RECEIPTS[1:]], id="a removed log"),
        pytest.param([receipt("a", log(6, tx="a", data="0xzz")), *RECEIPTS[1:]], id="a log with no hex for its amount"),
        pytest.param([receipt("a", log(6, tx="a"), log(6, tx="a")), *RECEIPTS[1:]], id="a log twice"),
        pytest.param([{}], id="of another shape"),
        pytest.param({}, id="no list"),
    ],
)
async def test_read_block_by_receipts__that_do_not_fit_the_block__are_inconsistent(
    node: ScriptedNode, reader: EvmReader, receipts: list[Json], wrong: Any
) -> None:
    node.methods["eth_getBlockReceipts"] = wrong
    with pytest.raises(NodeInconsistent):
        await reader.read_block_by_receipts(NUMBER, TO_SHOP)


@pytest.mark.parametrize("method", ["eth_getBlockReceipts", "eth_getBlockByNumber"])
async def test_read_block_by_receipts__null__is_not_found(
    node: ScriptedNode, reader: EvmReader, receipts: list[Json], method: str
) -> None:
    node.methods[method] = None
    with pytest.raises(BlockNotFound):
        await reader.read_block_by_receipts(NUMBER, TO_SHOP)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (RpcError(-32601, "Method not found"), MethodUnsupported),
        (RpcError(-32000, "history has been pruned for this block"), HistoryPruned),
        (RpcError(-32008, "Response is too big"), ResultTooLarge),
        (RpcError(-32000, "header not found"), BlockNotFound),
    ],
)
async def test_read_block_by_receipts__refused__is_said(
    node: ScriptedNode, reader: EvmReader, receipts: list[Json], answer: RpcError, error: type[Exception]
) -> None:
    node.methods["eth_getBlockReceipts"] = answer
    node.methods["eth_getBlockByHash"] = header(6)
    with pytest.raises(error):
        await reader.read_block_by_receipts(NUMBER, TO_SHOP)
    with pytest.raises(error):
        await reader.proof_material(BlockHash(bytes(32)))


# -- proof material ----------------------------------------------------------------------------------------------------


async def test_proof_material__is_block_and_receipts_of_that_hash_in_one_batch(
    node: ScriptedNode, reader: EvmReader, receipts: list[Json]
) -> None:
    node.methods["eth_getBlockByHash"] = header(6, transactions=[tx_hash("a")], aFieldNobodyKnows="0x1")
    wanted = BlockHash(bytes.fromhex(block_hash(6)[2:]))
    block, found = await reader.proof_material(wanted)
    assert block["aFieldNobodyKnows"] == "0x1"
    assert block["transactions"] == [tx_hash("a")]
    assert [each.transaction_hash for each in found] == [each["transactionHash"] for each in RECEIPTS]
    assert len(node.bodies) == 1
    assert node.calls("eth_getBlockByHash") == [[block_hash(6), False]]
    assert node.calls("eth_getBlockReceipts") == [[block_hash(6)]]


@pytest.mark.parametrize("method", ["eth_getBlockByHash", "eth_getBlockReceipts"])
async def test_proof_material__null__is_not_found(
    node: ScriptedNode, reader: EvmReader, receipts: list[Json], method: str
) -> None:
    node.methods["eth_getBlockByHash"] = header(6)
    node.methods[method] = None
    with pytest.raises(BlockNotFound):
        await reader.proof_material(BlockHash(bytes(32)))


# -- blooms ------------------------------------------------------------------------------------------------------------

PAID = bloom_of(TOKEN, TRANSFER_TOPIC, *[bytes(12) + party for party in (ALICE, SHOP, STRANGER)])
UNPAID = bloom_of(TOKEN, TRANSFER_TOPIC, bytes(12) + ALICE)
SPAN = BlockSpan(first=BlockNumber(3), last=NUMBER)


@pytest.fixture
def believer(provider: RpcProvider) -> EvmReader:
    return EvmReader(provider, chain_id=ChainId(1), check_bloom=True)


@pytest.fixture
def blooms(node: ScriptedNode, receipts: list[Json]) -> dict[int, str]:
    """The logsBloom of each block that has one."""
    found: dict[int, str] = {NUMBER: PAID}
    plain = node.methods["eth_getBlockByNumber"]

    def block(params: list[Any]) -> Json:
        made: Json = plain(params)
        number = int(params[0], 16)
        return made | ({"logsBloom": found[number]} if number in found else {})

    node.methods["eth_getBlockByNumber"] = block
    return found


async def test_read_span__bloom_speaks_for_a_payment_the_logs_lack__is_inconsistent(
    node: ScriptedNode, believer: EvmReader, reader: EvmReader, blooms: dict[int, str]
) -> None:
    """The `[]` of go-ethereum#26098: the header is there, its logs are not indexed yet."""
    with pytest.raises(NodeInconsistent, match="3 transfers of block 6 were left out"):
        await believer.read_span(SPAN, TO_SHOP)
    assert (await reader.read_span(SPAN, TO_SHOP)).transfers == ()


@pytest.mark.parametrize("query", [TO_SHOP, TO_ANYBODY])
async def test_read_span__receipts_hold_nothing_wanted_either__the_bloom_was_a_coincidence(
    node: ScriptedNode, believer: EvmReader, blooms: dict[int, str], receipts: list[Json], query: LogQuery
) -> None:
    receipts[0] = receipt("a")
    receipts[2] = receipt("c", approval(0, "c"))
    assert (await believer.read_span(SPAN, query)).transfers == ()
    assert len(node.calls("eth_getBlockReceipts")) == 1


@pytest.mark.parametrize("bloom", [UNPAID, "0x" + "00" * 256, "0x" + "ff" * 256, None])
async def test_read_span__bloom_that_says_nothing_of_it__asks_no_receipts(
    node: ScriptedNode, believer: EvmReader, blooms: dict[int, str], bloom: str | None
) -> None:
    if bloom is None:
        del blooms[NUMBER]
    else:
        blooms[NUMBER] = bloom
    assert (await believer.read_span(SPAN, TO_SHOP)).transfers == ()
    assert node.calls("eth_getBlockReceipts") == []


async def test_read_span__logs_of_the_last_block_are_there__asks_no_receipts(
    node: ScriptedNode, believer: EvmReader, blooms: dict[int, str]
) -> None:
    node.logs = [log(6, 0, tx="a")]
    assert len((await believer.read_span(SPAN, TO_SHOP)).transfers) == 1
    assert node.calls("eth_getBlockReceipts") == []


async def test_read_span__nothing_wanted__asks_no_receipts(
    node: ScriptedNode, believer: EvmReader, blooms: dict[int, str]
) -> None:
    await believer.read_span(SPAN, LogQuery(tokens=TO_SHOP.tokens, recipients=frozenset()))
    assert node.calls("eth_getBlockReceipts") == []


@pytest.mark.parametrize(
    "cannot_tell",
    [
        RpcError(-32601, "Method not found"),
        RpcError(-32008, "Response is too big"),
        RpcError(-32602, "invalid params"),
    ],
)
async def test_read_span__receipts_cannot_be_had__the_doubt_is_left_to_the_second_reading(
    node: ScriptedNode, believer: EvmReader, blooms: dict[int, str], cannot_tell: RpcError
) -> None:
    node.methods["eth_getBlockReceipts"] = cannot_tell
    assert (await believer.read_span(SPAN, TO_SHOP)).transfers == ()


async def test_read_span__receipts_are_pruned__so_are_the_logs(
    node: ScriptedNode, believer: EvmReader, blooms: dict[int, str]
) -> None:
    """A pruned node answers `[]` with HTTP 200 (erigontech/erigon#14434)."""
    node.methods["eth_getBlockReceipts"] = RpcError(-32000, "history has been pruned for this block")
    with pytest.raises(HistoryPruned):
        await believer.read_span(SPAN, TO_SHOP)


async def test_read_span__last_block_replaced_before_the_receipts__is_inconsistent(
    node: ScriptedNode, believer: EvmReader, blooms: dict[int, str], receipts: list[Json]
) -> None:
    plain = node.methods["eth_getBlockByNumber"]
    other = {"hash": block_hash(6, "x"), "transactions": []}
    node.methods["eth_getBlockByNumber"] = lambda params: (
        plain(params) | (other if len(node.calls("eth_getBlockReceipts")) else {})
    )
    node.methods["eth_getBlockReceipts"] = []
    with pytest.raises(NodeInconsistent, match="replaced"):
        await believer.read_span(SPAN, TO_SHOP)


@pytest.mark.parametrize("number", [4, 6])
async def test_read_span__transfer_the_bloom_rules_out__is_invented(
    node: ScriptedNode, believer: EvmReader, reader: EvmReader, blooms: dict[int, str], number: int
) -> None:
    blooms |= {4: UNPAID, 6: UNPAID}
    node.logs = [log(number)]
    with pytest.raises(NodeInconsistent, match="invented"):
        await believer.read_span(SPAN, TO_SHOP)
    assert len((await reader.read_span(SPAN, TO_SHOP)).transfers) == 1


async def test_read_block_by_receipts__transfer_the_bloom_rules_out__is_invented(
    believer: EvmReader, blooms: dict[int, str]
) -> None:
    blooms[NUMBER] = UNPAID
    with pytest.raises(NodeInconsistent, match="invented"):
        await believer.read_block_by_receipts(NUMBER, TO_SHOP)


async def test_read_span__bloom_of_another_shape__is_inconsistent(
    node: ScriptedNode, believer: EvmReader, reader: EvmReader, blooms: dict[int, str]
) -> None:
    blooms[NUMBER] = "0x12"
    with pytest.raises(NodeInconsistent, match="logsBloom"):
        await believer.read_span(SPAN, TO_SHOP)
    assert (await reader.read_span(SPAN, TO_SHOP)).transfers == ()


# -- the whole way -----------------------------------------------------------------------------------------------------


async def test_windowed__block_with_more_logs_than_the_provider_answers__is_read(
    node: ScriptedNode, reader: EvmReader, receipts: list[Json]
) -> None:
    def logs(params: list[Any]) -> object:
        first, last = (int(params[0][end], 16) for end in ("fromBlock", "toBlock"))
        if first <= NUMBER <= last:
            return RpcError(-32005, "query returned more than 10000 results")
        return []

    node.methods["eth_getLogs"] = logs
    windowed = WindowedReader(reader, monotonic=lambda: 0.0)
    whole = BlockSpan(first=BlockNumber(1), last=BlockNumber(20))
    read = await windowed.read_span(whole, TO_SHOP, anchor=BlockNumber(0))
    assert [(each.block_number, each.log_index) for each in read.transfers] == [(6, 0), (6, 2), (6, 5)]
    assert (read.span, read.end.number, read.anchor and read.anchor.number) == (whole, 20, 0)
    assert len(node.calls("eth_getBlockReceipts")) == 1
