"""Finality violations: what was settled and is no longer in the chain, over the simulated world and the real store."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import pytest

from chains.errors import ChainError, NodeInconsistent
from chains.model import BlockNumber, BlockRef, ChainId, Tag
from settler.domain.errors import Conflict
from settler.domain.invoices import Invoice, TransferStatus
from settler.domain.ledger import Account
from settler.domain.records import Settlement
from settler.stages.settle import VIOLATION_SIGHTINGS
from settler.storage import chains, ledger, schema, settlements
from settler.storage.chains import CursorMoved
from settler.storage.engine import Database
from tests.support.world import World, token

BASE = ChainId(8453)


async def two_chains(db: Database) -> World:
    world = await World.on(db)
    await world.add_chain("base", tokens=[token(chain_id=BASE)], seed=2)
    return world


async def settled_invoice(world: World, amount: str = "100") -> Invoice:
    invoice = await world.invoice(amount)
    world.pay(invoice)
    world.mine(3)
    await world.catch_up()
    assert await world.status(invoice) == "settled"
    return invoice


async def look_until_halted(world: World, on: str = "anvil") -> None:
    for _ in range(VIOLATION_SIGHTINGS - 1):
        with pytest.raises(NodeInconsistent, match="is settled, and another one is shown"):
            await world.chains[on].settle.tick()
        assert not (await world.state(on)).is_halted
    await world.chains[on].settle.tick()
    assert (await world.state(on)).is_halted


async def resume(world: World, on: str = "anvil") -> None:
    world.clock.advance(1)
    async with world.db.write() as conn:
        chain_id = world.chains[on].setup.chain_id
        await chains.resume(conn, chain_id, now=world.clock.now(), who="ada", reason="looked into it")


async def settlements_of(world: World, invoice: Invoice) -> list[Settlement]:
    async with world.db.read() as conn:
        return sorted(await settlements.find(conn, invoice_id=invoice.id), key=lambda s: s.generation)


async def balances(world: World) -> dict[Account, int]:
    """Of the accounts that are not empty, all chains and tokens together."""
    sums: dict[Account, int] = {}
    async with world.db.read() as conn:
        for (_, _, account), amount in (await ledger.balances(conn)).items():
            sums[account] = sums.get(account, 0) + amount
    return {account: amount for account, amount in sums.items() if amount}


async def test_settled_payment_dropped__halts_at_the_third_sighting_and_reverses(db: Database) -> None:
    world = await World.on(db)
    invoice = await settled_invoice(world)
    (paid,) = await world.transfers()
    world.it.chain.reorg(4, drop=[paid.identity.tx_hash])
    await look_until_halted(world)

    view = await world.view(invoice.id)
    assert (view["status"], view["settlement_id"], view["amount_received"]) == ("reversed", None, "0.00")
    (settlement,) = await settlements_of(world, invoice)
    assert settlement.reversal is not None
    assert "finality violation" in settlement.reversal.reason
    assert await balances(world) == {}
    (gone,) = await world.transfers()
    assert gone.status is TransferStatus.ORPHANED
    assert await world.events(settlement.id) == ["settlement.created", "settlement.reversed"]
    assert (await world.events(invoice.id))[-2:] == ["invoice.settled", "invoice.reversed"]
    assert (await world.events(paid.id))[-1] == "payment.orphaned"
    assert world.counted.reversals == 1
    state = await world.state()
    assert state.halt_reason is not None
    assert "finality violation" in state.halt_reason

    await world.catch_up()
    assert world.counted.reversals == 1


async def test_settled_payment_mined_again__settles_anew_once_resumed(db: Database) -> None:
    world = await World.on(db)
    invoice = await settled_invoice(world)
    world.it.chain.reorg(4, shift=1, length=6)
    await look_until_halted(world)
    world.mine(5)
    await world.catch_up()
    assert await world.status(invoice) == "reversed"
    assert [t.status for t in await world.transfers()] == [TransferStatus.DETECTED]
    await resume(world)
    await world.catch_up()
    view = await world.view(invoice.id)
    assert (view["status"], view["amount_settled"]) == ("settled", "100.00")
    first, second = await settlements_of(world, invoice)
    assert (first.generation, second.generation) == (1, 2)
    assert first.reversal is not None
    assert second.reversal is None
    assert view["settlement_id"] == second.id
    assert await balances(world) == {Account.RECEIVED: 100_000_000, Account.SETTLED: -100_000_000}


async def test_settled_payment_dropped_for_good__stays_reversed_once_resumed_until_paid_again(db: Database) -> None:
    world = await World.on(db)
    invoice = await settled_invoice(world)
    (paid,) = await world.transfers()
    world.it.chain.reorg(4, drop=[paid.identity.tx_hash], length=8)
    await look_until_halted(world)
    await resume(world)
    world.mine(5)
    await world.catch_up()
    assert await world.status(invoice) == "reversed"
    assert await balances(world) == {}
    world.pay(invoice)
    world.mine(4)
    await world.catch_up()
    assert await world.status(invoice) == "settled"
    assert len(await settlements_of(world, invoice)) == 2


async def test_halted__records_what_it_sees_and_settles_nothing(db: Database) -> None:
    world = await World.on(db)
    await settled_invoice(world)
    world.it.chain.reorg(4, length=5)
    await look_until_halted(world)
    another = await world.invoice()
    world.pay(another)
    world.mine(10)
    await world.catch_up()
    assert await world.status(another) == "processing"
    await resume(world)
    await world.catch_up()
    assert await world.status(another) == "settled"


async def test_halted__other_chains_go_on(db: Database) -> None:
    world = await two_chains(db)
    await settled_invoice(world)
    world.it.chain.reorg(4)
    await look_until_halted(world)
    other = await world.invoice()
    world.pay(other, option=1)
    world.mine(5, on="base")
    await world.catch_up()
    assert await world.status(other) == "settled"
    assert not (await world.state("base")).is_halted


async def test_halted__money_on_two_chains__settles_nothing_that_rests_on_the_halted_one(db: Database) -> None:
    world = await two_chains(db)
    split = await world.invoice("100")
    world.pay(split, "60", option=0)
    world.mine(4)
    await settled_invoice(world)
    world.it.chain.reorg(4)
    await look_until_halted(world)
    world.pay(split, "40", option=1)
    world.mine(5, on="base")
    await world.catch_up()
    assert await world.status(split) == "processing"
    await resume(world)
    await world.catch_up()
    assert await world.status(split) == "settled"


async def test_reversed__what_the_settlement_got_on_another_chain_stays(db: Database) -> None:
    world = await two_chains(db)
    split = await world.invoice("100")
    lost = world.pay(split, "60", option=0)
    world.pay(split, "40", option=1)
    world.mine(4)
    world.mine(4, on="base")
    await world.catch_up()
    assert await world.status(split) == "settled"
    world.it.chain.reorg(5, drop=[lost.hash], length=6)
    await look_until_halted(world)
    view = await world.view(split.id)
    assert (view["status"], view["amount_received"]) == ("reversed", "40.00")
    assert await balances(world) == {Account.RECEIVED: 40_000_000, Account.SUSPENSE: -40_000_000}
    world.pay(split, "60", option=1)
    world.mine(4, on="base")
    await world.catch_up()
    assert await world.status(split) == "settled"


async def test_reversed_and_paid_up_while_its_chain_is_halted__settles_once_resumed(db: Database) -> None:
    """Found by reading: a reversed invoice never becomes `processing`. Paid up on another chain while its first one is
    halted, it is in nobody's list when the chain is resumed: all the money is final, and it is never settled."""
    world = await two_chains(db)
    split = await world.invoice("100")
    world.pay(split, "60", option=0)
    world.mine(4)
    lost = world.pay(split, "40", option=0)
    world.mine(4)
    await world.catch_up()
    assert await world.status(split) == "settled"
    world.it.chain.reorg(5, drop=[lost.hash], length=6)
    await look_until_halted(world)
    world.pay(split, "40", option=1)
    world.mine(5, on="base")
    await world.catch_up()
    assert await world.status(split) == "reversed"
    await resume(world)
    world.mine(5)
    await world.catch_up()
    assert await world.status(split) == "settled"


