"""Values come back as they went in, and SQL compares them as Python does; on both databases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, Integer, MetaData, Table, insert, literal, select
from sqlalchemy.exc import StatementError

from chains.model import UINT256_MAX
from settler.storage.engine import Database
from settler.storage.types import Uint256, UtcDateTime

values = Table(
    "values_under_test",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("amount", Uint256),
    Column("at", UtcDateTime),
)

EDGES = [0, 1, 9, 10, 2**53 + 1, 2**63, 10**18 + 1, 10**77, UINT256_MAX - 1, UINT256_MAX]
uint256s = st.one_of(st.sampled_from(EDGES), st.integers(0, UINT256_MAX), st.integers(0, 1000))
# A day away from both ends of what Python can name, so that any zone's time has its UTC.
instants = st.datetimes(
    datetime.min + timedelta(days=1),  # noqa: DTZ901  # hypothesis wants naive bounds
    datetime.max - timedelta(days=1),  # noqa: DTZ901  # the same
    timezones=st.timezones() | st.just(UTC),
)
on_one_database = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


async def _stored(db: Database, column: Column[Any], items: list[Any]) -> list[Any]:
    """The items as they come back, in SQL's order of `column`."""
    async with db.write() as conn:
        await conn.run_sync(values.metadata.drop_all)
        await conn.run_sync(values.metadata.create_all)
        await conn.execute(insert(values), [{column.name: item} for item in items])
    async with db.read() as conn:
        return list(await conn.scalars(select(column).order_by(column)))


@on_one_database
@given(items=st.lists(uint256s, min_size=1, max_size=12))
async def test_uint256__any__comes_back_exactly_and_sorts_as_ints(db: Database, items: list[int]) -> None:
    back = await _stored(db, values.c.amount, items)
    assert back == sorted(items)
    assert {type(item) for item in back} == {int}


@on_one_database
@given(items=st.lists(uint256s, min_size=2, max_size=8), pivot=uint256s)
async def test_uint256__compared_in_sql__is_compared_as_ints(db: Database, items: list[int], pivot: int) -> None:
    await _stored(db, values.c.amount, items)
    amount = values.c.amount
    async with db.read() as conn:
        less = list(await conn.scalars(select(amount).where(amount < pivot)))
        equal = list(await conn.scalars(select(amount).where(amount == items[0])))
        among = list(await conn.scalars(select(amount).where(amount.in_([items[0], pivot]))))
    assert sorted(less) == sorted(item for item in items if item < pivot)
    assert equal == [items[0]] * items.count(items[0])
    assert sorted(among) == sorted(item for item in items if item in (items[0], pivot))


async def test_both__null__is_none(db: Database) -> None:
    assert await _stored(db, values.c.amount, [None]) == [None]
    assert await _stored(db, values.c.at, [None]) == [None]


async def test_both__written_into_the_statement__are_themselves(db: Database) -> None:
    """As partial indexes and check constraints would have them."""
    moment = datetime(2026, 1, 31, 23, 59, 59, 1, tzinfo=UTC)
    for column, value in ((values.c.amount, UINT256_MAX), (values.c.at, moment)):
        await _stored(db, column, [value])
        async with db.read() as conn:
            query = select(values.c.id).where(column == literal(value, column.type))
            inline = query.compile(dialect=conn.dialect, compile_kwargs={"literal_binds": True})
            assert len((await conn.exec_driver_sql(str(inline))).all()) == 1


@pytest.mark.parametrize("wrong", [-1, UINT256_MAX + 1, True, 1.0, "1", b"1"])
async def test_uint256__not_an_amount__is_refused_before_the_database(db: Database, wrong: object) -> None:
    async with db.read() as conn:
        with pytest.raises(StatementError, match="an amount is"):
            await conn.scalar(select(literal(wrong, Uint256)))


@on_one_database
@given(items=st.lists(instants, min_size=1, max_size=12))
async def test_utc_date_time__any_zone__comes_back_in_utc_in_order(db: Database, items: list[datetime]) -> None:
    back = await _stored(db, values.c.at, items)
    assert back == sorted(_in_utc(items))
    assert {item.tzinfo for item in back} == {UTC}


@on_one_database
@given(items=st.lists(instants, min_size=2, max_size=8), pivot=instants)
async def test_utc_date_time__compared_in_sql__is_compared_as_time(
    db: Database, items: list[datetime], pivot: datetime
) -> None:
    await _stored(db, values.c.at, items)
    async with db.read() as conn:
        less = list(await conn.scalars(select(values.c.at).where(values.c.at < pivot)))
        equal = list(await conn.scalars(select(values.c.at).where(values.c.at == items[0])))
    first, *others = _in_utc(items)
    assert sorted(less) == sorted(item for item in (first, *others) if item < pivot.astimezone(UTC))
    assert equal == [first, *(item for item in others if item == first)]


def _in_utc(items: list[datetime]) -> list[datetime]:
    """Times in the hour that a clock change repeats equal none of another zone (PEP 495); in UTC they do."""
    return [item.astimezone(UTC) for item in items]


async def test_utc_date_time__whole_second_and_fraction__keep_their_order(db: Database) -> None:
    """ISO text of Python drops a zero fraction: `:00Z` would sort after `:00.5Z`."""
    second = datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC)
    moments = [second, second + timedelta(microseconds=1), second + timedelta(seconds=1)]
    assert await _stored(db, values.c.at, moments[::-1]) == moments


async def test_utc_date_time__another_zone__equals_its_utc(db: Database) -> None:
    tokyo = datetime(2026, 1, 1, 9, tzinfo=timezone(timedelta(hours=9)))
    assert await _stored(db, values.c.at, [tokyo]) == [datetime(2026, 1, 1, tzinfo=UTC)]


@pytest.mark.parametrize("wrong", [datetime.fromisoformat("2026-01-01T00:00"), "2026-01-01", 0])
async def test_utc_date_time__naive_or_no_time__is_refused(db: Database, wrong: object) -> None:
    async with db.read() as conn:
        with pytest.raises(StatementError, match="a time is"):
            await conn.scalar(select(literal(wrong, UtcDateTime)))
