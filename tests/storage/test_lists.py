"""Lists of values in one statement: what is found with them, and how many statements that are of SQLite's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Column, event, insert, select

from settler.storage import bulk, schema
from settler.storage.engine import Database
from settler.storage.sql import CHUNK, is_one_of, padded
from tests.storage import samples

_t = schema.tokens
COUNTS = (1, 2, 3, 4, 5, 17, 100, CHUNK)


async def _tokens(db: Database, count: int) -> list[dict[str, Any]]:
    (chains, chain), (_, token) = samples.with_parents(_t)
    rows = [token | {"address": number.to_bytes(20, "big"), "symbol": f"T'{number}"} for number in range(count)]
    async with db.write() as conn:
        await conn.execute(insert(chains).values(chain))
        await bulk.insert(conn, _t, rows)
    return rows


@contextmanager
def _statements(db: Database) -> Iterator[set[str]]:
    told: set[str] = set()

    def tell(_conn: object, _cursor: object, statement: str, *_: object) -> None:
        told.add(statement)

    engine = db._reader.sync_engine
    event.listen(engine, "before_cursor_execute", tell)
    try:
        yield told
    finally:
        event.remove(engine, "before_cursor_execute", tell)


@pytest.mark.parametrize("column", [_t.c.symbol, _t.c.address], ids=["texts", "bytes"])
async def test_is_one_of__as_many_as_may_be__finds_each_once(db: Database, column: Column[Any]) -> None:
    rows = await _tokens(db, CHUNK + 1)
    async with db.read() as conn:
        for count in COUNTS:
            wanted = [row[column.name] for row in rows[:count]]
            found = (await conn.execute(select(column).where(is_one_of(conn, column, wanted)))).scalars().all()
            assert sorted(found) == sorted(wanted)


@pytest.mark.parametrize("column", [_t.c.symbol, _t.c.address], ids=["texts", "bytes"])
async def test_is_one_of__none__finds_nothing(db: Database, column: Column[Any]) -> None:
    await _tokens(db, 1)
    async with db.read() as conn:
        assert (await conn.execute(select(column).where(is_one_of(conn, column, [])))).all() == []


async def test_sqlite__lists_of_any_length__are_few_statements(sqlite_db: Database) -> None:
    """Each connection keeps 128 of them prepared."""
    rows = await _tokens(sqlite_db, CHUNK)
    key = ("chain_id", "address")
    with _statements(sqlite_db) as told:
        async with sqlite_db.read() as conn:
            for count in range(1, CHUNK, 9):
                some = rows[:count]
                await conn.execute(select(_t).where(is_one_of(conn, _t.c.symbol, [row["symbol"] for row in some])))
                await conn.execute(select(_t).where(is_one_of(conn, _t.c.address, [row["address"] for row in some])))
                wanted = [(row["chain_id"], row["address"]) for row in some]
                assert len(await bulk.look_up(conn, _t, key, wanted, telling=("symbol",))) == count
    lengths = len({1 << (count - 1).bit_length() for count in range(1, CHUNK, 9)})
    assert len(told - {"BEGIN"}) <= 2 * lengths + 1


def test_padded__repeats_the_last() -> None:
    assert [list(padded(range(count))) for count in (0, 1, 3, 5)] == [[], [0], [0, 1, 2, 2], [0, 1, 2, 3, 4, 4, 4, 4]]
