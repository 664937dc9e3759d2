"""The few statements that SQLite and PostgreSQL spell differently, and the bounds on how much one statement carries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Table, any_, literal
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from settler.storage.bulk import insert, insert_absent, insert_missing, look_up, upsert

__all__ = ["chunks", "insert", "insert_absent", "insert_missing", "insert_one_if_absent", "look_up", "upsert"]

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


async def insert_one_if_absent(
    conn: AsyncConnection, table: Table, row: Mapping[str, Any], *, key: Sequence[str]
) -> bool:
    """Whether the row was inserted; `False` where its `key` is taken."""
    return bool(await insert_absent(conn, table, [row], key=key, telling=key[:1]))
