"""Transfers, settlements and chains as the commands show them, after money has moved on a simulated chain."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from chains.address import to_checksum
from settler.storage import chains
from settler.storage.engine import Database
from tests.cli.conftest import Shell
from tests.support.world import PAYER, World, token


async def _some_money(url: str) -> None:
    """One invoice paid and settled, one payment to nobody's invoice, one of nothing, one that a reorg took away."""
    db = await Database.open(url)
    try:
        world = await World.on(db)
        paid, canceled = await world.invoice("100", reference="order-1"), await world.invoice("5", reference="order-2")
        to = canceled.options[0].pay_to
        world.pay(paid, "101")
        world.send(world.sim_transfer(to, "3.5", token=token("USDC")))
        world.send(world.sim_transfer(to, 0))
        world.mine(5)
        await world.catch_up()
    finally:
        await db.dispose()


@pytest.fixture
def shop(settler: Shell) -> Shell:
    file = settler.folder / "settler.toml"
    file.write_text(file.read_text().replace("chains.local", "chains.anvil"))
    asyncio.run(_some_money(f"sqlite:///{settler.folder / 'settler.db'}"))
    return settler


def test_settlement__list_and_show(shop: Shell) -> None:
    (listed,) = shop("settlement", "list", "--json").json
    assert (listed["reference"], listed["amount_settled"], listed["amount_surplus"]) == ("order-1", "100.00", "1.00")
    assert shop("settlement", "show", listed["id"], "--json").json == listed
    shown = shop("settlement", "show", listed["id"]).out
    assert listed["payments"][0]["tx_hash"] in shown
    assert shop("settlement", "list", "--json", "--invoice", listed["invoice_id"]).json == [listed]
    assert shop("settlement", "list", "--json", "--merchant", "nobody").json == []
    header, row = shop("settlement", "list").out.splitlines()
    assert "SETTLED_AT" in header
    assert listed["id"] in row


def test_invoice_show__has_its_payments(shop: Shell) -> None:
    (listed,) = shop("invoice", "list", "--reference", "order-1", "--json").json
    assert (listed["status"], listed["exceptions"]) == ("settled", ["overpaid"])
    shown = shop("invoice", "show", listed["id"]).out
    assert "payments[0]" in shown
    assert to_checksum(PAYER) in shown


def test_transfer_list__is_the_suspense_queue(shop: Shell) -> None:
    everything = shop("transfer", "list", "--all", "--json").json
    assert len(everything) == 3
    assert len(shop("transfer", "list", "--allocation", "invoice", "--json").json) >= 1
    queue = shop("transfer", "list", "--json").json
    assert all(t["allocation"] == "unmatched" and t["reason"] != "ignored_zero" for t in queue)
    assert len(shop("transfer", "list", "--reason", "ignored_zero", "--json").json) == 1
    assert len(shop("transfer", "list", "--all", "--limit", "1", "--json").json) == 1
    assert shop("transfer", "list", "--all", "--chain", "anvil", "--json").json == everything


def test_transfer_list__piped__shows_hashes_in_full(shop: Shell) -> None:
    everything = shop("transfer", "list", "--all", "--json").json
    table = shop("transfer", "list", "--all").out
    for transfer in everything:
        for name in ("id", "tx_hash", "payer", "pay_to"):
            assert transfer[name] in table


def test_chain__list_and_resume(shop: Shell) -> None:
    (chain,) = shop("chain", "list", "--json").json
    assert (chain["name"], chain["chain_id"], chain["halted"]) == ("anvil", 31337, False)
    assert "not halted" in shop("chain", "resume", "anvil", "--reason", "why not").errors[0]

    async def halt() -> None:
        db = await Database.open(f"sqlite:///{shop.folder / 'settler.db'}")
        try:
            async with db.write() as conn:
                (state,) = await chains.all_states(conn)
                now = datetime(2026, 1, 1, tzinfo=UTC)
                await chains.advance(conn, state, now=now, halted_at=now, halt_reason="fork at 3", **_guard())
        finally:
            await db.dispose()

    asyncio.run(halt())
    assert "halted: fork at 3" in shop("chain", "list").out
    resumed = shop("chain", "resume", "anvil", "--reason", "looked at it", "--json").json
    assert not resumed["halted"]
    assert shop.count("operator_actions") == 1


def _guard() -> dict[str, tuple[str, ...]]:
    return {"guard": ("halted_at",)}
