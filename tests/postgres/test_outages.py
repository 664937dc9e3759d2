"""PostgreSQL goes away, is slow, is fought over, and comes back: `StorageUnavailable` meanwhile, nothing lost."""

from __future__ import annotations

import asyncio
import re
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import func, insert, select, text, update
from sqlalchemy.exc import DBAPIError

from settler.storage import connect, migrate, schema
from settler.storage.engine import Database, StorageUnavailable
from tests.storage import samples
from tests.support.daemon import running
from tests.support.db import TEMPLATE
from tests.support.postgres import PostgresServer
from tests.webhook.samples import added, an_endpoint, an_event

pytestmark = pytest.mark.postgres
DAEMON = """
[database]
url = "{url}"
[api]
listen = "127.0.0.1:0"
auth = "none"
[webhooks]
allow_private_addresses = true
[runtime]
drain_timeout_s = 6
[chains.base]
rpc = ["http://127.0.0.1:1/"]
tokens = ["USDC"]
"""
chains = schema.chains
ROW = samples.with_parents(chains)[0][1]


async def _add(db: Database, chain_id: int) -> None:
    async with db.write() as conn:
        await conn.execute(insert(chains).values(ROW | {"chain_id": chain_id, "name": f"chain {chain_id}"}))


async def _count(db: Database) -> int:
    async with db.read() as conn:
        return (await conn.execute(select(func.count()).select_from(chains))).scalar_one()


async def test_server__stopped_and_started__is_unavailable_meanwhile(
    postgres_db: Database, postgres_server: PostgresServer
) -> None:
    await asyncio.gather(*(_add(postgres_db, number) for number in range(5)))
    with postgres_server.stopped():
        for _ in range(3):
            with pytest.raises(StorageUnavailable):
                await _add(postgres_db, 99)
            with pytest.raises(StorageUnavailable):
                await _count(postgres_db)
    await asyncio.gather(*(_add(postgres_db, number) for number in range(5, 10)))
    assert await _count(postgres_db) == 10


async def test_server__crashes_within_a_transaction__nothing_of_it_is_kept(
    postgres_db: Database, postgres_server: PostgresServer
) -> None:
    try:
        with pytest.raises(StorageUnavailable):
            async with postgres_db.write() as conn:
                await conn.execute(insert(chains).values(ROW))
                postgres_server.crash()
                await conn.execute(update(chains).values(head_number=1))
    finally:
        postgres_server.start()
    assert await _count(postgres_db) == 0
    await _add(postgres_db, 1)
    assert await _count(postgres_db) == 1


async def test_server__crashes_before_the_commit__nothing_of_it_is_kept(
    postgres_db: Database, postgres_server: PostgresServer
) -> None:
    try:
        with pytest.raises(StorageUnavailable):
            async with postgres_db.write() as conn:
                await conn.execute(insert(chains).values(ROW))
                postgres_server.crash()
    finally:
        postgres_server.start()
    assert await _count(postgres_db) == 0


async def test_backend__terminated_by_an_operator__is_unavailable(postgres_db: Database) -> None:
    with pytest.raises(StorageUnavailable):
        async with postgres_db.write() as conn:
            pid = (await conn.execute(text("SELECT pg_backend_pid()"))).scalar_one()
            async with postgres_db.write() as other:
                await other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
            await conn.execute(text("SELECT 1"))
    assert await _count(postgres_db) == 0


async def test_connection__lost_within_a_savepoint__is_unavailable(postgres_db: Database) -> None:
    """What was noted of the savepoint could not be looked up any more, and that error hid the one of the database: the
    API answered 500 for it, the log had a bug."""
    with pytest.raises(StorageUnavailable):
        async with postgres_db.write() as conn:
            pid = (await conn.execute(text("SELECT pg_backend_pid()"))).scalar_one()
            async with conn.begin_nested():
                async with postgres_db.write() as other:
                    await other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
                await conn.execute(text("SELECT 1"))
    await _add(postgres_db, 1)
    assert await _count(postgres_db) == 1


async def test_open__no_server__is_unavailable(postgres_server: PostgresServer) -> None:
    url = postgres_server.url(TEMPLATE)
    with postgres_server.stopped(), pytest.raises(StorageUnavailable):
        await Database.open(url)


async def test_open__no_such_database__is_unavailable_and_names_it(postgres_server: PostgresServer) -> None:
    with pytest.raises(StorageUnavailable, match="no_such_database"):
        await Database.open(postgres_server.url("no_such_database"))


