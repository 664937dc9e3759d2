"""What an operator decides, over the simulated world: assign, dismiss, cancel, mark, hold, release."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import pytest
import sqlalchemy as sa

from chains.model import BlockNumber, ChainId, Token
from settler.domain.drafting import OptionRequest
from settler.domain.errors import Conflict, NotFound
from settler.domain.events import EventType
from settler.domain.ids import HoldId, InvoiceId, TransferId
from settler.domain.invoices import Allocation, Invoice, InvoiceStatus, Match, TransferRecord, UnmatchedReason
from settler.domain.ledger import Account
from settler.domain.records import Hold, Settlement
from settler.domain.settlement import HoldReason, Stop
from settler.storage import chains, holds, schema, settlements
from settler.storage.engine import Database
from tests.stages.test_halt import balances, look_until_halted
from tests.support.dump import audit
from tests.support.world import CHAIN_ID, World, token

OTHER = ChainId(8453)
HOUR = 3_600
EURC = token("EURC", currency="EUR")
DAI = token("DAI", decimals=18)


async def stray(
    world: World, amount: str | int = "100", *, unit: Token | None = None, blocks: int = 5
) -> TransferRecord:
    """Money that pays nothing: to an address of a canceled invoice. Final, unless fewer `blocks` come after it."""
    nobodys = await of_usdc(world)
    async with world.db.write() as conn:
        await world.operating.cancel(conn, nobodys.id, world.by())
    world.send(world.sim_transfer(nobodys.options[0].pay_to, amount, token=unit))
    world.mine(blocks)
    await world.catch_up()
    return (await world.transfers())[-1]


async def of_usdc(world: World) -> Invoice:
    """An invoice of 100.00 that offers no other token."""
    way = OptionRequest(chain="anvil", token="USDC", pay_to=world.address(), match=Match.ADDRESS)
    return await world.invoice("100", options=[way])


async def assign(world: World, transfer: TransferRecord, invoice: Invoice) -> TransferRecord:
    async with world.db.write() as conn:
        return (await world.operating.assign(conn, transfer.id, invoice.id, world.by("customer wrote"))).value


async def dismiss(world: World, transfer: TransferRecord) -> TransferRecord:
    async with world.db.write() as conn:
        return await world.operating.dismiss(conn, transfer.id, world.by("not ours"))


async def mark(world: World, invoice: Invoice) -> Invoice:
    async with world.db.write() as conn:
        return (await world.operating.mark(conn, invoice.id, world.by("paid in cash"))).value


async def place(world: World, invoice: Invoice, reason: str = "looks odd") -> Hold:
    async with world.db.write() as conn:
        return await world.operating.place_hold(conn, invoice.id, world.by(reason))


async def release(world: World, hold: Hold) -> Hold:
    async with world.db.write() as conn:
        return (await world.operating.release_hold(conn, hold.id, world.by("looked at it"))).value


async def holds_of(world: World, invoice: Invoice) -> list[Hold]:
    async with world.db.read() as conn:
        return await holds.of_invoice(conn, invoice.id)


async def settlement_of(world: World, invoice: Invoice) -> Settlement:
    async with world.db.read() as conn:
        (only,) = await settlements.find(conn, invoice_id=invoice.id)
    return only


async def actions(world: World) -> list[tuple[str, str, str, str]]:
    """Action, object, who and why, in order."""
    t = schema.operator_actions
    async with world.db.read() as conn:
        return [
            (row.action, row.object_id, row.who, row.reason)
            for row in await conn.execute(sa.select(t).order_by(t.c.seq))
        ]


async def expired(world: World, *, paid: str | None = None) -> Invoice:
    """An invoice whose time is over, maybe with a final payment."""
    invoice = await world.invoice("100", expires_in_s=HOUR)
    if paid is not None:
        world.pay(invoice, paid)
        world.mine()
    head = world.it.chain.head.time
    world.mine(5, after_s=round((invoice.expires_at - head).total_seconds()) + 1)
    await world.catch_up()
    assert await world.status(invoice) == "expired"
    return invoice


async def halt(world: World) -> None:
    async with world.db.write() as conn:
        now = world.clock.now()
        await chains.advance(conn, await world.state(), now=now, guard=(), halted_at=now, halt_reason="test")


# Assign


@pytest.mark.parametrize("is_dismissed", [False, True])
async def test_assign__all_that_is_due__settles_at_once(db: Database, db_url: str, is_dismissed: bool) -> None:
    world = await World.on(db)
    money = await stray(world)
    if is_dismissed:
        money = await dismiss(world, money)
    invoice = await world.invoice("100")
    assigned = await assign(world, money, invoice)
    assert (assigned.allocation, assigned.invoice_id, assigned.reason) == (Allocation.INVOICE, invoice.id, None)
    assert assigned.version == money.version + 1
    assert dict(assigned.evidence) == {
        "strategy": "assigned",
        "by": "ada",
        "reason": "customer wrote",
        "before": {
            "allocation": money.allocation.value,
            "reason": None if is_dismissed else "no_invoice",
            "invoice_id": None,
            "evidence": dict(money.evidence),
        },
    }
    view = await world.view(invoice.id)
    assert (view["status"], view["amount_settled"], view["exceptions"]) == ("settled", "100.00", [])
    assert await world.events(invoice.id) == ["invoice.created", "invoice.settled"]
    assert (await world.events(money.id))[-1] == "payment.final"
    assert await world.events(view["settlement_id"]) == ["settlement.created"]
    assert (await actions(world))[-1] == ("transfer.assign", money.id, "ada", "customer wrote")
    await audit(db_url)


async def test_assign__a_part__is_counted_and_the_rest_settles(db: Database, db_url: str) -> None:
    world = await World.on(db)
    money = await stray(world, "40")
    invoice = await world.invoice("100")
    await assign(world, money, invoice)
    assert await world.status(invoice) == "pending"
    world.pay(invoice, "60")
    world.mine(5)
    await world.catch_up()
    view = await world.view(invoice.id)
    assert (view["status"], view["amount_settled"]) == ("settled", "100.00")
    await audit(db_url)


async def test_assign__not_final_yet__is_processing_and_settles_when_it_is(db: Database) -> None:
    world = await World.on(db)
    money = await stray(world, blocks=0)
    invoice = await world.invoice("100")
    await assign(world, money, invoice)
    assert await world.status(invoice) == "processing"
    assert (await world.events(money.id))[-1] == "payment.detected"
    world.mine(5)
    await world.catch_up()
    assert await world.status(invoice) == "settled"
    assert (await world.transfers())[-1].is_assigned


async def test_assign__to_an_expired_invoice__counts_as_in_time(db: Database) -> None:
    world = await World.on(db)
    invoice = await expired(world, paid="40")
    money = await stray(world, "60")
    assert money.block_time > invoice.expires_at
    await assign(world, money, invoice)
    view = await world.view(invoice.id)
    assert (view["status"], view["exceptions"], view["amount_settled"]) == ("settled", ["late"], "100.00")


async def test_assign__another_asset_and_chain__counts_at_par(db: Database, db_url: str) -> None:
    world = await World.on(db, tokens=[token()])
    await world.add_chain("base", tokens=[token("DAI", chain_id=OTHER, decimals=18)], seed=2)
    invoice, astray = await of_usdc(world), await of_usdc(world)
    async with db.write() as conn:
        await world.operating.cancel(conn, astray.id, world.by())
    dai = world.chains["base"].setup.tokens[0]
    world.send(world.sim_transfer(astray.options[0].pay_to, 100 * 10**18, token=dai), on="base")
    world.mine(5, on="base")
    await world.catch_up()
    (money,) = await world.transfers()
    await assign(world, money, invoice)
    view = await world.view(invoice.id)
    assert (view["status"], view["amount_settled"]) == ("settled", "100.00")
    (line,) = (await settlement_of(world, invoice)).lines
    assert (line.chain, line.token, line.amount_settled) == ("base", "DAI", 100 * 10**18)
    await audit(db_url)


async def test_assign__finer_than_the_invoice_can_count__is_refused(db: Database) -> None:
    world = await World.on(db, tokens=[token(), DAI])
    money = await stray(world, 10**18 + 1, unit=DAI)
    invoice = await of_usdc(world)
    with pytest.raises(Conflict, match="no whole number in the 6"):
        await assign(world, money, invoice)
    assert (await world.transfers())[-1] == money


async def test_assign__another_currency__is_refused(db: Database) -> None:
    world = await World.on(db, tokens=[token(), EURC])
    money = await stray(world, unit=EURC)
    invoice = await of_usdc(world)
    with pytest.raises(Conflict, match=f"EURC, which stands for EUR; {invoice.id} is in USD"):
        await assign(world, money, invoice)


async def test_assign__to_a_closed_invoice__is_refused(db: Database) -> None:
    world = await World.on(db)
    money = await stray(world)
    settled, canceled = await world.invoice(), await world.invoice()
    world.pay(settled)
    world.mine(5)
    await world.catch_up()
    async with db.write() as conn:
        await world.operating.cancel(conn, canceled.id, world.by())
    for invoice, status in ((settled, "settled"), (canceled, "canceled")):
        with pytest.raises(Conflict, match=f"is {status}; choose one that is still open"):
            await assign(world, money, invoice)
    assert money in await world.transfers()


async def test_assign__what_pays_an_invoice_already__is_refused(db: Database) -> None:
    world = await World.on(db)
    first, second = await world.invoice("100"), await world.invoice("100")
    world.pay(first, "40")
    world.mine()
    await world.catch_up()
    (money,) = await world.transfers()
    with pytest.raises(Conflict, match=f"pays {first.id}"):
        await assign(world, money, second)


async def test_assign_and_dismiss__what_a_reorg_took__are_refused(db: Database) -> None:
    world = await World.on(db)
    money = await stray(world, blocks=1)
    world.it.chain.reorg(2, drop=[money.identity.tx_hash], length=3)
    await world.catch_up()
    invoice = await world.invoice()
    for verb in (assign(world, money, invoice), dismiss(world, money)):
        with pytest.raises(Conflict, match="orphaned"):
            await verb


async def test_assign_and_dismiss__what_moves_no_money__are_refused(db: Database) -> None:
    """Dismissed, a transfer from an address to itself would have been booked as money that arrived."""
    world = await World.on(db)
    invoice = await world.invoice()
    to = invoice.options[0].pay_to
    world.send(world.sim_transfer(to, 0), world.sim_transfer(to, "5", sender=to))
    world.mine(5)
    await world.catch_up()
    found = await world.transfers()
    assert [t.reason for t in found] == [UnmatchedReason.IGNORED_ZERO] * 2
    for money in found:
        for verb in (assign(world, money, invoice), dismiss(world, money)):
            with pytest.raises(Conflict, match="moves no money"):
                await verb


async def test_assign__nothing_known__is_not_found(db: Database) -> None:
    world = await World.on(db)
    money = await stray(world)
    unknown = InvoiceId("inv_" + "0" * 26)
    async with db.write() as conn:
        with pytest.raises(NotFound, match=unknown):
            await world.operating.assign(conn, money.id, unknown, world.by())
        with pytest.raises(NotFound, match="there is no transfer"):
            await world.operating.dismiss(conn, TransferId("trf_" + "0" * 26), world.by())


async def test_assign__on_a_halted_chain__waits_for_the_operator_to_resume(db: Database) -> None:
    world = await World.on(db)
    money = await stray(world)
    invoice = await world.invoice()
    await halt(world)
    await assign(world, money, invoice)
    assert await world.status(invoice) == "processing"
    async with db.write() as conn:
        await chains.resume(conn, CHAIN_ID, now=world.clock.now(), who="ada", reason="looked at it")
    await world.expire()
    assert await world.status(invoice) == "settled"


async def test_assigned_and_undone_by_the_chain__comes_back_to_the_same_invoice(db: Database, db_url: str) -> None:
    world = await World.on(db)
    money = await stray(world, blocks=1)
    invoice = await world.invoice()
    await assign(world, money, invoice)
    world.it.chain.reorg(2, shift=1, length=7)
    await world.catch_up()
    again = next(t for t in await world.transfers() if t.id == money.id)
    assert again.is_assigned
    assert await world.status(invoice) == "settled"
    await audit(db_url)


# Dismiss


async def test_dismiss__leaves_the_queue_and_its_money_in_suspense(db: Database, db_url: str) -> None:
    world = await World.on(db)
    money = await stray(world)
    dismissed = await dismiss(world, money)
    assert (dismissed.allocation, dismissed.reason) == (Allocation.DISMISSED, None)
    assert dismissed in await world.transfers()
    assert await balances(world) == {Account.RECEIVED: 100_000_000, Account.SUSPENSE: -100_000_000}
    assert (await actions(world))[-1] == ("transfer.dismiss", money.id, "ada", "not ours")
    with pytest.raises(Conflict, match="dismissed already"):
        await dismiss(world, money)
    await audit(db_url)


async def test_dismiss__not_final_yet__stays_dismissed_and_is_booked(db: Database, db_url: str) -> None:
    world = await World.on(db)
    money = await stray(world, blocks=0)
    await dismiss(world, money)
    world.mine(5)
    await world.catch_up()
    (final,) = await world.transfers()
    assert (final.allocation, final.is_final) == (Allocation.DISMISSED, True)
    await audit(db_url)


# Mark


@pytest.mark.parametrize(
    ("paid", "settled", "exceptions"),
    [(None, "0.00", ["marked", "underpaid"]), ("40", "40.00", ["marked", "underpaid"])],
)
async def test_mark__expired__settles_what_came(
    db: Database, db_url: str, paid: str | None, settled: str, exceptions: Sequence[str]
) -> None:
    world = await World.on(db)
    invoice = await expired(world, paid=paid)
    await mark(world, invoice)
    view = await world.view(invoice.id)
    assert (view["status"], view["amount_settled"], view["exceptions"]) == ("settled", settled, exceptions)
    made = await settlement_of(world, invoice)
    assert made.policy["marked"] == {"by": "ada", "reason": "paid in cash"}
    assert len(made.lines) == (0 if paid is None else 1)
    assert (await world.events(invoice.id))[-1] == "invoice.settled"
    assert await world.events(made.id) == ["settlement.created"]
    assert await actions(world) == [("invoice.mark", invoice.id, "ada", "paid in cash")]
    await audit(db_url)
    with pytest.raises(Conflict, match="is settled"):
        await mark(world, invoice)
    assert await world.count(schema.settlements) == 1


async def test_mark__late_money__settles_with_its_surplus(db: Database, db_url: str) -> None:
    world = await World.on(db)
    invoice = await expired(world, paid="60")
    world.pay(invoice, "30")
    world.mine(5)
    await world.catch_up()
    await mark(world, invoice)
    view = await world.view(invoice.id)
    assert (view["amount_settled"], view["exceptions"]) == ("90.00", ["late", "marked", "underpaid"])
    await audit(db_url)


async def test_mark__a_payment_not_final_yet__is_refused(db: Database) -> None:
    world = await World.on(db)
    invoice = await world.invoice("100")
    world.pay(invoice, "40")
    world.mine()
    await world.catch_up()
    (paid,) = await world.transfers()
    with pytest.raises(Conflict, match=f"{paid.id} is not final yet"):
        await mark(world, invoice)
    world.mine(5)
    await world.catch_up()
    await mark(world, invoice)
    assert (await world.view(invoice.id))["amount_settled"] == "40.00"


async def test_mark__held__is_refused_until_it_is_released(db: Database) -> None:
    world = await World.on(db)
    invoice = await world.invoice()
    hold = await place(world, invoice)
    with pytest.raises(Conflict, match=rf"held: {hold.id} \(manual\); release that first"):
        await mark(world, invoice)
    await release(world, hold)
    await mark(world, invoice)
    assert await world.status(invoice) == "settled"


async def test_mark__paid_on_a_halted_chain__is_refused(db: Database) -> None:
    world = await World.on(db)
    invoice = await expired(world, paid="40")
    await halt(world)
    with pytest.raises(Conflict, match="anvil, which is halted"):
        await mark(world, invoice)


async def test_mark__final_by_a_tier_alone__is_refused(db: Database) -> None:
    """What a tier takes for final is not so for more than it reaches to; nor for an operator's word."""
    world = await World.on(db)
    invoice = await expired(world, paid="40")
    (paid,) = await world.transfers()
    state = await world.state()
    async with db.write() as conn:
        below = BlockNumber(paid.block_number - 1)
        await chains.advance(conn, state, now=world.clock.now(), guard=(), settled_number=below)
    with pytest.raises(
        Conflict, match=f"by its amount tier alone; wait until anvil is settled up to block {below + 1}"
    ):
        await mark(world, invoice)


