"""Several providers, some of them liars: what settles is what the chain says, and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from chains.errors import ChainError, Disagreement, NodeInconsistent, QuorumLost, Timeout
from chains.model import BlockNumber, BlockRef, ChainId, Tag
from chains.pool import PROBE_EVERY_S
from chains.simulated import SimFaults
from chains.standing import HEAD_FRESH_S, State
from settler.domain.finality import ByTag
from settler.domain.invoices import Invoice
from settler.stages.looking import TagUnusable
from settler.stages.opening import Refused, open_chain
from settler.stages.settle import VIOLATION_SIGHTINGS
from settler.storage import schema
from settler.storage.engine import Database
from tests.support.lying import LIES, LieOfHeader, far_ahead, foreign, honest, liar, omits
from tests.support.memory import in_memory
from tests.support.world import DEPTH_3, ChainWorld, World, token


@pytest.fixture
async def db(sqlite_template: Path) -> AsyncIterator[Database]:
    """In memory: what is tested here is not how a database stores it."""
    opened = await in_memory(sqlite_template)
    yield opened
    await opened.dispose()


FINALIZED = ByTag(tag=Tag.FINALIZED)
DOWN = SimFaults(is_down=True)


async def three(db: Database, *, quorum: int = 2) -> World:
    return await World.on(db, providers=3, quorum=quorum)


async def paid(world: World, amount: str = "100", *, empty_after: int = 4) -> Invoice:
    invoice = await world.invoice("100")
    world.pay(invoice, amount)
    world.mine(empty_after)
    return invoice


async def tries(world: World, times: int = 12, *, seconds: float = 1.0) -> list[ChainError]:
    """Ticks both readings so often, as their loops would; the errors they raised."""
    errors = []
    for _ in range(times):
        for stage in (world.it.watch, world.it.settle):
            try:
                while (await stage.tick()).has_more:
                    pass
            except ChainError as error:
                errors.append(error)
        world.clock.advance(seconds)
    await world.expire()
    return errors


async def sources(world: World) -> list[list[str]]:
    async with world.db.read() as conn:
        return [row.sources for row in await conn.execute(sa.select(schema.payment_evidence.c.sources))]


# -- who must agree ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "quorum"), [(1, 1), (2, 2), (3, 1), (3, 3), (4, 2), (5, 3)])
async def test_quorum__settles_and_remembers_who_agreed(db: Database, count: int, quorum: int) -> None:
    world = await World.on(db, providers=count, quorum=quorum)
    invoice = await paid(world)
    await world.catch_up()
    assert await world.status(invoice) == "settled"
    assert await sources(world) == [[f"node-{n}" for n in range(quorum)]]
    assert world.counted.disagreements == {}
    assert all(standing.is_up for standing in world.it.providers.standings)


async def test_differs_for_ever__is_distrusted_after_three_and_the_others_settle(db: Database) -> None:
    world = await three(db)
    liar(world, 0).lie_of_span = omits
    for _ in range(6):
        world.clock.advance(HEAD_FRESH_S)
        invoice = await paid(world)
        assert await tries(world, 1) == []
        assert await world.status(invoice) == "settled"
    assert world.it.providers.standings[0].state is State.DISTRUSTED
    assert world.counted.disagreements == {"node-0": 3}


async def test_all_three_differ__nothing_settles_until_two_agree(db: Database) -> None:
    world = await three(db)
    first, second = liar(world, 0), liar(world, 1)
    first.lie_of_span, second.lie_of_span = omits, LIES["doubles"]
    invoice = await paid(world)
    errors = await tries(world, 3)
    assert {type(error) for error in errors} == {Disagreement}
    assert "node-0 against node-1 against node-2" in str(errors[0])
    assert await world.status(invoice) != "settled"
    assert set(world.counted.disagreements) == {"node-0", "node-1", "node-2"}
    assert all(standing.is_up for standing in world.it.providers.standings), "nobody knows who is right"
    honest(world.it)
    await tries(world, 3)
    assert await world.status(invoice) == "settled"


async def test_two_differ_and_the_third_is_down__is_told_of_as_a_disagreement(db: Database) -> None:
    """Reproduced: it was told of as too few providers, and neither of the two was named."""
    world = await three(db)
    liar(world, 0).lie_of_span = omits
    world.it.readers[2].faults = DOWN
    invoice = await paid(world)
    errors = await tries(world, 4, seconds=0.1)
    assert any(isinstance(error, Disagreement) for error in errors)
    assert {"node-0", "node-1"} <= set(world.counted.disagreements)
    assert await world.status(invoice) != "settled"


async def test_two_of_three_down__is_seen_and_settles_when_one_is_back(db: Database) -> None:
    world = await three(db)
    world.it.readers[0].faults = world.it.readers[1].faults = DOWN
    invoice = await paid(world)
    errors = await tries(world, 4)
    assert {type(error) for error in errors} <= {QuorumLost, Timeout}
    assert any(isinstance(error, QuorumLost) for error in errors)
    assert await world.status(invoice) == "processing"
    world.it.readers[0].faults = SimFaults()
    await tries(world, 12)
    assert await world.status(invoice) == "settled"
    assert await sources(world) == [["node-0", "node-2"]]


async def test_one_down_and_one_lags_some_blocks__settles_up_to_where_both_are(db: Database) -> None:
    """Reproduced: the lag asked for a third word, nobody could give it, and nothing settled while it lasted."""
    world = await three(db)
    world.mine(20)
    world.it.readers[1].lag = 8
    world.it.readers[2].faults = DOWN
    invoice = await paid(world, empty_after=12)
    await tries(world, 6)
    assert await world.status(invoice) == "settled"
    assert (await world.state()).settled_number == world.it.chain.head.number - 11


async def test_two_of_three_lag__settles_no_further_than_they_are(db: Database) -> None:
    world = await three(db)
    world.mine(20)
    world.it.readers[1].lag = world.it.readers[2].lag = 2
    invoice = await paid(world, empty_after=4)
    await tries(world, 3)
    assert await world.status(invoice) == "processing"
    assert (await world.state()).settled_number == world.it.chain.head.number - 5
    world.mine()
    await tries(world, 3, seconds=20.0)
    assert await world.status(invoice) == "settled"


async def test_first_omits_one_payment_and_invents_another__the_truth_settles(db: Database) -> None:
    """`test_liars` has every lie at every place."""
    world = await three(db)
    whole, short = await paid(world), await paid(world, "99")
    bad = liar(world, 0)
    bad.lie_of_span = lambda read, query: (
        omits(read, query) if len(read.transfers) == 1 else LIES["doubles"](read, query)
    )
    await tries(world, 6)
    assert [await world.status(invoice) for invoice in (whole, short)] == ["settled", "pending"]
    assert set(world.counted.disagreements) == {"node-0"}


@pytest.mark.parametrize("at", [0, 2])
async def test_one_shows_other_blocks_everywhere__halts_nothing(db: Database, at: int) -> None:
    world = await three(db)
    await paid(world)
    await world.catch_up()
    liar(world, at).lie_of_header = foreign
    await tries(world, 2 * VIOLATION_SIGHTINGS)
    assert not (await world.state()).is_halted


# -- tags --------------------------------------------------------------------------------------------------------------


def no_tag(asked: BlockNumber | Tag, shown: BlockRef | None) -> BlockRef | None:
    return None if asked is Tag.FINALIZED else shown


def tag_is_head(asked: BlockNumber | Tag, shown: BlockRef | None) -> BlockRef | None:
    """`finalized` is 64 blocks too high: the head."""
    return replace(shown, number=BlockNumber(shown.number + 64)) if asked is Tag.FINALIZED and shown else shown


def tag_is_ahead(asked: BlockNumber | Tag, shown: BlockRef | None) -> BlockRef | None:
    return replace(shown, number=BlockNumber(shown.number + 50)) if asked is Tag.FINALIZED and shown else shown


def tag_stands_still(asked: BlockNumber | Tag, shown: BlockRef | None) -> BlockRef | None:
    return replace(shown, number=BlockNumber(10)) if asked is Tag.FINALIZED and shown else shown


TAG_LIES: dict[str, LieOfHeader] = {
    "missing": no_tag,
    "equals head": tag_is_head,
    "ahead": tag_is_ahead,
    "stands still": tag_stands_still,
    "far ahead": far_ahead,
}


@pytest.mark.parametrize("lie", ["missing", "equals head"])
async def test_tag_is_wrong_at_two_of_three__nothing_settles_and_it_says_why(db: Database, lie: str) -> None:
    world = await World.on(db, providers=3, quorum=2, finality=FINALIZED, start_at=100)
    invoice = await paid(world, empty_after=70)
    for at in (0, 2):
        liar(world, at).lie_of_header = TAG_LIES[lie]
    (error, *_) = await tries(world, 2)
    assert isinstance(error, TagUnusable)
    assert "node-0, node-2" in str(error)
    assert await world.status(invoice) == "processing"
    honest(world.it)
    await tries(world, 2)
    assert await world.status(invoice) == "settled"


@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize("is_started", [True, False])
async def test_opening__tag_is_wrong_at_one_of_three__opens_with_the_others(
    db: Database, at: int, is_started: bool
) -> None:
    """Reproduced: the first provider's faulty tag refused the chain at every start, whatever the others said."""
    world = await World.on(db, providers=3, quorum=2, finality=FINALIZED, start_at=100)
    if not is_started:
        async with db.write() as conn:
            await conn.execute(sa.delete(schema.blocks))
            await conn.execute(
                sa.update(schema.chains).values(
                    dict.fromkeys(("settled_number", "settled_hash", "settled_time"))
                    | dict.fromkeys(("scanned_number", "scanned_hash", "scanned_time"))
                )
            )
    liar(world, at).lie_of_header = no_tag
    await open_chain(world.it.setup, pool=world.it.providers, db=db, clock=world.clock)
    assert (await world.state()).settled_number == 36


