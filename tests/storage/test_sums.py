"""Sums of amounts that the database makes, to the last digit."""

from __future__ import annotations

import random

import pytest
import sqlalchemy as sa

from chains.model import UINT256_MAX
from settler.storage.engine import Database
from settler.storage.sums import added_up, total_of
from settler.storage.types import Uint256

_chance = random.Random(8)


@pytest.mark.parametrize(
    "amounts",
    [
        [0],
        [1, 2, 3],
        [2**63, 2**63 - 1, 10**18],
        [UINT256_MAX, UINT256_MAX, 1],
        [10**13 - 1, 1, 10**26 - 1, 1],
        [_chance.randrange(2 ** _chance.randrange(1, 257)) for _ in range(300)],
    ],
    ids=len,
)
async def test_added_up__any_amounts__is_their_sum(db: Database, amounts: list[int]) -> None:
    table = sa.Table("amounts_of_a_test", sa.MetaData(), sa.Column("amount", Uint256))
    async with db.write() as conn:
        await conn.run_sync(table.create)
        await conn.execute(sa.insert(table), [{"amount": amount} for amount in amounts])
        (row,) = (await conn.execute(sa.select(*added_up(table.c.amount, conn.dialect.name)))).all()
        await conn.run_sync(table.drop)
    assert total_of(list(row)) == sum(amounts)
