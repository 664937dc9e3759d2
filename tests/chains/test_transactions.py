"""`Transactions` against a node that answers what it is told."""

from __future__ import annotations

from typing import Any

import pytest

from chains.errors import NodeInconsistent, RateLimited
from chains.model import TxHash
from chains.rpc import RpcProvider
from chains.transactions import Mined, Transactions
from tests.chains.scripted_node import RpcError, ScriptedNode, block_hash, digest

TX = digest("tx")
HASH = TxHash(bytes.fromhex(TX[2:]))
RECEIPT = {"transactionHash": TX, "blockNumber": "0x7", "blockHash": block_hash(7), "status": "0x1", "logs": []}


@pytest.fixture
def transactions(provider: RpcProvider) -> Transactions:
    return Transactions(provider)


@pytest.mark.parametrize(
    ("changes", "has_failed"),
    [({}, False), ({"status": "0x0"}, True), ({"status": None}, False)],
)
async def test_find__mined__says_where_and_whether_it_failed(
    node: ScriptedNode, transactions: Transactions, changes: dict[str, Any], has_failed: bool
) -> None:
    node.methods["eth_getTransactionReceipt"] = RECEIPT | changes
    found = await transactions.find(HASH)
    assert found == Mined(block_number=7, block_hash=bytes.fromhex(block_hash(7)[2:]), has_failed=has_failed)  # type: ignore[arg-type]  # NewTypes
    assert node.calls("eth_getTransactionReceipt") == [[TX]]


@pytest.mark.parametrize("answer", [None, RECEIPT | {"blockNumber": None, "blockHash": None}])
async def test_find__in_no_block__is_none(node: ScriptedNode, transactions: Transactions, answer: object) -> None:
    node.methods["eth_getTransactionReceipt"] = answer
    assert await transactions.find(HASH) is None


@pytest.mark.parametrize(
    "changes",
    [{"transactionHash": digest("another")}, {"blockNumber": "7"}, {"blockHash": "0x07"}, {"status": "0x2"}],
    ids=str,
)
async def test_find__an_answer_that_cannot_be__is_inconsistent(
    node: ScriptedNode, transactions: Transactions, changes: dict[str, str]
) -> None:
    node.methods["eth_getTransactionReceipt"] = RECEIPT | changes
    with pytest.raises(NodeInconsistent):
        await transactions.find(HASH)


async def test_find__an_error__is_a_chain_error(node: ScriptedNode, transactions: Transactions) -> None:
    node.methods["eth_getTransactionReceipt"] = RpcError(-32005, "rate limit exceeded")
    with pytest.raises(RateLimited):
        await transactions.find(HASH)
