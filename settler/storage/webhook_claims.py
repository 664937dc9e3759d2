"""The worker's side of a delivery: claimed for the time of a lease, then recorded as it went.

    #   pending ─ claim_due ─▶ pending, claimed ─┬─ record_delivered ─▶ delivered
    #      ▲  ▲                                  ├─ record_retry ─────▶ pending, later
    #      │  └─ the lease runs out: once more ──┤
    #      └─ release                            └─ record_dead ──────▶ dead
Any number of workers may do this against one PostgreSQL: two never hold one claim.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, bindparam, exists, literal_column, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from settler.domain.delivery import DeliveryId, DeliveryStatus, Endpoint, EndpointId
from settler.domain.events import Event
from settler.storage import schema
from settler.storage.events import event_of
from settler.storage.sql import chunks, padded
from settler.storage.webhook_endpoints import endpoint_of

_e = schema.events
_w = schema.webhook_endpoints
_d = schema.webhook_deliveries
_IS_PENDING = _d.c.status == literal_column("'pending'")
"""Spelled as the partial index is: SQLite matches a literal, never a bound value."""
_IS_DUE = and_(
    _IS_PENDING,
    _d.c.next_attempt_at <= bindparam("now"),
    or_(_d.c.claimed_until.is_(None), _d.c.claimed_until <= bindparam("now")),
)


def _ended(status: DeliveryStatus) -> dict[str, Any]:
    return {"status": status.value, "next_attempt_at": None, "claimed_until": None}


# The statements that run once an endpoint or a delivery, built once.
_DUE_OF = (
    select(_d.c.id.label("delivery_id"), _d.c.attempts, _e)
    .join(_e, _e.c.id == _d.c.event_id)
    .where(_d.c.endpoint_id == bindparam("endpoint"), _IS_DUE)
    .order_by(_d.c.next_attempt_at, _d.c.id)
    .limit(bindparam("room"))
    .with_for_update(skip_locked=True, of=_d)
)
# One probe of the index an endpoint, however long its backlog.
_WITH_DUE = (
    select(_w)
    .where(
        _w.c.disabled_at.is_(None),
        _w.c.id.not_in(bindparam("full", expanding=True)),
        exists().where(_d.c.endpoint_id == _w.c.id, _IS_DUE),
    )
    .order_by(_w.c.id <= bindparam("after"), _w.c.id)
    .limit(bindparam("limit"))
)
_WITH_DUE_OF = _WITH_DUE.where(_w.c.id.in_(bindparam("only", expanding=True)))
ANY_DUE = exists().where(_w.c.disabled_at.is_(None), exists().where(_d.c.endpoint_id == _w.c.id, _IS_DUE))
"""Whether there is anything to claim, where there is room for all. Takes `now`."""
_CLAIM = update(_d).where(_d.c.id.in_(bindparam("ids", expanding=True))).values(claimed_until=bindparam("until"))
_DELIVERED = (
    update(_d)
    .where(_d.c.id == bindparam("id_"), _d.c.status != DeliveryStatus.DELIVERED.value)
    .values(
        **_ended(DeliveryStatus.DELIVERED),
        attempts=bindparam("attempts_"),
        last_attempt_at=bindparam("now"),
        last_status_code=bindparam("status_code"),
        last_error=None,
        delivered_at=bindparam("now"),
    )
)
_RELEASE = (
    update(_d)
    .where(_d.c.id == bindparam("id_"), _IS_PENDING, _d.c.claimed_until == bindparam("until"))
    .values(claimed_until=None)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A delivery that is ours to send until `lease_until`."""

    id: DeliveryId
    endpoint: Endpoint
    event: Event
    attempts: int
    """Made before this one."""
    lease_until: datetime
    """Also the claim's name: whoever claims it next has another."""


