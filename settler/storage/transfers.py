"""Transfers as recorded: found by identity, by place, by invoice, or by a filter."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, exists, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from chains.model import (
    Address,
    BlockHash,
    BlockNumber,
    BlockSpan,
    ChainId,
    TransferIdentity,
    TxHash,
)
from settler.domain.ids import InvoiceId, TransferId
from settler.domain.invoices import Allocation, InvoiceStatus, TransferRecord, TransferStatus, UnmatchedReason
from settler.storage import schema
from settler.storage.bulk import insert, update
from settler.storage.sql import chunks, is_one_of

_t, _i = schema.transfers, schema.invoices
_STATUSES: dict[str, TransferStatus] = {s.value: s for s in TransferStatus}
_ALLOCATIONS: dict[str, Allocation] = {a.value: a for a in Allocation}
_REASONS: dict[str | None, UnmatchedReason | None] = {None: None, **{r.value: r for r in UnmatchedReason}}
_OF_CHAIN = _t.c.chain_id == bindparam("chain")
_WITHIN = _t.c.block_number.between(bindparam("first"), bindparam("last"))

# Statements of every tick are built once: building one costs more than running it.
_DETECTED_IN = select(_t).where(_OF_CHAIN, _t.c.status == TransferStatus.DETECTED.value, _WITHIN)
_UNDECIDED_IN = select(_t).where(_OF_CHAIN, _t.c.status != TransferStatus.ORPHANED.value, _WITHIN)
_ANY_DETECTED = select(_t.c.id).where(_OF_CHAIN, _t.c.status == TransferStatus.DETECTED.value).limit(1)
_WAITING = (
    select(_t)
    .join(_i, _i.c.id == _t.c.invoice_id)
    .where(
        _OF_CHAIN,
        _t.c.status == TransferStatus.DETECTED.value,
        _i.c.status == InvoiceStatus.PROCESSING.value,
    )
    .order_by(_t.c.block_number, _t.c.log_index, _t.c.id)
    .limit(bindparam("limit"))
    .offset(bindparam("skip"))
)


async def get(conn: AsyncConnection, id_: TransferId) -> TransferRecord | None:
    row = (await conn.execute(select(_t).where(_t.c.id == id_))).one_or_none()
    return None if row is None else _record(row)


async def get_many(conn: AsyncConnection, ids: Iterable[TransferId]) -> dict[TransferId, TransferRecord]:
    """Those that are known."""
    found: dict[TransferId, TransferRecord] = {}
    for chunk in chunks(ids):
        found |= {
            TransferId(row.id): _record(row)
            for row in await conn.execute(select(_t).where(is_one_of(conn, _t.c.id, chunk)))
        }
    return found


async def find(
    conn: AsyncConnection,
    *,
    status: TransferStatus | None = None,
    allocation: Allocation | None = None,
    reason: UnmatchedReason | None = None,
    chain_id: ChainId | None = None,
    merchant: str | None = None,
    before: str | None = None,
    limit: int = 50,
) -> list[TransferRecord]:
    """Newest first. `before`: id to go on below. `merchant`: only payments of that merchant's invoices."""
    query = select(_t).order_by(_t.c.id.desc()).limit(limit)
    if status is not None:
        query = query.where(_t.c.status == status.value)
    if allocation is not None:
        query = query.where(_t.c.allocation == allocation.value)
    if reason is not None:
        query = query.where(_t.c.reason == reason.value)
    if chain_id is not None:
        query = query.where(_t.c.chain_id == chain_id)
    if before is not None:
        query = query.where(_t.c.id < before)
    if merchant is not None:
        i = schema.invoices
        query = query.join(i, i.c.id == _t.c.invoice_id).where(i.c.merchant == merchant)
    return [_record(row) for row in await conn.execute(query)]


async def by_identity(
    conn: AsyncConnection, identities: Iterable[TransferIdentity]
) -> dict[TransferIdentity, TransferRecord]:
    """The records of those identities that are known."""
    wanted = set(identities)
    found: dict[TransferIdentity, TransferRecord] = {}
    by_chain: dict[ChainId, set[TxHash]] = defaultdict(set)
    for identity in wanted:
        by_chain[identity.chain_id].add(identity.tx_hash)
    for chain_id, hashes in by_chain.items():
        for chunk in chunks(sorted(hashes)):
            query = select(_t).where(_t.c.chain_id == chain_id, is_one_of(conn, _t.c.tx_hash, chunk))
            for row in await conn.execute(query):
                record = _record(row)
                if record.identity in wanted:
                    found[record.identity] = record
    return found


