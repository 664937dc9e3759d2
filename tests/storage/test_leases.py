"""Leases: one leader a chain, and an older leader that commits nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import psycopg
import pytest
from sqlalchemy import select

from chains.model import ChainId
from settler.domain.leading import LeaseRow
from settler.storage import chains, leases, schema
from settler.storage.engine import Database, StorageUnavailable
from settler.storage.leases import Lease, LeaseLost

BASE, POLYGON = ChainId(8453), ChainId(137)
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


async def take(db: Database, worker: str, chain_id: ChainId = BASE) -> Lease | None:
    async with db.write() as conn:
        seen = (await leases.all_rows(conn)).get(chain_id)
        return await leases.take(conn, chain_id, worker=worker, seen=seen, now=NOW)


async def rows(db: Database) -> dict[ChainId, LeaseRow]:
    async with db.read() as conn:
        return await leases.all_rows(conn)


def led(db: Database, lease: Lease) -> Database:
    return db.guarded(lambda conn: leases.check(conn, lease))


async def register(db: Database, name: str) -> None:
    async with db.write() as conn:
        await chains.register(conn, chain_id=BASE, name=name, tokens=(), now=NOW)


async def test_take__never_led__begins_at_one(db: Database) -> None:
    assert await take(db, "a") == Lease(BASE, 1)
    assert await rows(db) == {BASE: LeaseRow(holder="a", fencing=1, renewals=0)}


async def test_take__from_another__grows_the_number(db: Database) -> None:
    await take(db, "a")
    assert await take(db, "b") == Lease(BASE, 2)
    assert await rows(db) == {BASE: LeaseRow(holder="b", fencing=2, renewals=0)}


async def test_take__of_several_chains__is_each_by_itself(db: Database) -> None:
    await take(db, "a")
    assert await take(db, "b", POLYGON) == Lease(POLYGON, 1)
    assert (await rows(db))[BASE].holder == "a"


async def test_take__renewed_since_it_was_seen__fails(db: Database) -> None:
    lease = await take(db, "a")
    assert lease is not None
    seen = (await rows(db))[BASE]
    async with db.write() as conn:
        assert await leases.renew(conn, [lease], now=NOW) == []
        assert await leases.take(conn, BASE, worker="b", seen=seen, now=NOW) is None
    assert (await rows(db))[BASE] == LeaseRow(holder="a", fencing=1, renewals=1)


async def test_take__two_at_once_of_a_lease_that_never_was__one_leads(db: Database) -> None:
    async def first(worker: str) -> Lease | None:
        async with db.write() as conn:
            return await leases.take(conn, BASE, worker=worker, seen=None, now=NOW)

    taken = await asyncio.gather(*(first(f"w{n}") for n in range(4)))
    assert sorted(map(repr, taken)) == sorted(map(repr, [Lease(BASE, 1), None, None, None]))


async def test_renew__taken_by_another__is_lost_and_changes_nothing(db: Database) -> None:
    mine, other = await take(db, "a"), await take(db, "a", POLYGON)
    await take(db, "b")
    assert mine is not None and other is not None
    async with db.write() as conn:
        assert await leases.renew(conn, [mine, other], now=NOW) == [mine]
    assert await rows(db) == {
        BASE: LeaseRow(holder="b", fencing=2, renewals=0),
        POLYGON: LeaseRow(holder="a", fencing=1, renewals=1),
    }


async def test_give_back__leaves_no_holder_and_keeps_the_number(db: Database) -> None:
    lease = await take(db, "a")
    assert lease is not None
    async with db.write() as conn:
        await leases.give_back(conn, lease, now=NOW)
    assert await rows(db) == {BASE: LeaseRow(holder=None, fencing=1, renewals=0)}
    assert await take(db, "b") == Lease(BASE, 2)


async def test_give_back__after_it_was_taken__takes_nothing_from_the_next(db: Database) -> None:
    lease = await take(db, "a")
    await take(db, "b")
    assert lease is not None
    async with db.write() as conn:
        await leases.give_back(conn, lease, now=NOW)
    assert (await rows(db))[BASE].holder == "b"


async def test_guarded_write__while_it_leads__commits(db: Database) -> None:
    lease = await take(db, "a")
    assert lease is not None
    await register(led(db, lease), "base")
    async with db.read() as conn:
        assert await chains.get(conn, BASE) is not None


async def test_guarded_write__of_an_older_leader__commits_nothing(db: Database) -> None:
    old = await take(db, "a")
    await take(db, "b")
    assert old is not None
    with pytest.raises(LeaseLost, match=r"fencing number 2, ours is 1"):
        await register(led(db, old), "base")
    async with db.read() as conn:
        assert (await conn.execute(select(schema.chains))).all() == []


async def test_guarded_write__the_lease_is_gone__commits_nothing(db: Database) -> None:
    with pytest.raises(LeaseLost):
        await register(led(db, Lease(BASE, 1)), "base")


async def test_guarded__reads_and_other_views__are_not_asked(db: Database) -> None:
    await take(db, "b")
    old = led(db, Lease(BASE, 0))
    async with old.read() as conn:
        assert await chains.all_states(conn) == []
    await register(db, "base")


@pytest.mark.postgres
async def test_take__while_the_leader_is_inside_a_transaction__waits_for_its_end(postgres_db: Database) -> None:
    """What the old leader has begun is either committed before the new one leads, or never."""
    lease = await take(postgres_db, "a")
    assert lease is not None
    told: list[str] = []
    is_inside, go_on = asyncio.Event(), asyncio.Event()

    async def tick() -> None:
        async with led(postgres_db, lease).write() as conn:
            is_inside.set()
            await go_on.wait()
            await chains.register(conn, chain_id=BASE, name="base", tokens=(), now=NOW)
        told.append("committed")

    async def take_over() -> None:
        await is_inside.wait()
        assert await take(postgres_db, "b") == Lease(BASE, 2)
        told.append("taken")

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(tick())
        taking = tasks.create_task(take_over())
        await is_inside.wait()
        await asyncio.sleep(0.2)
        assert not taking.done()
        go_on.set()
    assert told == ["committed", "taken"]
    with pytest.raises(LeaseLost):
        await register(led(postgres_db, lease), "base")


@asynccontextmanager
async def standing_still(url: str, *, name: str = "settler") -> AsyncIterator[psycopg.AsyncConnection]:
    """A session that has written, and whose process sends nothing more, in the midst of a pipeline."""
    async with await psycopg.AsyncConnection.connect(url, application_name=name, prepare_threshold=None) as session:
        await session.execute("UPDATE leases SET renewed_at = renewed_at")
        async with session.pipeline() as pipeline:
            await session.execute("SELECT 1")
            session.pgconn.send_flush_request()
            session.pgconn.flush()
            yield session
            with suppress(psycopg.Error):
                await pipeline.sync()


@pytest.mark.postgres
@pytest.mark.parametrize(("name", "ended"), [("settler", 1), ("psql", 0)])
async def test_cut_off__a_session_of_a_worker_stands_still__ends_it_and_nobody_elses(
    postgres_db_url: str, monkeypatch: pytest.MonkeyPatch, name: str, ended: int
) -> None:
    """Found with a leader stopped by SIGSTOP: the server's own time-out did not end it within a minute."""
    monkeypatch.setattr(leases, "STANDSTILL_S", 0.3)
    db = await Database.open(postgres_db_url)
    try:
        await take(db, "a")
        with suppress(psycopg.OperationalError):
            async with standing_still(postgres_db_url, name=name):
                async with db.write() as conn:
                    assert await leases.cut_off(conn) == 0
                await asyncio.sleep(0.6)
                async with db.write() as conn:
                    assert await leases.cut_off(conn) == ended
                if ended:
                    assert await take(db, "b") == Lease(BASE, 2)
                else:
                    with pytest.raises(StorageUnavailable):
                        await take(db, "b")
    finally:
        await db.dispose()


async def test_cut_off__nobody_stands_still__ends_nothing(db: Database) -> None:
    async with db.write() as conn:
        assert await leases.cut_off(conn) == 0
