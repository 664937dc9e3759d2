"""Lets go of what has served: answers kept for repeated requests, and amounts whose reservation ended."""

from __future__ import annotations

from datetime import timedelta

from settler.clock import Clock
from settler.stages.progress import Progress
from settler.storage import idempotency, invoices
from settler.storage.engine import Database

KEEP_ANSWERS = timedelta(hours=48)
"""An `Idempotency-Key` is promised to work for a day; twice that is kept."""
BATCH = 1_000


class Tidy:
    """One a process; several do no harm."""

    def __init__(self, *, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    async def tick(self) -> Progress:
        now = self._clock.now()
        async with self._db.write() as conn:
            answers = await idempotency.prune(conn, now - KEEP_ANSWERS, limit=BATCH)
            amounts = await invoices.free_amounts(conn, now, limit=BATCH)
        return Progress(has_more=BATCH in (answers, amounts), facts={"answers": answers, "amounts": amounts})
