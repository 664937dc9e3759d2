"""Expiry, late money, and what a dishonest or lagging node can and cannot do, over the simulated world."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import cast

import pytest
import sqlalchemy as sa

from chains.errors import BlockNotFound, ChainError, NodeInconsistent, Transient
from chains.model import BlockHash, BlockNumber, BlockRef, BlockSpan, ChainId, LogQuery, SpanRead, Tag
from chains.simulated import SimFaults, SimulatedReader
from settler.domain.finality import ByTag
from settler.domain.invoices import Allocation, Invoice, TransferRecord, TransferStatus, UnmatchedReason
from settler.domain.settlement import InvoicePolicy, LatePolicy
from settler.stages import omissions
from settler.stages.looking import TagUnusable
from settler.stages.opening import open_chain
from settler.storage import holds, schema
from settler.storage.chains import CursorMoved
from settler.storage.engine import Database
from tests.support.db import on_sqlite
from tests.support.world import World, token

ACCEPT = InvoicePolicy(late=LatePolicy.ACCEPT)
OTHER = ChainId(8453)
HOUR = 3_600


async def two_chains(db: Database) -> World:
    world = await World.on(db)
    await world.add_chain("base", tokens=[token(chain_id=OTHER)], seed=2)
    return world


def pass_expiry(world: World, invoice: Invoice, *, by_s: int = 1, on: str = "anvil") -> None:
    """Mines the pool and one block whose time is `by_s` after the expiry."""
    chain = world.chains[on].chain
    world.mine(on=on, after_s=round((invoice.expires_at - chain.head.time).total_seconds()) + by_s)


def mine_at_expiry(world: World, invoice: Invoice, *, on: str = "anvil") -> None:
    pass_expiry(world, invoice, by_s=0, on=on)


async def dump(world: World) -> dict[str, list[tuple[object, ...]]]:
    """All rows of what matters, to see that nothing was written."""
    tables = (
        schema.transfers,
        schema.invoices,
        schema.settlements,
        schema.ledger_lines,
        schema.events,
        schema.reversals,
    )
    async with world.db.read() as conn:
        return {
            t.name: [tuple(row) for row in await conn.execute(sa.select(t).order_by(*t.primary_key.columns))]
            for t in tables
        }


async def release_hold(world: World, invoice: Invoice) -> None:
    """As an operator does."""
    async with world.db.write() as conn:
        for hold in await holds.of_invoice(conn, invoice.id):
            await world.operating.release_hold(conn, hold.id, world.by("fine"))


# Expiry


async def test_expiry__by_the_time_of_the_newest_block_read_never_by_our_clock(db: Database) -> None:
    world = await World.on(db)
    invoice = await world.invoice(expires_in_s=HOUR)
    world.clock.advance(30 * 86_400)
    world.mine(5)
    await world.catch_up()
    assert await world.status(invoice) == "pending"
    mine_at_expiry(world, invoice)
    await world.catch_up()
    assert await world.status(invoice) == "pending"
    world.mine(after_s=1)
    await world.catch_up()
    view = await world.view(invoice.id)
    assert (view["status"], view["exceptions"]) == ("expired", [])
    assert await world.events(invoice.id) == ["invoice.created", "invoice.expired"]


async def test_expiry__a_chain_without_new_blocks__never(db: Database) -> None:
    world = await World.on(db)
    invoice = await world.invoice(expires_in_s=HOUR)
    world.clock.advance(365 * 86_400)
    for _ in range(3):
        await world.catch_up()
    assert await world.status(invoice) == "pending"


async def test_expiry__a_node_that_lags__waits_for_it(db: Database) -> None:
    world = await World.on(db)
    invoice = await world.invoice(expires_in_s=HOUR)
    world.it.reader.lag = 2
    world.pay(invoice)
    mine_at_expiry(world, invoice)
    world.mine(after_s=HOUR)
    await world.catch_up()
    assert await world.status(invoice) == "pending"
    world.it.reader.lag = 0
    world.mine(4)
    await world.catch_up()
    assert await world.status(invoice) == "settled"
    assert "invoice.expired" not in await world.events(invoice.id)


async def test_expiry__one_of_two_chains_lags__waits_for_both(db: Database) -> None:
    world = await two_chains(db)
    invoice = await world.invoice(expires_in_s=HOUR)
    pass_expiry(world, invoice, on="anvil")
    await world.catch_up()
    assert await world.status(invoice) == "pending"
    world.pay(invoice, option=1)
    mine_at_expiry(world, invoice, on="base")
    world.mine(4, on="base")
    await world.catch_up()
    assert await world.status(invoice) == "settled"


async def test_expiry__both_chains_past_it__expires(db: Database) -> None:
    world = await two_chains(db)
    invoice = await world.invoice(expires_in_s=HOUR)
    for name in world.chains:
        pass_expiry(world, invoice, on=name)
    await world.catch_up()
    assert await world.status(invoice) == "expired"


async def test_expiry__paid_in_time_and_not_final__is_processing_and_settles(db: Database) -> None:
    world = await World.on(db)
    invoice = await world.invoice(expires_in_s=HOUR)
    world.pay(invoice)
    mine_at_expiry(world, invoice)
    world.mine(1, after_s=HOUR)
    await world.catch_up()
    assert await world.status(invoice) == "processing"
    world.mine(3)
    await world.catch_up()
    assert await world.status(invoice) == "settled"


async def test_expiry__processing_and_a_reorg_takes_the_money__expires(db: Database) -> None:
    world = await World.on(db)
    invoice = await world.invoice(expires_in_s=HOUR)
    await world.catch_up()
    paid = world.pay(invoice)
    world.mine()
    await world.catch_up()
    assert await world.status(invoice) == "processing"
    world.it.chain.reorg(1, drop=[paid.hash], length=2)
    pass_expiry(world, invoice)
    await world.catch_up()
    assert await world.status(invoice) == "expired"


async def test_expiry__paid_in_time_and_found_by_the_second_reading_only__settles_after_all(db: Database) -> None:
    world = await World.on(db)
    invoice = await world.invoice(expires_in_s=HOUR)
    world.pay(invoice)
    world.mine()
    pass_expiry(world, invoice)
    world.it.reader.faults = SimFaults(empty_logs_rate=1.0)
    await world.watch()
    await world.expire()
    assert await world.status(invoice) == "expired"
    world.it.reader.faults = SimFaults()
    world.mine(3)
    await world.catch_up()
    view = await world.view(invoice.id)
    assert (view["status"], view["exceptions"]) == ("settled", [])
    assert await world.events(invoice.id) == ["invoice.created", "invoice.expired", "invoice.settled"]


async def test_expiry__underpaid__says_so_and_keeps_the_payments(db: Database) -> None:
    world = await World.on(db)
    invoice = await world.invoice("100", expires_in_s=HOUR)
    world.pay(invoice, "99.999999")
    world.mine()
    pass_expiry(world, invoice)
    world.mine(4)
    await world.catch_up()
    view = await world.view(invoice.id)
    assert (view["status"], view["exceptions"], view["amount_received"]) == ("expired", ["underpaid"], "99.999999")
    assert [p["status"] for p in view["payments"]] == ["final"]
    assert await world.count(schema.settlements) == 0


async def test_tolerance__a_little_missing__settles_what_came(db: Database) -> None:
    policy = InvoicePolicy(underpayment_tolerance_bps=100, underpayment_tolerance_max=10**17)
    world = await World.on(db, policy=policy)
    enough, short = await world.invoice("100"), await world.invoice("100")
    world.pay(enough, "99.9")
    world.pay(short, "99.899999")
    world.mine(5)
    await world.catch_up()
    assert [await world.status(i) for i in (enough, short)] == ["settled", "pending"]
    assert (await world.view(enough.id))["amount_settled"] == "99.90"


# Late money


async def test_late__accepted__settles(db: Database) -> None:
    world = await World.on(db, policy=ACCEPT)
    invoice = await world.invoice(expires_in_s=HOUR)
    world.pay(invoice)
    pass_expiry(world, invoice)
    world.mine(4)
    await world.catch_up()
    view = await world.view(invoice.id)
    assert (view["status"], view["exceptions"]) == ("settled", ["late"])


async def test_late__held__until_an_operator_releases_it(db: Database) -> None:
    world = await World.on(db)
    invoice = await world.invoice(expires_in_s=HOUR)
    pass_expiry(world, invoice)
    await world.catch_up()
    assert await world.status(invoice) == "expired"
    world.pay(invoice)
    world.mine(4)
    await world.catch_up()
    view = await world.view(invoice.id)
    assert (view["status"], view["exceptions"]) == ("expired", ["late", "on_hold"])
    assert await world.count(schema.holds) == 1
    assert await world.count(schema.settlements) == 0
    await world.catch_up()
    assert await world.events(invoice.id) == ["invoice.created", "invoice.expired", "invoice.on_hold"]


async def test_late__hold_released__the_next_look_settles_it(db: Database) -> None:
    """Found by reading: `Expire` promises to settle what was left when a hold is released, and asks the database for
    processing invoices only; a held one is expired, so the release would change nothing for good."""
    world = await World.on(db)
    invoice = await world.invoice(expires_in_s=HOUR)
    world.pay(invoice)
    pass_expiry(world, invoice)
    world.mine(4)
    await world.catch_up()
    await release_hold(world, invoice)
    await world.expire()
    assert await world.status(invoice) == "settled"


async def test_late__hold_released_and_more_money_comes__settles(db: Database) -> None:
    world = await World.on(db)
    invoice = await world.invoice("100", expires_in_s=HOUR)
    world.pay(invoice, "100")
    pass_expiry(world, invoice)
    world.mine(4)
    await world.catch_up()
    await release_hold(world, invoice)
    world.pay(invoice, "1")
    world.mine(4)
    await world.catch_up()
    view = await world.view(invoice.id)
    assert (view["status"], view["exceptions"], view["amount_received"]) == ("settled", ["late"], "100.00")
    assert [t.reason for t in await world.transfers()] == [None, UnmatchedReason.SURPLUS]


async def test_late__final_before_the_expiry_is_noticed__tells_of_expiry_and_hold(db: Database) -> None:
    """Found by reading: a chain that catches up reads expiry and late money in one transaction, the invoice became
    `expired`, and only `invoice.on_hold` told of it."""
    world = await World.on(db)
    invoice = await world.invoice(expires_in_s=HOUR)
    world.pay(invoice)
    pass_expiry(world, invoice)
    world.mine(4)
    await world.settle()
    assert await world.status(invoice) == "expired"
    assert await world.events(invoice.id) == ["invoice.created", "invoice.expired", "invoice.on_hold"]


async def test_late__after_monitoring__is_suspense(db: Database) -> None:
    world = await World.on(db, policy=ACCEPT)
    invoice = await world.invoice(expires_in_s=HOUR)
    world.pay(invoice)
    pass_expiry(world, invoice, by_s=86_401)
    world.mine(4)
    await world.catch_up()
    (late,) = await world.transfers()
    assert (late.allocation, late.reason) == (Allocation.UNMATCHED, UnmatchedReason.LATE)
    assert await world.status(invoice) == "expired"


async def test_late__beside_a_payment_in_time__is_left_in_suspense(db: Database) -> None:
    world = await World.on(db)
    invoice = await world.invoice(expires_in_s=HOUR)
    world.pay(invoice)
    world.mine()
    world.pay(invoice)
    pass_expiry(world, invoice)
    world.mine(4)
    await world.catch_up()
    assert await world.status(invoice) == "settled"
    assert [t.reason for t in await world.transfers()] == [None, UnmatchedReason.SURPLUS]


# Finality


async def tag_world(db: Database) -> World:
    world = await World.on(db, finality=ByTag(tag=Tag.FINALIZED), start_at=100)
    await world.catch_up()
    return world


async def test_tag__settles_what_it_says(db: Database) -> None:
    world = await tag_world(db)
    invoice = await world.invoice()
    world.pay(invoice)
    world.mine(63)
    await world.catch_up()
    assert await world.status(invoice) == "processing"
    world.mine()
    await world.catch_up()
    assert await world.status(invoice) == "settled"


async def test_tag__with_a_least_depth__waits_for_both(db: Database) -> None:
    world = await World.on(db, finality=ByTag(tag=Tag.FINALIZED, min_depth=70), start_at=100)
    invoice = await world.invoice()
    world.pay(invoice)
    world.mine(69)
    await world.catch_up()
    assert await world.status(invoice) == "processing"
    world.mine()
    await world.catch_up()
    assert await world.status(invoice) == "settled"


async def test_tag__equal_to_the_head__settles_nothing(db: Database) -> None:
    world = await tag_world(db)
    invoice = await world.invoice()
    world.pay(invoice)
    world.mine(200)
    world.it.chain.set_finalized_lag(0)
    with pytest.raises(TagUnusable, match="equals the head"):
        await world.settle()
    await world.watch()
    assert await world.status(invoice) == "processing"


async def test_tag__stuck__settles_nothing(db: Database) -> None:
    world = await tag_world(db)
    invoice = await world.invoice()
    world.pay(invoice)
    world.mine(200)
    world.mine(after_s=2 * 86_400)
    with pytest.raises(TagUnusable, match="trails the head"):
        await world.settle()
    assert await world.status(invoice) == "pending"


async def test_tag__not_known_any_more__settles_nothing(db: Database) -> None:
    world = await tag_world(db)
    invoice = await world.invoice()
    world.pay(invoice)
    world.mine(200)
    world.it.chain.set_finalized_lag(None)
    with pytest.raises(ChainError):
        await world.settle()
    assert await world.status(invoice) == "pending"


async def test_tag__retracted__what_is_final_stays_so(db: Database) -> None:
    world = await tag_world(db)
    invoice = await world.invoice()
    world.pay(invoice)
    world.mine(64)
    await world.catch_up()
    before = await world.state()
    world.it.chain.set_finalized_lag(90)
    await world.catch_up()
    after = await world.state()
    assert (after.final_number, after.settled_number) == (before.final_number, before.settled_number)
    assert await world.status(invoice) == "settled"


async def forget_cursors(db: Database, chain_id: ChainId) -> None:
    """As though the chain had never been opened."""
    cursors = ("scanned_number", "scanned_hash", "scanned_time", "settled_number", "settled_hash", "settled_time")
    row = sa.update(schema.chains).where(schema.chains.c.chain_id == chain_id)
    async with db.write() as conn:
        await conn.execute(row.values(dict.fromkeys(cursors)))


async def test_start_block_above_the_final_height__an_ordinary_reorg_halts_nothing(db: Database) -> None:
    """Found by reading: `start_block = <the head>` put the settled height where nothing is final, and the next reorg
    of one block was taken for a finality violation."""
    world = await World.on(db)
    where = await world.add_chain("base", tokens=[token(chain_id=OTHER)], seed=2)
    await forget_cursors(db, OTHER)
    setup = replace(where.setup, start_block=where.chain.head.number)
    await open_chain(setup, pool=where.providers, db=db, clock=world.clock)
    assert (await world.state("base")).settled_number == where.chain.head.number - 3
    where.chain.reorg(2, length=3)
    for _ in range(5):
        await where.watch.tick()
        await where.settle.tick()
    assert not (await world.state("base")).is_halted


async def test_start_block_not_mined_yet__waits(db: Database) -> None:
    world = await World.on(db)
    await forget_cursors(db, world.it.setup.chain_id)
    setup = replace(world.it.setup, start_block=BlockNumber(1_000))
    with pytest.raises(BlockNotFound, match="not mined yet"):
        await open_chain(setup, pool=world.it.providers, db=db, clock=world.clock)


# Nodes that are not to be trusted


class Bent:
    """A reader whose answers can be bent, one hook a kind of answer."""

    def __init__(self, reader: SimulatedReader) -> None:
        self._reader = reader
        self.claims_head: BlockRef | None = None
        self.max_span: int | None = None

    def __getattr__(self, name: str) -> object:
        return getattr(self._reader, name)

    async def headers(self, wanted: Sequence[BlockNumber | Tag]) -> tuple[BlockRef | None, ...]:
        found = await self._reader.headers(wanted)
        if self.claims_head is None:
            return found
        return tuple(self.claims_head if w is Tag.LATEST else f for w, f in zip(wanted, found, strict=True))

    async def read_span(self, span: BlockSpan, query: LogQuery, *, anchor: BlockNumber | None = None) -> SpanRead:
        self._reader.faults = SimFaults(max_span=self.max_span)
        return await self._reader.read_span(span, query, anchor=anchor)


def bend(world: World) -> Bent:
    bent = Bent(world.it.reader)
    world.it.readers = [cast("SimulatedReader", bent)]  # stands in for it, and passes all else on
    world.restart()
    return bent


async def test_head_made_up_once__is_forgotten_when_the_node_is_right_again(db: Database) -> None:
    """Found by the fault proxy: one answer with a head 100,000 blocks ahead stood in the database for good. The first
    reading took the chain for far behind and left it to the second, the lag was 0, and a restart did not help."""
    world = await World.on(db)
    await world.catch_up()
    bent = bend(world)
    head = world.it.chain.head
    bent.claims_head = replace(head, number=BlockNumber(head.number + 100_000), hash=BlockHash(b"\x66" * 32))
    for stage in (world.it.watch, world.it.settle):
        with suppress(ChainError):
            await stage.tick()
            await stage.tick()
    bent.claims_head = None
    world.restart()
    invoice = await world.invoice()
    world.pay(invoice)
    world.mine(1)
    await world.watch()
    assert await world.status(invoice) == "processing"
    assert (await world.state()).head_number == world.it.chain.head.number
    world.mine(3)
    await world.catch_up()
    state = await world.state()
    assert state.final_number == state.settled_number == world.it.chain.head.number - 3
    assert await world.status(invoice) == "settled"


async def test_head_that_does_not_exist__settles_nothing_early(db: Database) -> None:
    """Found by reading: the final height that follows from a head somebody claimed was kept in the database and never
    looked at again. A node that once reported a head too high (its own fork, a bad cache) made everything up to the
    real head final from then on, with no block standing on it."""
    world = await World.on(db)
    await world.catch_up()
    bent = bend(world)
    head = world.it.chain.head
    bent.claims_head = replace(head, number=BlockNumber(head.number + 50), hash=BlockHash(b"\x66" * 32))
    await world.it.settle.tick()
    bent.claims_head, bent.max_span = None, 2
    invoice = await world.invoice()
    world.pay(invoice)
    world.mine(1)
    for _ in range(20):
        try:
            await world.it.settle.tick()
        except Transient:
            continue
    assert await world.status(invoice) != "settled"
    assert (await world.state()).settled_number == world.it.chain.head.number - 3
    world.mine(3)
    await world.catch_up()
    assert await world.status(invoice) == "settled"


async def test_second_reading_leaves_out_what_the_first_saw__is_asked_again(db: Database) -> None:
    """Found by reading: there is one provider a chain in this version. One answer with no logs for a final range (a
    node whose log index lags its blocks) orphaned a payment that was seen and stands in a block still there, and
    nobody would ever have read that block again."""
    world = await World.on(db)
    invoice = await world.invoice()
    world.pay(invoice)
    world.mine(3)
    await world.watch()
    assert await world.status(invoice) == "processing"
    world.it.reader.faults = SimFaults(empty_logs_rate=1.0)
    with pytest.raises(NodeInconsistent, match="are left out"):
        await world.settle()
    assert [t.status for t in await world.transfers()] == [TransferStatus.DETECTED]
    world.it.reader.faults = SimFaults()
    await world.settle()
    assert await world.status(invoice) == "settled"


async def test_first_reading_sees_a_payment_while_the_second_decides_without_it__is_read_again(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await World.on(db)
    invoice = await world.invoice()
    world.pay(invoice)
    world.mine(4)
    settle, evidence = world.it.settle, world.it.settle._examiner.evidence

    async def slow(read: SpanRead, query: LogQuery, sources: tuple[str, ...]) -> object:
        monkeypatch.undo()
        world.it.reader.faults = SimFaults()
        await world.watch()
        return await evidence(read, query, sources)

    monkeypatch.setattr(settle._examiner, "evidence", slow)
    world.it.reader.faults = SimFaults(empty_logs_rate=1.0)
    await settle.tick()
    with pytest.raises(NodeInconsistent, match="seen 1 of 3 times"):
        await settle.tick()
    assert [t.status for t in await world.transfers()] == [TransferStatus.DETECTED]
    await world.settle()
    assert await world.status(invoice) == "settled"
    assert "payment.orphaned" not in await world.events()


async def test_first_reading_sees_a_payment_while_others_that_are_left_out_are_checked__is_read_again(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by reading: what was detected is looked up once to ask whether it was left out, and once more in the
    transaction that orphans what is missing; a payment recorded in between was orphaned at the first sighting."""
    monkeypatch.setattr(omissions, "SIGHTINGS", 1)
    world = await World.on(db)
    early, late = await world.invoice(), await world.invoice()
    world.pay(early)
    world.mine()
    await world.watch()
    world.pay(late)
    world.mine(4)
    settle, check = world.it.settle, world.it.settle._omissions.check

    async def slow(held: Iterable[TransferRecord], read: SpanRead) -> object:
        checked = await check(held, read)
        world.it.reader.faults = SimFaults()
        await world.watch()
        return checked

    monkeypatch.setattr(settle._omissions, "check", slow)
    world.it.reader.faults = SimFaults(empty_logs_rate=1.0)
    await settle.tick()
    with pytest.raises(CursorMoved):
        await settle.tick()
    assert [t.status for t in await world.transfers()] == [TransferStatus.DETECTED] * 2
    await world.settle()
    assert [await world.status(invoice) for invoice in (early, late)] == ["settled"] * 2
    assert "payment.orphaned" not in await world.events()