async def test_opening__tag_is_wrong_at_all__is_refused_and_names_them(db: Database) -> None:
    world = await World.on(db, providers=2, quorum=2, finality=FINALIZED, start_at=100)
    for at in (0, 1):
        liar(world, at).lie_of_header = no_tag
    with pytest.raises(Refused, match=r"finality is finalized, but .* does not answer it \(node-0, node-1\)"):
        await open_chain(world.it.setup, pool=world.it.providers, db=db, clock=world.clock)


# -- finality violations -----------------------------------------------------------------------------------------------


async def test_violation__one_down_two_differ__is_a_disagreement(db: Database) -> None:
    world = await three(db)
    await paid(world)
    await world.catch_up()
    world.it.readers[2].faults = DOWN
    liar(world, 0).lie_of_header = foreign
    errors = await tries(world, 2 * VIOLATION_SIGHTINGS, seconds=0.1)
    assert any(isinstance(error, Disagreement) for error in errors)
    assert not (await world.state()).is_halted


async def test_violation__seen_now_and_then__is_not_one(db: Database) -> None:
    """Two forked providers come back to the chain before they were seen often enough, again and again."""
    world = await three(db)
    await paid(world)
    await world.catch_up()
    liars = [liar(world, 0), liar(world, 1)]
    for _ in range(3):
        for each in liars:
            each.lie_of_header = foreign
        await tries(world, VIOLATION_SIGHTINGS - 1, seconds=0.1)
        honest(world.it)
        world.mine()
        assert await tries(world, 1, seconds=0.1) == []
    assert not (await world.state()).is_halted


