"""Holds: what stops a settlement until an operator lets it pass."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from settler.domain.ids import HoldId, InvoiceId, TransferId, derived_id
from settler.domain.records import Hold
from settler.domain.settlement import HoldReason, Stop
from settler.storage import schema
from settler.storage.sql import chunks, insert_missing, is_one_of

_t = schema.holds
_CLOSED = ("settled", "canceled")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """What holds say of one invoice."""

    released: frozenset[Stop] = frozenset()
    """What an operator has let pass."""
    standing: frozenset[Stop] = frozenset()
    """What stops it now, also where nothing speaks for that any more: it is an operator's to let pass."""


async def place(
    conn: AsyncConnection, stops: Sequence[tuple[InvoiceId, Stop]], *, now: datetime, who: str | None = None
) -> None:
    """Puts holds in place; one that is there, released or not, stays as it is. `who`: the operator, if one did it."""
    rows = [
        {
            "id": derived_id("hld", now, invoice_id, stop.reason.value, stop.transfer_id or ""),
            "invoice_id": invoice_id,
            "reason": stop.reason.value,
            "subject": stop.transfer_id or "",
            "detail": stop.detail,
            "held_at": now,
            "held_by": who,
        }
        for invoice_id, stop in stops
    ]
    await insert_missing(conn, _t, rows, key=["invoice_id", "reason", "subject"])


async def stopped(conn: AsyncConnection, ids: Iterable[InvoiceId]) -> dict[InvoiceId, Stopped]:
    """By invoice; those without any hold are left out."""
    released: dict[InvoiceId, set[Stop]] = {}
    standing: dict[InvoiceId, set[Stop]] = {}
    for chunk in chunks(ids):
        for row in await conn.execute(select(_t).where(is_one_of(conn, _t.c.invoice_id, chunk))):
            hold = _hold(row)
            (standing if hold.stands else released).setdefault(hold.invoice_id, set()).add(hold.stop)
    return {
        id_: Stopped(released=frozenset(released.get(id_, ())), standing=frozenset(standing.get(id_, ())))
        for id_ in {*released, *standing}
    }


async def get(conn: AsyncConnection, id_: HoldId, *, lock: bool = False) -> Hold | None:
    query = select(_t).where(_t.c.id == id_)
    row = (await conn.execute(query.with_for_update() if lock else query)).one_or_none()
    return None if row is None else _hold(row)


async def of_invoice(conn: AsyncConnection, id_: InvoiceId) -> list[Hold]:
    """All of it, released ones too, the oldest first."""
    return [_hold(row) for row in await conn.execute(select(_t).where(_t.c.invoice_id == id_).order_by(_t.c.id))]


async def find(
    conn: AsyncConnection,
    *,
    stands: bool | None = True,
    reason: HoldReason | None = None,
    invoice_id: InvoiceId | None = None,
    merchant: str | None = None,
    before: str | None = None,
    limit: int = 50,
) -> list[Hold]:
    """Newest first. `stands`: only such as stop a settlement now (`True`), only released ones, or all (`None`).
    `before`: id to go on below.
    """
    i = schema.invoices
    query = select(_t).join(i, i.c.id == _t.c.invoice_id).order_by(_t.c.id.desc()).limit(limit)
    if stands is True:
        query = query.where(_t.c.released_at.is_(None), i.c.status.not_in(_CLOSED))
    if stands is False:
        query = query.where(_t.c.released_at.is_not(None))
    if reason is not None:
        query = query.where(_t.c.reason == reason.value)
    if invoice_id is not None:
        query = query.where(_t.c.invoice_id == invoice_id)
    if merchant is not None:
        query = query.where(i.c.merchant == merchant)
    if before is not None:
        query = query.where(_t.c.id < before)
    return [_hold(row) for row in await conn.execute(query)]


async def release(conn: AsyncConnection, hold: Hold) -> bool:
    """Writes that it was released; `False` where it had been already."""
    statement = (
        update(_t)
        .where(_t.c.id == hold.id, _t.c.released_at.is_(None))
        .values(released_at=hold.released_at, released_by=hold.released_by, release_reason=hold.release_reason)
    )
    return (await conn.execute(statement)).rowcount == 1


async def stand_again(conn: AsyncConnection, id_: HoldId, *, now: datetime, who: str, detail: str) -> None:
    """A manual hold that was released is put in place once more."""
    await conn.execute(
        update(_t)
        .where(_t.c.id == id_)
        .values(held_at=now, held_by=who, detail=detail, released_at=None, released_by=None, release_reason=None)
    )


async def count_by_reason(conn: AsyncConnection, *, merchant: str | None = None) -> dict[HoldReason, int]:
    """Holds that stand, on invoices not settled. `merchant`: that merchant's alone."""
    counts = dict.fromkeys(HoldReason, 0)
    i = schema.invoices
    query = (
        select(_t.c.reason, func.count())
        .join(i, i.c.id == _t.c.invoice_id)
        .where(_t.c.released_at.is_(None), i.c.status.not_in(_CLOSED))
        .group_by(_t.c.reason)
    )
    if merchant is not None:
        query = query.where(i.c.merchant == merchant)
    for reason, count in await conn.execute(query):
        counts[HoldReason(reason)] = int(count)
    return counts


def _hold(row: Row[Any]) -> Hold:
    return Hold(
        id=HoldId(row.id),
        invoice_id=InvoiceId(row.invoice_id),
        stop=Stop(
            reason=HoldReason(row.reason),
            transfer_id=TransferId(row.subject) if row.subject else None,
            detail=row.detail,
        ),
        held_at=row.held_at,
        held_by=row.held_by,
        released_at=row.released_at,
        released_by=row.released_by,
        release_reason=row.release_reason,
    )
