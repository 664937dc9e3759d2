"""The shapes of the collection that are no errors: HTTP 200, no error object, not true. Each is caught as it says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from chains.errors import BlockNotFound, ChainError, HistoryPruned, NodeInconsistent
from chains.evm import EvmReader
from chains.model import Address, BlockNumber, BlockSpan, ChainId, LogQuery
from chains.rpc import RpcProvider
from contracts_abi import TRANSFER_TOPIC
from tests.chains.scripted_node import ALICE, HEAD, SHOP, TOKEN, RpcError, ScriptedNode, header, log
from tests.chains.test_bloom import bloom_of
from tests.chains.test_classify import COLLECTED

LIES = {shape["message"]: shape for shape in COLLECTED if shape["message"].startswith("(no error)")}
SPAN = BlockSpan(first=BlockNumber(5), last=BlockNumber(12))
TO_SHOP = LogQuery(tokens=frozenset([Address(TOKEN)]), recipients=frozenset([Address(SHOP)]))
PAID = bloom_of(TOKEN, TRANSFER_TOPIC, bytes(12) + ALICE, bytes(12) + SHOP)

Told = Callable[[ScriptedNode, RpcProvider], Awaitable[None]]


def believer(provider: RpcProvider) -> EvmReader:
    return EvmReader(provider, chain_id=ChainId(1), check_bloom=True)


def paid_block(params: list[Any]) -> object:
    return header(int(params[0], 16), transactions=[log(12)["transactionHash"]], logsBloom=PAID)


async def expect(error: type[ChainError], reader: EvmReader, query: LogQuery = TO_SHOP) -> None:
    with pytest.raises(error):
        await reader.read_span(SPAN, query)


async def empty_though_paid(node: ScriptedNode, provider: RpcProvider) -> None:
    node.head = 11
    await expect(BlockNotFound, EvmReader(provider, chain_id=ChainId(1)))
    node.methods["eth_getBlockByNumber"] = paid_block
    receipt = {"transactionHash": log(12)["transactionHash"], "blockHash": log(12)["blockHash"], "logs": [log(12)]}
    node.methods["eth_getBlockReceipts"] = [receipt]
    await expect(NodeInconsistent, believer(provider))


async def empty_though_pruned(node: ScriptedNode, provider: RpcProvider) -> None:
    node.methods["eth_getBlockByNumber"] = paid_block
    node.methods["eth_getBlockReceipts"] = RpcError(4444, "pruned history unavailable")
    await expect(HistoryPruned, believer(provider))


async def empty_for_no_address(node: ScriptedNode, provider: RpcProvider) -> None:
    reader = EvmReader(provider, chain_id=ChainId(1))
    nothing = frozenset[Address]()
    for query in (replace(TO_SHOP, tokens=nothing), replace(TO_SHOP, recipients=nothing)):
        assert (await reader.read_span(SPAN, query)).transfers == ()
    assert node.calls("eth_getLogs") == []


async def empty_beyond_the_chain(node: ScriptedNode, provider: RpcProvider) -> None:
    with pytest.raises(ValueError, match="first <= last"):
        BlockSpan(first=BlockNumber(6), last=BlockNumber(5))
    node.head = 11
    await expect(BlockNotFound, EvmReader(provider, chain_id=ChainId(1)))


async def null_header(node: ScriptedNode, provider: RpcProvider) -> None:
    reader = EvmReader(provider, chain_id=ChainId(1))
    assert await reader.headers([BlockNumber(HEAD + 1)]) == (None,)
    node.methods["eth_getBlockByNumber"] = None
    node.logs = [log(12)]
    await expect(BlockNotFound, reader)


STORIES: dict[str, Told] = {
    "(no error) result: [] for a block that has logs": empty_though_paid,
    "(no error) result: [] for address-filtered logs in pruned range": empty_though_pruned,
    "(no error) result: [] when address: []": empty_for_no_address,
    "(no error) result: [] when fromBlock>toBlock or toBlock>head": empty_beyond_the_chain,
    "(no error) result: null": null_header,
}


def test_lies__each_of_the_collection__says_what_catches_it_and_is_told_here() -> None:
    assert STORIES.keys() == LIES.keys()
    assert all(shape["caught_by"] for shape in LIES.values())


@pytest.mark.parametrize("message", list(LIES))
async def test_lie__is_caught(node: ScriptedNode, provider: RpcProvider, message: str) -> None:
    await STORIES[message](node, provider)
