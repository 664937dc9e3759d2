"""What operators and merchants decide about webhook endpoints: each change with its line in the audit log.

Each is to be the last that its transaction does (`settler.storage.operator_actions.add`). What does not belong here:
the plain statements (`settler.storage.webhook_endpoints`), and what the sending itself decides (410 disables).
"""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import urlsplit

from sqlalchemy.ext.asyncio import AsyncConnection

from settler.domain.delivery import OVERLAP_MAX_S, Endpoint, EndpointId
from settler.domain.errors import Conflict, NotFound
from settler.domain.operator import By
from settler.storage import operator_actions, webhooks

MAX_ENDPOINTS = 100
"""Live ones, in all: each event makes a row for each that wants it."""
MAX_ENDPOINTS_OF_ONE = 20
"""Of them, one merchant's own: whose key may write must not leave the others without any."""


async def add(conn: AsyncConnection, endpoint: Endpoint, by: By) -> None:
    """A new endpoint, which gets the events from now on. Raises `Conflict` where there are too many."""
    await _need_room(conn, "url", endpoint.merchant)
    await webhooks.add_endpoint(conn, endpoint)
    await _record(conn, "add", endpoint, by)


async def remove(conn: AsyncConnection, id_: EndpointId, by: By, *, merchant: str | None = None) -> Endpoint:
    """Nothing more is sent there. Again is no error, and no second line in the log. Raises `NotFound`."""
    endpoint = await _get(conn, id_, merchant)
    if not endpoint.is_live:
        return endpoint
    why = f"removed by {by.who}" + (f": {by.reason}" if by.reason else "")
    await webhooks.disable_endpoint(conn, id_, by.now, reason=why)
    await _record(conn, "remove", endpoint, by)
    return await _get(conn, id_, merchant)


async def enable(conn: AsyncConnection, id_: EndpointId, by: By, *, merchant: str | None = None) -> Endpoint:
    """Takes an endpoint up again that was removed, or answered 410: it gets the events from now on.

    What it missed is for a replay. Raises `NotFound`, and `Conflict` where it is enabled, or there are too many.
    """
    endpoint = await _get(conn, id_, merchant)
    if endpoint.is_live:
        raise Conflict("id", f"{id_} is enabled already")
    await _need_room(conn, "id", endpoint.merchant)
    await webhooks.close_outbox(conn, by.now)
    await webhooks.enable_endpoint(conn, id_)
    await _record(conn, "enable", endpoint, by, was=endpoint.disabled_reason or "")
    return await _get(conn, id_, merchant)


async def rotate(
    conn: AsyncConnection,
    id_: EndpointId,
    by: By,
    *,
    new_secret: str,
    overlap_s: int,
    merchant: str | None = None,
) -> Endpoint:
    """From now on `new_secret` signs, and for `overlap_s` seconds the one before it as well.

    There are never more than two: rotated again within the overlap, the oldest is gone at once. `overlap_s` 0 ends all
    older ones now. Raises `NotFound`, and `Conflict` where the endpoint is disabled.
    """
    assert 0 <= overlap_s <= OVERLAP_MAX_S, f"{overlap_s=} is not within 0 .. {OVERLAP_MAX_S}"
    endpoint = await _get(conn, id_, merchant)
    until = by.now + timedelta(seconds=overlap_s) if overlap_s else None
    if not await webhooks.rotate_secret(conn, id_, new_secret, until=until):
        raise Conflict("id", f"{id_} is disabled, nothing is signed for it; enable it first")
    await _record(conn, "rotate_secret", endpoint, by, overlap_s=overlap_s)
    return await _get(conn, id_, merchant)


async def _get(conn: AsyncConnection, id_: EndpointId, merchant: str | None) -> Endpoint:
    endpoint = await webhooks.get_endpoint(conn, id_, merchant=merchant)
    if endpoint is None:
        raise NotFound(f"there is no webhook endpoint {id_}")
    return endpoint


async def _need_room(conn: AsyncConnection, field: str, merchant: str | None) -> None:
    live = await webhooks.find_endpoints(conn, limit=MAX_ENDPOINTS)
    if len(live) >= MAX_ENDPOINTS:
        raise Conflict(field, f"there are {MAX_ENDPOINTS} endpoints already; remove one first")
    if merchant is not None and sum(each.merchant == merchant for each in live) >= MAX_ENDPOINTS_OF_ONE:
        raise Conflict(field, f"merchant {merchant!r} has {MAX_ENDPOINTS_OF_ONE} endpoints already; remove one first")


async def _record(conn: AsyncConnection, verb: str, endpoint: Endpoint, by: By, **more: str | int) -> None:
    # The host alone: the log is for good, and some receivers carry a key of theirs in path or query.
    detail = {"host": urlsplit(endpoint.url).hostname or "", "merchant": endpoint.merchant or "", **more}
    await operator_actions.add(
        conn,
        action=f"webhook_endpoint.{verb}",
        object_id=endpoint.id,
        who=by.who,
        reason=by.reason,
        now=by.now,
        detail=detail,
    )