async def test_first_reading_invented_a_payment__the_second_is_believed_in_the_end(db: Database) -> None:
    world = await World.on(db)
    invoice = await world.invoice()
    fake = world.pay(invoice)
    real = world.it.chain
    world.mine(3)
    await world.watch()
    assert await world.status(invoice) == "processing"
    world.it.reader.faults = SimFaults(omitted_log_rate=1.0)
    for _ in range(3):
        try:
            await world.settle()
        except NodeInconsistent:
            continue
    (gone,) = await world.transfers()
    assert (gone.identity.tx_hash, gone.status) == (fake.hash, TransferStatus.ORPHANED)
    assert await world.status(invoice) == "pending"
    assert (await world.state()).settled_number == real.head.number - 3


async def test_final_payment_shown_again_elsewhere__is_not_booked_twice(db: Database) -> None:
    """Found by reading: a node that showed a final payment once more in a later block moved it there, and its receipt
    was booked a second time."""
    world = await World.on(db)
    invoice = await world.invoice()
    paid = world.pay(invoice)
    world.mine(4)
    await world.catch_up()
    assert await world.status(invoice) == "settled"
    before = await dump(world)
    world.it.chain.mine([paid])
    world.mine(5)
    with pytest.raises(NodeInconsistent, match="final"):
        await world.settle()
    assert await dump(world) == before


