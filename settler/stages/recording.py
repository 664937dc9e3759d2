"""Writes what a reading found: transfers inserted, moved, made final or orphaned, matched and told of.

Shared by both readings, inside their transactions. What it says of invoices is decided afterwards, in `assessing`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import assert_never

from sqlalchemy.ext.asyncio import AsyncConnection

from chains.errors import NodeInconsistent
from chains.model import BlockRef, SpanRead, Transfer, TransferIdentity
from settler.domain import ledger
from settler.domain.events import EventType
from settler.domain.ids import InvoiceId, TransferId, derived_id
from settler.domain.invoices import (
    Allocation,
    Invoice,
    InvoiceStatus,
    Match,
    TransferRecord,
    TransferStatus,
    UnmatchedReason,
)
from settler.domain.matching import Arrival, Matched, Unmatched, match
from settler.domain.settlement import InvoicePolicy
from settler.stages.turns import in_turns
from settler.storage import candidates, invoices, reading, transfers
from settler.storage import ledger as ledger_store
from settler.storage.reading import Surroundings

_CLOSED = frozenset({InvoiceStatus.SETTLED, InvoiceStatus.CANCELED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What changed. The counts go to the tick's log line and, once committed, to the metrics."""

    added: tuple[TransferRecord, ...] = ()
    moved: tuple[TransferRecord, ...] = ()
    """Known ones that stand elsewhere now, or are back."""
    finalized: tuple[TransferRecord, ...] = ()
    """Of `added` and `moved` and all others: those that became final."""
    orphaned: tuple[TransferRecord, ...] = ()
    left: frozenset[InvoiceId] = frozenset()
    """Invoices that a payment was taken from, since what it is for was read otherwise."""
    locked: Mapping[InvoiceId, Invoice] = field(default_factory=dict)
    """Invoices that were read and locked for it, as they are: all that are touched, but for those of orphaned payments.
    """
    around: Surroundings | None = None
    """As read when those were locked."""

    @property
    def touched(self) -> set[InvoiceId]:
        """Invoices whose payments changed."""
        every = (*self.added, *self.moved, *self.finalized, *self.orphaned)
        return {t.invoice_id for t in every if t.invoice_id is not None} | self.left


async def record(
    conn: AsyncConnection,
    read: SpanRead,
    *,
    status: TransferStatus,
    missing: Iterable[TransferRecord],
    policy: InvoicePolicy,
    now: datetime,
    known: Mapping[TransferIdentity, TransferRecord] | None = None,
) -> Recorded:
    """Brings the database to what a span holds. `missing`: records held for blocks this reading covers or has replaced;
    those that it did not find are orphaned.

    `status`: `detected` for the first reading, `final` for the second, which is the truth. `known`: the records of all
    that the span holds, where the caller has read them in this transaction.
    """
    seen = {t.identity for t in read.transfers}
    orphaned = [_orphaned(t) for t in missing if t.is_canonical and t.identity not in seen]
    if not seen and not orphaned:
        return Recorded()
    if known is None:
        known = await transfers.by_identity(conn, seen)
    open_to = await _invoices_of(conn, known.values())
    tokens = await reading.all_tokens(conn)
    fresh: list[TransferRecord] = []
    changed: list[TransferRecord] = []
    to_match: list[tuple[TransferRecord, Transfer]] = []
    async for found in in_turns(read.transfers):
        block = read.block_of(found)
        held = known.get(found.identity)
        if held is None:
            to_match.append((_new(found, block, tokens, status, now), found))
        elif (placed := _placed(held, found, block, status, now)) is not None:
            if _is_still_meant(held, found, open_to):
                changed.append(placed)
            else:
                to_match.append((placed, found))
    allocated = await _matched(conn, to_match, policy)
    matched = [_reconsidered(known.get(r.identity), r, payee) for r, payee in allocated]
    before = {r.id: r.invoice_id for r, _ in to_match}
    left = frozenset(old for r in matched if (old := before[r.id]) is not None and old != r.invoice_id)
    for record_ in matched:
        (changed if record_.identity in known else fresh).append(record_)
    around = await reading.surroundings(conn, tokens)
    locked = {**open_to, **{payee.id: payee for _, payee in allocated if payee is not None}}

    await transfers.save(conn, [*orphaned, *changed])
    await transfers.add(conn, fresh)
    finalized = [t for t in (*fresh, *changed) if t.is_final]
    await post_receipts(conn, finalized, now=now)
    await reading.tell_of_transfers(
        conn,
        [(t, type_) for t in (*orphaned, *fresh, *changed) if (type_ := _event_of(t)) is not None],
        now=now,
        around=around,
        known=locked,
    )
    return Recorded(
        added=tuple(fresh),
        moved=tuple(changed),
        finalized=tuple(finalized),
        orphaned=tuple(orphaned),
        left=left,
        locked=locked,
        around=around,
    )


