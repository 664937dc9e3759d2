"""Records, balances and books held against a simulated chain, with the real store: each kind of break, and no other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import pytest
import sqlalchemy as sa

from chains.errors import HistoryPruned, Timeout
from chains.model import Address, BlockNumber, BlockSpan, Transfer
from chains.simulated import SimFaults, SimulatedReader
from chains.simulated_chain import SimulatedChain
from chains.spans import WindowedReader
from settler.domain.reconciling import BreakKind
from settler.stages.reconcile import Reconcile, Reconciled
from settler.stages.rereading import checked_range
from settler.storage import books, chains, schema
from settler.storage.engine import Database
from tests.stages.test_rescan import HONEST, SILENT_LOGS, lie, missed, nothing, rescan
from tests.support.dump import audit
from tests.support.world import World

SHOP = Address(b"\x51" * 20)


@dataclass
class SimHoldings:
    """`settler.stages.reconcile.Holdings` of a simulated chain, whose tokens live by their transfers alone."""

    chain: SimulatedChain
    state_from: int = 0
    """Older state is pruned."""
    unlogged: dict[Address, int] = field(default_factory=dict)
    """What addresses hold beyond that."""

    async def sent(
        self, span: BlockSpan, tokens: frozenset[Address], senders: Iterable[Address]
    ) -> tuple[Transfer, ...]:
        wanted = set(senders)
        found = self.chain.transfers(span)
        return tuple(t for t in found if t.identity.token in tokens and t.identity.sender in wanted)

    async def balances(self, token: Address, holders: Sequence[Address], *, at: BlockNumber) -> tuple[int | None, ...]:
        if at < self.state_from:
            raise HistoryPruned(f"no state available for block {at}")
        ended = self.chain.transfers(BlockSpan(first=BlockNumber(0), last=at))
        return tuple(
            sum(t.identity.amount for t in ended if (t.identity.token, t.identity.recipient) == (token, holder))
            - sum(t.identity.amount for t in ended if (t.identity.token, t.identity.sender) == (token, holder))
            + self.unlogged.get(holder, 0)
            for holder in holders
        )


async def reconcile(world: World, first: int = 0, *, holdings: SimHoldings | None = None) -> Reconciled:
    """By a provider of its own, which is honest."""
    state = await world.state()
    assert state.settled_number is not None
    span = checked_range(state, "anvil", BlockNumber(first), state.settled_number)
    check = Reconcile(
        chain=world.it.setup,
        provider=WindowedReader(SimulatedReader(world.it.chain, name="other"), monotonic=world.clock.monotonic),
        holdings=holdings or SimHoldings(world.it.chain),
        db=world.db,
        rescan="settler rescan --from {block} --to {block}",
        sleep=nothing,
    )
    return await check.run(span, state)


def kinds(found: Reconciled) -> list[BreakKind]:
    return [each.kind for each in found.breaks]


async def test_all_well__finds_nothing_and_changes_nothing(db: Database) -> None:
    world = await World.on(db)
    paid = await world.invoice("100")
    world.pay(paid, "101")
    world.send(world.sim_transfer(paid.options[0].pay_to, 0))
    world.mine(5)
    await world.catch_up()
    world.send(world.sim_transfer(SHOP, "30", sender=paid.options[0].pay_to))  # swept
    world.pay(paid, "5")
    world.mine(5)
    await world.catch_up()
    before = [await world.state(), await world.transfers(), await world.count(schema.events)]
    found = await reconcile(world)
    assert (found.breaks, found.notes) == ([], [])
    assert (found.found, found.matching, found.balances) == (3, 3, 1)
    assert [await world.state(), await world.transfers(), await world.count(schema.events)] == before


async def test_missed_payment__is_found__and_gone_after_a_rescan(db: Database, db_url: str) -> None:
    world = await World.on(db)
    invoice = await missed(world)
    found = await reconcile(world)
    (only,) = found.breaks
    assert (only.kind, only.amount_base, only.address) == (BreakKind.UNRECORDED, 100_000_000, invoice.options[0].pay_to)
    assert only.remedy == f"settler rescan --from {only.block_number} --to {only.block_number}"
    assert only.block_number is not None
    assert (await rescan(world, only.block_number, only.block_number)).added == 1
    assert (await reconcile(world)).breaks == []
    assert await world.status(invoice) == "settled"
    await audit(db_url)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"log_index": 9}, [BreakKind.MOVED]),
        ({"amount": 99}, [BreakKind.LEDGER, BreakKind.ALTERED]),
        ({"tx_hash": b"\x09" * 32}, [BreakKind.ALTERED]),
        ({"status": "orphaned"}, [BreakKind.LEDGER, BreakKind.UNRECORDED]),
    ],
    ids=str,
)
async def test_changed_record__is_a_break(db: Database, changes: dict[str, object], expected: list[BreakKind]) -> None:
    world = await World.on(db)
    world.pay(await world.invoice("100"))
    world.mine(5)
    await world.catch_up()
    async with db.write() as conn:
        await conn.execute(sa.update(schema.transfers).values(**changes))
    assert kinds(await reconcile(world)) == expected


async def test_invented_payment__is_not_on_the_chain(db: Database) -> None:
    world = await World.on(db)
    world.pay(await world.invoice("100"))
    world.mine(5)
    await world.catch_up()
    async with db.write() as conn:
        (row,) = await conn.execute(sa.select(schema.transfers))
        another = {**row._mapping, "id": "trf_invented", "tx_hash": b"\x0a" * 32}
        await conn.execute(sa.insert(schema.transfers).values(**another))
    found = await reconcile(world)
    assert kinds(found) == [BreakKind.LEDGER, BreakKind.GONE]
    assert found.breaks[1].transfer_id == "trf_invented"


async def test_money_without_logs__shows_in_the_balance(db: Database) -> None:
    """The provider leaves a payment out of its logs as well: what the address holds tells."""
    world = await World.on(db)
    invoice = await world.invoice("100")
    world.pay(invoice)
    world.mine(5)
    await world.catch_up()
    to = invoice.options[0].pay_to

    async def with_unlogged(amount: int, **holdings: int) -> Reconciled:
        return await reconcile(world, first=6, holdings=SimHoldings(world.it.chain, unlogged={to: amount}, **holdings))

    assert (await with_unlogged(7)).breaks == [], "it was there before"
    state = await world.state()
    assert state.settled_number is not None
    found = await with_unlogged(-7, state_from=state.settled_number)
    assert kinds(found) == [BreakKind.BALANCE]
    assert found.breaks[0].address == to
    assert "no state available for block 5" in found.notes[0]
    assert (await with_unlogged(7, state_from=state.settled_number)).breaks == [], "it may have been there before"
    pruned = await with_unlogged(7, state_from=10**6)
    assert (pruned.breaks, pruned.balances, len(pruned.notes)) == ([], 0, 1)


async def test_whole_chain__balances_begin_at_nothing(db: Database) -> None:
    world = await World.on(db)
    invoice = await world.invoice("100")
    world.mine(5)
    await world.catch_up()
    found = await reconcile(world, holdings=SimHoldings(world.it.chain, unlogged={invoice.options[0].pay_to: 7}))
    assert [(each.kind, each.amount_base) for each in found.breaks] == [(BreakKind.BALANCE, 7)]
    assert "holds 7 base units" in found.breaks[0].detail


async def test_paid_before_it_was_watched__is_no_break(db: Database) -> None:
    world = await World.on(db)
    world.send(world.sim_transfer(SHOP, "5"))
    world.mine(5)
    await world.catch_up()
    await world.invoice("100", pay_to=SHOP)
    found = await reconcile(world)
    assert (found.breaks, found.before_watched) == ([], 1)
    assert (await rescan(world)).added == 1, "who asks for it gets it"
    assert (await reconcile(world)).before_watched == 0


async def test_address_of_another_chain__is_promised_from_when_it_was_watched(db: Database) -> None:
    """Money on the wrong chain is to be found as well; no invoice names a block there."""
    world = await World.on(db)
    async with db.write() as conn:
        await chains.watch_addresses(conn, [SHOP], now=world.it.chain.head.time)
        world.it.chain.mine_empty(1)
    world.send(world.sim_transfer(SHOP, "5"))
    world.mine(5)
    lie(world, SILENT_LOGS)
    await world.catch_up()
    lie(world, HONEST)
    assert kinds(await reconcile(world)) == [BreakKind.UNRECORDED]


async def test_books_that_do_not_agree__are_breaks(sqlite_db: Database) -> None:
    world = await World.on(sqlite_db)
    world.pay(await world.invoice("100"), "101")
    world.mine(5)
    await world.catch_up()
    async with sqlite_db.write() as conn:
        names = await conn.execute(sa.text("SELECT name FROM sqlite_master WHERE type = 'trigger'"))
        for (name,) in names.all():
            await conn.execute(sa.text(f"DROP TRIGGER {name}"))
        line = schema.ledger_lines
        await conn.execute(sa.update(line).where(line.c.account == "settled").values(amount=1))
    found = await reconcile(world)
    assert set(kinds(found)) == {BreakKind.LEDGER}
    told = " ".join(each.detail for each in found.breaks)
    assert "does not sum to zero" in told
    assert "settled is -1 in the ledger, -100000000 by the settlements in force" in told


async def test_node_on_another_fork__is_one_break(db: Database) -> None:
    world = await World.on(db)
    world.pay(await world.invoice("100"))
    world.mine(5)
    await world.catch_up()
    world.it.chain.reorg(6, length=7)
    assert kinds(await reconcile(world)) == [BreakKind.FORK]


async def test_node_down__raises_and_changes_nothing(db: Database) -> None:
    world = await World.on(db)
    await world.catch_up()
    state = await world.state()
    assert state.settled_number is not None
    down = SimulatedReader(world.it.chain, faults=SimFaults(is_down=True))
    check = Reconcile(
        chain=world.it.setup,
        provider=WindowedReader(down, monotonic=world.clock.monotonic),
        holdings=SimHoldings(world.it.chain),
        db=db,
        rescan="",
        sleep=nothing,
    )
    with pytest.raises(Timeout):
        await check.run(BlockSpan(first=BlockNumber(0), last=state.settled_number), state)


async def test_first_block__is_the_lowest_that_is_known(db: Database) -> None:
    world = await World.on(db, start_at=20)
    chain_id = world.it.setup.chain_id

    async def first() -> int | None:
        async with db.read() as conn:
            return await books.first_block(conn, chain_id)

    opened = (await world.state()).settled_number
    assert opened is not None
    assert opened > 0
    assert await first() == opened
    world.pay(await world.invoice("1"))
    world.mine(10)
    await world.catch_up()
    assert await first() == opened
    async with db.write() as conn:
        await chains.drop_blocks(conn, chain_id, above=0)
    assert await first() == opened + 1, "what invoices were promised"
