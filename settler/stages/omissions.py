"""Payments the first reading saw and the second leaves out, though their blocks are still in the chain: a block never
loses a log. A node whose logs lag its blocks catches up; a payment somebody invented never comes.
"""

from __future__ import annotations

from collections.abc import Iterable

from chains.errors import NodeInconsistent
from chains.model import SpanRead
from chains.pool import Pool
from settler.domain.ids import TransferId
from settler.domain.invoices import TransferRecord

SIGHTINGS = 3
"""Readings in a row that must leave out a payment, in a block that is still in the chain, before it is orphaned."""
PROBE_BATCH = 50
"""Headers asked at once when payments were left out."""


class Omissions:
    """Of one chain's second reading."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._seen = 0

    async def check(self, held: Iterable[TransferRecord], read: SpanRead) -> frozenset[TransferId]:
        """The payments `held`, which may be orphaned if the reading lacks them. Raises `NodeInconsistent` until several
        readings running left some out whose blocks are still there.
        """
        checked = {t.id: t for t in held}
        shown = {t.identity for t in read.transfers}
        missing = {t.block_number: t.block_hash for t in checked.values() if t.identity not in shown}
        if not missing:
            return frozenset(checked)
        headers = await self._pool.headers(sorted(missing)[:PROBE_BATCH])
        standing = [b.number for b in headers if b is not None and b.hash == missing[b.number]]
        if not standing:
            return frozenset(checked)
        self._seen += 1
        if self._seen < SIGHTINGS:
            raise NodeInconsistent(
                f"payments seen before are left out, of blocks that are still there: {standing} "
                f"(seen {self._seen} of {SIGHTINGS} times before they are given up)"
            )
        return frozenset(checked)

    def forget(self) -> None:
        """A reading was committed: what is left out from now on is counted anew."""
        self._seen = 0
