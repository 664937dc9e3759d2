"""Money sent back: which log of the chain shows it, and how much of a payment may go. Pure.

    payment 100 ──▶ unmatched, dismissed              100 may go back, from suspense
                    on an invoice that is over        100, from suspense; it leaves the invoice
                    on a settled invoice, 30 surplus   30, from that surplus
                    on any other invoice                0: it is still meant for it

What was sent back before is taken off. `over`: expired, canceled, reversed, or held, where an operator declines.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from chains.model import Address, BaseUnits, Transfer, TxHash
from settler.domain.errors import Conflict
from settler.domain.ids import RefundId, SettlementId, derived_id
from settler.domain.invoices import (
    Allocation,
    Invoice,
    InvoiceException,
    InvoiceStatus,
    TransferRecord,
    UnmatchedReason,
)
from settler.domain.records import Refund, Settlement

_OVER = frozenset({InvoiceStatus.EXPIRED, InvoiceStatus.CANCELED, InvoiceStatus.REVERSED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Refundable:
    """What may be sent back of one payment."""

    left: BaseUnits
    """Above zero."""
    settlement_id: SettlementId | None
    """Whose surplus it is; `None`: it is in suspense."""
    leaves_invoice: bool
    """It is allocated to an invoice, and counts for it no more once anything of it was sent back."""


def refundable(
    payment: TransferRecord, invoice: Invoice | None, settlement: Settlement | None, before: Sequence[Refund]
) -> Refundable:
    """What may be sent back of the payment. Raises `Conflict` where that is nothing.

    `invoice`: the one it is allocated to; `settlement`: the one in force of that invoice. `before`: all refunds of the
    payment.
    """
    if not payment.is_final:
        raise Conflict("transfer", f"{payment.id} is {payment.status}; only a final payment can be sent back")
    if not payment.moves_money:
        raise Conflict("transfer", f"{payment.id} moved no money; there is nothing to send back")
    rest = payment.identity.amount - sum(r.amount for r in before)
    if invoice is None or invoice.status is not InvoiceStatus.SETTLED:
        if invoice is not None and not _is_over(invoice):
            raise Conflict(
                "invoice",
                f"{payment.id} pays {invoice.id}, which is {invoice.status}; cancel that, or wait until it expires",
            )
        return _some(payment, rest, settlement_id=None, leaves_invoice=invoice is not None)
    assert settlement is not None, f"{invoice.id} is settled by no settlement"
    lines = [line for line in settlement.lines if line.transfer_id == payment.id]
    if not lines:  # it was settled without this one, whose money is still in suspense
        return _some(payment, rest, settlement_id=None, leaves_invoice=True)
    surplus = sum(line.amount_surplus for line in lines)
    if surplus == 0:
        raise Conflict("transfer", f"{payment.id} was settled on {invoice.id} to the last unit; none of it is surplus")
    given = sum(r.amount for r in before if r.settlement_id == settlement.id)
    return _some(payment, min(rest, surplus - given), settlement_id=settlement.id, leaves_invoice=False)


def _is_over(invoice: Invoice) -> bool:
    return invoice.status in _OVER or InvoiceException.ON_HOLD in invoice.exceptions


def _some(
    payment: TransferRecord, left: int, *, settlement_id: SettlementId | None, leaves_invoice: bool
) -> Refundable:
    if left <= 0:
        raise Conflict("transfer", f"{payment.id} was sent back already, as far as it could be")
    return Refundable(left=BaseUnits(left), settlement_id=settlement_id, leaves_invoice=leaves_invoice)


def returned(
    payment: TransferRecord,
    shown: Iterable[Transfer],
    tx_hash: TxHash,
    *,
    ours: Collection[Address],
    log_index: int | None = None,
) -> Transfer:
    """The one transfer of that transaction that sends money of the payment's token away from us.

    `shown`: the token's transfers of its block. `ours`: our own addresses; money moved among them is not sent back.
    `log_index`: which of several. Raises `Conflict` where there is none, or more than one.
    """
    if tx_hash == payment.identity.tx_hash:
        raise Conflict("tx", f"0x{tx_hash.hex()} is the payment itself; give the transaction that sent it back")
    away = [t for t in shown if _is_away(t, payment.identity.token, tx_hash, ours)]
    chosen = away if log_index is None else [t for t in away if t.log_index == log_index]
    if not chosen:
        place = "" if log_index is None else f" as log {log_index}"
        found = f"; logs {_listed(away)} do" if away else ""
        raise Conflict("tx", f"0x{tx_hash.hex()} sends none of the token to anybody else{place}{found}")
    if len(chosen) > 1:
        raise Conflict(
            "tx",
            f"0x{tx_hash.hex()} has {len(chosen)} transfers of the token; say which with --log-index: {_listed(away)}",
        )
    if chosen[0].block_number < payment.block_number:
        raise Conflict(
            "tx",
            f"0x{tx_hash.hex()} is in block {chosen[0].block_number}, before the payment came in block "
            f"{payment.block_number}; give the transaction that sent it back",
        )
    return chosen[0]


def _is_away(shown: Transfer, token: Address, tx_hash: TxHash, ours: Collection[Address]) -> bool:
    i = shown.identity
    is_money = i.amount > 0 and i.sender != i.recipient
    return (i.tx_hash, i.token) == (tx_hash, token) and is_money and i.recipient not in ours


def _listed(found: Iterable[Transfer]) -> str:
    return ", ".join(str(t.log_index) for t in found)


def refund(payment: TransferRecord, may: Refundable, sent: Transfer, *, now: datetime, who: str, reason: str) -> Refund:
    """The record of it. Raises `Conflict` if more was sent than may go back."""
    i = sent.identity
    if i.amount > may.left:
        raise Conflict(
            "tx",
            f"0x{i.tx_hash.hex()} sends {i.amount} base units, of {payment.id} only {may.left} can be sent back; "
            "give another transfer",
        )
    return Refund(
        id=RefundId(derived_id("rfd", now, i.chain_id, i.tx_hash.hex(), sent.log_index)),
        transfer_id=payment.id,
        settlement_id=may.settlement_id,
        chain_id=i.chain_id,
        token=i.token,
        tx_hash=i.tx_hash,
        log_index=sent.log_index,
        block_number=sent.block_number,
        block_hash=sent.block_hash,
        sender=i.sender,
        recipient=i.recipient,
        amount=i.amount,
        refunded_at=now,
        refunded_by=who,
        reason=reason,
    )


def after_refund(payment: TransferRecord, may: Refundable, refunds: Sequence[Refund]) -> TransferRecord:
    """The payment once `refunds`, all of it, are recorded: dismissed when nothing is left of it, else as it was, but
    for its invoice.
    """
    told = [
        {"id": r.id, "tx_hash": f"0x{r.tx_hash.hex()}", "log_index": r.log_index, "amount_base": str(r.amount)}
        for r in refunds
    ]
    after = detached(payment) if may.leaves_invoice else payment
    after = replace(after, evidence={**after.evidence, "refunds": told}, version=payment.version + 1)
    is_gone = sum(r.amount for r in refunds) == payment.identity.amount
    if is_gone and after.allocation is not Allocation.INVOICE:
        return replace(after, allocation=Allocation.DISMISSED, reason=None)
    return after


def detached(payment: TransferRecord) -> TransferRecord:
    """The payment taken off its invoice, with what it was before."""
    return replace(
        payment,
        allocation=Allocation.UNMATCHED,
        reason=UnmatchedReason.NO_INVOICE,
        invoice_id=None,
        evidence={"candidates": [payment.invoice_id], "before": before(payment)},
        version=payment.version + 1,
    )


def before(transfer: TransferRecord) -> dict[str, object]:
    """How it was allocated until an operator decided otherwise: what a later reader of the evidence asks first."""
    return {
        "allocation": transfer.allocation.value,
        "reason": None if transfer.reason is None else transfer.reason.value,
        "invoice_id": transfer.invoice_id,
        "evidence": dict(transfer.evidence),
    }
