"""The few statements that SQLite and PostgreSQL spell differently, and the bounds on how much one statement carries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice, repeat
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Table, Text, any_, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from settler.storage.bulk import insert, insert_absent, insert_missing, look_up, padded_length, upsert
from settler.storage.jsontext import to_text

__all__ = ["chunks", "insert", "insert_absent", "insert_missing", "insert_one_if_absent", "look_up", "upsert"]

T = TypeVar("T")

CHUNK = 500
"""Values in one IN list. SQLite takes 32,766 parameters a statement, PostgreSQL 65,535; short lists plan better."""


def chunks(values: Iterable[T], size: int = CHUNK) -> Iterator[list[T]]:
    """Lists of at most `size` of the values, in order."""
    left = iter(values)
    while chunk := list(islice(left, size)):
        yield chunk


def is_one_of(conn: AsyncConnection, which: ColumnElement[T], values: Sequence[T]) -> ColumnElement[bool]:
    """Whether a column is one of the values, given as one array (texts on SQLite: as JSON): a list is a parameter a
    value, and a statement of its own for each length, which is taken apart anew; that costs more than the look-up.
    """
    if conn.dialect.name == "postgresql":
        array: ColumnElement[Any] = literal(values, ARRAY(which.type))
        return which == any_(array)
    if isinstance(which.type, Text):
        each = func.json_each(literal(to_text(values))).table_valued("value")
        return which.in_(select(each.c.value))
    return which.in_(padded(values))


def padded(values: Sequence[T]) -> Sequence[T]:
    """The values, the last of them so often that lists have few lengths: see `padded_length`."""
    return [*values, *repeat(values[-1], padded_length(len(values)) - len(values))] if values else values


async def insert_one_if_absent(
    conn: AsyncConnection, table: Table, row: Mapping[str, Any], *, key: Sequence[str]
) -> bool:
    """Whether the row was inserted; `False` where its `key` is taken."""
    return bool(await insert_absent(conn, table, [row], key=key, telling=key[:1]))
