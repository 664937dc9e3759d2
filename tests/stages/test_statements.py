"""What a block of payments asks of the database: as much for many as for few."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event

from settler.stages.turns import PIECE, in_turns
from settler.storage.engine import Database
from settler.storage.reading import TOLD_AT_ONCE
from tests.support.world import World


@contextmanager
def counted(db: Database) -> Iterator[list[str]]:
    """Statements that are written by; rows of one statement count once."""
    engine = db._writer.sync_engine
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(engine, "before_cursor_execute", note)


async def _paid(world: World, payments: int) -> tuple[list[str], list[str]]:
    """What watch and settle ask when a block with so many payments comes, each a transaction that pays an invoice."""
    invoices = [await world.invoice("5") for _ in range(payments)]
    for invoice in invoices:
        world.pay(invoice)
    world.mine()
    with counted(world.db) as by_watch:
        await world.watch()
    world.mine(3)
    await world.watch()
    with counted(world.db) as by_settle:
        await world.settle()
    assert {await world.status(invoice) for invoice in invoices} == {"settled"}
    return by_watch, by_settle


def _verb(statement: str) -> str:
    return statement.split(maxsplit=1)[0]


async def test_block_of_payments__many__asks_no_more_than_one_does(db: Database) -> None:
    many = 120
    assert many < min(PIECE, TOLD_AT_ONCE)
    world = await World.on(db)
    await _paid(world, 1)
    for few, asked in zip(await _paid(world, 1), await _paid(world, many), strict=True):
        assert list(map(_verb, asked)) == list(map(_verb, few))


async def test_block_with_a_payment__transfers__are_read_twice_by_each_stage_at_most(db: Database) -> None:
    world = await World.on(db)
    for asked in await _paid(world, 3):
        # what the stage decides about, and what its invoices were paid; of three payments beside each other
        assert sum(statement.startswith("SELECT transfers.id, transfers.chain_id") for statement in asked) <= 3
        assert sum(" FROM chains" in statement for statement in asked) <= 8


@pytest.mark.parametrize("count", [0, 1, PIECE, 2 * PIECE + 1])
async def test_in_turns__any_number__gives_all_in_order(count: int) -> None:
    assert [value async for value in in_turns(range(count))] == list(range(count))
