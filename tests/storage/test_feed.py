"""The feed: in order and without gaps, whoever else writes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from settler.domain.errors import InvalidInput
from settler.domain.events import Event, EventType, event
from settler.storage import events, feed, webhooks
from settler.storage.engine import Database

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def an_event(name: str, version: int = 1, merchant: str | None = "m1") -> Event:
    return event(EventType.INVOICE_CREATED, name, version, at=NOW, merchant=merchant, data={"n": name})


async def write(db: Database, *told: Event) -> None:
    async with db.write() as conn:
        await events.append(conn, told)


async def read(
    db: Database, after: Event | str | None = None, merchant: str | None = None, limit: int = 100
) -> list[str]:
    await feed.catch_up(db)
    async with db.read() as conn:
        id_ = after.id if isinstance(after, Event) else after
        return [e.object_id for e in await feed.find_after(conn, id_, merchant=merchant, limit=limit)]


async def test_find_after__in_the_order_written__from_the_first_or_after_one(db: Database) -> None:
    told = [an_event(name) for name in "abc"]
    await write(db, *told[:2])
    assert await read(db) == ["a", "b"]
    await write(db, told[2])
    assert await read(db, told[1]) == ["c"]
    assert await read(db, told[2]) == []
    assert await read(db, limit=2) == ["a", "b"]


async def test_find_after__of_one_merchant__others_are_not_there(db: Database) -> None:
    mine, theirs, nobodys = an_event("mine"), an_event("theirs", merchant="m2"), an_event("nobodys", merchant=None)
    await write(db, theirs, mine, nobodys)
    assert await read(db, merchant="m1") == ["mine"]
    for other in (theirs, nobodys):
        with pytest.raises(InvalidInput, match="there is no event"):
            await read(db, other, merchant="m1")


async def test_find_after__what_was_never_written__is_refused(db: Database) -> None:
    with pytest.raises(InvalidInput, match="leave it out"):
        await read(db, "evt_0000000000000000000000000")


async def test_append__told_again__has_one_place(db: Database) -> None:
    await write(db, an_event("a"))
    await write(db, an_event("a"), an_event("a", 2))
    assert await read(db) == ["a", "a"]


@pytest.mark.postgres
async def test_find_after__a_writer_commits_behind_a_later_one__nothing_is_passed_over(postgres_db: Database) -> None:
    """The story: a reader went on after the event with the larger number, and the one with the smaller number,
    committed afterwards, was never told."""
    slow, quick = an_event("slow"), an_event("quick")
    async with postgres_db.write() as conn:
        await events.append(conn, [slow])
        await write(postgres_db, quick)
        assert await read(postgres_db) == ["quick"]
    assert await read(postgres_db, quick) == ["slow"]
    assert await read(postgres_db) == ["quick", "slow"]


@pytest.mark.postgres
async def test_find_after__what_one_saw_of_another__comes_after_it(postgres_db: Database) -> None:
    """A transaction that began first and wrote last: its number is the larger one, as its place is to be."""
    async with postgres_db.write() as conn:
        await events.append(conn, [an_event("begun")])
        await write(postgres_db, an_event("cause"))
        await read(postgres_db)
        await events.append(conn, [an_event("effect")])
    assert await read(postgres_db) == ["cause", "begun", "effect"]


async def test_find_after__many_writers_and_readers__each_reader_gets_each_event_once(db: Database) -> None:
    chance = random.Random(7)
    writers = {w: [an_event(f"{w}.{n}") for n in range(12)] for w in range(6)}
    total = sum(map(len, writers.values()))

    async def writes(told: Sequence[Event]) -> None:
        for one in told:
            async with db.write() as conn:
                await events.append(conn, [one])
                await asyncio.sleep(chance.random() / 200)

    async def reads(limit: int) -> list[str]:
        seen: list[Event] = []
        while len(seen) < total:
            await feed.catch_up(db)
            async with db.read() as conn:
                seen += await feed.find_after(conn, seen[-1].id if seen else None, merchant=None, limit=limit)
            await asyncio.sleep(0)
        return [e.object_id for e in seen]

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        readers = [tasks.create_task(reads(limit)) for limit in (1, 5, 200)]
        for told in writers.values():
            tasks.create_task(writes(told))
    first, *others = [task.result() for task in readers]
    assert sorted(first) == sorted(e.object_id for told in writers.values() for e in told)
    assert all(other == first for other in others), "two readers saw two orders"
    for w, told in writers.items():
        assert [name for name in first if name.startswith(f"{w}.")] == [e.object_id for e in told]


async def test_place__more_than_one_takes__goes_on_where_it_stopped(db: Database) -> None:
    await write(db, *[an_event(f"{n}") for n in range(5)])
    for placed in (2, 2, 1, 0):
        async with db.write() as conn:
            assert await feed.place(conn, 2) == placed
    assert await read(db) == list("01234")


@pytest.mark.postgres
async def test_place__in_the_shadow__never_waits_for_the_outbox_that_waits_for_it(postgres_db: Database) -> None:
    """A shadow run takes events out of the outbox while readers place them: each had rows that the other wanted."""
    is_over = False

    async def pass_over() -> None:
        while not is_over:
            async with postgres_db.write() as conn:
                await webhooks.pass_over(conn, 1_000)

    async def place() -> None:
        while not is_over:
            await feed.catch_up(postgres_db)

    async def tell(writer: int) -> None:
        for n in range(60):
            await write(postgres_db, *(an_event(f"{writer}.{n}.{k}") for k in range(40)))

    others = [asyncio.create_task(work()) for work in (pass_over, pass_over, place, place)]
    try:
        await asyncio.gather(*(tell(writer) for writer in range(3)))
    finally:
        is_over = True
        await asyncio.gather(*others)