async def test_settlement_below_the_fork__is_left_alone(db: Database) -> None:
    world = await World.on(db)
    below = await settled_invoice(world)
    world.mine(2_000)
    await world.settle()
    above = await settled_invoice(world)
    world.it.chain.reorg(6, length=8)
    await look_until_halted(world)
    assert [await world.status(i) for i in (below, above)] == ["settled", "reversed"]


async def test_header_of_a_fork_held_at_a_settled_height__reverses_nothing_that_stands(db: Database) -> None:
    """Found by reading: the first reading had held a header of a short-lived fork at a height the second one settled
    differently. In a later violation further up that header counted for more than the settled payment's own block, so
    the search went on below it and reversed a settlement whose block had never left the chain."""
    world = await World.on(db)
    await world.catch_up()
    real, twin = world.it.chain, world.it.chain.forked("alone")
    invoice = await world.invoice()
    paid = world.pay(invoice)
    twin.mine([paid])
    world.it.reader.chain = twin
    await world.watch()
    real.mine_empty(1)
    world.it.pool = []
    real.reorg(1, add=[paid])
    real.mine_empty(3)
    world.it.reader.chain = real
    await world.settle()
    assert await world.status(invoice) == "settled"
    world.mine(6)
    await world.catch_up()
    real.reorg(6, length=8)
    await look_until_halted(world)
    assert await world.status(invoice) == "settled"
    assert world.counted.reversals == 0


