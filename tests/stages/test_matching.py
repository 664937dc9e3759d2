"""Which invoice money goes to, over the simulated world and the real store."""

from __future__ import annotations

import pytest

from chains.model import ChainId
from chains.simulated_chain import START_TIME
from settler.domain.drafting import OptionRequest
from settler.domain.invoices import Allocation, Match, TransferRecord, TransferStatus, UnmatchedReason
from settler.storage import schema
from settler.storage.engine import Database
from tests.support.world import World, token

OTHER = ChainId(8453)


async def last(world: World) -> TransferRecord:
    return (await world.transfers())[-1]


async def two_chains(db: Database) -> World:
    world = await World.on(db)
    await world.add_chain("base", tokens=[token(chain_id=OTHER)], seed=2)
    return world


async def test_other_token__is_wrong_asset_and_settles_nothing(db: Database) -> None:
    world = await World.on(db, tokens=[token(), token("DAI", decimals=18)])
    to = world.address()
    invoice = await world.invoice(options=[OptionRequest(chain="anvil", token="USDC", pay_to=to, match=Match.ADDRESS)])
    world.send(world.sim_transfer(to, "100", token=world.it.setup.tokens[1]))
    world.mine(5)
    await world.catch_up()
    stray = await last(world)
    assert (stray.reason, stray.status) == (UnmatchedReason.WRONG_ASSET, TransferStatus.FINAL)
    assert stray.evidence == {"candidates": [invoice.id]}
    assert await world.status(invoice) == "pending"


async def test_other_chain__is_wrong_asset(db: Database) -> None:
    world = await two_chains(db)
    to = world.address()
    invoice = await world.invoice(options=[OptionRequest(chain="anvil", token="USDC", pay_to=to, match=Match.ADDRESS)])
    world.send(world.sim_transfer(to, "100", token=world.chains["base"].setup.tokens[0]), on="base")
    world.mine(5, on="base")
    await world.catch_up()
    assert (await last(world)).reason is UnmatchedReason.WRONG_ASSET
    assert await world.status(invoice) == "pending"


async def test_token_nobody_configured__is_ignored(db: Database) -> None:
    world = await World.on(db)
    invoice = await world.invoice()
    world.send(world.sim_transfer(invoice.options[0].pay_to, 100, token=token("SCAM")))
    world.mine(5)
    await world.catch_up()
    assert await world.transfers() == []


async def test_address_of_two_open_invoices__is_ambiguous_and_kept_in_suspense(db: Database) -> None:
    world = await World.on(db)
    to = world.address()
    both = [await world.invoice(pay_to=to) for _ in range(2)]
    world.send(world.sim_transfer(to, "100"))
    world.mine(5)
    await world.catch_up()
    stray = await last(world)
    assert stray.reason is UnmatchedReason.AMBIGUOUS
    assert set(stray.evidence["candidates"]) == {i.id for i in both}
    assert [await world.status(i) for i in both] == ["pending", "pending"]
    assert await world.events(stray.id) == ["transfer.unmatched", "transfer.unmatched"]


async def test_address_used_again_after_settling__pays_the_next_invoice(db: Database) -> None:
    world = await World.on(db)
    to = world.address()
    for _ in range(3):
        invoice = await world.invoice(pay_to=to)
        world.send(world.sim_transfer(to, "100"))
        world.mine(5)
        await world.catch_up()
        assert await world.status(invoice) == "settled"
    assert await world.count(schema.settlements) == 3


async def test_money_older_than_the_invoice__is_not_meant_for_it(db: Database) -> None:
    """An address is used again; what reached it before, and is read only now, is not the new invoice's money."""
    world = await World.on(db)
    first = await world.invoice()
    await world.catch_up()
    async with db.write() as conn:
        await world.operating.cancel(conn, first.id, world.by("test"))
    world.send(world.sim_transfer(first.options[0].pay_to, "100"))
    world.mine()
    await world.it.watch.tick()  # has seen the head: the invoice is made now
    second = await world.invoice(pay_to=first.options[0].pay_to)
    world.mine(5)
    await world.catch_up()
    assert (await last(world)).reason is UnmatchedReason.NO_INVOICE
    assert await world.status(second) == "pending"
    world.pay(second)
    world.mine(5)
    await world.catch_up()
    assert await world.status(second) == "settled"


