"""Webhooks as kept: endpoints, the outbox of events, one delivery an event and endpoint, and the log of attempts. The
door to all of these but what operators decide about endpoints (`settler.storage.webhook_admin`).

The life of a delivery:
    #   fan_out ─▶ pending ─▶ claimed, sent, recorded (`webhook_claims`) ─▶ delivered, or dead
    #                 ▲                                                         │
    #                 └────────── retry_delivery, replay ───────────────────────┘
What does not belong here: when to try again (`settler.domain.delivery`), and sending (`settler.webhook`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, exists, func, literal_column, or_, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from settler.domain.delivery import DeliveryStatus, Endpoint
from settler.storage import schema
from settler.storage.sql import chunks, insert_missing, padded
from settler.storage.webhook_attempts import attempts_of, forget_attempts, log_attempts
from settler.storage.webhook_claims import (
    ANY_DUE,
    Claim,
    claim_due,
    record_all_delivered,
    record_dead,
    record_delivered,
    record_retry,
    release,
)
from settler.storage.webhook_deliveries import find_deliveries, get_delivery, retry_delivery
from settler.storage.webhook_endpoints import (
    disable_endpoint,
    enable_endpoint,
    find_endpoints,
    forget_previous_secrets,
    get_endpoint,
    insert_endpoint,
    live_endpoints,
    rotate_secret,
)
from settler.storage.webhook_replays import Replay, Replayed, count_to_see, is_by_event, new_delivery, replay

__all__ = [
    "Claim",
    "OutboxStats",
    "Replay",
    "Replayed",
    "add_endpoint",
    "attempts_of",
    "bury",
    "claim_due",
    "close_outbox",
    "count_to_see",
    "disable_endpoint",
    "enable_endpoint",
    "fan_out",
    "find_deliveries",
    "find_endpoints",
    "forget_attempts",
    "forget_previous_secrets",
    "get_delivery",
    "get_endpoint",
    "has_work",
    "is_by_event",
    "log_attempts",
    "outbox_stats",
    "record_all_delivered",
    "record_dead",
    "record_delivered",
    "record_retry",
    "release",
    "replay",
    "retry_delivery",
    "rotate_secret",
]

DELIVERIES_PER_FAN_OUT = 5_000
"""Rows one fan-out makes, give or take one event's: many endpoints mean fewer events at a time."""
_e = schema.events
_w = schema.webhook_endpoints
_d = schema.webhook_deliveries

# Spelled as the partial indexes are: SQLite matches a literal, never a bound value.
_IS_PENDING = _d.c.status == literal_column("'pending'")
_NOT_FANNED_OUT = text("NOT events.is_fanned_out")

# The statements of every tick, built once: building one costs more than running it.
_TO_FAN_OUT = (
    select(_e.c.seq, _e.c.id, _e.c.type, _e.c.merchant, _e.c.created_at)
    .where(_NOT_FANNED_OUT)
    .order_by(_e.c.seq)
    .limit(bindparam("limit"))
    .with_for_update(skip_locked=True)
)
_FANNED_OUT = update(_e).where(_e.c.seq.in_(bindparam("seqs", expanding=True))).values(is_fanned_out=True)
_TO_BURY = (
    select(_d.c.id, _w.c.disabled_reason)
    .join(_w, _w.c.id == _d.c.endpoint_id)
    .where(_IS_PENDING, _w.c.disabled_at.is_not(None))
    .limit(bindparam("limit"))
    .with_for_update(skip_locked=True, of=_d)
)
# Three looks, each by its index: one condition for all would read an endpoint's whole backlog.
_HAS_WORK = select(
    or_(
        exists(select(_e.c.seq).where(_NOT_FANNED_OUT)),
        ANY_DUE,
        exists().where(_w.c.disabled_at.is_not(None), exists().where(_d.c.endpoint_id == _w.c.id, _IS_PENDING)),
    )
)
_PENDING_SINCE = select(func.count(), func.min(_d.c.created_at)).where(_IS_PENDING)
_FRESH_SINCE = select(func.count(), func.min(_e.c.created_at)).select_from(_e).where(_NOT_FANNED_OUT)
_COUNT_DEAD = select(func.count()).select_from(_d).where(_d.c.status == literal_column("'dead'"))


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxStats:
    """What waits, for `settler_outbox_pending`, `settler_outbox_oldest_seconds` and
    `settler_webhook_dead_letters`."""

    pending: int
    """Deliveries not delivered yet, and events not fanned out yet."""
    oldest_s: float
    """Age of the oldest of them; 0 where none waits."""
    dead_letters: int


