"""Load on a chain that goes on whether the daemon runs or not: customers, blocks, and small forks.

    async with Traffic(node, token, other) as traffic:      # blocks come from now on
        traffic.api = api                                   # customers come while there is an API
        traffic.api = None
        await traffic.close_doors()                         # those inside get their invoice, and pay

Every invoice is paid in a way whose outcome does not depend on when the daemon looks.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
from eth_account.signers.local import LocalAccount

from chains.model import Address, TxHash
from settler.anvil import Anvil
from tests.support import evm
from tests.support.daemon import Api, Json, due, new_address, option, pay_to

WAYS = ("exact", "in parts", "too much", "wrong token first", "by amount")
NEVER = "never"
"""The way of who walks away: the invoice expires."""
BLOCK_EVERY_S = 0.12
BLOCKS_A_FORK = 15
"""A fork after so many blocks; it is shallower than finality, and what it undoes is mined again."""
FORK_DEPTH = 2
CUSTOMERS = 4
AT_MOST = 400
RETRY_S = 0.02
UNIT = 10**6


@dataclass(frozen=True, kw_only=True)
class Pace:
    at_most: int = AT_MOST
    """Invoices."""
    pause_s: float = 2 * BLOCK_EVERY_S
    """Between two purchases of one customer, at most."""
    block_every_s: float = BLOCK_EVERY_S
    walk_away: float = 0.0
    """Share of the customers' orders that are never paid."""


AS_FAST_AS_IT_GOES = Pace()


@dataclass(kw_only=True)
class Traffic:
    node: Anvil
    token: Address
    other: Address
    """Another configured token."""
    random: random.Random
    pace: Pace = AS_FAST_AS_IT_GOES
    api: Api | None = None
    """Of the daemon that runs just now; customers wait while there is none."""
    paid: list[Json] = field(default_factory=list)
    """The invoices, as they were made."""
    left: list[Json] = field(default_factory=list)
    """Those that are never paid."""
    ways: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    """Requests that came to nothing: the daemon was killed over them, or its database was away."""
    hits: int = 0
    """Answers of the API that it had given before."""
    forks: int = 0
    _is_open: bool = True
    _shared: Address = field(default_factory=new_address)
    _replacing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while blocks are replaced, and while a payment is signed and sent."""

    async def mine(self, blocks: int = 1) -> int:
        """The new head."""
        return (await evm.mine(self.node, blocks)).number

    async def customer(self, number: int) -> None:
        """Buys one thing after another, from an account of its own."""
        bought = 0
        while self._is_open and len(self.paid) < self.pace.at_most:
            bought += 1
            way = WAYS[self.random.randrange(len(WAYS))]
            if self.pace.walk_away and self.random.random() < self.pace.walk_away:
                way = NEVER
            invoice = await self._order(f"order-{number}-{bought} {way}", way)
            if invoice is None:
                return
            self.ways[way] += 1
            if way == NEVER:
                self.left.append(invoice)
                continue
            self.paid.append(invoice)
            await self._pay(self.node.accounts[number], invoice, way)
            await asyncio.sleep(self.random.uniform(0, self.pace.pause_s))

    async def _order(self, reference: str, way: str) -> Json | None:
        """Asks until it is answered, as a merchant's backend does: with the same idempotency key."""
        shared = way == "by amount"
        body = {
            "amount": f"{self.random.randrange(1, 500)}.00",
            "reference": reference,
            "options": [option(self._shared if shared else None, match="amount" if shared else "address")],
            "expires_in_s": 1 if way == NEVER else 86_400,
        }
        asked = False
        while True:
            if self.api is None:
                if not self._is_open and not asked:
                    return None
                await asyncio.sleep(RETRY_S)
                continue
            asked = True
            url = self.api.address + "/v1/invoices"
            try:
                async with self.api.session.post(url, json=body, headers={"Idempotency-Key": reference}) as response:
                    if response.status == 503:  # the database is away
                        self.refused += 1
                        await asyncio.sleep(RETRY_S)
                        continue
                    answer: Json = await response.json()
                    assert response.status == 201, answer
                    self.hits += response.headers.get("Idempotency-Hit") == "true"
                    return answer
            except (aiohttp.ClientError, OSError):
                self.refused += 1
                await asyncio.sleep(RETRY_S)

    async def _pay(self, account: LocalAccount, invoice: Json, way: str) -> None:
        to, amount = pay_to(invoice), due(invoice)
        match way:
            case "in parts":
                await self._send(account, to, amount // 3)
                await self._send(account, to, amount - amount // 3)
            case "too much":
                await self._send(account, to, amount + UNIT)
            case "wrong token first":
                await self._send(account, to, amount, token=self.other)
                await self._send(account, to, amount)
            case _:
                await self._send(account, to, amount)

    async def _send(self, account: LocalAccount, to: Address, amount: int, *, token: Address | None = None) -> None:
        """Returns when it is mined."""
        async with self._replacing:  # else the nonce may be one of a chain that is being replaced
            tx = await evm.transfer(self.node, account, token or self.token, to, amount)
        async with asyncio.timeout(30):
            while await evm.receipt(self.node, tx) is None:  # noqa: ASYNC110 -- another process mines it
                await asyncio.sleep(self.pace.block_every_s / 2)

    async def blocks(self) -> None:
        """One after the other, and now and then a fork."""
        count = 0
        while True:
            await asyncio.sleep(self.pace.block_every_s)
            count += 1
            if count % BLOCKS_A_FORK:
                await self.mine()
            else:
                await self._fork()

    async def _fork(self) -> None:
        """The last blocks become others, in which what they held stands later or where it was."""
        head = (await evm.head(self.node)).number
        held: list[TxHash] = []
        for number in range(head - FORK_DEPTH + 1, head + 1):
            block = await self.node.rpc("eth_getBlockByNumber", hex(number), False)
            held += [TxHash(bytes.fromhex(tx[2:])) for tx in block["transactions"]]
        raws = [await evm.raw_transaction(self.node, tx) for tx in held]
        async with self._replacing:
            await evm.reorg(self.node, FORK_DEPTH, [(raw, FORK_DEPTH - 1) for raw in raws])
            await self.node.rpc("evm_setTime", int(time.time()))  # anvil's clock loses a second by each
        self.forks += 1

    async def close_doors(self, api: Api) -> None:
        """No new customers; returns when those inside have paid."""
        self._is_open = False
        self.api = api
        await asyncio.gather(*self._customers)

    def stop_mining(self) -> None:
        """From now on only `mine` makes blocks."""
        self._blocks.cancel()

    def start(self) -> Sequence[asyncio.Task[None]]:
        self._customers = [
            asyncio.create_task(self.customer(number), name=f"customer {number}") for number in range(1, CUSTOMERS + 1)
        ]
        self._blocks = asyncio.create_task(self.blocks(), name="blocks")
        return [*self._customers, self._blocks]


@asynccontextmanager
async def flowing(
    node: Anvil, token: Address, other: Address, *, seed: int, pace: Pace = AS_FAST_AS_IT_GOES
) -> AsyncIterator[Traffic]:
    """Traffic from now on; blocks stop coming at the end of the block."""
    for number in range(1, CUSTOMERS + 1):
        for each in (token, other):
            await evm.mint(node, each, evm.address_of(node.accounts[number]), 10**9 * UNIT)
    traffic = Traffic(node=node, token=token, other=other, random=random.Random(seed), pace=pace)
    tasks = traffic.start()
    try:
        yield traffic
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    failed = [e for e in ended if isinstance(e, Exception)]
    if failed:
        raise failed[0]
