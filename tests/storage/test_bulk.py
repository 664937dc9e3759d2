"""Many rows at once: they are stored as SQLAlchemy would store them one by one, on both databases."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Table, func, insert, select
from sqlalchemy.exc import IntegrityError

from chains.model import UINT256_MAX
from settler.storage import bulk, schema
from settler.storage.engine import Database
from settler.storage.jsontext import from_text, to_text
from tests.storage import samples

TABLES = [pytest.param(table, id=table.name) for table in schema.metadata.sorted_tables]
SET_BY_THE_DATABASE = {("watched_addresses", "changed")}
NOW = datetime(2026, 1, 31, 23, 59, 59, 123456, tzinfo=UTC)


async def _stored(db: Database, table: Table) -> list[dict[str, Any]]:
    async with db.read() as conn:
        found = await conn.execute(select(table).order_by(*table.primary_key))
        return [dict(row._mapping) for row in found]


async def _tokens(db: Database, count: int, **changed: Any) -> list[dict[str, Any]]:
    """So many rows of `tokens`, not stored yet, in the order of their key; the chain they need is."""
    (chains, chain), (tokens, token) = samples.with_parents(schema.tokens)
    assert tokens is schema.tokens
    async with db.write() as conn:
        await conn.execute(insert(chains).values(chain))
    return [
        token | {"address": number.to_bytes(20, "big"), "symbol": f"T{number}"} | changed for number in range(count)
    ]


@pytest.mark.parametrize("table", TABLES)
async def test_insert__row_of_any_table__comes_back(db: Database, table: Table) -> None:
    rows = samples.with_parents(table)
    async with db.write() as conn:
        for parent, row in rows:
            await bulk.insert(conn, parent, [row])
    for parent, row in rows:
        (found,) = await _stored(db, parent)
        given = {name: value for name, value in row.items() if (parent.name, name) not in SET_BY_THE_DATABASE}
        assert {name: found[name] for name in given} == given


class _Undone(Exception):
    """Rolls the test's transaction back."""


async def test_insert__more_than_one_statement_takes__are_all_there(db: Database) -> None:
    rows = await _tokens(db, 2 * bulk.ROWS_MAX + 1)
    async with db.write() as conn:
        await bulk.insert(conn, schema.tokens, rows)
    assert await _stored(db, schema.tokens) == rows


async def test_insert__none__asks_nothing(db: Database) -> None:
    async with db.write() as conn:
        await bulk.insert(conn, schema.tokens, [])
        await bulk.update(conn, schema.tokens, [], key="address")
        await bulk.upsert(conn, schema.tokens, [], key=["address"])
    assert await _stored(db, schema.tokens) == []


async def test_insert__events__are_numbered_in_the_order_given(db: Database) -> None:
    names = [f"inv_{number * 7919 % 1201:04}" for number in range(1_200)]
    async with db.write() as conn:
        await bulk.insert_missing(
            conn, schema.events, [_event(name, {}) for name in names], key=["type", "object_id", "version"]
        )
    assert [row["object_id"] for row in await _stored(db, schema.events)] == names


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"a": None, "b": [1, 2.5, True], "c": {"d": 'é " \\ {} , NULL'}},
        {"nul": "\x00", "half a pair": "\ud800", "many digits": 2**200},
    ],
)
async def test_insert__json__comes_back(db: Database, data: dict[str, Any]) -> None:
    """A backslash, a quote or a brace within an array of PostgreSQL, and what UTF-8 or a machine word cannot hold."""
    async with db.write() as conn:
        await bulk.insert(conn, schema.events, [_event("a", data), _event("b", {})])
    assert [row["data"] for row in await _stored(db, schema.events)] == [data, {}]


@pytest.mark.parametrize("text", ["", "null", "NULL", "{}", 'a "quoted" \\ one, and', "two\nlines", "\u00a0"])
async def test_insert__text__comes_back_as_it_was(db: Database, text: str) -> None:
    rows = await _tokens(db, 3, currency=text)
    async with db.write() as conn:
        await bulk.insert(conn, schema.tokens, rows)
    assert [row["currency"] for row in await _stored(db, schema.tokens)] == [text] * 3


