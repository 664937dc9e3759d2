"""Events of a range sent again, piece by piece: each call is one short transaction and says where the next goes on.

    by delivery     all endpoints, or dead letters only: deliveries there are become due again
    by event        one endpoint named: also deliveries there never were, since it was added later or was disabled

Event ids stay what they were: a receiver that had one knows it. What is pending is left alone, it comes anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Select, func, literal_column, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from settler.domain.delivery import DeliveryStatus, Endpoint, EndpointId, delivery_id
from settler.domain.errors import Conflict, NotFound
from settler.domain.ids import ENTROPY_BYTES, EventId, make_id
from settler.storage import schema
from settler.storage.sql import chunks, insert_missing, is_one_of
from settler.storage.webhook_endpoints import get_endpoint

_e = schema.events
_w = schema.webhook_endpoints
_d = schema.webhook_deliveries

_EPOCH = datetime(1970, 1, 2, tzinfo=UTC)
"""Before all events, and not before the time that ids count from."""
_SLACK = timedelta(seconds=1)
"""Ids hold their event's time in milliseconds: they narrow the reading, the time itself decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What is to be sent again."""

    since: datetime | None
    """Of the events, inclusive; `None`: from the first."""
    until: datetime
    """Exclusive. Fixed from the first piece to the last, or a replay would run after its own deliveries."""
    is_dead_only: bool = False
    endpoint_id: EndpointId | None = None
    """Only there; `None`: to every live endpoint, what it had."""
    merchant: str | None = None
    """Only to that merchant's own endpoints; `None`: to anybody's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What one piece did."""

    replayed: int
    """Deliveries due again."""
    created: int
    """Deliveries of events that the endpoint had never been sent."""
    seen: int
    """Deliveries, or events, looked at."""
    after: str | None
    """Where the next piece goes on; `None`: there is none."""


def is_by_event(wanted: Replay) -> bool:
    """Whether `after` is an event's id; else it is a delivery's."""
    return wanted.endpoint_id is not None and not wanted.is_dead_only


async def replay(conn: AsyncConnection, wanted: Replay, now: datetime, *, after: str | None, limit: int) -> Replayed:
    """The piece that follows `after` (`None`: the first), oldest events first: at most `limit` deliveries or events.

    Raises `NotFound` where there is no such endpoint, `Conflict` where it is disabled.
    """
    endpoint = await _endpoint(conn, wanted)
    if endpoint is not None and is_by_event(wanted):
        return await _by_event(conn, wanted, endpoint, now, after=after, limit=limit)
    query = _deliveries(wanted, after).order_by(_d.c.id).limit(limit).with_for_update(of=_d)
    ids = list((await conn.execute(query)).scalars())
    await _make_due(conn, ids, now)
    return Replayed(replayed=len(ids), created=0, seen=len(ids), after=str(ids[-1]) if len(ids) == limit else None)


async def count_to_see(conn: AsyncConnection, wanted: Replay) -> int:
    """How many deliveries or events all pieces together will look at, by what is there now."""
    await _endpoint(conn, wanted)
    rows = _events(wanted, None) if is_by_event(wanted) else _deliveries(wanted, None)
    return int((await conn.execute(select(func.count()).select_from(rows.subquery()))).scalar_one())


async def _endpoint(conn: AsyncConnection, wanted: Replay) -> Endpoint | None:
    if wanted.endpoint_id is None:
        return None
    endpoint = await get_endpoint(conn, wanted.endpoint_id, merchant=wanted.merchant)
    if endpoint is None:
        raise NotFound(f"there is no webhook endpoint {wanted.endpoint_id}")
    if not endpoint.is_live:
        raise Conflict("endpoint_id", f"{endpoint.id} is disabled; enable it first")
    return endpoint