async def test_cancel__releases_what_was_paid_into_suspense(db: Database) -> None:
    world = await World.on(db)
    invoice = await world.invoice()
    world.pay(invoice, "40")
    world.mine()
    await world.catch_up()
    async with db.write() as conn:
        await world.operating.cancel(conn, invoice.id, world.by("sold out"))
    (released,) = await world.transfers()
    assert (released.allocation, released.reason) == (Allocation.UNMATCHED, UnmatchedReason.NO_INVOICE)
    world.mine(5)
    world.pay(invoice, "60")
    world.mine(5)
    await world.catch_up()
    assert [t.reason for t in await world.transfers()] == [UnmatchedReason.NO_INVOICE] * 2
    assert await world.status(invoice) == "canceled"
    assert await world.count(schema.settlements) == 0
    assert await world.events(invoice.id) == ["invoice.created", "invoice.canceled"]


# Unique amounts on a shared address


async def test_unique_amounts__three_invoices__each_payment_finds_its_own(db: Database) -> None:
    world = await World.on(db)
    to = world.address()
    three = [await world.invoice("100", match=Match.AMOUNT, pay_to=to) for _ in range(3)]
    assert [i.options[0].amount_base for i in three] == [100_000_001, 100_000_002, 100_000_003]
    for n in (2, 0, 1):
        world.pay(three[n])
        world.mine(5)
        await world.catch_up()
        assert await world.status(three[n]) == "settled"
    assert (await world.view(three[1].id))["amount_settled"] == "100.000002"


async def test_unique_amounts__any_other_amount__is_wrong_amount(db: Database) -> None:
    world = await World.on(db)
    invoice = await world.invoice("100", match=Match.AMOUNT)
    for amount in ("100", "100.000002", "0.000001"):
        world.pay(invoice, amount)
    world.mine(5)
    await world.catch_up()
    assert [t.reason for t in await world.transfers()] == [UnmatchedReason.WRONG_AMOUNT] * 3
    assert await world.status(invoice) == "pending"


async def test_unique_amounts__paid_twice__the_second_is_surplus(db: Database) -> None:
    world = await World.on(db)
    to = world.address()
    invoice = await world.invoice("100", match=Match.AMOUNT, pay_to=to)
    other = await world.invoice("100", match=Match.AMOUNT, pay_to=to)
    for _ in range(2):
        world.pay(invoice)
        world.mine(5)
        await world.catch_up()
    assert (await last(world)).reason is UnmatchedReason.SURPLUS
    assert [await world.status(i) for i in (invoice, other)] == ["settled", "pending"]


async def test_unique_amounts__monitoring_ended__the_amount_is_free_again(db: Database) -> None:
    world = await World.on(db)
    to = world.address()
    first = await world.invoice("100", match=Match.AMOUNT, pay_to=to, expires_in_s=60)
    world.clock.advance(60 + 86_400)
    still = await world.invoice("100", match=Match.AMOUNT, pay_to=to)
    world.clock.advance(1)
    again = await world.invoice("100", match=Match.AMOUNT, pay_to=to)
    asked = [i.options[0].amount_base - 100_000_000 for i in (first, still, again)]
    assert asked == [1, 2, 1]
    seconds = int((world.clock.now() - START_TIME).total_seconds())
    world.pay(again)
    world.mine(5, after_s=seconds)
    await world.catch_up()
    assert [await world.status(i) for i in (first, still, again)] == ["expired", "pending", "settled"]


