"""SQLite's driver, for what every tick does: a statement goes to the connection's thread and back once.

    aiosqlite      cursor │ execute │ fetchall │ close   four times there and back: more than the statement costs
    here           cursor, execute, fetchall, close      once

The roll-back with which a connection is given back is left out where no transaction is open. What is streamed goes the
usual way, row by row. Nothing else differs from SQLAlchemy's adapter of aiosqlite.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Sequence
from typing import Any

import aiosqlite
from sqlalchemy.dialects.sqlite.aiosqlite import (
    AsyncAdapt_aiosqlite_connection,
    AsyncAdapt_aiosqlite_cursor,
    AsyncAdapt_aiosqlite_dbapi,
)
from sqlalchemy.util import EMPTY_DICT


class Driver(AsyncAdapt_aiosqlite_dbapi):
    """To be given to `create_async_engine` as `module`."""

    def __init__(self) -> None:
        super().__init__(aiosqlite, sqlite3)

    def connect(self, *args: Any, **kwargs: Any) -> AsyncAdapt_aiosqlite_connection:
        return _Connection(self, super().connect(*args, **kwargs)._connection)


class _Done:
    """What is left of a cursor once its statement has run and its rows are fetched."""

    __slots__ = ("arraysize", "description", "lastrowid", "rowcount")

    def __init__(self, description: Any = None, rowcount: int = -1, lastrowid: int | None = None) -> None:
        self.description = description
        self.rowcount = rowcount
        self.lastrowid = lastrowid
        self.arraysize = 1

    def close(self) -> None:
        """It was closed in its thread."""


_NOT_RUN = _Done()


class _Cursor(AsyncAdapt_aiosqlite_cursor):
    __slots__ = ()

    _awaitable_cursor_close = False

    def __init__(self, adapt_connection: AsyncAdapt_aiosqlite_connection) -> None:
        self._adapt_connection = adapt_connection
        self._connection = adapt_connection._connection
        self._cursor: Any = _NOT_RUN
        self._soft_closed_memoized = EMPTY_DICT
        self._rows = deque()

    async def _execute_async(self, operation: Any, parameters: Any) -> None:
        await self._run(_execute, operation, () if parameters is None else parameters)

    async def _executemany_async(self, operation: Any, seq_of_parameters: Any) -> None:
        await self._run(_execute_many, operation, seq_of_parameters)

    async def _run(self, work: Any, operation: str, parameters: Sequence[Any]) -> None:
        connection: Any = self._connection
        adapted = self._adapt_connection
        assert isinstance(adapted, _Connection), "it made this cursor"
        async with adapted._execute_mutex:
            adapted.is_unsure = True
            self._cursor, rows = await connection._execute(work, connection._conn, operation, parameters)
            self._rows = deque(rows)
            adapted.is_unsure = False


class _Connection(AsyncAdapt_aiosqlite_connection):
    __slots__ = ("is_unsure",)

    _cursor_cls: type[AsyncAdapt_aiosqlite_cursor] = _Cursor

    def __init__(self, dbapi: Any, connection: Any) -> None:
        super().__init__(dbapi, connection)
        self.is_unsure = False
        """Something may be under way in its thread still, or failed there: nobody waited for it to end well."""

    def cursor(self, server_side: bool = False) -> Any:
        self.is_unsure = self.is_unsure or server_side
        return super().cursor(server_side)

    def commit(self) -> None:
        was_unsure, self.is_unsure = self.is_unsure, True
        super().commit()
        self.is_unsure = was_unsure

    def rollback(self) -> None:
        connection: Any = self._connection
        if not self.is_unsure and connection._connection and not connection._connection.in_transaction:
            return
        self.is_unsure = True
        super().rollback()
        self.is_unsure = False


# -- in the connection's thread ----------------------------------------------------------------------------------------


def _execute(connection: sqlite3.Connection, operation: str, parameters: Any) -> tuple[_Done, Sequence[Any]]:
    cursor = connection.execute(operation, parameters)
    rows = () if cursor.description is None else cursor.fetchall()
    return _closed(cursor), rows


def _execute_many(connection: sqlite3.Connection, operation: str, parameters: Any) -> tuple[_Done, Sequence[Any]]:
    return _closed(connection.executemany(operation, parameters)), ()


def _closed(cursor: sqlite3.Cursor) -> _Done:
    done = _Done(cursor.description, cursor.rowcount, cursor.lastrowid)
    cursor.close()
    return done