async def _by_event(
    conn: AsyncConnection, wanted: Replay, endpoint: Endpoint, now: datetime, *, after: str | None, limit: int
) -> Replayed:
    events = (await conn.execute(_events(wanted, after).order_by(_e.c.id).limit(limit))).all()
    asked = {EventId(event.id): event for event in events if endpoint.wants(event.type, event.merchant)}
    had: dict[str, Any] = {}
    for part in chunks(asked):
        query = select(_d.c.event_id, _d.c.id, _d.c.status).where(
            _d.c.endpoint_id == endpoint.id, is_one_of(conn, _d.c.event_id, part)
        )
        # In the order in which the sending records them, so that neither waits for the other.
        query = query.order_by(_d.c.id).with_for_update(of=_d)
        had |= {row.event_id: row for row in await conn.execute(query)}
    ended = [row.id for row in had.values() if row.status != DeliveryStatus.PENDING.value]
    await _make_due(conn, ended, now)
    missing = [new_delivery(endpoint, id_, event.created_at, now) for id_, event in asked.items() if id_ not in had]
    await insert_missing(conn, _d, missing, key=None)
    return Replayed(
        replayed=len(ended),
        created=len(missing),
        seen=len(events),
        after=str(events[-1].id) if len(events) == limit else None,
    )


def new_delivery(endpoint: Endpoint, event: EventId, event_time: datetime, now: datetime) -> dict[str, Any]:
    """The row of a delivery that is due at once."""
    return {
        "id": delivery_id(endpoint.id, event, event_time),
        "endpoint_id": endpoint.id,
        "event_id": event,
        "status": DeliveryStatus.PENDING.value,
        "attempts": 0,
        "next_attempt_at": now,
        "created_at": now,
    }


def afresh(now: datetime) -> dict[str, Any]:
    """What makes a delivery due, with all its attempts before it."""
    return {
        "status": DeliveryStatus.PENDING.value,
        "attempts": 0,
        "next_attempt_at": now,
        "claimed_until": None,
        "delivered_at": None,
    }


async def _make_due(conn: AsyncConnection, ids: Sequence[str], now: datetime) -> None:
    for part in chunks(ids):
        await conn.execute(update(_d).where(is_one_of(conn, _d.c.id, part)).values(afresh(now)))


def _deliveries(wanted: Replay, after: str | None) -> Select[Any]:
    # Spelled as the partial index is: SQLite matches a literal, never a bound value.
    dead = _d.c.status == literal_column("'dead'")
    ended = dead if wanted.is_dead_only else _d.c.status.in_(["dead", "delivered"])
    query = (
        select(_d.c.id)
        .join(_e, _e.c.id == _d.c.event_id)
        .join(_w, _w.c.id == _d.c.endpoint_id)
        .where(ended, _w.c.disabled_at.is_(None), *_within(wanted, _d.c.id, "dlv", after))
    )
    if wanted.endpoint_id is not None:
        query = query.where(_d.c.endpoint_id == wanted.endpoint_id)
    if wanted.merchant is not None:
        query = query.where(_w.c.merchant == wanted.merchant)
    return query


def _events(wanted: Replay, after: str | None) -> Select[Any]:
    return select(_e.c.id, _e.c.type, _e.c.merchant, _e.c.created_at).where(*_within(wanted, _e.c.id, "evt", after))


def _within(wanted: Replay, id_: Any, prefix: str, after: str | None) -> list[Any]:
    """Of the range, and following `after`; by the index of `id_`."""
    conditions = [_e.c.created_at < wanted.until, id_ < _first_id(prefix, max(wanted.until, _EPOCH) + _SLACK)]
    if wanted.since is not None:
        conditions += [_e.c.created_at >= wanted.since, id_ >= _first_id(prefix, max(wanted.since, _EPOCH) - _SLACK)]
    if after is not None:
        conditions.append(id_ > after)
    return conditions


def _first_id(prefix: str, time: datetime) -> str:
    """No id of this time or later is smaller."""
    return make_id(prefix, time, bytes(ENTROPY_BYTES))