async def test_deadlock__one_is_unavailable_the_other_commits(postgres_db: Database) -> None:
    await _add(postgres_db, 1)
    await _add(postgres_db, 2)
    both_hold_one = asyncio.Barrier(2)

    async def lock(first: int, second: int) -> None:
        async with postgres_db.write() as conn:
            await conn.execute(update(chains).where(chains.c.chain_id == first).values(head_number=1))
            await both_hold_one.wait()
            await conn.execute(update(chains).where(chains.c.chain_id == second).values(head_number=1))

    outcomes = await asyncio.gather(lock(1, 2), lock(2, 1), return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["NoneType", "StorageBusy"]


@pytest.mark.parametrize(
    ("sqlstate", "is_transient"),
    [
        ("08006", True),  # connection failure
        ("0A000", True),  # read-write mode asked of a standby
        ("25006", True),  # read-only: a standby not promoted yet
        ("40001", True),  # serialization failure
        ("53100", True),  # disk full
        ("53300", True),  # too many connections
        ("57P01", True),  # admin shutdown
        ("58030", True),  # I/O error
        ("22012", False),  # division by zero
        ("42P01", False),  # no such table
        ("XX001", False),  # data corrupted
    ],
)
async def test_error__by_its_code__is_unavailable_if_waiting_may_help(
    postgres_db: Database, sqlstate: str, is_transient: bool
) -> None:
    expected: type[Exception] = StorageUnavailable if is_transient else DBAPIError
    with pytest.raises(expected):
        async with postgres_db.write() as conn:
            await conn.exec_driver_sql(f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{sqlstate}'; END $$")


async def _raise_head(db: Database) -> None:
    async with db.write() as conn:
        await conn.execute(update(chains).values(head_number=1))


def _shorten(monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    waits = connect.POSTGRES_BOUND_WAITS
    shortened = re.sub(rf"'{setting}', '\d+s'", f"'{setting}', '80ms'", waits)
    assert shortened != waits
    monkeypatch.setattr(connect, "POSTGRES_BOUND_WAITS", shortened)


async def test_wait_for_a_statement__too_long__is_unavailable(
    postgres_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    _shorten(monkeypatch, "statement_timeout")
    with pytest.raises(StorageUnavailable, match="statement timeout"):
        async with postgres_db.read() as conn:
            await conn.execute(text("SELECT pg_sleep(5)"))


async def test_wait_for_a_lock__too_long__is_unavailable(
    postgres_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _add(postgres_db, 1)
    _shorten(monkeypatch, "lock_timeout")
    async with postgres_db.write() as conn:
        await conn.execute(update(chains).values(head_number=1))
        with pytest.raises(StorageUnavailable, match="lock timeout"):
            await asyncio.create_task(_raise_head(postgres_db))


async def test_transaction__idle_too_long__is_unavailable_and_undone(
    postgres_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    _shorten(monkeypatch, "idle_in_transaction_session_timeout")
    with pytest.raises(StorageUnavailable):
        async with postgres_db.write() as conn:
            await conn.execute(insert(chains).values(ROW))
            await asyncio.sleep(0.3)
    assert await _count(postgres_db) == 0


async def test_wait_for_a_connection__too_long__is_unavailable(
    postgres_db_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect, "POOL_WAIT_S", 0.05)
    db = await Database.open(postgres_db_url, pool_size=1)
    try:
        async with db.read():
            with pytest.raises(StorageUnavailable, match="QueuePool limit"):
                await _count(db)
    finally:
        await db.dispose()


async def test_transactions__settings__are_theirs_alone_and_bounded(postgres_db: Database) -> None:
    """PgBouncer hands each transaction another connection: nothing may stay behind on one, nothing be prepared."""
    async with postgres_db.write() as conn:
        for _ in range(10):
            assert (await conn.execute(text("SHOW statement_timeout"))).scalar_one() == "30s"
        assert (await conn.execute(text("SHOW lock_timeout"))).scalar_one() == "10s"
        assert (await conn.execute(text("SHOW idle_in_transaction_session_timeout"))).scalar_one() == "1min"
        assert (await conn.execute(text("SHOW application_name"))).scalar_one() == "settler"
        assert (await conn.execute(text("SELECT count(*) FROM pg_prepared_statements"))).scalar_one() == 0
        raw = (await conn.get_raw_connection()).driver_connection
        assert raw is not None
        await raw.commit()
        await raw.set_autocommit(True)
        assert await (await raw.execute("SHOW statement_timeout")).fetchone() == ("0",)
        await raw.set_autocommit(False)


async def test_read__transaction__is_repeatable_and_read_only_and_write_is_not(postgres_db: Database) -> None:
    async def shown() -> list[tuple[str, str]]:
        found = []
        for transaction in (postgres_db.read, postgres_db.write):
            async with transaction() as conn:
                isolation = (await conn.execute(text("SHOW transaction_isolation"))).scalar_one()
                read_only = (await conn.execute(text("SHOW transaction_read_only"))).scalar_one()
                found.append((isolation, read_only))
        return found

    expected = [("repeatable read", "on"), ("read committed", "off")]
    assert await shown() == expected
    assert await shown() == expected


async def test_daemon__stopped_while_the_server_is_away__ends_in_order(
    postgres_db_url: str, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    """What came of the last webhooks could not be recorded, and the daemon ended with that error instead of 0."""
    was_asked = asyncio.Event()

    async def answer_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        was_asked.set()
        await asyncio.sleep(1.0)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    receiver = await asyncio.start_server(answer_late, "127.0.0.1", 0)
    port = receiver.sockets[0].getsockname()[1]
    db = await Database.open(postgres_db_url)
    await added(db, an_endpoint(url=f"http://127.0.0.1:{port}/"), an_event())
    await db.dispose()
    config = tmp_path / "settler.toml"
    config.write_text(DAEMON.format(url=postgres_db_url))
    async with receiver:
        with ExitStack() as meanwhile:
            async with running(config) as daemon:
                await asyncio.wait_for(was_asked.wait(), 20)
                meanwhile.enter_context(postgres_server.stopped())
    assert "webhooks.not_recorded" in [line["event"] for line in daemon.log.lines]


async def test_open__database_of_encoding_sql_ascii__speaks_text(postgres_server: PostgresServer) -> None:
    """Its server converts nothing, and the driver would hand out bytes: migrations ended with a TypeError."""
    with psycopg.connect(postgres_server.url("postgres"), autocommit=True) as conn:
        conn.execute("CREATE DATABASE plain_ascii TEMPLATE template0 ENCODING SQL_ASCII LOCALE 'C'")
    try:
        await migrate.upgrade(postgres_server.url("plain_ascii"))
        db = await Database.open(postgres_server.url("plain_ascii"))
        try:
            assert isinstance(await migrate.state(db), migrate.Current)
        finally:
            await db.dispose()
    finally:
        postgres_server.drop_database("plain_ascii")
