"""Settlements and reversals: appended, never changed (the database refuses)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any

from sqlalchemy import Row, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from chains.model import Address, BaseUnits, BlockHash, BlockNumber, ChainId, TxHash
from settler.domain.ids import InvoiceId, ReversalId, SettlementId, TransferId
from settler.domain.records import Reversal, Settlement, SettlementLine
from settler.storage import bulk, schema
from settler.storage.sql import chunks, is_one_of

_s, _l, _r = schema.settlements, schema.settlement_lines, schema.reversals


async def add(conn: AsyncConnection, settlements: Sequence[Settlement]) -> None:
    await bulk.insert(
        conn,
        _s,
        [
            {
                "id": s.id,
                "invoice_id": s.invoice_id,
                "generation": s.generation,
                "merchant": s.merchant,
                "reference": s.reference,
                "currency": s.currency,
                "scale": s.scale,
                "amount_requested": s.amount_requested,
                "amount_settled": s.amount_settled,
                "amount_surplus": s.amount_surplus,
                "policy": dict(s.policy),
                "settled_at": s.settled_at,
            }
            for s in settlements
        ],
    )
    lines = [
        {"settlement_id": s.id, "index": index, **dict(zip(_LINE, _of_line(line), strict=True))}
        for s in settlements
        for index, line in enumerate(s.lines)
    ]
    await bulk.insert(conn, _l, lines)


async def reverse(conn: AsyncConnection, settlement_id: SettlementId, reversal: Reversal) -> None:
    await conn.execute(
        insert(_r).values(
            id=reversal.id,
            settlement_id=settlement_id,
            reason=reversal.reason,
            reversed_at=reversal.reversed_at,
        )
    )


async def get(conn: AsyncConnection, id_: SettlementId) -> Settlement | None:
    return (await get_many(conn, [id_])).get(id_)


async def get_many(conn: AsyncConnection, ids: Iterable[SettlementId]) -> dict[SettlementId, Settlement]:
    found: dict[SettlementId, Settlement] = {}
    for chunk in chunks(ids):
        rows = (await conn.execute(_select().where(is_one_of(conn, _s.c.id, chunk)))).all()
        found |= {s.id: s for s in await _with_lines(conn, rows)}
    return found


async def find(
    conn: AsyncConnection,
    *,
    invoice_id: InvoiceId | None = None,
    merchant: str | None = None,
    before: str | None = None,
    limit: int = 50,
) -> list[Settlement]:
    """Newest first. `before`: id to go on below."""
    query = _select().order_by(_s.c.id.desc()).limit(limit)
    if invoice_id is not None:
        query = query.where(_s.c.invoice_id == invoice_id)
    if merchant is not None:
        query = query.where(_s.c.merchant == merchant)
    if before is not None:
        query = query.where(_s.c.id < before)
    return await _with_lines(conn, (await conn.execute(query)).all())


async def generations(conn: AsyncConnection, ids: Iterable[InvoiceId]) -> dict[InvoiceId, int]:
    """How often each invoice has been settled so far; those never settled are left out."""
    found: dict[InvoiceId, int] = {}
    for chunk in chunks(ids):
        query = (
            select(_s.c.invoice_id, func.max(_s.c.generation))
            .where(is_one_of(conn, _s.c.invoice_id, chunk))
            .group_by(_s.c.invoice_id)
        )
        found |= {InvoiceId(invoice_id): int(last) for invoice_id, last in await conn.execute(query)}
    return found


async def in_force_on(conn: AsyncConnection, transfer_ids: Iterable[TransferId]) -> list[Settlement]:
    """Settlements, not reversed, that rest on any of the transfers."""
    ids: set[SettlementId] = set()
    for chunk in chunks(transfer_ids):
        query = select(_l.c.settlement_id).where(is_one_of(conn, _l.c.transfer_id, chunk)).distinct()
        ids |= {SettlementId(row.settlement_id) for row in await conn.execute(query)}
    found = await get_many(conn, sorted(ids))
    return [s for s in found.values() if s.reversal is None]


def _select() -> Any:
    return select(
        _s,
        _r.c.id.label("reversal_id"),
        _r.c.reason.label("reversal_reason"),
        _r.c.reversed_at,
    ).outerjoin(_r, _r.c.settlement_id == _s.c.id)


async def _with_lines(conn: AsyncConnection, rows: Sequence[Row[Any]]) -> list[Settlement]:
    lines: dict[str, list[SettlementLine]] = {row.id: [] for row in rows}
    for chunk in chunks(lines):
        query = select(_l).where(is_one_of(conn, _l.c.settlement_id, chunk)).order_by(_l.c.settlement_id, _l.c.index)
        for row in await conn.execute(query):
            lines[row.settlement_id].append(_line(row))
    return [_settlement(row, tuple(lines[row.id])) for row in rows]


_LINE = (
    "transfer_id", "chain_id", "chain", "token", "token_address", "decimals", "amount_settled", "amount_surplus",
    "tx_hash", "log_index", "block_number", "block_hash", "payer", "pay_to",
)  # fmt: skip
_of_line = attrgetter(*_LINE)


def _line(row: Row[Any]) -> SettlementLine:
    return SettlementLine(
        transfer_id=TransferId(row.transfer_id),
        chain=row.chain,
        chain_id=ChainId(row.chain_id),
        token=row.token,
        token_address=Address(row.token_address),
        decimals=row.decimals,
        amount_settled=BaseUnits(row.amount_settled),
        amount_surplus=BaseUnits(row.amount_surplus),
        tx_hash=TxHash(row.tx_hash),
        log_index=row.log_index,
        block_number=BlockNumber(row.block_number),
        block_hash=BlockHash(row.block_hash),
        payer=Address(row.payer),
        pay_to=Address(row.pay_to),
    )


def _settlement(row: Row[Any], lines: tuple[SettlementLine, ...]) -> Settlement:
    reversal = None
    if row.reversal_id is not None:
        reversal = Reversal(id=ReversalId(row.reversal_id), reason=row.reversal_reason, reversed_at=row.reversed_at)
    return Settlement(
        id=SettlementId(row.id),
        invoice_id=InvoiceId(row.invoice_id),
        generation=row.generation,
        merchant=row.merchant,
        reference=row.reference,
        currency=row.currency,
        scale=row.scale,
        amount_requested=row.amount_requested,
        amount_settled=row.amount_settled,
        amount_surplus=row.amount_surplus,
        policy=row.policy,
        settled_at=row.settled_at,
        lines=lines,
        reversal=reversal,
    )
