"""`Holdings` against a node that answers what it is told: what left addresses, and what they hold."""

from __future__ import annotations

import pytest

from chains.errors import BlockNotFound, HistoryPruned, MethodUnsupported, NodeInconsistent, ResultTooLarge
from chains.holdings import Holdings
from chains.model import Address, BlockNumber, BlockSpan, ChainId
from chains.planning import FILTER_RECIPIENTS_MAX
from chains.rpc import RpcProvider
from tests.chains.scripted_node import (
    ALICE,
    HEAD,
    OTHER_TOKEN,
    SHOP,
    STRANGER,
    TOKEN,
    RpcError,
    ScriptedNode,
    log,
    word,
)

SPAN = BlockSpan(first=BlockNumber(5), last=BlockNumber(12))
TOKENS = frozenset([Address(TOKEN)])
FROM_ALICE = frozenset([Address(ALICE)])


@pytest.fixture
def holdings(provider: RpcProvider) -> Holdings:
    return Holdings(provider, chain_id=ChainId(1), monotonic=lambda: 0.0)


async def test_sent__is_asked_by_sender_and_to_anybody(node: ScriptedNode, holdings: Holdings) -> None:
    node.logs = [log(6), log(7, to=STRANGER, amount=5)]
    sent = await holdings.sent(SPAN, TOKENS, FROM_ALICE)
    assert [(t.block_number, t.identity.recipient, t.identity.amount) for t in sent] == [
        (6, SHOP, 100),
        (7, STRANGER, 5),
    ]
    ((asked,),) = node.calls("eth_getLogs")
    assert (asked["fromBlock"], asked["toBlock"], asked["address"]) == ("0x5", "0xc", ["0x" + TOKEN.hex()])
    assert asked["topics"][1:] == [[word(ALICE)]]


async def test_sent__many_senders__are_asked_in_chunks(node: ScriptedNode, holdings: Holdings) -> None:
    many = [Address(n.to_bytes(20)) for n in range(1, 2 * FILTER_RECIPIENTS_MAX + 2)]
    assert await holdings.sent(SPAN, TOKENS, many) == ()
    asked = [params[0]["topics"][1] for params in node.calls("eth_getLogs")]
    assert [len(senders) for senders in asked] == [FILTER_RECIPIENTS_MAX, FILTER_RECIPIENTS_MAX, 1]
    assert await holdings.sent(SPAN, TOKENS, []) == ()


async def test_sent__log_of_another_sender__is_inconsistent(node: ScriptedNode, holdings: Holdings) -> None:
    node.logs = [log(6)]
    with pytest.raises(NodeInconsistent, match="another sender"):
        await holdings.sent(SPAN, TOKENS, [Address(STRANGER)])


async def test_sent__block_not_there_yet__says_so(node: ScriptedNode, holdings: Holdings) -> None:
    beyond = BlockSpan(first=BlockNumber(HEAD), last=BlockNumber(HEAD + 1))
    with pytest.raises(BlockNotFound):
        await holdings.sent(beyond, TOKENS, FROM_ALICE)
    assert node.calls("eth_getLogs")


async def test_sent__too_much_for_one_answer__is_asked_in_pieces(node: ScriptedNode, holdings: Holdings) -> None:
    def narrow(params: list[dict[str, str]]) -> object:
        first, last = (int(params[0][name], 16) for name in ("fromBlock", "toBlock"))
        if last - first >= 4:
            return RpcError(-32005, "query returned more than 10000 results")
        return [log(number) for number in (6, 12) if first <= number <= last]

    node.methods["eth_getLogs"] = narrow
    assert [t.block_number for t in await holdings.sent(SPAN, TOKENS, FROM_ALICE)] == [6, 12]
    node.methods["eth_getLogs"] = RpcError(-32005, "query returned more than 10000 results")
    with pytest.raises((MethodUnsupported, ResultTooLarge)):
        await holdings.sent(SPAN, TOKENS, FROM_ALICE)


async def test_balances__of_each_holder_at_that_block(node: ScriptedNode, holdings: Holdings) -> None:
    held = {word(SHOP)[2:]: 7, word(ALICE)[2:]: 2**256 - 1}

    def call(params: list[dict[str, str]]) -> object:
        (amount,) = [amount for holder, amount in held.items() if params[0]["data"].endswith(holder)]
        return f"0x{amount:064x}"

    node.methods["eth_call"] = call
    found = await holdings.balances(Address(TOKEN), [Address(SHOP), Address(ALICE)], at=BlockNumber(12))
    assert found == (7, 2**256 - 1)
    assert {params[1] for params in node.calls("eth_call")} == {"0xc"}


async def test_balances__contract_that_answers_none__is_none(node: ScriptedNode, holdings: Holdings) -> None:
    node.methods |= {"eth_call": "0x", "eth_getCode": "0x"}
    assert await holdings.balances(Address(OTHER_TOKEN), [Address(SHOP)], at=BlockNumber(12)) == (None,)


async def test_balances__state_pruned__goes_up(node: ScriptedNode, holdings: Holdings) -> None:
    node.methods["eth_call"] = RpcError(-32000, "missing trie node 0f (path ) state 0x0f is not available")
    with pytest.raises(HistoryPruned):
        await holdings.balances(Address(TOKEN), [Address(SHOP), Address(ALICE)], at=BlockNumber(12))
