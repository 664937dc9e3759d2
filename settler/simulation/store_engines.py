"""SQLAlchemy's engines over `SimConnection`, as `settler.storage.connect` makes them over the drivers' connections.

Dialects and compiled statements are kept for the life of this Python process: worlds and their processes come and go by
the thousand, and compiling costs more than running.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from types import TracebackType
from typing import Any

from sqlalchemy import URL, Connection, Engine, Table, select
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.psycopg import PGDialectAsync_psycopg
from sqlalchemy.dialects.sqlite.aiosqlite import SQLiteDialect_aiosqlite
from sqlalchemy.engine import Dialect, RootTransaction
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool
from sqlalchemy.util import LRUCache, greenlet_spawn

from settler.simulation.store_connection import SimConnection
from settler.storage.connect import POOL_SIZE, POOL_WAIT_S

COMPILED_MAX = 2_000
Connect = Callable[[], SimConnection]
Decoder = Callable[[Any], Any]


class SimSqliteDialect(SQLiteDialect_aiosqlite):
    driver = "simulated"
    supports_statement_cache = True

    def do_begin(self, dbapi_connection: Any) -> None:
        dbapi_connection.begin()

    def do_ping(self, dbapi_connection: Any) -> bool:
        dbapi_connection.ping()
        return True


class SimPostgresDialect(PGDialectAsync_psycopg):
    driver = "simulated"
    supports_statement_cache = True

    @classmethod
    def get_async_dialect_cls(cls, url: URL) -> type[Dialect]:
        return cls

    def do_begin(self, dbapi_connection: Any) -> None:
        dbapi_connection.begin()

    def do_ping(self, dbapi_connection: Any) -> bool:
        dbapi_connection.ping()
        return True


registry.register("sqlite.simulated", __name__, "SimSqliteDialect")
registry.register("postgresql.simulated", __name__, "SimPostgresDialect")

_dialects: dict[str, Dialect] = {}
_compiled: LRUCache[Any, Any] = LRUCache(COMPILED_MAX)


async def prepare(name: str, connect: Connect) -> None:
    """To be called once before `engines`: lets the dialect look at the database."""
    if name not in _dialects:
        options = {"use_native_hstore": False} if name == "postgresql" else {}
        engine = create_async_engine(URL.create(f"{name}+simulated"), creator=connect, poolclass=NullPool, **options)
        async with engine.connect():
            pass
        await engine.dispose()
        _dialects[name] = engine.dialect


@cache
def plain_select(name: str, table: Table) -> str:
    """The statement that reads all of a table."""
    return str(select(table).compile(dialect=_dialects[name]))


@cache
def decoders(name: str, table: Table, types: tuple[Any, ...]) -> tuple[tuple[str, Decoder], ...]:
    """How SQLAlchemy decodes the columns that need it. `types`: the driver's, of each column of `plain_select`."""
    dialect = _dialects[name]
    processors = [
        (column.name, column.type.dialect_impl(dialect).result_processor(dialect, type_))
        for column, type_ in zip(table.columns, types, strict=True)
    ]
    return tuple((column, decode) for column, decode in processors if decode is not None)


def sqlite_engines(connect_writer: Connect, connect_reader: Connect) -> tuple[SimEngine, SimEngine]:
    """A writer of one connection and readers beside it."""
    return (
        SimEngine(_engine("sqlite", connect_writer, pool_size=1)),
        SimEngine(_engine("sqlite", connect_reader, pool_size=POOL_SIZE)),
    )


def postgres_engines(connect: Connect) -> tuple[SimEngine, SimEngine]:
    engine = _engine("postgresql", connect, pool_size=POOL_SIZE, pre_ping=True, use_lifo=True)
    reading = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    return SimEngine(engine), SimEngine(reading)


class SimEngine(AsyncEngine):
    """Begins, runs and ends transactions without greenlets. SQLAlchemy's own takes one for each step: half of the time
    of a small transaction. What this one does not know it leaves to SQLAlchemy.
    """

    __slots__ = ("_keeps", "_kept")

    def __init__(self, sync_engine: Engine) -> None:
        super().__init__(sync_engine)
        self._keeps = sync_engine.dialect.name == "sqlite"  # PostgreSQL's are asked whether they live, each time
        self._kept: Connection | None = None
        """One that ended well, for the next transaction: the pool's book-keeping costs as much as a statement."""

    async def take(self) -> Connection:
        kept, self._kept = self._kept, None
        if kept is not None:
            return kept
        pool = self._pool
        if pool.checkedout() < pool.size():
            return self.sync_engine.connect()
        return await greenlet_spawn(self.sync_engine.connect)

    def give_back(self, connection: Connection) -> None:
        pool = self._pool
        # Where all are in use somebody may wait at the pool; for the one writer they wait elsewhere, in line.
        has_waiters = pool.size() > 1 and pool.checkedout() == pool.size()
        if self._keeps and self._kept is None and not has_waiters:
            self._kept = connection
        else:
            connection.close()

    def let_go(self) -> None:
        """Of the connection that is kept: its process ended."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.close()

    async def dispose(self, close: bool = True) -> None:
        self.let_go()
        await super().dispose(close)

    @property
    def _pool(self) -> AsyncAdaptedQueuePool:
        pool = self.sync_engine.pool
        assert isinstance(pool, AsyncAdaptedQueuePool)
        return pool

    def begin(self) -> _SimTransaction:  # type: ignore[override] # it is entered and left like SQLAlchemy's
        return _SimTransaction(self)


class _SimTransaction:
    """Not a generator, of which the loop keeps a book."""

    __slots__ = ("_connection", "_engine", "_ours", "_transaction")

    _connection: Connection
    _ours: SimConnection
    _transaction: RootTransaction

    def __init__(self, engine: SimEngine) -> None:
        self._engine = engine

    async def __aenter__(self) -> AsyncConnection:
        self._connection = connection = await self._engine.take()
        try:
            ours: Any = connection.connection.dbapi_connection
            assert isinstance(ours, SimConnection)
            self._ours = ours
            await ours.wait_to_begin()
            self._transaction = connection.begin()
            self._transaction.__enter__()
        except BaseException:
            connection.close()
            raise
        return _SimAsyncConnection(self._engine, connection, ours)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                try:
                    await self._ours.wait_to_commit()
                except BaseException:
                    self._transaction.__exit__(*sys.exc_info())
                    raise
            self._transaction.__exit__(kind, error, trace)
        except BaseException:
            self._connection.close()
            raise
        if kind is None:
            self._engine.give_back(self._connection)
        else:
            self._connection.close()


class _SimAsyncConnection(AsyncConnection):
    __slots__ = ("_ours",)

    def __init__(self, engine: AsyncEngine, connection: Connection, ours: SimConnection) -> None:
        super().__init__(engine, connection)
        self._ours = ours

    async def execute(self, statement: Any, parameters: Any = None, *, execution_options: Any = None) -> Any:
        ours = self._ours
        await ours.wait_to_run()
        ours.has_waited = True
        try:
            return self._proxied.execute(statement, parameters, execution_options=execution_options)
        finally:
            ours.has_waited = False


def _engine(name: str, connect: Connect, **options: Any) -> Engine:
    dialect = _dialects[name]
    creator: Any = connect  # SQLAlchemy takes ours for a driver's connection, which has more to it
    pool = AsyncAdaptedQueuePool(creator, max_overflow=0, timeout=POOL_WAIT_S, dialect=dialect, **options)
    url = URL.create(f"{name}+simulated")
    shared = {"compiled_cache": _compiled}
    return Engine(pool, dialect, url, query_cache_size=0, execution_options=shared, hide_parameters=True)