async def test_mark__while_a_tick_halts_the_chain__waits_for_it_and_is_refused(db: Database) -> None:
    """Found by reading: without the chain's row, a mark beside a halt would have settled by a payment that the halt
    was just undoing, and nothing would have reversed it.
    """
    world = await World.on(db)
    invoice = await expired(world, paid="40")
    async with db.write() as conn:
        now = world.clock.now()
        await chains.advance(conn, await world.state(), now=now, guard=(), halted_at=now, halt_reason="test")
        marking = asyncio.create_task(mark(world, invoice))
        done, _ = await asyncio.wait([marking], timeout=0.3)
        assert not done, "it does not wait for the tick"
    with pytest.raises(Conflict, match="anvil, which is halted"):
        await marking


async def test_decisions__beside_the_ticks__lose_nothing(db: Database, db_url: str) -> None:
    """Nothing waits for the other crosswise, and the books agree afterwards."""
    world = await World.on(db)
    nobodys = await of_usdc(world)
    async with db.write() as conn:
        await world.operating.cancel(conn, nobodys.id, world.by())
    wanted = [await of_usdc(world) for _ in range(12)]

    async def live() -> None:
        for n in range(24):
            world.send(world.sim_transfer(nobodys.options[0].pay_to, "100"))
            world.pay(wanted[n % 12], "50")
            world.mine()
            await world.watch()
            await world.settle()

    async def decide(verb: Callable[[int], Awaitable[object]]) -> None:
        for n in range(24):
            await asyncio.sleep(0)
            with suppress(Conflict):
                await verb(n % 12)

    async def assign_some(n: int) -> None:
        free = [t for t in await world.transfers() if t.allocation is Allocation.UNMATCHED]
        if free:
            await assign(world, free[n % len(free)], wanted[n])

    async def hold_and_let_go(n: int) -> None:
        await release(world, await place(world, wanted[n]))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(live())
        for verb in (assign_some, hold_and_let_go, lambda n: mark(world, wanted[n])):
            tasks.create_task(decide(verb))
    world.mine(5)
    await world.catch_up()
    assert {await world.status(i) for i in wanted} == {"settled"}
    assert await world.count(schema.settlements) == len(wanted)
    await audit(db_url)