@pytest.mark.parametrize("amount", [0, 1, 2**63, UINT256_MAX])
async def test_insert__amount__is_exact(db: Database, amount: int) -> None:
    invoice = samples.row(schema.invoices)
    async with db.write() as conn:
        await bulk.insert(conn, schema.invoices, [invoice | {"amount": amount}])
    assert [row["amount"] for row in await _stored(db, schema.invoices)] == [amount]


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"amount": -1}, ValueError),
        ({"amount": UINT256_MAX + 1}, ValueError),
        ({"amount": 1.0}, TypeError),
        ({"amount": True}, TypeError),
        ({"created_at": NOW.replace(tzinfo=None)}, ValueError),
        ({"created_at": "2026-01-31"}, TypeError),
    ],
)
async def test_insert__value_the_type_refuses__raises_and_stores_nothing(
    db: Database, wrong: dict[str, Any], error: type[Exception]
) -> None:
    invoice = samples.row(schema.invoices)
    with pytest.raises(error):
        async with db.write() as conn:
            await bulk.insert(conn, schema.invoices, [invoice | wrong])
    assert await _stored(db, schema.invoices) == []


async def test_insert__times_of_other_zones__are_the_same_moments(db: Database) -> None:
    zones = [UTC, timezone(timedelta(hours=5, minutes=30)), timezone(timedelta(hours=-11))]
    rows = [
        each | {"first_seen_at": NOW.astimezone(zone)} for each, zone in zip(await _tokens(db, 3), zones, strict=True)
    ]
    async with db.write() as conn:
        await bulk.insert(conn, schema.tokens, rows)
    seen = [row["first_seen_at"] for row in await _stored(db, schema.tokens)]
    assert seen == [NOW] * 3
    assert {time.utcoffset() for time in seen} == {timedelta(0)}


async def test_insert__key_taken__raises_and_stores_nothing(db: Database) -> None:
    rows = await _tokens(db, 2)
    with pytest.raises(IntegrityError):
        async with db.write() as conn:
            await bulk.insert(conn, schema.tokens, [*rows, rows[0]])
    assert await _stored(db, schema.tokens) == []


async def test_insert__rows_of_different_columns__is_a_bug(db: Database) -> None:
    first, second = await _tokens(db, 2)
    del second["currency"]
    async with db.write() as conn:
        with pytest.raises(AssertionError, match="rows of tokens with different columns"):
            await bulk.insert(conn, schema.tokens, [first, second])


async def test_insert_missing__some_there_and_one_twice__leaves_what_was_first(db: Database) -> None:
    rows = await _tokens(db, 3)
    key = ["chain_id", "address"]
    again = [row | {"symbol": "AGAIN"} for row in rows]
    async with db.write() as conn:
        await bulk.insert_missing(conn, schema.tokens, rows[:1], key=key)
        await bulk.insert_missing(conn, schema.tokens, [again[0], rows[1], again[1], rows[2]], key=key)
    assert await _stored(db, schema.tokens) == rows


async def test_upsert__some_there_and_one_twice__has_the_last_but_what_is_kept(db: Database) -> None:
    rows = await _tokens(db, 2)
    new = [row | {"symbol": "NEW", "currency": "NEW"} for row in rows]
    newer = rows[1] | {"symbol": "NEWER", "currency": "NEWER"}
    async with db.write() as conn:
        await bulk.insert(conn, schema.tokens, rows[:1])
        await bulk.upsert(conn, schema.tokens, [*new, newer], key=["chain_id", "address"], keeping=["currency"])
    kept = rows[0] | {"symbol": "NEW"}
    assert await _stored(db, schema.tokens) == [kept, newer]


async def test_update__some_rows__changes_these_columns_of_these_rows(db: Database) -> None:
    unset = {"settled_at": None, "settlement_id": None}
    invoices = [
        samples.row(schema.invoices) | unset | {"id": f"inv_{n}", "reference": f"r{n}", "pay_token": f"p{n}"}
        for n in range(3)
    ]
    async with db.write() as conn:
        await bulk.insert(conn, schema.invoices, invoices)
        await bulk.update(
            conn,
            schema.invoices,
            [
                {"id": "inv_2", "status": "canceled", "settled_at": None, "version": 7},
                {"id": "inv_0", "status": "expired", "settled_at": NOW, "version": 8},
                {"id": "inv_9", "status": "expired", "settled_at": NOW, "version": 9},
            ],
            key="id",
        )
    assert await _stored(db, schema.invoices) == [
        invoices[0] | {"status": "expired", "settled_at": NOW, "version": 8},
        invoices[1],
        invoices[2] | {"status": "canceled", "settled_at": None, "version": 7},
    ]


