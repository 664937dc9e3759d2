"""In the place of `dispatch` when the daemon runs in the shadow of another system: nobody is told of anything.

The events are kept and can be pulled from the API; they are only never delivered, also not by a later run that is
no shadow.
"""

from __future__ import annotations

from settler.stages.progress import Progress
from settler.storage import webhooks
from settler.storage.engine import Database

BATCH = 1_000


class Mute:
    def __init__(self, db: Database) -> None:
        self._db = db

    async def tick(self) -> Progress:
        """Passes over what is in the outbox."""
        async with self._db.write() as conn:
            passed = await webhooks.pass_over(conn, BATCH)
        return Progress(has_more=passed == BATCH, facts={"passed_over": passed})

    async def finish(self) -> None:
        """Passes over all there is: the last act of a shadow run that is stopped.

        One that is killed leaves what it wrote since its last tick.
        """
        while (await self.tick()).has_more:
            pass