async def test_mark__canceled__is_refused(db: Database) -> None:
    world = await World.on(db)
    invoice = await world.invoice()
    async with db.write() as conn:
        await world.operating.cancel(conn, invoice.id, world.by())
    with pytest.raises(Conflict, match="is canceled"):
        await mark(world, invoice)


async def test_mark__reversed__is_settled_again_as_the_next_generation(db: Database, db_url: str) -> None:
    world = await World.on(db)
    invoice = await world.invoice()
    world.pay(invoice)
    world.mine(5)
    await world.catch_up()
    (paid,) = await world.transfers()
    world.it.chain.reorg(6, drop=[paid.identity.tx_hash])
    await look_until_halted(world)
    assert await world.status(invoice) == "reversed"
    await mark(world, invoice)
    view = await world.view(invoice.id)
    assert (view["status"], view["amount_settled"]) == ("settled", "0.00")
    async with db.read() as conn:
        assert {s.generation for s in await settlements.find(conn, invoice_id=invoice.id)} == {1, 2}
    await audit(db_url)


# Holds


async def test_place__stops_a_settlement_and_release_lets_it_happen(db: Database, db_url: str) -> None:
    world = await World.on(db)
    invoice = await world.invoice()
    hold = await place(world, invoice)
    assert (hold.stop, hold.stop.detail, hold.held_by) == (Stop(reason=HoldReason.MANUAL), "looks odd", "ada")
    assert await world.events(invoice.id) == ["invoice.created", "invoice.on_hold"]
    assert (await world.view(invoice.id))["exceptions"] == ["on_hold"]
    world.pay(invoice)
    world.mine(5)
    await world.catch_up()
    view = await world.view(invoice.id)
    assert (view["status"], view["exceptions"]) == ("processing", ["on_hold"])
    assert await world.count(schema.settlements) == 0

    released = await release(world, hold)
    assert (released.stands, released.released_by, released.release_reason) == (False, "ada", "looked at it")
    assert await holds_of(world, invoice) == [released]
    view = await world.view(invoice.id)
    assert (view["status"], view["exceptions"]) == ("settled", [])
    assert await world.events(invoice.id) == [
        "invoice.created", "invoice.on_hold", "invoice.processing", "invoice.settled",
    ]  # fmt: skip
    assert [a[0] for a in await actions(world)] == ["hold.place", "hold.release"]
    await audit(db_url)


