"""Deliveries as operators and merchants see them, and what they may do with one: list, show, retry.

What does not belong here: the worker's side of a delivery (`settler.storage.webhook_claims`), and replaying many
(`settler.storage.webhook_replays`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Row, literal_column, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from settler.domain.delivery import Delivery, DeliveryId, DeliveryStatus, EndpointId
from settler.domain.errors import Conflict, NotFound
from settler.domain.ids import EventId
from settler.storage import schema
from settler.storage.webhook_endpoints import get_endpoint
from settler.storage.webhook_replays import afresh

_e = schema.events
_w = schema.webhook_endpoints
_d = schema.webhook_deliveries


async def get_delivery(conn: AsyncConnection, id_: DeliveryId, *, merchant: str | None = None) -> Delivery | None:
    """`merchant`: only if it goes to that merchant's own endpoint."""
    query = _deliveries(merchant).where(_d.c.id == id_)
    row = (await conn.execute(query)).one_or_none()
    return None if row is None else _delivery(row)


async def find_deliveries(
    conn: AsyncConnection,
    *,
    status: DeliveryStatus | None = None,
    endpoint_id: EndpointId | None = None,
    event_id: EventId | None = None,
    event_type: str | None = None,
    merchant: str | None = None,
    before: str | None = None,
    limit: int = 50,
) -> list[Delivery]:
    """Newest first. `before`: id to go on below. `merchant`: only those to that merchant's own endpoints."""
    query = _deliveries(merchant).order_by(_d.c.id.desc()).limit(limit)
    if status is not None:
        query = query.where(_d.c.status == literal_column(f"'{status.value}'"))
    if endpoint_id is not None:
        query = query.where(_d.c.endpoint_id == endpoint_id)
    if event_id is not None:
        query = query.where(_d.c.event_id == event_id)
    if event_type is not None:
        query = query.where(_e.c.type == event_type)
    if before is not None:
        query = query.where(_d.c.id < before)
    return [_delivery(row) for row in await conn.execute(query)]


async def retry_delivery(
    conn: AsyncConnection, id_: DeliveryId, now: datetime, *, merchant: str | None = None
) -> Delivery:
    """Makes a delivery due at once; one that was delivered or dead has all its attempts again.

    `merchant`: only of that merchant's endpoints. Raises `NotFound`, or `Conflict` if the endpoint is
    disabled.
    """
    delivery = await get_delivery(conn, id_, merchant=merchant)
    if delivery is None:
        raise NotFound(f"there is no delivery {id_}")
    endpoint = await get_endpoint(conn, delivery.endpoint_id)
    if endpoint is None or not endpoint.is_live:
        raise Conflict("id", f"endpoint {delivery.endpoint_id} is disabled; enable it to send there")
    if delivery.status is DeliveryStatus.PENDING:
        await conn.execute(update(_d).where(_d.c.id == id_, _d.c.status == "pending").values(next_attempt_at=now))
    else:
        # Only what it still is: made due by somebody else meanwhile, it may be on its way under another's claim.
        same = (_d.c.id == id_) & (_d.c.status == delivery.status.value)
        await conn.execute(update(_d).where(same).values(afresh(now)))
    again = await get_delivery(conn, id_)
    assert again is not None, "deliveries are never deleted"
    return again


def _deliveries(merchant: str | None) -> Any:
    query = select(_d, _e.c.type.label("event_type")).join(_e, _e.c.id == _d.c.event_id)
    if merchant is not None:
        query = query.join(_w, _w.c.id == _d.c.endpoint_id).where(_w.c.merchant == merchant)
    return query


def _delivery(row: Row[Any]) -> Delivery:
    return Delivery(
        id=DeliveryId(row.id),
        endpoint_id=EndpointId(row.endpoint_id),
        event_id=EventId(row.event_id),
        event_type=row.event_type,
        status=DeliveryStatus(row.status),
        attempts=row.attempts,
        next_attempt_at=row.next_attempt_at,
        last_attempt_at=row.last_attempt_at,
        last_status_code=row.last_status_code,
        last_error=row.last_error,
        created_at=row.created_at,
        delivered_at=row.delivered_at,
    )