async def test_final_payment_shown_again_to_the_first_reading__stays_final(db: Database) -> None:
    world = await World.on(db)
    invoice = await world.invoice()
    paid = world.pay(invoice)
    world.mine(4)
    await world.catch_up()
    before = await dump(world)
    world.it.chain.mine([paid])
    await world.watch()
    assert await dump(world) == before


@on_sqlite
@pytest.mark.parametrize(
    "faults",
    [
        SimFaults(is_down=True),
        SimFaults(transient_rate=1.0),
        SimFaults(missing_end_rate=1.0),
        SimFaults(stale_head_rate=1.0, stale_blocks=3),
    ],
    ids=["down", "transient", "missing end", "stale"],
)
async def test_node_trouble__writes_nothing_and_heals(db: Database, faults: SimFaults) -> None:
    world = await World.on(db)
    await world.catch_up()
    invoice = await world.invoice()
    before = await dump(world)
    world.pay(invoice)
    world.mine(3)
    world.it.reader.faults = faults
    for stage in (world.it.watch, world.it.settle) * 4:
        try:
            await stage.tick()
        except ChainError:
            continue
    if not faults.stale_head_rate:
        assert await dump(world) == before
    assert await world.count(schema.settlements) == 0
    world.it.reader.faults = SimFaults()
    await world.catch_up()
    assert await world.status(invoice) == "settled"


