"""Small amounts settle above the final height, at their own risk; what the chain undoes is reversed, and it goes on."""

from __future__ import annotations

from typing import Any

import pytest

from chains.model import Address, ChainId, Tag
from settler.domain.finality import ByTag, Depth, Tier
from settler.domain.invoices import Invoice, TransferStatus
from settler.domain.money import FINEST_SCALE
from settler.domain.settlement import HoldReason
from settler.storage import chains, holds, ledger, schema, settlements
from settler.storage.engine import Database
from tests.support.world import World, token

USD = 10**FINEST_SCALE
FIFTY = Tier(up_to=50 * USD, policy=Depth(blocks=2))
HUNDRED = Tier(up_to=100 * USD, policy=Depth(blocks=4))
TIERS = (FIFTY, HUNDRED)


async def tiered(db: Database, **changes: Any) -> World:
    return await World.on(db, finality=Depth(blocks=10), tiers=TIERS, **changes)


async def seen(world: World, *amounts: str, of: str) -> Invoice:
    """An invoice `of` an amount, paid in parts of these amounts, a block each; the last is the head."""
    invoice = await world.invoice(of)
    for amount in amounts:
        world.pay(invoice, amount)
        world.mine()
    await world.watch()
    return invoice


async def books(world: World) -> dict[str, int]:
    async with world.db.read() as conn:
        found = await ledger.balances(conn)
    return {account.value: amount for (_, _, account), amount in found.items() if amount}


async def policy_of(world: World, invoice: Invoice) -> dict[str, Any]:
    async with world.db.read() as conn:
        (found, *_) = await settlements.find(conn, invoice_id=invoice.id)
    return dict(found.policy)


@pytest.mark.parametrize(
    ("amount", "blocks", "tier"), [("50", 2, "50.00"), ("50.01", 4, "100.00"), ("100", 4, "100.00")]
)
async def test_small_amount__settles_at_the_depth_of_its_tier(
    db: Database, amount: str, blocks: int, tier: str
) -> None:
    world = await tiered(db)
    invoice = await seen(world, amount, of=amount)
    world.mine(blocks - 2)
    await world.watch()
    await world.early()
    assert await world.status(invoice) == "processing", "one block too few stands on it"
    world.mine()
    await world.early()
    assert await world.status(invoice) == "settled"
    assert await policy_of(world, invoice) == {
        "version": "sha256:test",
        "finality": {"anvil": str(blocks)},
        "tier": {"anvil": tier},
    }
    assert (await world.state()).settled_number == 0
    units = -int(float(amount) * 100) * 10_000
    assert await books(world) == {"received": -units, "settled": units}


async def test_larger_amount__waits_for_the_chain(db: Database) -> None:
    world = await tiered(db)
    invoice = await seen(world, "100.01", of="100.01")
    world.mine(8)
    await world.watch()
    await world.early()
    assert await world.status(invoice) == "processing"
    world.mine()
    await world.catch_up()
    assert await world.status(invoice) == "settled"
    assert await policy_of(world, invoice) == {"version": "sha256:test", "finality": {"anvil": "10"}}


async def test_split_to_sneak_under_a_tier__is_judged_by_the_sum(db: Database) -> None:
    world = await tiered(db)
    invoice = await seen(world, *["50"] * 4, of="200")
    world.mine(6)
    await world.watch()
    await world.early()
    assert await world.status(invoice) == "processing"
    assert {t.status for t in await world.transfers()} == {TransferStatus.DETECTED}


async def test_overpaid_small_invoice__is_judged_by_what_came(db: Database) -> None:
    world = await tiered(db)
    invoice = await seen(world, "1000", of="50")
    world.mine(6)
    await world.watch()
    await world.early()
    assert await world.status(invoice) == "processing"


async def test_more_comes_after_a_part_was_final_early__that_part_counts_no_more(db: Database) -> None:
    """Two chains: the payment on the first is final by its tier, but the invoice waits for the second. What comes there
    makes more of it than the tier takes."""
    world = await tiered(db)
    await world.add_chain(
        "base", tokens=[token(chain_id=ChainId(8453))], seed=2, finality=Depth(blocks=10), tiers=TIERS
    )
    invoice = await world.invoice("50")
    world.pay(invoice, "25", option=0)
    world.mine()
    world.pay(invoice, "25", option=1)
    world.mine(on="base")
    for name in world.chains:
        await world.watch(name)
    world.mine(1)
    await world.early()
    first, second = await world.transfers()
    assert {first.status, second.status} == {TransferStatus.FINAL, TransferStatus.DETECTED}
    assert await world.status(invoice) == "processing"
    world.pay(invoice, "500", option=1)
    world.mine(3, on="base")
    await world.watch("base")
    await world.early("base")
    assert await world.status(invoice) == "processing"
    world.mine(10)
    world.mine(10, on="base")
    await world.catch_up()
    assert await world.status(invoice) == "settled"
    assert (await policy_of(world, invoice))["finality"] == {"anvil": "10", "base": "10"}