async def test_unique_amounts__canceled__its_payer_does_not_pay_for_somebody_else(db: Database) -> None:
    """Found by reading: canceling freed the unique amount at once, the next invoice of that price got the very same
    one, and the first customer, who had the old amount on the screen, paid the second customer's invoice."""
    world = await World.on(db)
    to = world.address()
    canceled = await world.invoice("100", match=Match.AMOUNT, pay_to=to)
    async with db.write() as conn:
        await world.operating.cancel(conn, canceled.id, world.by("sold out"))
    next_one = await world.invoice("100", match=Match.AMOUNT, pay_to=to)
    assert next_one.options[0].amount_base != canceled.options[0].amount_base
    world.pay(canceled)
    world.mine(5)
    await world.catch_up()
    assert (await last(world)).allocation is Allocation.UNMATCHED
    assert await world.status(next_one) == "pending"


# Several ways to pay


async def test_two_tokens_of_6_and_18_decimals__add_up_at_par(db: Database) -> None:
    world = await World.on(db, tokens=[token(), token("DAI", decimals=18)])
    invoice = await world.invoice("100")
    world.pay(invoice, "60.5")
    world.pay(invoice, "39.499999999999999999", option=1)
    world.mine(5)
    await world.catch_up()
    assert (await world.view(invoice.id))["status"] == "pending"
    world.pay(invoice, "0.5", option=1)
    world.mine(5)
    await world.catch_up()
    view = await world.view(invoice.id)
    assert (view["status"], view["exceptions"], view["amount_received"]) == (
        "settled",
        ["overpaid"],
        "100.499999999999999999",
    )
    assert view["amount_settled"] == "100.00"
    by_token = {
        symbol: sum(a for _, t, a in world.counted.settled_amounts if t == symbol) for symbol in ("USDC", "DAI")
    }
    assert by_token == {"USDC": 60_500_000, "DAI": 395 * 10**17}


async def test_two_chains__parts_add_up_and_settle_when_the_slower_is_final(db: Database) -> None:
    world = await two_chains(db)
    invoice = await world.invoice("100")
    world.pay(invoice, "60", option=0)
    world.pay(invoice, "40", option=1)
    world.mine(5, on="anvil")
    world.mine(1, on="base")
    await world.catch_up()
    assert await world.status(invoice) == "processing"
    world.mine(5, on="base")
    await world.catch_up()
    view = await world.view(invoice.id)
    assert (view["status"], view["amount_settled"]) == ("settled", "100.00")
    assert {p["chain"] for p in view["payments"]} == {"anvil", "base"}


@pytest.mark.parametrize("amounts", [("100", "100"), ("100", "30")])
async def test_paid_on_both_chains__one_settlement_and_the_rest_is_kept_apart(
    db: Database, amounts: tuple[str, str]
) -> None:
    world = await two_chains(db)
    invoice = await world.invoice("100")
    world.pay(invoice, amounts[0], option=0)
    world.pay(invoice, amounts[1], option=1)
    world.mine(5, on="anvil")
    world.mine(5, on="base")
    await world.catch_up()
    view = await world.view(invoice.id)
    assert (view["status"], view["amount_settled"]) == ("settled", "100.00")
    assert await world.count(schema.settlements) == 1


async def test_money_that_comes_back_to_an_invoice_settled_meanwhile__is_surplus(db: Database) -> None:
    world = await World.on(db)
    await world.catch_up()
    invoice = await world.invoice("100")
    first = world.pay(invoice)
    world.mine()
    await world.watch()
    world.it.chain.reorg(1, drop=[first.hash], length=2)
    await world.watch()
    world.pay(invoice)
    world.mine(4)
    await world.catch_up()
    assert await world.status(invoice) == "settled"
    world.it.chain.mine([first])
    world.mine(4)
    await world.catch_up()
    back = await last(world)
    assert (back.identity.tx_hash, back.reason) == (first.hash, UnmatchedReason.SURPLUS)
    assert (await world.view(invoice.id))["amount_received"] == "100.00"
