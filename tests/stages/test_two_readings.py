"""Watch and settle over a simulated chain, with the real store: what each says of a payment, and when."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from chains.errors import ChainError
from settler.domain.invoices import Allocation, TransferStatus, UnmatchedReason
from settler.storage import chains, schema
from settler.storage.chains import ChainState, CursorMoved
from settler.storage.engine import Database
from tests.support.world import World


async def test_exact_payment__is_processing_when_seen_and_settled_when_final(db: Database) -> None:
    world = await World.on(db)
    invoice = await world.invoice("100")
    world.pay(invoice, "100")
    world.mine()
    await world.catch_up()
    seen = await world.view(invoice.id)
    assert (seen["status"], seen["amount_received"], seen["amount_settled"]) == ("processing", "100.00", "0.00")
    assert [p["status"] for p in seen["payments"]] == ["detected"]
    assert seen["payments"][0]["confirmations"] == 1

    world.mine(2)
    await world.catch_up()
    done = await world.view(invoice.id)
    assert (done["status"], done["amount_settled"], done["exceptions"]) == ("settled", "100.00", [])
    assert done["settlement_id"].startswith("stl_")
    assert await world.events(invoice.id) == ["invoice.created", "invoice.processing", "invoice.settled"]
    assert await world.events(done["payments"][0]["transfer_id"]) == ["payment.detected", "payment.final"]


async def test_final_one_block_early__does_not_settle(db: Database) -> None:
    """Depth 3: final once 3 blocks stand on it, height <= head - 3."""
    world = await World.on(db)
    invoice = await world.invoice("1")
    world.pay(invoice)
    world.mine(2)
    await world.catch_up()
    assert await world.status(invoice) == "processing"
    world.mine()
    await world.catch_up()
    assert await world.status(invoice) == "settled"


async def test_parts__add_up(db: Database) -> None:
    world = await World.on(db)
    invoice = await world.invoice("100")
    world.pay(invoice, "60")
    world.mine(4)
    await world.catch_up()
    assert (await world.view(invoice.id))["status"] == "pending"
    world.pay(invoice, "39.999999")
    world.mine(4)
    await world.catch_up()
    assert (await world.view(invoice.id))["status"] == "pending"
    world.pay(invoice, "0.000001")
    world.mine(4)
    await world.catch_up()
    view = await world.view(invoice.id)
    assert (view["status"], view["amount_settled"], len(view["payments"])) == ("settled", "100.00", 3)


async def test_two_equal_transfers_in_one_transaction__are_two_payments(db: Database) -> None:
    world = await World.on(db)
    invoice = await world.invoice("100")
    world.pay(invoice, "50", times=2)
    world.mine(4)
    await world.catch_up()
    view = await world.view(invoice.id)
    assert (view["status"], view["amount_settled"]) == ("settled", "100.00")
    assert len({p["transfer_id"] for p in view["payments"]}) == 2


async def test_overpaid__settles_and_keeps_the_surplus_apart(db: Database) -> None:
    world = await World.on(db)
    invoice = await world.invoice("100")
    world.pay(invoice, "101")
    world.mine(4)
    await world.catch_up()
    view = await world.view(invoice.id)
    assert (view["status"], view["exceptions"]) == ("settled", ["overpaid"])
    assert (view["amount_received"], view["amount_settled"]) == ("101.00", "100.00")


async def test_money_after_settlement__goes_to_suspense_as_surplus(db: Database) -> None:
    world = await World.on(db)
    invoice = await world.invoice("100")
    world.pay(invoice, "100")
    world.mine(4)
    await world.catch_up()
    world.pay(invoice, "5")
    world.mine(4)
    await world.catch_up()
    late = (await world.transfers())[-1]
    assert (late.allocation, late.reason, late.status) == (
        Allocation.UNMATCHED,
        UnmatchedReason.SURPLUS,
        TransferStatus.FINAL,
    )
    assert (await world.view(invoice.id))["amount_received"] == "100.00"


async def test_second_payment_not_final_when_the_first_settles__becomes_surplus(db: Database) -> None:
    world = await World.on(db)
    invoice = await world.invoice("100")
    world.pay(invoice, "100")
    world.mine(2)
    world.pay(invoice, "100")
    world.mine()
    await world.catch_up()
    assert await world.status(invoice) == "settled"
    assert [t.reason for t in await world.transfers()] == [None, UnmatchedReason.SURPLUS]
    world.mine(5)
    await world.catch_up()
    assert await world.count(schema.settlements) == 1
    assert [t.status.value for t in await world.transfers()] == ["final", "final"]


async def test_paid_again_while_nobody_looked__ends_as_if_somebody_had(db: Database) -> None:
    """Reproduced: both payments final after an outage settled as one overpaid invoice, live the second was suspense."""
    world = await World.on(db)
    outcomes = []
    for is_down in (False, True):
        invoice = await world.invoice("100")
        for _ in range(2):
            world.pay(invoice, "100")
            world.mine(5)
            if not is_down:
                await world.catch_up()
        await world.catch_up()
        view = await world.view(invoice.id)
        outcomes.append((view["status"], view["exceptions"], view["amount_received"], len(view["payments"])))
    assert outcomes == [("settled", [], "100.00", 1)] * 2
    assert [t.reason for t in await world.transfers()] == [None, UnmatchedReason.SURPLUS] * 2


async def test_paid_in_a_block_that_replaces_the_head_of_its_making__is_matched(db: Database) -> None:
    """Reproduced: made at head H and paid in another block H, the invoice took the payment for older than itself."""
    world = await World.on(db)
    await world.catch_up()
    invoice = await world.invoice("100")
    payment = world.it.chain.tx(world.sim_transfer(invoice.options[0].pay_to, "100"))
    world.it.chain.reorg(1, add=[payment])
    world.mine(5)
    await world.catch_up()
    assert await world.status(invoice) == "settled"


async def test_first_reading_missed_it__second_reading_settles_it(db: Database) -> None:
    """A node that answers an empty list for a block delays a settlement and never prevents it (go-ethereum#24078)."""
    from chains.simulated import SimFaults

    world = await World.on(db)
    invoice = await world.invoice("100")
    world.pay(invoice, "100")
    world.mine()
    world.it.reader.faults = SimFaults(empty_logs_rate=1.0)
    await world.watch()
    assert await world.status(invoice) == "pending"
    world.it.reader.faults = SimFaults()
    world.mine(5)
    await world.catch_up()
    assert await world.status(invoice) == "settled"


async def test_zero_value__is_recorded_and_changes_nothing(db: Database) -> None:
    world = await World.on(db)
    invoice = await world.invoice("100")
    world.pay(invoice, 0)
    world.mine(5)
    await world.catch_up()
    (zero,) = await world.transfers()
    assert zero.reason is UnmatchedReason.IGNORED_ZERO
    assert await world.status(invoice) == "pending"
    assert await world.count(schema.ledger_entries) == 0
    assert await world.events(zero.id) == []


async def test_reorg_that_drops_a_payment__takes_processing_back(db: Database) -> None:
    world = await World.on(db)
    await world.catch_up()
    invoice = await world.invoice("100")
    paid = world.pay(invoice, "100")
    world.mine()
    await world.watch()
    assert await world.status(invoice) == "processing"
    world.it.chain.reorg(1, drop=[paid.hash], length=2)
    await world.watch()
    view = await world.view(invoice.id)
    assert (view["status"], view["amount_received"]) == ("pending", "0.00")
    assert [p["status"] for p in view["payments"]] == ["orphaned"]
    assert await world.events(invoice.id) == ["invoice.created", "invoice.processing", "invoice.pending"]
    assert world.counted.reorgs == [1]
    world.mine(5)
    await world.catch_up()
    assert await world.status(invoice) == "pending"


async def test_reorg_that_moves_a_payment__is_the_same_payment_elsewhere(db: Database) -> None:
    world = await World.on(db)
    invoice = await world.invoice("100")
    world.pay(invoice, "100")
    world.mine(1)
    await world.watch()
    (before,) = await world.transfers()
    world.it.chain.reorg(2, shift=1, length=3)
    await world.watch()
    (after,) = await world.transfers()
    assert after.id == before.id
    assert after.block_number == before.block_number + 1
    assert after.block_hash != before.block_hash
    assert after.status is TransferStatus.DETECTED
    assert await world.status(invoice) == "processing"
    world.mine(5)
    await world.catch_up()
    assert await world.status(invoice) == "settled"
    assert await world.count(schema.settlements) == 1
    (final,) = await world.transfers()
    line_view = (await world.view(invoice.id))["payments"][0]
    assert line_view["block_number"] == final.block_number == after.block_number


async def test_node_behind__changes_nothing(db: Database) -> None:
    world = await World.on(db)
    invoice = await world.invoice("100")
    world.pay(invoice, "100")
    world.mine()
    await world.catch_up()
    before = await world.state()
    world.it.reader.lag = 3
    await world.catch_up()
    after = await world.state()
    assert (after.scanned_number, after.settled_number) == (before.scanned_number, before.settled_number)
    assert await world.status(invoice) == "processing"
    assert world.counted.reorgs == []


async def test_far_behind__the_second_reading_catches_up_alone_and_in_order(db: Database) -> None:
    world = await World.on(db)
    invoices_ = [await world.invoice(str(10 + n)) for n in range(5)]
    for invoice in invoices_:
        world.pay(invoice)
        world.mine(2_500)
    calls_before = world.it.reader.calls["eth_getLogs"]
    await world.settle()
    assert [await world.status(i) for i in invoices_] == ["settled"] * 5
    state = await world.state()
    assert state.settled_number == world.it.chain.head.number - 3
    # and what the token announced, beside each span that holds a payment
    assert world.it.reader.calls["eth_getLogs"] - calls_before <= 16
    await world.catch_up()
    assert (await world.state()).scanned_number == world.it.chain.head.number


async def test_first_reading__goes_on_while_the_second_commits__is_not_put_back(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await World.on(db)
    world.mine(4)
    await world.catch_up()
    world.mine(5)
    await world.it.watch.tick()  # looked: the next one reads
    reading: list[asyncio.Task[None]] = []
    advance = chains.advance

    async def go_on() -> None:
        with suppress(ChainError, CursorMoved):
            await world.it.watch.tick()

    async def advance_late(
        conn: AsyncConnection, before: ChainState, *, now: datetime, guard: Sequence[str], **changes: Any
    ) -> ChainState:
        if "settled_hash" in guard and not reading:
            reading.append(asyncio.create_task(go_on()))
            await asyncio.wait(reading, timeout=0.3)
        return await advance(conn, before, now=now, guard=guard, **changes)

    monkeypatch.setattr(chains, "advance", advance_late)
    while not reading:
        await world.it.settle.tick()
    await asyncio.gather(*reading)
    state = await world.state()
    assert state.scanned_number is not None
    async with db.read() as conn:
        held = await chains.held_blocks(conn, state.chain_id)
    assert held[-1].number == state.scanned_number
    assert held[-1].hash == state.scanned_hash
