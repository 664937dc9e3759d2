"""Payments that say what they are for, and payments of an expected sender, over the simulated world and the store."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from eth_utils.crypto import keccak

from chains.errors import ChainError
from chains.model import Address, Label, LabelKind, LogQuery, SpanRead
from chains.simulated import SimTransfer
from settler.domain.drafting import OptionRequest
from settler.domain.errors import Conflict
from settler.domain.invoices import Allocation, Invoice, Match, TransferRecord, UnmatchedReason
from settler.domain.settlement import InvoicePolicy
from settler.storage import schema
from settler.storage.engine import Database
from tests.support.lying import liar
from tests.support.world import PAYER, World

SHOP = Address(b"\x05" * 20)
OTHER_PAYER = Address(b"\x0b" * 20)
NONCE, OTHER_NONCE = b"\x0e" * 32, b"\x0f" * 32
REQUEST = bytes.fromhex("a0098add01acc736")


def by(match: Match, **changes: Any) -> OptionRequest:
    return OptionRequest(**({"chain": "anvil", "token": "USDC", "pay_to": SHOP, "match": match} | changes))


async def referenced(world: World, reference: bytes = NONCE, amount: str = "100", **changes: Any) -> Invoice:
    return await world.invoice(amount, options=[by(Match.REFERENCE, reference=reference, **changes)])


def labelled(
    world: World,
    amount: str,
    *keys: bytes,
    kind: LabelKind = LabelKind.AUTHORIZATION,
    sender: Address = PAYER,
    to: Address = SHOP,
) -> SimTransfer:
    labels = tuple(Label(kind=kind, key=key) for key in keys)
    return replace(world.sim_transfer(to, amount, sender=sender), labels=labels)


async def sent(world: World, *transfers: SimTransfer) -> list[TransferRecord]:
    """Each in a transaction of its own, mined, and everything done that follows."""
    for each in transfers:
        world.send(each)
    world.mine(5)
    await world.catch_up()
    return (await world.transfers())[-len(transfers) :]


async def test_reference__at_a_shared_address__finds_its_invoice_and_is_kept_as_evidence(db: Database) -> None:
    world = await World.on(db)
    first, second = await referenced(world, NONCE), await referenced(world, OTHER_NONCE)
    (payment,) = await sent(world, labelled(world, "100", OTHER_NONCE))
    assert [await world.status(i) for i in (first, second)] == ["pending", "settled"]
    assert payment.evidence == {
        "strategy": "reference",
        "candidates": [second.id],
        "labels": [{"kind": "eip3009", "key": "0x" + OTHER_NONCE.hex()}],
    }


async def test_request_reference__is_found_by_its_hash(db: Database) -> None:
    """Request Network's event holds keccak-256 of the reference, never the reference."""
    world = await World.on(db)
    invoice = await referenced(world, REQUEST)
    await sent(world, labelled(world, "100", keccak(REQUEST), kind=LabelKind.REQUEST))
    assert await world.status(invoice) == "settled"


async def test_money_without_a_reference__is_nobodys(db: Database) -> None:
    world = await World.on(db)
    invoice = await referenced(world)
    (stray,) = await sent(world, labelled(world, "100"))
    assert (stray.allocation, stray.reason) == (Allocation.UNMATCHED, UnmatchedReason.NO_INVOICE)
    assert await world.status(invoice) == "pending"


async def test_reference_at_another_watched_address__names_nothing(db: Database) -> None:
    world = await World.on(db)
    invoice, elsewhere = await referenced(world), await referenced(world, OTHER_NONCE, pay_to=world.address())
    to = elsewhere.options[0].pay_to
    (stray,) = await sent(world, labelled(world, "100", NONCE, to=to))
    assert stray.reason is UnmatchedReason.NO_INVOICE
    assert await world.status(invoice) == "pending"


async def test_same_nonce_of_two_payers__the_one_that_is_expected_pays(db: Database) -> None:
    """An authorization's nonce is its payer's own: two may use the same."""
    world = await World.on(db)
    invoice = await referenced(world, payer=PAYER)
    stray, paid = await sent(
        world, labelled(world, "100", NONCE, sender=OTHER_PAYER), labelled(world, "100", NONCE, sender=PAYER)
    )
    assert (stray.reason, paid.invoice_id) == (UnmatchedReason.NO_INVOICE, invoice.id)
    assert await world.status(invoice) == "settled"


async def test_same_nonce_of_two_payers__nobody_expected__the_second_is_surplus(db: Database) -> None:
    world = await World.on(db)
    invoice = await referenced(world)
    await sent(world, labelled(world, "100", NONCE))
    (second,) = await sent(world, labelled(world, "100", NONCE, sender=OTHER_PAYER))
    assert (second.reason, second.evidence["candidates"]) == (UnmatchedReason.SURPLUS, [invoice.id])


