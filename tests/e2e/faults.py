"""A daemon that reads one chain through providers that fail and lie, while money keeps coming and small forks happen.

    python -m tests.e2e.faults --minutes 10 --seed 7        prints what each kind of fault came to

Each kind of fault in turn on one provider; then all kinds at random on all of them. At the end the books are held
against the chain (`tests.e2e.verdict`). Of the lies that one answer does not show, one provider tells some at a time:
what a quorum of liars agrees on is not a fault that a quorum can find.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from chains.faults import FAULTS, Fault, Harm
from settler.anvil import Anvil, find_anvil
from tests.e2e.traffic import Pace, Traffic, flowing
from tests.e2e.verdict import Verdict, judge
from tests.support import evm
from tests.support.daemon import Api, ChainTable, Json, Process, TokenTable, until, write_config
from tests.support.dump import audit
from tests.support.rpc_proxy import RpcProxy

TAG = "finalized"
SLOTS = 2
FINALITY = 2 * SLOTS
"""Blocks by which anvil's finalized block trails its head; forks are shallower."""
PACE = Pace(at_most=10_000, pause_s=3.0, block_every_s=0.25)
POLL_S = 0.2
UNPAID = 5
"""Invoices nobody pays: whoever settles one was lied to."""
HEAL_S = 120.0
"""Though a provider may be rested for minutes: where a quorum needs it, it is asked again before."""
EPISODE_S = (1.5, 4.0)
"""So long a provider has the same faults, of which it has none for this share of the episodes:"""
HEALTHY = 0.4
ROUND_S = 20.0
"""So long one provider may tell lies; then all recover, lest two liars be asked in one reading."""
SHOWN_MAX = 20
REFUSED_FOR_GOOD = "refusal: fatal"
LAST = ("huge answer", "huge answer, announced", "batch refused")
PROBABILITIES = (0.1, 0.3, 1.0)


@dataclass(kw_only=True)
class Market:
    proxies: Sequence[RpcProxy]
    process: Process
    traffic: Traffic
    unpaid: Sequence[Json]
    database: str

    @property
    def api(self) -> Api:
        return self.process.api

    async def restart(self) -> None:
        """As after a kill; what the daemon thinks of its providers begins anew."""
        self.traffic.api = None
        await self.process.kill()
        await self.process.start()
        self.traffic.api = await self.process.listening()

    def be_honest(self) -> None:
        for proxy in self.proxies:
            proxy.be_honest()

    def told(self) -> Counter[str]:
        return sum((proxy.told for proxy in self.proxies), Counter())

    async def busiest(self) -> RpcProxy:
        """One that is asked now: some rest after a fault, and the last is asked when the others differ."""
        before = [proxy.requests for proxy in self.proxies]
        await asyncio.sleep(3 * POLL_S)
        return max(zip(self.proxies, before, strict=True), key=lambda each: each[0].requests - each[1])[0]

    async def heal(self) -> float:
        """Seconds from honesty to where what was then final is decided."""
        self.be_honest()
        started, head = time.monotonic(), (await evm.head(self.traffic.node)).number
        await until(
            self.api.chain,
            lambda c: (c["settled"] or 0) >= head - FINALITY and (c["scanned"] or 0) >= head,
            what=f"block {head} to be read after the faults",
            within_s=HEAL_S,
        )
        return time.monotonic() - started

    async def close(self) -> Verdict:
        """Everybody is honest, who is inside pays, all becomes final; then what it came to."""
        self.be_honest()
        await self.traffic.close_doors(self.api)
        self.traffic.stop_mining()
        head = await self.traffic.mine(FINALITY + 1)
        await until(
            self.api.chain,
            lambda c: (c["settled"] or 0) >= head - FINALITY or c["halted"],
            what="all to be decided",
            within_s=HEAL_S,
        )
        return await judge(self.api, self.traffic, self.unpaid)


@contextlib.asynccontextmanager
async def open_market(
    folder: Path,
    *,
    providers: int = 3,
    quorum: int = 2,
    proof: str = "none",
    finality: int | str = TAG,
    seed: int = 0,
    pace: Pace = PACE,
    from_start: Iterable[tuple[int, Fault]] = (),
) -> AsyncIterator[Market]:
    """`from_start`: faults of providers (by their place) that are there before the daemon is."""
    async with contextlib.AsyncExitStack() as stack:
        node = await stack.enter_async_context(
            Anvil(find_anvil(), no_mining=True, prune_history=1024, slots_in_an_epoch=SLOTS)
        )
        proxies = [
            await stack.enter_async_context(RpcProxy(node.url, seed=f"{seed}/{number}")) for number in range(providers)
        ]
        for place, fault in from_start:
            proxies[place].inject(fault)
        tokens = [TokenTable(address=await evm.deploy_token(node, s), symbol=s) for s in ("USDC", "USDT")]
        await evm.mine(node, 2 * FINALITY)
        database = f"sqlite:///{folder / 'settler.db'}"
        chain = ChainTable(
            rpc=[proxy.url for proxy in proxies],
            tokens=tokens,
            finality=finality,
            poll_interval_s=POLL_S,
            quorum=min(quorum, providers),
            proof=proof,
        )
        config = write_config(folder, chain, database=database)
        process = await stack.enter_async_context(Process(config))
        await process.api.is_ready()
        unpaid = [await process.api.create(f"{100 + n}.00", reference=f"unpaid-{n}") for n in range(UNPAID)]
        traffic = await stack.enter_async_context(
            flowing(node, tokens[0].address, tokens[1].address, seed=seed, pace=pace)
        )
        traffic.api = process.api
        yield Market(proxies=proxies, process=process, traffic=traffic, unpaid=unpaid, database=database)
    bugs = [line for line in process.errors if '"bug"' in line or "Traceback" in line]
    assert not bugs, f"a tick raised what nobody expected: {bugs[0]}"
    await audit(database)