async def test_release__twice__is_refused(db: Database) -> None:
    world = await World.on(db)
    hold = await place(world, await world.invoice())
    await release(world, hold)
    with pytest.raises(Conflict, match="released already, by ada"):
        await release(world, hold)


async def test_release__nothing_else_in_the_way_but_money__takes_the_exception_away(db: Database) -> None:
    world = await World.on(db)
    invoice = await world.invoice()
    await release(world, await place(world, invoice))
    view = await world.view(invoice.id)
    assert (view["status"], view["exceptions"]) == ("pending", [])


async def test_place__again_after_a_release__stands_again(db: Database) -> None:
    world = await World.on(db)
    invoice = await world.invoice()
    first = await place(world, invoice)
    with pytest.raises(Conflict, match=f"held already by {first.id}"):
        await place(world, invoice)
    await release(world, first)
    world.clock.advance(60)
    again = await place(world, invoice, "odd after all")
    assert (again.id, again.stop.detail, again.stands) == (first.id, "odd after all", True)
    assert again.held_at > first.held_at
    world.pay(invoice)
    world.mine(5)
    await world.catch_up()
    assert await world.status(invoice) == "processing"
    assert (await world.events(invoice.id)).count(EventType.INVOICE_ON_HOLD.value) == 2


async def test_release__the_late_hold_of_an_invoice_held_by_hand__stays_on_hold(db: Database) -> None:
    world = await World.on(db)
    invoice = await expired(world)
    world.pay(invoice)
    world.mine(5)
    await world.catch_up()
    manual = await place(world, invoice)
    late = next(h for h in await holds_of(world, invoice) if h.stop.reason is HoldReason.LATE)
    await release(world, late)
    view = await world.view(invoice.id)
    assert "on_hold" in view["exceptions"]
    assert view["status"] != "settled"
    await release(world, manual)
    view = await world.view(invoice.id)
    assert (view["status"], view["exceptions"]) == ("settled", ["late"])


