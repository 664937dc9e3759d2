"""Money sent back, read from a simulated chain by a quorum, and what becomes of the payment and the books."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import sqlalchemy as sa

from chains.errors import Disagreement, Timeout
from chains.model import TxHash
from chains.simulated import SimFaults, SimTx
from chains.simulated_chain import SimulatedChain
from chains.transactions import Mined
from settler.domain.errors import Conflict, NotFound
from settler.domain.ids import TransferId
from settler.domain.invoices import Allocation, Invoice, TransferRecord
from settler.domain.ledger import Account
from settler.domain.settlement import HoldReason, Stop
from settler.stages.refunding import Refunded, Refunding
from settler.storage import chains, holds, refunds, schema
from settler.storage.engine import Database
from tests.stages.test_halt import balances, look_until_halted
from tests.stages.test_operating import actions, assign, dismiss, expired, halt, of_usdc, place, stray
from tests.stages.test_reconcile import reconcile
from tests.support.dump import audit
from tests.support.world import PAYER, World


@dataclass
class SimLocator:
    """`settler.stages.refunding.Locator` of a simulated chain."""

    chain: SimulatedChain
    failed: set[TxHash] = field(default_factory=set)
    is_down: bool = False

    async def find(self, tx_hash: TxHash) -> Mined | None:
        if self.is_down:
            raise Timeout("the node is down")
        for number in range(self.chain.head.number + 1):
            block = self.chain.block_at(number)
            if block is not None and tx_hash in {tx.hash for tx in block.txs}:
                has_failed = tx_hash in self.failed
                return Mined(block_number=block.ref.number, block_hash=block.ref.hash, has_failed=has_failed)
        return None


def refunding(world: World, locators: Sequence[SimLocator] | None = None) -> Refunding:
    return Refunding(
        chain=world.it.setup,
        pool=world.it.providers,
        locators=[SimLocator(world.it.chain)] if locators is None else locators,
        db=world.db,
        clock=world.clock,
        judgement=world.judgement,
    )


async def record(
    world: World,
    payment: TransferRecord,
    sent: SimTx,
    *,
    log_index: int | None = None,
    locators: Sequence[SimLocator] | None = None,
) -> Refunded:
    return await refunding(world, locators).record(
        payment.id, sent.hash, log_index=log_index, who="ada", reason="not ours"
    )


def send_back(world: World, payment: TransferRecord, amount: str | int, *, times: int = 1) -> SimTx:
    """From the address that was paid to who paid; in the pool."""
    shop = payment.identity.recipient
    return world.send(*[world.sim_transfer(PAYER, amount, sender=shop)] * times)


async def sent_back(world: World, payment: TransferRecord, amount: str | int) -> SimTx:
    """Final."""
    sent = send_back(world, payment, amount)
    world.mine(5)
    await world.catch_up()
    return sent


async def payment_of(world: World, id_: TransferId) -> TransferRecord:
    return next(t for t in await world.transfers() if t.id == id_)


async def overpaid(world: World, amount: str = "130") -> tuple[Invoice, TransferRecord]:
    invoice = await of_usdc(world)
    world.pay(invoice, amount)
    world.mine(5)
    await world.catch_up()
    assert await world.status(invoice) == "settled"
    return invoice, (await world.transfers())[-1]


# Suspense


@pytest.mark.parametrize("is_dismissed", [False, True])
async def test_unmatched__all_of_it__is_dismissed(db: Database, db_url: str, is_dismissed: bool) -> None:
    world = await World.on(db)
    money = await stray(world)
    if is_dismissed:
        money = await dismiss(world, money)
    sent = await sent_back(world, money, "100")
    made = await record(world, money, sent)
    assert (made.refund.amount, made.refund.recipient, made.refund.settlement_id) == (100_000_000, PAYER, None)
    assert made.left_base == 0
    after = await payment_of(world, money.id)
    assert after == made.payment
    assert (after.allocation, after.reason, after.version) == (Allocation.DISMISSED, None, money.version + 1)
    assert after.evidence["refunds"] == [
        {
            "id": made.refund.id,
            "tx_hash": f"0x{sent.hash.hex()}",
            "log_index": made.refund.log_index,
            "amount_base": "100000000",
        }
    ]
    assert await balances(world) == {Account.RECEIVED: 100_000_000, Account.REFUNDED: -100_000_000}
    assert (await actions(world))[-1] == ("transfer.refund", money.id, "ada", "not ours")
    async with db.read() as conn:
        assert await refunds.of_transfers(conn, [money.id]) == {money.id: [made.refund]}
    await audit(db_url)
    assert (await reconcile(world)).breaks == []


async def test_unmatched__in_parts__adds_up_and_is_assigned_no_more(db: Database, db_url: str) -> None:
    world = await World.on(db)
    money = await stray(world)
    first = await record(world, money, await sent_back(world, money, "30"))
    assert (first.left_base, first.payment.allocation) == (70_000_000, Allocation.UNMATCHED)
    with pytest.raises(Conflict, match="was sent back, or a part of it"):
        await assign(world, money, await of_usdc(world))
    with pytest.raises(Conflict, match=r"sends 70000001 base units, of .* only 70000000"):
        await record(world, money, await sent_back(world, money, 70_000_001))
    rest = await record(world, money, await sent_back(world, money, "70"))
    assert (rest.left_base, rest.payment.allocation) == (0, Allocation.DISMISSED)
    assert await world.count(schema.refunds) == 2
    await audit(db_url)


async def test_unmatched__in_part__may_be_dismissed(db: Database) -> None:
    world = await World.on(db)
    money = await stray(world)
    await record(world, money, await sent_back(world, money, "30"))
    await dismiss(world, money)
    assert await balances(world) == {
        Account.RECEIVED: 100_000_000, Account.SUSPENSE: -70_000_000, Account.REFUNDED: -30_000_000,
    }  # fmt: skip


# Invoices


async def test_expired__leaves_its_invoice(db: Database, db_url: str) -> None:
    world = await World.on(db)
    invoice = await expired(world, paid="60")
    (money,) = await world.transfers()
    assert (await world.view(invoice.id))["exceptions"] == ["underpaid"]
    made = await record(world, money, await sent_back(world, money, "20"))
    assert (made.payment.allocation, made.payment.invoice_id) == (Allocation.UNMATCHED, None)
    assert (await world.events(money.id))[-1] == "transfer.unmatched"
    view = await world.view(invoice.id)
    assert (view["status"], view["exceptions"], view["amount_received"]) == ("expired", [], "0.00")
    again = await record(world, money, await sent_back(world, money, "40"))
    assert again.payment.allocation is Allocation.DISMISSED
    assert await balances(world) == {Account.RECEIVED: 60_000_000, Account.REFUNDED: -60_000_000}
    await audit(db_url)


async def test_expired__what_is_left_of_a_payment_settles_nothing(db: Database) -> None:
    world = await World.on(db)
    invoice = await expired(world, paid="60")
    (money,) = await world.transfers()
    await record(world, money, await sent_back(world, money, 1))
    await assign(world, await stray(world, "40"), invoice)
    assert await world.status(invoice) == "expired"


async def test_held__what_stopped_it_is_gone_with_the_payment(db: Database, db_url: str) -> None:
    world = await World.on(db)
    invoice = await of_usdc(world)
    world.pay(invoice)
    await place(world, invoice)
    world.mine(5)
    await world.catch_up()
    (money,) = await world.transfers()
    stop = Stop(reason=HoldReason.SANCTIONS, transfer_id=money.id, detail="listed")
    async with db.write() as conn:
        await holds.place(conn, [(invoice.id, stop)], now=world.clock.now())
    assert await world.status(invoice) == "processing"
    await record(world, money, await sent_back(world, money, "100"))
    assert await world.status(invoice) == "pending"
    async with db.read() as conn:
        found = {hold.stop.reason: hold for hold in await holds.of_invoice(conn, invoice.id)}
    assert found[HoldReason.MANUAL].stands
    assert found[HoldReason.SANCTIONS].release_reason == f"{money.id} was sent back: not ours"
    await audit(db_url)


async def test_waiting_invoice__is_refused(db: Database) -> None:
    world = await World.on(db)
    invoice = await of_usdc(world)
    world.pay(invoice, "60")
    world.mine(5)
    await world.catch_up()
    (money,) = await world.transfers()
    with pytest.raises(Conflict, match="is pending; cancel that, or wait until it expires"):
        await record(world, money, await sent_back(world, money, "60"))
    async with db.write() as conn:
        await world.operating.cancel(conn, invoice.id, world.by())
    sent = send_back(world, money, "60")
    world.mine(5)
    await world.catch_up()
    assert (await record(world, money, sent)).payment.allocation is Allocation.DISMISSED


# Surplus


async def test_settled__its_surplus_and_no_more(db: Database, db_url: str) -> None:
    world = await World.on(db)
    invoice, money = await overpaid(world)
    with pytest.raises(Conflict, match="only 30000000 can be sent back"):
        await record(world, money, await sent_back(world, money, 30_000_001))
    made = await record(world, money, await sent_back(world, money, "10"))
    view = await world.view(invoice.id)
    assert (made.refund.settlement_id, made.left_base) == (view["settlement_id"], 20_000_000)
    assert (made.payment.allocation, made.payment.invoice_id) == (Allocation.INVOICE, invoice.id)
    assert (view["status"], view["amount_settled"]) == ("settled", "100.00")
    assert await balances(world) == {
        Account.RECEIVED: 130_000_000,
        Account.SETTLED: -100_000_000,
        Account.SURPLUS: -20_000_000,
        Account.REFUNDED: -10_000_000,
    }
    await audit(db_url)
    assert (await reconcile(world)).breaks == []


async def test_surplus_sent_back_and_the_settlement_reversed__the_rest_does_not_settle_as_the_whole(
    db: Database, db_url: str
) -> None:
    """Found by reading: 90 and 60 settle 100, 50 of the 60 are sent back, the 90 vanish: the 60 and a new 40 would have
    settled 100 with the 50 that are left.
    """
    world = await World.on(db)
    invoice = await of_usdc(world)
    world.pay(invoice, "90")
    world.mine()
    await world.catch_up()
    gone = world.pay(invoice, "60")
    world.mine()
    await world.catch_up()
    world.mine(5)
    await world.catch_up()
    kept, _ = await world.transfers()
    over = next(t for t in await world.transfers() if t.identity.tx_hash == gone.hash)
    sent = await sent_back(world, over, "50")
    await record(world, over, sent)
    # the first payment vanishes, the refunded one is mined again
    world.it.chain.reorg(world.it.chain.head.number - kept.block_number + 1, drop=[kept.identity.tx_hash], shift=1)
    await look_until_halted(world)
    assert await world.status(invoice) == "reversed"
    async with db.write() as conn:
        await chains.resume(conn, kept.identity.chain_id, now=world.clock.now(), who="ada", reason="looked at it")
    world.pay(invoice, "40")
    world.mine(8)
    await world.catch_up()
    assert await world.status(invoice) == "reversed"
    assert (await world.view(invoice.id))["amount_received"] == "40.00"
    await audit(db_url)


async def test_reconcile__a_refund_that_somebody_took_out_of_the_ledger__is_a_break(db: Database) -> None:
    world = await World.on(db)
    _, money = await overpaid(world)
    await record(world, money, await sent_back(world, money, "10"))
    async with db.write() as conn:
        # past the triggers: as if it had been made by somebody else
        other = (await refunds.of_transfers(conn, [money.id]))[money.id][0]
        columns = {name: getattr(other, name) for name in schema.refunds.columns.keys()}  # noqa: SIM118  # no mapping
        await conn.execute(schema.refunds.insert().values({**columns, "id": "rfd_x", "log_index": 99}))
    details = [each.detail for each in (await reconcile(world)).breaks]
    assert details == [
        "USDC: surplus is -20000000 in the ledger, -10000000 by the settlements in force and refunds",
        "USDC: refunded is -10000000 in the ledger, -20000000 by the refunds",
    ]


# The chain


async def test_not_settled_yet__says_after_which_block(db: Database) -> None:
    world = await World.on(db)
    money = await stray(world)
    sent = send_back(world, money, "100")
    world.mine()
    await world.catch_up()
    head = world.it.chain.head.number
    with pytest.raises(Conflict, match=f"in block {head} and not final yet: .* try again after block {head}"):
        await record(world, money, sent)
    world.mine(5)
    await world.catch_up()
    await record(world, money, sent)


async def test_no_such_transaction_or_a_failed_one__is_refused(db: Database) -> None:
    world = await World.on(db)
    money = await stray(world)
    sent = send_back(world, money, "100")
    with pytest.raises(Conflict, match="is in no block of anvil yet"):
        await record(world, money, sent)
    world.mine(5)
    await world.catch_up()
    with pytest.raises(Conflict, match="failed: it sent nothing"):
        await record(world, money, sent, locators=[SimLocator(world.it.chain, failed={sent.hash})])


async def test_locators__one_is_down__the_next_is_asked(db: Database) -> None:
    world = await World.on(db)
    money = await stray(world)
    sent = await sent_back(world, money, "100")
    down = SimLocator(world.it.chain, is_down=True)
    with pytest.raises(Timeout):
        await record(world, money, sent, locators=[down, down])
    assert (await record(world, money, sent, locators=[down, SimLocator(world.it.chain)])).left_base == 0


async def test_providers_that_differ__nothing_is_recorded(db: Database) -> None:
    world = await World.on(db, providers=2, quorum=2)
    money = await stray(world)
    sent = await sent_back(world, money, "100")
    world.it.readers[1].faults = SimFaults(empty_logs_rate=1.0)
    with pytest.raises(Disagreement):
        await record(world, money, sent)
    assert await world.count(schema.refunds) == 0
    world.it.readers[1].faults = SimFaults()
    world.clock.advance(3_600)
    await record(world, money, sent)


async def test_halted_chain__is_refused(db: Database) -> None:
    world = await World.on(db)
    money = await stray(world)
    sent = await sent_back(world, money, "100")
    await halt(world)
    with pytest.raises(Conflict, match="is halted"):
        await record(world, money, sent)


async def test_one_log__is_one_refund(db: Database) -> None:
    world = await World.on(db)
    first, second = await stray(world, "40"), await stray(world, "40")
    shops = [t.identity.recipient for t in (first, second)]
    both = world.send(*[world.sim_transfer(PAYER, "40", sender=shop) for shop in shops])
    world.mine(5)
    await world.catch_up()
    with pytest.raises(Conflict, match="has 2 transfers of the token; say which with --log-index"):
        await record(world, first, both)
    block = world.it.chain.block_at((await SimLocator(world.it.chain).find(both.hash)).block_number)  # type: ignore[union-attr]  # it is mined
    assert block is not None
    one, two = [t.log_index for t in block.transfers]
    await record(world, first, both, log_index=one)
    with pytest.raises(Conflict, match=f"log {one} of 0x.* is recorded already, as rfd_.* of {first.id}"):
        await record(world, second, both, log_index=one)
    await record(world, second, both, log_index=two)
    assert await balances(world) == {Account.RECEIVED: 80_000_000, Account.REFUNDED: -80_000_000}


@pytest.mark.parametrize("is_retired", [False, True])
async def test_to_an_address_of_ours__is_no_refund(db: Database, is_retired: bool) -> None:
    world = await World.on(db)
    money, other = await stray(world), await of_usdc(world)
    if is_retired:
        t = schema.watched_addresses
        retired = sa.update(t).where(t.c.address == other.options[0].pay_to).values(retired_at=world.clock.now())
        async with db.write() as conn:
            await conn.execute(retired)
    swept = world.send(world.sim_transfer(other.options[0].pay_to, "100", sender=money.identity.recipient))
    world.mine(5)
    await world.catch_up()
    with pytest.raises(Conflict, match="none of the token to anybody else"):
        await record(world, money, swept)


async def test_the_same_refund__eight_at_once__is_recorded_once(db: Database, db_url: str) -> None:
    world = await World.on(db)
    money = await stray(world)
    sent = await sent_back(world, money, "30")
    outcomes = await asyncio.gather(*(record(world, money, sent) for _ in range(8)), return_exceptions=True)
    assert sorted(type(each).__name__ for each in outcomes) == ["Conflict"] * 7 + ["Refunded"]
    assert await world.count(schema.refunds) == 1
    assert await balances(world) == {
        Account.RECEIVED: 100_000_000, Account.SUSPENSE: -70_000_000, Account.REFUNDED: -30_000_000,
    }  # fmt: skip
    await audit(db_url)


async def test_unknown_or_provisional_payment__is_refused(db: Database) -> None:
    world = await World.on(db)
    money = await stray(world)
    sent = await sent_back(world, money, "100")
    with pytest.raises(NotFound):
        await refunding(world).record(TransferId("trf_" + "0" * 26), sent.hash, log_index=None, who="ada", reason="why")
    fresh = await stray(world, blocks=0)
    with pytest.raises(Conflict, match="is detected; only a final payment"):
        await record(world, fresh, sent)
