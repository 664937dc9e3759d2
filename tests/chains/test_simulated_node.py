"""The simulated node answers what its chain is, as real nodes write it; the client reads back exactly that.

That the client keeps its promises over it is shown by the conformance suite.
"""

from __future__ import annotations

from typing import Any, cast

import aiohttp
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chains.errors import BlockNotFound
from chains.evm import EvmReader
from chains.labels import RawLog
from chains.model import (
    Address,
    AnnouncementKind,
    BaseUnits,
    BlockNumber,
    BlockSpan,
    ChainId,
    ContractCall,
    Label,
    LabelKind,
    LogQuery,
    Tag,
    Token,
    Transfer,
)
from chains.proof import BLOCK, RECEIPTS, encode_header, profile_of, prove_block, verify
from chains.rpc import RpcProvider
from chains.simulated_chain import SimTransfer, SimTx, SimulatedChain
from chains.simulated_node import SimulatedNode
from chains.simulated_txs import LABEL_SOURCES
from chains.tokens import read_balances
from chains.transactions import Transactions
from contracts_abi import TRANSFER_TOPIC
from tests.support.node_session import NodeSession

TOKEN, OTHER, NFT = Address(b"\x70" * 20), Address(b"\x71" * 20), Address(b"\x72" * 20)
ALICE, BOB, SHOP = Address(b"\xa1" * 20), Address(b"\xb0" * 20), Address(b"\x5a" * 20)
EVERYTHING = LogQuery(
    tokens=frozenset([TOKEN, OTHER]), recipients=None, labelled=frozenset([SHOP, BOB]), sources=LABEL_SOURCES
)
ERC721 = RawLog(TOKEN, (TRANSFER_TOPIC, ALICE.rjust(32, b"\0"), SHOP.rjust(32, b"\0"), bytes(32)), b"")
FOREIGN = RawLog(NFT, (TRANSFER_TOPIC, ALICE.rjust(32, b"\0"), SHOP.rjust(32, b"\0")), (5).to_bytes(32))


def made(*, real: bool = True, **changed: Any) -> SimulatedChain:
    return SimulatedChain(seed=1, chain_id=ChainId(31337), has_real_headers=real, **changed)


def pay(amount: int, *, to: Address = SHOP, token: Address = TOKEN, labels: tuple[Label, ...] = ()) -> SimTransfer:
    return SimTransfer(token=token, sender=ALICE, recipient=to, amount=BaseUnits(amount), labels=labels)


def provider_of(chain: SimulatedChain) -> RpcProvider:
    session = cast(aiohttp.ClientSession, NodeSession(SimulatedNode(chain)))
    return RpcProvider("http://node.test/", session=session)


def reader_of(chain: SimulatedChain) -> EvmReader:
    return EvmReader(provider_of(chain), chain_id=chain.id, check_bloom=chain.has_real_headers)


def asked(chain: SimulatedChain, method: str, *params: object, behind: int = 0) -> Any:
    reply = SimulatedNode(chain, behind=behind).reply({"jsonrpc": "2.0", "id": 7, "method": method, "params": params})
    assert (reply["jsonrpc"], reply["id"]) == ("2.0", 7)
    return reply["result"] if "result" in reply else reply["error"]


def noisy(chain: SimulatedChain, *transfers: SimTransfer, noise: tuple[RawLog, ...] = (ERC721, FOREIGN)) -> SimTx:
    return chain.tx(*transfers, sender=BOB, noise=noise)


async def read_all(chain: SimulatedChain) -> tuple[Transfer, ...]:
    span = BlockSpan(first=BlockNumber(0), last=chain.height)
    return (await reader_of(chain).read_span(span, EVERYTHING)).transfers


# -- what the client reads back ----------------------------------------------------------------------------------------

words = st.binary(min_size=32, max_size=32).filter(any)
labels = st.dictionaries(st.sampled_from(list(LabelKind)), words, max_size=3).map(
    lambda kinds: tuple(Label(kind=kind, key=key) for kind, key in kinds.items())
)
payments = st.builds(
    pay, st.integers(1, 3), to=st.sampled_from([SHOP, BOB]), token=st.sampled_from([TOKEN, OTHER]), labels=labels
)


@settings(max_examples=40)
@given(batches=st.lists(st.lists(payments, max_size=4), max_size=4), has_noise=st.booleans())
async def test_labels__of_any_batch__are_read_back_each_at_its_transfer(
    batches: list[list[SimTransfer]], has_noise: bool
) -> None:
    chain = made(real=False)
    chain.mine([noisy(chain, *batch, noise=(ERC721, FOREIGN) if has_noise else ()) for batch in batches])
    assert await read_all(chain) == chain.transfers()
    assert len(chain.transfers()) == sum(map(len, batches))


