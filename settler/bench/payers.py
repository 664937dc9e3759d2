"""The other side of the latencies of `settler bench live`, a process of its own, so that only the daemon is measured: a
chain, customers who pay at known moments, and somebody who looks when the database says so.

    python -m settler.bench.payers '{"anvil": null}'
    > {"rpc": "http://127.0.0.1:…", "token": "0x…"}                      a daemon may watch it
    < {"api": "http://127.0.0.1:8080", "database": "sqlite:////…"}       that daemon's
    > {"is_ready": true}
    < {"payments": 1000, "per_transaction": 100, "blocks": 3, …}         a load, as often as wanted
    > {"is_ordered": true}                                               its invoices are there; now they are paid
    > {"recorded_ms": […], "settled_ms": […]}                            one value a payment

A payment is recorded, and settled, when another connection to the database can read the event that says so. It looks
every few milliseconds, which is all that the daemon's process knows of being measured.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import aiohttp
from sqlalchemy import func, select

from chains.address import to_checksum
from chains.model import Address
from settler import devchain
from settler.anvil import Anvil, find_anvil
from settler.bench.anvil_chain import DECIMALS, FINALITY_BLOCKS, SYMBOL, UNIT
from settler.bench.companions import answer, argument, asked
from settler.bench.databases import opened
from settler.domain.events import EventType
from settler.storage import schema
from settler.storage.engine import Database

BLOCK_S = 1.0
GAS_LIMIT = 300_000_000
"""Of a block, so that 1,000 transactions fit."""
LOOK_S = 0.005
WAIT_S = 60.0
"""At most, until what was paid is settled."""
CREATORS = 16
DEPOSIT_ADDRESSES = 0x11FE << 128
"""Invoices' addresses count up from here; nobody has their keys."""
_SEEN_BY = (EventType.INVOICE_PROCESSING.value, EventType.INVOICE_SETTLED.value)
_e = schema.events


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is paid."""

    payments: int
    """In each block."""
    per_transaction: int
    """Of them; 1: each payer sends their own."""
    blocks: int
    is_alone: bool
    """Each block is settled before the next comes; else they come a second apart."""


@dataclass(slots=True, kw_only=True)
class Seen:
    """What became of a load: milliseconds, one value a payment."""

    recorded_ms: list[float] = field(default_factory=list)
    """From its block mined until it can be read that it was seen."""
    settled_ms: list[float] = field(default_factory=list)
    """From the block mined that makes it final until it can be read that its invoice is settled."""


class _Observer:
    """Remembers when each event could be read. A chain's events are committed in the order of their numbers: each of
    its ticks locks its row before it writes any.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self._last = 0
        self.at: dict[tuple[str, str], float] = {}
        """By event type and invoice, on the monotonic clock."""

    async def begin(self) -> None:
        async with self._db.read() as conn:
            self._last = (await conn.execute(select(func.max(_e.c.seq)))).scalar_one() or 0

    async def look(self) -> None:
        query = select(_e.c.seq, _e.c.type, _e.c.object_id).where(_e.c.seq > self._last, _e.c.type.in_(_SEEN_BY))
        async with self._db.read() as conn:
            rows = (await conn.execute(query.order_by(_e.c.seq))).all()
        now = time.monotonic()
        for seq, type_, invoice_id in rows:
            self.at[type_, invoice_id] = now
            self._last = seq

    async def saw(self, type_: str, invoice_id: str) -> None:
        """Returns once it has."""
        while (type_, invoice_id) not in self.at:  # noqa: ASYNC110  # it is looked for as often
            await asyncio.sleep(LOOK_S)

    async def look_on(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(LOOK_S)


@dataclass(slots=True, kw_only=True)
class _Payers:
    node: Anvil
    token: Address
    payouts: Address
    api: aiohttp.ClientSession
    observer: _Observer
    invoices: int = 0

    async def pay(self, load: Load) -> Seen:
        """Blocks with so many payments each, and behind them as many more as make them final."""
        owed = [await self._ordered(load.payments) for _ in range(load.blocks)]
        await self.observer.begin()
        answer({"is_ordered": True})
        seen = Seen()
        looking = asyncio.create_task(self.observer.look_on(), name="observer")
        try:
            for some in ([block] for block in owed) if load.is_alone else [owed]:
                await self._pay(load, some, seen)
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
        return seen

    async def _pay(self, load: Load, owed: Sequence[Sequence[tuple[str, Address]]], seen: Seen) -> None:
        """A block a second; returns when all is settled."""
        mined = await self._mined(load, owed)
        async with asyncio.timeout(WAIT_S):
            for id_ in (id_ for block in owed for id_, _ in block):
                await self.observer.saw(_SEEN_BY[1], id_)
        for height, block in enumerate(owed):
            for id_, _ in block:
                recorded, settled = (self.observer.at[type_, id_] for type_ in _SEEN_BY)
                seen.recorded_ms.append(round(1000 * (recorded - mined[height]), 1))
                seen.settled_ms.append(round(1000 * (settled - mined[height + FINALITY_BLOCKS]), 1))

    async def _mined(self, load: Load, owed: Sequence[Sequence[tuple[str, Address]]]) -> list[float]:
        """When each block was there."""
        started = time.monotonic()
        mined: list[float] = []
        for number in range(len(owed) + FINALITY_BLOCKS):
            if number < len(owed):
                await self._send(load, [(to, UNIT) for _, to in owed[number]])
            await asyncio.sleep(max(0.0, started + number * BLOCK_S - time.monotonic()))
            await self.node.rpc("evm_mine")
            mined.append(time.monotonic())
        return mined

    async def _send(self, load: Load, payments: Sequence[tuple[Address, int]]) -> None:
        payer = self.node.accounts[1]
        if load.per_transaction == 1:
            await devchain.batch_transfers(self.node, payer, self.token, payments)
            return
        for at in range(0, len(payments), load.per_transaction):
            some = payments[at : at + load.per_transaction]
            await devchain.payout(self.node, payer, self.payouts, self.token, some)

    async def _ordered(self, count: int) -> list[tuple[str, Address]]:
        """New invoices, and where each is to be paid."""
        made: list[tuple[str, Address]] = []
        numbers = iter(range(self.invoices, self.invoices + count))
        self.invoices += count

        async def create() -> None:
            for number in numbers:
                to = Address((DEPOSIT_ADDRESSES + number).to_bytes(20, "big"))
                option = {"chain": "anvil", "token": SYMBOL, "pay_to": to_checksum(to)}
                body = {"amount": "1.00", "reference": f"live-{number}", "options": [option]}
                async with self.api.post("/v1/invoices", json=body) as response:
                    assert response.status == 201, await response.text()
                    made.append(((await response.json())["id"], to))

        await asyncio.gather(*(create() for _ in range(CREATORS)))
        return made


async def _serve(anvil: str | None) -> None:
    async with Anvil(find_anvil(anvil), no_mining=True) as node:
        await node.rpc("evm_setBlockGasLimit", hex(GAS_LIMIT))
        token = await devchain.deploy_token(node, SYMBOL, DECIMALS)
        payouts = await devchain.deploy_batch_payout(node)
        for payer in (payouts, devchain.address_of(node.accounts[1])):
            await devchain.mint(node, token, payer, 10**9 * UNIT)
        await devchain.mine(node, 1 + FINALITY_BLOCKS)
        answer({"rpc": node.url, "token": to_checksum(token)})
        wanted = await asked()
        if wanted is None:
            return  # who wanted this is gone
        async with opened(wanted["database"], pool_size=2) as db, aiohttp.ClientSession(wanted["api"]) as api:
            payers = _Payers(node=node, token=token, payouts=payouts, api=api, observer=_Observer(db))
            answer({"is_ready": True})
            while (load := await asked()) is not None:
                answer(asdict(await payers.pay(Load(**load))))


if __name__ == "__main__":
    asyncio.run(_serve(**argument()))