async def test_resumed__counts_confirmations_afresh(db: Database) -> None:
    """Found by reading: the final height of the vanished fork was kept. Once resumed, everything up to it settled at
    once, on a new fork where nothing stood on those blocks yet."""
    world = await World.on(db)
    await settled_invoice(world)
    world.mine(2)
    await world.catch_up()
    was_final = (await world.state()).final_number
    assert was_final is not None
    depth = world.it.chain.head.number - was_final + 2
    world.it.chain.reorg(depth, length=2)
    for _ in range(3):
        await world.watch()
    world.mine(1)
    await look_until_halted(world)
    fresh = await world.invoice()
    world.pay(fresh)
    world.mine()
    await resume(world)
    await world.catch_up()
    assert world.it.chain.head.number >= was_final
    state = await world.state()
    assert state.settled_number is not None
    assert state.settled_number <= world.it.chain.head.number - 3
    assert await world.status(fresh) == "processing"
    world.mine(3)
    await world.catch_up()
    assert await world.status(fresh) == "settled"


async def test_violation_far_down__still_records_what_it_sees_while_halted(db: Database) -> None:
    """Found by reading: a fork deep enough put the first reading so far below the last known final height that it left
    the blocks to the second one, which was halted: nothing was recorded until an operator came."""
    world = await World.on(db)
    await settled_invoice(world)
    for _ in range(3):
        world.mine(100)
        await world.catch_up()
    world.it.chain.reorg(302, length=304)
    await look_until_halted(world)
    await world.watch()
    assert (await world.state()).scanned_number == world.it.chain.head.number


async def test_node_on_its_own_fork_for_a_while__halts_nothing(db: Database) -> None:
    world = await World.on(db)
    invoice = await settled_invoice(world)
    before = await world.state()
    real = world.it.chain
    twin = real.forked("alone")
    twin.reorg(5)
    world.it.reader.chain = twin
    for _ in range(VIOLATION_SIGHTINGS - 1):
        with pytest.raises(NodeInconsistent):
            await world.settle()
    world.it.reader.chain = real
    await world.settle()
    world.it.reader.chain = twin
    for _ in range(VIOLATION_SIGHTINGS - 1):
        with pytest.raises(NodeInconsistent):
            await world.settle()
    world.it.reader.chain = real
    world.mine(5)
    await world.catch_up()
    after = await world.state()
    assert not after.is_halted
    assert (after.settled_number or 0) > (before.settled_number or 0)
    assert await world.status(invoice) == "settled"
    assert await world.count(schema.reversals) == 0


