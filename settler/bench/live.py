"""The calls of `settler bench live`: RPC calls per 1,000 blocks, idle and busy, as the daemon's own counters have them.

The real daemon on SQLite watches a local anvil through one provider, through three of which two must agree, and through
three with receipt proofs. Time is compressed: what costs calls is how many blocks come between two looks, so each chain
stands for its ratio of block time to poll interval.

    #  poll     |     |     |     |     |     |
    #  Ethereum    █                 █             a block every three polls
    #  Arbitrum  █ █ █ █ █ █ █ █ █ █ █ █ █ █ █     two blocks a poll

Idle: invoices wait, nobody pays. Busy: each block holds a payment of one of them.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from chains.address import to_checksum
from chains.model import Address
from settler import devchain
from settler.anvil import Anvil, find_anvil
from settler.bench.anvil_chain import DECIMALS, FINALITY_BLOCKS, SYMBOL, UNIT, configured
from settler.bench.measuring import Report
from settler.runtime.embedded import embedded

POLL_S = 0.1
DEPOSIT_ADDRESSES = 0xBE7C4 << 128
"""Invoices' addresses count up from here; nobody has their keys."""
DRAIN_S = 60.0
"""What was paid should be settled within, before the next figure is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cadence:
    """A chain, for the ratio of its blocks to polls."""

    chain: str
    blocks_a_poll: float


CADENCES = (
    Cadence(chain="ethereum", blocks_a_poll=1 / 3),
    Cadence(chain="base", blocks_a_poll=1 / 2),
    Cadence(chain="arbitrum", blocks_a_poll=2.0),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How the chain is read."""

    providers: int
    quorum: int
    proof: str


SETTINGS = (
    Setting(providers=1, quorum=1, proof="none"),
    Setting(providers=3, quorum=2, proof="none"),
    Setting(providers=3, quorum=2, proof="receipts"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    chain: str
    providers: int
    quorum: int
    proof: str
    load: str
    """`idle`, or `busy`: a payment in each block."""
    blocks: int
    polls: int
    calls: int
    """To all providers together; those of a batch count one by one."""

    @property
    def calls_per_1000_blocks(self) -> int:
        return round(1000 * self.calls / self.blocks)

    @property
    def calls_per_poll(self) -> float:
        return round(self.calls / self.polls, 2)

    def as_json(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "calls_per_1000_blocks": self.calls_per_1000_blocks,
            "calls_per_poll": self.calls_per_poll,
        }


async def calls(*, polls: int, anvil: str | None) -> Report:
    """A row for each setting, chain and load, each over so many polls."""
    rows: list[dict[str, Any]] = []
    for setting in SETTINGS:
        async with _watched(setting, anvil) as world:
            for cadence in CADENCES:
                for is_busy in (False, True):
                    figure = await _measured(world, setting, cadence, polls=polls, is_busy=is_busy)
                    rows.append(figure.as_json())
    return Report(benchmark="live calls", inputs={"polls": polls, "poll_s": POLL_S}, rows=rows)


@dataclass(kw_only=True)
class _World:
    node: Anvil
    token: Address
    api: aiohttp.ClientSession
    invoices: int = 0

    async def calls(self) -> int:
        """Made so far."""
        async with self.api.get("/metrics") as response:
            text = await response.text()
        families = text_string_to_metric_families(text)
        requests = (s for family in families for s in family.samples if s.name == "settler_rpc_requests_total")
        return int(sum(sample.value for sample in requests))

    async def heights(self) -> tuple[int, int]:
        """How far the chain is scanned and settled; -1 before it was read."""
        async with self.api.get("/v1/chains") as response:
            found = (await response.json())["data"]
        scanned, settled = (found[0][name] if found else None for name in ("scanned", "settled"))
        return (-1 if scanned is None else scanned), (-1 if settled is None else settled)

    async def ordered(self) -> tuple[Address, int]:
        """A new invoice: where it is to be paid, and how much."""
        self.invoices += 1
        to = Address((DEPOSIT_ADDRESSES + self.invoices).to_bytes(20, "big"))
        body = {
            "amount": "1.00",
            "reference": f"bench-{self.invoices}",
            "options": [{"chain": "anvil", "token": SYMBOL, "pay_to": to_checksum(to)}],
        }
        async with self.api.post("/v1/invoices", json=body) as response:
            assert response.status == 201, await response.text()
        return to, UNIT

    async def decided(self) -> None:
        """Returns when all that was mined is read, and what is final is settled."""
        head = (await devchain.head(self.node)).number
        async with asyncio.timeout(DRAIN_S):
            while True:
                scanned, settled = await self.heights()
                if scanned >= head and settled >= head - FINALITY_BLOCKS:
                    return
                await asyncio.sleep(POLL_S)


@asynccontextmanager
async def _watched(setting: Setting, anvil: str | None) -> AsyncIterator[_World]:
    """The daemon over a node of its own."""
    async with Anvil(find_anvil(anvil), no_mining=True) as node:
        token = await devchain.deploy_token(node, SYMBOL, DECIMALS)
        payer = node.accounts[1]
        await devchain.mint(node, token, devchain.address_of(payer), 10**6 * UNIT)
        with tempfile.TemporaryDirectory(prefix="settler-bench-") as folder:
            config = configured(
                Path(folder),
                rpc=node.url,
                token=to_checksum(token),
                database=f"sqlite:///{Path(folder) / 'settler.db'}",
                poll_interval_s=POLL_S,
                **asdict(setting),
            )
            async with embedded(config) as (address, _), aiohttp.ClientSession(address) as api:
                world = _World(node=node, token=token, api=api)
                await devchain.mine(node, 1 + FINALITY_BLOCKS)
                await world.decided()
                yield world


async def _measured(world: _World, setting: Setting, cadence: Cadence, *, polls: int, is_busy: bool) -> Figure:
    blocks = max(1, round(polls * cadence.blocks_a_poll))
    owed = [await world.ordered() for _ in range(blocks)]
    await world.decided()
    before = await world.calls()
    loop = asyncio.get_running_loop()
    started = loop.time()
    for number, (to, amount) in enumerate(owed):
        if is_busy:
            await devchain.transfer(world.node, world.node.accounts[1], world.token, to, amount)
        await devchain.mine(world.node)
        # in step with the clock, not with how long mining took
        await asyncio.sleep(max(0.0, started + (number + 1) * POLL_S / cadence.blocks_a_poll - loop.time()))
    calls = await world.calls() - before
    polled = max(1, round((loop.time() - started) / POLL_S))
    return Figure(
        chain=cadence.chain,
        providers=setting.providers,
        quorum=setting.quorum,
        proof=setting.proof,
        load="busy" if is_busy else "idle",
        blocks=blocks,
        polls=polled,
        calls=calls,
    )
