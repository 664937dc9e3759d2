"""Who did what, when and why: one appended row an action of an operator."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from settler.domain.ids import derived_id
from settler.storage import schema


async def add(conn: AsyncConnection, *, action: str, object_id: str, who: str, reason: str, now: datetime) -> None:
    """Records an action, in the transaction that carries it out."""
    await conn.execute(
        insert(schema.operator_actions).values(
            id=derived_id("act", now, action, object_id, who, reason),
            at=now,
            who=who,
            action=action,
            object_id=object_id,
            reason=reason,
        )
    )
