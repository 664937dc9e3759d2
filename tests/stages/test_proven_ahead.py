"""Blocks proven while their payments wait to be final: what that changes, and what it must not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chains.errors import BlockNotFound, ChainError, Disagreement, MethodUnsupported, Timeout
from chains.model import BaseUnits, BlockNumber, BlockSpan
from chains.proof import from_json, verify
from chains.standing import State
from settler.stages import proven
from settler.stages.proven import AHEAD_BLOCKS, Ahead
from settler.storage.engine import Database
from tests.chains.proof.samples import ETHEREUM, NUMBER, hash_of
from tests.stages.proving import BLOCK, PAYMENTS, QUERY, SOURCES, TRUE, Proving, proving, reading, swapped
from tests.support.world import World

ITS_SPAN = BlockSpan(first=NUMBER, last=NUMBER)
"""Of the block that holds the payments."""


def ahead_of(p: Proving) -> Ahead:
    assert p.prover.ahead is not None
    return p.prover.ahead


async def test_proven_ahead__nobody_is_asked_again_and_the_evidence_is_the_same() -> None:
    usual, early = proving(TRUE), proving(TRUE)
    assert await ahead_of(early).prove(ITS_SPAN, PAYMENTS) == 1
    assert early.nodes[0].asked == 1
    found = await early.prover.evidence(reading(*PAYMENTS), QUERY, SOURCES)
    assert found == await usual.prover.evidence(reading(*PAYMENTS), QUERY, SOURCES)
    assert early.nodes[0].asked == 1
    for payment in PAYMENTS:
        verify(from_json(found[payment.identity].proof or {}), payment)


async def test_payment_that_was_not_known_to_wait__is_proven_from_what_is_kept() -> None:
    p = proving(TRUE)
    await ahead_of(p).prove(ITS_SPAN, PAYMENTS[:1])
    found = await p.prover.evidence(reading(*PAYMENTS), QUERY, SOURCES)
    assert [found[payment.identity].failure for payment in PAYMENTS] == [None, None]
    assert p.nodes[0].asked == 1


async def test_kept_block__is_given_once() -> None:
    p = proving(TRUE)
    await ahead_of(p).prove(ITS_SPAN, PAYMENTS)
    for _ in range(2):
        await p.prover.evidence(reading(*PAYMENTS), QUERY, SOURCES)
    assert p.nodes[0].asked == 2


async def test_waiting_payment_that_was_invented__does_not_become_true() -> None:
    p = proving(TRUE)
    invented = replace(PAYMENTS[0], identity=replace(PAYMENTS[0].identity, amount=BaseUnits(10**12)))
    await ahead_of(p).prove(ITS_SPAN, [*PAYMENTS, invented])
    with pytest.raises(Disagreement):
        await p.prover.evidence(reading(*PAYMENTS, invented), QUERY, SOURCES)


async def test_waiting_payment_was_shown_at_another_height__is_proven_where_the_reading_has_it() -> None:
    p = proving(TRUE)
    moved = [replace(payment, block_number=BlockNumber(NUMBER + 1)) for payment in PAYMENTS]
    await ahead_of(p).prove(ITS_SPAN, moved)
    found = await p.prover.evidence(reading(*PAYMENTS), QUERY, SOURCES)
    assert [found[payment.identity].failure for payment in PAYMENTS] == [None, None]


async def test_node_named_other_transactions_ahead__another_is_asked_when_it_counts() -> None:
    p = proving(swapped(), TRUE)
    assert await ahead_of(p).prove(ITS_SPAN, PAYMENTS) == 1, "its receipts are true"
    found = await p.prover.evidence(reading(*PAYMENTS), QUERY, SOURCES)
    assert [found[payment.identity].failure for payment in PAYMENTS] == [None, None]
    assert [node.asked for node in p.nodes] == [2, 1]


@pytest.mark.parametrize("error", [Timeout("gone"), BlockNotFound("not there")], ids=lambda error: type(error).__name__)
async def test_nobody_answers_ahead__is_asked_again_when_it_counts(error: ChainError) -> None:
    p = proving(error)
    assert await ahead_of(p).prove(ITS_SPAN, PAYMENTS) == 0
    p.nodes[0].answers = TRUE
    p.seconds += 600
    found = await p.prover.evidence(reading(*PAYMENTS), QUERY, SOURCES)
    assert all(given.proof for given in found.values())


async def test_block_that_one_provider_alone_showed__is_not_held_against_the_others() -> None:
    p = proving(BlockNotFound("never heard of it"), TRUE)
    await ahead_of(p).prove(ITS_SPAN, PAYMENTS)
    assert [standing.state for standing in p.pool.standings] == [State.UP, State.UP]
    assert p.nodes[1].asked == 0


async def test_nobody_can_prove_anything__is_not_tried_ahead_until_it_was_done_once() -> None:
    p = proving(MethodUnsupported("no eth_getBlockReceipts"))
    ahead = ahead_of(p)
    await ahead.prove(ITS_SPAN, PAYMENTS)
    assert ahead.due(NUMBER, BlockNumber(NUMBER + 9)) is None
    p.nodes[0].answers = TRUE
    p.seconds += 3_600
    await p.prover.evidence(reading(*PAYMENTS), QUERY, SOURCES)
    assert ahead.due(NUMBER, BlockNumber(NUMBER + 9)) is not None


async def test_due__all_between_settled_and_newest_in_steps_each_once() -> None:
    ahead = ahead_of(proving(TRUE))
    settled, head = BlockNumber(100), BlockNumber(100 + AHEAD_BLOCKS + 3)
    spans = []
    while (span := ahead.due(settled, head)) is not None:
        spans.append((span.first, span.last))
        await ahead.prove(span, [])
    assert spans == [(101, 100 + AHEAD_BLOCKS), (101 + AHEAD_BLOCKS, head - 1)]
    assert ahead.due(BlockNumber(head + 5), BlockNumber(head + 7)) == BlockSpan(
        first=BlockNumber(head + 6), last=BlockNumber(head + 6)
    ), "what is settled needs it no more"


async def test_as_much_is_kept_as_may_be__none_more_until_it_is_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proven, "KEPT_BYTES", 1)
    p = proving(TRUE)
    ahead = ahead_of(p)
    await ahead.prove(ITS_SPAN, PAYMENTS)
    before, after = BlockNumber(NUMBER - 1), BlockNumber(NUMBER + 5)
    assert ahead.due(before, after) is None
    assert ahead.due(NUMBER, after) is not None, "it is forgotten with the settled height"
    assert ahead.take(hash_of(BLOCK)) is None


async def test_settle_stage__proves_while_a_payment_waits_and_not_when_nothing_does(sqlite_db: Database) -> None:
    world = await World.on(sqlite_db)
    world.it.setup = replace(world.it.setup, proof=ETHEREUM)
    world.restart()
    world.mine(9)
    await world.catch_up()
    assert receipts_asked(world) == 0
    world.pay(await world.invoice("100"))
    world.mine()
    await world.catch_up()
    assert receipts_asked(world) == 0, "the newest block is left alone"
    world.mine()
    await world.catch_up()
    assert receipts_asked(world) == 1
    assert not (await world.transfers())[0].is_final


def receipts_asked(world: World) -> int:
    return sum(reader.calls["eth_getBlockReceipts"] for reader in world.it.readers)
