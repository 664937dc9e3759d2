"""Far behind, the second reading reads on while it commits: what that may never change, whatever goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path

import pytest

from chains.errors import Disagreement, NodeInconsistent, Transient
from chains.logs_window import FIRST_BLOCKS
from chains.model import (
    Address,
    BaseUnits,
    BlockHash,
    BlockNumber,
    BlockRef,
    BlockSpan,
    ChainId,
    LogQuery,
    SpanRead,
    Transfer,
    TransferIdentity,
    TxHash,
)
from settler.domain.invoices import Invoice
from settler.stages.side_by_side import JOINED_TRANSFERS_MAX, PARALLEL_SPANS, gathered
from settler.storage.engine import Database, StorageUnavailable
from tests.support.lying import liar, omits
from tests.support.memory import in_memory
from tests.support.world import World

FIRST_GROUP = PARALLEL_SPANS * FIRST_BLOCKS
"""Blocks of the first reading of a provider nothing is known of."""
PAYMENTS = 12


@pytest.fixture
async def db(sqlite_template: Path) -> AsyncIterator[Database]:
    """In memory: what is tested here is not how a database stores it."""
    opened = await in_memory(sqlite_template)
    yield opened
    await opened.dispose()


async def far_behind(db: Database, *, providers: int = 1) -> tuple[World, list[Invoice]]:
    """A chain with a payment every now and then, of which nothing is read yet. All providers have to agree."""
    world = await World.on(db, providers=providers, quorum=providers)
    invoices = [await world.invoice(str(10 + number)) for number in range(PAYMENTS)]
    for invoice in invoices:
        world.pay(invoice)
        world.mine(FIRST_BLOCKS)
    return world, invoices


async def look(world: World) -> None:
    """The next tick is the first that reads."""
    while "final" not in (await world.it.settle.tick()).facts:
        pass


async def settled(world: World) -> int:
    return (await world.state()).settled_number or 0


async def all_settle(world: World, invoices: list[Invoice]) -> None:
    await world.settle()
    assert await settled(world) == world.it.chain.head.number - 3
    assert [await world.status(invoice) for invoice in invoices] == ["settled"] * PAYMENTS
    events = await world.events()
    assert events.count("invoice.settled") == PAYMENTS
    assert events.count("payment.final") == PAYMENTS


def ahead() -> list[str]:
    """Readings that are under way."""
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("ahead:")]


def fail_spans_above(world: World, monkeypatch: pytest.MonkeyPatch, height: int) -> None:
    reader = world.it.reader
    read_span = reader.read_span

    async def failing(span: BlockSpan, query: LogQuery, *, anchor: BlockNumber | None = None) -> SpanRead:
        if span.first > height:
            raise Transient("not now")
        return await read_span(span, query, anchor=anchor)

    monkeypatch.setattr(reader, "read_span", failing)


async def test_tick__while_it_commits__reads_what_follows(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    world, invoices = await far_behind(db)
    begin = await settled(world)
    await look(world)
    assert (await world.it.settle.tick()).has_more
    assert await settled(world) == begin + FIRST_GROUP
    assert ahead() == []
    fail_spans_above(world, monkeypatch, begin)
    await world.it.settle.tick()
    assert await settled(world) > begin + FIRST_GROUP, "it was read before the node answered no more"
    monkeypatch.undo()
    await all_settle(world, invoices)


async def test_tick__reading_ahead_fails__what_is_committed_stands_and_the_next_tick_asks_anew(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, invoices = await far_behind(db)
    begin = await settled(world)
    await look(world)
    fail_spans_above(world, monkeypatch, begin + FIRST_GROUP)
    assert (await world.it.settle.tick()).has_more
    assert await settled(world) == begin + FIRST_GROUP
    with pytest.raises(Transient, match="not now"):
        await world.it.settle.tick()
    monkeypatch.undo()
    await all_settle(world, invoices)


async def test_tick__commit_fails__the_reading_ahead_is_forgotten(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, invoices = await far_behind(db)
    begin = await settled(world)
    await look(world)

    async def refused(*_: object) -> object:
        await asyncio.sleep(0)  # the reading ahead is under way
        raise StorageUnavailable("the database is away")

    monkeypatch.setattr(world.it.settle, "_commit", refused)
    with pytest.raises(StorageUnavailable):
        await world.it.settle.tick()
    assert ahead() == []
    assert await settled(world) == begin
    monkeypatch.undo()
    await all_settle(world, invoices)


@pytest.mark.parametrize("at", ["_commit", "_examiner.evidence"])
async def test_tick__cut_off_half_way__leaves_no_reading_behind(
    db: Database, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    world, invoices = await far_behind(db)
    begin = await settled(world)
    await look(world)
    reached = asyncio.Event()

    async def hanging(*_: object, **__: object) -> None:
        reached.set()
        await asyncio.sleep(3_600)

    *part, name = at.split(".")
    monkeypatch.setattr(attrgetter(*part)(world.it.settle) if part else world.it.settle, name, hanging)
    tick = asyncio.create_task(world.it.settle.tick())
    await reached.wait()
    tick.cancel()
    await asyncio.gather(tick, return_exceptions=True)
    assert ahead() == []
    assert await settled(world) == begin
    world.restart()
    await all_settle(world, invoices)


async def test_tick__cut_off_while_it_waits_for_the_reading_ahead__has_committed(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, invoices = await far_behind(db)
    begin = await settled(world)
    await look(world)
    reader = world.it.reader
    read_span: Callable[..., Awaitable[SpanRead]] = reader.read_span

    async def slow(span: BlockSpan, query: LogQuery, *, anchor: BlockNumber | None = None) -> SpanRead:
        if span.first > begin + FIRST_GROUP:
            await asyncio.sleep(3_600)
        return await read_span(span, query, anchor=anchor)

    monkeypatch.setattr(reader, "read_span", slow)
    tick = asyncio.create_task(world.it.settle.tick())
    async with asyncio.timeout(20):
        while await settled(world) == begin:  # noqa: ASYNC110 - a row of the database is no event
            await asyncio.sleep(0)
    tick.cancel()
    await asyncio.gather(tick, return_exceptions=True)
    assert ahead() == []
    assert await settled(world) == begin + FIRST_GROUP
    monkeypatch.undo()
    world.restart()
    await all_settle(world, invoices)


async def test_tick__another_worker_moved_on__what_was_read_ahead_is_void(db: Database) -> None:
    world, invoices = await far_behind(db)
    first = world.it.settle
    await look(world)
    await first.tick()
    world.restart()
    await look(world)
    await world.it.settle.tick()
    moved = await settled(world)
    await first.tick()
    assert await settled(world) == moved, "a look, and no commit of what it had read"
    await all_settle(world, invoices)


async def test_quorum__providers_differ_over_what_is_read_ahead__nothing_of_it_settles(db: Database) -> None:
    world, invoices = await far_behind(db, providers=2)
    begin = await settled(world)

    def omits_above(read: SpanRead, query: LogQuery) -> SpanRead:
        return omits(read, query) if read.span.first > begin + FIRST_GROUP else read

    liar(world, 1).lie_of_span = omits_above
    await look(world)
    await world.it.settle.tick()
    assert await settled(world) == begin + FIRST_GROUP
    assert world.counted.disagreements.keys() == {"node-0", "node-1"}, "and the tick did not fail of it"
    with pytest.raises(Disagreement):
        await world.settle()
    assert await settled(world) == begin + FIRST_GROUP
    assert len([i for i in invoices if await world.status(i) == "settled"]) < PAYMENTS


# -- what is one transaction -------------------------------------------------------------------------------------------


def a_read(number: int, payments: int) -> SpanRead:
    """Ten blocks; the payments stand in the last."""
    span = BlockSpan(first=BlockNumber(10 * number), last=BlockNumber(10 * number + 9))
    end = BlockRef(
        number=span.last,
        hash=BlockHash(bytes([number]) * 32),
        parent_hash=BlockHash(b"\xee" * 32),
        time=datetime(2026, 1, 1, tzinfo=UTC),
    )
    found = tuple(
        Transfer(
            identity=TransferIdentity(
                chain_id=ChainId(1),
                tx_hash=TxHash(number.to_bytes(16) + place.to_bytes(16)),
                token=Address(b"\x01" * 20),
                sender=Address(b"\x02" * 20),
                recipient=Address(b"\x03" * 20),
                amount=BaseUnits(1),
                ordinal=0,
            ),
            block_number=span.last,
            block_hash=end.hash,
            log_index=place,
        )
        for place in range(payments)
    )
    return SpanRead(span=span, end=end, anchor=None, transfers=found, blocks={end.hash: end} if found else {})


@pytest.mark.parametrize(
    ("payments", "spans"),
    [
        ([0, 0, 0, 0], ["10..49"]),
        ([1, 2, 3, 4], ["10..49"]),
        ([0, 0, 5, 0], ["10..29", "30..39", "40..49"]),
        ([JOINED_TRANSFERS_MAX, 1, 1, 0], ["10..19", "20..39", "40..49"]),
        ([JOINED_TRANSFERS_MAX + 1, 0, JOINED_TRANSFERS_MAX - 1, 1], ["10..19", "20..29", "30..49"]),
    ],
)
def test_gathered__neighbours_with_little_in_them__are_one(payments: list[int], spans: list[str]) -> None:
    reads = [a_read(number, count) for number, count in enumerate(payments, start=1)]
    joined = list(gathered(reads))
    assert [str(read.span) for read in joined] == spans
    assert [t for read in joined for t in read.transfers] == [t for read in reads for t in read.transfers]
    assert joined[-1].end == reads[-1].end
    assert {h for read in joined for h in read.blocks} == {read.end.hash for read in reads}, "held, to find a fork by"


def test_gathered__one_transaction_in_two_spans__is_inconsistent() -> None:
    first, second = a_read(1, 1), a_read(2, 1)
    (twice,) = first.transfers
    moved = Transfer(identity=twice.identity, block_number=second.end.number, block_hash=second.end.hash, log_index=0)
    with pytest.raises(NodeInconsistent, match="two blocks"):
        list(gathered([first, SpanRead(span=second.span, end=second.end, anchor=None, transfers=(moved,))]))
