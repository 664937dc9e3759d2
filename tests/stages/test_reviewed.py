"""What reviews of matching, tiers, holds and announcements found, each as the test that failed then."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from chains.errors import ChainError
from chains.model import (
    Address,
    Announcement,
    AnnouncementKind,
    BlockNumber,
    BlockSpan,
    Label,
    LabelKind,
    LogQuery,
    SpanRead,
    Tag,
)
from chains.simulated import SimFaults
from chains.simulated_chain import SimTx, SimulatedChain
from settler.domain.drafting import InvoiceDefaults, InvoiceRequest, OptionRequest, draft
from settler.domain.finality import ByTag, Depth, Tier
from settler.domain.invoices import Allocation, Invoice, InvoiceStatus, Match, TransferRecord, UnmatchedReason
from settler.domain.settlement import HoldReason
from settler.stages.rescan import Rescan
from settler.storage import chains, holds, invoicing, schema
from settler.storage.engine import Database
from tests.stages.test_references import NONCE, OTHER_NONCE, SHOP, by, labelled, referenced
from tests.stages.test_screening import ORACLE, RULES, clean, feed, sanctions
from tests.stages.test_tiers import FIFTY, TIERS, USD, seen, tiered
from tests.support.lying import liar
from tests.support.world import PAYER, World, token

PAR = 100_000_000
"""A price of one, as `feed` takes it."""


async def insert(conn: AsyncConnection, world: World, merchant: str, option: OptionRequest, *, nth: int = 0) -> Invoice:
    """An invoice of 100 of a merchant; `nth` differs for each of his."""
    request = InvoiceRequest(
        amount="100", reference=f"{merchant}-{nth}", options=(option,), expires_in_s=10 * 86_400, merchant=merchant
    )
    drafted = draft(request, catalog=world.catalog(), defaults=InvoiceDefaults(), now=world.clock.now())
    entropy = merchant.encode().ljust(9)[:9] + bytes([nth])
    return await invoicing.insert(conn, drafted, now=world.clock.now(), entropy=entropy, secret=entropy.ljust(16))


async def made(world: World, merchant: str, option: OptionRequest) -> Invoice:
    async with world.db.write() as conn:
        return await insert(conn, world, merchant, option)


async def at_twenty(db: Database, large: str) -> tuple[World, Invoice]:
    """A world with tiers in which an invoice of that amount is settled by the chain itself."""
    world = await World.on(db, finality=Depth(blocks=10), tiers=TIERS)
    world.mine(20)
    await world.catch_up()
    paid = await world.invoice(large)
    world.pay(paid)
    world.mine(10)
    await world.catch_up()
    assert await world.status(paid) == "settled"
    return world, paid


async def settled_early(world: World, amount: str = "50") -> tuple[Invoice, TransferRecord]:
    invoice = await seen(world, amount, of=amount)
    world.mine(1)
    await world.early()
    assert await world.status(invoice) == "settled"
    return invoice, (await world.transfers())[-1]


async def resume(world: World) -> None:
    state = await world.state()
    async with world.db.write() as conn:
        await chains.resume(conn, state.chain_id, now=world.clock.now(), who="ada", reason="looked at it")


async def keep_settling(world: World, *, until: Callable[[], Awaitable[bool]], times: int = 12) -> None:
    """The second reading again and again, refused or not, until it got there (or not)."""
    for _ in range(times):
        with suppress(ChainError):
            await world.settle()
        if await until():
            return


async def is_halted(world: World) -> bool:
    return (await world.state()).is_halted


def tx_at(chain: SimulatedChain, paid: TransferRecord) -> SimTx:
    block = chain.block_at(paid.block_number)
    assert block is not None
    return next(tx for tx in block.txs if tx.hash == paid.identity.tx_hash)


# -- tiers and forks ---------------------------------------------------------------------------------------------------


async def test_moved_below_a_spans_edge__stops_no_chain(db: Database) -> None:
    """Found by review: of a provider that takes two blocks at a time, a payment that was final early and is mined again
    three blocks lower was never read where it stands now, and the second reading refused its old block for ever."""
    world = await tiered(db)
    world.it.reader.faults = SimFaults(max_span=2)
    world.mine(3)
    await world.watch()
    with suppress(ChainError):
        await world.settle()
    await world.settle()
    invoice, paid = await settled_early(world)
    chain = world.it.chain
    tx = tx_at(chain, paid)
    depth = chain.head.number - (paid.block_number - 4)
    chain.reorg(depth, drop=[tx.hash], add=[tx], length=depth + 30)
    for _ in range(40):
        world.clock.advance(61)
        with suppress(ChainError):
            await world.watch()
            await world.settle()
        if (await world.state()).settled_number == chain.head.number - 10:
            break
    assert (await world.state()).settled_number == chain.head.number - 10
    (now,) = await world.transfers()
    assert (now.block_number, now.is_final) == (paid.block_number - 3, True)
    assert await world.status(invoice) == "settled"


async def test_shorter_fork_below_the_settled_height__halts_beside_an_early_payment(db: Database) -> None:
    """Found by review: while the other chain was shorter than the height of a payment that was final early, the halt
    asked for a block that is not there yet, and was refused each time."""
    world, _ = await at_twenty(db, "500")
    await settled_early(world)
    state = await world.state()
    assert state.settled_number is not None
    depth = world.it.chain.head.number - state.settled_number + 2
    world.it.chain.reorg(depth, drop=[t.identity.tx_hash for t in await world.transfers()], length=depth - 4)
    await keep_settling(world, until=lambda: is_halted(world))
    assert await is_halted(world)


async def test_fork_shown_to_the_tiers_first__the_halt_skips_no_block(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by review: the stage of tiers settled in a block of the other chain, the halt took that for a block both
    chains have, and resumed above it: what was paid in the replaced blocks below was never read."""
    world, large = await at_twenty(db, "500")
    small = await seen(world, "50", of="50")
    world.mine(1)
    missed = await world.invoice("700")
    chain, reader = world.it.chain, world.it.reader
    of_large, of_small = await world.transfers()
    settled = (await world.state()).settled_number
    assert settled is not None
    again = tx_at(chain, of_small)
    read = reader.read_span

    async def forks_first(span: BlockSpan, query: LogQuery, *, anchor: BlockNumber | None = None) -> SpanRead:
        monkeypatch.setattr(reader, "read_span", read)
        chain.reorg(chain.head.number - settled + 2, drop=[of_large.identity.tx_hash, again.hash], length=6)
        assert chain.head.number > settled
        chain.mine([chain.tx(world.sim_transfer(missed.options[0].pay_to, "700"))])
        while chain.head.number < of_small.block_number - 1:
            chain.mine()
        chain.mine([again])
        chain.mine_empty(2)
        return await read(span, query, anchor=anchor)

    monkeypatch.setattr(reader, "read_span", forks_first)
    with suppress(ChainError):
        await world.early()
    await keep_settling(world, until=lambda: is_halted(world))
    assert await is_halted(world)
    await resume(world)
    world.mine(15)
    for _ in range(3):
        await world.catch_up()
    statuses = [await world.status(i) for i in (large, missed, small)]
    assert statuses == ["reversed", "settled", "settled"]