# -- what is kept from one tick to the next ----------------------------------------------------------------------------


async def test_looks__of_a_height_that_is_no_longer_the_settled_one__are_forgotten(db: Database) -> None:
    """Reproduced: another worker settled on meanwhile, and the provider asked before was said to differ."""
    world = await three(db)
    await world.catch_up()
    assert (await world.it.settle.tick()).has_more, "one look, a second one wanted"
    other = World(db, world.policy)
    other.chains = {"anvil": other._made(world.it.setup, world.it.chain, world.it.readers)}
    world.mine(6)
    await other.settle()
    await world.settle()
    assert world.counted.disagreements == {}


async def test_final__looked_up_before_somebody_halted_the_chain__is_forgotten(db: Database) -> None:
    """Reproduced: the height was of the chain as it was; blocks of the new one were settled before they were final."""
    world = await World.on(db)
    await paid(world)
    await world.catch_up()
    world.mine(10)
    assert (await world.it.settle.tick()).facts == {"final": world.it.chain.head.number - 3}
    async with db.write() as conn:
        first = world.it.chain.block_at(2)
        assert first is not None
        await conn.execute(
            sa.update(schema.chains).values(
                settled_number=2, settled_hash=first.ref.hash, settled_time=first.ref.time, final_number=2
            )
        )
    world.it.chain.reorg(10, length=1)
    await world.settle()
    assert (await world.state()).settled_number == world.it.chain.head.number - 3


# -- what it costs -----------------------------------------------------------------------------------------------------


def calls_of(where: ChainWorld) -> int:
    return sum(sum(reader.calls.values()) for reader in where.readers)


@pytest.mark.parametrize(("count", "finality"), [(3, None), (5, FINALIZED)])
async def test_idle__no_tick_costs_more_than_three_calls(db: Database, count: int, finality: ByTag | None) -> None:
    world = await World.on(db, providers=count, quorum=2, start_at=100, finality=finality or DEPTH_3)
    await world.invoice("100")
    await world.catch_up()
    costs: Counter[tuple[str, int]] = Counter()
    for second in range(16):
        if second % 3:
            world.mine(second % 5)
        for stage in (world.it.watch, world.it.settle):
            has_more = True
            while has_more:
                before = calls_of(world.it)
                has_more = (await stage.tick()).has_more
                costs[type(stage).__name__, calls_of(world.it) - before] += 1
        world.clock.advance(PROBE_EVERY_S if second % 6 == 5 else 1.0)
    assert max(calls for _, calls in costs) <= 3, costs
    assert (await world.state()).settled_number == world.it.chain.head.number - (64 if finality else 3)


async def test_a_payment_awaited__asks_as_many_at_once_as_have_to_agree(db: Database) -> None:
    world = await three(db)
    await paid(world, empty_after=0)
    await world.watch()
    before = calls_of(world.it)
    await world.it.settle.tick()
    assert calls_of(world.it) - before == 4, "two providers, the head and the settled block each"


async def test_another_token_of_the_same_name__second_chain_goes_on(db: Database) -> None:
    """A chain without a quorum stops nothing but itself."""
    world = await three(db)
    await world.add_chain("base", tokens=[token(chain_id=ChainId(8453))], seed=2, providers=3, quorum=2)
    for reader in world.it.readers[:2]:
        reader.faults = DOWN
    invoice = await world.invoice("100")
    world.pay(invoice, option=1)
    world.mine(5, on="base")
    await world.watch("base")
    await world.settle("base")
    assert await world.status(invoice) == "settled"
    with pytest.raises((QuorumLost, Timeout, NodeInconsistent)):
        await world.settle("anvil")
