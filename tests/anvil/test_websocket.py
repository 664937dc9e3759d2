"""A real node over its WebSocket: calls, batches, readings, heads; and the node restarted."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chains.errors import BlockNotFound, MethodUnsupported, Rejected, Transient
from chains.evm import EvmReader
from chains.heads import HeadsState, HeadWaker
from chains.model import Address, BlockSpan, ChainId, LogQuery
from chains.replies import Call
from chains.rpc import MAX_BATCH, RpcProvider
from chains.wire import ANYTHING, HEADER, TEXT
from settler.anvil import CHAIN_ID, Anvil, find_anvil
from tests.anvil.shop import open_shop
from tests.support import evm

MAX_WAIT_S = 10.0


@pytest.fixture
async def provider(anvil: Anvil) -> AsyncIterator[RpcProvider]:
    made = RpcProvider(anvil.ws_url)
    yield made
    await made.close()


class Heads:
    """A waker under way, and what it told."""

    def __init__(self, url: str) -> None:
        self.woken = asyncio.Event()
        self.changed = asyncio.Event()
        self.waker = HeadWaker(url, on_head=self.woken.set, on_change=lambda *_: self.changed.set())

    async def becomes(self, state: HeadsState) -> None:
        async with asyncio.timeout(MAX_WAIT_S):
            while self.waker.state is not state:
                self.changed.clear()
                await self.changed.wait()

    async def wake(self) -> None:
        async with asyncio.timeout(MAX_WAIT_S):
            await self.woken.wait()
        self.woken.clear()


@contextlib.asynccontextmanager
async def heads_of(url: str) -> AsyncIterator[Heads]:
    heads = Heads(url)
    running = asyncio.create_task(heads.waker.run())
    try:
        yield heads
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_call__and_errors__are_as_over_http(anvil: Anvil, provider: RpcProvider) -> None:
    assert await provider.call("eth_chainId", [], TEXT) == hex(CHAIN_ID)
    with pytest.raises((MethodUnsupported, Rejected)):  # anvil says -32601 over HTTP, and -32602 over a socket
        await provider.call("eth_nonsense", [], ANYTHING)
    assert await provider.call("eth_getBlockByNumber", ["0x99", False], HEADER) is None


async def test_batch__as_large_as_allowed__comes_in_order(anvil: Anvil, provider: RpcProvider) -> None:
    await evm.mine(anvil, MAX_BATCH)
    calls = [
        Call(method="eth_getBlockByNumber", params=[hex(number), False], result=HEADER) for number in range(MAX_BATCH)
    ]
    headers = await provider.batch(calls)
    assert [int(header.number, 16) for header in headers if header] == list(range(MAX_BATCH))


async def test_calls__many_at_once__each_gets_its_own(anvil: Anvil, provider: RpcProvider) -> None:
    await evm.mine(anvil, 50)
    calls = [provider.call("eth_getBlockByNumber", [hex(number), False], HEADER) for number in range(50)]
    headers = await asyncio.gather(*calls)
    assert [int(header.number, 16) for header in headers if header] == list(range(50))


async def test_reader__span_with_a_transfer__is_read_over_the_socket(anvil: Anvil, provider: RpcProvider) -> None:
    reader = EvmReader(provider, chain_id=ChainId(CHAIN_ID))
    token = await evm.deploy_token(anvil)
    shop = Address(b"\xb0" * 20)
    start = await evm.head(anvil)
    await evm.mint(anvil, token, shop, 5_000_000)
    end = await evm.head(anvil)
    query = LogQuery(tokens=frozenset([token]), recipients=frozenset([shop]))
    read = await reader.read_span(BlockSpan(first=start.number, last=end.number), query)
    assert [(each.block_hash, each.identity.recipient) for each in read.transfers] == [(end.hash, shop)]
    with pytest.raises(BlockNotFound):
        await reader.read_span(BlockSpan(first=end.number, last=type(end.number)(end.number + 1)), query)


async def test_heads__each_block__wakes(anvil: Anvil) -> None:
    async with heads_of(anvil.ws_url) as heads:
        await heads.becomes(HeadsState.LIVE)
        for _ in range(3):
            await evm.mine(anvil)
            await heads.wake()
        await evm.reorg(anvil, 2)
        await heads.wake()


async def test_node_restarted__calls_and_heads_come_back() -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with Anvil(find_anvil()) as node:
            url, port = node.ws_url, int(node.ws_url.rpartition(":")[2])
            provider = RpcProvider(url)
            stack.push_async_callback(provider.close)
            heads = await stack.enter_async_context(heads_of(url))
            await heads.becomes(HeadsState.LIVE)
            assert await provider.call("eth_blockNumber", [], TEXT) == "0x0"
        await heads.becomes(HeadsState.DOWN)
        with pytest.raises(Transient):
            await provider.call("eth_blockNumber", [], TEXT)

        async with Anvil(find_anvil(), port=port) as again:
            assert await provider.call("eth_blockNumber", [], TEXT) == "0x0"
            await heads.becomes(HeadsState.LIVE)
            await evm.mine(again)
            await heads.wake()
            assert await provider.call("eth_blockNumber", [], TEXT) == "0x1"


async def test_shop__over_a_socket__settles(tmp_path: Path) -> None:
    async with Anvil(find_anvil(), no_mining=True) as node, open_shop(tmp_path, node=node, rpc=node.ws_url) as shop:
        invoice = await shop.api.create("10.00")
        await shop.pay(invoice)
        await shop.finish()
        await shop.api.reaches(invoice, "settled")