async def test_moved_up_within_a_read_block__waits_for_its_own_tier(db: Database) -> None:
    """Found by review: a payment mined again higher, beside one that was looked for, was shown by the same read, and
    became final by a tier whose depth it did not have yet where it stands now."""
    world = await tiered(db)
    larger, smaller = await world.invoice("100"), await world.invoice("50")
    of_larger = world.pay(larger)
    world.mine(1)
    of_smaller = world.pay(smaller)
    world.mine(3)
    await world.watch()
    head = world.it.chain.head.number
    world.it.chain.reorg(6, length=0)
    world.it.chain.mine_empty(2)
    world.it.pool = [of_larger, of_smaller]
    world.mine(3)
    assert world.it.chain.head.number == head
    await world.early()
    assert await world.status(larger) == "processing", "only 3 blocks stand on it, its tier wants 4"


async def test_safe_tag_is_not_there__the_tier_by_depth_goes_on(db: Database) -> None:
    """Found by review: a node without the `safe` tag, which one tier is judged by, stopped the tiers that are not."""
    by_tag = Tier(up_to=5_000 * USD, policy=ByTag(tag=Tag.SAFE))
    world = await World.on(db, finality=Depth(blocks=10), tiers=(FIFTY, by_tag))
    world.it.chain.set_finalized_lag(None)
    large, small = await world.invoice("500"), await world.invoice("50")
    world.pay(large)
    world.pay(small)
    world.mine(3)
    await world.watch()
    with suppress(ChainError):
        await world.early()
    assert [await world.status(i) for i in (large, small)] == ["processing", "settled"]