async def test_invoice_made_on_a_fork_with_a_lower_head__takes_what_is_paid_there(db: Database) -> None:
    """Found by a test of something else: the highest head ever seen was kept when a fork with a lower one took its
    place, and what was then paid below that height counted as older than the invoice."""
    world = await World.on(db)
    world.mine(10)
    await world.catch_up()
    world.it.chain.mine_empty(10)
    await world.it.watch.tick()  # has seen the head and read nothing yet
    world.it.chain.reorg(12, length=4)
    with pytest.raises(BlockNotFound):
        await world.watch()
    await world.watch()
    assert (await world.state()).head_number == world.it.chain.head.number
    invoice = await world.invoice()
    world.pay(invoice)
    world.mine(4)
    await world.catch_up()
    assert await world.status(invoice) == "settled"


async def test_cursor_of_the_first_reading_on_a_fork_at_the_settled_height__follows(db: Database) -> None:
    """Found by reading: when the first reading stood on a fork exactly where the second one arrived, its cursor kept
    the fork's hash; the walk back found the second one's header there, said all was well, and stood still."""
    world = await World.on(db)
    await world.catch_up()
    real, twin = world.it.chain, world.it.chain.forked("alone")
    twin.mine_empty(1)
    world.it.reader.chain = twin
    await world.watch()
    real.mine_empty(4)
    world.it.reader.chain = real
    await world.settle()
    state = await world.state()
    assert state.settled_number == twin.head.number
    assert state.scanned_hash == state.settled_hash
    await world.watch()
    assert (await world.state()).scanned_number == real.head.number
