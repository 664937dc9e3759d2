"""Deposit addresses and references over the real store: nothing is given twice, whoever asks at the same time."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from chains.address import parse_address, to_checksum
from chains.model import Address, ChainId
from chains.proof.keccak import keccak
from settler.domain.deposits import POOL_ONLY, DepositAddress, DepositPolicy, DepositState
from settler.domain.derivation import read_key
from settler.domain.drafting import ChainOffer, InvoiceDefaults, InvoiceRequest, OptionRequest, draft
from settler.domain.errors import Conflict, InvalidInput, NotFound
from settler.domain.invoices import Invoice, InvoiceStatus, Match
from settler.storage import chains, deposits, invoices, invoicing, schema
from settler.storage.engine import Database
from settler.storage.watched import watched_now
from tests.domain.samples import a_token
from tests.support.wallet import ANVIL_ADDRESSES, OTHER_XPUB, XPUB

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
BASE, ETH = ChainId(8453), ChainId(1)
TOKENS = {BASE: a_token(), ETH: a_token(chain_id=ETH)}
CATALOG = {
    "base": ChainOffer(name="base", chain_id=BASE, tokens={"USDC": TOKENS[BASE]}),
    "eth": ChainOffer(name="eth", chain_id=ETH, tokens={"USDC": TOKENS[ETH]}),
}
DERIVED = DepositPolicy(key=read_key(XPUB, "0"))
ANVIL = [parse_address(text) for text in ANVIL_ADDRESSES]
POOL = [Address(bytes([0xA0 + n]) * 20) for n in range(4)]
SHOP = Address(b"\x05" * 20)
PAYER = Address(b"\xaa" * 20)
_numbers = itertools.count(1)


@pytest_asyncio.fixture
async def store(db: Database) -> AsyncIterator[Database]:
    """With the chains known."""
    async with db.write() as conn:
        for name, offer in CATALOG.items():
            await chains.register(conn, chain_id=offer.chain_id, name=name, tokens=list(offer.tokens.values()), now=NOW)
    yield db


def way(chain: str = "base", pay_to: Address | None = None, match: Match = Match.ADDRESS, **more: Any) -> OptionRequest:
    return OptionRequest(chain=chain, token="USDC", pay_to=pay_to, match=match, **more)


async def create(
    store: Database,
    *ways: OptionRequest,
    policy: DepositPolicy = POOL_ONLY,
    now: datetime = NOW,
    fails: bool = False,
) -> Invoice:
    """An invoice of an hour, monitored a day longer. `fails`: the transaction is rolled back behind it."""
    request = InvoiceRequest(amount="100", reference=f"order-{next(_numbers)}", options=ways or (way(),))
    made = draft(
        request,
        catalog=CATALOG,
        defaults=InvoiceDefaults(),
        now=now,
        new_reference=next(_numbers).to_bytes(32),
    )
    async with store.write() as conn:
        number = next(_numbers)
        invoice = await invoicing.insert(
            conn, made, now=now, entropy=number.to_bytes(10), secret=number.to_bytes(16), policy=policy
        )
        if fails:
            raise RuntimeError("power cut")
    return invoice


async def fill(store: Database, *addresses: Address, now: datetime = NOW) -> list[DepositAddress]:
    async with store.write() as conn:
        return await deposits.add(conn, addresses, quarantine=POOL_ONLY.quarantine, now=now, who="ada")


async def retire(store: Database, address: Address, now: datetime = NOW) -> None:
    async with store.write() as conn:
        await deposits.retire(conn, address, now=now, who="ada", reason="closed")


async def states(store: Database, now: datetime = NOW) -> dict[Address, DepositState]:
    async with store.read() as conn:
        return {each.address: each.state for each in await deposits.find(conn, now=now, limit=1_000)}


async def watched(store: Database) -> frozenset[Address]:
    async with store.read() as conn:
        return frozenset((await watched_now(conn)).addresses)


async def become(store: Database, invoice: Invoice, status: InvoiceStatus) -> None:
    """As a stage would leave it."""
    i = schema.invoices
    values: dict[str, Any] = {"status": status.value}
    if status is InvoiceStatus.SETTLED:
        values |= {"settled_at": NOW, "settlement_id": "stl_x"}
    async with store.write() as conn:
        await conn.execute(update(i).where(i.c.id == invoice.id).values(values))


async def actions(store: Database) -> list[tuple[str, str]]:
    a = schema.operator_actions
    async with store.read() as conn:
        return [(row.action, row.object_id) for row in await conn.execute(select(a).order_by(a.c.seq))]


async def somebody_waits(postgres_db: Database) -> None:
    """Until a transaction of this database waits for another's row."""
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    async with asyncio.timeout(10):
        while True:
            async with postgres_db.read() as conn:
                if (await conn.execute(waiting)).scalar_one():
                    return
            await asyncio.sleep(0.02)


