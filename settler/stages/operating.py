"""What operators decide: to whom money belongs, that an invoice counts as paid, what is stopped and let go on.

Each verb is carried out in the caller's transaction: the decision, what follows from it (an invoice assigned its last
missing payment settles at once, as it would have by matching), its events, and who, when and why.

Rows are locked as the stages lock them, chains before invoices: so no payment that a decision rests on becomes final,
or vanishes, while it is taken. Verbs raise `NotFound` and `Conflict`; whoever calls rolls back then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from sqlalchemy.ext.asyncio import AsyncConnection

from chains.model import ChainId
from settler.domain.errors import Conflict, NotFound
from settler.domain.events import EventType
from settler.domain.ids import HoldId, InvoiceId, TransferId
from settler.domain.invoices import (
    ASSIGNED,
    Allocation,
    Invoice,
    InvoiceStatus,
    TransferRecord,
    UnmatchedReason,
)
from settler.domain.operator import By, Decided
from settler.domain.records import Hold
from settler.domain.refunding import before
from settler.domain.settlement import HoldReason, Stop
from settler.stages.assessing import assess_invoices, settle_by_hand
from settler.stages.setup import Judgement
from settler.storage import chains, holds, invoices, operator_actions, reading, refunds, transfers
from settler.storage.chains import ChainState

_CLOSED = frozenset({InvoiceStatus.SETTLED, InvoiceStatus.CANCELED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Locked:
    """An invoice that nobody else changes until the transaction ends, with what bears on it."""

    invoice: Invoice
    payments: list[TransferRecord]
    """All allocated to it; orphaned ones too."""
    states: Mapping[ChainId, ChainState]
    """Of the chains that were locked with it."""


class Operating:
    """The verbs, judging by the operator's configuration."""

    def __init__(self, judgement: Judgement) -> None:
        self._judgement = judgement

    # -- transfers -----------------------------------------------------------------------------------------------------

    async def assign(
        self, conn: AsyncConnection, id_: TransferId, invoice_id: InvoiceId, by: By
    ) -> Decided[TransferRecord]:
        """Counts money in suspense for an invoice, in whatever asset and on whatever chain it came, late or not."""
        held = await _transfer(conn, id_)
        locked = await lock_invoice(conn, invoice_id, [held.identity.chain_id])
        held = await _transfer(conn, id_)
        _refuse_unless_free(held)
        if held.id in await refunds.of_transfers(conn, [held.id]):
            raise Conflict("transfer", f"{id_} was sent back, or a part of it; it pays nothing any more")
        if locked.invoice.status in _CLOSED:
            raise Conflict("invoice_id", f"{invoice_id} is {locked.invoice.status}; choose one that is still open")
        await _refuse_another_currency(conn, held, locked.invoice)
        _refuse_inexact(held, locked.invoice)
        assigned = replace(
            held,
            allocation=Allocation.INVOICE,
            reason=None,
            invoice_id=invoice_id,
            evidence={"strategy": ASSIGNED, "by": by.who, "reason": by.reason, "before": before(held)},
            version=held.version + 1,
        )
        await transfers.save(conn, [assigned])
        told = EventType.PAYMENT_FINAL if assigned.is_final else EventType.PAYMENT_DETECTED
        await reading.tell_of_transfers(conn, [(assigned, told)], now=by.now)
        assessed = await assess_invoices(conn, [invoice_id], self._judgement, now=by.now)
        await _audit(conn, "transfer.assign", id_, by, invoice_id=invoice_id)
        return Decided(value=await _transfer(conn, id_), settled=assessed.settled)

    async def dismiss(self, conn: AsyncConnection, id_: TransferId, by: By) -> TransferRecord:
        """Takes a transfer out of the queue; its money stays in suspense, and may still be assigned or sent back."""
        await chains.lock_many(conn, [(await _transfer(conn, id_)).identity.chain_id])
        held = await _transfer(conn, id_)
        if held.allocation is Allocation.DISMISSED:
            raise Conflict("transfer", f"{id_} is dismissed already")
        _refuse_unless_free(held)
        dismissed = replace(
            held,
            allocation=Allocation.DISMISSED,
            reason=None,
            evidence={"by": by.who, "reason": by.reason, "before": before(held)},
            version=held.version + 1,
        )
        await transfers.save(conn, [dismissed])
        await _audit(conn, "transfer.dismiss", id_, by)
        return dismissed

    # -- invoices ------------------------------------------------------------------------------------------------------

    async def cancel(self, conn: AsyncConnection, id_: InvoiceId, by: By) -> Invoice:
        """Takes a pending invoice back. What was paid on it goes to suspense, where an operator sees it.

        Its unique amounts stay reserved until its monitoring would have ended: its customer may still have them on
        screen.
        """
        locked = await lock_invoice(conn, id_)
        if locked.invoice.status is InvoiceStatus.CANCELED:
            raise Conflict("status", f"{id_} is canceled already")
        if locked.invoice.status is not InvoiceStatus.PENDING:
            raise Conflict("status", f"{id_} is {locked.invoice.status}; only a pending invoice can be canceled")
        freed = [
            replace(
                t,
                allocation=Allocation.UNMATCHED,
                reason=UnmatchedReason.NO_INVOICE,
                invoice_id=None,
                evidence={"released_by_cancel_of": id_} | _labels(t),
                version=t.version + 1,
            )
            for t in locked.payments
        ]
        await transfers.save(conn, freed)
        canceled = replace(
            locked.invoice,
            status=InvoiceStatus.CANCELED,
            exceptions=frozenset(),
            version=locked.invoice.version + 1,
        )
        await invoices.save(conn, [canceled])
        live = [(t, EventType.TRANSFER_UNMATCHED) for t in freed if t.is_canonical]
        await reading.tell_of_transfers(conn, live, now=by.now)
        await reading.tell_of_invoices(conn, [(canceled, EventType.INVOICE_CANCELED)], now=by.now)
        await _audit(conn, "invoice.cancel", id_, by)
        return canceled

    async def mark(self, conn: AsyncConnection, id_: InvoiceId, by: By) -> Decided[Invoice]:
        """Settles an open invoice with the final payments it has, be it too little, too late or none."""
        locked = await lock_invoice(conn, id_)
        if locked.invoice.status in _CLOSED:
            raise Conflict("status", f"{id_} is {locked.invoice.status}; it is not to be settled any more")
        for t in locked.payments:
            _refuse_unless_decided(t, locked.states)
        standing = [hold for hold in await holds.of_invoice(conn, id_) if hold.stands]
        if standing:
            named = ", ".join(f"{hold.id} ({hold.stop.reason})" for hold in standing)
            raise Conflict("status", f"{id_} is held: {named}; release that first")
        made = await settle_by_hand(
            conn,
            locked.invoice,
            locked.payments,
            self._judgement,
            marked={"by": by.who, "reason": by.reason},
            now=by.now,
        )
        await _audit(conn, "invoice.mark", id_, by, status=InvoiceStatus.SETTLED.value, settlement_id=made.id)
        return Decided(value=await _invoice(conn, id_), settled=(made,))

    # -- holds ---------------------------------------------------------------------------------------------------------

    async def place_hold(self, conn: AsyncConnection, invoice_id: InvoiceId, by: By) -> Hold:
        """Stops the settlement of an open invoice until the hold is released."""
        locked = await lock_invoice(conn, invoice_id)
        if locked.invoice.status in _CLOSED:
            raise Conflict("invoice_id", f"{invoice_id} is {locked.invoice.status}; there is nothing left to hold")
        known = await _manual_hold(conn, invoice_id)
        if known is not None and known.stands:
            raise Conflict("invoice_id", f"{invoice_id} is held already by {known.id}")
        if known is None:
            stop = Stop(reason=HoldReason.MANUAL, detail=by.reason)
            await holds.place(conn, [(invoice_id, stop)], now=by.now, who=by.who)
        else:
            await holds.stand_again(conn, known.id, now=by.now, who=by.who, detail=by.reason)
        await assess_invoices(conn, [invoice_id], self._judgement, now=by.now)
        placed = await _manual_hold(conn, invoice_id)
        assert placed is not None, "it was just placed"
        await _audit(conn, "hold.place", placed.id, by, invoice_id=invoice_id)
        return placed

    async def release_hold(self, conn: AsyncConnection, id_: HoldId, by: By) -> Decided[Hold]:
        """Lets what a hold stopped go on: where nothing else is in the way, the invoice settles at once."""
        found = await _hold(conn, id_)
        locked = await lock_invoice(conn, found.invoice_id)
        found = await _hold(conn, id_)
        if not found.stands:
            raise Conflict("hold", f"{id_} was released already, by {found.released_by}")
        if locked.invoice.status in _CLOSED:
            raise Conflict("hold", f"{locked.invoice.id} is {locked.invoice.status}; its hold stops nothing any more")
        released = replace(found, released_at=by.now, released_by=by.who, release_reason=by.reason)
        was_standing = await holds.release(conn, released)
        assert was_standing, "its invoice is locked, and it stood"
        assessed = await assess_invoices(conn, [locked.invoice.id], self._judgement, now=by.now)
        await _audit(conn, "hold.release", id_, by, invoice_id=locked.invoice.id)
        return Decided(value=released, settled=assessed.settled)