async def test_five_hundred_payments_of_one_large_invoice__hide_no_small_one(db: Database) -> None:
    """Found by review: the stage of tiers looked at the lowest five hundred payments; dust sent to one large invoice
    filled them, and no small invoice behind it settled before the chain itself was final."""
    world = await tiered(db)
    large = await world.invoice("500")
    world.pay(large)
    world.pay(large, 1, times=500)
    world.mine()
    small = await world.invoice("50")
    world.pay(small)
    world.mine(3)
    await world.watch()
    await world.early()
    assert [await world.status(i) for i in (large, small)] == ["processing", "settled"]


async def test_token_no_longer_configured__what_settled_early_stays(db: Database) -> None:
    """Found by review: after a token was taken out of the configuration the second reading was not shown its payments,
    took those that a tier had made final for undone, and reversed a settlement that the chain still bears."""
    other = token("USDT")
    world = await tiered(db, tokens=[token(), other])
    invoice = await world.invoice("50")
    world.pay(invoice, option=next(o.index for o in invoice.options if o.token == other.symbol))
    world.mine(2)
    await world.watch()
    await world.early()
    assert await world.status(invoice) == "settled"
    world.it.setup = replace(world.it.setup, tokens=(token(),))
    world.restart()
    world.mine(20)
    for _ in range(3):
        with suppress(ChainError):
            await world.catch_up()
    assert (await world.state()).settled_number == world.it.chain.head.number - 10
    assert await world.status(invoice) == "settled"
    assert world.counted.reversals == 0


# -- announcements -----------------------------------------------------------------------------------------------------


async def test_announced_in_a_replaced_block__is_read(db: Database) -> None:
    """Found by review: announcements were read up to the head for a tier, and blocks that a fork replaced afterwards
    counted as read: a pause in them was never known, and money settled in a paused token."""
    world = await clean(db, finality=Depth(blocks=10), tiers=TIERS)
    await settled_early(world)
    world.it.chain.reorg(3, length=0)
    world.it.chain.announce(token().address, AnnouncementKind.PAUSED)
    large = await world.invoice("500")
    world.mine()
    world.pay(large)
    world.mine(14)
    feed(world, PAR)
    await world.catch_up()
    assert await world.status(large) == "processing", "the token is paused"


async def test_announced_in_a_block_that_a_halt_undid__is_read_after_resuming(db: Database) -> None:
    """Asked by review, and right then already: a halt takes the height up to which announcements were read back with
    the settled one, or a pause in the other chain's blocks between them would never be known."""
    world = await clean(db)
    world.mine(30)
    await world.catch_up()
    first = await world.invoice("10")
    world.pay(first)
    world.mine(10)
    feed(world, PAR)
    await world.catch_up()
    assert await world.status(first) == "settled"
    world.it.chain.reorg(12, length=2)
    world.it.chain.announce(token().address, AnnouncementKind.PAUSED)
    world.mine(15)
    await keep_settling(world, until=lambda: is_halted(world))
    assert await is_halted(world)
    await resume(world)
    large = await world.invoice("500")
    world.pay(large)
    world.mine(15)
    feed(world, PAR)
    await world.catch_up()
    assert await world.status(large) == "processing", "the token is paused"


