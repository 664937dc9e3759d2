"""The log of attempts: when each ended, how long it took and what came back. Kept for a while (`settler.stages.tidy`).

What does not belong here: the state of a delivery, which holds its last attempt for good
(`settler.storage.webhook_deliveries`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from settler.domain.delivery import DeliveryId, LoggedAttempt
from settler.storage import schema
from settler.storage.sql import insert

_a = schema.webhook_attempts


async def log_attempts(conn: AsyncConnection, attempts: Sequence[LoggedAttempt]) -> None:
    """Appends what was attempted, in order; in the transaction that records what came of it."""
    await insert(
        conn,
        _a,
        [
            {
                "delivery_id": attempt.delivery_id,
                "at": attempt.at,
                "duration_ms": attempt.duration_ms,
                "status_code": attempt.status_code,
                "error": attempt.error,
            }
            for attempt in attempts
        ],
    )


async def attempts_of(conn: AsyncConnection, id_: DeliveryId, *, limit: int) -> list[LoggedAttempt]:
    """The newest `limit` attempts of a delivery, newest first."""
    query = select(_a).where(_a.c.delivery_id == id_).order_by(_a.c.seq.desc()).limit(limit)
    return [
        LoggedAttempt(
            delivery_id=DeliveryId(row.delivery_id),
            at=row.at,
            duration_ms=row.duration_ms,
            status_code=row.status_code,
            error=row.error,
        )
        for row in await conn.execute(query)
    ]


async def forget_attempts(conn: AsyncConnection, before: datetime, *, limit: int) -> int:
    """Deletes at most `limit` attempts that ended before that time, oldest first; how many."""
    oldest = select(_a.c.seq).where(_a.c.at < before).order_by(_a.c.at).limit(limit)
    result = await conn.execute(delete(_a).where(_a.c.seq.in_(oldest)))
    return int(result.rowcount)
