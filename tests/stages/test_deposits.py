"""One address, invoices one after another: money finds the one it was sent for, or an operator; never the wrong one."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from chains.model import Address
from settler.domain.deposits import POOL_ONLY
from settler.domain.drafting import OptionRequest
from settler.domain.errors import Conflict
from settler.domain.invoices import Allocation, Invoice, Match, TransferRecord, UnmatchedReason
from settler.domain.settlement import InvoicePolicy, LatePolicy
from settler.storage import chains, deposits, schema
from settler.storage.engine import Database
from tests.support.world import World

HOUR = 3_600
OWN = OptionRequest(chain="anvil", token="USDC", pay_to=None, match=Match.ADDRESS)
ADDRESS = Address(b"\xd0" * 20)
SECOND = timedelta(seconds=1)


async def pool_of_one(db: Database, policy: InvoicePolicy | None = None) -> World:
    world = await World.on(db, policy=policy or InvoicePolicy())
    async with db.write() as conn:
        await deposits.add(conn, [ADDRESS], quarantine=POOL_ONLY.quarantine, now=world.clock.now(), who="ada")
    return world


async def invoice(world: World) -> Invoice:
    made = await world.invoice("100", options=[OWN], expires_in_s=HOUR)
    assert [o.pay_to for o in made.options] == [ADDRESS]
    return made


def go_to(world: World, time: datetime) -> None:
    """Our clock and the chain's, which mines the pool."""
    world.clock.advance((time - world.clock.now()).total_seconds())
    world.mine(after_s=round((time - world.it.chain.head.time).total_seconds()))


def free_again(first: Invoice) -> datetime:
    return first.monitoring_until + POOL_ONLY.quarantine


async def last(world: World) -> TransferRecord:
    return (await world.transfers())[-1]


async def paid_and_settled(world: World, one: Invoice) -> None:
    world.pay(one)
    world.mine(5)
    await world.catch_up()
    view = await world.view(one.id)
    assert (view["status"], view["amount_settled"], len(view["payments"])) == ("settled", "100.00", 1)


async def test_address_given_again__each_invoice_is_settled_by_its_own_payment(db: Database) -> None:
    world = await pool_of_one(db)
    for _ in range(3):
        one = await invoice(world)
        go_to(world, world.clock.now() + SECOND)
        await paid_and_settled(world, one)
        with pytest.raises(Conflict, match="none is free"):
            await invoice(world)
        go_to(world, free_again(one))
    assert await world.count(schema.settlements) == 3


@pytest.mark.parametrize("reading", ["watch", "settle"])
async def test_address_given_again__what_came_before_never_pays_the_next(db: Database, reading: str) -> None:
    """A customer of the first pays once more, long after; we know of it when the second is made. `watch`: provisionally
    only."""
    world = await pool_of_one(db)
    first = await invoice(world)
    go_to(world, world.clock.now() + SECOND)
    await paid_and_settled(world, first)
    world.pay(first)
    go_to(world, free_again(first))
    if reading == "watch":
        await world.watch()
    else:
        world.mine(5)
        await world.catch_up()
    second = await invoice(world)
    world.mine(5)
    await world.catch_up()
    stray = await last(world)
    assert (stray.allocation, stray.reason) == (Allocation.UNMATCHED, UnmatchedReason.SURPLUS)
    assert stray.evidence["candidates"] == [first.id]
    assert (await world.view(second.id))["payments"] == []
    await paid_and_settled(world, second)


async def test_address_given_again__what_is_mined_and_not_read_yet_never_pays_the_next(db: Database) -> None:
    """Found by trying: the head was seen, its logs were not read yet, and an invoice made in that moment was settled by
    what the address's former customer had sent."""
    world = await World.on(db)
    to = world.address()
    first = await world.invoice(pay_to=to)
    await paid_and_settled(world, first)
    world.pay(first)
    world.mine(1)
    state, head = await world.state(), world.it.chain.head
    async with db.write() as conn:
        await chains.advance(conn, state, now=world.clock.now(), guard=(), head_number=head.number, head_time=head.time)
    second = await world.invoice(pay_to=to)
    world.mine(5)
    await world.catch_up()
    assert (await last(world)).reason is UnmatchedReason.SURPLUS
    await paid_and_settled(world, second)


@pytest.mark.parametrize("late", LatePolicy)
async def test_address_given_again__late_money_of_the_first_is_the_firsts(db: Database, late: LatePolicy) -> None:
    world = await pool_of_one(db, InvoicePolicy(late=late))
    first = await invoice(world)
    world.pay(first, "60")
    go_to(world, first.expires_at + SECOND)
    await world.catch_up()
    world.pay(first, "40")
    go_to(world, first.monitoring_until)
    world.mine(5)
    await world.catch_up()
    view = await world.view(first.id)
    assert view["status"] == {"hold": "expired", "accept": "settled"}[late.value]
    assert len(view["payments"]) == 2


async def test_address_in_quarantine__money_is_named_late_and_is_not_the_nexts(db: Database) -> None:
    world = await pool_of_one(db)
    first = await invoice(world)
    go_to(world, first.expires_at + SECOND)
    await world.catch_up()
    world.pay(first)
    go_to(world, first.monitoring_until + SECOND)
    world.mine(5)
    await world.catch_up()
    stray = await last(world)
    assert (stray.reason, stray.evidence["candidates"]) == (UnmatchedReason.LATE, [first.id])
    go_to(world, free_again(first))
    await world.catch_up()
    second = await invoice(world)
    await paid_and_settled(world, second)
    assert await world.status(first) == "expired"


async def test_address_of_an_invoice_whose_chain_lags__is_not_given_again(db: Database) -> None:
    """Its time is over by our clock; no block has told so yet, and its payment may be in one of those."""
    world = await pool_of_one(db)
    first = await invoice(world)
    world.clock.advance(365 * 86_400)
    with pytest.raises(Conflict, match="none is free"):
        await invoice(world)
    await paid_and_settled(world, first)
    assert [o.pay_to for o in (await invoice(world)).options] == [ADDRESS]


async def test_pool_address_named_by_hand_while_it_is_anothers__is_ambiguous(db: Database) -> None:
    world = await pool_of_one(db)
    both = [await invoice(world), await world.invoice("100", pay_to=ADDRESS)]
    world.pay(both[0])
    world.mine(5)
    await world.catch_up()
    stray = await last(world)
    assert stray.reason is UnmatchedReason.AMBIGUOUS
    assert set(stray.evidence["candidates"]) == {i.id for i in both}
    assert [await world.status(i) for i in both] == ["pending", "pending"]


async def test_pool_address_that_nobody_has__money_is_seen_and_kept(db: Database) -> None:
    world = await pool_of_one(db)
    world.send(world.sim_transfer(ADDRESS, "5"))
    world.mine(5)
    await world.catch_up()
    assert (await last(world)).reason is UnmatchedReason.NO_INVOICE
    later = await invoice(world)
    world.mine(5)
    await world.catch_up()
    assert (await world.view(later.id))["payments"] == []
