"""What `write` and `read` promise, on both databases: all or nothing, writers queue, readers see one state."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from settler.storage import connect, engine, migrate, schema
from settler.storage.engine import Database, InvalidDatabaseUrl, StorageUnavailable
from tests.storage import samples

chains = schema.chains
ROW = samples.with_parents(chains)[0][1]


async def _add(conn: AsyncConnection, chain_id: int) -> None:
    await conn.execute(insert(chains).values(ROW | {"chain_id": chain_id, "name": f"chain {chain_id}"}))


async def _count(db: Database) -> int:
    async with db.read() as conn:
        return (await conn.execute(select(func.count()).select_from(chains))).scalar_one()


async def test_write__ends__is_committed(db: Database) -> None:
    async with db.write() as conn:
        await _add(conn, 1)
    assert await _count(db) == 1


async def test_write__raises__is_rolled_back_and_passes_it_on(db: Database) -> None:
    with pytest.raises(RuntimeError, match=r"^ours$"):
        async with db.write() as conn:
            await _add(conn, 1)
            raise RuntimeError("ours")
    assert await _count(db) == 0


async def test_write__constraint_broken__is_an_integrity_error_and_undoes_all(db: Database) -> None:
    with pytest.raises(IntegrityError):
        async with db.write() as conn:
            await _add(conn, 1)
            await _add(conn, 1)
    assert await _count(db) == 0


async def test_write__ddl__is_undone_too(db: Database) -> None:
    """Python's sqlite3 would commit before DDL, or begin only after it."""
    with pytest.raises(RuntimeError):
        async with db.write() as conn:
            await conn.execute(text("CREATE TABLE passing (id INTEGER)"))
            raise RuntimeError
    with pytest.raises(DBAPIError, match="passing"):
        async with db.read() as conn:
            await conn.execute(text("SELECT * FROM passing"))


async def test_write__cancelled__is_rolled_back_and_lets_the_next_in(db: Database) -> None:
    has_written = asyncio.Event()

    async def hang() -> None:
        async with db.write() as conn:
            await _add(conn, 1)
            has_written.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(hang())
    await has_written.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with db.write() as conn:
        await _add(conn, 1)
    assert await _count(db) == 1


async def test_write__cancelled_at_any_moment__never_blocks_or_halves(db: Database) -> None:
    """Cancelling comes at every await in turn: in BEGIN, in a statement, in COMMIT."""
    await asyncio.gather(_count(db), _write_numbered(db, 0))  # else the first is cancelled while it connects
    for awaits in range(30):
        before = await _count(db)

        async def two(first: int) -> None:
            async with db.write() as conn:
                await _add(conn, first)
                await _add(conn, first + 1)

        task = asyncio.create_task(two(1 + 2 * awaits))
        for _ in range(awaits):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        async with db.write() as conn:
            await conn.execute(update(chains).values(updated_at=chains.c.updated_at))
        assert await _count(db) in (before, before + 2)


async def test_write__many_at_once__all_succeed_with_nothing_lost(db: Database) -> None:
    """Each reads and then writes: on SQLite a transaction that turned into a writer late would fail as busy."""
    async with db.write() as conn:
        await _add(conn, 1)
        await conn.execute(update(chains).values(head_number=0))

    async def increment() -> None:
        async with db.write() as conn:
            query = select(chains.c.head_number).with_for_update()
            number = (await conn.execute(query)).scalar_one()
            await conn.execute(update(chains).values(head_number=number + 1))

    await asyncio.gather(*(increment() for _ in range(40)))
    async with db.read() as conn:
        assert (await conn.execute(select(chains.c.head_number))).scalar_one() == 40


async def test_read__while_another_writes__sees_one_state(db: Database) -> None:
    async with db.read() as conn:
        query = select(func.count()).select_from(chains)
        assert (await conn.execute(query)).scalar_one() == 0
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_write_one(db))
        assert (await conn.execute(query)).scalar_one() == 0
    assert await _count(db) == 1


async def _write_one(db: Database) -> None:
    async with db.write() as conn:
        await _add(conn, 1)


async def test_read__a_write__is_refused_as_the_bug_it_is(db: Database) -> None:
    with pytest.raises(DBAPIError, match=r"(?i)read.?only"):
        async with db.read() as conn:
            await _add(conn, 1)
    async with db.write() as conn:
        await _add(conn, 1)
    assert await _count(db) == 1


async def test_statement_error__shown__holds_no_values(db: Database) -> None:
    """Webhook secrets are values; errors are logged."""
    with pytest.raises(DBAPIError) as caught:
        async with db.read() as conn:
            await conn.execute(text("SELECT * FROM missing WHERE secret = :secret"), {"secret": "whsec_x"})
    assert "whsec_x" not in str(caught.value)


# SQLite's own


async def test_sqlite__connections__have_the_pragmas(sqlite_db: Database) -> None:
    for transaction in (sqlite_db.read, sqlite_db.write):
        async with transaction() as conn:
            shown = {
                name: (await conn.execute(text(f"PRAGMA {name}"))).scalar_one()
                for name in ("journal_mode", "synchronous", "foreign_keys", "recursive_triggers", "busy_timeout")
            }
        assert shown == {
            "journal_mode": "wal",
            "synchronous": 2,
            "foreign_keys": 1,
            "recursive_triggers": 1,
            "busy_timeout": connect.BUSY_TIMEOUT_S * 1000,
        }


