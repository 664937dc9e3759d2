"""What is asked before money settles: the payment is recorded and final, the settlement waits for an operator."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from chains.errors import QuorumLost
from chains.model import Address, AnnouncementKind
from chains.oracles import DECIMALS, LATEST_ROUND_DATA, is_sanctioned_call
from chains.simulated import SimFaults
from settler.domain.invoices import Invoice, TransferStatus
from settler.domain.settlement import HoldReason
from settler.stages.announced import SPAN_BLOCKS, Announced
from settler.stages.setup import PriceFeed
from settler.storage import holds, risks, schema
from settler.storage.engine import Database
from tests.support.world import PAYER, World, token

FEED, ORACLE, NEW_CODE = Address(b"\xfe" * 20), Address(b"\x0a" * 20), Address(b"\x0c" * 20)
RULES: dict[str, Any] = {
    "price_feeds": {token().address: PriceFeed(address=FEED, max_age=timedelta(hours=25))},
    "depeg_floor": 985 * 10**15,
    "sanctions_oracle": ORACLE,
}


def feed(world: World, answer: int | None, *, age: timedelta = timedelta()) -> None:
    """A feed with 8 decimals; `None`: it reverts."""
    updated_at = int((world.it.chain.head.time - age).timestamp())

    def answered(data: bytes) -> bytes | None:
        if data == DECIMALS:
            return (8).to_bytes(32)
        if answer is None or data != LATEST_ROUND_DATA:
            return None
        words = (1, answer % 2**256, updated_at, updated_at, 1)
        return b"".join(w.to_bytes(32) for w in words)

    world.it.chain.set_contract(FEED, answered)


def sanctions(world: World, *listed: Address, answers: bool = True) -> None:
    def answered(data: bytes) -> bytes | None:
        return int(data in [is_sanctioned_call(a) for a in listed]).to_bytes(32) if answers else None

    world.it.chain.set_contract(ORACLE, answered)


async def clean(db: Database, **changes: Any) -> World:
    world = await World.on(db, **(RULES | changes))
    feed(world, 100_000_000)
    sanctions(world)
    return world


async def paid(world: World) -> Invoice:
    invoice = await world.invoice()
    world.pay(invoice)
    world.mine(5)
    await world.catch_up()
    return invoice


async def why_held(world: World, invoice: Invoice) -> dict[str, str]:
    """Reason to detail, with everything about a held invoice checked on the way."""
    view = await world.view(invoice.id)
    assert (view["status"], view["exceptions"], view["amount_received"]) == ("processing", ["on_hold"], "100.00")
    assert await world.count(schema.settlements) == 0
    assert [t.status for t in await world.transfers()] == [TransferStatus.FINAL]
    assert (await world.events(invoice.id)).count("invoice.on_hold") == 1
    async with world.db.read() as conn:
        found = await holds.of_invoice(conn, invoice.id)
        assert sum((await holds.count_by_reason(conn)).values()) == len(found)
    assert all(h.stop.transfer_id == (view["payments"][0]["transfer_id"]) for h in found)
    return {h.stop.reason.value: h.stop.detail for h in found}


async def test_nothing_against_it__settles(db: Database) -> None:
    world = await clean(db)
    assert await world.status(await paid(world)) == "settled"


@pytest.mark.parametrize(
    ("answer", "age", "why"),
    [
        (98_499_999, 0, "below the floor"),
        (0, 0, "broken"),
        (-1, 0, "broken"),
        (100_000_000, 26, "stale"),
        (None, 0, "does not answer"),
    ],
)
async def test_price_not_to_be_relied_on__is_held(db: Database, answer: int | None, age: int, why: str) -> None:
    world = await clean(db)
    feed(world, answer, age=timedelta(hours=age))
    held = await why_held(world, await paid(world))
    assert list(held) == ["depeg"]
    assert why in held["depeg"]


async def test_payer_on_the_list__is_held__and_so_is_everybody_while_it_does_not_answer(db: Database) -> None:
    world = await clean(db)
    sanctions(world, PAYER)
    assert await why_held(world, await paid(world)) == {"sanctions": "the payer is on the sanctions list"}


async def test_list_that_does_not_answer__holds(db: Database) -> None:
    world = await clean(db)
    sanctions(world, answers=False)
    assert await why_held(world, await paid(world)) == {"sanctions": "the sanctions list does not answer"}


@pytest.mark.parametrize("kind", [AnnouncementKind.PAUSED, AnnouncementKind.UPGRADED, AnnouncementKind.DEPRECATED])
async def test_token_that_announced_trouble__is_held(db: Database, kind: AnnouncementKind) -> None:
    world = await clean(db)
    world.it.chain.announce(token().address, kind, NEW_CODE)
    world.mine(1)
    held = await why_held(world, await paid(world))
    assert list(held) == ["token_paused"]
    assert kind.value in held["token_paused"]


async def test_receiving_address_frozen__is_held__another_is_not(db: Database) -> None:
    world = await clean(db)
    frozen, other = await world.invoice(), await world.invoice()
    for invoice in (frozen, other):
        world.pay(invoice)
    world.it.chain.announce(token().address, AnnouncementKind.BLOCKED, frozen.options[0].pay_to)
    world.mine(5)
    await world.catch_up()
    assert [await world.status(i) for i in (frozen, other)] == ["processing", "settled"]


async def test_pause_that_ended__holds_nothing(db: Database) -> None:
    world = await clean(db)
    for kind in (AnnouncementKind.PAUSED, AnnouncementKind.UNPAUSED):
        world.it.chain.announce(token().address, kind)
        world.mine()
    assert await world.status(await paid(world)) == "settled"


async def test_upgrade_an_operator_accepted__holds_nothing_more(db: Database) -> None:
    world = await clean(db)
    world.it.chain.announce(token().address, AnnouncementKind.UPGRADED, NEW_CODE)
    world.mine(5)
    await world.catch_up()
    held = await paid(world)
    async with world.db.write() as conn:
        state = await world.state()
        assert (
            await risks.accept(conn, state.chain_id, token().address, now=world.clock.now(), who="op", reason="ok") == 1
        )
    assert await world.status(held) == "processing", "what is held stays so until it is released"
    assert await world.status(await paid(world)) == "settled"
    assert await world.count(schema.operator_actions) == 1


async def test_several_reasons__each_is_a_hold_of_its_own(db: Database) -> None:
    world = await clean(db)
    feed(world, 97_000_000)
    sanctions(world, PAYER)
    assert set(await why_held(world, await paid(world))) == {HoldReason.DEPEG, HoldReason.SANCTIONS}


async def test_liar_alone__lets_nothing_pass(db: Database) -> None:
    """Two of three are asked; one that speaks against a payment is enough."""
    world = await clean(db, providers=3, quorum=2)
    feed(world, 97_000_000)
    world.it.readers[0].contract_calls = _all_is_well  # type: ignore[method-assign]  # the liar
    assert set(await why_held(world, await paid(world))) == {HoldReason.DEPEG}


async def _all_is_well(calls: Any) -> tuple[bytes | None, ...]:
    words = (1, 100_000_000, 2**31, 2**31, 1)
    return tuple(
        b"".join(w.to_bytes(32) for w in words) if c.data == LATEST_ROUND_DATA else (8 * (c.to == FEED)).to_bytes(32)
        for c in calls
    )


async def test_providers_that_do_not_answer__keep_it_waiting_and_hold_nothing(db: Database) -> None:
    world = await clean(db, providers=2, quorum=2)
    invoice = await world.invoice()
    world.pay(invoice)
    world.mine(5)
    await world.watch()
    world.it.readers[1].faults = SimFaults(is_down=True)
    with pytest.raises(QuorumLost):
        await world.settle()
    assert (await world.state()).settled_number == 2
    assert await world.count(schema.holds) == 0
    world.it.readers[1].faults = SimFaults()
    world.clock.advance(60)
    await world.catch_up()
    assert await world.status(invoice) == "settled"


async def test_announcements__are_read_on_while_nobody_pays__in_bounded_pieces(db: Database) -> None:
    world = await clean(db)
    stage = Announced(chain=world.it.setup, pool=world.it.providers, db=db, clock=world.clock)
    await stage.tick()
    began = (await world.state()).risks_number
    assert began is not None
    world.it.chain.announce(token().address, AnnouncementKind.UPGRADED, NEW_CODE)
    world.mine(50)
    await world.settle()
    assert not (await stage.tick()).has_more
    state = await world.state()
    assert state.risks_number is not None
    assert state.risks_number == state.settled_number
    assert state.risks_number - began <= SPAN_BLOCKS
    async with world.db.read() as conn:
        (risk,) = (await risks.of_chain(conn, state.chain_id))[token().address]
    assert (risk.announcement.kind, risk.announcement.subject) == (AnnouncementKind.UPGRADED, NEW_CODE)
    await stage.tick()
    assert await world.count(schema.token_risks) == 1
