"""How far each relay has handed the feed on, by name; and what lies beyond.

A position is kept once what lies up to it was confirmed, and only by the relay that moves it from where it saw it: two
of one name cannot move it past what one of them has handed on. What does not belong here: handing on
(`settler.stages.relaying`), and giving events their places (`settler.storage.feed`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, delete, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from settler.domain.events import Event
from settler.storage import operator_actions, schema
from settler.storage.events import event_of
from settler.storage.sql import insert_one_if_absent

_e = schema.events
_r = schema.relays
# The statements of every tick, built once.
_POSITION = select(_r.c.position).where(_r.c.name == bindparam("name"))
_BEYOND = (
    select(_e).where(_e.c.position > bindparam("position")).order_by(_e.c.position).limit(bindparam("limit"))
)  # fmt: skip
_NEWEST = select(func.max(_e.c.position))
_UNPLACED = select(func.count().label("count"), func.min(_e.c.created_at).label("oldest")).where(
    text("events.position IS NULL")  # spelled as the partial index is
)
_OLDEST_BEYOND = (
    select(_e.c.created_at).where(_e.c.position > bindparam("position")).order_by(_e.c.position).limit(1)
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """An event at its place in the feed."""

    position: int
    """Counted from 1, without gaps."""
    event: Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How far one relay is."""

    name: str
    position: int
    behind: int
    """Events that it has not handed on yet, those without a place among them."""
    oldest_waiting_at: datetime | None
    """When the first event that it has not handed on was written; `None`: it has handed on all."""
    updated_at: datetime


async def position(conn: AsyncConnection, name: str) -> int:
    """The place up to which `name` has handed on; 0 for one that has not begun."""
    return (await conn.execute(_POSITION, {"name": name})).scalar_one_or_none() or 0


async def find_beyond(conn: AsyncConnection, position: int, *, limit: int) -> list[Placed]:
    """The next events behind `position`, at most `limit`, in order. Only those that have their place."""
    found = await conn.execute(_BEYOND, {"position": position, "limit": limit})
    return [Placed(position=row.position, event=event_of(row)) for row in found]


async def advance(conn: AsyncConnection, name: str, *, seen: int, to: int, now: datetime) -> bool:
    """Moves `name` from `seen` to `to`. `False`: it is no longer at `seen`, nothing changed."""
    assert 0 <= seen < to, f"a relay moves forward, not from {seen} to {to}"
    if seen == 0:
        row = {"name": name, "position": to, "updated_at": now}
        return await insert_one_if_absent(conn, _r, row, key=["name"])
    moved = await conn.execute(
        update(_r).where(_r.c.name == name, _r.c.position == seen).values(position=to, updated_at=now)
    )
    return moved.rowcount == 1


async def standings(conn: AsyncConnection) -> list[Standing]:
    """All relays that have begun, by name. Only reads: on a standby too."""
    newest = (await conn.execute(_NEWEST)).scalar_one() or 0
    unplaced = (await conn.execute(_UNPLACED)).one()
    rows = (await conn.execute(select(_r).order_by(_r.c.name))).all()
    return [
        Standing(
            name=row.name,
            position=row.position,
            behind=max(0, newest - row.position) + unplaced.count,
            oldest_waiting_at=(await conn.execute(_OLDEST_BEYOND, {"position": row.position})).scalar_one_or_none()
            or unplaced.oldest,
            updated_at=row.updated_at,
        )
        for row in rows
    ]


async def forget(conn: AsyncConnection, name: str, *, now: datetime, who: str, reason: str) -> int | None:
    """Lets `name` begin anew with the first event; where it stood, or `None` if there is no such relay."""
    stood = (await conn.execute(delete(_r).where(_r.c.name == name).returning(_r.c.position))).scalar_one_or_none()
    if stood is not None:
        await operator_actions.add(
            conn, action="relay.forget", object_id=name, who=who, reason=reason, now=now, detail={"position": stood}
        )
    return stood
