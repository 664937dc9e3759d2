"""Invoices made from drafts; each tells of itself. What is decided about them later: `settler.stages.operating`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from chains.address import to_checksum
from chains.model import Address, BaseUnits, BlockNumber
from chains.proof.keccak import keccak
from settler.domain.deposits import POOL_ONLY, DepositPolicy
from settler.domain.drafting import Draft, reference_keys, tail_capacity, tail_unit
from settler.domain.errors import Conflict
from settler.domain.events import Event
from settler.domain.ids import InvoiceId, make_id, make_token
from settler.domain.invoices import Invoice, InvoiceStatus, Match, Option
from settler.storage import chains, deposits, invoices, reading, schema
from settler.storage.chains import ChainState
from settler.storage.invoices import Way, way_of
from settler.storage.sql import chunks, insert_absent, is_one_of

_r, _w = schema.invoice_references, schema.watched_addresses


@dataclass(frozen=True, slots=True, kw_only=True)
class New:
    """A draft, and what its names are made of."""

    draft: Draft
    entropy: bytes
    """10 random bytes, for the id."""
    secret: bytes
    """16 from a secure source, for the name of its payment page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    invoice: Invoice
    told: Event
    """What was told of it; it carries the invoice as the API shows it."""


async def insert(
    conn: AsyncConnection,
    draft: Draft,
    *,
    now: datetime,
    entropy: bytes,
    secret: bytes,
    policy: DepositPolicy = POOL_ONLY,
) -> Invoice:
    """One invoice, as `insert_many` makes them; raises `Conflict` also where the merchant has the reference already."""
    (made,) = await insert_many(conn, [New(draft=draft, entropy=entropy, secret=secret)], now=now, policy=policy)
    if isinstance(made, Conflict):
        raise made
    return made.invoice


async def insert_many(
    conn: AsyncConnection, new: Sequence[New], *, now: datetime, policy: DepositPolicy = POOL_ONLY
) -> list[Made | Conflict]:
    """Stores new invoices, watches their addresses, reserves their unique amounts and references, and tells of them; in
    about as many statements as one takes. In the order given; a `Conflict` for each whose merchant has its reference
    already, of which nothing is stored.

    Options without an address get one deposit address together. Raises `Conflict` if one cannot be made otherwise: an
    on-chain reference names another invoice at the same address, or no unique amount or deposit address is left;
    `InvalidInput` if there are no deposit addresses at all. Nothing is to be stored then: the caller rolls back, and
    may try each alone to learn which it was.
    """
    bare = [_without_options(each, now) for each in new]
    stored = await invoices.add(conn, bare)
    drafts = {i.id: each.draft for i, each in zip(bare, new, strict=True) if i.id in stored}
    pay_to = await _addresses(conn, drafts, policy, now)
    made = await _with_options(conn, [i for i in bare if i.id in stored], drafts, pay_to, now)
    of = [(i.id, o) for i in made for o in i.options]
    await invoices.add_options(conn, of)
    await _reserve_references(conn, of)
    await _watch(conn, [o for _, o in of], now)
    told = await reading.tell_of_new(conn, made, now=now)
    done = {i.id: Made(invoice=i, told=event) for i, event in zip(made, told, strict=True)}
    return [done.get(i.id) or _reference_taken(i) for i in bare]


def _without_options(new: New, now: datetime) -> Invoice:
    draft = new.draft
    return Invoice(
        id=InvoiceId(make_id("inv", now, new.entropy)),
        merchant=draft.merchant,
        reference=draft.reference,
        status=InvoiceStatus.PENDING,
        exceptions=frozenset(),
        currency=draft.currency,
        amount=draft.amount,
        scale=draft.scale,
        options=(),
        created_at=draft.created_at,
        expires_at=draft.expires_at,
        monitoring_until=draft.monitoring_until,
        settled_at=None,
        settlement_id=None,
        metadata=draft.metadata,
        version=1,
        pay_token=make_token(new.secret),
    )


def _reference_taken(invoice: Invoice) -> Conflict:
    return Conflict(
        "reference",
        f"{invoice.reference!r} is taken by another invoice of merchant {invoice.merchant!r}; "
        "use a new reference, or look that invoice up",
    )


