"""Double-entry postings; every entry's lines sum to zero per (chain, token). Pure (RULES.md section 5).

    receipt      received  debit   suspense credit             a transfer is final
    settlement   suspense  debit   settled  credit, surplus credit
    reversal     the settlement's lines with debit and credit exchanged
    unreceipt    the receipt's lines with debit and credit exchanged: the chain dropped a final transfer
    refund       suspense or surplus  debit   refunded credit   money was sent back

`suspense` holds all money that has arrived and neither a settlement nor a refund has taken, allocated to an invoice or
not; so at any moment
Σ received = Σ settled + Σ surplus + Σ suspense + Σ refunded, per (chain, token).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from chains.model import Address, BaseUnits, ChainId
from settler.domain.ids import InvoiceId, SettlementId, TransferId
from settler.domain.invoices import TransferRecord
from settler.domain.settlement import SettledPart


class Account(StrEnum):
    RECEIVED = "received"
    """What arrived at our addresses, final. Debit balance."""
    SUSPENSE = "suspense"
    SETTLED = "settled"
    """What was owed and is paid."""
    SURPLUS = "surplus"
    """What was paid beyond what was owed, on a settled invoice, and is still here."""
    REFUNDED = "refunded"
    """What was sent back."""


class Side(StrEnum):
    DEBIT = "debit"
    CREDIT = "credit"


class EntryKind(StrEnum):
    RECEIPT = "receipt"
    UNRECEIPT = "unreceipt"
    SETTLEMENT = "settlement"
    REVERSAL = "reversal"
    REFUND = "refund"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    account: Account
    side: Side
    chain_id: ChainId
    token: Address
    amount: BaseUnits
    """Above zero."""
    transfer_id: TransferId
    invoice_id: InvoiceId | None
    settlement_id: SettlementId | None


def receipt(transfer: TransferRecord) -> tuple[Line, ...]:
    """A final transfer of money (not of zero) arrives."""
    return _balanced(
        (
            _line(transfer, Account.RECEIVED, Side.DEBIT, transfer.identity.amount, None),
            _line(transfer, Account.SUSPENSE, Side.CREDIT, transfer.identity.amount, None),
        )
    )


def settlement(settlement_id: SettlementId, parts: Sequence[SettledPart]) -> tuple[Line, ...]:
    """An invoice is settled from its payments."""
    return _balanced(line for part in parts for line in _part_lines(settlement_id, part))


def refund(transfer: TransferRecord, amount: BaseUnits, settlement_id: SettlementId | None) -> tuple[Line, ...]:
    """Part of a payment was sent back: of the surplus of that settlement, or, without one, of what is in suspense."""
    taken_from = Account.SUSPENSE if settlement_id is None else Account.SURPLUS
    return _balanced(
        (
            _line(transfer, taken_from, Side.DEBIT, amount, settlement_id),
            _line(transfer, Account.REFUNDED, Side.CREDIT, amount, settlement_id),
        )
    )


def contra(lines: Iterable[Line]) -> tuple[Line, ...]:
    """The same lines with the sides exchanged: undoes an entry without touching it."""
    return _balanced(
        Line(
            account=line.account,
            side=Side.CREDIT if line.side is Side.DEBIT else Side.DEBIT,
            chain_id=line.chain_id,
            token=line.token,
            amount=line.amount,
            transfer_id=line.transfer_id,
            invoice_id=line.invoice_id,
            settlement_id=line.settlement_id,
        )
        for line in lines
    )


def imbalance(lines: Iterable[Line]) -> dict[tuple[ChainId, Address], int]:
    """Debits less credits per (chain, token), those that are not zero: empty for a balanced entry or a whole ledger."""
    sums: dict[tuple[ChainId, Address], int] = {}
    for line in lines:
        signed = line.amount if line.side is Side.DEBIT else -line.amount
        sums[line.chain_id, line.token] = sums.get((line.chain_id, line.token), 0) + signed
    return {key: total for key, total in sums.items() if total}


def _part_lines(settlement_id: SettlementId, part: SettledPart) -> Iterable[Line]:
    transfer = part.transfer
    yield _line(transfer, Account.SUSPENSE, Side.DEBIT, transfer.identity.amount, settlement_id)
    if part.settled:
        yield _line(transfer, Account.SETTLED, Side.CREDIT, part.settled, settlement_id)
    if part.surplus:
        yield _line(transfer, Account.SURPLUS, Side.CREDIT, part.surplus, settlement_id)


def _line(
    transfer: TransferRecord, account: Account, side: Side, amount: int, settlement_id: SettlementId | None
) -> Line:
    return Line(
        account=account,
        side=side,
        chain_id=transfer.identity.chain_id,
        token=transfer.identity.token,
        amount=BaseUnits(amount),
        transfer_id=transfer.id,
        invoice_id=transfer.invoice_id,
        settlement_id=settlement_id,
    )


def _balanced(lines: Iterable[Line]) -> tuple[Line, ...]:
    entry = tuple(lines)
    assert entry, "an entry needs lines"
    assert not imbalance(entry), f"entry does not sum to zero: {imbalance(entry)}"
    return entry
