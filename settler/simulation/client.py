"""How people outside the daemon reach it: through the same verbs the API and the CLI call, each in one transaction.

A request may fail, and its answer may be lost. `Desk.done` asks again until it is told what came of it, as a careful
client does.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from settler.clock import Clock
from settler.domain.errors import Conflict, NotFound
from settler.domain.operator import By
from settler.simulation.life import Dead, Life
from settler.storage.chains import CursorMoved
from settler.storage.engine import Database, StorageUnavailable

T = TypeVar("T")

AGAIN_S = (0.5, 20.0)
"""Between these somebody asks again who was not answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The program said no, and changed nothing now."""

    why: str
    was_uncertain: bool
    """An answer before this one was lost: what was asked for may have been done then."""


class Desk:
    """The request handlers of a process without loops. It may die in the middle of a request; the next one finds
    another process in its place.
    """

    def __init__(
        self, open_database: Callable[[Life], Awaitable[Database]], *, clock: Clock, random: random.Random
    ) -> None:
        self._open_database = open_database
        self._db: Database | None = None
        self._life = Life("desk.0")
        self._lives = 0
        self.clock = clock
        self.random = random

    async def database(self) -> Database:
        """Of the process that serves now. Raises `StorageUnavailable`."""
        if self._db is None or self._life.is_dead:
            self._lives += 1
            self._db, self._life = None, Life(f"desk.{self._lives}")
            self._db = await self._open_database(self._life)
        return self._db

    def now(self) -> datetime:
        return self.clock.now()

    def entropy(self, count: int) -> bytes:
        return self.random.randbytes(count)

    def by(self, who: str, reason: str = "simulated") -> By:
        return By(who=who, reason=reason, now=self.now())

    async def done(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T | Refused:
        """What `work` returned from a transaction that was committed, or why the program refused it."""
        was_uncertain = False
        while True:
            try:
                async with (await self.database()).write() as conn:
                    return await work(conn)
            except (StorageUnavailable, Dead):
                was_uncertain = True
            except (Conflict, NotFound, CursorMoved) as refusal:
                return Refused(why=str(refusal), was_uncertain=was_uncertain)
            await asyncio.sleep(self.random.uniform(*AGAIN_S))

    async def seen(self, look: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        while True:
            try:
                async with (await self.database()).read() as conn:
                    return await look(conn)
            except (StorageUnavailable, Dead):
                await asyncio.sleep(self.random.uniform(*AGAIN_S))