async def _with_options(
    conn: AsyncConnection,
    bare: Sequence[Invoice],
    drafts: Mapping[InvoiceId, Draft],
    pay_to: Mapping[InvoiceId, Sequence[Address]],
    now: datetime,
) -> list[Invoice]:
    """The invoices with their options, in the order given; unique amounts are reserved."""
    states = {s.chain_id: s for s in await chains.all_states(conn)}
    offered = set(await invoices.offered_before(conn, {a for some in pay_to.values() for a in some}))
    made = []
    for invoice in bare:
        ways = pay_to[invoice.id]
        options = tuple(
            Option(
                index=index,
                chain=o.chain,
                chain_id=o.token.chain_id,
                token=o.token.symbol,
                token_address=o.token.address,
                decimals=o.token.decimals,
                pay_to=ways[index],
                match=o.match,
                amount_base=o.amount_base,
                tail_base=BaseUnits(0),
                from_block=_from_block(states.get(o.token.chain_id), is_new=ways[index] not in offered),
                reference=o.reference,
                payer=o.payer,
            )
            for index, o in enumerate(drafts[invoice.id].options)
        )
        offered |= {o.pay_to for o in options if o.match is Match.ADDRESS}
        made.append(replace(invoice, options=options))
    return await _with_tails(conn, made, now)


def _from_block(state: ChainState | None, *, is_new: bool) -> BlockNumber | None:
    """The height up to which nothing was mined for a new invoice, as far as is known.

    At an address that another invoice had, what is on its way may be for that one: up to the newest block anybody
    showed it is not this one's. A payment in a block that replaces such a one goes to suspense, where it is seen.
    """
    if state is None or state.settled_number is None:
        return None
    known = [state.settled_number, *([] if is_new else [n for n in (state.scanned_number, state.head_number) if n])]
    return BlockNumber(max(known))


async def _addresses(
    conn: AsyncConnection, drafts: Mapping[InvoiceId, Draft], policy: DepositPolicy, now: datetime
) -> dict[InvoiceId, list[Address]]:
    """Where each option is to be paid. What was named by hand is taken first, or the pool might give the same."""
    await _take_named(conn, drafts, policy, now)
    wanted = [
        deposits.Wanted(
            invoice_id=id_, until=draft.monitoring_until + policy.quarantine, at=f"options[{left_out}].pay_to"
        )
        for id_, draft in drafts.items()
        if (left_out := next((index for index, o in enumerate(draft.options) if o.pay_to is None), None)) is not None
    ]
    given = await deposits.give(conn, wanted, key=policy.key, now=now)
    own = {each.invoice_id: address for each, address in zip(wanted, given, strict=True)}
    return {id_: [o.pay_to or own[id_] for o in draft.options] for id_, draft in drafts.items()}


async def _take_named(
    conn: AsyncConnection, drafts: Mapping[InvoiceId, Draft], policy: DepositPolicy, now: datetime
) -> None:
    """Deposit addresses of ours that were named by hand. Not what another merchant's invoice was given: money would be
    nobody's, for two were meant, and anybody can name an address.
    """
    every = {o.pay_to for draft in drafts.values() for o in draft.options if o.pay_to is not None}
    owners = dict(await deposits.owners(conn, every, now=now))
    taken = []
    for id_, draft in drafts.items():
        for index, o in enumerate(draft.options):
            if o.pay_to is None or o.pay_to not in owners:
                continue
            if owners[o.pay_to] not in {None, draft.merchant}:
                raise Conflict(
                    f"options[{index}].pay_to",
                    f"{to_checksum(o.pay_to)} is the deposit address of another invoice; give another address, or "
                    "leave it out to be given one",
                )
        for address in {o.pay_to for o in draft.options if o.pay_to in owners}:
            assert address is not None, "it has an owner"
            owners[address] = draft.merchant
            until = draft.monitoring_until + policy.quarantine
            taken.append(deposits.Named(address=address, invoice_id=id_, until=until))
    await deposits.mark_taken(conn, taken)