def given(invoice: Invoice) -> Address:
    (only,) = {o.pay_to for o in invoice.options}
    return only


# -- the pool ----------------------------------------------------------------------------------------------------------


async def test_create__without_pay_to__one_pool_address_for_all_options_watched_and_taken(store: Database) -> None:
    await fill(store, *POOL[:2])
    invoice = await create(store, way(), way("eth"))
    assert given(invoice) == POOL[0]
    async with store.read() as conn:
        assert await invoices.get(conn, invoice.id) == invoice
        one = next(each for each in await deposits.find(conn, now=NOW) if each.address == POOL[0])
    assert (one.invoice_id, one.free_from) == (invoice.id, NOW + HOUR + DAY + timedelta(days=7))
    assert await states(store) == {POOL[0]: DepositState.TAKEN, POOL[1]: DepositState.FREE}


async def test_add__watches_at_once_and_is_audited(store: Database) -> None:
    added = await fill(store, POOL[1], POOL[0], POOL[1])
    assert [each.address for each in added] == POOL[:2]
    assert set(POOL[:2]) <= await watched(store)
    assert await actions(store) == [("address.add", "pool")]
    await fill(store, POOL[0])
    assert await actions(store) == [("address.add", "pool")], "what changes nothing is no action"
    await fill(store, POOL[2])
    assert (await actions(store))[-1] == ("address.add", to_checksum(POOL[2]))


async def test_create__pool_exhausted__says_how_many_and_when_and_what_to_do(store: Database) -> None:
    await fill(store, *POOL[:2])
    await create(store, now=NOW)
    await create(store, now=NOW + HOUR)
    with pytest.raises(Conflict) as refused:
        await create(store, way("base", SHOP), way("eth"), now=NOW + HOUR)
    assert refused.value.field == "options[1].pay_to"
    assert "has 2 addresses and none is free, the next at 2026-03-09T13:00:00Z" in refused.value.problem
    assert "settler address add" in refused.value.problem
    assert SHOP not in await watched(store), "nothing of it is stored"


async def test_create__pool_exhausted_by_an_invoice_beyond_its_time__says_so(store: Database) -> None:
    await fill(store, POOL[0])
    await create(store)
    with pytest.raises(Conflict, match="has 1 address and none is free, the next when an invoice that is open past"):
        await create(store, now=NOW + 30 * DAY)


async def test_create__no_pool_and_no_key__is_invalid_and_names_both_ways(store: Database) -> None:
    for retired in (False, True):
        with pytest.raises(InvalidInput) as refused:
            await create(store)
        assert refused.value.field == "options[0].pay_to"
        for remedy in ("give the address", "settler address add", "[deposits] xpub"):
            assert remedy in refused.value.problem
        if not retired:
            await fill(store, POOL[0])
            await retire(store, POOL[0])


@pytest.mark.parametrize(
    ("status", "after", "is_free"),
    [
        # monitored for 25 hours, then quarantined for 7 days
        (InvoiceStatus.SETTLED, 25 * HOUR, False),
        (InvoiceStatus.EXPIRED, 25 * HOUR + 7 * DAY - timedelta(seconds=1), False),
        (InvoiceStatus.SETTLED, 25 * HOUR + 7 * DAY, True),
        (InvoiceStatus.EXPIRED, 25 * HOUR + 7 * DAY, True),
        (InvoiceStatus.CANCELED, 25 * HOUR + 7 * DAY, True),
        # not finished, whatever the clock says: its chain may not have been read so far yet
        (InvoiceStatus.PENDING, 365 * DAY, False),
        (InvoiceStatus.PROCESSING, 365 * DAY, False),
        (InvoiceStatus.REVERSED, 365 * DAY, False),
    ],
)
async def test_create__address_given_before__is_given_again_only_when_nobody_waits_there(
    store: Database, status: InvoiceStatus, after: timedelta, is_free: bool
) -> None:
    await fill(store, POOL[0])
    first = await create(store)
    await become(store, first, status)
    now = NOW + after
    assert (await states(store, now) == {POOL[0]: DepositState.FREE}) is is_free
    if is_free:
        assert given(await create(store, now=now)) == POOL[0]
    else:
        with pytest.raises(Conflict):
            await create(store, now=now)


