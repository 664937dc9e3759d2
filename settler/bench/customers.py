"""The other side of `settler bench soak`, as a process of its own, so that the daemon alone is measured: a chain, and
customers who order and pay at a steady rate.

    python -m settler.bench.customers '{"rate": 50, "seconds": 1800, "anvil": null}'
    > {"rpc": "http://127.0.0.1:…", "token": "0x…"}         it is ready for a daemon to watch it
    < {"api": "http://127.0.0.1:8080"}                       that daemon's
    > {"invoices": …, "paid": …, "settled": …, …}           when all is settled, or was waited for long enough

Each invoice has an address of its own and is paid in full, many in one transaction, as an exchange pays out.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass, field
from http import HTTPStatus

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from chains.address import to_checksum
from chains.model import Address
from settler import devchain
from settler.anvil import Anvil, find_anvil
from settler.bench.anvil_chain import DECIMALS, SYMBOL, UNIT
from settler.bench.companions import answer, argument, asked

BLOCK_S = 1.0
CREATORS = 8
"""Requests for a new invoice under way at a time."""
AHEAD_S = 2.0
"""So far ahead of their payment invoices are made."""
DEPOSIT_ADDRESSES = 0x50AC << 128
"""Invoices' addresses count up from here; nobody has their keys."""
DRAIN_S = 120.0
"""After the last payment, until it should be settled."""
LOOK_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the customers are to do."""

    rate: int
    """Payments a second."""
    seconds: float
    anvil: str | None
    """Path of the node's program; `None`: where it is usually found."""


@dataclass(slots=True, kw_only=True)
class Sales:
    """What became of it."""

    invoices: int = 0
    paid: int = 0
    settled: int = 0
    busy: int = 0
    """Requests that were answered with 503, and repeated."""
    blocks: int = 0
    pay_s: float = 0.0
    """From the first payment to the last."""
    drain_s: float = 0.0
    """From the last payment until all was settled, or nobody waited longer."""


@dataclass(slots=True, kw_only=True)
class _Shop:
    order: Order
    node: Anvil
    token: Address
    payouts: Address
    api: aiohttp.ClientSession
    sales: Sales = field(default_factory=Sales)
    owed: list[tuple[Address, int]] = field(default_factory=list)
    """Recipient and base units of the invoices that are not paid yet, oldest first."""

    async def open(self) -> Sales:
        total = round(self.order.rate * self.order.seconds)
        creators = [asyncio.create_task(self._create(total), name=f"creator {n}") for n in range(CREATORS)]
        try:
            await self._pay(total)
        finally:
            for creator in creators:
                creator.cancel()
            ended = await asyncio.gather(*creators, return_exceptions=True)
        for failed in ended:
            if isinstance(failed, Exception):
                raise failed
        await self._drain()
        return self.sales

    async def _create(self, total: int) -> None:
        ahead = max(CREATORS, round(AHEAD_S * self.order.rate))
        while self.sales.invoices < total:
            if len(self.owed) >= ahead:
                await asyncio.sleep(BLOCK_S / 10)
                continue
            self.sales.invoices += 1
            number = self.sales.invoices
            to = Address((DEPOSIT_ADDRESSES + number).to_bytes(20, "big"))
            body = {
                "amount": "1.00",
                "reference": f"soak-{number}",
                "options": [{"chain": "anvil", "token": SYMBOL, "pay_to": to_checksum(to)}],
                "expires_in_s": 86_400,
            }
            await self._ordered(body)
            self.owed.append((to, UNIT))

    async def _ordered(self, body: dict[str, object]) -> None:
        """Asks until it is answered, as a merchant's backend does. A request that is refused ends it all."""
        headers = {"Idempotency-Key": str(body["reference"])}
        while True:
            async with self.api.post("/v1/invoices", json=body, headers=headers) as response:
                if response.status == HTTPStatus.CREATED:
                    return
                assert response.status == HTTPStatus.SERVICE_UNAVAILABLE, await response.text()
            self.sales.busy += 1
            await asyncio.sleep(LOOK_S)

    async def _pay(self, total: int) -> None:
        """A block a second, with as many payments as the rate says, or as there are invoices."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        while self.sales.paid < total and loop.time() - started < self.order.seconds + DRAIN_S:
            due = min(round(self.order.rate * (loop.time() - started)), total) - self.sales.paid
            now, self.owed[:due] = self.owed[:due], []
            if now:
                await devchain.payout(self.node, self.node.accounts[1], self.payouts, self.token, now)
                self.sales.paid += len(now)
            await devchain.mine(self.node)
            self.sales.blocks += 1
            await asyncio.sleep(max(0.0, started + self.sales.blocks * BLOCK_S - loop.time()))
        self.sales.pay_s = loop.time() - started

    async def _drain(self) -> None:
        """Mines on until all is settled."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        while True:
            self.sales.settled = await self._settled()
            self.sales.drain_s = loop.time() - started
            if self.sales.settled >= self.sales.paid or self.sales.drain_s > DRAIN_S:
                return
            await devchain.mine(self.node)
            await asyncio.sleep(LOOK_S)

    async def _settled(self) -> int:
        async with self.api.get("/metrics") as response:
            text = await response.text()
        families = text_string_to_metric_families(text)
        found = [s for family in families for s in family.samples if s.name == "settler_invoices"]
        return int(sum(sample.value for sample in found if sample.labels["status"] == "settled"))


async def _serve(order: Order) -> None:
    async with Anvil(find_anvil(order.anvil), no_mining=True) as node:
        token = await devchain.deploy_token(node, SYMBOL, DECIMALS)
        payouts = await devchain.deploy_batch_payout(node)
        await devchain.mint(node, token, payouts, 10**9 * UNIT)
        answer({"rpc": node.url, "token": to_checksum(token)})
        wanted = await asked()
        if wanted is None:
            return  # who wanted this is gone
        async with aiohttp.ClientSession(wanted["api"]) as api:
            shop = _Shop(order=order, node=node, token=token, payouts=payouts, api=api)
            answer(asdict(await shop.open()))


if __name__ == "__main__":
    asyncio.run(_serve(Order(**argument())))
