"""What chains do as time goes by: blocks when they are due, forks above the final height, finality broken on record."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

import pytest

from chains.model import Address, BaseUnits, ChainId, Tag
from chains.simulated_chain import SimTransfer, SimTx, SimulatedChain
from settler.domain.finality import ByTag, Depth, FinalityPolicy
from settler.simulation.clock import EPOCH
from settler.simulation.driver import BURST_MAX, ChainDriver
from settler.simulation.truth import ChainTruth
from tests.simulation.virtual import virtual

BLOCK_S = 10.0
DEPTH_3 = Depth(blocks=3)
TAGGED = ByTag(tag=Tag.FINALIZED)


def a_driver(finality: FinalityPolicy = DEPTH_3, *, seed: int = 1, past: int = 20) -> ChainDriver:
    chain = SimulatedChain(
        seed=1,
        chain_id=ChainId(1),
        start_time=EPOCH - timedelta(seconds=past * BLOCK_S),
        block_time_s=BLOCK_S,
        finalized_lag=5,
        safe_lag=2,
    )
    if past:
        chain.mine_empty(past, until=EPOCH)
    truth = ChainTruth(name="eth", chain=chain, tokens=(), final_height=0)
    return ChainDriver(
        truth, block_s=BLOCK_S, finality=finality, random=random.Random(seed), on_event=lambda _what: None
    )


def a_transfer(amount: int = 1) -> SimTransfer:
    token, payer, shop = (Address(bytes([n]) * 20) for n in (1, 2, 3))
    return SimTransfer(token=token, sender=payer, recipient=shop, amount=BaseUnits(amount))


def times_s(driver: ChainDriver, first: int) -> list[float]:
    """Of blocks from `first` on, in seconds of the world."""
    start_s = int(EPOCH.timestamp())
    return [driver.chain.time_s_at(n) - start_s for n in range(first, driver.chain.height + 1)]


def mined(driver: ChainDriver) -> Iterator[tuple[int, SimTx]]:
    for number in range(driver.chain.height + 1):
        content = driver.chain.content_at(number)
        yield from ((number, tx) for tx in (() if content is None else content.txs))


def calm(
    driver: ChainDriver, depth: int, *, drop_rate: float = 0.0, replace_rate: float = 0.0, delay_rate: float = 0.0
) -> None:
    """A fork that moves nothing but what is said."""
    driver.fork(depth=depth, drop_rate=drop_rate, replace_rate=replace_rate, delay_rate=delay_rate)


# -- blocks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("looks", [(35,), (4, 11, 20, 35)], ids=["at once", "now and then"])
@virtual
async def test_blocks__come_when_they_are_due__whoever_looks_when(looks: tuple[int, ...]) -> None:
    driver = a_driver()
    for at_s in looks:
        await asyncio.sleep(at_s - asyncio.get_running_loop().time())
        driver.catch_up()
    assert times_s(driver, 21) == [10, 20, 30]


@virtual
async def test_send__is_mined_in_the_first_block_after_its_time() -> None:
    driver = a_driver()
    tx = driver.send(a_transfer(), after_s=25)
    await asyncio.sleep(29)
    driver.catch_up()
    assert (driver.chain.find(tx.hash), driver.is_idle) == (None, False)
    await asyncio.sleep(1)
    driver.catch_up()
    assert (driver.chain.find(tx.hash), driver.is_idle) == (23, True)


@virtual
async def test_halt__is_followed_by_a_burst_of_what_was_missed() -> None:
    driver = a_driver()
    driver.halt(60)
    await asyncio.sleep(59)
    driver.catch_up()
    assert driver.chain.height == 20
    await asyncio.sleep(1)
    driver.catch_up()
    assert times_s(driver, 21) == [60] * 6
    assert driver.struck["halt, then a burst"] == 1


@virtual
async def test_halt__of_hours__bursts_no_more_than_a_chain_would() -> None:
    driver = a_driver()
    driver.halt(36_000)
    await asyncio.sleep(36_000)
    driver.catch_up()
    assert driver.chain.height in {20 + BURST_MAX, 21 + BURST_MAX}


@virtual
async def test_halt__healed__ends_at_once() -> None:
    driver = a_driver()
    driver.halt(36_000)
    await asyncio.sleep(60)
    driver.heal()
    assert driver.chain.height >= 25


@virtual
async def test_end_after__mines_that_many_and_forgets_what_waits() -> None:
    driver = a_driver()
    tx = driver.send(a_transfer(), after_s=5)
    driver.end_after(4)
    await asyncio.sleep(3_600)
    driver.catch_up()
    assert (driver.chain.height, driver.chain.find(tx.hash)) == (24, None)
    await asyncio.sleep(3_600)
    driver.catch_up()
    assert driver.chain.height == 24


# -- what is final -----------------------------------------------------------------------------------------------------


@virtual
async def test_final_height__before_the_first_block__is_known() -> None:
    """A world took it for 0 until then, and a daemon that opened its chain sooner for one that settles too much."""
    assert a_driver().truth.final_height == 17


@virtual
async def test_final_height__by_depth__follows_the_head() -> None:
    driver = a_driver()
    await asyncio.sleep(100)
    driver.catch_up()
    assert driver.truth.final_height == driver.chain.height - 3


@virtual
async def test_stall__holds_the_tag__and_lets_it_catch_up() -> None:
    driver = a_driver(TAGGED)
    driver.catch_up()
    driver.stall(95)
    await asyncio.sleep(94)
    driver.catch_up()
    assert (driver.chain.height, driver.chain.height_of(Tag.FINALIZED)) == (29, 15)
    assert driver.truth.final_height <= 15
    await asyncio.sleep(10)
    driver.catch_up()
    assert driver.chain.height_of(Tag.FINALIZED) == driver.truth.final_height == driver.chain.height - 5
    assert driver.struck["finality stall"] == 1


@virtual
async def test_stall__that_ends_while_no_blocks_come__lets_the_tag_catch_up() -> None:
    """A world went on with the final height of before, and took a daemon that settled up to the tag for one that does
    so too early.
    """
    driver = a_driver(TAGGED)
    driver.stall(60)
    await asyncio.sleep(50)
    driver.halt(1_000)
    await asyncio.sleep(100)
    driver.catch_up()
    assert driver.truth.final_height == driver.chain.height_of(Tag.FINALIZED) == driver.chain.height - 5


@virtual
async def test_stall__where_no_tag_decides__does_not_strike() -> None:
    driver = a_driver(DEPTH_3)
    driver.stall(95)
    assert not driver.struck


@pytest.mark.parametrize("finality", [DEPTH_3, TAGGED], ids=["depth", "tag"])
@virtual
async def test_forks__never_reach_the_final_height__and_mine_nothing_twice(finality: FinalityPolicy) -> None:
    driver, r = a_driver(finality), random.Random(7)
    final: dict[int, bytes] = {}
    for _ in range(150):
        await asyncio.sleep(r.uniform(0, 30))
        driver.send(a_transfer(), after_s=r.uniform(0, 60))
        driver.fork(
            depth=r.randint(1, 40), drop_rate=0.2, replace_rate=0.2, delay_rate=0.3, lengthen=r.choice((0, 1, 2))
        )
        chain = driver.chain
        assert all(chain.hash_at(number) == hash_ for number, hash_ in final.items())
        final |= {n: chain.hash_at(n) for n in range(max(final, default=0) + 1, driver.truth.final_height + 1)}
        txs = [tx for _, tx in mined(driver)]
        assert max(Counter(tx.hash for tx in txs).values(), default=1) == 1
        assert max(Counter((tx.sender, tx.nonce) for tx in txs).values(), default=1) == 1
    assert len(final) > 150
    for kind in ("reorg", "transaction dropped", "transaction replaced", "transaction included elsewhere"):
        assert driver.struck[kind] > 10, kind


@virtual
async def test_fork_past_finality__is_on_record_before_it_happens() -> None:
    driver = a_driver()
    await asyncio.sleep(200)
    driver.catch_up()
    driver.truth.begun = 22
    was = {n: driver.chain.hash_at(n) for n in range(driver.truth.final_height + 1)}
    final = driver.truth.final_height
    assert driver.fork_past_finality(depth=4, drop_rate=0.5)
    (violation,) = driver.truth.violations
    assert violation.ancestor == final - 4
    gone = [n for n, hash_ in was.items() if driver.chain.hash_at(n) != hash_]
    assert gone == list(range(final - 3, final + 1))
    assert set(driver.truth.replaced) == {was[n] for n in gone}
    assert driver.truth.final_height == final, "what was final once, was"
    assert driver.struck["reorg past finality"] == 1


@pytest.mark.parametrize("begun", [None, 35], ids=["not begun", "too few blocks since"])
@virtual
async def test_fork_past_finality__below_where_the_daemon_began__does_not_strike(begun: int | None) -> None:
    driver = a_driver()
    await asyncio.sleep(200)
    driver.catch_up()
    driver.truth.begun = begun
    head = driver.chain.head
    assert not driver.fork_past_finality(depth=4, drop_rate=0.5)
    assert (driver.chain.head, driver.truth.violations, driver.struck.total()) == (head, [], 0)


# -- what becomes of transactions --------------------------------------------------------------------------------------


async def _paid(finality: FinalityPolicy = DEPTH_3, *, seed: int = 1) -> tuple[ChainDriver, SimTx, int]:
    driver = a_driver(finality, seed=seed)
    tx = driver.send(a_transfer(), after_s=5)
    await asyncio.sleep(20)
    driver.catch_up()
    at = driver.chain.find(tx.hash)
    assert at == 21
    return driver, tx, at


@virtual
async def test_fork__mines_transactions_again() -> None:
    driver, tx, at = await _paid()
    was = driver.chain.hash_at(at)
    calm(driver, 2)
    assert driver.chain.find(tx.hash) == at
    assert driver.chain.hash_at(at) != was


@virtual
async def test_fork__that_drops__takes_it_away_or_brings_it_late() -> None:
    came: Counter[bool] = Counter()
    for seed in range(12):
        driver, tx, _ = await _paid(seed=seed)
        calm(driver, 2, drop_rate=1.0)
        assert driver.chain.find(tx.hash) is None
        await asyncio.sleep(25 * BLOCK_S)
        driver.catch_up()
        came[driver.chain.find(tx.hash) is not None] += 1
        assert driver.struck["transaction dropped"] == 1
    assert came[True] > 0
    assert came[False] > 0


@virtual
async def test_fork__that_replaces__mines_another_of_the_same_sender_and_nonce() -> None:
    driver, tx, at = await _paid()
    calm(driver, 2, replace_rate=1.0)
    ((number, other),) = mined(driver)
    assert (number, other.transfers, other.sender, other.nonce) == (at, tx.transfers, tx.sender, tx.nonce)
    assert other.hash != tx.hash
    driver.resend(tx, after_s=0)
    await asyncio.sleep(60)
    driver.catch_up()
    assert driver.chain.find(tx.hash) is None, "its nonce is used"


@virtual
async def test_fork__that_delays__includes_it_in_a_later_block() -> None:
    driver, tx, at = await _paid()
    calm(driver, 2, delay_rate=1.0)
    assert driver.chain.find(tx.hash) == at + 1
    assert driver.struck["transaction included elsewhere"] == 1
