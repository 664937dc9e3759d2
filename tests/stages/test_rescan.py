"""Reading a past range again, over a simulated chain with the real store: what was missed is added, nothing is taken
back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
import sqlalchemy as sa

from chains.errors import ChainError, Disagreement, NodeInconsistent, QuorumLost, Timeout
from chains.model import BlockNumber
from chains.simulated import SimFaults
from settler.domain.invoices import Invoice, TransferStatus, UnmatchedReason
from settler.domain.reconciling import BreakKind
from settler.stages.rereading import TRIES, RangeRefused, checked_range
from settler.stages.rescan import Rescan, Rescanned
from settler.stages.setup import Judgement
from settler.storage import schema
from settler.storage.chains import CursorMoved
from settler.storage.engine import Database
from tests.support.dump import audit
from tests.support.world import World

HONEST = SimFaults()
SILENT_LOGS = SimFaults(empty_logs_rate=1.0)


async def nothing(_seconds: float) -> None:
    return None


def rescan_of(
    world: World, *, quorum: int | None = None, sleep: Callable[[float], Awaitable[None]] = nothing
) -> Rescan:
    it = world.it
    return Rescan(
        chain=it.setup if quorum is None else replace(it.setup, quorum=quorum),
        pool=it.providers,
        db=world.db,
        clock=world.clock,
        judgement=Judgement(policy=world.policy),
        sleep=sleep,
    )


async def rescan(world: World, first: int = 0, last: int | None = None, *, quorum: int | None = None) -> Rescanned:
    """Of all that is settled, or that range."""
    state = await world.state()
    assert state.settled_number is not None
    end = state.settled_number if last is None else BlockNumber(last)
    span = checked_range(state, "anvil", BlockNumber(first), end)
    return await rescan_of(world, quorum=quorum).run(span, state)


def lie(world: World, faults: SimFaults) -> None:
    for reader in world.it.readers:
        reader.faults = faults


async def missed(world: World, amount: str = "100") -> Invoice:
    """An invoice that was paid while every provider left its logs out: both readings passed by."""
    invoice = await world.invoice(amount)
    world.pay(invoice, amount)
    world.mine(5)
    lie(world, SILENT_LOGS)
    await world.catch_up()
    lie(world, HONEST)
    assert await world.status(invoice) == "pending"
    return invoice


async def test_payment_that_all_providers_left_out__is_added_and_settled(db: Database, db_url: str) -> None:
    world = await World.on(db)
    invoice = await missed(world)
    before = await world.state()

    done = await rescan(world)

    assert (done.found, done.added, done.settled, done.breaks) == (1, 1, 1, ())
    assert done.blocks == before.settled_number + 1 if before.settled_number is not None else False
    assert await world.status(invoice) == "settled"
    assert (await world.transfers())[0].status is TransferStatus.FINAL
    assert await world.events(invoice.id) == ["invoice.created", "invoice.settled"]
    after = await world.state()
    assert after.risks_number == after.settled_number, "what the token announced was read before it settled"
    assert replace(after, risks_number=before.risks_number, updated_at=before.updated_at) == before, (
        "cursors stay where they are"
    )
    assert await world.count(schema.payment_evidence) == 1
    await audit(db_url)

    again = await rescan(world)

    assert (again.found, again.added, again.settled, again.breaks) == (1, 0, 0, ())
    assert await world.count(schema.settlements) == 1
    assert await world.events(invoice.id) == ["invoice.created", "invoice.settled"]
    await audit(db_url)


async def test_second_reading_goes_on_beside_it(db: Database, db_url: str) -> None:
    world = await World.on(db)
    early = await missed(world)
    late = await world.invoice("7")
    world.pay(late)
    world.mine(20)
    await asyncio.gather(rescan(world), world.settle())
    await world.catch_up()
    assert [await world.status(i) for i in (early, late)] == ["settled", "settled"]
    await audit(db_url)


async def test_orphaned_though_it_is_there__comes_back(db: Database, db_url: str) -> None:
    world = await World.on(db)
    invoice = await world.invoice("100")
    world.pay(invoice)
    world.mine(5)
    await world.watch()
    assert await world.status(invoice) == "processing"
    lie(world, SILENT_LOGS)
    for _ in range(10):  # payments left out are given up after several readings
        try:
            await world.settle()
        except NodeInconsistent:
            world.clock.advance(60)
    lie(world, HONEST)
    world.clock.advance(60)
    assert (await world.transfers())[0].status is TransferStatus.ORPHANED
    assert (await rescan(world)).added == 1
    assert await world.status(invoice) == "settled"
    await audit(db_url)


async def test_final_payment_that_is_not_shown__is_reported_and_stays(db: Database, db_url: str) -> None:
    world = await World.on(db)
    invoice = await world.invoice("100")
    world.pay(invoice)
    world.mine(5)
    await world.catch_up()
    (held,) = await world.transfers()
    lie(world, SILENT_LOGS)
    done = await rescan(world)
    (found,) = done.breaks
    assert (found.kind, found.transfer_id, found.block_number) == (BreakKind.GONE, held.id, held.block_number)
    assert f"--from {held.block_number} --to {held.block_number} --rpc URL" in found.remedy
    assert await world.transfers() == [held]
    assert await world.status(invoice) == "settled"
    await audit(db_url)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"log_index": 9}, BreakKind.MOVED),
        ({"block_hash": b"\x09" * 32}, BreakKind.MOVED),
        ({"amount": 99}, BreakKind.ALTERED),
        ({"sender": b"\x09" * 20}, BreakKind.ALTERED),
        ({"tx_hash": b"\x09" * 32}, BreakKind.ALTERED),
    ],
    ids=str,
)
async def test_record_that_the_chain_contradicts__is_reported(
    db: Database, changes: dict[str, object], kind: BreakKind
) -> None:
    """An altered record is not booked a second time under what the chain calls it."""
    world = await World.on(db)
    world.pay(await world.invoice("100"))
    world.mine(5)
    await world.catch_up()
    async with db.write() as conn:
        await conn.execute(sa.update(schema.transfers).values(**changes))
    done = await rescan(world)
    assert [found.kind for found in done.breaks] == [kind]
    assert done.added == 0


async def test_evidence__is_replaced_by_that_of_the_quorum_now(db: Database) -> None:
    world = await World.on(db, providers=3, quorum=1)
    world.pay(await world.invoice("100"))
    world.mine(5)
    await world.catch_up()
    e = schema.payment_evidence

    async def stored() -> list[tuple[object, object]]:
        async with db.read() as conn:
            return [(row.sources, row.proof) for row in await conn.execute(sa.select(e))]

    assert await stored() == [(["node-0"], None)]
    await rescan(world, quorum=2)
    assert await stored() == [(["node-0", "node-1"], None)]
    async with db.write() as conn:
        await conn.execute(sa.update(e).values(proof={"version": 1}, sources=["once"]))
    await rescan(world, quorum=2)
    assert await stored() == [(["once"], {"version": 1})], "a proof is not given up for the lack of one"


async def test_minority_that_lies__adds_nothing(db: Database) -> None:
    world = await World.on(db, providers=3, quorum=2)
    world.pay(await world.invoice("100"))
    world.mine(5)
    await world.catch_up()
    world.it.readers[0].faults = SILENT_LOGS
    done = await rescan(world)
    assert (done.found, done.added, done.breaks) == (1, 0, ())
    assert world.counted.disagreements["node-0"] > 0


async def test_providers_that_never_agree__change_nothing_and_it_ends(db: Database) -> None:
    world = await World.on(db, providers=2, quorum=2)
    invoice = await missed(world)
    world.it.readers[0].faults = SILENT_LOGS
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        world.clock.advance(seconds)

    state = await world.state()
    assert state.settled_number is not None
    span = checked_range(state, "anvil", BlockNumber(0), state.settled_number)
    again = rescan_of(world, sleep=sleep)
    with pytest.raises((Disagreement, QuorumLost)):
        await again.run(span, state)
    assert len(slept) == TRIES - 1
    assert again.done == Rescanned()
    assert await world.status(invoice) == "pending"


async def test_provider_that_comes_back__is_waited_for(db: Database) -> None:
    world = await World.on(db)
    await missed(world)
    lie(world, SimFaults(is_down=True))

    async def sleep(seconds: float) -> None:
        world.clock.advance(seconds)
        lie(world, HONEST)

    state = await world.state()
    assert state.settled_number is not None
    span = checked_range(state, "anvil", BlockNumber(0), state.settled_number)
    assert (await rescan_of(world, sleep=sleep).run(span, state)).added == 1
    lie(world, SimFaults(is_down=True))
    with pytest.raises(Timeout):
        await rescan(world)


async def test_long_range__is_committed_piece_by_piece(db: Database) -> None:
    world = await World.on(db)
    invoices = []
    for n in range(3):
        invoices.append(await world.invoice(str(10 + n)))
        world.pay(invoices[-1])
        world.mine(3_000)
    lie(world, SILENT_LOGS)
    await world.catch_up()
    lie(world, HONEST)
    state = await world.state()
    assert state.settled_number is not None
    span = checked_range(state, "anvil", BlockNumber(6), state.settled_number)
    again = rescan_of(world)
    steps: list[int] = []

    def on_piece(done: Rescanned) -> None:
        steps.append(done.blocks)
        if done.added == 2:
            lie(world, SimFaults(is_down=True))

    with pytest.raises(ChainError):
        await again.run(span, state, on_piece)
    assert again.done.added == 2
    assert again.done.up_to is not None
    assert steps == sorted(set(steps))
    lie(world, HONEST)
    rest = await rescan(world, again.done.up_to + 1)
    assert rest.added == 1
    assert [await world.status(i) for i in invoices] == ["settled"] * 3


async def test_providers_on_another_fork__are_not_read_from(db: Database) -> None:
    world = await World.on(db)
    await missed(world)
    world.it.chain.reorg(6)
    with pytest.raises(NodeInconsistent, match="another block at the settled height"):
        await rescan(world)


async def test_halted_meanwhile__writes_nothing_above_the_height_it_went_back_to(db: Database) -> None:
    world = await World.on(db)
    invoice = await missed(world)
    state = await world.state()
    assert state.settled_number is not None
    span = checked_range(state, "anvil", BlockNumber(0), state.settled_number)
    async with db.write() as conn:
        await conn.execute(sa.update(schema.chains).values(settled_number=state.settled_number - 1))
    with pytest.raises(CursorMoved, match="halted meanwhile"):
        await rescan_of(world).run(span, state)
    assert await world.status(invoice) == "pending"


async def test_money_to_nobodys_invoice__goes_to_suspense(db: Database) -> None:
    world = await World.on(db)
    invoice = await world.invoice("100")
    world.pay(invoice, "100")
    world.mine(5)
    await world.catch_up()
    world.pay(invoice, "5")
    world.mine(5)
    lie(world, SILENT_LOGS)
    await world.catch_up()
    lie(world, HONEST)
    assert (await rescan(world)).added == 1
    assert [t.reason for t in await world.transfers()] == [None, UnmatchedReason.SURPLUS]


@pytest.mark.parametrize(
    ("first", "above", "reason"),
    [(0, 1, "is settled up to block"), (9, -10_000, "is no range"), (-1, 0, "is no range")],
)
async def test_range_that_is_none__is_refused(sqlite_db: Database, first: int, above: int, reason: str) -> None:
    world = await World.on(sqlite_db)
    world.mine(20)
    await world.catch_up()
    state = await world.state()
    assert state.settled_number is not None
    last = BlockNumber(max(0, state.settled_number + above))
    with pytest.raises(RangeRefused, match=reason):
        checked_range(state, "anvil", BlockNumber(first), last)
    with pytest.raises(RangeRefused, match="not read yet"):
        checked_range(None, "anvil", BlockNumber(0), BlockNumber(0))