async def test_reorg__the_client_reads_the_new_branch() -> None:
    chain = made()
    for number in range(1, 9):
        chain.mine([noisy(chain, pay(number), pay(number))])
    before = await read_all(chain)
    chain.reorg(5, shift=1, is_reversed=True)
    after = await read_all(chain)
    assert after == chain.transfers() != before
    assert {each.identity for each in after} == {each.identity for each in before}


async def test_announcements__are_the_tokens_own_events() -> None:
    chain = made()
    chain.mine([chain.tx(pay(5))])
    for kind in AnnouncementKind:
        with_subject = kind not in (AnnouncementKind.PAUSED, AnnouncementKind.UNPAUSED)
        chain.announce(TOKEN, kind, BOB if with_subject else None)
    chain.announce(OTHER, AnnouncementKind.UPGRADED)
    chain.mine([chain.tx(pay(6), pay(7))])
    span = BlockSpan(first=BlockNumber(0), last=chain.height)
    told = await reader_of(chain).announcements(span, frozenset([TOKEN, OTHER]))
    assert list(told) == list(chain.announcements)
    assert len({each.log_index for each in told} | {each.log_index for each in chain.transfers()}) >= 9
    chain.reorg(1)
    assert list(await reader_of(chain).announcements(span, frozenset([TOKEN, OTHER]))) == list(chain.announcements)


async def test_tokens_and_balances__are_what_the_chain_says() -> None:
    chain = made()
    symbol = "USD₮0, longer than one word of thirty-two bytes"
    chain.add_token(
        Token(chain_id=chain.id, symbol="X", address=TOKEN, decimals=6, currency="USD", onchain_symbol=symbol)
    )
    chain.mine([chain.tx(pay(5), pay(2, to=BOB))])
    chain.mine([chain.tx(SimTransfer(token=TOKEN, sender=SHOP, recipient=BOB, amount=BaseUnits(1)))])
    facts = await reader_of(chain).token_facts(TOKEN)
    assert (facts.has_code, facts.decimals, facts.symbol) == (True, 6, symbol[:32])
    assert not (await reader_of(chain).token_facts(OTHER)).has_code
    balances = [
        await read_balances(provider_of(chain), TOKEN, [SHOP, BOB, ALICE], at=BlockNumber(at)) for at in (0, 1, 2)
    ]
    assert balances == [(0, 0, 0), (5, 2, 0), (4, 3, 0)]
    chain.reorg(1, drop={tx.hash for block in [chain.block_at(2)] if block for tx in block.txs})
    assert await read_balances(provider_of(chain), TOKEN, [SHOP, BOB], at=BlockNumber(2)) == (5, 2)


async def test_contracts__answer_revert_and_are_missing() -> None:
    chain = made()
    chain.set_contract(TOKEN, lambda data: data[:2] if data else None)
    calls = [ContractCall(to=TOKEN, data=b"\x01\x02\x03"), ContractCall(to=TOKEN, data=b"")]
    assert await reader_of(chain).contract_calls([*calls, ContractCall(to=BOB, data=b"")]) == (b"\x01\x02", None, None)


async def test_transactions__mined_failed_and_unknown() -> None:
    chain = made()
    paid = chain.tx(pay(5))
    failed = chain.tx(pay(9), has_failed=True)
    chain.mine([failed, paid])
    found = Transactions(provider_of(chain))
    mined, reverted = await found.find(paid.hash), await found.find(failed.hash)
    assert mined is not None
    assert reverted is not None
    assert (mined.block_number, mined.block_hash, mined.has_failed) == (1, chain.head.hash, False)
    assert reverted.has_failed
    assert await found.find(chain.tx(pay(1)).hash) is None
    assert [each.identity.amount for each in await read_all(chain)] == [5]
    assert asked(chain, "eth_getTransactionByHash", "0x" + paid.hash.hex())["from"] == "0x" + ALICE.hex()
    assert asked(chain, "eth_getBlockByNumber", "0x1", True)["transactions"][1]["hash"] == "0x" + paid.hash.hex()


