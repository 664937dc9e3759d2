"""One chain, three providers behind proxies that fail and lie; the books are held against the chain at the end.

Longer, and with other seeds: `python -m tests.e2e.faults --minutes 10 --seed 7`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from chains.faults import FAULTS, Fault, Harm
from chains.faults.logs import Invention, conspiracy
from chains.faults.sending import too_many_for
from chains.model import TxHash
from tests.e2e.faults import FINALITY, HEADINGS, Market, at_random, in_turn, kinds, open_market
from tests.e2e.traffic import Pace
from tests.support.daemon import due, pay_to, show, token_of, until
from tests.support.rpc_proxy import RpcProxy

SEED = 20_241
EACH_S = 0.3
AT_RANDOM_S = 10.0
BRISK = Pace(at_most=40, pause_s=0.8, block_every_s=0.2)
LIES = [
    ("tampered amount", "none"),
    ("partial logs", "none"),
    ("invented log", "none"),
    ("invented log", "receipts"),
    ("own fork", "none"),
]
LIAR = 1
"""Its place; the second of one host, so the daemon calls it"""
LIAR_NAME = "127.0.0.1#2"
TOLD = 3


@pytest.mark.timeout(400)
async def test_each_fault_on_one_of_three__then_all_at_random__nothing_lost_nothing_wrong(tmp_path: Path) -> None:
    faults = kinds(providers=3)
    async with open_market(tmp_path, seed=SEED) as market:
        figures = await in_turn(market, faults, each_s=EACH_S)
        mixed = await at_random(market, faults, seconds=AT_RANDOM_S, seed=SEED)
        verdict = await market.close()
    show("\n".join([HEADINGS, *(each.row(verdict) for each in [*figures, mixed])]))
    verdict.check()
    assert len(verdict.settled) > len(faults), "money was coming"


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("lie", "proof"), LIES)
async def test_one_liar_of_three__is_named__and_all_true_payments_settle(lie: str, proof: str, tmp_path: Path) -> None:
    async with open_market(tmp_path, seed=SEED, proof=proof, pace=BRISK) as market:
        liar = market.proxies[LIAR]
        liar.inject(FAULTS[lie])
        await until(lambda: settled(market), lambda n: n >= 5, what="payments to settle while one lies", within_s=90.0)
        await until(lambda: told([liar]), lambda counts: min(counts) >= TOLD, what=f"{lie} to be told", within_s=90.0)
        await until(
            lambda: disagreements(market, LIAR_NAME), lambda n: n > 0, what="the liar to be counted", within_s=90.0
        )
        others = [await disagreements(market, name) for name in ("127.0.0.1", "127.0.0.1#3")]
        counted = await disagreements(market, LIAR_NAME)
        verdict = await market.close()
        log = [line for line in market.process.log if line.get("level") in ("warning", "error")]
    verdict.check()
    show(f"{lie}, proof {proof}: told {liar.told[lie]}, disagreements of the liar {counted:.0f}, of others {others}")
    assert max(others) < counted, "it is the liar that is counted"
    assert any(LIAR_NAME in json.dumps(line) for line in log), "the log names it"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("in_receipts", [False, True], ids=["logs", "logs and receipts"])
async def test_two_colluding_liars_of_three__the_proof_stops_them(in_receipts: bool, tmp_path: Path) -> None:
    """They agree with each other, which is a quorum; the block's own receipts root does not."""
    async with open_market(tmp_path, seed=SEED, proof="receipts", pace=BRISK) as market:
        victim = market.unpaid[0]
        head = (await market.api.chain())["head"]
        invention = Invention(
            token=token_of(victim), to=pay_to(victim), amount=due(victim), block=head + 3, tx=TxHash(b"\xab" * 32)
        )
        fault = conspiracy(invention, in_receipts=in_receipts)
        for liar in market.proxies[:2]:
            liar.inject(fault)
        await until(
            lambda: told(market.proxies[:2]), lambda counts: min(counts) >= TOLD, what="both to tell it", within_s=90.0
        )
        await until(
            market.api.chain, lambda c: c["head"] >= invention.block + 4 * FINALITY, what="it to be final long since"
        )
        await asyncio.sleep(3)
        assert (await market.api.invoice(victim))["status"] != "settled"
        market.be_honest()
        await market.restart()  # else both stay distrusted for longer than a test takes, and one is no quorum
        verdict = await market.close()
        seen = await market.api.reaches(victim, "pending")
    verdict.check()
    assert seen["amount_received"] == "0.00"


@pytest.mark.timeout(300)
async def test_provider_that_asks_for_a_rest__gets_it__and_the_others_carry_on(tmp_path: Path) -> None:
    async with open_market(tmp_path, seed=SEED, pace=BRISK) as market:
        tired, others = market.proxies[0], market.proxies[1:]
        tired.inject(Fault(name="rest", harm=Harm.PLAIN, send=too_many_for(300)))
        await until(lambda: told([tired]), lambda counts: min(counts) >= 1, what="a rest to be asked for")
        await asyncio.sleep(1)  # what is under way
        asked, others_asked = tired.requests, sum(proxy.requests for proxy in others)
        await until(
            lambda: requests(others), lambda n: n >= others_asked + 100, what="the others to be asked", within_s=90.0
        )
        assert tired.requests == asked
        assert (await market.api.metrics()).total("settler_rpc_rate_limits_total", provider="127.0.0.1") >= 1
        market.be_honest()
        await market.restart()
        verdict = await market.close()
    verdict.check()


async def test_provider_of_another_chain__is_not_read__and_the_others_carry_on(tmp_path: Path) -> None:
    async with open_market(tmp_path, seed=SEED, pace=BRISK, from_start=[(0, FAULTS["wrong chain id"])]) as market:
        await until(lambda: settled(market), lambda n: n >= 5, what="payments to settle", within_s=90.0)
        stranger = market.proxies[0]
        assert set(stranger.calls) == {"eth_chainId"}
        assert await is_up(market, "127.0.0.1") == 0
        verdict = await market.close()
    verdict.check()


async def test_this_harness__sees_what_one_provider_can_get_away_with(tmp_path: Path) -> None:
    """A check that cannot fail proves nothing: one provider and no proof is what a lie passes."""
    async with open_market(tmp_path, providers=1, seed=SEED, pace=BRISK) as market:
        market.proxies[0].inject(FAULTS["invented log"])
        await until(lambda: told(market.proxies), lambda counts: min(counts) >= 2 * TOLD, what="it to be told")
        await asyncio.sleep(3)
        verdict = await market.close()
    assert verdict.wrong


async def settled(market: Market) -> int:
    return len(await market.api.every("/v1/settlements"))


async def told(proxies: Sequence[RpcProxy]) -> list[int]:
    return [proxy.told.total() for proxy in proxies]


async def requests(proxies: Sequence[RpcProxy]) -> int:
    return sum(proxy.requests for proxy in proxies)


async def is_up(market: Market, provider: str) -> float:
    return (await market.api.metrics()).one("settler_rpc_provider_up", chain="anvil", provider=provider)


async def disagreements(market: Market, provider: str) -> float:
    metrics = await market.api.metrics()
    return metrics.total("settler_rpc_disagreements_total", provider=provider)
