"""The outbox: events, written in the transaction that causes them (RULES.md section 6).

Read back by `settler.storage.feed`, sent by way of `settler.storage.webhooks`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from settler.domain.events import Event, EventType
from settler.domain.ids import EventId
from settler.storage import schema, told
from settler.storage.sql import insert_missing


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
            "data": e.data,
            "is_fanned_out": False,
        }
        for e in events
    ]
    await insert_missing(conn, schema.events, rows, key=["type", "object_id", "version"])
    told.note(conn, events)


def event_of(row: Row[Any]) -> Event:
    return Event(
        id=EventId(row.id),
        type=EventType(row.type),
        created_at=row.created_at,
        object_id=row.object_id,
        version=row.version,
        merchant=row.merchant,
        data=row.data,
    )
