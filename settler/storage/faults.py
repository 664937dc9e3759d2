"""Which of the drivers' errors mean that the database is not to be had just now."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from settler.storage.errors import StorageBusy, StorageUnavailable

_SQLITE_TRANSIENT = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
    }
)
"""Primary result codes, https://www.sqlite.org/rescode.html. Not CORRUPT, NOTADB: waiting does not help."""
_POSTGRES_TRANSIENT_CLASSES = ("08", "40", "53", "57", "58")
"""Connection, rollback (deadlock, serialization), resources (disk full), operator, system:
https://www.postgresql.org/docs/current/errcodes-appendix.html"""
_POSTGRES_TRANSIENT = frozenset({"55P03", "25P03", "25P04"})
"""Lock not to be had, idle and transaction time-outs."""
_POSTGRES_BUSY = frozenset({"40P01", "55P03"})
"""Deadlock, lock not to be had."""
_POSTGRES_READ_ONLY = frozenset({"25006", "0A000"})
"""A standby before it is promoted: it refuses a write, or already a transaction that may write ("cannot set transaction
read-write mode during recovery", a feature not supported); in a transaction of ours that may not write, a bug."""


@contextmanager
def unavailable_as_such(*, may_write: bool) -> Iterator[None]:
    """Raises `StorageUnavailable` from transient errors; lets everything else pass."""
    try:
        yield
    except IntegrityError:
        raise
    except DBAPIError as error:
        if is_transient(error, may_write=may_write):
            raise (StorageBusy if _is_busy(error) else StorageUnavailable)(str(error.orig)) from error
        raise
    except PoolTimeoutError as error:
        raise StorageUnavailable(str(error)) from error


def is_transient(error: DBAPIError, *, may_write: bool) -> bool:
    """`may_write`: then a database that refuses to is in trouble; otherwise the statement is a bug."""
    if error.connection_invalidated:
        return True
    cause = error.driver_exception
    if isinstance(cause, sqlite3.Error):
        code = getattr(cause, "sqlite_errorcode", None)
        if code is None:
            return False
        primary = code & 0xFF
        return primary in _SQLITE_TRANSIENT or (may_write and primary == sqlite3.SQLITE_READONLY)
    if isinstance(cause, psycopg.Error):
        if cause.sqlstate is None:
            # Not from the server: no connection, or it broke.
            return isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError)
        if cause.sqlstate in _POSTGRES_READ_ONLY:
            return may_write
        return cause.sqlstate[:2] in _POSTGRES_TRANSIENT_CLASSES or cause.sqlstate in _POSTGRES_TRANSIENT
    return False


def _is_busy(error: DBAPIError) -> bool:
    cause = error.driver_exception
    return isinstance(cause, psycopg.Error) and cause.sqlstate in _POSTGRES_BUSY