async def post_receipts(conn: AsyncConnection, finalized: Sequence[TransferRecord], *, now: datetime) -> None:
    """Books the arrival of final money."""
    entries = [
        (ledger.EntryKind.RECEIPT, f"{t.id}:{t.version}", ledger.receipt(t)) for t in finalized if moves_money(t)
    ]
    await ledger_store.post(conn, entries, now=now)


def moves_money(transfer: TransferRecord) -> bool:
    """Not of value zero, and not from an address to itself."""
    return transfer.reason is not UnmatchedReason.IGNORED_ZERO


def id_of(found: Transfer, block: BlockRef) -> TransferId:
    """The id under which it is recorded: of what it is and its block's time, so that two recordings are one."""
    i = found.identity
    parts = (
        i.chain_id, i.tx_hash.hex(), i.token.hex(), i.sender.hex(), i.recipient.hex(), i.amount, i.ordinal,
    )  # fmt: skip
    return TransferId(derived_id("trf", block.time, *parts))


def _new(
    found: Transfer,
    block: BlockRef,
    tokens: reading.Tokens,
    status: TransferStatus,
    now: datetime,
) -> TransferRecord:
    return TransferRecord(
        id=id_of(found, block),
        identity=found.identity,
        decimals=tokens[found.identity.chain_id, found.identity.token].decimals,
        status=status,
        block_number=found.block_number,
        block_hash=found.block_hash,
        block_time=block.time,
        log_index=found.log_index,
        allocation=Allocation.UNMATCHED,
        reason=UnmatchedReason.NO_INVOICE,
        invoice_id=None,
        evidence={},
        recorded_at=now,
        final_at=now if status is TransferStatus.FINAL else None,
        version=1,
    )


def _placed(
    held: TransferRecord, found: Transfer, block: BlockRef, status: TransferStatus, now: datetime
) -> TransferRecord | None:
    """The record at its present place and status; `None` where nothing changes.

    The first reading never touches what the second has decided. Raises `NodeInconsistent` for a final payment that is
    shown somewhere else: moving it would book it twice.
    """
    if held.is_final and status is TransferStatus.DETECTED:
        return None
    if held.is_final and (held.block_hash, held.log_index) != (found.block_hash, found.log_index):
        raise NodeInconsistent(
            f"{held.id} is final in block {held.block_number}, "
            f"and the node shows it in block {found.block_number} as well"
        )
    final_at = (held.final_at or now) if status is TransferStatus.FINAL else None
    if (held.status, held.block_number, held.block_hash, held.block_time, held.log_index, held.final_at) == (
        status, found.block_number, found.block_hash, block.time, found.log_index, final_at
    ):  # fmt: skip
        return None
    return replace(
        held,
        status=status,
        block_number=found.block_number,
        block_hash=found.block_hash,
        block_time=block.time,
        log_index=found.log_index,
        final_at=final_at,
        version=held.version + 1,
    )


