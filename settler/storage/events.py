"""The outbox: events, written in the transaction that causes them (RULES.md section 6), and read back in order.

On PostgreSQL a number is drawn before its transaction commits, so that a later number may be seen first; a reader that
goes on after it would miss the earlier one. Until writers of events queue up, what `after` gives is in order and, under
several writers at the same moment, not yet free of gaps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from settler.domain.errors import InvalidInput
from settler.domain.events import Event, EventType
from settler.domain.ids import EventId
from settler.storage import schema
from settler.storage.sql import insert_missing

_e = schema.events


async def append(conn: AsyncConnection, events: Sequence[Event]) -> None:
    """Adds events in order. One that tells of a change already told is left out."""
    rows = [
        {
            "id": e.id,
            "type": e.type.value,
            "object_id": e.object_id,
            "version": e.version,
            "merchant": e.merchant,
            "created_at": e.created_at,
            "data": dict(e.data),
            "is_fanned_out": False,
        }
        for e in events
    ]
    await insert_missing(conn, _e, rows, key=["type", "object_id", "version"])


async def find_after(conn: AsyncConnection, after: str | None, *, merchant: str | None, limit: int) -> list[Event]:
    """At most `limit` events that follow `after` (`None`: from the first), oldest first.

    `merchant`: only that merchant's. Raises `InvalidInput` when there is no event `after`, for this merchant.
    """
    query = select(_e).order_by(_e.c.seq).limit(limit)
    if merchant is not None:
        query = query.where(_e.c.merchant == merchant)
    if after is not None:
        place = select(_e.c.seq, _e.c.merchant).where(_e.c.id == after)
        found = (await conn.execute(place)).one_or_none()
        if found is None or merchant not in {None, found.merchant}:
            raise InvalidInput("after", f"there is no event {after}; leave it out to begin with the first")
        query = query.where(_e.c.seq > found.seq)
    return [_event(row) for row in await conn.execute(query)]


def _event(row: Row[Any]) -> Event:
    return Event(
        id=EventId(row.id),
        type=EventType(row.type),
        created_at=row.created_at,
        object_id=row.object_id,
        version=row.version,
        merchant=row.merchant,
        data=row.data,
    )
