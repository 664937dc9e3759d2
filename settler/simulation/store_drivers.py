"""The two databases of a simulated world, each as one connection that is used in the loop's own thread and blocks it:
a statement takes no virtual time, and nothing else happens meanwhile. So a seed gives the same order of statements
every time, on PostgreSQL too.

What does not belong here: whose turn it is (`store`), and when something goes wrong (`store_faults`).
"""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from typing import Any, Literal

import psycopg
from psycopg import errors, sql
from psycopg.pq import TransactionStatus

from settler.storage import schema
from settler.storage.connect import (
    BUSY_TIMEOUT_S,
    IDLE_IN_TRANSACTION_TIMEOUT_S,
    LOCK_TIMEOUT_S,
    SQLITE_PRAGMAS,
    STATEMENT_TIMEOUT_S,
    postgres_connect_args,
)
from settler.storage.errors import InvalidDatabaseUrl, StorageUnavailable
from settler.storage.url import PostgresUrl

MARK = "sim"
"""A PostgreSQL database that simulations may empty has this in its name."""


class Driver(ABC):
    """One connection of the driver's, which all simulated processes share."""

    dialect: Literal["sqlite", "postgresql"]
    wait_s: float
    """How long the database lets a transaction wait for another."""
    statement_limit_s: float | None = None
    """A statement that takes longer is canceled; `None`: never."""
    idle_limit_s: float | None = None
    """A process that stands still in a transaction for longer is cut off; `None`: never."""
    raw: Any

    @abstractmethod
    def begin(self, *, is_reader: bool) -> None: ...

    def commit(self) -> None:
        self.raw.commit()

    def rollback(self) -> None:
        """Does nothing where nothing is open."""
        self.raw.rollback()

    def close(self) -> None:
        self.raw.close()

    # Errors as the driver would raise them, to be raised by who asks. All but `waited` are asked for by who has a
    # transaction open, which they may end.
    @abstractmethod
    def waited(self) -> Exception: ...
    @abstractmethod
    def serialization_failure(self) -> Exception: ...
    @abstractmethod
    def deadlock(self) -> Exception: ...
    @abstractmethod
    def disk_full(self) -> Exception: ...
    @abstractmethod
    def read_only(self) -> Exception: ...
    @abstractmethod
    def took_too_long(self) -> Exception: ...
    @abstractmethod
    def lost(self) -> Exception: ...


class SqliteDriver(Driver):
    """In memory. `image`: what is in it from the start (`serialize` gives one)."""

    dialect = "sqlite"
    wait_s = BUSY_TIMEOUT_S

    def __init__(self, image: bytes | None = None) -> None:
        self.raw = sqlite3.connect(":memory:", isolation_level=None)
        if image is not None:
            self.raw.deserialize(image)
        for pragma in SQLITE_PRAGMAS:
            self.raw.execute(pragma)

    def begin(self, *, is_reader: bool) -> None:
        self.raw.execute("BEGIN" if is_reader else "BEGIN IMMEDIATE")

    def waited(self) -> Exception:
        return _sqlite_error("database is locked", sqlite3.SQLITE_BUSY)

    def serialization_failure(self) -> Exception:
        return _sqlite_error("database is locked", sqlite3.SQLITE_BUSY)

    def deadlock(self) -> Exception:
        return _sqlite_error("database table is locked", sqlite3.SQLITE_LOCKED)

    def disk_full(self) -> Exception:
        return _sqlite_error("database or disk is full", sqlite3.SQLITE_FULL)

    def lost(self) -> Exception:
        return _sqlite_error("disk I/O error", sqlite3.SQLITE_IOERR)

    def read_only(self) -> Exception:
        return _sqlite_error("attempt to write a readonly database", sqlite3.SQLITE_READONLY)

    def took_too_long(self) -> Exception:
        return _sqlite_error("interrupted", sqlite3.SQLITE_INTERRUPT)


class PostgresDriver(Driver):
    """A database of a server. Refuses one whose name lacks `MARK`: simulations empty theirs. Raises
    `StorageUnavailable`.
    """

    dialect = "postgresql"
    wait_s = LOCK_TIMEOUT_S
    statement_limit_s = STATEMENT_TIMEOUT_S
    idle_limit_s = IDLE_IN_TRANSACTION_TIMEOUT_S

    def __init__(self, url: PostgresUrl) -> None:
        try:
            self.raw = psycopg.connect(**postgres_connect_args(url))
        except psycopg.OperationalError as error:
            raise StorageUnavailable(str(error)) from error
        self._is_reading = False
        name = self.raw.info.dbname
        if MARK not in name:
            self.raw.close()
            raise InvalidDatabaseUrl(
                f"a simulation empties its database: the name of {name!r} has to contain {MARK!r} to say that it may"
            )

    def begin(self, *, is_reader: bool) -> None:
        # The driver sends BEGIN with the first statement.
        if is_reader is not self._is_reading:
            self._is_reading = is_reader
            self.raw.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ if is_reader else None
            self.raw.read_only = is_reader or None

    def empty(self) -> None:
        """Removes all rows, those of append-only tables too."""
        tables = sql.SQL(", ").join(map(sql.Identifier, sorted(schema.metadata.tables)))
        with self.raw.transaction():
            for table in sorted(schema.metadata.tables):
                self.raw.execute(sql.SQL("ALTER TABLE {} DISABLE TRIGGER USER").format(sql.Identifier(table)))
            self.raw.execute(sql.SQL("TRUNCATE {} RESTART IDENTITY").format(tables))
            for table in sorted(schema.metadata.tables):
                self.raw.execute(sql.SQL("ALTER TABLE {} ENABLE TRIGGER USER").format(sql.Identifier(table)))

    def waited(self) -> Exception:
        return errors.LockNotAvailable("canceling statement due to lock timeout")

    def serialization_failure(self) -> Exception:
        return self._raised(errors.SerializationFailure)

    def deadlock(self) -> Exception:
        return self._raised(errors.DeadlockDetected)

    def disk_full(self) -> Exception:
        return self._raised(errors.DiskFull)

    def lost(self) -> Exception:
        return psycopg.OperationalError("server closed the connection unexpectedly")

    def read_only(self) -> Exception:
        return self._raised(errors.ReadOnlySqlTransaction)

    def took_too_long(self) -> Exception:
        return self._raised(errors.QueryCanceled)

    def _raised(self, kind: type[psycopg.Error]) -> Exception:
        """The server's own error, so that its transaction has failed as well."""
        if self.raw.info.transaction_status is TransactionStatus.INERROR:
            return kind("simulated")
        try:
            self.raw.execute(f"DO $$ BEGIN RAISE EXCEPTION 'simulated' USING ERRCODE = '{kind.sqlstate}'; END $$")
        except psycopg.Error as error:
            return error
        raise AssertionError("RAISE raises")


def _sqlite_error(message: str, code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(message)
    error.sqlite_errorcode = code
    return error
