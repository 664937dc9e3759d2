"""Lets go of what has served: answers kept for repeated requests, amounts whose reservation ended, the log of old
webhook attempts, secrets that sign no more, sessions that are over, and memory that is held free."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from settler.clock import Clock
from settler.stages.progress import Progress
from settler.storage import idempotency, invoices, ops_sessions, webhooks
from settler.storage.engine import Database

KEEP_ANSWERS = timedelta(hours=48)
"""An `Idempotency-Key` is promised to work for a day; twice that is kept."""
KEEP_ATTEMPTS = timedelta(days=30)
"""Ten times as long as a delivery is tried; its last attempt stays known with the delivery itself."""
BATCH = 1_000


class Tidy:
    """One a process; several do no harm."""

    def __init__(self, *, db: Database, clock: Clock, give_back: Callable[[], None]) -> None:
        """`give_back`: the process's own memory, to the system."""
        self._db = db
        self._clock = clock
        self._give_back = give_back

    async def tick(self) -> Progress:
        self._give_back()
        now = self._clock.now()
        async with self._db.write() as conn:
            answers = await idempotency.prune(conn, now - KEEP_ANSWERS, limit=BATCH)
            amounts = await invoices.free_amounts(conn, now, limit=BATCH)
            attempts = await webhooks.forget_attempts(conn, now - KEEP_ATTEMPTS, limit=BATCH)
            sessions = await ops_sessions.prune(conn, now - ops_sessions.KEPT, limit=BATCH)
            secrets = await webhooks.forget_previous_secrets(conn, now)
        return Progress(
            has_more=BATCH in (answers, amounts, attempts, sessions),
            facts={
                "answers": answers,
                "amounts": amounts,
                "attempts": attempts,
                "secrets": secrets,
                "sessions": sessions,
            },
        )