async def test_update__refused_by_the_database__undoes_all(db: Database) -> None:
    invoice = samples.row(schema.invoices)
    async with db.write() as conn:
        await bulk.insert(conn, schema.invoices, [invoice])
    with pytest.raises(IntegrityError):
        async with db.write() as conn:
            await bulk.update(conn, schema.invoices, [{"id": invoice["id"], "status": "paid"}], key="id")
    assert [row["status"] for row in await _stored(db, schema.invoices)] == ["pending"]


async def test_insert__within_a_transaction_that_fails__is_undone(db: Database) -> None:
    rows = await _tokens(db, 3)
    with pytest.raises(_Undone):
        async with db.write() as conn:
            await bulk.insert(conn, schema.tokens, rows)
            assert (await conn.execute(select(func.count()).select_from(schema.tokens))).scalar_one() == 3
            raise _Undone
    assert await _stored(db, schema.tokens) == []


def _event(object_id: str, data: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": f"evt_{object_id}",
        "type": "invoice.created",
        "object_id": object_id,
        "version": 1,
        "merchant": None,
        "created_at": NOW,
        "data": data,
        "is_fanned_out": False,
    }


# -- the text of JSON --------------------------------------------------------------------------------------------------

_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(_values)
def test_json__any_value__is_read_as_python_reads_it(value: Any) -> None:
    text = to_text(value)
    assert from_text(text) == json.loads(text) == value


@pytest.mark.parametrize("text", ['"\\ud800"', "NaN", "1e999", '{"a": [1, 2.0, -0.0]}', '{"a": 1, "a": 2}', "[]"])
def test_json__text_of_python__is_read_as_python_reads_it(text: str) -> None:
    assert repr(from_text(text)) == repr(json.loads(text))


def test_json__half_a_surrogate_pair__is_written_as_python_writes_it() -> None:
    assert to_text({"a": "\ud800"}) == '{"a": "\\ud800"}'


# -- look-ups ----------------------------------------------------------------------------------------------------------


async def test_look_up__more_than_one_statement_takes__tells_which_was_found_where(db: Database) -> None:
    rows = await _tokens(db, 2 * bulk.ROWS_MAX + 1)
    async with db.write() as conn:
        await bulk.insert(conn, schema.tokens, rows)
    (chain_id,) = {row["chain_id"] for row in rows}
    unknown = (chain_id, b"\xff" * 20)
    wanted = [unknown, *((row["chain_id"], row["address"]) for row in reversed(rows)), unknown]
    async with db.read() as conn:
        found = await bulk.look_up(conn, schema.tokens, ("chain_id", "address"), wanted, telling=("symbol",))
    assert sorted(found) == [(at, row["symbol"]) for at, row in enumerate(reversed(rows), start=1)]


async def test_look_up__condition_besides__leaves_out_what_it_does_not_hold_for(db: Database) -> None:
    rows = await _tokens(db, 3)
    async with db.write() as conn:
        await bulk.insert(conn, schema.tokens, rows)
    wanted = [(row["chain_id"], row["address"]) for row in rows]
    async with db.read() as conn:
        found = await bulk.look_up(
            conn, schema.tokens, ("chain_id", "address"), wanted, telling=(), besides="tokens.symbol <> 'T1'"
        )
    assert sorted(found) == [(0,), (2,)]


async def test_look_up__of_an_amount__finds_it_exactly(db: Database) -> None:
    parents = samples.with_parents(schema.amount_reservations)
    async with db.write() as conn:
        for table, row in parents:
            await bulk.insert(conn, table, [row])
    row = parents[-1][1]
    wanted = [(row["pay_to"], row["amount"] + off) for off in (-1, 0, 1)]
    async with db.read() as conn:
        found = await bulk.look_up(
            conn, schema.amount_reservations, ("pay_to", "amount"), wanted, telling=("invoice_id",)
        )
    assert found == [(1, row["invoice_id"])]


async def test_look_up__of_nothing__is_nothing(db: Database) -> None:
    async with db.read() as conn:
        assert await bulk.look_up(conn, schema.tokens, ("address",), [], telling=()) == []