async def test_create__pool__gives_what_is_free_the_longest(store: Database) -> None:
    await fill(store, POOL[1])
    await fill(store, POOL[0], now=NOW + HOUR)
    assert [given(await create(store, now=NOW + HOUR)) for _ in range(2)] == [POOL[1], POOL[0]]


async def test_create__rolled_back__gives_the_address_back(store: Database) -> None:
    await fill(store, POOL[0])
    with pytest.raises(RuntimeError):
        await create(store, fails=True)
    assert await states(store) == {POOL[0]: DepositState.FREE}
    assert given(await create(store)) == POOL[0]


async def test_create__a_pool_address_by_hand__is_taken_too(store: Database) -> None:
    await fill(store, *POOL[:2])
    named = await create(store, way("base", POOL[0]), way("eth"))
    assert [o.pay_to for o in named.options] == [POOL[0], POOL[1]], "never the same way twice"
    async with store.read() as conn:
        assert {each.invoice_id for each in await deposits.find(conn, now=NOW)} == {named.id}
    with pytest.raises(Conflict):
        await create(store, now=NOW + HOUR)
    longer = await create(store, way("base", POOL[0]), now=NOW + 2 * DAY)
    await create(store, way("base", POOL[0]), now=NOW)
    async with store.read() as conn:
        (one,) = [each for each in await deposits.find(conn, now=NOW) if each.address == POOL[0]]
    assert one.free_from == longer.monitoring_until + timedelta(days=7), "the latest end counts"


async def test_add__an_address_that_invoices_had__rests_first(store: Database) -> None:
    before = await create(store, way("base", POOL[0]))
    await become(store, before, InvoiceStatus.SETTLED)
    (added,) = await fill(store, POOL[0], now=NOW + 2 * DAY)
    assert (added.state, added.free_from) == (
        DepositState.QUARANTINED,
        before.monitoring_until + timedelta(days=7),
    )


async def test_add__a_token_or_a_derived_address__is_refused_and_nothing_stored(store: Database) -> None:
    with pytest.raises(InvalidInput, match="is the contract of USDC"):
        await fill(store, POOL[0], TOKENS[BASE].address)
    await create(store, policy=DERIVED)
    with pytest.raises(Conflict, match=f"{ANVIL_ADDRESSES[0]} is derived"):
        await fill(store, POOL[0], ANVIL[0])
    assert POOL[0] not in await states(store)


@pytest.mark.parametrize("policy", [POOL_ONLY, DERIVED], ids=["pool", "derived"])
async def test_create__many_at_once__no_two_get_one_address(store: Database, policy: DepositPolicy) -> None:
    pool = [Address(bytes([n]) * 20) for n in range(0x40, 0x50)]
    await fill(store, *pool)
    wanted = len(pool) + (4 if policy is POOL_ONLY else 16)
    made = await asyncio.gather(*(create(store, policy=policy) for _ in range(wanted)), return_exceptions=True)
    addresses = [given(each) for each in made if isinstance(each, Invoice)]
    assert len(addresses) == len(set(addresses))
    if policy is POOL_ONLY:
        refused = [each for each in made if not isinstance(each, Invoice)]
        # a taker that skips rows which are locked just then may go away empty, but nothing is left when all have ended
        assert all(isinstance(each, Conflict) for each in refused)
        assert set(addresses) == set(pool)
    else:
        assert len(addresses) == wanted
        key = DERIVED.key
        assert key is not None
        derived = set(addresses) - set(pool)
        assert derived == {key.address(index) for index in range(len(derived))}, "without gaps"


# -- derived -----------------------------------------------------------------------------------------------------------


