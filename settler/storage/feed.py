"""The feed: all events in one order that nobody reading on after his last one misses anything of.

A number drawn when an event is written does not do: on PostgreSQL an event with a smaller number may be committed after
one with a larger number was read. So an event gets its place in the feed once it is committed, from one placer at a
time; whoever reads the feed, and a loop of the daemon, places what has none yet.

    # writer A   seq 5 ......................... COMMIT
    # writer B         seq 6  COMMIT
    # placer                         6 → place 1            5 → place 2
    # reader                                    after 1 ───────────────▶ 5

What one transaction saw of another was placed before it: the feed tells causes before effects.
"""

from __future__ import annotations

from sqlalchemy import bindparam, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from settler.domain.errors import InvalidInput
from settler.domain.events import Event
from settler.storage import schema
from settler.storage.engine import Database
from settler.storage.events import event_of

_e = schema.events
_UNPLACED = text("events.position IS NULL")
"""Spelled as the partial index is."""
# The statements of every tick, built once: building one costs more than running it.
_NEWEST = select(func.max(_e.c.position))
_OLDEST = select(_e.c.seq).where(_UNPLACED).order_by(_e.c.seq).limit(bindparam("limit"))
_ANY_UNPLACED = select(_e.c.seq).where(_UNPLACED).limit(1)
_PLACE = update(_e).where(_e.c.seq == bindparam("seq_")).values(position=bindparam("place"))
_LOCK = 0x5E771E5
"""PostgreSQL's advisory lock that one placer has at a time."""

PLACED_AT_ONCE = 2_000
"""Events that one transaction places: it takes some 50 ms."""


async def place(conn: AsyncConnection, limit: int = PLACED_AT_ONCE) -> int:
    """Gives the oldest events without a place the next places; how many, at most `limit`.

    To be the only thing its transaction does: others wait for its end.
    """
    if conn.dialect.name == "postgresql":
        await conn.execute(select(func.pg_advisory_xact_lock(_LOCK)))
    newest = (await conn.execute(_NEWEST)).scalar_one() or 0
    oldest = (await conn.execute(_OLDEST, {"limit": limit})).scalars().all()
    if oldest:
        await conn.execute(_PLACE, [{"seq_": seq, "place": newest + n} for n, seq in enumerate(oldest, 1)])
    return len(oldest)


async def is_behind(conn: AsyncConnection) -> bool:
    """Whether any event waits for its place. Only reads."""
    return (await conn.execute(_ANY_UNPLACED)).first() is not None


async def catch_up(db: Database) -> None:
    """Places all events that were committed before this call."""
    async with db.read() as conn:
        if not await is_behind(conn):
            return
    has_more = True
    while has_more:
        async with db.write() as conn:
            has_more = await place(conn) == PLACED_AT_ONCE


async def find_after(conn: AsyncConnection, after: str | None, *, merchant: str | None, limit: int) -> list[Event]:
    """At most `limit` events that follow `after` (`None`: from the first), in the order of their places.

    `merchant`: only that merchant's. Raises `InvalidInput` when there is no event `after`, for this merchant.
    """
    query = select(_e).where(_e.c.position.is_not(None)).order_by(_e.c.position).limit(limit)
    if merchant is not None:
        query = query.where(_e.c.merchant == merchant)
    if after is not None:
        wanted = select(_e.c.position, _e.c.merchant).where(_e.c.id == after)
        found = (await conn.execute(wanted)).one_or_none()
        if found is None or found.position is None or merchant not in {None, found.merchant}:
            raise InvalidInput("after", f"there is no event {after}; leave it out to begin with the first")
        query = query.where(_e.c.position > found.position)
    return [event_of(row) for row in await conn.execute(query)]
