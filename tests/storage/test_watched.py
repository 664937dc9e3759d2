"""What is in memory is what the table holds: however late a transaction commits, whoever writes, what is restored."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from sqlalchemy import delete, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from chains.address_set import SMALL_MAX, AddressSet
from chains.model import Address
from settler.clock import FakeClock
from settler.storage import chains, schema, watched
from settler.storage.engine import Database
from settler.storage.watched import CHECK_ALL_S, WatchedAddresses, watched_now

NOW = datetime(2026, 11, 23, tzinfo=UTC)
_w = schema.watched_addresses


def address(number: int) -> Address:
    return Address(random.Random(number).randbytes(20))


def some(*numbers: int) -> frozenset[Address]:
    return frozenset(map(address, numbers))


def follower(db: Database, clock: FakeClock | None = None) -> WatchedAddresses:
    return WatchedAddresses(db, monotonic=(clock or FakeClock(NOW)).monotonic)


async def watch(db: Database, *numbers: int) -> None:
    async with db.write() as conn:
        await chains.watch_addresses(conn, some(*numbers), now=NOW)


async def retire(conn: AsyncConnection, *numbers: int) -> None:
    await conn.execute(update(_w).where(_w.c.address.in_(some(*numbers))).values(retired_at=NOW))


async def in_table(db: Database) -> frozenset[Address]:
    async with db.read() as conn:
        rows = await conn.execute(select(_w.c.address).where(_w.c.retired_at.is_(None)))
        return frozenset(Address(row.address) for row in rows)


async def reread(ours: WatchedAddresses, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether all was read again at the next look."""
    asked = []
    everything = watched._all

    async def counted(conn: AsyncConnection) -> watched.Watched:
        asked.append(1)
        return await everything(conn)

    monkeypatch.setattr(watched, "_all", counted)
    await ours.current()
    monkeypatch.undo()
    return bool(asked)


# -- following ---------------------------------------------------------------------------------------------------------


async def test_current__added_retired_and_back__is_what_the_table_says(db: Database) -> None:
    ours = follower(db)
    assert (await ours.current()).addresses == frozenset()
    await watch(db, 1, 2, 3)
    before = await ours.current()
    assert before.addresses == some(1, 2, 3)
    async with db.write() as conn:
        await retire(conn, 2)
    await watch(db, 4)
    assert (await ours.current()).addresses == some(1, 3, 4)
    await watch(db, 2)
    assert (await ours.current()).addresses == some(1, 2, 3, 4)
    assert before.addresses == some(1, 2, 3), "what was answered before stays as it was"


async def test_current__references_expected__are_labelled_while_watched(db: Database) -> None:
    ours = follower(db)
    await watch(db, 1, 2)
    assert (await ours.current()).labelled == frozenset()
    async with db.write() as conn:
        await chains.expect_references(conn, some(2))
    assert (await ours.current()).labelled == some(2)
    async with db.write() as conn:
        await retire(conn, 2)
    assert (await ours.current()).labelled == frozenset()
    await watch(db, 2)
    assert (await ours.current()).labelled == some(2) == (await follower(db).current()).labelled


