"""What `EvmReader` reads beside transfers: labels of their transactions, what tokens announce, what contracts say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chains.errors import BlockNotFound, NodeInconsistent, RangeTooWide, Rejected, Transient
from chains.evm import RECEIPTS_BATCH, EvmReader
from chains.model import (
    Address,
    Announcement,
    AnnouncementKind,
    BlockNumber,
    BlockSpan,
    ContractCall,
    Label,
    LabelKind,
    LogQuery,
    TxHash,
)
from chains.spans import WindowedReader
from contracts_abi import TRANSFER_TOPIC, topics
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
    log,
    word,
)

Json = dict[str, Any]
SPAN = BlockSpan(first=BlockNumber(5), last=BlockNumber(12))
TO_SHOP = LogQuery(
    tokens=frozenset([Address(TOKEN)]),
    recipients=frozenset([Address(SHOP), Address(STRANGER)]),
    labelled=frozenset([Address(SHOP)]),
)
TOKENS = frozenset([Address(TOKEN)])
NONCE = "0x" + "0e" * 32


def receipt(number: int, *logs: Json, tx: str = "tx", **changed: Any) -> Json:
    return {
        "transactionHash": digest(tx, number),
        "blockHash": block_hash(number),
        "status": "0x1",
        "logs": list(logs),
    } | changed


def used(number: int, index: int, tx: str = "tx") -> Json:
    made = log(number, index, tx=tx)
    return made | {"topics": ["0x" + topics.AUTHORIZATION_USED.hex(), word(ALICE), NONCE], "data": "0x"}


# -- labels ------------------------------------------------------------------------------------------------------------


async def test_read_span__labelled_recipient__one_receipt_a_transaction(node: ScriptedNode, reader: EvmReader) -> None:
    node.logs = [log(7, 4), log(8, 1, to=STRANGER)]
    node.methods["eth_getTransactionReceipt"] = receipt(7, used(7, 3), log(7, 4))
    read = await reader.read_span(SPAN, TO_SHOP)
    label = Label(kind=LabelKind.AUTHORIZATION, key=bytes.fromhex(NONCE[2:]))
    assert [t.labels for t in read.transfers] == [(label,), ()]
    assert node.calls("eth_getTransactionReceipt") == [[digest("tx", 7)]]


async def test_read_span__nobody_to_label__asks_for_no_receipt(node: ScriptedNode, reader: EvmReader) -> None:
    node.logs = [log(7, 4), log(8, 1, amount=0)]
    await reader.read_span(SPAN, replace(TO_SHOP, labelled=frozenset()))
    node.logs = [log(8, 1, amount=0)]
    await reader.read_span(SPAN, TO_SHOP)
    assert node.calls("eth_getTransactionReceipt") == []


async def test_read_span__many_transactions__receipts_in_bounded_batches(node: ScriptedNode, reader: EvmReader) -> None:
    count = RECEIPTS_BATCH + 3
    node.logs = [log(7, n, tx=f"tx{n}") for n in range(count)]
    by_hash = {digest(f"tx{n}", 7): receipt(7, log(7, n, tx=f"tx{n}"), tx=f"tx{n}") for n in range(count)}
    node.methods["eth_getTransactionReceipt"] = lambda params: by_hash[params[0]]
    assert len((await reader.read_span(SPAN, TO_SHOP)).transfers) == count
    sizes = [len(b) for b in node.bodies if isinstance(b, list) and b[0]["method"] == "eth_getTransactionReceipt"]
    assert sizes == [RECEIPTS_BATCH, 3]


@pytest.mark.parametrize(
    "answer",
    [
        None,
        receipt(7),
        receipt(7, log(7, 4), blockHash=block_hash(7, "fork")),
        receipt(7, log(7, 4, amount=99)),
        receipt(7, log(7, 4), status="0x0"),
        {"transactionHash": digest("tx", 7)},
    ],
    ids=["none", "empty", "other fork", "other amount", "failed", "shape"],
)
async def test_read_span__receipt_that_does_not_fit__nothing_is_read(
    node: ScriptedNode, reader: EvmReader, answer: object
) -> None:
    node.logs = [log(7, 4)]
    node.methods["eth_getTransactionReceipt"] = answer
    with pytest.raises(NodeInconsistent):
        await reader.read_span(SPAN, TO_SHOP)


# -- announcements -----------------------------------------------------------------------------------------------------


def told(topic: bytes, number: int = 7, index: int = 0, /, *args: str, data: str = "0x", **changed: Any) -> Json:
    return log(number, index) | {"topics": ["0x" + topic.hex(), *args], "data": data} | changed


def flag(value: int) -> str:
    return value.to_bytes(32).hex()


@pytest.mark.parametrize(
    ("event", "kind", "subject"),
    [
        (told(topics.PAUSE), AnnouncementKind.PAUSED, None),
        (told(topics.PAUSED, data=word(ALICE)), AnnouncementKind.PAUSED, None),
        (told(topics.PAUSE, data="0x" + "00" * 2_000), AnnouncementKind.PAUSED, None),
        (told(topics.UNPAUSE), AnnouncementKind.UNPAUSED, None),
        (told(topics.PAUSE_STATE_UPDATE, 7, 0, word(ALICE), data="0x" + flag(1)), AnnouncementKind.PAUSED, None),
        (told(topics.PAUSE_STATE_UPDATE, 7, 0, word(ALICE), data="0x" + flag(0)), AnnouncementKind.UNPAUSED, None),
        (told(topics.UPGRADED, 7, 0, word(STRANGER)), AnnouncementKind.UPGRADED, STRANGER),
        (told(topics.UPGRADED, data=word(STRANGER)), AnnouncementKind.UPGRADED, STRANGER),
        (told(topics.DEPRECATE, data=word(STRANGER)), AnnouncementKind.DEPRECATED, STRANGER),
        (told(topics.BLACKLISTED, 7, 0, word(SHOP)), AnnouncementKind.BLOCKED, SHOP),
        (told(topics.UNBLACKLISTED, 7, 0, word(SHOP)), AnnouncementKind.UNBLOCKED, SHOP),
        (told(topics.ADDED_BLACKLIST, data=word(SHOP)), AnnouncementKind.BLOCKED, SHOP),
        (told(topics.REMOVED_BLACKLIST, data=word(SHOP)), AnnouncementKind.UNBLOCKED, SHOP),
        (told(topics.BLACKLISTED_FLAG, 7, 0, word(SHOP), data="0x" + flag(1)), AnnouncementKind.BLOCKED, SHOP),
        (told(topics.BLACKLISTED_FLAG, 7, 0, word(SHOP), data="0x" + flag(0)), AnnouncementKind.UNBLOCKED, SHOP),
        (told(topics.ACCOUNT_FROZEN, 7, 0, word(SHOP)), AnnouncementKind.BLOCKED, SHOP),
    ],
)
async def test_announcements__in_every_issuers_words(
    node: ScriptedNode, reader: EvmReader, event: Json, kind: AnnouncementKind, subject: bytes | None
) -> None:
    node.logs = [event]
    expected = Announcement(
        token=Address(TOKEN),
        kind=kind,
        subject=None if subject is None else Address(subject),
        block_number=BlockNumber(7),
        tx_hash=TxHash(bytes.fromhex(digest("tx", 7)[2:])),
        log_index=0,
    )
    assert await reader.announcements(SPAN, TOKENS) == (expected,)
    (params,) = node.calls("eth_getLogs")
    assert params[0]["address"] == ["0x" + TOKEN.hex()]
    assert (params[0]["fromBlock"], params[0]["toBlock"]) == ("0x5", "0xc")
    assert "0x" + topics.PAUSE.hex() in params[0]["topics"][0]


async def test_announcements__come_in_order_and_without_tokens_nobody_is_asked(
    node: ScriptedNode, reader: EvmReader
) -> None:
    node.logs = [told(topics.UNPAUSE, 8, 2), told(topics.PAUSE, 8, 1), told(topics.PAUSE, 6, 9)]
    found = await reader.announcements(SPAN, TOKENS)
    assert [(a.block_number, a.log_index) for a in found] == [(6, 9), (8, 1), (8, 2)]
    asked = len(node.bodies)
    assert await reader.announcements(SPAN, frozenset()) == ()
    assert len(node.bodies) == asked


@pytest.mark.parametrize(
    "event",
    [
        told(topics.PAUSE, address="0x" + OTHER_TOKEN.hex()),
        told(topics.PAUSE, 13),
        told(topics.PAUSE, removed=True),
        told(TRANSFER_TOPIC),
        told(topics.PAUSE, topics=[]),
        told(topics.PAUSE, data="0xzz"),
    ],
)
async def test_announcements__not_what_was_asked__is_inconsistent(
    node: ScriptedNode, reader: EvmReader, event: Json
) -> None:
    node.logs = [event]
    with pytest.raises(NodeInconsistent):
        await reader.announcements(SPAN, TOKENS)


async def test_announcements__block_not_there__is_no_silence(node: ScriptedNode, reader: EvmReader) -> None:
    with pytest.raises(BlockNotFound):
        await reader.announcements(BlockSpan(first=BlockNumber(5), last=BlockNumber(HEAD + 1)), TOKENS)


async def test_announcements__range_refused__are_read_in_pieces(node: ScriptedNode, reader: EvmReader) -> None:
    windowed = WindowedReader(reader, monotonic=lambda: 0.0)
    spans: list[tuple[int, int]] = []

    def logs(params: list[Any]) -> object:
        first, last = int(params[0]["fromBlock"], 16), int(params[0]["toBlock"], 16)
        if last - first + 1 > 3:
            return RpcError(-32000, "eth_getLogs is limited to a 3 blocks range")
        spans.append((first, last))
        return [told(topics.PAUSE, first)]

    node.methods["eth_getLogs"] = logs
    found = await windowed.announcements(SPAN, TOKENS)
    assert [a.block_number for a in found] == [first for first, _ in spans]
    covered = [n for first, last in spans for n in range(first, last + 1)]
    assert covered == list(range(5, 13))


async def test_announcements__single_block_refused__says_so(node: ScriptedNode, reader: EvmReader) -> None:
    node.methods["eth_getLogs"] = RpcError(-32000, "block range is too wide")
    with pytest.raises(RangeTooWide):
        await reader.announcements(SPAN, TOKENS)
    with pytest.raises(Rejected):
        await WindowedReader(reader, monotonic=lambda: 0.0).announcements(SPAN, TOKENS)


# -- contract calls ----------------------------------------------------------------------------------------------------


def call(data: str) -> ContractCall:
    return ContractCall(to=Address(TOKEN), data=bytes.fromhex(data))


async def test_contract_calls__answers_reverts_and_nothing_there(node: ScriptedNode, reader: EvmReader) -> None:
    answers = {"0x01": "0x" + "11" * 32, "0x02": RpcError(3, "execution reverted"), "0x03": "0x"}
    node.methods["eth_call"] = lambda params: answers[params[0]["data"]]
    found = await reader.contract_calls([call("01"), call("02"), call("03")])
    assert found == (b"\x11" * 32, None, None)
    assert len(node.bodies) == 1
    assert node.calls("eth_call")[0] == [{"to": "0x" + TOKEN.hex(), "data": "0x01"}, "latest"]
    assert await reader.contract_calls([]) == ()


async def test_contract_calls__node_that_fails__is_no_answer(node: ScriptedNode, reader: EvmReader) -> None:
    node.methods["eth_call"] = RpcError(-32603, "internal error")
    with pytest.raises(Transient):
        await reader.contract_calls([call("01")])
    node.methods["eth_call"] = "0xzz"
    with pytest.raises(NodeInconsistent):
        await reader.contract_calls([call("01")])