async def add_endpoint(conn: AsyncConnection, endpoint: Endpoint) -> None:
    """Adds an endpoint that gets the events committed after it, and none from before."""
    await close_outbox(conn, endpoint.created_at)
    await insert_endpoint(conn, endpoint)


async def close_outbox(conn: AsyncConnection, now: datetime) -> None:
    """Makes the deliveries of all events there are, before an endpoint comes into being that is not to get them."""
    # What still waits in the outbox is older. No comparing of times: the clocks of two hosts differ. Also where there
    # is no endpoint yet: to mark all events at once as done would be one statement later than that look, and between
    # the two another endpoint may come into being, and an event for it.
    while await fan_out(conn, now, limit=500):
        pass


async def has_work(conn: AsyncConnection, now: datetime) -> bool:
    """Whether there is anything to fan out, to bury or to claim. Only reads."""
    return bool((await conn.execute(_HAS_WORK, {"now": now})).scalar_one())


async def fan_out(conn: AsyncConnection, now: datetime, limit: int) -> int:
    """Makes the deliveries of the oldest events that have none yet; how many events, at most `limit`, were
    done."""
    events = (await conn.execute(_TO_FAN_OUT, {"limit": limit})).all()
    if not events:
        return 0
    # After the events: an endpoint not seen by this statement was committed later than every event above.
    endpoints = await live_endpoints(conn)
    done: list[int] = []
    rows: list[dict[str, Any]] = []
    for event in events:
        rows += [
            new_delivery(endpoint, event.id, event.created_at, now)
            for endpoint in endpoints
            if endpoint.wants(event.type, event.merchant)
        ]
        done.append(event.seq)
        if len(rows) >= DELIVERIES_PER_FAN_OUT:
            break
    # In the order in which a replay makes them: two that insert the same rows must not wait for each other.
    rows.sort(key=lambda row: (row["endpoint_id"], row["event_id"]))
    await insert_missing(conn, _d, rows, key=None)
    for part in chunks(done):
        await conn.execute(_FANNED_OUT, {"seqs": padded(part)})
    return len(done)


async def pass_over(conn: AsyncConnection, limit: int) -> int:
    """Takes the oldest events out of the outbox without a delivery; how many, at most `limit`. For a shadow run, whose
    events nobody is to be told of, now or later.
    """
    # Held first, in the order in which the feed places them: an UPDATE alone takes rows as it comes upon them, and it
    # and the placer would wait for each other.
    oldest = select(_e.c.seq).where(_NOT_FANNED_OUT).order_by(_e.c.seq).limit(limit).with_for_update()
    found = list((await conn.execute(oldest)).scalars())
    for part in chunks(found):
        await conn.execute(_FANNED_OUT, {"seqs": padded(part)})
    return len(found)


async def bury(conn: AsyncConnection, limit: int) -> int:
    """Makes dead letters of pending deliveries whose endpoint is disabled; how many, at most `limit`."""
    rows = (await conn.execute(_TO_BURY, {"limit": limit})).all()
    for row in rows:
        await conn.execute(
            update(_d)
            .where(_d.c.id == row.id)
            .values(
                status=DeliveryStatus.DEAD.value,
                next_attempt_at=None,
                claimed_until=None,
                last_error=f"endpoint disabled: {row.disabled_reason}",
            )
        )
    return len(rows)


async def outbox_stats(conn: AsyncConnection, now: datetime) -> OutboxStats:
    waiting = (await conn.execute(_PENDING_SINCE)).one()
    fresh = (await conn.execute(_FRESH_SINCE)).one()
    dead = await conn.execute(_COUNT_DEAD)
    oldest = min((at for at in (waiting[1], fresh[1]) if at is not None), default=now)
    return OutboxStats(
        pending=waiting[0] + fresh[0],
        oldest_s=max(0.0, (now - oldest).total_seconds()),
        dead_letters=dead.scalar_one(),
    )
