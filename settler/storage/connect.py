"""How each kind of database is connected to: what is set on every connection and every transaction, and why.

What does not belong here: when a transaction is opened (`engine`), what is asked in it.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import StaticPool
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random

from settler.storage.errors import InvalidDatabaseUrl, StorageUnavailable
from settler.storage.jsontext import from_text, to_text
from settler.storage.sqlite_driver import Driver
from settler.storage.url import PostgresUrl, SqliteUrl

POOL_SIZE = 10
"""Connections at most; more tasks than that wait their turn."""
POOL_WAIT_S = 10.0
CONNECT_TIMEOUT_S = 10
BUSY_TIMEOUT_S = 15.0
"""How long SQLite waits for a writer of another process, e.g. the CLI beside the daemon."""
STATEMENT_TIMEOUT_S = 30.0
LOCK_TIMEOUT_S = 10.0
IDLE_IN_TRANSACTION_TIMEOUT_S = 60.0
"""A tick that hangs inside a transaction lets go of its locks. Who takes a chain over does not wait for it
(`settler.storage.leases.cut_off`).
"""
JSON_BY: dict[str, Any] = {"json_serializer": to_text, "json_deserializer": from_text}
KEEPALIVE = {
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""A server that vanished without a word is noticed within 30 s (libpq's parameters)."""

WRITER_CACHE_KIB = 32_768
"""Pages the one writing connection keeps (SQLite's own bound is 2 MB): the upper levels of the indexes that matching
goes through, which with 10^7 invoices are about as many; what is read once of a tick's rows is soon let go. Readers
keep SQLite's bound, since there may be ten.
"""
POSTGRES_BOUND_WAITS = f"""SELECT set_config('statement_timeout', '{STATEMENT_TIMEOUT_S:.0f}s', true),
set_config('lock_timeout', '{LOCK_TIMEOUT_S:.0f}s', true),
set_config('idle_in_transaction_session_timeout', '{IDLE_IN_TRANSACTION_TIMEOUT_S:.0f}s', true)"""
SQLITE_WAL = "PRAGMA journal_mode = WAL"
"""Readers and the writer do not wait for each other."""
_MODE_PAUSE_S = wait_random(0.01, 0.1)
SQLITE_PRAGMAS = (
    f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT_S * 1000)}",  # first: the next one may meet another process
    SQLITE_WAL,
    "PRAGMA synchronous = FULL",  # a commit survives power loss; money needs it
    "PRAGMA foreign_keys = ON",  # off unless asked for, at each connection
    "PRAGMA recursive_triggers = ON",  # else INSERT OR REPLACE deletes past the append-only triggers
)


def sqlite_engines(url: SqliteUrl, pool_size: int) -> tuple[AsyncEngine, AsyncEngine]:
    """A writer of one connection and readers beside it; in memory there is but one connection for both."""
    if url.path is None:
        engine = _sqlite_engine(None, poolclass=StaticPool)
        event.listen(engine.sync_engine, "begin", _begin_immediate)
        return engine, engine
    _prepare_file(url.path)
    writer = _sqlite_engine(str(url.path), pool_size=1, max_overflow=0, pool_timeout=POOL_WAIT_S)
    event.listen(writer.sync_engine, "connect", _keep_pages)
    event.listen(writer.sync_engine, "begin", _begin_immediate)
    # last in, first out: those that are not needed stay small
    reader = _sqlite_engine(
        str(url.path), pool_size=pool_size, max_overflow=0, pool_timeout=POOL_WAIT_S, pool_use_lifo=True
    )
    event.listen(reader.sync_engine, "connect", _refuse_writes)
    event.listen(reader.sync_engine, "begin", _begin_deferred)
    return writer, reader


def _prepare_file(path: Path) -> None:
    """Makes the file if there is none, for the owner only (it will hold secrets); checks that SQLite can read it.

    Of two that make a file WAL at once one is refused without a wait, whatever the busy time-out: it tries again. From
    then on the file is, and no connection has to make it so.
    """
    waiting = Retrying(
        stop=stop_after_delay(BUSY_TIMEOUT_S), wait=_MODE_PAUSE_S, retry=retry_if_exception(_is_busy), reraise=True
    )
    try:
        path.touch(mode=0o600)
        with closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)) as connection:
            waiting(connection.execute, SQLITE_WAL)
    except (OSError, sqlite3.OperationalError) as error:
        raise StorageUnavailable(f"the database file {path} cannot be opened: {error}") from error
    except sqlite3.DatabaseError as error:
        raise InvalidDatabaseUrl(f"{path} is not a SQLite database: {error}") from error


def _is_busy(error: BaseException) -> bool:
    return isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY


def _sqlite_engine(path: str | None, **kwargs: Any) -> AsyncEngine:
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=path),
        module=Driver(),
        **JSON_BY,
        # isolation_level None: the driver begins nothing by itself (it would: late, not for SELECT).
        connect_args={"timeout": BUSY_TIMEOUT_S, "isolation_level": None},
        hide_parameters=True,
        **kwargs,
    )
    event.listen(engine.sync_engine, "connect", set_pragmas)
    return engine


def set_pragmas(connection: DBAPIConnection, _record: object) -> None:
    for pragma in SQLITE_PRAGMAS:
        connection.cursor().execute(pragma)


def _keep_pages(connection: DBAPIConnection, _record: object) -> None:
    connection.cursor().execute(f"PRAGMA cache_size = {-WRITER_CACHE_KIB}")


def _refuse_writes(connection: DBAPIConnection, _record: object) -> None:
    connection.cursor().execute("PRAGMA query_only = ON")


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin_deferred(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def postgres_engines(url: PostgresUrl, pool_size: int) -> tuple[AsyncEngine, AsyncEngine]:
    engine = create_async_engine(
        URL.create("postgresql+psycopg"),
        connect_args=postgres_connect_args(url),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=POOL_WAIT_S,
        pool_pre_ping=True,
        pool_use_lifo=True,
        use_native_hstore=False,  # saves a question at each start
        **JSON_BY,
        hide_parameters=True,
    )
    event.listen(engine.sync_engine, "begin", _bound_waits)
    return engine, engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def postgres_connect_args(url: PostgresUrl) -> dict[str, Any]:
    """libpq's parameters: ours, and over them the operator's."""
    # client_encoding: a database of encoding SQL_ASCII would else answer bytes
    ours = {"application_name": "settler", "client_encoding": "UTF8", "connect_timeout": CONNECT_TIMEOUT_S, **KEEPALIVE}
    # No prepared statements: PgBouncer hands each transaction another server connection.
    return {**ours, **url.connect_args, "prepare_threshold": None}


def _bound_waits(connection: Connection) -> None:
    # Per transaction, since PgBouncer refuses them at the start and does not keep them for a session.
    connection.exec_driver_sql(POSTGRES_BOUND_WAITS)
