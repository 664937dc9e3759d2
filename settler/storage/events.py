"""The outbox: events, written in the transaction that causes them (RULES.md section 6).

Read back by `settler.storage.feed`, sent by way of `settler.storage.webhooks`.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from settler.domain.events import Event
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
            "data": dict(e.data),
            "is_fanned_out": False,
        }
        for e in events
    ]
    await insert_missing(conn, schema.events, rows, key=["type", "object_id", "version"])
    told.note(conn, events)