# -- proofs ------------------------------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(batches=st.lists(st.lists(payments, max_size=3), max_size=20), number=st.integers(1, 3))
def test_real_headers__hash_to_their_hash_and_prove_each_payment(batches: list[list[SimTransfer]], number: int) -> None:
    chain = SimulatedChain(seed=number, chain_id=ChainId(1), has_real_headers=True)
    chain.mine_empty(number)
    chain.announce(TOKEN, AnnouncementKind.PAUSED)
    chain.mine([noisy(chain, *batch) for batch in batches])
    chain.mine([chain.tx(pay(9), has_failed=True)])
    chain.reorg(1)
    for ref in map(chain.ref_at, range(chain.height + 1)):
        wanted = "0x" + ref.hash.hex()
        block = BLOCK.decode(msgspec.json.encode(asked(chain, "eth_getBlockByHash", wanted, False)))
        receipts = RECEIPTS.decode(msgspec.json.encode(asked(chain, "eth_getBlockReceipts", wanted)))
        assert block is not None
        assert receipts is not None
        assert len(encode_header(block, ref.hash, profile_of(ChainId(1)))) > 500
        proven = prove_block(block, receipts, block_hash=ref.hash, profile=profile_of(ChainId(1)))
        assert proven.timestamp_s == int(ref.time.timestamp())
        standing = chain.transfers(BlockSpan(first=ref.number, last=ref.number))
        assert proven.transfers(chain.id, EVERYTHING) == {each.identity for each in standing}
        for transfer in standing:
            verify(proven.prove(transfer), transfer)


async def test_real_headers__the_same_content_on_another_fork__has_another_hash() -> None:
    chain = made()
    chain.mine_empty(5)
    before = chain.head
    twin = chain.forked("other")
    chain.reorg(1)
    twin.reorg(1)
    assert len({before.hash, chain.head.hash, twin.head.hash}) == 3
    assert {before.parent_hash, chain.head.parent_hash, twin.head.parent_hash} == {chain.ref_at(4).hash}
    with pytest.raises(BlockNotFound):
        await reader_of(chain).proof_material(before.hash)


# -- how it is written -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("real", [False, True])
def test_answers__are_new_each_time__down_to_their_lists(real: bool) -> None:
    """A fault alters what was answered, never what the next one is told."""
    chain = made(real=real)
    tx = noisy(chain, pay(5))
    chain.mine([tx])
    for method, *params in (
        ("eth_getBlockByNumber", "latest", False),
        ("eth_getBlockByNumber", "latest", True),
        ("eth_getBlockByNumber", "0x0", False),
        ("eth_getBlockReceipts", "latest"),
        ("eth_getTransactionReceipt", "0x" + tx.hash.hex()),
        ("eth_getTransactionByHash", "0x" + tx.hash.hex()),
        ("eth_getLogs", {"fromBlock": "0x1"}),
    ):
        before = msgspec.json.encode(asked(chain, method, *params))
        spoil(asked(chain, method, *params))
        assert msgspec.json.encode(asked(chain, method, *params)) == before


def spoil(answer: Any) -> None:
    each = list(answer.values()) if isinstance(answer, dict) else list(answer)
    for inner in each:
        if isinstance(inner, dict | list):
            spoil(inner)
    answer.clear()


def test_logs__by_address_topics_and_block() -> None:
    chain = made()
    chain.mine([noisy(chain, pay(1)), chain.tx(pay(2, to=BOB), pay(3, token=OTHER))])
    chain.mine_empty(3)

    def amounts(**wanted: object) -> list[int]:
        logs = asked(chain, "eth_getLogs", {"fromBlock": "0x0", **wanted})
        return [int(log["data"], 16) if log["data"] != "0x" else -1 for log in logs]

    topic, to_bob = "0x" + TRANSFER_TOPIC.hex(), "0x" + BOB.rjust(32, b"\0").hex()
    assert amounts() == [-1, 5, 1, 2, 3]
    assert amounts(address="0x" + TOKEN.hex().upper()) == [-1, 1, 2]
    assert amounts(address=["0x" + TOKEN.hex(), "0x" + OTHER.hex()], topics=[topic, None]) == [-1, 1, 2, 3]
    assert amounts(topics=[[topic, to_bob], None, [to_bob]]) == [2]
    assert amounts(topics=[None, None, None, None]) == [-1]
    assert amounts(topics=[[], [], to_bob.upper().replace("0X", "0x")]) == [2]
    assert amounts(fromBlock="0x2", toBlock="0x99") == []
    assert amounts(fromBlock="0x90", toBlock="0x99") == []
    assert amounts(fromBlock="earliest", toBlock="latest") == [-1, 5, 1, 2, 3]
    by_hash = {"blockHash": "0x" + chain.hash_at(1).hex()}
    assert [log["logIndex"] for log in asked(chain, "eth_getLogs", by_hash)] == [
        hex(chain.hash_at(1)[0] % 8 + at) for at in range(5)
    ]


