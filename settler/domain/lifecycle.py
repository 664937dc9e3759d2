"""The arrows between invoice states. Pure; `assess` says where an invoice stands, this says what changes.

pending ──▶ processing ──▶ settled ──▶ reversed ──▶ settled   (paid again, final again, the chain resumed)
   │  ▲          │
   │  └──────────┤  a reorg took the money
   ├──▶ expired ◀┘
   │       └──▶ processing | settled   paid in time after all, or late and accepted
   └──▶ canceled
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from settler.domain.events import EventType
from settler.domain.invoices import Invoice, InvoiceException, InvoiceStatus
from settler.domain.settlement import Expire, Hold, Outcome, Processing, Settle, Waiting


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The state an invoice is in after an outcome, and the events that tell of it."""

    status: InvoiceStatus
    exceptions: frozenset[InvoiceException]
    events: tuple[EventType, ...]
    """One for a new status, one for a hold that begins: an invoice may expire and be held in one step."""

    def changes(self, invoice: Invoice) -> bool:
        return (self.status, self.exceptions) != (invoice.status, invoice.exceptions)


def advance(invoice: Invoice, outcome: Outcome) -> Step:
    """The step an outcome asks of an open invoice. Idempotent: the same outcome again changes nothing."""
    before = invoice.status
    was_held = InvoiceException.ON_HOLD in invoice.exceptions
    match outcome:
        case Settle():
            after = InvoiceStatus.SETTLED
        case Processing() | Hold(is_paid=True):
            after = before if before is InvoiceStatus.REVERSED else InvoiceStatus.PROCESSING
        case Expire() | Hold(expire=True):
            after = before if before is InvoiceStatus.REVERSED else InvoiceStatus.EXPIRED
        case Waiting() | Hold():
            after = InvoiceStatus.PENDING if before is InvoiceStatus.PROCESSING else before
        case _:
            assert_never(outcome)
    entered = (_ENTERING[after],) if after is not before else ()
    is_held = InvoiceException.ON_HOLD in outcome.exceptions
    held = (EventType.INVOICE_ON_HOLD,) if is_held and not was_held else ()
    return Step(status=after, exceptions=outcome.exceptions | _kept(invoice), events=entered + held)


def _kept(invoice: Invoice) -> frozenset[InvoiceException]:
    """An operator's mark is not ours to take away."""
    return invoice.exceptions & {InvoiceException.MARKED}


_ENTERING = {
    InvoiceStatus.PENDING: EventType.INVOICE_PENDING,
    InvoiceStatus.PROCESSING: EventType.INVOICE_PROCESSING,
    InvoiceStatus.SETTLED: EventType.INVOICE_SETTLED,
    InvoiceStatus.EXPIRED: EventType.INVOICE_EXPIRED,
    InvoiceStatus.CANCELED: EventType.INVOICE_CANCELED,
    InvoiceStatus.REVERSED: EventType.INVOICE_REVERSED,
}