async def claim_due(
    conn: AsyncConnection,
    now: datetime,
    *,
    per_endpoint: int,
    limit: int,
    lease_s: float,
    taken: Mapping[EndpointId, int] | None = None,
    ahead: Mapping[EndpointId, int] | None = None,
    only: Collection[EndpointId] | None = None,
    after: str = "",
) -> list[Claim]:
    """Claims due deliveries until `now + lease_s`: at most `limit`, and of one endpoint `per_endpoint` less
    what is `taken`. `ahead`: so many more of one endpoint.

    Endpoints take turns by id, beginning above `after`: pass the last endpoint served, and none waits for
    another's backlog. Within an endpoint the longest due comes first. `only`: at these endpoints; `None`: at
    all.
    """
    if limit <= 0 or (only is not None and not only):
        return []
    taken, ahead = taken or {}, ahead or {}
    full = [id_ for id_, count in taken.items() if count >= per_endpoint + ahead.get(id_, 0)]
    endpoints = await _endpoints_with_due(conn, now, full=full, only=only, limit=limit, after=after)
    claims: list[Claim] = []
    lease_until = now + timedelta(seconds=lease_s)
    share = max(1, limit // max(1, len(endpoints)))
    for endpoint in endpoints:
        room = per_endpoint + ahead.get(endpoint.id, 0) - taken.get(endpoint.id, 0)
        room = min(room, share, limit - len(claims))
        if room > 0:
            claims += await _due_of(conn, endpoint, now, room=room, lease_until=lease_until)
    # Nobody comes between: on PostgreSQL the rows are locked, on SQLite all is.
    for part in chunks(claim.id for claim in claims):
        await conn.execute(_CLAIM, {"ids": padded(part), "until": lease_until})
    return claims


async def record_delivered(conn: AsyncConnection, claim: Claim, now: datetime, *, status_code: int) -> None:
    """A success is a success, also when the lease was lost to another worker meanwhile."""
    await record_all_delivered(conn, [(claim, now, status_code)])


async def record_all_delivered(conn: AsyncConnection, delivered: Sequence[tuple[Claim, datetime, int]]) -> None:
    """As `record_delivered`, of many: claims, when each was answered, and with what status."""
    if delivered:
        await conn.execute(
            _DELIVERED,
            [
                {"id_": claim.id, "attempts_": claim.attempts + 1, "now": at, "status_code": status_code}
                for claim, at, status_code in delivered
            ],
        )


async def record_retry(
    conn: AsyncConnection,
    claim: Claim,
    now: datetime,
    *,
    next_attempt_at: datetime,
    status_code: int | None,
    error: str,
) -> None:
    """A failed attempt, to be repeated. Without effect if the claim is not ours any more."""
    await conn.execute(
        update(_d)
        .where(_is_still(claim))
        .values(
            attempts=claim.attempts + 1,
            next_attempt_at=next_attempt_at,
            claimed_until=None,
            last_attempt_at=now,
            last_status_code=status_code,
            last_error=error,
        )
    )


async def record_dead(
    conn: AsyncConnection, claim: Claim, now: datetime, *, status_code: int | None, error: str
) -> None:
    """A failed attempt, the last. Without effect if the claim is not ours any more."""
    await conn.execute(
        update(_d)
        .where(_is_still(claim))
        .values(
            **_ended(DeliveryStatus.DEAD),
            attempts=claim.attempts + 1,
            last_attempt_at=now,
            last_status_code=status_code,
            last_error=error,
        )
    )


async def release(conn: AsyncConnection, claims: Sequence[Claim]) -> None:
    """Gives back claims that were not sent: due at once, for anybody. Without effect on those that are not ours any
    more.
    """
    if claims:
        # in the order of ids, as whoever else changes several of them does
        held = sorted((claim.id, claim.lease_until) for claim in claims)
        await conn.execute(_RELEASE, [{"id_": id_, "until": until} for id_, until in held])


def _is_still(claim: Claim) -> ColumnElement[bool]:
    return and_(_d.c.id == claim.id, _IS_PENDING, _d.c.claimed_until == claim.lease_until)


async def _endpoints_with_due(
    conn: AsyncConnection,
    now: datetime,
    *,
    full: Sequence[EndpointId],
    only: Collection[EndpointId] | None,
    limit: int,
    after: str,
) -> list[Endpoint]:
    asked = {"now": now, "full": full, "after": after, "limit": limit}
    found = (
        await conn.execute(_WITH_DUE, asked)
        if only is None
        else await conn.execute(_WITH_DUE_OF, {**asked, "only": padded(sorted(only))})
    )
    return [endpoint_of(row) for row in found]


async def _due_of(
    conn: AsyncConnection, endpoint: Endpoint, now: datetime, *, room: int, lease_until: datetime
) -> list[Claim]:
    found = await conn.execute(_DUE_OF, {"endpoint": endpoint.id, "now": now, "room": room})
    return [
        Claim(
            id=DeliveryId(row.delivery_id),
            endpoint=endpoint,
            event=event_of(row),
            attempts=row.attempts,
            lease_until=lease_until,
        )
        for row in found
    ]
