"""A shop on a chain of its own: a node that mines when told to, a token, and the daemon with its API.

async with open_shop(tmp_path) as shop:
    invoice = await shop.api.create("100.00")
    await shop.pay(invoice)
    await shop.mine(4)                  # in a block, and three more on it: final
    await shop.api.reaches(invoice, "settled")
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chains.model import Address, BlockRef, TxHash
from settler.anvil import Anvil, find_anvil
from tests.support import evm
from tests.support.daemon import Api, ChainTable, Json, Running, TokenTable, due, pay_to, running, write_config
from tests.support.dump import audit

FINALITY = 3
"""Blocks that must stand on a payment."""
UNIT = 10**6
"""One USDC."""
PURSE = 10**9 * UNIT
"""What every payer has: more than all payments of a test."""
POLL_S = 0.05


@dataclass(kw_only=True)
class Shop:
    node: Anvil
    token: Address
    running: Running
    config: Path

    @property
    def api(self) -> Api:
        return self.running.api

    @property
    def database(self) -> str:
        """Its URL."""
        return f"sqlite:///{self.config.parent / 'settler.db'}"

    async def pay(self, invoice: Json, amount: int | None = None, *, payer: int = 1, index: int = 0) -> TxHash:
        """Sends what the invoice asks for, or `amount` base units of the shop's token; not mined yet."""
        return await self.send(pay_to(invoice, index), due(invoice, index) if amount is None else amount, payer=payer)

    async def send(self, to: Address, amount: int, *, payer: int = 1, token: Address | None = None) -> TxHash:
        return await evm.transfer(self.node, self.node.accounts[payer], token or self.token, to, amount)

    async def mine(self, blocks: int = 1) -> BlockRef:
        return await evm.mine(self.node, blocks)

    async def head(self) -> int:
        return (await evm.head(self.node)).number

    async def see_all(self) -> int:
        """The head, once the daemon has read it."""
        head = await self.head()
        await self.api.scanned(head)
        return head

    async def finish(self) -> None:
        """Mines what was sent and makes it final; returns once the daemon has decided it."""
        head = (await self.mine(1 + FINALITY)).number
        await self.api.decided(head - FINALITY)

    async def payment_block(self, tx_hash: TxHash) -> int:
        return int((await evm.wait_mined(self.node, tx_hash))["blockNumber"], 16)


@asynccontextmanager
async def open_shop(
    folder: Path,
    *,
    rpc: str | Sequence[str] | None = None,
    node: Anvil | None = None,
    finality: int | str = FINALITY,
    invoices: Mapping[str, int | str] | None = None,
    tokens: Mapping[str, int] | None = None,
    **chain: Any,
) -> AsyncIterator[Shop]:
    """The shop, ready; its books are audited when it closes.

    `tokens`: decimals by symbol, the first is the shop's own. `rpc`: instead of the node's URL.
    """
    if node is None:
        async with (
            Anvil(find_anvil(), no_mining=True) as own,
            open_shop(
                folder, rpc=rpc, node=own, finality=finality, invoices=invoices, tokens=tokens, **chain
            ) as shop,
        ):  # fmt: skip
            yield shop
        return
    tables = await deploy_tokens(node, tokens or {"USDC": 6})
    config = write_config(
        folder,
        ChainTable(rpc=rpc or node.url, tokens=tables, finality=finality, poll_interval_s=POLL_S, **chain),
        invoices=invoices,
    )
    async with running(config) as daemon:
        await daemon.api.is_ready()
        shop = Shop(node=node, token=tables[0].address, running=daemon, config=config)
        yield shop
    await audit(shop.database)


async def deploy_tokens(node: Anvil, tokens: Mapping[str, int]) -> list[TokenTable]:
    """Tokens, decimals by symbol, of which the payers have plenty."""
    tables = []
    for symbol, decimals in tokens.items():
        address = await evm.deploy_token(node, symbol, decimals)
        for payer in node.accounts[1:4]:
            await evm.mint(node, address, evm.address_of(payer), PURSE * 10 ** max(0, decimals - 6))
        tables.append(TokenTable(address=address, decimals=decimals, symbol=symbol))
    return tables
