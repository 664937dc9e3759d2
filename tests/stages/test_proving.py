"""`Prover`: what payments rest on. Made-up blocks whose headers commit to their receipts, as real ones do."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from chains.errors import ChainError, Disagreement, MethodUnsupported, NodeInconsistent, Timeout
from chains.model import BaseUnits, BlockHash, SpanRead
from chains.proof import Unprovable, from_json, verify
from chains.standing import State
from settler.domain.settlement import HoldReason
from settler.stages.proving import TRIES
from settler.storage import holds, schema
from settler.storage.engine import Database
from tests.chains.proof.samples import ETHEREUM, block_of, transfer_in
from tests.stages.proving import (
    BLOCK,
    PAYMENTS,
    QUERY,
    SOURCES,
    TIME,
    TRUE,
    Material,
    appended,
    proving,
    reading,
    swapped,
)
from tests.support.world import World


async def test_true_readings__each_payment_has_a_proof_that_anybody_can_verify() -> None:
    p = proving(TRUE)
    found = await p.prover.evidence(reading(*PAYMENTS), QUERY, SOURCES)
    assert set(found) == {t.identity for t in PAYMENTS}
    for transfer in PAYMENTS:
        given = found[transfer.identity]
        assert (given.sources, given.failure) == (SOURCES, None)
        assert given.proof is not None
        verify(from_json(given.proof), transfer)
    assert p.nodes[0].asked == 1, "once a block"


async def test_without_a_profile__nothing_is_asked_and_the_sources_are_told() -> None:
    p = proving(TRUE, is_proven=False)
    found = await p.prover.evidence(reading(*PAYMENTS), QUERY, SOURCES)
    assert {(given.sources, given.proof, given.failure) for given in found.values()} == {(SOURCES, None, None)}
    assert p.nodes[0].asked == 0


async def test_block_that_moves_no_money__is_not_proven() -> None:
    p = proving(TRUE)
    zero = replace(PAYMENTS[0], identity=replace(PAYMENTS[0].identity, amount=BaseUnits(0)))
    found = await p.prover.evidence(reading(zero), QUERY, SOURCES)
    assert [given.failure for given in found.values()] == [None]
    assert p.nodes[0].asked == 0


@pytest.mark.parametrize(
    "read",
    [
        reading(PAYMENTS[0]),
        reading(*PAYMENTS, transfer_in(BLOCK, 1)),
        reading(PAYMENTS[0], replace(PAYMENTS[1], identity=replace(PAYMENTS[1].identity, amount=BaseUnits(8)))),
        reading(*PAYMENTS, replace(PAYMENTS[0], identity=replace(PAYMENTS[0].identity, ordinal=1))),
    ],
    ids=["omitted", "invented", "amount", "twice"],
)
async def test_receipts_contradict_the_reading__nothing_of_it_is_believed(read: SpanRead) -> None:
    p = proving(TRUE, TRUE)
    for _ in range(3):
        with pytest.raises(Disagreement, match="a, b agreed"):
            await p.prover.evidence(read, QUERY, SOURCES)
    assert {s.state for s in p.pool.standings} == {State.DISTRUSTED}, "both gave the false reading"


async def test_another_time_than_the_header_has__nothing_of_it_is_believed() -> None:
    """Lateness is decided by the block's time: with one provider, nobody else could tell."""
    p = proving(TRUE)
    with pytest.raises(Disagreement, match="time"):
        await p.prover.evidence(reading(*PAYMENTS, time=TIME - timedelta(days=1)), QUERY, SOURCES)


@pytest.mark.parametrize("lie", [swapped(), appended()], ids=["swapped", "appended"])
async def test_one_names_other_transactions__another_is_asked_and_nobody_else_is_blamed(lie: Material) -> None:
    """Reproduced: the honest providers that agreed on the reading were distrusted on the word of one."""
    p = proving(lie, TRUE, TRUE)
    found = await p.prover.evidence(reading(*PAYMENTS), QUERY, ("b", "c"))
    assert all(given.proof is not None for given in found.values())
    assert [s.state for s in p.pool.standings] == [State.RESTING, State.UP, State.UP]