async def lock_invoice(conn: AsyncConnection, id_: InvoiceId, beside: Iterable[ChainId] = ()) -> Locked:
    """Locks the chains an invoice is or may be paid on, and those `beside`; then the invoice. Raises `NotFound`."""
    known = await _invoice(conn, id_)
    paid = (await transfers.of_invoices(conn, [id_]))[id_]
    offered = {o.chain_id for o in known.options}
    states = await chains.lock_many(conn, {*offered, *(t.identity.chain_id for t in paid), *beside})
    invoice = (await invoices.get_many(conn, [id_], lock=True))[id_]
    paid = (await transfers.of_invoices(conn, [id_]))[id_]
    # somebody may just have assigned it money of another chain
    states |= await chains.lock_many(conn, {t.identity.chain_id for t in paid} - states.keys())
    return Locked(invoice=invoice, payments=paid, states=states)


async def _invoice(conn: AsyncConnection, id_: InvoiceId) -> Invoice:
    found = await invoices.get(conn, id_)
    if found is None:
        raise NotFound(f"there is no invoice {id_}")
    return found


async def _transfer(conn: AsyncConnection, id_: TransferId) -> TransferRecord:
    found = await transfers.get(conn, id_)
    if found is None:
        raise NotFound(f"there is no transfer {id_}")
    return found