def test_written__as_go_ethereum_writes_it() -> None:
    chain = made()
    chain.mine([chain.tx(pay(255))])
    (log,) = asked(chain, "eth_getLogs", {"fromBlock": "latest"})
    assert set(log) == {
        "address", "topics", "data", "blockHash", "blockNumber", "blockTimestamp", "transactionHash",
        "transactionIndex", "logIndex", "removed",
    }  # fmt: skip
    assert (log["blockNumber"], log["transactionIndex"], log["removed"]) == ("0x1", "0x0", False)
    assert log["data"] == "0x" + "00" * 31 + "ff"
    header = asked(chain, "eth_getBlockByNumber", "0x0", False)
    assert (header["number"], header["parentHash"], header["transactions"]) == ("0x0", "0x" + "00" * 32, [])
    assert asked(chain, "eth_chainId") == "0x7a69"
    assert asked(chain, "eth_blockNumber") == "0x1"


@pytest.mark.parametrize(
    ("method", "params", "code", "text"),
    [
        ("eth_nonsense", [], -32601, "the method eth_nonsense does not exist/is not available"),
        ("eth_getBlockByNumber", [], -32602, "missing value for required argument 0"),
        ("eth_getBlockByNumber", ["0x01", False], -32602, "invalid argument 0"),
        ("eth_getBlockByNumber", [5, False], -32602, "invalid argument 0"),
        ("eth_getBlockByNumber", ["safe", False], -32000, "safe block not found"),
        ("eth_getBlockByHash", ["0x12", False], -32602, "invalid argument 0"),
        ("eth_getLogs", ["0x1"], -32602, "invalid argument 0"),
        ("eth_getLogs", [{"fromBlock": "0x2", "toBlock": "0x1"}], -32602, "invalid block range params"),
        ("eth_getLogs", [{"fromBlock": "0x0", "address": [5]}], -32602, "invalid argument 0"),
        ("eth_getLogs", [{"fromBlock": "0x0", "topics": "0x"}], -32602, "invalid argument 0"),
        ("eth_getLogs", [{"blockHash": "0x" + "ee" * 32}], -32000, "unknown block"),
        ("eth_call", [{"to": "0x" + "70" * 20}, "0x99"], -32000, "header not found"),
        ("eth_call", [{"to": "nobody"}, "latest"], -32602, "invalid argument 0"),
    ],
)
def test_refusals(method: str, params: list[object], code: int, text: str) -> None:
    chain = made(safe_lag=None)
    chain.mine([chain.tx(pay(5))])
    error = asked(chain, method, *params)
    assert error["code"] == code
    assert text in error["message"]


def test_what_is_not_there__is_null() -> None:
    chain = made()
    chain.mine_empty(2)
    nowhere = "0x" + "ee" * 32
    assert asked(chain, "eth_getBlockByNumber", "0x3", False) is None
    assert asked(chain, "eth_getBlockByHash", nowhere, False) is None
    assert asked(chain, "eth_getBlockReceipts", "0x3") is None
    assert asked(chain, "eth_getBlockReceipts", nowhere) is None
    assert asked(chain, "eth_getTransactionReceipt", nowhere) is None
    assert asked(chain, "eth_getBlockReceipts", "0x2") == []


def test_behind__knows_nothing_of_the_newest_blocks() -> None:
    chain = made()
    chain.mine_empty(99)
    tx = chain.tx(pay(5))
    chain.mine([tx])
    assert asked(chain, "eth_blockNumber", behind=7) == hex(93)
    assert asked(chain, "eth_getBlockByNumber", Tag.FINALIZED, False, behind=7)["number"] == hex(29)
    assert asked(chain, "eth_getBlockByNumber", hex(94), False, behind=7) is None
    assert asked(chain, "eth_getLogs", {"fromBlock": "0x0", "toBlock": hex(100)}, behind=7) == []
    assert asked(chain, "eth_getTransactionReceipt", "0x" + tx.hash.hex(), behind=7) is None
    assert asked(chain, "eth_getTransactionReceipt", "0x" + tx.hash.hex())["status"] == "0x1"
    assert asked(chain, "eth_blockNumber", behind=700) == "0x0"
