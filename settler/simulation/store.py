"""The world's database: one for all its processes, which it outlives, and what may go wrong with it.

Promises: `settler.storage` runs on it as it ships, on SQLite in memory or on a PostgreSQL server; transactions of
different processes exclude each other, first come, first served; what a process had open when it died is rolled back at
that moment; the same calls with the same seed run the same statements in the same order.

    store = await SimStore.create(None, random=random)
    db = await store.open(life)         # a Database like any other, of one process
    store.inject("commit unknown, done", 0.02)

Not as in life: SQLite's readers wait for a writer of another process (they need not, but a writer that waits is rare
here), and on PostgreSQL no two transactions ever run side by side.
"""

from __future__ import annotations

import asyncio
import random as random_
from collections import Counter, deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import assert_never

from sqlalchemy import Table, text

from settler.simulation import store_engines
from settler.simulation.life import Life
from settler.simulation.store_connection import SimConnection
from settler.simulation.store_drivers import Driver, PostgresDriver, SqliteDriver
from settler.simulation.store_faults import StoreFaults
from settler.storage import migrate, schema
from settler.storage.engine import Database
from settler.storage.errors import InvalidDatabaseUrl
from settler.storage.outcome import Outcome, Row, outcome, rows_of
from settler.storage.url import PostgresUrl, SqliteUrl, parse_url

OnCommit = Callable[[Life, tuple[str, ...], int], None]
"""Which process committed, what tables it wrote to, and in how many statements. Called at the moment of COMMIT,
whatever the process will learn of it. It must not wait; what it raises reaches the process, which may catch it."""
OnTrace = Callable[[str, str], None]
"""A process's name, and what happened to it."""

_sqlite_image: list[bytes] = []
"""An empty database as the migrations make it: made once a Python process."""


class SimStore:
    """Made by `create`, ended by `close`."""

    def __init__(self, driver: Driver, *, random: random_.Random, on_trace: OnTrace | None = None) -> None:
        self.driver = driver
        self.turn = Turn()
        self.faults = StoreFaults(random=random, on_strike=on_trace)
        self.on_commit: OnCommit | None = None
        self._calm = StoreFaults(random=random)
        self._checker_life = Life("checker")
        self._checker: Database | None = None

    @classmethod
    async def create(cls, url: str | None, *, random: random_.Random, on_trace: OnTrace | None = None) -> SimStore:
        """An empty, migrated database: in memory, or the PostgreSQL one at `url`, whose rows are removed.

        Raises `InvalidDatabaseUrl` for a database whose name does not say that it is a simulation's.
        """
        store = cls(_driver(url), random=random, on_trace=on_trace)
        await store_engines.prepare(store.driver.dialect, partial(store._connect, None, is_reader=False))
        store._checker = store._database(None)
        if isinstance(store.driver, PostgresDriver) or not _sqlite_image:
            await migrate.upgrade_open(store._checker)
        if isinstance(store.driver, PostgresDriver):
            store.driver.empty()
        elif not _sqlite_image:
            _sqlite_image.append(store.driver.raw.serialize())
        return store

    async def open(self, life: Life) -> Database:
        """What a process opens as it starts. Raises `StorageUnavailable` while the database is gone."""
        life.on_kill(partial(self.kill, life))
        db = self._database(life)
        async with db.read() as conn:
            await conn.execute(text("SELECT 1"))
        return db

    def kill(self, life: Life) -> None:
        """Rolls back what the process has open, and lets the next one have its turn. Done as `life` ends by itself."""
        holder = self.turn.holder
        if holder is not None and holder.life is life:
            holder.rollback()
        self.turn.forget(life)

    async def close(self) -> None:
        """Ends the database (in memory), or the connection to it. No process may use it any more."""
        assert self._checker is not None, "made by `create`"
        await self._checker.dispose()
        self.driver.close()

    # -- faults --------------------------------------------------------------------------------------------------------

    @property
    def struck(self) -> Counter[str]:
        return self.faults.struck

    def inject(self, name: str, probability: float) -> None:
        self.faults.inject(name, probability)

    def withdraw(self, name: str) -> None:
        self.faults.withdraw(name)

    def heal(self) -> None:
        self.faults.heal()

    # -- what checkers see: committed data, without faults -------------------------------------------------------------

    @property
    def holder(self) -> Life | None:
        """Whose transaction is open: `rows` and the like wait for its end."""
        return None if self.turn.holder is None else self.turn.holder.life

    @property
    def checker(self) -> Database:
        """A database like that of a process which nothing ever happens to."""
        assert self._checker is not None, "made by `create`"
        return self._checker

    async def rows(self, table: Table) -> list[Row]:
        if self.is_at_rest:
            return self.peek(table)
        async with self.checker.read() as conn:
            return await rows_of(conn, table)

    async def snapshot(self) -> Mapping[str, list[Row]]:
        """All rows of all tables, at one moment."""
        if self.is_at_rest:
            return {table.name: self.peek(table) for table in schema.metadata.sorted_tables}
        async with self.checker.read() as conn:
            return {table.name: await rows_of(conn, table) for table in schema.metadata.sorted_tables}

    @property
    def is_at_rest(self) -> bool:
        """Nothing is written that is not committed: `peek` may be used. So it is within `on_commit`."""
        return self.turn.holder is None or not self.turn.holder.has_written

    def peek(self, table: Table) -> list[Row]:
        """All rows of a table at once, for who cannot wait. Asserts that the database is at rest."""
        assert self.is_at_rest, f"what {self.holder} writes is not committed yet"
        dialect = self.driver.dialect
        cursor = self.driver.raw.execute(store_engines.plain_select(dialect, table))
        columns, rows = cursor.description, cursor.fetchall()
        if dialect == "postgresql" and (self.turn.holder is None or not self.turn.holder.is_open):
            self.driver.rollback()  # the driver has begun a transaction for it
        names = [column[0] for column in columns]
        found = [dict(zip(names, row, strict=True)) for row in rows]
        for name, decode in store_engines.decoders(dialect, table, tuple(column[1] for column in columns)):
            for row in found:
                row[name] = decode(row[name])
        return list[Row](found)

    async def outcome(self) -> Outcome:
        async with self.checker.read() as conn:
            return await outcome(conn)

    # -- for its connections -------------------------------------------------------------------------------------------

    def committed(self, life: Life, tables: tuple[str, ...], statements: int) -> None:
        if self.on_commit is not None and life is not self._checker_life:
            self.on_commit(life, tables, statements)

    def _database(self, life: Life | None) -> Database:
        writer = partial(self._connect, life, is_reader=False)
        if self.driver.dialect == "postgresql":
            return Database("postgresql", *store_engines.postgres_engines(writer))
        reader = partial(self._connect, life, is_reader=True)
        engines = store_engines.sqlite_engines(writer, reader)
        if life is not None:
            for engine in engines:
                life.on_kill(engine.let_go)
        return Database("sqlite", *engines)

    def _connect(self, life: Life | None, *, is_reader: bool) -> SimConnection:
        """`None`: the checker's."""
        if life is None:
            return SimConnection(self, self._checker_life, self._calm, is_reader=is_reader)
        return SimConnection(self, life, self.faults, is_reader=is_reader)


