"""What docs/runbook.md says of restoring a backup: the order of its steps is what saves the money."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from settler.domain.deposits import POOL_ONLY
from settler.domain.drafting import OptionRequest
from settler.domain.invoices import Invoice, Match
from settler.domain.settlement import InvoicePolicy
from settler.storage import deposits
from settler.storage.engine import Database
from tests.support.world import World

OWN = OptionRequest(chain="anvil", token="USDC", pay_to=None, match=Match.ADDRESS)


@dataclass
class Disaster:
    """A world whose newest backup is older than its newest invoice."""

    folder: Path
    stack: AsyncExitStack
    world: World
    lost: Invoice
    """Made and paid after the backup."""

    async def restored(self) -> World:
        """The same chain, beside the database of the backup; nothing was read since."""
        db = await Database.open(f"sqlite:///{self.folder / 'backup.db'}")
        self.stack.push_async_callback(db.dispose)
        world = World(db, InvoicePolicy())
        world.clock = self.world.clock
        for name, c in self.world.chains.items():
            world.chains[name] = world._made(c.setup, c.chain, c.readers)
        return world


@pytest.fixture
async def disaster(tmp_path: Path, sqlite_template: Path) -> AsyncIterator[Disaster]:
    file = tmp_path / "settler.db"
    file.write_bytes(sqlite_template.read_bytes())
    async with AsyncExitStack() as stack:
        db = await Database.open(f"sqlite:///{file}")
        stack.push_async_callback(db.dispose)
        world = await World.on(db)
        async with db.write() as conn:
            pool = [world.address(), world.address()]
            await deposits.add(conn, pool, quarantine=POOL_ONLY.quarantine, now=world.clock.now(), who="ada")
        world.mine(5)
        await world.catch_up()
        with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(tmp_path / "backup.db")) as backup:
            source.backup(backup)
        lost = await world.invoice("100", options=[OWN], reference="order-42")
        world.pay(lost)
        world.mine(5)
        await world.catch_up()
        assert await world.status(lost) == "settled"
        yield Disaster(tmp_path, stack, world, lost)


def same_address(lost: Invoice) -> OptionRequest:
    return OptionRequest(chain="anvil", token="USDC", pay_to=lost.options[0].pay_to, match=Match.ADDRESS)


async def test_restore__lost_invoice_made_again_before_the_start__is_settled_by_what_came(disaster: Disaster) -> None:
    world = await disaster.restored()
    again = await world.invoice("100", options=[same_address(disaster.lost)], reference="order-42")
    await world.catch_up()
    assert again.id != disaster.lost.id
    view = await world.view(again.id)
    assert (view["status"], view["amount_settled"], len(view["payments"])) == ("settled", "100.00", 1)


async def test_restore__address_named_so__is_given_to_nobody_else(disaster: Disaster) -> None:
    world = await disaster.restored()
    await world.invoice("100", options=[same_address(disaster.lost)], reference="order-42")
    other = await world.invoice("7", options=[OWN])
    assert other.options[0].pay_to != disaster.lost.options[0].pay_to


async def test_restore__started_first__gives_a_customers_address_to_another(disaster: Disaster) -> None:
    """Why the order matters."""
    world = await disaster.restored()
    await world.catch_up()
    other = await world.invoice("7", options=[OWN])
    assert other.options[0].pay_to == disaster.lost.options[0].pay_to


async def test_restore__retired_first__is_given_to_nobody(disaster: Disaster) -> None:
    """For addresses that nobody can name an invoice for."""
    world = await disaster.restored()
    async with world.db.write() as conn:
        address = disaster.lost.options[0].pay_to
        await deposits.retire(conn, address, now=world.clock.now(), who="ada", reason="restored a backup")
    other = await world.invoice("7", options=[OWN])
    assert other.options[0].pay_to != address
