"""Which state of an invoice it is, and which invoice a payment page's name is of; on both databases."""

from __future__ import annotations

from settler.domain.ids import InvoiceId
from settler.storage import invoices
from settler.storage.engine import Database
from settler.storage.invoices import Fingerprint
from tests.support.world import World


async def fingerprint(world: World, id_: InvoiceId) -> Fingerprint:
    async with world.db.read() as conn:
        return (await invoices.fingerprints(conn, [id_]))[id_]


async def test_fingerprints__each_change_of_what_is_shown__changes_them(db: Database) -> None:
    world = await World.on(db)
    owed, other = await world.invoice("100"), await world.invoice("7")
    seen = [await fingerprint(world, owed.id)]

    async def is_another() -> bool:
        seen.append(await fingerprint(world, owed.id))
        return seen[-1] not in seen[:-1]

    others = await fingerprint(world, other.id)
    assert not await is_another(), "equal as long as nothing happens"
    world.pay(owed, "40")
    world.mine()
    await world.watch()
    assert await is_another(), "a payment that does not change the invoice's own row"
    world.mine()
    await world.watch()
    assert await is_another(), "one more confirmation"
    world.pay(owed, "60")
    world.mine()
    await world.watch()
    assert await is_another(), "paid in full"
    world.mine(empty_after=5)
    await world.catch_up()
    assert await is_another(), "settled"
    world.mine(empty_after=5)
    await world.catch_up()
    assert not await is_another(), "confirmations of what is final are no news"
    assert await fingerprint(world, other.id) == others, "another invoice's payments are not its own"


async def test_fingerprints__of_invoices_that_are_not_there__are_left_out(db: Database) -> None:
    world = await World.on(db)
    owed = await world.invoice("1")
    async with db.read() as conn:
        found = await invoices.fingerprints(conn, [owed.id, InvoiceId("inv_" + "0" * 26)])
        assert set(found) == {owed.id}
        assert await invoices.fingerprints(conn, []) == {}


async def test_get_by_pay_token__finds_that_invoice_and_no_other(db: Database) -> None:
    world = await World.on(db)
    first, second = await world.invoice("1"), await world.invoice("2")
    async with db.read() as conn:
        assert await invoices.get_by_pay_token(conn, first.pay_token) == first
        assert await invoices.get_by_pay_token(conn, second.pay_token) == second
        for wrong in ("", first.pay_token[:-1], first.pay_token + "0", first.id, "%"):
            assert await invoices.get_by_pay_token(conn, wrong) is None
