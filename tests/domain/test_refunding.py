"""How much of a payment may be sent back, and which log of the chain shows that it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from chains.model import Address, BaseUnits, BlockHash, BlockNumber, Transfer, TxHash
from settler.domain.errors import Conflict
from settler.domain.ids import RefundId, SettlementId
from settler.domain.invoices import (
    Allocation,
    Invoice,
    InvoiceException,
    InvoiceStatus,
    TransferRecord,
    TransferStatus,
    UnmatchedReason,
)
from settler.domain.records import Refund, Settlement, SettlementLine
from settler.domain.refunding import after_refund, detached, refund, refundable, returned
from tests.domain.samples import CHAIN, DAI, PAYER, SHOP, T0, a_transfer, an_identity, an_invoice

SENT = TxHash(b"\x5e" * 32)
COLD = Address(b"\xc0" * 20)
STL = SettlementId("stl_" + "0" * 26)


def suspended(amount: int = 100, **changes: Any) -> TransferRecord:
    return a_transfer(amount, reason=UnmatchedReason.NO_INVOICE, **changes)


def paying(invoice: Invoice, amount: int = 100, **changes: Any) -> TransferRecord:
    return a_transfer(amount, allocation=Allocation.INVOICE, invoice_id=invoice.id, **changes)


def a_refund(payment: TransferRecord, amount: int, **changes: Any) -> Refund:
    made = Refund(
        id=RefundId("rfd_" + "0" * 26),
        transfer_id=payment.id,
        settlement_id=None,
        chain_id=CHAIN,
        token=payment.identity.token,
        tx_hash=SENT,
        log_index=1,
        block_number=BlockNumber(2_000),
        block_hash=BlockHash(b"\xb1" * 32),
        sender=SHOP,
        recipient=PAYER,
        amount=BaseUnits(amount),
        refunded_at=T0,
        refunded_by="ada",
        reason="too much",
    )
    return replace(made, **changes)


def settled(invoice: Invoice, *lines: tuple[TransferRecord, int]) -> Settlement:
    """Of payments and how much of each is surplus."""
    made = [
        SettlementLine(
            transfer_id=t.id,
            chain="base",
            chain_id=CHAIN,
            token="USDC",
            token_address=t.identity.token,
            decimals=6,
            amount_settled=BaseUnits(t.identity.amount - surplus),
            amount_surplus=BaseUnits(surplus),
            tx_hash=t.identity.tx_hash,
            log_index=t.log_index,
            block_number=t.block_number,
            block_hash=t.block_hash,
            payer=PAYER,
            pay_to=SHOP,
        )
        for t, surplus in lines
    ]
    return Settlement(
        id=STL,
        invoice_id=invoice.id,
        generation=1,
        merchant="default",
        reference="order-42",
        currency="USD",
        scale=6,
        amount_requested=invoice.amount,
        amount_settled=sum(line.amount_settled for line in made),
        amount_surplus=sum(line.amount_surplus for line in made),
        policy={},
        settled_at=T0,
        lines=tuple(made),
        reversal=None,
    )


def log(amount: int = 40, *, index: int = 3, tx_hash: TxHash = SENT, block: int = 2_000, **changes: Any) -> Transfer:
    identity = an_identity(tx_hash=tx_hash, amount=BaseUnits(amount), **{"sender": SHOP, "recipient": PAYER, **changes})
    return Transfer(
        identity=identity, block_number=BlockNumber(block), block_hash=BlockHash(b"\xb1" * 32), log_index=index
    )


# How much


@pytest.mark.parametrize("allocation", [Allocation.UNMATCHED, Allocation.DISMISSED])
@pytest.mark.parametrize(("before", "left"), [((), 100), ((30,), 70), ((30, 69), 1)])
def test_suspense__all_but_what_was_sent_back(allocation: Allocation, before: Sequence[int], left: int) -> None:
    payment = suspended(allocation=allocation)
    may = refundable(payment, None, None, [a_refund(payment, n) for n in before])
    assert (may.left, may.settlement_id, may.leaves_invoice) == (left, None, False)


def test_suspense__all_sent_back__is_refused() -> None:
    payment = suspended()
    with pytest.raises(Conflict, match="sent back already"):
        refundable(payment, None, None, [a_refund(payment, 100)])


@pytest.mark.parametrize(
    ("status", "exceptions"),
    [
        (InvoiceStatus.EXPIRED, frozenset()),
        (InvoiceStatus.CANCELED, frozenset()),
        (InvoiceStatus.REVERSED, frozenset()),
        (InvoiceStatus.PROCESSING, frozenset({InvoiceException.ON_HOLD})),
    ],
)
def test_invoice_that_is_over__all_of_it__and_it_leaves(
    status: InvoiceStatus, exceptions: frozenset[InvoiceException]
) -> None:
    invoice = an_invoice(status=status, exceptions=exceptions)
    may = refundable(paying(invoice), invoice, None, [])
    assert (may.left, may.settlement_id, may.leaves_invoice) == (100, None, True)


@pytest.mark.parametrize("status", [InvoiceStatus.PENDING, InvoiceStatus.PROCESSING])
def test_invoice_that_still_waits__is_refused(status: InvoiceStatus) -> None:
    invoice = an_invoice(status=status)
    with pytest.raises(Conflict, match=f"is {status}; cancel that, or wait until it expires"):
        refundable(paying(invoice), invoice, None, [])


def test_settled__the_surplus_of_that_payment() -> None:
    invoice = an_invoice(status=InvoiceStatus.SETTLED)
    exact, over = paying(invoice), paying(invoice)
    settlement = settled(invoice, (exact, 0), (over, 30))
    may = refundable(over, invoice, settlement, [a_refund(over, 10, settlement_id=STL)])
    assert (may.left, may.settlement_id, may.leaves_invoice) == (20, STL, False)
    with pytest.raises(Conflict, match="none of it is surplus"):
        refundable(exact, invoice, settlement, [])
    with pytest.raises(Conflict, match="sent back already"):
        refundable(over, invoice, settlement, [a_refund(over, 30, settlement_id=STL)])


def test_settled_by_other_payments__is_in_suspense_and_leaves() -> None:
    invoice = an_invoice(status=InvoiceStatus.SETTLED)
    beside = paying(invoice)
    may = refundable(beside, invoice, settled(invoice, (paying(invoice), 0)), [])
    assert (may.left, may.settlement_id, may.leaves_invoice) == (100, None, True)


def test_settled_again__what_an_earlier_surplus_gave_back__is_not_given_twice() -> None:
    invoice = an_invoice(status=InvoiceStatus.SETTLED)
    over = paying(invoice)
    earlier = a_refund(over, 90, settlement_id=SettlementId("stl_" + "1" * 26))
    assert refundable(over, invoice, settled(invoice, (over, 30)), [earlier]).left == 10


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"status": TransferStatus.DETECTED}, "only a final payment"),
        ({"status": TransferStatus.ORPHANED}, "only a final payment"),
        ({"amount": 0}, "moved no money"),
        ({"sender": SHOP}, "moved no money"),
    ],
)
def test_no_money_of_ours__is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(Conflict, match=reason):
        refundable(suspended(**{"amount": 100, **changes}), None, None, [])


# By which log


def test_returned__the_only_one_of_the_token_to_somebody_else() -> None:
    wanted = log()
    others = [
        log(index=1, tx_hash=TxHash(b"\x01" * 32)),
        log(index=2, token=DAI),
        log(0, index=4),
        log(index=5, recipient=SHOP),
        log(index=6, recipient=COLD),
    ]
    assert returned(suspended(), [*others, wanted], SENT, ours={SHOP, COLD}) == wanted
    with pytest.raises(Conflict, match=r"none of the token to anybody else$"):
        returned(suspended(), others, SENT, ours={SHOP, COLD})


def test_returned__several__must_be_said_which() -> None:
    first, second = log(40, index=3), log(40, index=8)
    with pytest.raises(Conflict, match="2 transfers of the token; say which with --log-index: 3, 8"):
        returned(suspended(), [first, second], SENT, ours={SHOP})
    assert returned(suspended(), [first, second], SENT, ours={SHOP}, log_index=8) == second
    with pytest.raises(Conflict, match="as log 7; logs 3, 8 do"):
        returned(suspended(), [first, second], SENT, ours={SHOP}, log_index=7)


def test_returned__the_payment_itself_or_something_older__is_refused() -> None:
    payment = suspended()
    with pytest.raises(Conflict, match="the payment itself"):
        returned(payment, [log(tx_hash=payment.identity.tx_hash)], payment.identity.tx_hash, ours={SHOP})
    with pytest.raises(Conflict, match="in block 999, before the payment came in block 1000"):
        returned(payment, [log(block=999)], SENT, ours={SHOP})


# What becomes of it


def test_refund__more_than_is_left__is_refused() -> None:
    payment = suspended()
    may = refundable(payment, None, None, [])
    with pytest.raises(Conflict, match=r"sends 101 base units, of trf_.* only 100 can be sent back"):
        refund(payment, may, log(101), now=T0, who="ada", reason="why")
    made = refund(payment, may, log(100), now=T0, who="ada", reason="why")
    assert (made.amount, made.tx_hash, made.log_index, made.sender) == (100, SENT, 3, SHOP)
    again = refund(payment, may, log(100), now=T0 + timedelta(seconds=1), who="ada", reason="why")
    assert made.id != again.id


def test_after_refund__in_parts__stays_unmatched_until_nothing_is_left() -> None:
    payment = suspended(evidence={"candidates": []})
    may = refundable(payment, None, None, [])
    half, rest = a_refund(payment, 40), a_refund(payment, 60, log_index=2)
    partly = after_refund(payment, may, [half])
    assert (partly.allocation, partly.reason, partly.version) == (Allocation.UNMATCHED, payment.reason, 2)
    assert [r["amount_base"] for r in partly.evidence["refunds"]] == ["40"]
    whole = after_refund(partly, may, [half, rest])
    assert (whole.allocation, whole.reason, whole.version) == (Allocation.DISMISSED, None, 3)
    assert [r["amount_base"] for r in whole.evidence["refunds"]] == ["40", "60"]


def test_after_refund__on_an_invoice_that_is_over__leaves_it_with_the_first_part() -> None:
    invoice = an_invoice(status=InvoiceStatus.EXPIRED)
    payment = paying(invoice, evidence={"strategy": "assigned"})
    after = after_refund(payment, refundable(payment, invoice, None, []), [a_refund(payment, 1)])
    assert (after.allocation, after.invoice_id, after.is_assigned) == (Allocation.UNMATCHED, None, False)
    assert after.evidence["before"]["invoice_id"] == invoice.id
    assert after.version == payment.version + 1
    assert detached(payment).evidence["before"] == after.evidence["before"]


def test_after_refund__of_surplus__stays_with_its_invoice() -> None:
    invoice = an_invoice(status=InvoiceStatus.SETTLED)
    payment = paying(invoice)
    may = refundable(payment, invoice, settled(invoice, (payment, 100)), [])
    after = after_refund(payment, may, [a_refund(payment, 100, settlement_id=STL)])
    assert (after.allocation, after.invoice_id) == (Allocation.INVOICE, invoice.id)
