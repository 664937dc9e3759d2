"""One way to the database: `write` and `read`, each a transaction, on SQLite and PostgreSQL alike.

Promises: what a block wrote is committed when it ends without an exception, and rolled back otherwise;
writers queue instead of failing; a read sees one state of the database throughout; every wait is bounded;
trouble with the database as such is `StorageUnavailable`. What does not belong here: tables and statements.

    async with db.write() as conn:      # no network call in here but the database's (STYLE 18)
        await conn.execute(...)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from copy import copy
from typing import Any, Literal, Self, assert_never

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from settler.domain.events import Event
from settler.storage import told
from settler.storage.connect import POOL_SIZE, postgres_engines, sqlite_engines
from settler.storage.errors import InvalidDatabaseUrl, StorageError, StorageUnavailable
from settler.storage.faults import unavailable_as_such
from settler.storage.url import PostgresUrl, SqliteUrl, parse_url

__all__ = ["Database", "InvalidDatabaseUrl", "StorageError", "StorageUnavailable"]

Guard = Callable[[AsyncConnection], Awaitable[None]]
"""Asked inside a transaction before anything is written; raises to refuse."""
WRITER_WAIT_S = 30.0
"""How long a writer of this process waits for the one before it (SQLite)."""


class Database:
    """An open database. Made by `open`, closed by `dispose`; shared by all tasks of one event loop."""

    def __init__(self, dialect: Literal["sqlite", "postgresql"], writer: AsyncEngine, reader: AsyncEngine) -> None:
        self.dialect = dialect
        self._writer = writer
        self._reader = reader
        self._turn = _Turn()
        self._on_told: Callable[[Sequence[Event]], None] | None = None
        self._guard: Guard | None = None
        told.attach(writer)

    @classmethod
    async def open(cls, url: str, *, pool_size: int = POOL_SIZE) -> Self:
        """Opens `url` and checks that it answers. Makes the file of a SQLite database, never a table.

        Raises `InvalidDatabaseUrl`, or `StorageUnavailable` when it does not answer.
        """
        match parse_url(url):
            case SqliteUrl() as parsed:
                db = cls("sqlite", *sqlite_engines(parsed, pool_size))
            case PostgresUrl() as parsed:
                db = cls("postgresql", *postgres_engines(parsed, pool_size))
            case never:
                assert_never(never)
        try:
            async with db.read() as conn:
                await conn.execute(text("SELECT 1"))
        except BaseException:
            await db.dispose()
            raise
        return db

    def on_told(self, listener: Callable[[Sequence[Event]], None]) -> None:
        """Has the events of each `write` told to `listener` once they are committed, in the task that wrote them. It
        must not raise, nor wait.
        """
        self._on_told = listener

    def guarded(self, guard: Guard) -> Self:
        """The same database, whose every `write` begins with `guard` and writes nothing where that raises."""
        view = copy(self)
        view._guard = guard
        return view

    @asynccontextmanager
    async def write(self, *, is_told: bool = True) -> AsyncIterator[AsyncConnection]:
        """One transaction: committed at the end of the block, rolled back if it raises. Not to be nested.

        `is_told` false: the caller tells of its events, with `tell`: they are those of several tasks.

        PostgreSQL: READ COMMITTED. SQLite: takes the one write lock at once, so what it reads stays true.
        """
        turn = self._turn.taken() if self.dialect == "sqlite" else nullcontext()
        async with turn:
            with unavailable_as_such(may_write=True):
                async with self._writer.begin() as conn:
                    events = told.begin(conn)
                    if self._guard is not None:
                        await self._guard(conn)
                    yield conn
        if is_told:
            self.tell(events)

    def tell(self, events: Sequence[Event]) -> None:
        """Of events that were committed, in the task whose they are."""
        if self._on_told is not None and events:
            self._on_told(events)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """One transaction that sees a single state of the database and refuses to write."""
        turn = self._turn.taken() if self._reader is self._writer else nullcontext()
        async with turn:
            with unavailable_as_such(may_write=False):
                async with self._reader.begin() as conn:
                    yield conn

    async def dispose(self) -> None:
        """Closes all connections. Nothing of this object may be in use or be used after."""
        await self._reader.dispose()
        await self._writer.dispose()


class _Turn:
    """One writer at a time in this process, whichever view of the database it writes through."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._holder: asyncio.Task[Any] | None = None

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        task = asyncio.current_task()
        assert self._holder is not task, "a transaction inside one of the same task would wait for itself"
        try:
            async with asyncio.timeout(WRITER_WAIT_S):
                await self._lock.acquire()
        except TimeoutError as error:
            raise StorageUnavailable(f"waited {WRITER_WAIT_S:.0f} s for another writer of this process") from error
        self._holder = task
        try:
            yield
        finally:
            self._holder = None
            self._lock.release()
