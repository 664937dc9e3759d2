"""Webhook endpoints as kept. Secrets stand here in clear, since they sign; nothing but the sender is to read
them.

What does not belong here: their deliveries (`settler.storage.webhooks`, which is also the door to these
verbs).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from settler.domain.delivery import Endpoint, EndpointId
from settler.domain.events import EventType
from settler.storage import schema

_w = schema.webhook_endpoints
_LIVE = select(_w).where(_w.c.disabled_at.is_(None)).order_by(_w.c.id)


async def insert_endpoint(conn: AsyncConnection, endpoint: Endpoint) -> None:
    await conn.execute(
        insert(_w).values(
            id=endpoint.id,
            url=endpoint.url,
            merchant=endpoint.merchant,
            types=[type_.value for type_ in endpoint.types],
            secret=endpoint.secret,
            previous_secret=endpoint.previous_secret,
            previous_secret_until=endpoint.previous_secret_until,
            created_at=endpoint.created_at,
            disabled_at=endpoint.disabled_at,
            disabled_reason=endpoint.disabled_reason,
        )
    )


async def get_endpoint(conn: AsyncConnection, id_: EndpointId, *, merchant: str | None = None) -> Endpoint | None:
    """`merchant`: only if it is that merchant's own."""
    query = select(_w).where(_w.c.id == id_)
    if merchant is not None:
        query = query.where(_w.c.merchant == merchant)
    row = (await conn.execute(query)).one_or_none()
    return None if row is None else endpoint_of(row)


async def find_endpoints(
    conn: AsyncConnection,
    *,
    merchant: str | None = None,
    is_live: bool | None = True,
    before: str | None = None,
    limit: int = 50,
) -> list[Endpoint]:
    """Newest first. `merchant`: only that merchant's own; `is_live`: `None` for both; `before`: id to go on
    below."""
    query = select(_w).order_by(_w.c.id.desc()).limit(limit)
    if merchant is not None:
        query = query.where(_w.c.merchant == merchant)
    if is_live is not None:
        query = query.where(_w.c.disabled_at.is_(None) if is_live else _w.c.disabled_at.is_not(None))
    if before is not None:
        query = query.where(_w.c.id < before)
    return [endpoint_of(row) for row in await conn.execute(query)]


async def live_endpoints(conn: AsyncConnection) -> Sequence[Endpoint]:
    """All that are live: as many as operators and merchants have added, a bound of the API's."""
    return [endpoint_of(row) for row in await conn.execute(_LIVE)]


async def disable_endpoint(conn: AsyncConnection, id_: EndpointId, now: datetime, *, reason: str) -> bool:
    """No new deliveries, and the pending ones become dead letters with the next ticks; whether it was
    live."""
    # Its deliveries are not touched here: there may be a million, and this runs in a request. `bury` takes
    # them in pieces.
    result = await conn.execute(
        update(_w).where(_w.c.id == id_, _w.c.disabled_at.is_(None)).values(disabled_at=now, disabled_reason=reason)
    )
    return bool(result.rowcount)


async def enable_endpoint(conn: AsyncConnection, id_: EndpointId) -> bool:
    """Sends there again what comes from now on; whether it was disabled."""
    result = await conn.execute(
        update(_w).where(_w.c.id == id_, _w.c.disabled_at.is_not(None)).values(disabled_at=None, disabled_reason=None)
    )
    return bool(result.rowcount)


async def rotate_secret(conn: AsyncConnection, id_: EndpointId, new_secret: str, *, until: datetime | None) -> bool:
    """From now on `new_secret` signs, and until `until` the one it replaces too (`None`: no longer); whether it is
    live.

    Of three secrets the oldest is gone: rotated again before `until`, that of the first rotation is the previous one.
    """
    result = await conn.execute(
        update(_w)
        .where(_w.c.id == id_, _w.c.disabled_at.is_(None))
        .values(
            secret=new_secret,
            previous_secret=None if until is None else _w.c.secret,
            previous_secret_until=until,
        )
    )
    return bool(result.rowcount)


async def forget_previous_secrets(conn: AsyncConnection, now: datetime) -> int:
    """Deletes the secrets that sign no more; how many."""
    result = await conn.execute(
        update(_w).where(_w.c.previous_secret_until <= now).values(previous_secret=None, previous_secret_until=None)
    )
    return int(result.rowcount)


def endpoint_of(row: Row[Any]) -> Endpoint:
    return Endpoint(
        id=EndpointId(row.id),
        url=row.url,
        merchant=row.merchant,
        types=tuple(EventType(name) for name in row.types),
        secret=row.secret,
        previous_secret=row.previous_secret,
        previous_secret_until=row.previous_secret_until,
        created_at=row.created_at,
        disabled_at=row.disabled_at,
        disabled_reason=row.disabled_reason,
    )
