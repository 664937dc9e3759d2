"""Holds: policies that stop a settlement until an operator releases it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from settler.domain.ids import InvoiceId, derived_id
from settler.domain.settlement import HoldReason
from settler.storage import schema
from settler.storage.sql import chunks, insert_missing

_t = schema.holds


async def place(conn: AsyncConnection, holds: Sequence[tuple[InvoiceId, HoldReason]], *, now: datetime) -> None:
    """Puts holds in place; one that is there, released or not, stays as it is."""
    rows = [
        {
            "id": derived_id("hld", now, invoice_id, reason.value),
            "invoice_id": invoice_id,
            "reason": reason.value,
            "held_at": now,
        }
        for invoice_id, reason in holds
    ]
    await insert_missing(conn, _t, rows, key=["invoice_id", "reason"])


async def released(conn: AsyncConnection, ids: Iterable[InvoiceId]) -> dict[InvoiceId, frozenset[HoldReason]]:
    """Which reasons an operator has lifted for each invoice; those without any are left out."""
    found: dict[InvoiceId, frozenset[HoldReason]] = {}
    for chunk in chunks(ids):
        query = select(_t.c.invoice_id, _t.c.reason).where(_t.c.invoice_id.in_(chunk), _t.c.released_at.is_not(None))
        for row in await conn.execute(query):
            invoice_id = InvoiceId(row.invoice_id)
            found[invoice_id] = found.get(invoice_id, frozenset()) | {HoldReason(row.reason)}
    return found


async def count_by_reason(conn: AsyncConnection) -> dict[HoldReason, int]:
    """Holds that stand, on invoices not settled."""
    counts = dict.fromkeys(HoldReason, 0)
    i = schema.invoices
    query = (
        select(_t.c.reason, func.count())
        .join(i, i.c.id == _t.c.invoice_id)
        .where(_t.c.released_at.is_(None), i.c.status.not_in(["settled", "canceled"]))
        .group_by(_t.c.reason)
    )
    for reason, count in await conn.execute(query):
        counts[HoldReason(reason)] = int(count)
    return counts