def _is_still_meant(held: TransferRecord, found: Transfer, open_to: Mapping[InvoiceId, Invoice]) -> bool:
    """A match stands; only what was gone and comes back to a closed invoice, or to none, is matched again, and what
    another provider reads other references of (an operator's word stands above those).
    """
    if held.allocation is Allocation.DISMISSED or "refunds" in held.evidence:
        return True
    if held.is_canonical:
        is_closed = held.invoice_id is not None and open_to[held.invoice_id].status in _CLOSED
        return is_closed or held.is_assigned or list(held.evidence.get("labels", ())) == _labels(found)
    is_open = held.invoice_id is not None and open_to[held.invoice_id].status not in _CLOSED
    return is_open and (held.is_assigned or list(held.evidence.get("labels", ())) == _labels(found))


async def _invoices_of(conn: AsyncConnection, known: Iterable[TransferRecord]) -> dict[InvoiceId, Invoice]:
    return await invoices.get_many(conn, {t.invoice_id for t in known if t.invoice_id is not None}, lock=True)


def _labels(found: Transfer) -> list[dict[str, str]]:
    """As they are kept beside the match."""
    return [{"kind": label.kind.value, "key": "0x" + label.key.hex()} for label in found.labels]


def _reconsidered(held: TransferRecord | None, matched: TransferRecord, payee: Invoice | None) -> TransferRecord:
    """A payment that stands and was matched again for its references: it goes to an invoice that was there when the
    payment was seen, or stays where it is. Else whoever sees a payment could make an invoice that it then names.

    `payee`: the invoice that it would go to. What another reference led to, and is not read any more, is taken back in
    any case.
    """
    if held is None or not held.is_canonical or held.evidence.get("strategy") == Match.REFERENCE.value:
        return matched
    if payee is not None and payee.created_at <= held.recorded_at:
        return matched
    return replace(
        matched, allocation=held.allocation, reason=held.reason, invoice_id=held.invoice_id, evidence=held.evidence
    )


async def _matched(
    conn: AsyncConnection, records: Sequence[tuple[TransferRecord, Transfer]], policy: InvoicePolicy
) -> list[tuple[TransferRecord, Invoice | None]]:
    """Each as allocated now, with the invoice that it was allocated to, locked."""
    arrivals = [
        Arrival(
            identity=r.identity,
            block_number=r.block_number,
            block_time=r.block_time,
            keys=frozenset(label.key for label in found.labels),
        )
        for r, found in records
    ]
    possible = await candidates.find(conn, arrivals)
    allocated: list[tuple[TransferRecord, Invoice | None]] = []
    async for (record_, found), arrival, near in in_turns(zip(records, arrivals, possible, strict=True)):
        result = match(arrival, near, policy=policy)
        labels = {"labels": _labels(found)} if found.labels else {}
        match result:
            case Matched(invoice_id=invoice_id, strategy=strategy, candidates=ids):
                to_invoice = replace(
                    record_,
                    allocation=Allocation.INVOICE,
                    reason=None,
                    invoice_id=invoice_id,
                    evidence={"strategy": strategy.value, "candidates": list(ids), **labels},
                )
                allocated.append((to_invoice, next(i for i in near.invoices if i.id == invoice_id)))
            case Unmatched(reason=reason, candidates=ids):
                to_suspense = replace(
                    record_,
                    allocation=Allocation.UNMATCHED,
                    reason=reason,
                    invoice_id=None,
                    evidence={"candidates": list(ids), **labels},
                )
                allocated.append((to_suspense, None))
            case _:
                assert_never(result)
    return allocated


def _orphaned(held: TransferRecord) -> TransferRecord:
    return replace(held, status=TransferStatus.ORPHANED, final_at=None, version=held.version + 1)


_PAYMENT_EVENTS = {
    TransferStatus.DETECTED: EventType.PAYMENT_DETECTED,
    TransferStatus.FINAL: EventType.PAYMENT_FINAL,
    TransferStatus.ORPHANED: EventType.PAYMENT_ORPHANED,
}


def _event_of(t: TransferRecord) -> EventType | None:
    """What tells of a transfer's present state; `None` for one that moves no money."""
    match t.allocation:
        case Allocation.INVOICE:
            return _PAYMENT_EVENTS[t.status]
        case Allocation.UNMATCHED:
            return EventType.TRANSFER_UNMATCHED if moves_money(t) else None
        case Allocation.DISMISSED:
            return None
        case _:
            assert_never(t.allocation)