class Turn:
    """Which connection may use the database; the others stand in line."""

    def __init__(self) -> None:
        self.holder: SimConnection | None = None
        self._line: deque[tuple[SimConnection, asyncio.Future[bool]]] = deque()

    def take(self, connection: SimConnection) -> bool:
        """Whether it is free; then it is taken."""
        if self.holder is not None:
            return False
        self.holder = connection
        return True

    async def wait(self, connection: SimConnection, wait_s: float) -> bool:
        """Stands in line for at most `wait_s`. Whether it has the turn then."""
        loop = asyncio.get_running_loop()
        granted: asyncio.Future[bool] = loop.create_future()
        timer = loop.call_later(wait_s, _set, granted, False)
        self._line.append((connection, granted))
        try:
            return await granted
        except BaseException:
            if granted.done() and not granted.cancelled():
                self.release(connection)  # it came and nobody is there to use it
            raise
        finally:
            timer.cancel()

    def release(self, connection: SimConnection) -> None:
        """Passes the turn on; does nothing if it is another's."""
        if self.holder is not connection:
            return
        self.holder = None
        while self._line:
            following, granted = self._line.popleft()
            if not granted.done():
                self.holder = following
                granted.set_result(True)
                return

    def forget(self, life: Life) -> None:
        """Sends those of a dead process away."""
        for connection, granted in self._line:
            if connection.life is life:
                _set(granted, False)


def _set(future: asyncio.Future[bool], value: bool) -> None:
    if not future.done():
        future.set_result(value)


def _driver(url: str | None) -> Driver:
    if url is None:
        return SqliteDriver(_sqlite_image[0] if _sqlite_image else None)
    match parse_url(url):
        case PostgresUrl() as parsed:
            return PostgresDriver(parsed)
        case SqliteUrl():
            raise InvalidDatabaseUrl("a simulation's SQLite database is in memory: give no URL for it")
        case never:
            assert_never(never)