async def test_chain_agrees_later__nothing_is_done_twice(db: Database) -> None:
    world = await tiered(db)
    invoice = await seen(world, "50", of="50")
    world.mine(1)
    await world.early()
    told = await world.events()
    world.mine(20)
    await world.catch_up()
    assert await world.status(invoice) == "settled"
    assert await world.events() == told
    assert await world.count(schema.settlements) == 1
    assert await books(world) == {"received": 50_000_000, "settled": -50_000_000}


async def test_chain_undoes_it__reversal_and_the_chain_goes_on(db: Database) -> None:
    world = await tiered(db)
    invoice = await seen(world, "50", of="50")
    world.mine(1)
    await world.early()
    payment = world.it.chain.transfers()[-1].identity.tx_hash
    world.it.chain.reorg(3, drop=[payment], length=14)
    await world.catch_up()
    assert not (await world.state()).is_halted
    assert await world.status(invoice) == "reversed"
    assert [t.status for t in await world.transfers()] == [TransferStatus.ORPHANED]
    assert await books(world) == {}
    assert world.counted.reversals == 1
    assert [e for e in await world.events() if "revers" in e or "orphan" in e] == [
        "settlement.reversed",
        "invoice.reversed",
        "payment.orphaned",
    ]
    world.pay(invoice)
    world.mine(11)
    await world.catch_up()
    assert await world.status(invoice) == "settled"
    assert await books(world) == {"received": 50_000_000, "settled": -50_000_000}


@pytest.mark.parametrize("shift", [0, 2])
async def test_mined_again_elsewhere__reversed_and_settled_anew_where_it_stands(db: Database, shift: int) -> None:
    world = await tiered(db)
    invoice = await seen(world, "50", of="50")
    world.mine(1)
    await world.early()
    world.it.chain.reorg(3, shift=shift, length=16)
    await world.catch_up()
    assert await world.status(invoice) == "settled"
    async with world.db.read() as conn:
        first, second = sorted(await settlements.find(conn, invoice_id=invoice.id), key=lambda s: s.generation)
    assert (first.generation, first.reversal is None) == (1, False)
    assert (second.generation, second.reversal is None) == (2, True)
    (place,) = world.it.chain.transfers()
    assert second.lines[0].block_hash == place.block_hash
    assert await books(world) == {"received": 50_000_000, "settled": -50_000_000}
    assert world.counted.reversals == 1


async def test_undone_while_nobody_looked__ends_the_same(db: Database) -> None:
    """The reversal is the second reading's to say: a fork that only the first one sees takes nothing back yet."""
    world = await tiered(db)
    invoice = await seen(world, "50", of="50")
    world.mine(1)
    await world.early()
    payment = world.it.chain.transfers()[-1].identity.tx_hash
    world.it.chain.reorg(3, drop=[payment], length=4)
    await world.watch()
    assert await world.status(invoice) == "settled"
    world.restart()
    world.mine(12)
    await world.catch_up()
    assert await world.status(invoice) == "reversed"


async def test_nobody_waits_within_a_tier__asks_nobody(db: Database) -> None:
    world = await tiered(db)
    await seen(world, "500", of="500")
    before = sum(world.it.reader.calls.values())
    await world.early()
    assert sum(world.it.reader.calls.values()) == before


async def test_tag_as_a_tier__and_a_quorum(db: Database) -> None:
    world = await World.on(
        db,
        finality=Depth(blocks=80),
        tiers=(Tier(up_to=50 * USD, policy=ByTag(tag=Tag.SAFE)),),
        providers=3,
        quorum=2,
    )
    invoice = await seen(world, "50", of="50")
    world.mine(30)
    await world.watch()
    await world.early()
    assert await world.status(invoice) == "processing"
    world.mine()
    await world.early()
    assert await world.status(invoice) == "settled"
    assert (await policy_of(world, invoice))["finality"] == {"anvil": "safe"}


async def test_screened_like_all_money__held_early_as_well(db: Database) -> None:
    oracle = Address(b"\x0a" * 20)
    world = await tiered(db, sanctions_oracle=oracle)
    world.it.chain.set_contract(oracle, lambda _: None)
    invoice = await seen(world, "50", of="50")
    world.mine(1)
    await world.early()
    view = await world.view(invoice.id)
    assert (view["status"], view["exceptions"]) == ("processing", ["on_hold"])
    async with world.db.read() as conn:
        assert (await holds.count_by_reason(conn))[HoldReason.SANCTIONS] == 1


async def test_halted_chain__settles_nothing_early(db: Database) -> None:
    world = await tiered(db)
    invoice = await seen(world, "50", of="50")
    world.mine(1)
    state = await world.state()
    async with db.write() as conn:
        await chains.advance(conn, state, now=world.clock.now(), guard=(), halted_at=world.clock.now(), halt_reason="x")
    await world.early()
    assert await world.status(invoice) == "processing"
