"""Many rows in one statement, given as the driver takes them: what a payment costs is mostly rows.

    # SQLite        executemany of one INSERT or UPDATE, rows as tuples
    # PostgreSQL    one statement, a column at a time:  INSERT … SELECT … FROM unnest(ids, amounts, …)

SQLAlchemy's own way does the same at several times the cost: it makes a dictionary of each row anew and asks for each
value's type, and on PostgreSQL the server parses and plans a statement for every row. The types of the schema check and
convert here too (`settler.storage.types`).

Many are looked up likewise, in one statement.

What does not belong here: what is read otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from operator import itemgetter
from typing import Any, TypeVar

from sqlalchemy import JSON, BigInteger, Boolean, Column, CursorResult, Integer, LargeBinary, Table, Text
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from settler.storage.jsontext import to_text
from settler.storage.types import Uint256, UtcDateTime, uint256_text, utc_text

Row = Mapping[str, Any]
Values = Sequence[Any]
T = TypeVar("T")
ROWS_MAX = 500
"""In one statement: bounds what is held twice, and lets other tasks run in between."""

_quote = postgresql.dialect().identifier_preparer.quote_identifier  # type: ignore[no-untyped-call]  # SQLite quotes alike
_POSTGRES = {Boolean: "boolean", Integer: "integer", BigInteger: "bigint", LargeBinary: "bytea", Text: "text"}
"""Types whose values PostgreSQL's driver takes as they are."""
_POSTGRES_OF_TEXT = {Uint256: "numeric", UtcDateTime: "timestamptz", JSON: "json"}
"""Types whose values it is given as text."""


async def insert(conn: AsyncConnection, table: Table, rows: Sequence[Row], *, then: str = "") -> None:
    """Inserts the rows, all of which have the columns of the first. `then`: what follows, an ON CONFLICT clause."""
    if not rows:
        return
    names = tuple(rows[0])
    assert rows[-1].keys() == rows[0].keys(), f"rows of {table.name} with different columns"
    statement = _inserting(conn.dialect.name, table, names, then)
    for some in _chunks(rows):
        await _run(conn, statement, table, names, some)


async def insert_missing(
    conn: AsyncConnection, table: Table, rows: Sequence[Row], *, key: Sequence[str] | None
) -> None:
    """Inserts the rows whose `key` columns are not there yet; other constraints still raise. `None`: those that any
    constraint of uniqueness keeps out, for a table with two keys that say the same (PostgreSQL looks at them one after
    the other, and of two who insert one row at once the later may meet the other key first).
    """
    target = "" if key is None else f" ({_listed(key)})"
    await insert(conn, table, rows, then=f" ON CONFLICT{target} DO NOTHING")


async def insert_absent(
    conn: AsyncConnection, table: Table, rows: Sequence[Row], *, key: Sequence[str], telling: Sequence[str]
) -> set[Values]:
    """As `insert_missing`; the columns `telling` of the rows that were inserted, as tuples. Of two rows with one key it
    is the first.
    """
    if not rows:
        return set()
    if conn.dialect.name == "postgresql":
        names = tuple(rows[0])
        then = f" ON CONFLICT ({_listed(key)}) DO NOTHING RETURNING {_listed(telling)}"
        statement = _inserting("postgresql", table, names, then)
        inserted: set[Values] = set()
        for some in _chunks(rows):
            inserted |= {tuple(row) for row in await _run(conn, statement, table, names, some)}
        return inserted
    # nobody else writes between the two, since a transaction that writes has SQLite to itself
    there = await _there(conn, table, rows, key)
    absent = {place: row for row in reversed(rows) if (place := tuple(row[name] for name in key)) not in there}
    await insert(conn, table, [row for row in rows if absent.get(tuple(row[name] for name in key)) is row])
    return {tuple(row[name] for name in telling) for row in absent.values()}


async def _there(conn: AsyncConnection, table: Table, rows: Sequence[Row], key: Sequence[str]) -> set[Values]:
    """Those of the rows' keys that SQLite has."""
    places = list(dict.fromkeys(map(_getting(tuple(key)), rows)))
    return {places[at] for (at,) in await look_up(conn, table, key, places, telling=())}


