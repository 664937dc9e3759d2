"""Undoes what the chain took back: settlements get a reversal beside them, receipts a contra entry. Nothing is changed
or deleted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from chains.model import SpanRead
from settler.domain import ledger
from settler.domain.events import EventType
from settler.domain.ids import ReversalId, derived_id
from settler.domain.invoices import Invoice, InvoiceStatus, TransferRecord, TransferStatus
from settler.domain.records import Reversal, Settlement
from settler.stages.recording import moves_money
from settler.storage import invoices, reading, settlements, transfers
from settler.storage import ledger as ledger_store


async def locked(conn: AsyncConnection, vanished: Sequence[TransferRecord]) -> list[TransferRecord]:
    """The payments as they are once nobody else decides about their invoices any more. Without it, one that is settled
    beside this transaction (by another chain's tick, or by `Expire`) would be left resting on what vanished.
    """
    await invoices.get_many(conn, {t.invoice_id for t in vanished if t.invoice_id is not None}, lock=True)
    now_held = await transfers.get_many(conn, (t.id for t in vanished))
    return [now_held[t.id] for t in vanished]


async def reverse(conn: AsyncConnection, reversed_: Sequence[Settlement], *, reason: str, now: datetime) -> None:
    """Writes a reversal beside each settlement; its invoice is `reversed`."""
    entries = []
    told: list[tuple[Settlement, EventType]] = []
    for s in reversed_:
        reversal = Reversal(id=ReversalId(derived_id("rev", now, s.id)), reason=reason, reversed_at=now)
        await settlements.reverse(conn, s.id, reversal)
        lines = await ledger_store.entry_lines(conn, ledger.EntryKind.SETTLEMENT, s.id)
        entries.append((ledger.EntryKind.REVERSAL, s.id, ledger.contra(lines)))
        told.append((replace(s, reversal=reversal), EventType.SETTLEMENT_REVERSED))
    await ledger_store.post(conn, entries, now=now)
    owned = await invoices.get_many(conn, [s.invoice_id for s in reversed_], lock=True)
    after: list[Invoice] = [
        replace(
            i,
            status=InvoiceStatus.REVERSED,
            settled_at=None,
            settlement_id=None,
            version=i.version + 1,
        )
        for i in owned.values()
    ]
    await invoices.save(conn, after)
    await reading.tell_of_settlements(conn, told, now=now)
    await reading.tell_of_invoices(conn, [(i, EventType.INVOICE_REVERSED) for i in after], now=now)


async def unbook(conn: AsyncConnection, vanished: Sequence[TransferRecord], *, now: datetime) -> None:
    """Takes the arrival of final money back."""
    undone = [
        (ledger.EntryKind.UNRECEIPT, f"{t.id}:{t.version}", ledger.contra(ledger.receipt(t)))
        for t in vanished
        if t.is_final and moves_money(t)
    ]
    await ledger_store.post(conn, undone, now=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenBack:
    """What became of payments that a tier made final early."""

    standing: tuple[TransferRecord, ...]
    """Those that stand where they stood: final by the chain from now on."""
    reversed_count: int
    """Settlements that rested on others."""


async def take_back(
    conn: AsyncConnection, early: Sequence[TransferRecord], read: SpanRead, *, now: datetime
) -> TakenBack:
    """Makes provisional again what a tier made final and the second reading shows elsewhere, or not at all.

    What rested on it gets a reversal. `early`: final records that stand in the span, or above it and are shown. Whether
    each is orphaned, or final in its new place, is decided by who asks (`deciding`).
    """
    places = {t.identity: (t.block_hash, t.log_index) for t in read.transfers}
    standing: list[TransferRecord] = []
    moved: list[TransferRecord] = []
    for t in early:
        (standing if places.get(t.identity) == (t.block_hash, t.log_index) else moved).append(t)
    gone = await locked(conn, moved)
    resting = await settlements.in_force_on(conn, [t.id for t in gone])
    reason = "the chain undid a payment that had been settled early, as its amount tier allows"
    await reverse(conn, resting, reason=reason, now=now)
    await unbook(conn, gone, now=now)
    await transfers.save(
        conn, [replace(t, status=TransferStatus.DETECTED, final_at=None, version=t.version + 1) for t in gone]
    )
    return TakenBack(standing=tuple(standing), reversed_count=len(resting))
