"""Each invariant broken by hand, behind the constraints, is found; a healthy database has nothing to find."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from chains.model import BlockHash, BlockNumber, ChainId
from chains.simulated import SimulatedReader
from chains.simulated_chain import SimulatedChain
from chains.spans import WindowedReader
from settler.config.tables import InvoiceSettings
from settler.domain.delivery import Endpoint, EndpointId
from settler.domain.finality import Depth, Tier
from settler.domain.ids import InvoiceId
from settler.domain.invariants import WIDEST_TOLERANCE, Cursors, CursorWatch, Invariant, Violation
from settler.domain.money import BPS, FINEST_SCALE
from settler.domain.settlement import HoldReason, InvoicePolicy, Stop
from settler.stages.invariants import ASSIGN, MARK, check, check_chain, check_records, cursors, same_outcome
from settler.storage import holds, operator_actions, schema, webhook_admin, webhooks
from settler.storage.engine import Database
from tests.stages.test_halt import look_until_halted, resume
from tests.support.world import STRICT, World, token

BASE = ChainId(8453)
NOW = datetime(2026, 2, 1, tzinfo=UTC)
I1, I2, I3, I4, I5, I6, I7, I8 = Invariant


async def shop(db: Database) -> World:
    """Two chains; settled, open and half-paid invoices, money in suspense, a transfer of nothing, an endpoint."""
    world = await World.on(db, tokens=[token(), token("DAI", decimals=18)])
    await world.add_chain("base", tokens=[token(chain_id=BASE)], seed=2)
    endpoint = Endpoint(
        id=EndpointId("whe_1"), url="http://x", merchant=None, types=(), secret="s", previous_secret=None,
        created_at=world.clock.now(),
    )  # fmt: skip
    async with db.write() as conn:
        await webhooks.add_endpoint(conn, endpoint)
    world.clock.advance(3_600)
    paid, split, left = await world.invoice("100"), await world.invoice("10"), await world.invoice("7")
    world.pay(paid, "101")
    world.pay(split, "4", option=0)
    world.pay(split, "6", option=2)
    world.send(world.sim_transfer(left.options[0].pay_to, 0))
    world.pay(left, "2")
    for name in world.chains:
        world.mine(6, on=name)
    await world.catch_up()
    world.pay(paid, "5")  # after it was settled
    world.mine(6)
    await world.catch_up()
    for _ in range(2):
        world.mine()
        await world.watch()
    async with db.write() as conn:
        while await webhooks.fan_out(conn, world.clock.now(), limit=500):
            pass
    assert [await world.status(i) for i in (paid, split, left)] == ["settled", "settled", "pending"]
    return world


async def found_in(
    db: Database, world: World, *, policy: InvoicePolicy = STRICT, is_quiescent: bool = True
) -> list[Violation]:
    """By honest readers of all chains."""
    readers = {
        c.setup.chain_id: WindowedReader(SimulatedReader(c.chain, name="other"), monotonic=world.clock.monotonic)
        for c in world.chains.values()
    }
    return await check(db, readers, policy=policy, is_quiescent=is_quiescent)


async def test_check__an_endpoint_disabled_for_a_while__is_owed_nothing_of_that_while(db: Database) -> None:
    """Found by the simulation: it answered 410, an operator enabled it, `reconcile` called for what it had missed."""
    world = await shop(db)
    async with db.write() as conn:
        await webhooks.disable_endpoint(conn, EndpointId("whe_1"), world.clock.now(), reason="410")
    world.clock.advance(3_600)
    await world.invoice("3")
    world.clock.advance(3_600)
    async with db.write() as conn:
        await webhook_admin.enable(conn, EndpointId("whe_1"), world.by())
    world.clock.advance(3_600)
    await world.invoice("4")
    assert [str(v) for v in await found_in(db, world, is_quiescent=False)] == []


@dataclass
class Image:
    """The database of `shop`, made once and without its triggers, and the chains it is about."""

    file: bytes
    world: World


@pytest.fixture(scope="module")
def image(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Image:
    path = tmp_path_factory.mktemp("shop") / "settler.db"
    path.write_bytes(sqlite_template.read_bytes())

    async def make() -> World:
        db = await Database.open(f"sqlite:///{path}")
        try:
            world = await shop(db)
            await forge(db)
            return world
        finally:
            await db.dispose()

    world = asyncio.run(make())
    return Image(file=path.read_bytes(), world=world)


@pytest_asyncio.fixture
async def copy(image: Image, tmp_path: Path) -> AsyncIterator[Database]:
    (tmp_path / "copy.db").write_bytes(image.file)
    db = await Database.open(f"sqlite:///{tmp_path / 'copy.db'}")
    try:
        yield db
    finally:
        await db.dispose()


def broken(found: Sequence[Violation]) -> set[Invariant]:
    return {each.invariant for each in found}


async def forge(db: Database, *statements: sa.UpdateBase) -> None:
    """Behind triggers, foreign keys and constraints, as who owns the database can."""
    async with db.write() as conn:
        await _unguard(conn)
        for statement in statements:
            await conn.execute(statement)


async def _unguard(conn: AsyncConnection) -> None:
    if conn.dialect.name == "postgresql":
        await conn.execute(sa.text("SET LOCAL session_replication_role = replica"))
        return
    names = (await conn.execute(sa.text("SELECT name FROM sqlite_master WHERE type = 'trigger'"))).all()
    for (name,) in names:
        await conn.execute(sa.text(f"DROP TRIGGER {name}"))
    await conn.execute(sa.text("PRAGMA defer_foreign_keys = ON"))


async def test_healthy__has_none(db: Database) -> None:
    assert await found_in(db, await shop(db)) == []


async def test_healthy__while_money_is_on_its_way__has_none(sqlite_db: Database) -> None:
    db = sqlite_db
    world = await World.on(db)
    invoice = await world.invoice("100")
    assert await found_in(db, world) == []
    gone = world.pay(invoice)
    world.mine()
    await world.watch()
    assert await world.status(invoice) == "processing"
    assert await found_in(db, world) == []
    world.it.chain.reorg(1, drop=[gone.hash], length=2)
    await world.watch()
    assert await world.status(invoice) == "pending"
    assert await found_in(db, world) == []


async def test_healthy__after_a_finality_violation__has_none(sqlite_db: Database) -> None:
    db = sqlite_db
    world = await World.on(db)
    invoice = await world.invoice("100")
    gone = world.pay(invoice)
    world.mine(3)
    await world.catch_up()
    watch = CursorWatch()
    assert watch.see(await cursors(db)) == []
    world.it.chain.reorg(4, drop=[gone.hash], length=6)
    await look_until_halted(world)
    assert await world.status(invoice) == "reversed"
    assert watch.see(await cursors(db)) == []
    assert await found_in(db, world) == []
    world.it.pool.append(gone)
    world.mine(6)
    await resume(world)
    await world.catch_up()
    assert await world.status(invoice) == "settled"
    assert watch.see(await cursors(db)) == []
    assert await found_in(db, world) == []


async def test_settled_by_a_tier__is_healthy__and_undone_by_the_chain_it_is_not_until_it_is_reversed(
    sqlite_db: Database,
) -> None:
    db = sqlite_db
    world = await World.on(
        db, finality=Depth(blocks=8), tiers=(Tier(up_to=50 * 10**FINEST_SCALE, policy=Depth(blocks=2)),)
    )
    small, large = await world.invoice("50"), await world.invoice("51")
    gone = world.pay(small)
    world.pay(large)
    world.mine(2)
    await world.watch()
    await world.early()
    assert [await world.status(i) for i in (small, large)] == ["settled", "processing"]
    assert await found_in(db, world) == []
    world.it.chain.reorg(3, drop=[gone.hash], length=4)
    assert broken(await found_in(db, world)) == {I3}, "nobody has looked yet"
    world.mine(9)
    await world.catch_up()
    assert [await world.status(i) for i in (small, large)] == ["reversed", "settled"]
    assert await found_in(db, world) == []


# -- planted -----------------------------------------------------------------------------------------------------------

_i, _s, _sl, _t, _l, _e, _c, _b, _d, _o = (
    schema.invoices, schema.settlements, schema.settlement_lines, schema.transfers, schema.ledger_lines,
    schema.events, schema.chains, schema.blocks, schema.webhook_deliveries, schema.invoice_options,
)  # fmt: skip
_PAID = sa.select(_t.c.invoice_id).where(_t.c.amount == 101 * 10**6).scalar_subquery()
_OPEN = sa.select(_i.c.id).where(_i.c.status == "pending").scalar_subquery()
_OF_PAID = sa.select(_t.c.id).where(_t.c.amount == 101 * 10**6).scalar_subquery()
_LEFT_OVER = sa.select(_t.c.id).where(_t.c.reason == "surplus").scalar_subquery()
_SETTLED = sa.select(_e.c.id).where(_e.c.type == "invoice.settled")
_is_of_paid = _sl.c.amount_surplus > 0
_is_left_over = _t.c.reason == "surplus"

PLANTED: dict[str, tuple[Sequence[sa.UpdateBase], set[Invariant]]] = {
    "I1 a payment is not recorded as final": ([_t.update().where(_is_left_over).values(status="orphaned")], {I1, I4}),
    "I1 a payment is recorded elsewhere": ([_t.update().where(_is_left_over).values(log_index=9)], {I1}),
    "I1 a payment was invented": ([_t.update().where(_is_left_over).values(tx_hash=b"\x0a" * 32)], {I1}),
    "I2 settled without a settlement": (
        [_i.update().where(_i.c.status == "pending").values(status="settled", settlement_id="x", settled_at=NOW)],
        {I2, I6},
    ),
    "I2 open, and a settlement in force": ([_i.update().where(_i.c.id == _PAID).values(status="pending")], {I2, I6}),
    "I2 settled by too little": ([_i.update().where(_i.c.id == _PAID).values(amount=10**21)], {I2}),
    "I2 paid and not settled": ([_i.update().where(_i.c.id == _OPEN).values(amount=2 * 10**18)], {I2}),
    "I2 marked, and no operator said so": ([_s.update().values(policy={"marked": {"by": "ada"}})], {I2}),
    "I3 a settlement on an orphan": (
        [_t.update().where(_t.c.id == _OF_PAID).values(status="orphaned")], {I1, I3, I4},
    ),
    "I3 a settlement on a block of nobody": (
        [
            _sl.update().where(_is_of_paid).values(block_hash=b"\x0b" * 32),
            _t.update().where(_t.c.id == _OF_PAID).values(block_hash=b"\x0b" * 32),
        ],
        {I1, I3},
    ),
    "I3 a settlement of another place than its payment": (
        [_sl.update().where(_is_of_paid).values(log_index=77)], {I3, I8},
    ),
    "I4 an entry that does not sum to zero": ([_l.update().where(_l.c.account == "surplus").values(amount=7)], {I4}),
    "I4 an entry taken away whole": ([_l.delete().where(_l.c.transfer_id == _LEFT_OVER)], {I4}),
    "I4 an entry booked for another transfer": (
        [_l.update().where(_l.c.transfer_id == _LEFT_OVER).values(transfer_id=_OF_PAID)], {I4},
    ),
    "I6 a settled invoice nobody was told of": ([_e.delete().where(_e.c.type == "invoice.settled")], {I6}),
    "I6 settled, told twice": (
        [_e.update().where(_e.c.type == "invoice.processing", _e.c.object_id == _PAID).values(type="invoice.settled")],
        {I6},
    ),
    "I6 an invoice nobody was told of": ([_e.delete().where(_e.c.object_id == _OPEN)], {I6}),
    "I6 a settlement nobody was told of": ([_e.delete().where(_e.c.type == "settlement.created")], {I6}),
    "I6 a final payment nobody was told of": ([_e.delete().where(_e.c.type == "payment.final")], {I6}),
    "I6 an unmatched transfer nobody was told of": ([_e.delete().where(_e.c.type == "transfer.unmatched")], {I6}),
    "I6 a delivery taken away": ([_d.delete().where(_d.c.event_id.in_(_SETTLED))], {I6}),
    "I7 settled above the scanned height": ([_c.update().where(_c.c.name == "base").values(scanned_number=3)], {I7}),
    "I7 settled above the final height": ([_c.update().where(_c.c.name == "base").values(final_number=3)], {I7}),
    "I7 another header is held": ([_b.update().values(hash=b"\x0c" * 32)], {I7}),
    "I7 headers that do not link": ([_b.update().values(parent_hash=b"\x0d" * 32)], {I7}),
    "I8 settled by more than was paid": (
        [
            _sl.update().where(_is_of_paid).values(amount_settled=2 * 10**8),
            _s.update().where(_s.c.invoice_id == _PAID).values(amount_settled=2 * 10**20),
        ],
        {I4, I8},
    ),
    "I8 a sum that its payments do not make": ([_s.update().values(amount_settled=1)], {I8}),
    "I8 paid to an address of nobody": (
        [_o.update().where(_o.c.invoice_id == _PAID).values(pay_to=b"\x0e" * 20)], {I8},
    ),
    "I8 another's money": ([_t.update().where(_t.c.id == _OF_PAID).values(invoice_id=_OPEN)], {I2, I8}),
    "I8 one payment in two settlements": (
        [_sl.update().where(_sl.c.amount_surplus == 0, _sl.c.index == 0).values(transfer_id=_OF_PAID)], {I3, I4, I8},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
async def test_planted__is_found(copy: Database, image: Image, name: str) -> None:
    statements, expected = PLANTED[name]
    assert Invariant(name[:2]) in expected
    await forge(copy, *statements)
    found = await found_in(copy, image.world)
    assert broken(found) == expected, found


@pytest.mark.postgres
async def test_planted__several_at_once__on_postgresql(postgres_db: Database) -> None:
    world = await shop(postgres_db)
    names = (
        "I1 a payment is recorded elsewhere",
        "I2 settled by too little",
        "I3 a settlement on an orphan",
        "I6 settled, told twice",
        "I7 headers that do not link",
        "I8 a sum that its payments do not make",
    )
    await forge(postgres_db, *(statement for name in names for statement in PLANTED[name][0]))
    assert broken(await found_in(postgres_db, world)) == {I1, I2, I3, I4, I6, I7, I8}


async def test_paid_and_not_settled__is_none_while_stages_are_at_work_or_somebody_holds_it(
    copy: Database, image: Image
) -> None:
    await forge(copy, *PLANTED["I2 paid and not settled"][0])
    assert broken(await found_in(copy, image.world)) == {I2}
    assert await found_in(copy, image.world, is_quiescent=False) == []
    async with copy.write() as conn:
        invoice_id = InvoiceId((await conn.execute(sa.select(_OPEN))).scalar_one())
        await holds.place(conn, [(invoice_id, Stop(reason=HoldReason.MANUAL))], now=NOW, who="ada")
    assert await found_in(copy, image.world) == []


async def test_settled_within_the_tolerance__is_paid(copy: Database, image: Image) -> None:
    await forge(copy, _i.update().where(_i.c.id == _PAID).values(amount=102 * 10**18))
    assert broken(await found_in(copy, image.world)) == {I2}
    generous = InvoicePolicy(underpayment_tolerance_bps=100, underpayment_tolerance_max=10**19)
    assert await found_in(copy, image.world, policy=generous) == []
    capped = InvoicePolicy(underpayment_tolerance_bps=100, underpayment_tolerance_max=10**17)
    assert broken(await found_in(copy, image.world, policy=capped)) == {I2}


async def test_settled_under_other_rules__is_judged_by_the_widest_tolerance(copy: Database) -> None:
    made_under = "sha256:test"
    for amount, ours, others in ((101, set(), set()), (112, {I2}, set()), (113, {I2}, {I2})):
        await forge(copy, _i.update().where(_i.c.id == _PAID).values(amount=amount * 10**18))
        assert broken(await check_records(copy, policy=STRICT, version=made_under)) == ours
        assert broken(await check_records(copy, policy=STRICT, version="sha256:newer")) == others


def test_widest_tolerance__is_that_of_the_configuration() -> None:
    widest = int(WIDEST_TOLERANCE * BPS)
    assert InvoiceSettings(underpayment_tolerance_bps=widest).underpayment_tolerance_bps == widest
    with pytest.raises(ValueError, match="out of range"):
        InvoiceSettings(underpayment_tolerance_bps=widest + 1)


async def test_marked_or_assigned__is_none_where_the_audit_log_says_so(copy: Database, image: Image) -> None:
    await forge(copy, *PLANTED["I2 marked, and no operator said so"][0], *PLANTED["I8 paid to an address of nobody"][0])
    assert broken(await found_in(copy, image.world)) == {I2, I8}
    async with copy.write() as conn:
        invoice_ids = (await conn.execute(sa.select(_s.c.invoice_id))).scalars().all()
        of_paid = (await conn.execute(sa.select(_OF_PAID))).scalar_one()
        actions = [(MARK, id_) for id_ in invoice_ids] + [(ASSIGN, of_paid)]
        for action, object_id in actions:
            await operator_actions.add(conn, action=action, object_id=object_id, who="ada", reason="asked", now=NOW)
    assert await found_in(copy, image.world) == []


async def test_replaced_chain__no_settlement_on_it_is_canonical(copy: Database, image: Image) -> None:
    """The reader is on a fork that leaves out what was settled."""
    fork = SimulatedChain(seed=9, chain_id=BASE)
    fork.add_token(token(chain_id=BASE))
    fork.mine_empty(40)
    reader = WindowedReader(SimulatedReader(fork, name="fork"), monotonic=image.world.clock.monotonic)
    assert broken(await check_chain(copy, BASE, reader)) == {I1, I3}


async def test_cursor_watch__settled_height_moving_back__is_found_unless_it_was_a_halt() -> None:
    at = Cursors(
        chain="base", scanned=BlockNumber(12), scanned_hash=None, settled=BlockNumber(10),
        settled_hash=BlockHash(b"\x01" * 32), final=BlockNumber(11), halts="None 0",
    )  # fmt: skip
    watch = CursorWatch()
    assert watch.see([at]) == []
    assert watch.see([replace(at, settled=BlockNumber(11))]) == []
    (back,) = watch.see([at])
    assert (back.invariant, back.detail) == (I7, "moved back from 11 to 10")
    (replaced,) = watch.see([replace(at, settled_hash=BlockHash(b"\x02" * 32))])
    assert "was replaced" in replaced.detail
    assert watch.see([replace(at, settled=BlockNumber(4), halts="now 0")]) == []


async def test_same_outcome__tells_what_only_one_has(copy: Database, image: Image, sqlite_db: Database) -> None:
    assert await same_outcome(copy, copy) == []
    again = await shop(sqlite_db)
    assert again.clock.now() == image.world.clock.now()
    assert await same_outcome(copy, sqlite_db) == []
    await forge(copy, *PLANTED["I1 a payment is recorded elsewhere"][0])
    found = await same_outcome(copy, sqlite_db)
    assert {each.subject for each in found} == {"transfers"}
    assert [each.detail.split(":")[0] for each in found] == [
        "1 rows are only in the first",
        "1 rows are only in the second",
    ]