async def _hold(conn: AsyncConnection, id_: HoldId) -> Hold:
    found = await holds.get(conn, id_, lock=True)
    if found is None:
        raise NotFound(f"there is no hold {id_}")
    return found


async def _manual_hold(conn: AsyncConnection, invoice_id: InvoiceId) -> Hold | None:
    found = await holds.of_invoice(conn, invoice_id)
    return next((hold for hold in found if hold.stop.reason is HoldReason.MANUAL), None)


def _refuse_unless_free(held: TransferRecord) -> None:
    if held.allocation is Allocation.INVOICE:
        raise Conflict("transfer", f"{held.id} pays {held.invoice_id}; only money in suspense can be decided about")
    if not held.is_canonical:
        raise Conflict("transfer", f"{held.id} is orphaned: its money is not in the chain any more")
    if not held.moves_money:
        raise Conflict("transfer", f"{held.id} moves no money; there is nothing to decide")


async def _refuse_another_currency(conn: AsyncConnection, held: TransferRecord, invoice: Invoice) -> None:
    tokens = {t.address: t for t in await chains.tokens_of(conn, held.identity.chain_id)}
    token = tokens[held.identity.token]
    if token.currency != invoice.currency:
        raise Conflict(
            "invoice_id",
            f"{held.id} is of {token.symbol}, which stands for {token.currency}; {invoice.id} is in {invoice.currency}",
        )


def _refuse_inexact(held: TransferRecord, invoice: Invoice) -> None:
    """A token may be finer than any the invoice was offered in: what it cannot add exactly, it is not given."""
    if held.identity.amount % 10 ** max(0, held.decimals - invoice.scale):
        raise Conflict(
            "invoice_id",
            f"the {held.identity.amount} base units of {held.id} have {held.decimals} decimals and are no whole number "
            f"in the {invoice.scale} that {invoice.id} counts in; send them back, or dismiss the transfer",
        )


def _refuse_unless_decided(payment: TransferRecord, states: Mapping[ChainId, ChainState]) -> None:
    """A settlement rests on final payments alone, and on no chain that is halted."""
    if not payment.is_canonical:
        return
    state = states[payment.identity.chain_id]
    if state.is_halted:
        raise Conflict("status", f"{payment.id} is on {state.name}, which is halted; resume the chain first")
    if not payment.is_final:
        raise Conflict("status", f"{payment.id} is not final yet; wait until it is")
    if state.settled_number is None or payment.block_number > state.settled_number:
        raise Conflict(
            "status",
            f"{payment.id} is final by its amount tier alone; wait until {state.name} is settled up to block "
            f"{payment.block_number}",
        )


def _labels(payment: TransferRecord) -> dict[str, object]:
    """What its transaction says of it: without it, the next reading would take it for another payment's."""
    return {"labels": payment.evidence["labels"]} if "labels" in payment.evidence else {}


async def _audit(conn: AsyncConnection, action: str, object_id: str, by: By, **detail: str) -> None:
    await operator_actions.add(
        conn, action=action, object_id=object_id, who=by.who, reason=by.reason, now=by.now, detail=detail
    )
