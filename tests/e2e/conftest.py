"""Fixtures: a chain that makes blocks by itself, with a token and people who hold it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from settler.anvil import Anvil, find_anvil
from tests.support import evm
from tests.support.daemon import ChainTable, Json, TokenTable, due, pay_to, write_config

BLOCK_TIME_S = 0.25
FINALITY = 3


@dataclass(frozen=True, kw_only=True)
class Market:
    node: Anvil
    token: TokenTable
    chain: ChainTable
    config: Path

    async def pay(self, *invoices: Json) -> None:
        """Each in full, from one account; mined with the next blocks."""
        await evm.batch_transfers(
            self.node, self.node.accounts[1], self.token.address, [(pay_to(i), due(i)) for i in invoices]
        )


@pytest.fixture
async def market(tmp_path: Path) -> AsyncIterator[Market]:
    """`config`: a daemon for it on SQLite, with a file of its own."""
    async with Anvil(find_anvil(), block_time_s=BLOCK_TIME_S) as node:
        token = TokenTable(address=await evm.deploy_token(node))
        await evm.mint(node, token.address, evm.address_of(node.accounts[1]), 10**15)
        chain = ChainTable(rpc=node.url, tokens=[token], finality=FINALITY)
        yield Market(node=node, token=token, chain=chain, config=write_config(tmp_path, chain))
