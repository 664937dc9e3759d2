"""Every lie there is, told by each of three providers in turn, of whom two must agree: what settles is the truth."""

from __future__ import annotations

import itertools
from contextlib import suppress

import pytest

from chains.errors import ChainError
from chains.simulated import SimFaults
from settler.stages.settle import VIOLATION_SIGHTINGS
from settler.storage.engine import Database
from tests.stages.test_quorum_settling import DOWN, FINALIZED, TAG_LIES, db, paid, three, tries
from tests.support.lying import HEADER_LIES, LIES, foreign, liar
from tests.support.world import World

__all__ = ["db"]


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("lie", LIES)
async def test_one_lies_about_logs__the_truth_settles_and_the_liar_is_named(db: Database, lie: str, at: int) -> None:
    """An invoice paid in full, one paid short, one paid late: a lie would settle the second or third, or hide the
    first."""
    world = await three(db)
    await world.catch_up()
    late = await world.invoice("100", expires_in_s=60)
    world.mine(after_s=2 * 86_400)
    whole, short = await world.invoice("100"), await world.invoice("100")
    for invoice, amount in ((late, "100"), (whole, "100"), (short, "99")):
        world.pay(invoice, amount)
    world.mine(4)
    liar(world, at).lie_of_span = LIES[lie]
    await tries(world, 5)
    assert [await world.status(invoice) for invoice in (whole, short)] == ["settled", "pending"]
    # when it expires may be put off by the provider that is watched; that it does not settle may not
    assert await world.status(late) in ("expired", "pending")
    canonical = [t.identity for t in await world.transfers() if t.is_canonical]
    assert canonical == [t.identity for t in world.it.chain.transfers()]
    assert set(world.counted.disagreements) <= {f"node-{at}"}
    assert at == 2 or world.counted.disagreements


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("lie", HEADER_LIES)
async def test_one_lies_about_headers__the_truth_settles_and_nothing_halts(db: Database, lie: str, at: int) -> None:
    world = await three(db)
    liar(world, at).lie_of_header = HEADER_LIES[lie]
    first = await paid(world)
    await tries(world, 3)
    second = await paid(world)
    await tries(world, 3)
    assert [await world.status(i) for i in (first, second)] == ["settled", "settled"]
    state = await world.state()
    assert (state.halted_at, state.settled_number) == (None, world.it.chain.head.number - 3)


@pytest.mark.parametrize("at", [0, 1, 2])
async def test_one_lags_for_ever__the_others_settle(db: Database, at: int) -> None:
    world = await three(db)
    world.mine(30)
    world.it.readers[at].lag = 20
    invoice = await paid(world)
    await tries(world, 3)
    assert await world.status(invoice) == "settled"
    assert world.counted.disagreements == {}


@pytest.mark.parametrize("at", [0, 1, 2])
async def test_one_on_its_own_fork__halts_nothing_and_is_not_followed_for_long(db: Database, at: int) -> None:
    """Its fork begins below the settled height, is longer, and pays somebody."""
    world = await three(db)
    invoice = await world.invoice("100")
    fork = world.it.chain.forked("own")
    await paid(world)
    await world.catch_up()
    fork.mine([fork.tx(world.sim_transfer(invoice.options[0].pay_to, "100"))])
    fork.mine_empty(20)
    liar(world, at, chain=fork)
    for _ in range(8):
        world.mine()
        await tries(world, 2)
    assert await world.status(invoice) == "pending"
    state = await world.state()
    assert not state.is_halted
    assert state.settled_number == world.it.chain.head.number - 3
    assert state.scanned_number == world.it.chain.head.number
    assert [t.identity for t in await world.transfers() if t.is_canonical] == [
        t.identity for t in world.it.chain.transfers()
    ]


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("lie", TAG_LIES)
async def test_tag_is_wrong_at_one_of_three__the_others_say_what_is_final(db: Database, lie: str, at: int) -> None:
    world = await World.on(db, providers=3, quorum=2, finality=FINALIZED, start_at=100)
    liar(world, at).lie_of_header = TAG_LIES[lie]
    early = await paid(world, empty_after=62)
    await tries(world, 2)
    assert await world.status(early) == "processing"
    world.mine(10)
    await tries(world, 2)
    assert await world.status(early) == "settled"
    assert (await world.state()).settled_number == world.it.chain.head.number - 64


@pytest.mark.parametrize("at", [0, 1, 2])
async def test_violation__shown_by_a_quorum__halts_and_reverses_what_vanished_and_no_more(
    db: Database, at: int
) -> None:
    """One of them lies about every block there is, which would put the common ancestor at the beginning."""
    world = await three(db)
    kept = await paid(world)
    await world.catch_up()
    gone = await world.invoice("100")
    lost = world.pay(gone)
    world.mine(3)
    await world.catch_up()
    assert await world.status(gone) == "settled"
    world.it.chain.reorg(4, drop=[lost.hash], length=8)
    liar(world, at).lie_of_header = foreign
    for _ in range(VIOLATION_SIGHTINGS):
        assert not (await world.state()).is_halted
        await tries(world, 1)
    state = await world.state()
    assert state.is_halted
    assert state.settled_number is not None
    stands = world.it.chain.block_at(state.settled_number)
    (line,) = [t for t in await world.transfers() if t.is_final]
    assert stands is not None
    assert (stands.ref.hash, stands.ref.number >= line.block_number) == (state.settled_hash, True)
    assert [await world.status(i) for i in (kept, gone)] == ["settled", "reversed"]
    assert world.counted.reversals == 1


@pytest.mark.parametrize("at", [0, 1, 2])
async def test_violation__shown_by_one__halts_nothing_however_long(db: Database, at: int) -> None:
    world = await three(db)
    invoice = await paid(world)
    await world.catch_up()
    liar(world, at).lie_of_header = foreign
    await tries(world, 3 * VIOLATION_SIGHTINGS)
    assert not (await world.state()).is_halted
    assert await world.status(invoice) == "settled"
    assert set(world.counted.disagreements) <= {f"node-{at}"}


async def test_no_stage_says_for_ever_that_there_is_more(db: Database) -> None:
    """Whatever one of three answers, and another at times: a tick has nothing more to do, or fails and waits."""
    world = await three(db)
    bad = liar(world, 0)
    invoice = await paid(world)
    lies = itertools.product([None, *LIES.values()], [None, *HEADER_LIES.values()])
    for number, (of_span, of_header) in enumerate(lies):
        bad.lie_of_span, bad.lie_of_header = of_span, of_header
        world.it.readers[1].faults = DOWN if number % 3 == 1 else SimFaults()
        world.pay(invoice, 1)
        world.mine(number % 3)
        world.clock.advance(61.0)
        for stage in (world.it.watch, world.it.settle):
            with suppress(ChainError):
                for _ in range(20):
                    if not (await stage.tick()).has_more:
                        break
                else:
                    raise AssertionError(f"{stage} never stops, lie {number}")
    assert not (await world.state()).is_halted