async def look_up(
    conn: AsyncConnection,
    table: Table,
    key: Sequence[str],
    wanted: Sequence[Values],
    *,
    telling: Sequence[str],
    besides: str = "",
) -> list[tuple[Any, ...]]:
    """For each row whose `key` columns have one of the `wanted` values: the position of those, then its columns
    `telling`, which are texts. The key's columns are to be the first of an index, in any order; `besides`: the
    condition of a partial one. There is one look-up for each of the values.
    """
    found: list[tuple[Any, ...]] = []
    for first in range(0, len(wanted), ROWS_MAX):
        some = wanted[first : first + ROWS_MAX]
        columns: list[Values] = list(zip(*some, strict=True))
        for at, convert in _converters(conn.dialect.name, table, tuple(key)):
            columns[at] = convert(columns[at])
        if conn.dialect.name == "postgresql":
            query = _looking_up_on_postgresql(table, tuple(key), tuple(telling), besides)
            values: Values = tuple(map(list, columns))
        else:
            # nothing equals null, so the rest finds nothing
            nothing = [(None,) * len(key)] * (padded_length(len(some)) - len(some))
            query = _looking_up_on_sqlite(table, tuple(key), tuple(telling), besides, len(some) + len(nothing))
            values = tuple(value for row in (*zip(*columns, strict=True), *nothing) for value in row)
        found += [(first + row[0] - 1, *row[1:]) for row in await conn.exec_driver_sql(query, values)]
    return found


def padded_length(count: int) -> int:
    """The least power of two that is no less. Lists are made as long as that for SQLite: each of its connections keeps
    what it prepared, 12 to 16 KiB for each length.
    """
    return 1 << max(0, count - 1).bit_length()


async def upsert(
    conn: AsyncConnection, table: Table, rows: Sequence[Row], *, key: Sequence[str], keeping: Sequence[str] = ()
) -> None:
    """Inserts rows, or replaces all but the `key` and `keeping` columns of those that are there."""
    if not rows:
        return
    replaced = [name for name in rows[0] if name not in (*key, *keeping)]
    new = ", ".join(f"{_quote(name)} = excluded.{_quote(name)}" for name in replaced)
    # the last one of a key, as if they came one by one: PostgreSQL refuses to touch a row twice in one statement
    last = {tuple(row[name] for name in key): row for row in rows}
    await insert(conn, table, list(last.values()), then=f" ON CONFLICT ({_listed(key)}) DO UPDATE SET {new}")


async def update(conn: AsyncConnection, table: Table, rows: Sequence[Row], *, key: str) -> None:
    """Writes the columns of the rows, all of which have those of the first, to the rows with the same `key`."""
    if not rows:
        return
    names = (*(name for name in rows[0] if name != key), key)
    statement = _updating(conn.dialect.name, table, names)
    for some in _chunks(rows):
        await _run(conn, statement, table, names, some)


async def _run(
    conn: AsyncConnection, statement: str, table: Table, names: tuple[str, ...], rows: Sequence[Row]
) -> CursorResult[Any]:
    columns: list[Values] = list(zip(*map(_getting(names), rows), strict=True))
    for at, convert in _converters(conn.dialect.name, table, names):
        columns[at] = convert(columns[at])
    if conn.dialect.name == "postgresql":
        return await conn.exec_driver_sql(statement, tuple(map(list, columns)))
    return await conn.exec_driver_sql(statement, list(zip(*columns, strict=True)))


@cache
def _getting(names: tuple[str, ...]) -> Callable[[Row], tuple[Any, ...]]:
    if len(names) == 1:
        return lambda row: (row[names[0]],)
    return itemgetter(*names)