async def test_place_and_release__a_closed_invoice__are_refused(db: Database) -> None:
    world = await World.on(db)
    invoice = await world.invoice()
    hold = await place(world, invoice)
    async with db.write() as conn:
        await world.operating.cancel(conn, invoice.id, world.by())
    with pytest.raises(Conflict, match="is canceled; its hold stops nothing"):
        await release(world, hold)
    with pytest.raises(Conflict, match="is canceled; there is nothing left to hold"):
        await place(world, invoice)


async def test_release__nothing_known__is_not_found(db: Database) -> None:
    world = await World.on(db)
    async with db.write() as conn:
        with pytest.raises(NotFound, match="there is no hold"):
            await world.operating.release_hold(conn, HoldId("hld_" + "0" * 26), world.by())


async def test_release__on_a_halted_chain__settles_once_it_is_resumed(db: Database) -> None:
    world = await World.on(db)
    invoice = await world.invoice()
    hold = await place(world, invoice)
    world.pay(invoice)
    world.mine(5)
    await world.catch_up()
    await halt(world)
    await release(world, hold)
    assert await world.status(invoice) == "processing"
    async with db.write() as conn:
        await chains.resume(conn, CHAIN_ID, now=world.clock.now(), who="ada", reason="looked at it")
    await world.expire()
    assert await world.status(invoice) == "settled"


# Cancel


async def test_cancel__processing__is_refused(db: Database) -> None:
    world = await World.on(db)
    invoice = await world.invoice()
    world.pay(invoice)
    world.mine()
    await world.catch_up()
    async with db.write() as conn:
        with pytest.raises(Conflict, match="is processing; only a pending"):
            await world.operating.cancel(conn, invoice.id, world.by())
    assert await world.status(invoice) == InvoiceStatus.PROCESSING.value


async def test_cancel__again__is_refused_and_tells_nothing(db: Database) -> None:
    world = await World.on(db)
    invoice = await world.invoice()
    async with db.write() as conn:
        await world.operating.cancel(conn, invoice.id, world.by("sold out"))
    async with db.write() as conn:
        with pytest.raises(Conflict, match="canceled already"):
            await world.operating.cancel(conn, invoice.id, world.by("sold out"))
    assert await world.events(invoice.id) == ["invoice.created", "invoice.canceled"]
    assert await actions(world) == [("invoice.cancel", invoice.id, "ada", "sold out")]
