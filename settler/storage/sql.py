"""The few statements that SQLite and PostgreSQL spell differently, and the bounds on how much one statement carries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import ColumnClause, ColumnElement, FromClause, Table, and_, any_, column, func, literal
from sqlalchemy import values as rows_of
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from settler.storage.bulk import insert, insert_absent, insert_missing, upsert

__all__ = ["chunks", "insert", "insert_absent", "insert_missing", "insert_one_if_absent", "upsert"]

T = TypeVar("T")

CHUNK = 500
"""Values in one IN list. SQLite takes 32,766 parameters a statement, PostgreSQL 65,535; short lists plan better."""


def chunks(values: Iterable[T], size: int = CHUNK) -> Iterator[list[T]]:
    """Lists of at most `size` of the values, in order."""
    chunk: list[T] = []
    for value in values:
        chunk.append(value)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def is_one_of(conn: AsyncConnection, which: ColumnElement[T], values: Sequence[T]) -> ColumnElement[bool]:
    """Whether a column is one of the values, on PostgreSQL as one array: a list is a parameter a value, and a text of
    its own for each length, which drivers take apart anew; that costs more than the look-up.
    """
    if conn.dialect.name == "postgresql":
        array: ColumnElement[Any] = literal(values, ARRAY(which.type))
        return which == any_(array)
    return which.in_(values)


def given_all(
    conn: AsyncConnection, which: Sequence[ColumnElement[Any]], values: Sequence[tuple[Any, ...]]
) -> tuple[FromClause, ColumnElement[bool]]:
    """Different values for several columns together, to be joined with their table from the left, and the condition.
    The columns are to be the first of an index, in any order: there is a look-up for each of the values. Asked whether
    they are IN a list, SQLite reads the whole table instead once the list is long.
    """
    names: list[ColumnClause[Any]] = [column(f"given_{at}", each.type) for at, each in enumerate(which)]
    given: FromClause
    if conn.dialect.name == "postgresql":
        arrays = [
            literal(list(some), ARRAY(each.type)) for each, some in zip(which, zip(*values, strict=True), strict=True)
        ]
        given = func.unnest(*arrays).table_valued(*names).render_derived()
    else:
        given = rows_of(*names, name="rows").data(list(values)).cte("given")
    return given, and_(*(each == of for each, of in zip(which, given.c, strict=True)))


async def insert_one_if_absent(
    conn: AsyncConnection, table: Table, row: Mapping[str, Any], *, key: Sequence[str]
) -> bool:
    """Whether the row was inserted; `False` where its `key` is taken."""
    return bool(await insert_absent(conn, table, [row], key=key, telling=key[:1]))
