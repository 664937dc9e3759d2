"""Pages of an export and balances at a time, on both databases: each row once, in order, of one chain or period."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any

import pytest

from chains.model import ChainId
from settler.domain.exporting import What
from settler.domain.ledger import Side
from settler.storage import exporting, ledger
from settler.storage.engine import Database
from settler.storage.exporting import Selection
from tests.support.world import World, token

BASE = ChainId(8453)


@pytest.fixture(autouse=True)
def short_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "PAGE", 2)


async def busy(db: Database) -> datetime:
    """Three invoices paid one day, one the next, by one of two chains; and when the next day began."""
    world = await World.on(db)
    await world.add_chain("base", tokens=[token(chain_id=BASE)], seed=2)
    for n in range(3):
        world.pay(await world.invoice(f"{n + 1}"), option=n % 2)
    for name in world.chains:
        world.mine(5, on=name)
    await world.catch_up()
    world.clock.advance(86_400)
    world.pay(await world.invoice("9"), "10")
    world.mine(5)
    await world.catch_up()
    return world.clock.now()


def sizes(found: dict[What, list[Any]]) -> tuple[int, ...]:
    return tuple(len(found[what]) for what in What)


async def read(db: Database, selection: Selection) -> dict[What, list[Any]]:
    async with db.read() as conn:
        found: dict[What, list[Any]] = {
            What.SETTLEMENTS: [s async for page in exporting.settlement_pages(conn, selection) for s in page],
            What.LEDGER: [line async for _, page in exporting.ledger_pages(conn, selection) for line in page],
            What.TRANSFERS: [t async for page in exporting.transfer_pages(conn, selection) for t in page],
        }
        counted = {what: await exporting.count(conn, what, selection) for what in What}
    of_entries = {line.entry_id for line in found[What.LEDGER]}
    assert counted == {what: len(of_entries if what is What.LEDGER else rows) for what, rows in found.items()}
    return found


async def test_pages__each_row_once_in_order__of_a_period_or_a_chain(db: Database) -> None:
    tomorrow = await busy(db)
    every, early = await read(db, Selection()), await read(db, Selection(until=tomorrow))
    assert sizes(every) == (4, 4 * 2 + 4 * 2 + 1, 4)
    ids = [s.id for s in every[What.SETTLEMENTS]]
    assert ids == sorted(set(ids))
    places = [(line.entry_id, line.index) for line in every[What.LEDGER]]
    assert places == sorted(set(places))

    late = await read(db, Selection(since=tomorrow))
    assert {what: early[what] + late[what] for what in What} == every
    assert sizes(late) == (1, 5, 1)
    of_base = await read(db, Selection(chain_id=BASE))
    assert sizes(of_base) == (1, 4, 1)
    assert {line.line.chain_id for line in of_base[What.LEDGER]} == {BASE}

    for until in (None, tomorrow, tomorrow + timedelta(microseconds=1), tomorrow - timedelta(days=9)):
        sums: dict[Any, int] = defaultdict(int)
        for posted in (await read(db, Selection(until=until)))[What.LEDGER]:
            line = posted.line
            sums[line.chain_id, line.token, line.account] += line.amount * (1 if line.side is Side.DEBIT else -1)
        async with db.read() as conn:
            assert await ledger.balances(conn, until) == dict(sums), "what was posted before then"
    async with db.read() as conn:
        assert sum((await ledger.balances(conn)).values()) == 0
        assert await ledger.balances(conn, tomorrow) != await ledger.balances(conn)