async def test_create__derived__each_invoice_the_next_index_of_the_wallet(store: Database) -> None:
    made = [await create(store, way(), way("eth"), policy=DERIVED) for _ in range(3)]
    assert [given(each) for each in made] == ANVIL[:3]
    async with store.read() as conn:
        found = {each.address: each for each in await deposits.find(conn, now=NOW + 365 * DAY)}
    assert [(found[a].path, found[a].invoice_id) for a in ANVIL[:3]] == [
        (f"0/{n}", each.id) for n, each in enumerate(made)
    ]
    assert {each.state for each in found.values()} == {DepositState.TAKEN}, "given out once"


async def test_create__pool_and_key__the_pool_first(store: Database) -> None:
    await fill(store, POOL[0])
    assert [given(await create(store, policy=DERIVED)) for _ in range(2)] == [POOL[0], ANVIL[0]]


async def test_create__derived_and_rolled_back__no_index_is_lost_or_given_twice(store: Database) -> None:
    await create(store, policy=DERIVED)
    with pytest.raises(RuntimeError):
        await create(store, policy=DERIVED, fails=True)
    assert given(await create(store, policy=DERIVED)) == ANVIL[1]


async def test_create__another_key_and_back__each_counts_on_where_it_was(store: Database) -> None:
    other = DepositPolicy(key=read_key(OTHER_XPUB, "0"))
    assert other.key is not None
    asked = (DERIVED, other, DERIVED, other, DepositPolicy(key=read_key(XPUB, "0")))
    made = [given(await create(store, policy=policy)) for policy in asked]
    assert made == [ANVIL[0], other.key.address(0), ANVIL[1], other.key.address(1), ANVIL[2]]
    async with store.read() as conn:
        ids = [row.id for row in await conn.execute(select(schema.deposit_keys))]
    assert len(ids) == 2
    assert not any(part in XPUB + OTHER_XPUB for part in ids)


async def test_create__derived_address_in_use_before__is_passed_over(store: Database) -> None:
    """By hand, of the pool, or by another way to the same key."""
    await create(store, way("base", ANVIL[0]))
    await fill(store, ANVIL[1])
    await create(store)
    below = DepositPolicy(key=read_key(XPUB, ""))
    assert given(await create(store, policy=DERIVED)) == ANVIL[2]
    assert given(await create(store, policy=below)) not in ANVIL


async def test_create__key_without_an_index_left__is_a_conflict(store: Database) -> None:
    await create(store, policy=DERIVED)
    async with store.write() as conn:
        await conn.execute(update(schema.deposit_keys).values(next_index=2**31))
    with pytest.raises(Conflict, match="no index left"):
        await create(store, policy=DERIVED)


async def test_create__too_many_in_use_before__is_a_conflict(store: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deposits, "MAX_SKIPPED", 2)
    for address in ANVIL[:2]:
        await create(store, way("base", address))
    with pytest.raises(Conflict, match="configure another path"):
        await create(store, policy=DERIVED)


# -- retiring ----------------------------------------------------------------------------------------------------------


async def test_retire__a_free_address__is_given_and_watched_no_longer(store: Database) -> None:
    await fill(store, *POOL[:2])
    await retire(store, POOL[0])
    assert POOL[0] not in await watched(store)
    assert await states(store) == {POOL[0]: DepositState.RETIRED, POOL[1]: DepositState.FREE}
    assert given(await create(store)) == POOL[1]
    await retire(store, POOL[0])
    assert await actions(store) == [("address.add", "pool"), ("address.retire", to_checksum(POOL[0]))]


async def test_retire__and_added_again__comes_back(store: Database) -> None:
    await fill(store, POOL[0])
    await retire(store, POOL[0])
    await fill(store, POOL[0])
    assert POOL[0] in await watched(store)
    assert given(await create(store)) == POOL[0]


@pytest.mark.parametrize(
    ("status", "after"),
    [
        (InvoiceStatus.PENDING, 365 * DAY),
        (InvoiceStatus.REVERSED, 365 * DAY),
        (InvoiceStatus.SETTLED, 25 * HOUR),
        (InvoiceStatus.CANCELED, 25 * HOUR),
    ],
)
async def test_retire__an_address_that_may_still_be_paid__is_refused(
    store: Database, status: InvoiceStatus, after: timedelta
) -> None:
    """Also one of no pool, which a caller gave."""
    invoice = await create(store, way("base", SHOP))
    await become(store, invoice, status)
    with pytest.raises(Conflict, match=f"is that of {invoice.id}, which is open or still monitored"):
        await retire(store, SHOP, NOW + after)
    assert SHOP in await watched(store)