@pytest.mark.parametrize("error", [MethodUnsupported("no such method"), Unprovable("a field nobody knows")])
async def test_nobody_can_say__recorded_with_the_reason_and_nobody_rests(error: ChainError) -> None:
    p = proving(error, error)
    found = await p.prover.evidence(reading(*PAYMENTS), QUERY, SOURCES)
    assert {(given.proof, given.failure) for given in found.values()} == {(None, str(error))}
    assert {s.state for s in p.pool.standings} == {State.UP}


async def test_nobody_answers_now__is_tried_again() -> None:
    p = proving(Timeout("slow"), MethodUnsupported("no"))
    for _ in range(2 * TRIES):
        with pytest.raises(Timeout):
            await p.prover.evidence(reading(*PAYMENTS), QUERY, SOURCES)
        p.seconds += 60.0


async def test_receipts_of_nobody_fit__held_at_the_third_try_and_counted_anew_after() -> None:
    other = block_of([b"\x02" + bytes(40)])
    p = proving((other, ()), (other, ()))
    for _ in range(2):
        for _ in range(TRIES - 1):
            with pytest.raises(NodeInconsistent):
                await p.prover.evidence(reading(*PAYMENTS), QUERY, SOURCES)
        found = await p.prover.evidence(reading(*PAYMENTS), QUERY, SOURCES)
        assert all(given.proof is None and given.failure for given in found.values())
    p.seconds += 60.0
    p.nodes[1].answers = TRUE
    found = await p.prover.evidence(reading(*PAYMENTS), QUERY, SOURCES)
    assert all(given.proof is not None for given in found.values())


async def test_one_fits__the_count_begins_anew() -> None:
    p = proving(NodeInconsistent("nonsense"))
    for _ in range(3):
        for _ in range(TRIES - 1):
            with pytest.raises(NodeInconsistent):
                await p.prover.evidence(reading(*PAYMENTS), QUERY, SOURCES)
        p.nodes[0].answers = TRUE
        await p.prover.evidence(reading(*PAYMENTS), QUERY, SOURCES)
        p.nodes[0].answers = NodeInconsistent("nonsense")


async def test_one_block_fails__no_question_is_left_running() -> None:
    """Reproduced: the others of its batch went on after the tick had failed, and the next tick asked them again."""
    p = proving(TRUE)
    p.nodes[0].gate = asyncio.Event()
    elsewhere = replace(PAYMENTS[1], block_hash=BlockHash(b"\x77" * 32))
    asking = asyncio.create_task(p.prover.evidence(reading(PAYMENTS[0], elsewhere), QUERY, SOURCES))
    for _ in range(10):
        await asyncio.sleep(0)
    p.nodes[0].gate.set()
    with pytest.raises(Timeout):
        await asking
    assert p.nodes[0].running == 0


# -- what settles ------------------------------------------------------------------------------------------------------


async def test_unprovable_payment__is_final_and_held_until_an_operator_releases_it(sqlite_db: Database) -> None:
    """A simulated chain has no receipts: what a provider without `eth_getBlockReceipts` is."""
    world = await World.on(sqlite_db, providers=2, quorum=2)
    world.it.setup = replace(world.it.setup, proof=ETHEREUM)
    world.restart()
    invoice = await world.invoice("100")
    world.pay(invoice)
    world.mine(4)
    await world.catch_up()
    view = await world.view(invoice.id)
    assert (view["status"], view["amount_settled"], await world.count(schema.settlements)) == ("processing", "0.00", 0)
    assert [t.is_final for t in await world.transfers()] == [True]
    assert (await world.state()).settled_number == world.it.chain.head.number - 3, "the chain goes on"
    async with sqlite_db.read() as conn:
        assert (await holds.count_by_reason(conn))[HoldReason.PROOF_FAILED] == 1
    async with sqlite_db.write() as conn:
        await conn.execute(sa.update(schema.holds).values(released_at=world.clock.now()))
    await world.expire()
    assert await world.status(invoice) == "settled"
    assert await world.count(schema.settlements) == 1