async def test_current__nothing_changed__is_the_very_same_and_reads_no_row(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = follower(db)
    await watch(db, 1)
    before = await ours.current()
    assert await ours.current() is before
    assert not await reread(ours, monkeypatch)


async def test_current__rolled_back__is_not_seen(db: Database) -> None:
    ours = follower(db)
    await watch(db, 1)
    await ours.current()
    with pytest.raises(RuntimeError, match="no"):
        async with db.write() as conn:
            await chains.watch_addresses(conn, some(2), now=NOW)
            raise RuntimeError("no")
    await watch(db, 3)
    assert (await ours.current()).addresses == some(1, 3)


async def test_current__asked_by_many_at_once__is_right_for_each(db: Database) -> None:
    """Each must see what was committed before it asked, and none may take back what another saw later."""
    ours = follower(db)

    async def one(number: int) -> bool:
        await watch(db, number)
        return address(number) in (await ours.current()).addresses

    assert await asyncio.gather(*map(one, range(12))) == [True] * 12
    assert (await ours.current()).addresses == some(*range(12))


async def test_current__many_steps__is_the_table_after_each(db: Database) -> None:
    draw = random.Random(5)  # the same steps each time
    ours, other = follower(db), follower(db)
    for _ in range(30):
        numbers = draw.sample(range(40), 4)
        async with db.write() as conn:
            match draw.randrange(3):
                case 0:
                    await chains.watch_addresses(conn, some(*numbers), now=NOW)
                case 1:
                    await retire(conn, *numbers)
                case _:
                    await chains.expect_references(conn, some(*numbers))
        if draw.random() < 0.6:
            assert (await ours.current()).addresses == await in_table(db)
        async with db.read() as conn:
            at_once = await watched_now(conn)
        assert await other.current() == at_once


# -- late commits ------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def open_elsewhere(url: str) -> AsyncIterator[Database]:
    other = await Database.open(url)
    try:
        yield other
    finally:
        await other.dispose()


@pytest.mark.postgres
async def test_current__an_earlier_transaction_commits_late__is_not_missed(
    postgres_db: Database, postgres_db_url: str
) -> None:
    """Three begin; the second commits and is seen, then the first, then the third: by number, the first would be
    behind what was read already.
    """
    ours = follower(postgres_db)
    await ours.current()
    async with open_elsewhere(postgres_db_url) as other, open_elsewhere(postgres_db_url) as third:
        async with third.write() as last:
            async with other.write() as late:
                await chains.watch_addresses(late, some(1), now=NOW)
                await watch(postgres_db, 2)
                await chains.watch_addresses(last, some(3), now=NOW)
                await watch(postgres_db, 4)
                assert (await ours.current()).addresses == some(2, 4)
                assert (await ours.current()).addresses == some(2, 4)
            assert (await ours.current()).addresses == some(1, 2, 4)
            await watch(postgres_db, 5)
            assert (await ours.current()).addresses == some(1, 2, 4, 5)
        assert (await ours.current()).addresses == some(1, 2, 3, 4, 5)


@pytest.mark.postgres
async def test_current__retired_late_and_by_a_savepoint__is_seen(postgres_db: Database, postgres_db_url: str) -> None:
    """A part of a transaction has a number of its own; what counts is that of the whole."""
    ours = follower(postgres_db)
    await watch(postgres_db, 1, 2)
    await ours.current()
    async with open_elsewhere(postgres_db_url) as other:
        async with other.write() as late:
            await late.execute(text("SELECT pg_current_xact_id()"))
            await watch(postgres_db, 3)
            async with late.begin_nested():
                await retire(late, 1)
                await chains.watch_addresses(late, some(4), now=NOW)
            await watch(postgres_db, 5)
            assert (await ours.current()).addresses == some(1, 2, 3, 5)
        assert (await ours.current()).addresses == some(2, 3, 4, 5)


@pytest.mark.postgres
async def test_current__begun_before_the_first_reading__is_seen_when_it_commits(postgres_db: Database) -> None:
    started = asyncio.Event()
    go_on = asyncio.Event()

    async def slow() -> None:
        async with postgres_db.write() as conn:
            await chains.watch_addresses(conn, some(1), now=NOW)
            started.set()
            await go_on.wait()

    task = asyncio.create_task(slow())
    await started.wait()
    ours = follower(postgres_db)
    assert (await ours.current()).addresses == frozenset()
    for number in range(2, 6):
        await watch(postgres_db, number)
        assert address(1) not in (await ours.current()).addresses
    go_on.set()
    await task
    assert (await ours.current()).addresses == some(1, 2, 3, 4, 5)


# -- what cannot be followed -------------------------------------------------------------------------------------------


async def test_current__more_changes_than_are_followed__reads_all(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = follower(db)
    await watch(db, 1)
    await ours.current()
    await watch(db, *range(2, 8))
    monkeypatch.setattr(watched, "FOLLOWED_MAX", 5)
    assert (await ours.current()).addresses == some(*range(1, 8))


async def test_current__many__are_read_in_slices_and_followed(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched, "LOADED_ROWS", 100)
    numbers = range(SMALL_MAX + 500)
    await watch(db, *numbers)
    ours = follower(db)
    held = (await ours.current()).addresses
    assert isinstance(held, AddressSet)
    assert held == some(*numbers)
    async with db.write() as conn:
        await retire(conn, *range(400))
        await chains.expect_references(conn, some(450, 451))
    now = await ours.current()
    assert (now.addresses, now.labelled) == (some(*range(400, SMALL_MAX + 500)), some(450, 451))


@pytest.mark.postgres
async def test_current__the_table_was_emptied_and_filled_anew__is_read_whole(postgres_db: Database) -> None:
    """As by a restore into the same database."""
    ours = follower(postgres_db)
    await watch(postgres_db, 1, 2)
    await ours.current()
    async with postgres_db.write() as conn:
        await conn.execute(text("TRUNCATE watched_addresses"))
    await watch(postgres_db, 2, 3)
    assert (await ours.current()).addresses == some(2, 3)


@pytest.mark.postgres
async def test_current__rows_of_a_newer_server_restored__cost_no_more_and_are_followed(
    postgres_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dump carries the numbers of the server it was taken from, which may be far ahead of this one's."""
    await watch(postgres_db, 1, 2)
    async with postgres_db.write() as conn:
        await conn.execute(text("ALTER TABLE watched_addresses DISABLE TRIGGER ALL"))
        await conn.execute(update(_w).values(changed=2**62))
        await conn.execute(text("ALTER TABLE watched_addresses ENABLE ALWAYS TRIGGER watched_addresses_are_numbered"))
    ours = follower(postgres_db)
    assert (await ours.current()).addresses == some(1, 2)
    async with postgres_db.write() as conn:
        await retire(conn, 2)
    await watch(postgres_db, 3)
    assert (await ours.current()).addresses == some(1, 3)
    before = await ours.current()
    assert await ours.current() is before


async def test_current__numbers_went_back__is_read_whole(sqlite_db: Database) -> None:
    """As when an older copy is put in the place of the file's content."""
    ours = follower(sqlite_db)
    await watch(sqlite_db, 1, 2, 3)
    await ours.current()
    async with sqlite_db.write() as conn:
        await conn.execute(text("DROP TRIGGER watched_addresses_no_delete"))
        await conn.execute(delete(_w).where(_w.c.address.in_(some(2, 3))))
    assert (await ours.current()).addresses == some(1)


async def test_watched__deleted__is_refused(db: Database) -> None:
    await watch(db, 1)
    with pytest.raises(IntegrityError, match="retired, never deleted"):
        async with db.write() as conn:
            await conn.execute(delete(_w))


# -- numbers -----------------------------------------------------------------------------------------------------------


async def numbers_of(db: Database, *numbers: int) -> list[int]:
    async with db.read() as conn:
        rows = {Address(row.address): row.changed for row in await conn.execute(select(_w))}
    return [rows[address(number)] for number in numbers]


async def test_changed__written_in_any_way__is_numbered_by_the_database(db: Database) -> None:
    """The release before knows nothing of the column, nor does an operator with a shell."""
    await watch(db, 1)
    async with db.write() as conn:
        added = text(
            "INSERT INTO watched_addresses (address, watched_since, has_references)"
            " SELECT :a, watched_since, :f FROM watched_addresses"
        )
        await conn.execute(added, {"a": address(2), "f": False})
    first, second = await numbers_of(db, 1, 2)
    assert 0 < first < second
    async with db.write() as conn:
        await conn.execute(update(_w).where(_w.c.address == address(1)).values(retired_at=NOW))
    third, still = await numbers_of(db, 1, 2)
    assert third > second == still
    async with db.write() as conn:
        await conn.execute(update(_w).where(_w.c.address == address(2)).values(changed=0, has_references=True))
    assert (await numbers_of(db, 2))[0] > third


async def test_changed__transactions_of_two_processes_on_sqlite__are_numbered_in_the_order_of_their_commits(
    sqlite_db: Database, sqlite_db_url: str
) -> None:
    """The second cannot begin to write before the first has ended: what it counts on from is all there is."""
    ours = follower(sqlite_db)
    order: list[int] = []
    committed: list[int] = []
    async with open_elsewhere(sqlite_db_url) as other:

        async def write(db: Database, number: int, pause_s: float) -> None:
            async with db.write() as conn:
                await asyncio.sleep(pause_s)
                await chains.watch_addresses(conn, some(number), now=NOW)
                await asyncio.sleep(pause_s)
                order.append(number)
            committed.append(number)

        async def read() -> None:
            for _ in range(30):
                before = tuple(committed)
                assert some(*before) <= (await ours.current()).addresses
                await asyncio.sleep(0.002)

        await asyncio.gather(read(), *(write((sqlite_db, other)[n % 2], n, 0.002 * (n % 3)) for n in range(10)))
    numbers = await numbers_of(sqlite_db, *order)
    assert numbers == sorted(numbers)


# -- and should it go wrong nevertheless -------------------------------------------------------------------------------


@pytest.mark.parametrize("is_missing", [True, False])
async def test_current__memory_and_table_differ__is_put_right_within_the_time_it_says(
    db: Database, is_missing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that a person slipped past the triggers, with a number that was read long ago."""
    monkeypatch.setattr(watched, "CHECKED_ROWS", 100)
    clock = FakeClock(NOW)
    ours = follower(db, clock)
    await watch(db, *range(1_000))
    async with db.write() as conn:
        await chains.expect_references(conn, some(*range(0, 1_000, 9)))
    await ours.current()
    await _slip(db, range(1_000, 1_003) if is_missing else (), () if is_missing else range(3))
    away = some(*range(1_000, 1_003)) if is_missing else some(0, 1, 2)
    assert (away <= (await ours.current()).addresses) is not is_missing, "the change is not to be seen by following"
    steps = 2 * watched._slices(1_000, 100)
    for _ in range(steps):
        await clock.sleep(CHECK_ALL_S / steps)
        await ours.current()
    for _ in range(4):  # its slices are as wide as there are addresses now
        await clock.sleep(CHECK_ALL_S / steps)
        await ours.current()
    now = await ours.current()
    async with db.read() as conn:
        assert now == await watched_now(conn)
    assert (away <= now.addresses) is is_missing


async def _slip(db: Database, added: Iterable[int], retired: Iterable[int]) -> None:
    triggers = {"sqlite": ["watched_addresses_added", "watched_addresses_changed"], "postgresql": []}[db.dialect]
    async with db.write() as conn:
        for name in triggers:
            await conn.execute(text(f"DROP TRIGGER {name}"))
        if not triggers:
            await conn.execute(text("ALTER TABLE watched_addresses DISABLE TRIGGER USER"))
        await chains.watch_addresses(conn, some(*added), now=NOW)
        await retire(conn, *retired)
