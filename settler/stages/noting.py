"""Writes down when API keys were last used."""

from __future__ import annotations

from settler.stages.progress import Progress
from settler.storage import api_keys
from settler.storage.api_keys import KeyUses
from settler.storage.engine import Database


class Noting:
    """One a process. What was used since the last tick is not known after a crash: it is for people who look for keys
    that nobody uses.
    """

    def __init__(self, db: Database, uses: KeyUses) -> None:
        self._db = db
        self._uses = uses

    async def tick(self) -> Progress:
        uses = self._uses.take()
        if uses:
            async with self._db.write() as conn:
                await api_keys.note_uses(conn, uses)
        return Progress(has_more=False, facts={"keys": len(uses)})