def _chunks(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    for at in range(0, len(rows), ROWS_MAX):
        yield rows[at : at + ROWS_MAX]


# -- statements, made once each ----------------------------------------------------------------------------------------


@cache
def _inserting(dialect: str, table: Table, names: tuple[str, ...], then: str) -> str:
    into = f"INSERT INTO {_quote(table.name)} ({_listed(names)})"
    if dialect == "postgresql":
        # rows go in as the arrays have them, which is the order events are told in; the condition is for the parser, to
        # which ON may else begin a join's
        return f"{into} SELECT {_unnested(table, names)} FROM {_unnesting(table, names)} WHERE true{then}"  # noqa: S608
    return f"{into} VALUES ({', '.join('?' for _ in names)}){then}"


@cache
def _updating(dialect: str, table: Table, names: tuple[str, ...]) -> str:
    *changed, key = names
    updating = f"UPDATE {_quote(table.name)}"
    if dialect == "postgresql":
        new = ", ".join(f"{_quote(name)} = {_value(table.c[name])}" for name in changed)
        where = f"{_quote(table.name)}.{_quote(key)} = {_value(table.c[key])}"
        return f"{updating} SET {new} FROM {_unnesting(table, names)} WHERE {where}"
    new = ", ".join(f"{_quote(name)} = ?" for name in changed)
    return f"{updating} SET {new} WHERE {_quote(key)} = ?"


@cache
def _looking_up_on_postgresql(table: Table, key: tuple[str, ...], telling: tuple[str, ...], besides: str) -> str:
    arrays = ", ".join(f"%b::{_array_of(table.c[name])}[]" for name in key)
    given = f"unnest({arrays}) WITH ORDINALITY AS given ({_listed(key)}, at)"
    return _looked_up(table, telling, f"{given} JOIN", [(name, _value(table.c[name])) for name in key], besides)


@cache
def _looking_up_on_sqlite(
    table: Table, key: tuple[str, ...], telling: tuple[str, ...], besides: str, count: int
) -> str:
    row = ", ?" * len(key)
    given = f"WITH given (at, {_listed(key)}) AS (VALUES {', '.join(f'({at}{row})' for at in range(1, count + 1))})"
    # CROSS JOIN keeps to that order: a look-up for each. IN (VALUES …) reads the whole table for a long list
    pairs = [(name, f"given.{_quote(name)}") for name in key]
    return f"{given} {_looked_up(table, telling, 'given CROSS JOIN', pairs, besides)}"


def _looked_up(table: Table, telling: Sequence[str], joining: str, key: Sequence[tuple[str, str]], besides: str) -> str:
    there = _quote(table.name)
    told = "".join(f", {there}.{_quote(name)}" for name in telling)
    conditions = [f"{there}.{_quote(name)} = {value}" for name, value in key] + ([besides] if besides else [])
    return f"SELECT given.at{told} FROM {joining} {there} ON {' AND '.join(conditions)}"  # noqa: S608


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(_quote, names))


def _unnesting(table: Table, names: Sequence[str]) -> str:
    arrays = ", ".join(f"%b::{_array_of(table.c[name])}[]" for name in names)
    return f"unnest({arrays}) AS given ({_listed(names)})"


def _unnested(table: Table, names: Sequence[str]) -> str:
    return ", ".join(_value(table.c[name]) for name in names)


def _array_of(column: Column[Any]) -> str:
    return _POSTGRES.get(type(column.type), "text")


def _value(column: Column[Any]) -> str:
    cast = _POSTGRES_OF_TEXT.get(type(column.type))
    return f"given.{_quote(column.name)}" + (f"::{cast}" if cast else "")


# -- values ------------------------------------------------------------------------------------------------------------


@cache
def _converters(
    dialect: str, table: Table, names: tuple[str, ...]
) -> tuple[tuple[int, Callable[[Values], Values]], ...]:
    """By position, of the columns whose values the driver does not take as they are."""
    found = ((at, _converter(dialect, table.c[name])) for at, name in enumerate(names))
    return tuple((at, convert) for at, convert in found if convert is not None)


def _converter(dialect: str, column: Column[Any]) -> Callable[[Values], Values] | None:
    match column.type:
        case Uint256():
            is_padded = dialect == "sqlite"
            return lambda values: [None if v is None else uint256_text(v, is_padded=is_padded) for v in values]
        case UtcDateTime():
            return _texts_of_times
        case JSON(none_as_null=True):
            return lambda values: [None if v is None else to_text(v) for v in values]
        case JSON():
            return lambda values: [to_text(v) for v in values]
        case kind:
            assert type(kind) in _POSTGRES, f"rows of {column.table.name} have {kind!r}, which is not known here"
            return None


def _texts_of_times(values: Values) -> Values:
    """Few times are many rows' own: most are that of their block, or now."""
    texts = {time: None if time is None else utc_text(time) for time in set(values)}
    return [texts[time] for time in values]