async def _reserve_references(conn: AsyncConnection, of: Sequence[tuple[InvoiceId, Option]]) -> None:
    """Each reference names its invoice at its address, for good, in every form a log may show it in."""
    names: dict[tuple[bytes, Address], tuple[InvoiceId, Option]] = {}
    for id_, option in of:
        if option.reference is not None:
            for key in reference_keys(option.reference, keccak):
                if names.setdefault((key, option.pay_to), (id_, option))[0] != id_:
                    raise _reference_names_another(option)
    # in one order: two transactions with the same two must not wait for each other
    rows = [{"key": key, "pay_to": pay_to, "invoice_id": names[key, pay_to][0]} for key, pay_to in sorted(names)]
    added = await insert_absent(conn, _r, rows, key=["key", "pay_to"], telling=["key", "pay_to"])
    for key, pay_to in sorted(names):
        if (key, pay_to) not in added:
            raise _reference_names_another(names[key, pay_to][1])


def _reference_names_another(option: Option) -> Conflict:
    assert option.reference is not None, "only references are reserved"
    return Conflict(
        f"options[{option.index}].reference",
        f"0x{option.reference.hex()} names another invoice at that address; give another reference, or leave "
        "it out to have one made",
    )


async def _watch(conn: AsyncConnection, options: Sequence[Option], now: datetime) -> None:
    """The addresses are watched when this commits, also where an operator is retiring one just now."""
    with_references = {o.pay_to for o in options if o.reference is not None}
    for addresses in chunks(sorted({o.pay_to for o in options})):
        await chains.watch_addresses(conn, addresses, now=now)
        held = (
            select(_w).where(is_one_of(conn, _w.c.address, addresses)).order_by(_w.c.address).with_for_update(read=True)
        )
        rows = (await conn.execute(held)).all()
        if any(row.retired_at is not None for row in rows):
            await chains.watch_addresses(conn, addresses, now=now)
        fresh = [Address(row.address) for row in rows if row.address in with_references and not row.has_references]
        if fresh:
            await chains.expect_references(conn, fresh)


async def _with_tails(conn: AsyncConnection, made: Sequence[Invoice], now: datetime) -> list[Invoice]:
    """The invoices; each option that is matched by amount with the smallest tail that makes its amount unique on its
    address and token, reserved for it.
    """
    rest = [(i, o) for i in made for o in i.options if o.match is Match.AMOUNT]
    if not rest:
        return list(made)
    taken: dict[Way, set[int]] = {way: set() for way in sorted({way_of(o) for _, o in rest})}
    for way in taken:
        await invoices.let_go_of_ended(conn, way, now)
    for way, first, last in sorted({(way_of(o), o.amount_base, _most(o)) for _, o in rest}):
        taken[way] |= await invoices.reserved_amounts(conn, way, first=first, last=last)
    unique: dict[tuple[InvoiceId, int], Option] = {}
    while rest:
        tried = [(invoice, _with_tail(option, taken[way_of(option)])) for invoice, option in rest]
        kept = await invoices.reserve_amounts(conn, tried)
        unique |= {(i.id, o.index): o for i, o in tried if (way_of(o), o.amount_base) in kept}
        rest = [(i, o) for i, o in rest if (i.id, o.index) not in unique]
    return [replace(i, options=tuple(unique.get((i.id, o.index), o) for o in i.options)) for i in made]


def _with_tail(option: Option, taken: set[int]) -> Option:
    """The option with the smallest tail that is not taken; it is then."""
    unit = tail_unit(option.decimals)
    for amount in range(option.amount_base + unit, _most(option) + 1, unit):
        if amount not in taken:
            taken.add(amount)
            tail = BaseUnits(amount - option.amount_base)
            return replace(option, amount_base=BaseUnits(amount), tail_base=tail)
    raise Conflict(
        f"options[{option.index}].match",
        f"all {tail_capacity(option.decimals)} unique amounts above this one are taken on that address; "
        "use another address",
    )


def _most(option: Option) -> int:
    """The largest amount an option may ask for instead of its own."""
    return option.amount_base + tail_capacity(option.decimals) * tail_unit(option.decimals)
