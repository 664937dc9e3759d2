"""Gives committed events their place in the feed, so that a reader of `GET /v1/events` finds little left to place."""

from __future__ import annotations

from settler.stages.progress import Progress
from settler.storage import feed
from settler.storage.engine import Database


class Placing:
    """One a process; several take turns."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def tick(self) -> Progress:
        async with self._db.read() as conn:
            if not await feed.is_behind(conn):
                return Progress(has_more=False, facts={"placed": 0})
        async with self._db.write() as conn:
            placed = await feed.place(conn)
        return Progress(has_more=placed == feed.PLACED_AT_ONCE, facts={"placed": placed})