async def test_retire__given_by_hand_and_done_with__is_watched_no_longer_until_named_again(store: Database) -> None:
    await become(store, await create(store, way("base", SHOP)), InvoiceStatus.SETTLED)
    await retire(store, SHOP, NOW + 2 * DAY)
    assert SHOP not in await watched(store)
    await create(store, way("base", SHOP), now=NOW + 2 * DAY)
    assert SHOP in await watched(store)


async def test_retire__never_watched__is_not_found(store: Database) -> None:
    with pytest.raises(NotFound, match="is not watched"):
        await retire(store, SHOP)


@pytest.mark.postgres
@pytest.mark.parametrize("pay_to", [POOL[0], SHOP], ids=["of the pool", "by hand"])
async def test_retire__while_an_invoice_is_made__never_leaves_it_unwatched(
    postgres_db: Database, pay_to: Address
) -> None:
    """The invoice is not committed when the address is retired: each alone would be right, both lose money."""
    async with postgres_db.write() as conn:
        await chains.register(conn, chain_id=BASE, name="base", tokens=[TOKENS[BASE]], now=NOW)
        await chains.watch_addresses(conn, [SHOP], now=NOW)
    await fill(postgres_db, POOL[0])
    request = InvoiceRequest(amount="1", reference="r", options=(way(pay_to=None if pay_to == POOL[0] else pay_to),))
    made = draft(request, catalog=CATALOG, defaults=InvoiceDefaults(), now=NOW)
    async with postgres_db.write() as conn:
        await invoicing.insert(conn, made, now=NOW, entropy=bytes(10), secret=bytes(16))
        retiring = asyncio.create_task(retire(postgres_db, pay_to))
        await somebody_waits(postgres_db)
        assert not retiring.done(), "it waits for the invoice"
    with pytest.raises(Conflict, match="still monitored"):
        await retiring
    assert pay_to in await watched(postgres_db)


@pytest.mark.postgres
async def test_create__while_its_address_is_being_retired__watches_it_again(postgres_db: Database) -> None:
    async with postgres_db.write() as conn:
        await chains.register(conn, chain_id=BASE, name="base", tokens=[TOKENS[BASE]], now=NOW)
        await chains.watch_addresses(conn, [SHOP], now=NOW)
    async with postgres_db.write() as conn:
        await deposits.retire(conn, SHOP, now=NOW, who="ada", reason="closed")
        creating = asyncio.create_task(create(postgres_db, way("base", SHOP)))
        await somebody_waits(postgres_db)
    await creating
    assert SHOP in await watched(postgres_db)