async def test_sqlite__new_file__is_for_the_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "settler.db"
    await migrate.upgrade(f"sqlite:///{path}")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_sqlite__in_memory__is_one_database_whose_readers_wait_for_the_writer() -> None:
    db = await Database.open("sqlite://")
    try:
        await migrate.upgrade_open(db)
        await asyncio.gather(*(_write_numbered(db, number) for number in range(10)), _count(db), _count(db))
        assert await _count(db) == 10
    finally:
        await db.dispose()


async def _write_numbered(db: Database, number: int) -> None:
    async with db.write() as conn:
        await _add(conn, number)


async def test_sqlite__nested_writes__are_a_bug_and_no_deadlock(sqlite_db: Database) -> None:
    with pytest.raises(AssertionError, match="wait for itself"):
        async with sqlite_db.write(), sqlite_db.write():
            pass


async def test_sqlite__second_process_writes__both_succeed(sqlite_db: Database, sqlite_db_url: str) -> None:
    """The CLI beside the daemon. Both write at full speed; neither sees `database is locked`."""
    script = f"""
import asyncio
from settler.storage.engine import Database
from tests.storage.test_engine import _write_numbered

async def main():
    db = await Database.open({sqlite_db_url!r})
    print("open", flush=True)
    for number in range(1000, 1100):
        await _write_numbered(db, number)
    await db.dispose()

asyncio.run(main())
"""
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert other.stdout is not None
    assert await other.stdout.readline() == b"open\n"
    for number in range(100):
        await _write_numbered(sqlite_db, number)
    assert await other.wait() == 0
    assert await _count(sqlite_db) == 200


@pytest.fixture
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "SQLITE_PRAGMAS", ("PRAGMA busy_timeout = 50", *connect.SQLITE_PRAGMAS[1:]))
    monkeypatch.setattr(engine, "WRITER_WAIT_S", 0.05)


@pytest.mark.usefixtures("_short_waits")
async def test_sqlite__locked_by_another_for_too_long__is_unavailable_and_recovers(sqlite_db_url: str) -> None:
    db = await Database.open(sqlite_db_url)
    other = sqlite3.connect(sqlite_db_url.removeprefix("sqlite:///"), isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageUnavailable, match="locked"):
            await _write_one(db)
        assert await _count(db) == 0
        other.execute("ROLLBACK")
        await _write_one(db)
        assert await _count(db) == 1
    finally:
        other.close()
        await db.dispose()


@pytest.mark.usefixtures("_short_waits")
async def test_sqlite__writer_of_this_process_hangs__is_unavailable(sqlite_db: Database) -> None:
    async with sqlite_db.write():
        with pytest.raises(StorageUnavailable, match="another writer"):
            await asyncio.create_task(_write_one(sqlite_db))
    await _write_one(sqlite_db)


async def test_sqlite__disk_full__is_unavailable_and_nothing_is_written(sqlite_db: Database) -> None:
    async def fill(conn: AsyncConnection) -> None:
        for number in range(500):
            await _add(conn, number)

    async with sqlite_db.write() as conn:
        pages = (await conn.execute(text("PRAGMA page_count"))).scalar_one()
        await conn.execute(text(f"PRAGMA max_page_count = {pages + 1}"))
    with pytest.raises(StorageUnavailable, match="full"):
        async with sqlite_db.write() as conn:
            await fill(conn)
    assert await _count(sqlite_db) == 0
    async with sqlite_db.write() as conn:
        await conn.execute(text("PRAGMA max_page_count = 100000"))
        await fill(conn)
    assert await _count(sqlite_db) == 500


async def test_sqlite__file_is_no_database__is_an_invalid_url(tmp_path: Path) -> None:
    path = tmp_path / "settler.db"
    path.write_bytes(b"Dear diary, " * 100)
    with pytest.raises(InvalidDatabaseUrl, match=r"settler\.db is not a SQLite database"):
        await Database.open(f"sqlite:///{path}")


async def test_sqlite__another_process_is_making_the_file__waits_for_it(tmp_path: Path) -> None:
    """SQLite refuses at once to make a file WAL that another writes to, whatever the busy time-out."""
    path = tmp_path / "settler.db"
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        ending = threading.Timer(0.3, other.execute, ["COMMIT"])
        ending.start()
        db = await Database.open(f"sqlite:///{path}")
        ending.join()
        await db.dispose()


async def test_sqlite__file_cannot_be_made__is_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "settler.db"
    path.symlink_to(tmp_path / "not mounted" / "settler.db")
    with pytest.raises(StorageUnavailable, match="cannot be opened"):
        await Database.open(f"sqlite:///{path}")


def test_with_for_update__on_sqlite__is_left_out() -> None:
    """There the write lock is held from the beginning; the verbs may say it all the same."""
    from sqlalchemy.dialects import sqlite

    locked = select(chains.c.chain_id).with_for_update(skip_locked=True)
    assert "FOR UPDATE" not in str(locked.compile(dialect=sqlite.dialect()))