async def test_one_liar_says_the_pause_ended__it_did_not(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by review: what any provider announced was taken, also what speaks for a token: one of them ended a pause
    that all the others show."""
    world = await clean(db, providers=3, quorum=2)
    world.it.chain.announce(token().address, AnnouncementKind.PAUSED)
    world.mine(1)
    lying = world.it.readers[0]
    truth = lying.announcements

    async def ends(span: BlockSpan, tokens: frozenset[Address]) -> tuple[Announcement, ...]:
        said = await truth(span, tokens)
        ended = [replace(a, kind=AnnouncementKind.UNPAUSED, log_index=a.log_index + 1) for a in said]
        return (*said, *ended)

    monkeypatch.setattr(lying, "announcements", ends)
    await _pay_and_look(world)


async def test_liar_puts_another_announcement_in_its_place__hides_no_pause(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by review: one announcement was kept a place in the chain, any of those shown; a liar that named harmless
    ones at the place of a pause left no room for the true one."""
    world = await clean(db, providers=3, quorum=2)
    world.it.chain.announce(token().address, AnnouncementKind.PAUSED)
    world.mine(1)
    lying = world.it.readers[0]
    truth = lying.announcements

    async def disguises(span: BlockSpan, tokens: frozenset[Address]) -> tuple[Announcement, ...]:
        said = await truth(span, tokens)
        others = [Address(bytes([n]) * 20) for n in range(1, 20)]
        return tuple(replace(a, kind=AnnouncementKind.BLOCKED, subject=other) for a in said for other in others)

    monkeypatch.setattr(lying, "announcements", disguises)
    await _pay_and_look(world)


async def _pay_and_look(world: World) -> None:
    invoice = await world.invoice()
    world.pay(invoice)
    world.mine(5)
    feed(world, PAR)
    await world.catch_up()
    assert await world.status(invoice) == "processing", "the token is paused"
    async with world.db.read() as conn:
        assert HoldReason.TOKEN_PAUSED in {h.stop.reason for h in await holds.of_invoice(conn, invoice.id)}


# -- holds -------------------------------------------------------------------------------------------------------------


async def test_list_answers_no_more_when_the_chain_is_final__an_early_hold_stands(db: Database) -> None:
    """Found by review: a hold placed early was judged anew by the second reading, and went away by itself once the list
    did not have the payer any more; only an operator may let a held payment pass."""
    world = await tiered(db, sanctions_oracle=ORACLE)
    sanctions(world, PAYER)
    invoice = await seen(world, "50", of="50")
    world.mine(1)
    await world.early()
    assert (await world.view(invoice.id))["exceptions"] == ["on_hold"]
    sanctions(world)
    world.mine(20)
    await world.catch_up()
    assert await world.status(invoice) == "processing", "nobody released it"
    async with db.read() as conn:
        found = await holds.of_invoice(conn, invoice.id)
    assert [(h.stop.reason, h.stands) for h in found] == [(HoldReason.SANCTIONS, True)]


async def test_released_because_the_list_was_silent__a_listed_payer_is_held_again(db: Database) -> None:
    """Found by review: a release was of the reason, whatever was known then: an operator who let pass that the list did
    not answer had thereby let pass that it names the payer."""
    rules = {name: RULES[name] for name in ("price_feeds", "depeg_floor")}
    world = await tiered(db, sanctions_oracle=ORACLE, **rules)
    sanctions(world, answers=False)
    feed(world, 97_000_000)
    invoice = await seen(world, "50", of="50")
    world.mine(1)
    await world.early()
    async with db.write() as conn:
        found = await holds.of_invoice(conn, invoice.id)
        (silent,) = (h for h in found if h.stop.reason is HoldReason.SANCTIONS)
        await world.operating.release_hold(conn, silent.id, world.by("the list does not answer today"))
    sanctions(world, PAYER)
    feed(world, PAR)
    world.mine(20)
    await world.catch_up()
    assert await world.status(invoice) == "processing"


async def test_rescan__lifts_no_hold(db: Database) -> None:
    """Found by review: reading a range again replaced what spoke against its payments by what speaks now, and settled
    an invoice that was on hold."""
    world = await World.on(db, sanctions_oracle=ORACLE)
    sanctions(world, PAYER)
    invoice = await world.invoice()
    world.pay(invoice)
    world.mine(5)
    await world.catch_up()
    assert (await world.view(invoice.id))["exceptions"] == ["on_hold"]
    sanctions(world)
    state = await world.state()
    assert state.settled_number is not None
    it = world.it
    rescan = Rescan(
        chain=it.setup, pool=it.providers, db=db, clock=world.clock, judgement=world.judgement, sleep=_at_once
    )
    await rescan.run(BlockSpan(first=BlockNumber(1), last=state.settled_number), state)
    assert rescan.done.found == 1
    assert await world.status(invoice) == "processing", "nobody released it"


async def _at_once(_: float) -> None:
    return None


# -- matching ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("match", [Match.ADDRESS, Match.AMOUNT, Match.PAYER])
async def test_reference_named_after_the_payment_was_seen__takes_it_from_nobody(db: Database, match: Match) -> None:
    """Found by review: payments were matched anew when they became final, so that a merchant who made an invoice with
    the nonce he saw on the chain got the money that was another's already."""
    world = await World.on(db)
    shop = await made(world, "shop", by(match, **({"payer": PAYER} if match is Match.PAYER else {})))
    signed = Label(kind=LabelKind.AUTHORIZATION, key=NONCE)
    world.send(replace(world.sim_transfer(SHOP, shop.options[0].amount_base), labels=(signed,)))
    world.mine()
    await world.watch()
    assert await world.status(shop) == "processing"
    thief = await made(world, "thief", by(Match.REFERENCE, reference=NONCE))
    world.mine(5)
    await world.catch_up()
    assert [await world.status(i) for i in (shop, thief)] == ["settled", "pending"]


async def test_reference_named_before_the_payment_came__takes_nothing_of_another_merchant(db: Database) -> None:
    """Found by review: a nonce is public as soon as a wallet sends it; an invoice of another merchant that named it in
    time, at the shop's address, took what the shop's invoice would have got without it. It is nobody's by itself."""
    world = await World.on(db)
    await made(world, "shop", by(Match.ADDRESS))
    thief = await made(world, "thief", by(Match.REFERENCE, reference=NONCE))
    world.send(labelled(world, "100", NONCE))
    world.mine(5)
    await world.catch_up()
    (paid,) = await world.transfers()
    assert (paid.allocation, paid.reason) == (Allocation.UNMATCHED, UnmatchedReason.AMBIGUOUS)
    assert await world.status(thief) == "pending"


async def test_liars_reference_of_a_payment_that_vanished__is_read_anew_when_it_comes_back(db: Database) -> None:
    """Found by review: labels that one liar gave were kept with the payment when a fork dropped it; mined again, it
    went to the invoice the liar had named, and the second reading did not look."""
    world = await World.on(db, providers=3, quorum=2)
    named, meant = await referenced(world, OTHER_NONCE), await referenced(world, NONCE)

    def relabels(read: SpanRead, _: LogQuery) -> SpanRead:
        lie = (Label(kind=LabelKind.AUTHORIZATION, key=OTHER_NONCE),)
        return replace(read, transfers=tuple(replace(t, labels=lie) for t in read.transfers))

    liar(world, 0).lie_of_span = relabels
    tx = world.send(labelled(world, "100", NONCE))
    world.mine()
    await world.watch()
    assert await world.status(named) == "processing"
    world.it.chain.reorg(1, drop=[tx.hash], length=2)
    for _ in range(3):
        await world.watch()
    world.it.pool = [tx]
    world.mine(5)
    for _ in range(4):
        world.clock.advance(61)
        with suppress(ChainError):
            await world.settle()
    for _ in range(3):
        with suppress(ChainError):
            await world.catch_up()
    assert [await world.status(i) for i in (named, meant)] == ["pending", "settled"]


async def test_surplus_of_one_invoice__pays_no_later_one(db: Database) -> None:
    """Found by review: a second payment of the same payer was surplus of the first invoice while it was seen, was
    matched anew when it became final, and paid an invoice that was made after it."""
    world = await World.on(db)
    await referenced(world, OTHER_NONCE, amount="7")
    first = await world.invoice("100", options=[by(Match.PAYER, payer=PAYER)])
    for nonce in (NONCE, b"\x01" * 32):
        world.send(labelled(world, "100", nonce))
        world.mine(0 if nonce == NONCE else 1)
        await world.watch()
    world.mine()
    await world.catch_up()
    assert await world.status(first) == "settled"
    later = await world.invoice("100", options=[by(Match.PAYER, payer=PAYER)])
    world.mine(6)
    await world.catch_up()
    assert await world.status(later) == "pending", "its money was told to be surplus of the first"


async def test_fifty_newer_invoices_at_an_address__hide_no_open_one(db: Database) -> None:
    """Found by review: of the invoices at an address the newest fifty were looked at; fifty of another merchant, all
    but one canceled, made a payment his that could as well have been the shop's."""
    world = await World.on(db)
    shop = await world.invoice("100", pay_to=SHOP)
    world.clock.advance(1)
    async with db.write() as conn:
        others = [await insert(conn, world, "thief", by(Match.ADDRESS), nth=nth) for nth in range(50)]
        closed = [each.id for each in others[1:]]
        i = schema.invoices
        await conn.execute(sa.update(i).where(i.c.id.in_(closed)).values(status=InvoiceStatus.CANCELED.value))
    world.pay(shop)
    world.mine(5)
    await world.catch_up()
    (paid,) = await world.transfers()
    assert (paid.allocation, paid.reason) == (Allocation.UNMATCHED, UnmatchedReason.AMBIGUOUS)
    assert [await world.status(i) for i in (shop, others[0])] == ["pending", "pending"]
