"""The few statements that SQLite and PostgreSQL spell differently, and the bounds on how much one statement carries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

from sqlalchemy import Insert, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

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


def _insert(dialect: str, table: Table) -> Any:
    return (postgresql if dialect == "postgresql" else sqlite).insert(table)


# Built once each: there are as many as there are places that call for them.


@cache
def _inserting_missing(dialect: str, table: Table, key: tuple[str, ...]) -> Insert:
    statement: Insert = _insert(dialect, table).on_conflict_do_nothing(index_elements=key)
    return statement


@cache
def _upserting(dialect: str, table: Table, key: tuple[str, ...], replaced: tuple[str, ...]) -> Insert:
    statement = _insert(dialect, table)
    new = {name: statement.excluded[name] for name in replaced}
    upserting: Insert = statement.on_conflict_do_update(index_elements=key, set_=new)
    return upserting


async def insert_missing(
    conn: AsyncConnection, table: Table, rows: Sequence[Mapping[str, Any]], *, key: Sequence[str]
) -> None:
    """Inserts the rows whose `key` columns are not there yet; other constraints still raise."""
    if rows:
        await conn.execute(_inserting_missing(conn.dialect.name, table, tuple(key)), list(rows))


async def upsert(
    conn: AsyncConnection,
    table: Table,
    rows: Sequence[Mapping[str, Any]],
    *,
    key: Sequence[str],
    keeping: Sequence[str] = (),
) -> None:
    """Inserts rows, or replaces all but the `key` and `keeping` columns of those that are there."""
    if not rows:
        return
    replaced = tuple(name for name in rows[0] if name not in (*key, *keeping))
    await conn.execute(_upserting(conn.dialect.name, table, tuple(key), replaced), list(rows))


async def insert_one_if_absent(
    conn: AsyncConnection, table: Table, row: Mapping[str, Any], *, key: Sequence[str]
) -> bool:
    """Whether the row was inserted; `False` where its `key` is taken."""
    statement = _inserting_missing(conn.dialect.name, table, tuple(key)).values(dict(row))
    inserted = await conn.execute(statement.returning(table.c[key[0]]))
    return inserted.first() is not None
