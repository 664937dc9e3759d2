"""The world's database: whose turn it is, and what each fault leaves behind, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError, OperationalError

from settler.simulation.clock import EPOCH, VirtualLoop
from settler.simulation.life import Dead, Life
from settler.simulation.store import SimStore
from settler.simulation.store_connection import written_table
from settler.simulation.store_faults import STORE_FAULTS
from settler.storage import migrate, schema
from settler.storage.connect import BUSY_TIMEOUT_S, IDLE_IN_TRANSACTION_TIMEOUT_S
from settler.storage.engine import WRITER_WAIT_S, Database
from settler.storage.errors import InvalidDatabaseUrl, StorageUnavailable
from settler.storage.outcome import rows_of
from tests.support.db import BOTH, TEMPLATE
from tests.support.postgres import PostgresServer

KEYS = schema.deposit_keys
Story = Callable[[SimStore], Awaitable[None]]
Told = Callable[[Story], None]
"""Runs a story in a new world."""


@pytest.fixture(scope="module")
def simulated_postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    yield postgres_server.create_database("sim_store", template=TEMPLATE)
    postgres_server.drop_database("sim_store")


@pytest.fixture(params=BOTH)
def tell(request: pytest.FixtureRequest) -> Told:
    is_postgres = request.param == "postgres"
    return partial(_tell, request.getfixturevalue("simulated_postgres_url") if is_postgres else None)


def _tell(url: str | None, story: Story) -> None:
    async def run() -> None:
        store = await SimStore.create(url, random=random.Random(1))
        try:
            await story(store)
        finally:
            store.heal()
            await store.close()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())


async def add(db: Database, id_: str, *, between: Awaitable[None] | None = None) -> None:
    """One transaction that writes; `between` is waited for before its end."""
    async with db.write() as conn:
        await conn.execute(KEYS.insert(), {"id": id_, "path": "m", "next_index": 0, "first_used_at": EPOCH})
        if between is not None:
            await between


async def ids(db: Database) -> list[str]:
    async with db.read() as conn:
        return [row.id for row in await conn.execute(select(KEYS.c.id).order_by(KEYS.c.id))]


async def seen(store: SimStore) -> list[str]:
    return sorted(row["id"] for row in await store.rows(KEYS))


# -- one database for all ----------------------------------------------------------------------------------------------


def test_database__new__is_migrated_and_empty(tell: Told) -> None:
    async def story(store: SimStore) -> None:
        db = await store.open(Life("a"))
        assert isinstance(await migrate.state(db), migrate.Current)
        assert {name: rows for name, rows in (await store.snapshot()).items() if rows} == {}

    tell(story)
    tell(story)


def test_rows__of_append_only_tables__are_gone_in_the_next_world(tell: Told) -> None:
    async def write(store: SimStore) -> None:
        db = await store.open(Life("a"))
        async with db.write() as conn:
            row = {"id": "le_1", "kind": "receipt", "ref": "x", "posted_at": EPOCH}
            await conn.execute(schema.ledger_entries.insert(), row)
        with pytest.raises(IntegrityError, match="append-only"):
            async with db.write() as conn:
                await conn.execute(update(schema.ledger_entries).values(kind="y"))
        assert len(await store.rows(schema.ledger_entries)) == 1

    async def look(store: SimStore) -> None:
        assert await store.rows(schema.ledger_entries) == []

    tell(write)
    tell(look)


@pytest.mark.postgres
def test_database__not_marked_as_a_simulations__is_refused_and_kept(postgres_db_url: str) -> None:
    async def keep() -> Database:
        db = await Database.open(postgres_db_url, pool_size=1)
        await add(db, "mine")
        return db

    async def run() -> None:
        db = await keep()
        with pytest.raises(InvalidDatabaseUrl, match="'sim'"):
            await SimStore.create(postgres_db_url, random=random.Random(1))
        assert await ids(db) == ["mine"]
        await db.dispose()

    asyncio.run(run())


def test_two_processes__writing_at_once__exclude_each_other(tell: Told) -> None:
    async def story(store: SimStore) -> None:
        one, two = await store.open(Life("one")), await store.open(Life("two"))
        steps: list[str] = []

        async def count_and_add(db: Database, name: str) -> None:
            async with db.write() as conn:
                count = (await conn.execute(select(func.count()).select_from(KEYS))).scalar_one()
                steps.append(f"{name} begins")
                await asyncio.sleep(1)
                row = {"id": f"{count}", "path": name, "next_index": 0, "first_used_at": EPOCH}
                await conn.execute(KEYS.insert(), row)
                steps.append(f"{name} ends")

        await asyncio.gather(count_and_add(one, "one"), count_and_add(two, "two"))
        assert steps == ["one begins", "one ends", "two begins", "two ends"]
        assert await seen(store) == ["0", "1"]

    tell(story)


def test_processes__that_wait__get_their_turn_in_the_order_they_came(tell: Told) -> None:
    async def story(store: SimStore) -> None:
        order: list[str] = []
        store.on_commit = lambda life, _tables, _statements: order.append(life.name)
        names = ["d", "b", "e", "a", "c"]
        handles = {name: await store.open(Life(name)) for name in names}
        await asyncio.gather(*(add(handles[name], name, between=asyncio.sleep(0.5)) for name in names))
        assert order == names

    tell(story)


def test_process__that_waits_too_long__is_told_that_it_is_busy(tell: Told) -> None:
    async def story(store: SimStore) -> None:
        holder, waiter = await store.open(Life("holder")), await store.open(Life("waiter"))
        holding = asyncio.create_task(add(holder, "held", between=asyncio.sleep(BUSY_TIMEOUT_S + 1)))
        await asyncio.sleep(0)
        with pytest.raises(StorageUnavailable):
            await add(waiter, "late")
        await holding
        await add(waiter, "after")
        assert await seen(store) == ["after", "held"]

    tell(story)


def test_waiter__canceled__leaves_the_line_to_the_next(tell: Told) -> None:
    async def story(store: SimStore) -> None:
        handles = [await store.open(Life(name)) for name in "abc"]
        tasks = [
            asyncio.create_task(add(db, name, between=asyncio.sleep(1)))
            for db, name in zip(handles, "abc", strict=True)
        ]
        await asyncio.sleep(0.5)
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert tasks[1].cancelled()
        assert await seen(store) == ["a", "c"]

    tell(story)


def test_write__that_raises__leaves_nothing_and_a_usable_database(tell: Told) -> None:
    async def story(store: SimStore) -> None:
        db = await store.open(Life("a"))
        await add(db, "x")
        with pytest.raises(IntegrityError):
            async with db.write() as conn:
                row = {"path": "m", "next_index": 0, "first_used_at": EPOCH}
                await conn.execute(KEYS.insert(), [{"id": "y", **row}, {"id": "z", **row}])
                await conn.execute(KEYS.insert(), {"id": "x", **row})
        assert await ids(db) == ["x"]

    tell(story)


def test_savepoint__rolled_back__leaves_the_rest(tell: Told) -> None:
    async def story(store: SimStore) -> None:
        db = await store.open(Life("a"))
        await add(db, "x")
        row = {"path": "m", "next_index": 0, "first_used_at": EPOCH}
        async with db.write() as conn:
            await conn.execute(KEYS.insert(), {"id": "y", **row})
            with pytest.raises(IntegrityError):
                async with conn.begin_nested():
                    await conn.execute(KEYS.insert(), {"id": "x", **row})
        assert await ids(db) == ["x", "y"]

    tell(story)


def test_reader__that_writes__is_refused(tell: Told) -> None:
    async def story(store: SimStore) -> None:
        db = await store.open(Life("a"))
        with pytest.raises(Exception, match=r"(?i)read.?only"):
            async with db.read() as conn:
                await conn.execute(update(KEYS).values(path="n"))
        await add(db, "x")
        assert await ids(db) == ["x"]

    tell(story)


def test_result__streamed__has_all_rows(tell: Told) -> None:
    async def story(store: SimStore) -> None:
        db = await store.open(Life("a"))
        for name in "xyz":
            await add(db, name)
        async with db.read() as conn:
            rows = [row.id async for row in await conn.stream(select(KEYS.c.id).order_by(KEYS.c.id))]
        assert rows == ["x", "y", "z"]

    tell(story)


# -- life and death ----------------------------------------------------------------------------------------------------


def test_process__killed_within_a_transaction__leaves_nothing_and_passes_the_turn_on(tell: Told) -> None:
    async def story(store: SimStore) -> None:
        victim = Life("victim")
        one, two = await store.open(victim), await store.open(Life("two"))
        dying = asyncio.create_task(add(one, "lost", between=asyncio.sleep(5)))
        await asyncio.sleep(1)
        waiting = asyncio.create_task(add(two, "kept"))
        await asyncio.sleep(1)
        assert store.holder is victim
        victim.kill()
        await waiting
        assert asyncio.get_running_loop().time() == 2
        with pytest.raises(Dead):
            await dying
        assert await seen(store) == ["kept"]

    tell(story)


def test_process__killed__cannot_write_nor_read_nor_wait_for_its_turn(tell: Told) -> None:
    async def story(store: SimStore) -> None:
        victim = Life("victim")
        one, two = await store.open(victim), await store.open(Life("two"))
        holding = asyncio.create_task(add(two, "held", between=asyncio.sleep(3)))
        await asyncio.sleep(0)
        in_line = asyncio.create_task(add(one, "x"))
        await asyncio.sleep(1)
        victim.kill()
        with pytest.raises(Dead):
            await in_line
        for work in (add(one, "y"), ids(one)):
            with pytest.raises(Dead):
                await work
        await holding
        assert await seen(store) == ["held"]

    tell(story)


def test_process__frozen__does_nothing_until_it_is_thawed(tell: Told) -> None:
    async def story(store: SimStore) -> None:
        life = Life("a")
        db = await store.open(life)
        life.freeze()
        writing = asyncio.create_task(add(db, "x"))
        await asyncio.sleep(100)
        assert await seen(store) == []
        life.thaw()
        await writing
        assert await seen(store) == ["x"]

    tell(story)


def test_process__frozen_within_a_transaction__keeps_sqlite_from_others_until_it_is_thawed() -> None:
    async def story(store: SimStore) -> None:
        life = Life("frozen")
        one, two = await store.open(life), await store.open(Life("two"))
        writing = asyncio.create_task(add(one, "x", between=asyncio.sleep(1)))
        await asyncio.sleep(0.5)
        life.freeze()
        with pytest.raises(StorageUnavailable):
            await add(two, "y")
        life.thaw()
        await writing
        assert await seen(store) == ["x"]

    _tell(None, story)


@pytest.mark.postgres
def test_process__frozen_within_a_transaction__is_cut_off_by_postgresql(simulated_postgres_url: str) -> None:
    async def story(store: SimStore) -> None:
        life = Life("frozen")
        one, two = await store.open(life), await store.open(Life("two"))
        writing = asyncio.create_task(add(one, "x", between=asyncio.sleep(1)))
        await asyncio.sleep(0.5)
        life.freeze()
        await asyncio.sleep(IDLE_IN_TRANSACTION_TIMEOUT_S + 1)
        await add(two, "y")
        life.thaw()
        with pytest.raises(StorageUnavailable):
            await writing
        await add(one, "z")
        assert await seen(store) == ["y", "z"]

    _tell(simulated_postgres_url, story)


# -- faults ------------------------------------------------------------------------------------------------------------

LEFT = {
    "crash before a write": (Dead, []),
    "crash during a write": (Dead, []),
    "crash after a write": (Dead, ["x"]),
    "commit unknown, done": (StorageUnavailable, ["x"]),
    "commit unknown, lost": (StorageUnavailable, []),
    "serialization failure": (StorageUnavailable, []),
    "deadlock": (StorageUnavailable, []),
    "database gone": (StorageUnavailable, []),
    "disk full": (StorageUnavailable, []),
}
"""What a transaction that meets the fault raises, and what is there then."""


@pytest.mark.parametrize("name", LEFT)
def test_fault__of_a_write__leaves_what_it_promises(tell: Told, name: str) -> None:
    error, left = LEFT[name]

    async def story(store: SimStore) -> None:
        life = Life("a")
        db = await store.open(life)
        store.inject(name, 1.0)
        with pytest.raises(error):
            await add(db, "x")
        assert await seen(store) == left
        assert store.struck == {name: 1}
        assert life.is_dead is (error is Dead)
        store.withdraw(name)
        again = db if error is not Dead else await store.open(Life("after"))
        await add(again, "y")
        assert await ids(again) == [*left, "y"]

    tell(story)


def test_serialization_failure__at_commit__rolls_back(tell: Told) -> None:
    async def story(store: SimStore) -> None:
        db = await store.open(Life("a"))

        async def inject() -> None:
            store.inject("serialization failure", 1.0)

        with pytest.raises(StorageUnavailable):
            await add(db, "x", between=inject())
        assert store.struck["serialization failure"] == 1
        assert await seen(store) == []

    tell(story)


@pytest.mark.parametrize("name", [*(n for n in LEFT if n not in ("database gone", "slow database"))])
def test_fault__of_writes__never_strikes_a_reader(tell: Told, name: str) -> None:
    async def story(store: SimStore) -> None:
        db = await store.open(Life("a"))
        await add(db, "x")
        store.inject(name, 1.0)
        assert await ids(db) == ["x"]
        assert not store.struck

    tell(story)


def test_database_gone__fails_readers_writers_and_starts_until_it_is_over(tell: Told) -> None:
    async def story(store: SimStore) -> None:
        db = await store.open(Life("a"))
        store.inject("database gone", 1.0)
        for work in (add(db, "x"), ids(db), store.open(Life("b"))):
            with pytest.raises(StorageUnavailable):
                await work
        assert store.struck == {"database gone": 1}
        store.inject("database gone", 0.0)
        with pytest.raises(StorageUnavailable):
            await add(db, "y")
        await asyncio.sleep(121)
        await add(db, "z")
        assert await ids(db) == ["z"]

    tell(story)


def test_database_gone__within_a_transaction__loses_it(tell: Told) -> None:
    async def story(store: SimStore) -> None:
        one, two = await store.open(Life("one")), await store.open(Life("two"))

        async def lose() -> None:
            store.inject("database gone", 1.0)
            with pytest.raises(StorageUnavailable):
                await ids(two)

        with pytest.raises(StorageUnavailable):
            await add(one, "x", between=lose())
        store.heal()
        assert await ids(one) == []

    tell(story)


def test_disk_full__lets_readers_read_and_ends(tell: Told) -> None:
    async def story(store: SimStore) -> None:
        db = await store.open(Life("a"))
        await add(db, "x")
        store.inject("disk full", 1.0)
        for name in "yz":
            with pytest.raises(StorageUnavailable):
                await add(db, name)
        assert await ids(db) == ["x"]
        assert store.struck == {"disk full": 1}
        store.inject("disk full", 0.0)
        await asyncio.sleep(121)
        await add(db, "z")
        assert await ids(db) == ["x", "z"]

    tell(story)


def test_slow_database__takes_virtual_time_and_at_times_more_than_a_writer_waits(tell: Told) -> None:
    async def story(store: SimStore) -> None:
        db = await store.open(Life("a"))
        loop = asyncio.get_running_loop()
        store.inject("slow database", 1.0)
        took: list[float] = []
        done: list[str] = []
        for i in range(100):
            began = loop.time()
            try:
                await add(db, f"{i}")
            except StorageUnavailable:  # PostgreSQL cancels it
                pass
            else:
                done.append(f"{i}")
            took.append(loop.time() - began)
        assert min(took) > 0
        assert max(took) >= WRITER_WAIT_S
        assert store.struck["slow database"] == 100
        assert await seen(store) == sorted(done)

    tell(story)


def test_checker__meets_no_fault(tell: Told) -> None:
    async def story(store: SimStore) -> None:
        db = await store.open(Life("a"))
        await add(db, "x")
        for name in STORE_FAULTS:
            store.inject(name, 1.0)
        assert await seen(store) == ["x"]
        assert (await store.outcome()).tables["invoices"] == []
        assert not store.struck

    tell(story)


def test_inject__unknown_name__is_refused(tell: Told) -> None:
    async def story(store: SimStore) -> None:
        with pytest.raises(ValueError, match="disk on fire"):
            store.inject("disk on fire", 0.5)

    tell(story)


def test_peek__rows_of_every_kind_of_column__are_what_sqlalchemy_reads(tell: Told) -> None:
    async def story(store: SimStore) -> None:
        db = await store.open(Life("a"))
        for name in "xyz":
            await add(db, name)
        key = {"id": "k", "name": "n", "key_hash": b"\x01" * 32, "scopes": ["read", "write"], "created_at": EPOCH}
        invoice = {
            "id": "i", "merchant": "m", "reference": "r", "status": "pending", "exceptions": "", "currency": "USD",
            "amount": 2**256 - 1, "scale": 6, "created_at": EPOCH, "expires_at": EPOCH, "monitoring_until": EPOCH,
            "metadata": {"a": "b"}, "version": 1, "pay_token": "t",
        }  # fmt: skip
        async with db.write() as conn:
            await conn.execute(schema.api_keys.insert(), key)
            await conn.execute(schema.invoices.insert(), invoice)
        for table in (KEYS, schema.api_keys, schema.invoices):
            async with store.checker.read() as conn:
                assert store.peek(table) == await rows_of(conn, table) != []
        assert store.peek(schema.invoices)[0] == {**invoice, "settled_at": None, "settlement_id": None}

    tell(story)


def test_peek__transaction_open__is_refused(tell: Told) -> None:
    async def story(store: SimStore) -> None:
        db = await store.open(Life("a"))

        async def look() -> None:
            with pytest.raises(AssertionError, match="not committed"):
                store.peek(KEYS)

        await add(db, "x", between=look())
        assert [row["id"] for row in store.peek(KEYS)] == ["x"]
        seen_at_commit: list[int] = []
        store.on_commit = lambda _life, _tables, _statements: seen_at_commit.append(len(store.peek(KEYS)))
        await add(db, "y")
        assert seen_at_commit == [2]
        await add(db, "z")
        assert await ids(db) == ["x", "y", "z"]

    tell(story)


# -- what is told ------------------------------------------------------------------------------------------------------


def test_on_commit__told_of_each_write_and_of_nothing_else(tell: Told) -> None:
    async def story(store: SimStore) -> None:
        life = Life("a")
        db = await store.open(life)
        told: list[tuple[str, tuple[str, ...], int]] = []
        store.on_commit = lambda life, tables, statements: told.append((life.name, tables, statements))
        await add(db, "x")
        await ids(db)
        async with db.write() as conn:
            await conn.execute(select(KEYS))
            await conn.execute(update(KEYS).values(path="n"))
            await conn.execute(schema.chains.delete())
        store.inject("commit unknown, lost", 1.0)
        with pytest.raises(StorageUnavailable):
            await add(db, "y")
        assert told == [("a", ("deposit_keys",), 1), ("a", ("deposit_keys", "chains"), 3)]

    tell(story)


def test_same_seed__same_faults_in_the_same_order(tell: Told) -> None:
    runs: list[list[tuple[float, str, str]]] = []

    async def story(store: SimStore) -> None:
        loop = asyncio.get_running_loop()
        told: list[tuple[float, str, str]] = []
        store.faults.on_strike = lambda process, name: told.append((loop.time(), process, name))
        store.on_commit = lambda life, tables, _statements: told.append((loop.time(), life.name, f"{tables}"))
        for name in STORE_FAULTS:
            store.inject(name, 0.03)
        store.inject("database gone", 0.002)

        async def live(name: str) -> None:
            for generation in range(8):
                try:
                    db = await store.open(Life(f"{name}{generation}"))
                    for i in range(20):
                        try:
                            await add(db, f"{name}{generation}-{i}")
                            await ids(db)
                        except StorageUnavailable:
                            await asyncio.sleep(3)
                except (Dead, StorageUnavailable):
                    await asyncio.sleep(10)

        await asyncio.gather(*(live(name) for name in "abc"))
        assert len(store.struck) >= 8
        runs.append(told)

    tell(story)
    tell(story)
    assert runs[0] == runs[1]


@pytest.mark.parametrize(
    ("statement", "table"),
    [
        ("SELECT chains.name FROM chains", None),
        ("INSERT INTO chains (name) VALUES (?)", "chains"),
        ('insert or ignore into "chains" VALUES (1)', "chains"),
        ("UPDATE chains SET name = ?", "chains"),
        ("DELETE FROM chains", "chains"),
        ("WITH due AS (SELECT id FROM x) UPDATE webhook_deliveries SET a = 1", "webhook_deliveries"),
        ("WITH due AS (SELECT id FROM x) SELECT * FROM due", None),
        ("SELECT id FROM events FOR UPDATE", None),
        ("WITH due AS (SELECT id FROM x FOR UPDATE SKIP LOCKED) SELECT * FROM due", None),
        ("SAVEPOINT sa_savepoint_1", None),
        ("INSERT INTO a (b) SELECT b FROM c", "a"),
    ],
)
def test_written_table__statement__names_what_it_writes(statement: str, table: str | None) -> None:
    assert written_table(statement) == table


def test_errors__of_the_driver__reach_sqlalchemy_as_the_drivers(tell: Told) -> None:
    """Not our own classes: what settler.storage tells apart is what drivers raise."""

    async def story(store: SimStore) -> None:
        db = await store.open(Life("a"))
        store.inject("deadlock", 1.0)
        with pytest.raises(StorageUnavailable) as caught:
            await add(db, "x")
        cause: Any = caught.value.__cause__
        assert isinstance(cause, OperationalError)
        assert type(cause.orig).__module__.partition(".")[0] in ("sqlite3", "psycopg")

    tell(story)
