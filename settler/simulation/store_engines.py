"""SQLAlchemy's engines over `SimConnection`, as `settler.storage.connect` makes them over the drivers' connections.

Dialects and compiled statements are kept for the life of this Python process: worlds and their processes come and go by
the thousand, and compiling costs more than running.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

from sqlalchemy import URL, Connection, Engine, Table, select
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.psycopg import PGDialectAsync_psycopg
from sqlalchemy.dialects.sqlite.aiosqlite import SQLiteDialect_aiosqlite
from sqlalchemy.engine import Dialect
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


def sqlite_engines(connect_writer: Connect, connect_reader: Connect) -> tuple[AsyncEngine, AsyncEngine]:
    """A writer of one connection and readers beside it."""
    return (
        SimEngine(_engine("sqlite", connect_writer, pool_size=1)),
        SimEngine(_engine("sqlite", connect_reader, pool_size=POOL_SIZE)),
    )


def postgres_engines(connect: Connect) -> tuple[AsyncEngine, AsyncEngine]:
    engine = _engine("postgresql", connect, pool_size=POOL_SIZE, pre_ping=True, use_lifo=True)
    reading = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    return SimEngine(engine), SimEngine(reading)


class SimEngine(AsyncEngine):
    """Begins, runs and ends transactions without greenlets. SQLAlchemy's own takes one for each step: half of the time
    of a small transaction. What this one does not know it leaves to SQLAlchemy.
    """

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        pool = self.sync_engine.pool
        assert isinstance(pool, AsyncAdaptedQueuePool)
        if pool.checkedout() < pool.size():
            connection = self.sync_engine.connect()
        else:
            connection = await greenlet_spawn(self.sync_engine.connect)
        try:
            ours = connection.connection.dbapi_connection
            assert isinstance(ours, SimConnection)
            await ours.wait_to_begin()
            with connection.begin():
                yield _SimAsyncConnection(self, connection, ours)
                await ours.wait_to_commit()
        finally:
            connection.close()


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
    pool = AsyncAdaptedQueuePool(connect, max_overflow=0, timeout=POOL_WAIT_S, dialect=dialect, **options)
    url = URL.create(f"{name}+simulated")
    shared = {"compiled_cache": _compiled}
    return Engine(pool, dialect, url, query_cache_size=0, execution_options=shared, hide_parameters=True)