async def test_node_far_behind__halts_nothing(db: Database) -> None:
    world = await World.on(db)
    await settled_invoice(world)
    world.it.reader.lag = 8
    for _ in range(2 * VIOLATION_SIGHTINGS):
        await world.watch()
        await world.settle()
    assert not (await world.state()).is_halted


async def test_chain_that_is_shorter_after_the_fork__halts_when_it_has_grown(db: Database) -> None:
    world = await World.on(db)
    await settled_invoice(world)
    world.it.chain.reorg(6, length=1)
    for _ in range(VIOLATION_SIGHTINGS):
        await world.settle()
    assert not (await world.state()).is_halted
    world.mine(6)
    await look_until_halted(world)


async def test_node_gone_while_the_ancestor_is_looked_for__writes_nothing_and_tries_again(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await World.on(db)
    invoice = await settled_invoice(world)
    world.it.chain.reorg(4)
    for _ in range(VIOLATION_SIGHTINGS - 1):
        with pytest.raises(NodeInconsistent):
            await world.it.settle.tick()
    headers, calls = world.it.reader.headers, 0

    async def once(wanted: Sequence[BlockNumber | Tag]) -> tuple[BlockRef | None, ...]:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise ChainError("gone")
        return await headers(wanted)

    with monkeypatch.context() as patched:
        patched.setattr(world.it.reader, "headers", once)
        with pytest.raises(ChainError, match="gone"):
            await world.it.settle.tick()
    assert not (await world.state()).is_halted
    assert await world.status(invoice) == "settled"
    await look_until_halted(world)
    assert await world.status(invoice) == "reversed"


async def test_resume__a_chain_that_runs__is_a_conflict(db: Database) -> None:
    world = await World.on(db)
    with pytest.raises(Conflict, match="not halted"):
        await resume(world)


async def test_resume__and_the_chain_changes_again__halts_again(db: Database) -> None:
    world = await World.on(db)
    invoice = await settled_invoice(world)
    for generation in (1, 2, 3):
        (paid,) = await world.transfers()
        depth = world.it.chain.head.number - paid.block_number + 1
        world.it.chain.reorg(depth, length=depth + 1)
        await look_until_halted(world)
        assert await world.status(invoice) == "reversed"
        assert len(await settlements_of(world, invoice)) == generation
        await resume(world)
        world.mine(4)
        await world.catch_up()
        assert await world.status(invoice) == "settled"


async def test_halted_while_the_first_reading_looks_at_the_fork__is_no_bug(sqlite_db: Database) -> None:
    """Found on anvil: the second reading halted the chain and let go of the held headers between the first
    reading's look
    at its cursor and its look at the headers below it, which then compared with nothing."""
    world = await World.on(sqlite_db)
    await world.catch_up()
    world.mine(4)
    await world.catch_up()
    world.it.chain.reorg(world.it.chain.head.number - 1)
    headers, watch = world.it.reader.headers, world.it.watch
    halted = False

    async def halted_in_between(wanted: Sequence[BlockNumber | Tag]) -> tuple[BlockRef | None, ...]:
        nonlocal halted
        answer = await headers(wanted)
        if list(wanted) == [Tag.LATEST] and not halted:
            halted = True
            for _ in range(VIOLATION_SIGHTINGS):
                with suppress(NodeInconsistent):
                    await world.it.settle.tick()
        return answer

    world.it.reader.headers = halted_in_between  # type: ignore[method-assign]  # the moment that is under test
    with pytest.raises(CursorMoved):
        for _ in range(3):
            await watch.tick()
    assert (await world.state()).is_halted