async def detected_in(conn: AsyncConnection, chain_id: ChainId, span: BlockSpan) -> list[TransferRecord]:
    """Provisional transfers that stand in the span."""
    within = {"chain": chain_id, "first": span.first, "last": span.last}
    return [_record(row) for row in await conn.execute(_DETECTED_IN, within)]


async def undecided_in(conn: AsyncConnection, chain_id: ChainId, span: BlockSpan) -> list[TransferRecord]:
    """Canonical transfers that stand in a span above the settled height: provisional ones, and such as are final by an
    amount tier alone.
    """
    within = {"chain": chain_id, "first": span.first, "last": span.last}
    return [_record(row) for row in await conn.execute(_UNDECIDED_IN, within)]


async def canonical_above(conn: AsyncConnection, chain_id: ChainId, height: int) -> list[TransferRecord]:
    """Detected and final transfers strictly above a height, lowest first."""
    query = (
        select(_t)
        .where(
            _t.c.chain_id == chain_id,
            _t.c.block_number > height,
            _t.c.status != TransferStatus.ORPHANED.value,
        )
        .order_by(_t.c.block_number, _t.c.log_index)
    )
    return [_record(row) for row in await conn.execute(query)]


async def final_places(conn: AsyncConnection, chain_id: ChainId) -> dict[BlockNumber, BlockHash]:
    """Heights that hold final transfers, with the block's hash."""
    query = (
        select(_t.c.block_number, _t.c.block_hash)
        .where(_t.c.chain_id == chain_id, _t.c.status == TransferStatus.FINAL.value)
        .distinct()
    )
    return {BlockNumber(row.block_number): BlockHash(row.block_hash) for row in await conn.execute(query)}


async def final_in(conn: AsyncConnection, chain_id: ChainId, span: BlockSpan) -> list[TransferRecord]:
    """Final transfers that stand in the span, lowest first."""
    query = (
        select(_t)
        .where(
            _t.c.chain_id == chain_id,
            _t.c.status == TransferStatus.FINAL.value,
            _t.c.block_number.between(span.first, span.last),
        )
        .order_by(_t.c.block_number, _t.c.log_index)
    )
    return [_record(row) for row in await conn.execute(query)]


async def final_of(conn: AsyncConnection, chain_id: ChainId, hashes: Iterable[TxHash]) -> list[TransferRecord]:
    """Final transfers of these transactions, in whichever block."""
    found = []
    for chunk in chunks(sorted(set(hashes))):
        query = select(_t).where(
            _t.c.chain_id == chain_id, is_one_of(conn, _t.c.tx_hash, chunk), _t.c.status == TransferStatus.FINAL.value
        )
        found += [_record(row) for row in await conn.execute(query)]
    return found


async def waiting(conn: AsyncConnection, chain_id: ChainId, *, limit: int, skip: int = 0) -> list[TransferRecord]:
    """Provisional payments of invoices that are paid in full, lowest first, at most `limit` behind the first `skip`."""
    page = {"chain": chain_id, "limit": limit, "skip": skip}
    return [_record(row) for row in await conn.execute(_WAITING, page)]


async def has_detected(conn: AsyncConnection, chain_id: ChainId) -> bool:
    """Whether any transfer of the chain waits for finality."""
    return (await conn.execute(_ANY_DETECTED, {"chain": chain_id})).first() is not None


async def count_of_invoice(conn: AsyncConnection, id_: InvoiceId) -> int:
    """Transfers allocated to it; orphaned ones too."""
    query = select(func.count()).select_from(_t).where(_t.c.invoice_id == id_)
    return int((await conn.execute(query)).scalar_one())


async def of_invoices(conn: AsyncConnection, ids: Iterable[InvoiceId]) -> dict[InvoiceId, list[TransferRecord]]:
    """All transfers allocated to each invoice, in the order of their place; orphaned ones too."""
    found: dict[InvoiceId, list[TransferRecord]] = {id_: [] for id_ in ids}
    for chunk in chunks(found):
        query = (
            select(_t)
            .where(is_one_of(conn, _t.c.invoice_id, chunk))
            .order_by(_t.c.block_time, _t.c.chain_id, _t.c.block_number, _t.c.log_index, _t.c.id)
        )
        for row in await conn.execute(query):
            found[InvoiceId(row.invoice_id)].append(_record(row))
    return found


