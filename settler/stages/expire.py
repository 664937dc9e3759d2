"""Ends what time has ended, and finishes what was left unfinished. Reads only the database.

An invoice expires when every chain of its options was read past its expiry: the chains' time decides, never our clock.
"""

from __future__ import annotations

from settler.clock import Clock
from settler.domain.ids import InvoiceId
from settler.stages.assessing import assess_invoices
from settler.stages.effects import Reporter
from settler.stages.progress import Progress
from settler.stages.setup import Judgement
from settler.storage import invoices
from settler.storage.engine import Database

BATCH = 500
"""Invoices looked at in one transaction."""


class Expire:
    """All chains' invoices; one such stage a process."""

    def __init__(self, *, db: Database, clock: Clock, judgement: Judgement, reporter: Reporter) -> None:
        self._db = db
        self._clock = clock
        self._judgement = judgement
        self._reporter = reporter
        self._looked_up_to: InvoiceId | None = None
        """Those left unfinished are gone through in turn, so that ones that stay unpaid keep no others waiting."""

    async def tick(self) -> Progress:
        """Expires what is due, and settles what is paid and final but was left (a chain was resumed)."""
        async with self._db.read() as conn:
            due: list[InvoiceId] = await invoices.due_for_expiry(conn, BATCH)
            left = await invoices.left_unfinished(conn, self._looked_up_to, BATCH)
        self._looked_up_to = left[-1] if len(left) == BATCH else None
        if not due and not left:
            return Progress(has_more=False, facts={"invoices": 0})
        async with self._db.write() as conn:
            assessed = await assess_invoices(conn, [*due, *left], self._judgement, now=self._clock.now())
        self._reporter.assessed(assessed, 0.0)
        return Progress(
            has_more=bool(assessed.changed) and len(due) == BATCH,
            facts={"invoices": len(assessed.changed), "settled": len(assessed.settled)},
        )
