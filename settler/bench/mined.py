"""The chain of `settler.bench.canned` on a real node: anvil has mined the same transfers, a transaction a block.

What it costs to read is the same; how fast a node answers is not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from settler import devchain
from settler.anvil import Anvil, find_anvil
from settler.bench.canned import DECIMALS, GENESIS_S, SYMBOL, UNIT, CannedChain, Served

TAIL = 8
"""Blocks without a log above the others."""


@asynccontextmanager
async def mined(chain: CannedChain, anvil: str | None) -> AsyncIterator[Served]:
    """Raises `AnvilError` where there is none."""
    async with Anvil(find_anvil(anvil), no_mining=True, slots_in_an_epoch=1, timestamp=GENESIS_S) as node:
        token = await devchain.deploy_token(node, SYMBOL, DECIMALS)
        payouts = await devchain.deploy_batch_payout(node)
        await devchain.mint(node, token, payouts, 10**12 * UNIT)
        first = (await devchain.mine(node)).number + 1
        for number in range(1, chain.blocks + 1):
            await devchain.payout(node, node.accounts[1], payouts, token, chain.transfers_of(number))
            await devchain.mine(node)
        head = await devchain.mine(node, TAIL)
        # anvil's finalized block is two epochs behind its head
        yield Served(url=node.url, token=token, first=first, final=head.number - 2)