async def add(conn: AsyncConnection, records: Sequence[TransferRecord]) -> None:
    """Inserts new transfers; an identity that is there already raises: the caller looks first, under the chain's
    lock.
    """
    await insert(conn, _t, [_row(r) for r in records])


async def save(conn: AsyncConnection, records: Sequence[TransferRecord]) -> None:
    """Writes what may change of known transfers: place, status, allocation."""
    await update(conn, _t, [{"id": r.id, **_place(r)} for r in records], key="id")


async def oldest_unsettled(conn: AsyncConnection) -> dict[ChainId, datetime]:
    """Block time of the oldest payment on each chain whose invoice is paid in full, not settled, and on no hold."""
    i, h = schema.invoices, schema.holds
    waits_for_operator = exists().where(h.c.invoice_id == i.c.id, h.c.released_at.is_(None))
    query = (
        select(_t.c.chain_id, func.min(_t.c.block_time))
        .join(i, i.c.id == _t.c.invoice_id)
        .where(
            i.c.status == InvoiceStatus.PROCESSING.value,
            _t.c.status != TransferStatus.ORPHANED.value,
            ~waits_for_operator,
        )
        .group_by(_t.c.chain_id)
    )
    return {ChainId(chain_id): since for chain_id, since in await conn.execute(query)}


async def unmatched_counts(conn: AsyncConnection) -> list[tuple[ChainId, Address, UnmatchedReason, int]]:
    """How many canonical transfers wait in suspense, by chain, token and reason."""
    query = (
        select(_t.c.chain_id, _t.c.token, _t.c.reason, func.count())
        .where(
            _t.c.allocation == Allocation.UNMATCHED.value,
            _t.c.reason != UnmatchedReason.IGNORED_ZERO.value,
            _t.c.status != TransferStatus.ORPHANED.value,
        )
        .group_by(_t.c.chain_id, _t.c.token, _t.c.reason)
    )
    return [
        (ChainId(chain_id), Address(token), UnmatchedReason(reason), int(count))
        for chain_id, token, reason, count in await conn.execute(query)
    ]


def _row(r: TransferRecord) -> dict[str, Any]:
    i = r.identity
    return {
        "id": r.id,
        "chain_id": i.chain_id,
        "tx_hash": i.tx_hash,
        "token": i.token,
        "sender": i.sender,
        "recipient": i.recipient,
        "amount": i.amount,
        "ordinal": i.ordinal,
        "decimals": r.decimals,
        "recorded_at": r.recorded_at,
        **_place(r),
    }


def _place(r: TransferRecord) -> dict[str, Any]:
    """What may change: where it stands, and whose it is."""
    return {
        "status": r.status.value,
        "block_number": r.block_number,
        "block_hash": r.block_hash,
        "block_time": r.block_time,
        "log_index": r.log_index,
        "allocation": r.allocation.value,
        "reason": None if r.reason is None else r.reason.value,
        "invoice_id": r.invoice_id,
        "evidence": r.evidence,
        "final_at": r.final_at,
        "version": r.version,
    }


def _record(row: Sequence[Any]) -> TransferRecord:
    # by position, as the table has its columns: each by name would cost more than all together
    (
        id_, chain_id, tx_hash, token, sender, recipient, amount, ordinal, decimals, status, block_number, block_hash,
        block_time, log_index, allocation, reason, invoice_id, evidence, recorded_at, final_at, version,
    ) = row  # fmt: skip
    return TransferRecord(
        id=id_,
        identity=TransferIdentity(
            chain_id=chain_id,
            tx_hash=tx_hash,
            token=token,
            sender=sender,
            recipient=recipient,
            amount=amount,
            ordinal=ordinal,
        ),
        decimals=decimals,
        status=_STATUSES[status],
        block_number=block_number,
        block_hash=block_hash,
        block_time=block_time,
        log_index=log_index,
        allocation=_ALLOCATIONS[allocation],
        reason=_REASONS[reason],
        invoice_id=invoice_id,
        evidence=evidence,
        recorded_at=recorded_at,
        final_at=final_at,
        version=version,
    )