@pytest.mark.postgres
async def test_create__its_address_is_retired_between_two_of_its_statements__watches_it_again(
    postgres_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with postgres_db.write() as conn:
        await chains.register(conn, chain_id=BASE, name="base", tokens=[TOKENS[BASE]], now=NOW)
        await chains.watch_addresses(conn, [SHOP], now=NOW)
    real, retirements = chains.watch_addresses, iter([SHOP])

    async def then_retired(conn: AsyncConnection, addresses: Iterable[Address], *, now: datetime) -> None:
        await real(conn, addresses, now=now)
        for address in retirements:
            await retire(postgres_db, address)

    monkeypatch.setattr(chains, "watch_addresses", then_retired)
    await create(postgres_db, way("base", SHOP))
    assert SHOP in await watched(postgres_db)
    assert [action for action, _ in await actions(postgres_db)] == ["address.retire"]


# -- listing -----------------------------------------------------------------------------------------------------------


async def test_find__by_state_and_in_pages__misses_none(store: Database) -> None:
    await fill(store, *POOL)
    await create(store)
    await retire(store, POOL[3])
    async with store.read() as conn:
        free = await deposits.find(conn, now=NOW, state=DepositState.FREE, limit=2)
        some = await deposits.find(conn, now=NOW, limit=3)
        none = await deposits.find(conn, now=NOW, state=DepositState.QUARANTINED)
    assert [each.address for each in free] == [POOL[2], POOL[1]]
    assert [each.address for each in some] == POOL[:0:-1]
    assert none == []


# -- references --------------------------------------------------------------------------------------------------------


def by_reference(
    reference: bytes | None = None, *, chain: str = "base", pay_to: Address | None = SHOP, payer: Address | None = None
) -> OptionRequest:
    return way(chain, pay_to, Match.REFERENCE, reference=reference, payer=payer)


async def keys(store: Database) -> dict[tuple[bytes, Address], str]:
    r = schema.invoice_references
    async with store.read() as conn:
        return {(bytes(row.key), Address(row.pay_to)): row.invoice_id for row in await conn.execute(select(r))}


async def labelled(store: Database) -> frozenset[Address]:
    async with store.read() as conn:
        return frozenset((await watched_now(conn)).labelled)


async def test_create__reference__is_found_as_logs_show_it(store: Database) -> None:
    short, long = bytes.fromhex("a0098add01acc736"), bytes(range(32))
    one = await create(store, by_reference(short))
    two = await create(store, by_reference(long, payer=PAYER))
    assert await keys(store) == {
        (keccak(short), SHOP): one.id,
        (long, SHOP): two.id,
        (keccak(long), SHOP): two.id,
    }
    async with store.read() as conn:
        assert await invoices.get(conn, two.id) == two
    assert (two.options[0].reference, two.options[0].payer) == (long, PAYER)
    assert await labelled(store) == {SHOP}


async def test_create__reference_at_an_address_watched_before__is_read_with_references_from_now_on(
    store: Database,
) -> None:
    await create(store, way("base", SHOP))
    assert await labelled(store) == frozenset()
    await create(store, by_reference())
    assert await labelled(store) == {SHOP}


async def test_create__reference_of_another_invoice_there__is_a_conflict_and_nothing_is_stored(
    store: Database,
) -> None:
    reference = bytes(range(8))
    first = await create(store, by_reference(reference))
    before = await keys(store)
    with pytest.raises(Conflict) as refused:
        await create(store, way("eth", POOL[0]), by_reference(reference))
    assert refused.value.field == "options[1].reference"
    assert "0x0001020304050607 names another invoice" in refused.value.problem
    assert await keys(store) == before
    assert POOL[0] not in await watched(store)
    elsewhere = await create(store, by_reference(reference, pay_to=POOL[0]))
    assert set((await keys(store)).values()) == {first.id, elsewhere.id}


async def test_create__reference_that_is_the_hash_of_another__is_a_conflict(store: Database) -> None:
    """A log that shows it would name both."""
    reference = bytes(range(8))
    await create(store, by_reference(reference))
    with pytest.raises(Conflict, match="names another invoice"):
        await create(store, by_reference(keccak(reference)))


async def test_create__one_reference_on_several_chains__is_one_invoice(store: Database) -> None:
    invoice = await create(store, by_reference(b"\x01" * 8), by_reference(b"\x01" * 8, chain="eth"))
    assert set((await keys(store)).values()) == {invoice.id}


async def test_create__reference_left_out__is_made_once_for_the_invoice(store: Database) -> None:
    invoice = await create(store, by_reference(), by_reference(chain="eth"))
    (reference,) = {o.reference for o in invoice.options}
    assert reference is not None
    assert len(reference) == 32
    assert set(await keys(store)) == {(reference, SHOP), (keccak(reference), SHOP)}


async def test_create__two_with_the_same_two_references_at_once__one_is_made(store: Database) -> None:
    a, b = b"\x0a" * 32, b"\x0b" * 32
    ways = [by_reference(a), by_reference(b, chain="eth")]
    made = await asyncio.gather(
        create(store, *ways), create(store, by_reference(b), by_reference(a, chain="eth")), return_exceptions=True
    )
    assert sorted(type(each).__name__ for each in made) == ["Conflict", "Invoice"]


async def test_create__by_payer__asks_for_the_amount_as_it_is(store: Database) -> None:
    (option,) = (await create(store, way("base", SHOP, Match.PAYER, payer=PAYER))).options
    assert (option.amount_base, option.tail_base, option.payer) == (100_000_000, 0, PAYER)
    assert await keys(store) == {}