# -- scenarios ---------------------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Figures:
    """What one kind of fault came to."""

    kind: str
    told: int = 0
    bought: Sequence[str] = ()
    """Invoices made meanwhile."""
    blocks: int = 0
    """Decided meanwhile."""
    heal_s: list[float] = field(default_factory=list)

    def row(self, verdict: Verdict) -> str:
        bought = set(self.bought)
        heal = f"{max(self.heal_s):8.1f}" if self.heal_s else "       –"
        return (
            f"{self.kind:32}{self.told:7}{len(bought):10}{len(bought & verdict.settled):9}"
            f"{len(bought & verdict.wrong_invoices):7}{self.blocks:8}{heal}"
        )


HEADINGS = f"{'kind':32}{'told':>7}{'invoices':>10}{'settled':>9}{'wrong':>7}{'blocks':>8}{'heal s':>8}"


def kinds(*, providers: int) -> list[Fault]:
    """Those a daemon with so many providers has to stand; those a provider is rested for longest first and last."""
    found = [fault for fault in FAULTS.values() if providers > 2 or fault.harm is not Harm.LIE]
    return sorted(found, key=lambda fault: (fault.name != REFUSED_FOR_GOOD, fault.name in LAST))


async def in_turn(market: Market, faults: Iterable[Fault], *, each_s: float) -> list[Figures]:
    """Each on one provider that is being asked just now; all are honest in between until all is read."""
    found = []
    only = len(market.proxies) == 1
    for fault in faults:
        proxy = await market.busiest()
        before, decided = len(market.traffic.paid), (await market.api.chain())["settled"]
        told = proxy.told[fault.name]
        proxy.inject(fault, probability=0.5 if only else 1.0)
        await asyncio.sleep(each_s)
        figures = Figures(kind=fault.name, blocks=(await market.api.chain())["settled"] - decided)
        figures.heal_s.append(await market.heal())
        figures.told = proxy.told[fault.name] - told
        figures.bought = [invoice["id"] for invoice in market.traffic.paid[before:]]
        found.append(figures)
    return found


async def at_random(market: Market, faults: Sequence[Fault], *, seconds: float, seed: int) -> Figures:
    """All kinds on all providers, in episodes; one provider at a time may tell lies."""
    drawn = random.Random(f"{seed}/at random")
    figures = Figures(kind="at random")
    told, before = market.told().total(), len(market.traffic.paid)
    decided, ends = (await market.api.chain())["settled"], time.monotonic() + seconds
    while (left_s := ends - time.monotonic()) > 0:
        liar = drawn.randrange(len(market.proxies))
        rounds = [
            _episodes(proxy, faults if place == liar else [f for f in faults if f.harm is not Harm.LIE], drawn)
            for place, proxy in enumerate(market.proxies)
        ]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(ROUND_S, left_s)):
                await asyncio.gather(*rounds)
        figures.heal_s.append(await market.heal())
    figures.told = market.told().total() - told
    figures.bought = [invoice["id"] for invoice in market.traffic.paid[before:]]
    figures.blocks = (await market.api.chain())["settled"] - decided
    return figures


async def _episodes(proxy: RpcProxy, faults: Sequence[Fault], drawn: random.Random) -> None:
    while True:
        proxy.be_honest()
        if drawn.random() >= HEALTHY:
            for fault in drawn.sample(faults, drawn.randint(1, 3)):
                proxy.inject(fault, probability=drawn.choice(PROBABILITIES))
        await asyncio.sleep(drawn.uniform(*EPISODE_S))


# -- by hand -----------------------------------------------------------------------------------------------------------


async def run(*, minutes: float, seed: int, providers: int, proof: str, depth: bool) -> bool:
    """Half the time in turn, the other half at random; prints the table. Whether all was right."""
    faults = [fault for fault in kinds(providers=providers) if not (depth and fault.is_about_tag)]
    with tempfile.TemporaryDirectory() as folder:
        finality = FINALITY if depth else TAG
        async with open_market(Path(folder), providers=providers, seed=seed, proof=proof, finality=finality) as market:
            each = await in_turn(market, faults, each_s=minutes * 30 / len(faults))
            before = market.told()
            mixed = await at_random(market, faults, seconds=minutes * 30, seed=seed)
            told = market.told() - before
            memory_mib = psutil.Process(market.process.pid).memory_info().rss / 2**20
            requests = sum(proxy.requests for proxy in market.proxies)
            verdict = await market.close()
    rows = [HEADINGS, *(figures.row(verdict) for figures in [*each, mixed]), ""]
    rows += ["at random were told: " + ", ".join(f"{name} {count}" for name, count in sorted(told.items())), ""]
    rows += [
        f"seed {seed}, {providers} providers, proof {proof}: {len(market.traffic.paid)} invoices, "
        f"{verdict.payments} payments, {len(verdict.settled)} settled, {len(verdict.lost)} payments lost, "
        f"{len(verdict.wrong)} things wrong, {market.traffic.forks} forks, {requests} requests, {memory_mib:.0f} MiB",
    ]
    rows += ([f"wrong: {what}" for what in verdict.wrong] + [f"lost: {place}" for place in verdict.lost])[:SHOWN_MAX]
    sys.stdout.write("\n".join(rows) + "\n")
    return not (verdict.wrong or verdict.lost or verdict.unsettled)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--providers", type=int, default=3)
    parser.add_argument("--proof", choices=("none", "receipts"), default="none")
    parser.add_argument("--depth", action="store_true", help="finality by a number of blocks, not by the tag")
    given = parser.parse_args()
    return 0 if asyncio.run(run(**vars(given))) else 1


if __name__ == "__main__":
    sys.exit(main())
