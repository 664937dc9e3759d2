"""The driver's shortcut on SQLite: fewer ways to the connection's thread, and nothing lost by it."""

from __future__ import annotations

import asyncio
from typing import Any

import aiosqlite
import pytest
from sqlalchemy import func, insert, select, text

from settler.storage import schema
from settler.storage.engine import Database
from tests.storage import samples

COUNT = select(func.count()).select_from(schema.chains)
CHAIN = samples.with_parents(schema.chains)[0][1]
SLOW = text("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000000) SELECT max(i) FROM n")


@pytest.fixture
def db_url(sqlite_alone: str) -> str:
    return sqlite_alone


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was sent to a connection's thread."""
    sent: list[str] = []
    execute: Any = aiosqlite.Connection._execute

    async def noted(self: aiosqlite.Connection, work: Any, *args: Any, **kwargs: Any) -> Any:
        sent.append(getattr(work, "__name__", str(work)))
        return await execute(self, work, *args, **kwargs)

    monkeypatch.setattr(aiosqlite.Connection, "_execute", noted)
    return sent


async def test_transaction__of_two_statements__takes_a_way_for_each_and_for_its_ends(
    db: Database, ways: list[str]
) -> None:
    async with db.write():
        pass  # connected
    ways.clear()
    async with db.write() as conn:
        await conn.execute(insert(schema.chains).values(CHAIN))
        assert (await conn.execute(COUNT)).scalar_one() == 1
    assert ways == ["_execute", "_execute", "_execute", "commit"], "the first is BEGIN"


async def test_transaction__that_failed__is_rolled_back_in_its_thread(db: Database, ways: list[str]) -> None:
    with pytest.raises(RuntimeError, match="ours"):
        async with db.write() as conn:
            await conn.execute(insert(schema.chains).values(CHAIN))
            raise RuntimeError("ours")
    assert "rollback" in ways
    async with db.read() as conn:
        assert (await conn.execute(COUNT)).scalar_one() == 0


async def test_statement__given_up_while_it_runs__leaves_nothing_open(db: Database) -> None:
    """Its thread goes on with it; the roll-back comes behind it, also where nothing looks open yet."""

    async def slow() -> None:
        async with db.write() as conn:
            await conn.execute(insert(schema.chains).values(CHAIN))
            await conn.execute(SLOW)

    waiting = asyncio.create_task(slow())
    await asyncio.sleep(0.05)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    async with db.write() as conn:
        assert (await conn.execute(COUNT)).scalar_one() == 0


async def test_result__of_many_rows__has_description_and_all_rows(db: Database) -> None:
    async with db.read() as conn:
        found = await conn.execute(text("SELECT 1 AS one, 'b' AS two UNION ALL SELECT 2, 'c'"))
        assert list(found.keys()) == ["one", "two"]
        assert [tuple(row) for row in found] == [(1, "b"), (2, "c")]


async def test_update__of_some_rows__says_how_many(db: Database) -> None:
    async with db.write() as conn:
        for chain_id in (1, 2, 3):
            await conn.execute(insert(schema.chains).values(CHAIN | {"chain_id": chain_id, "name": f"c{chain_id}"}))
        changed = await conn.execute(schema.chains.update().where(schema.chains.c.chain_id > 1).values(halt_reason="x"))
        assert changed.rowcount == 2


async def test_stream__of_many_rows__comes_piece_by_piece(db: Database, ways: list[str]) -> None:
    async with db.read() as conn:
        rows = await conn.stream(
            text("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000) SELECT i FROM n")
        )
        first = await anext(aiter(rows))
        assert first.i == 1
        assert "fetchall" not in ways
        assert sum([row.i async for row in rows]) == sum(range(2, 10_001))
    assert ways.count("fetchmany") > 1
    assert ways[-1] == "rollback", "what a stream leaves is not known, so it is rolled back"