async def test_payment_that_names_two_invoices__is_ambiguous(db: Database) -> None:
    world = await World.on(db)
    two = [await referenced(world, NONCE), await referenced(world, OTHER_NONCE)]
    (stray,) = await sent(world, labelled(world, "100", NONCE, OTHER_NONCE))
    assert stray.reason is UnmatchedReason.AMBIGUOUS
    assert sorted(stray.evidence["candidates"]) == sorted(i.id for i in two)


async def test_reference_of_a_settled_invoice__is_not_given_to_the_one_of_that_amount(db: Database) -> None:
    world = await World.on(db)
    paid = await referenced(world)
    await sent(world, labelled(world, "100", NONCE))
    waiting = await world.invoice("100", options=[by(Match.PAYER, payer=PAYER)])
    (again,) = await sent(world, labelled(world, "100", NONCE))
    assert (again.reason, again.evidence["candidates"]) == (UnmatchedReason.SURPLUS, [paid.id])
    assert await world.status(waiting) == "pending"


async def test_one_reference_of_two_invoices__the_second_is_refused_and_leaves_nothing(db: Database) -> None:
    world = await World.on(db)
    await referenced(world)
    before = await world.count(schema.invoices), await world.count(schema.invoice_options)
    with pytest.raises(Conflict, match="reference"):
        await referenced(world)
    assert (await world.count(schema.invoices), await world.count(schema.invoice_options)) == before
    await referenced(world, pay_to=world.address())


async def test_expected_payer__among_others_at_a_shared_address(db: Database) -> None:
    world = await World.on(db)
    mine = await world.invoice("100", options=[by(Match.PAYER, payer=PAYER)])
    other = await world.invoice("100", options=[by(Match.PAYER, payer=OTHER_PAYER)])
    stranger = Address(b"\x77" * 20)
    paid, short, stray = await sent(
        world,
        labelled(world, "100"),
        labelled(world, "99.99", sender=OTHER_PAYER),
        labelled(world, "100", sender=stranger),
    )
    assert (paid.evidence["strategy"], paid.invoice_id) == ("payer", mine.id)
    assert (short.reason, short.evidence["candidates"]) == (UnmatchedReason.WRONG_AMOUNT, [other.id])
    assert stray.reason is UnmatchedReason.NO_INVOICE
    assert [await world.status(i) for i in (mine, other)] == ["settled", "pending"]


async def test_expected_payer__within_the_tolerance(db: Database) -> None:
    policy = InvoicePolicy(underpayment_tolerance_bps=100, underpayment_tolerance_max=10**18)
    world = await World.on(db, policy=policy)
    invoice = await world.invoice("100", options=[by(Match.PAYER, payer=PAYER)])
    await sent(world, labelled(world, "99"))
    assert await world.status(invoice) == "settled"


async def test_two_invoices_of_one_payer__is_ambiguous(db: Database) -> None:
    world = await World.on(db)
    for _ in range(2):
        await world.invoice("100", options=[by(Match.PAYER, payer=PAYER)])
    (stray,) = await sent(world, labelled(world, "100"))
    assert stray.reason is UnmatchedReason.AMBIGUOUS


async def test_liar_gives_another_reference__the_second_reading_puts_it_right(db: Database) -> None:
    """The first reading asks one provider: what it says a payment is for is provisional like all it says."""
    world = await World.on(db, providers=3, quorum=2)
    named, meant = await referenced(world, OTHER_NONCE), await referenced(world, NONCE)

    def relabels(read: SpanRead, _: LogQuery) -> SpanRead:
        lie = (Label(kind=LabelKind.AUTHORIZATION, key=OTHER_NONCE),)
        return replace(read, transfers=tuple(replace(t, labels=lie) for t in read.transfers))

    liar(world, 0).lie_of_span = relabels
    world.send(labelled(world, "100", NONCE))
    world.mine()
    await world.watch()
    assert [await world.status(i) for i in (named, meant)] == ["processing", "pending"]
    world.mine(5)
    for _ in range(3):
        # the third is asked when the two differ; which height it has reached is looked up first
        world.clock.advance(61.0)
        await world.watch()
        with suppress(ChainError):
            await world.settle()
    assert [await world.status(i) for i in (named, meant)] == ["pending", "settled"]
    assert (await world.events(named.id))[-1] == "invoice.pending"
    assert world.counted.disagreements["node-0"] >= 1


async def test_mined_again_elsewhere__is_the_same_payment_with_its_reference(db: Database) -> None:
    world = await World.on(db)
    invoice = await referenced(world)
    world.send(labelled(world, "100", NONCE))
    world.mine(1)
    await world.watch()
    world.it.chain.reorg(2, shift=1, length=3)
    world.mine(5)
    await world.catch_up()
    assert await world.status(invoice) == "settled"
    assert await world.count(schema.transfers) == 1
