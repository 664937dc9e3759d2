"""Invoices made from drafts; each tells of itself. What is decided about them later: `settler.stages.operating`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from chains.address import to_checksum
from chains.model import Address, BaseUnits, BlockNumber
from chains.proof.keccak import keccak
from settler.domain.deposits import POOL_ONLY, DepositPolicy
from settler.domain.drafting import Draft, reference_keys, tail_capacity, tail_unit
from settler.domain.errors import Conflict
from settler.domain.events import EventType
from settler.domain.ids import InvoiceId, make_id, make_token
from settler.domain.invoices import Invoice, InvoiceStatus, Match, Option
from settler.storage import chains, deposits, invoices, reading, schema
from settler.storage.chains import ChainState
from settler.storage.sql import insert_one_if_absent

_r, _w = schema.invoice_references, schema.watched_addresses


async def insert(
    conn: AsyncConnection,
    draft: Draft,
    *,
    now: datetime,
    entropy: bytes,
    secret: bytes,
    policy: DepositPolicy = POOL_ONLY,
) -> Invoice:
    """Stores a new invoice, watches its addresses, reserves its unique amounts and references, and tells of it.

    Options without an address get one deposit address together. `entropy`: 10 random bytes for the id; `secret`: 16
    for the name of its payment page, from a secure source. Raises `Conflict` if the merchant has the reference already,
    if an on-chain reference names another invoice at the same address, or if no unique amount or deposit address is
    left; `InvalidInput` if there are no deposit addresses at all. Nothing is stored then (the caller's transaction is
    to be rolled back).
    """
    id_ = InvoiceId(make_id("inv", now, entropy))
    invoice = Invoice(
        id=id_,
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
        pay_token=make_token(secret),
    )
    if not await invoices.add(conn, invoice):
        raise Conflict(
            "reference",
            f"{draft.reference!r} is taken by another invoice of merchant {draft.merchant!r}; "
            "use a new reference, or look that invoice up",
        )
    pay_to = await _addresses(conn, id_, draft, policy, now)
    states = {s.chain_id: s for s in await chains.all_states(conn)}
    used_before = await invoices.offered_by_others(conn, pay_to, id_)
    options = []
    for index, o in enumerate(draft.options):
        option = Option(
            index=index,
            chain=o.chain,
            chain_id=o.token.chain_id,
            token=o.token.symbol,
            token_address=o.token.address,
            decimals=o.token.decimals,
            pay_to=pay_to[index],
            match=o.match,
            amount_base=o.amount_base,
            tail_base=BaseUnits(0),
            from_block=_from_block(states.get(o.token.chain_id), is_new=pay_to[index] not in used_before),
            reference=o.reference,
            payer=o.payer,
        )
        options.append(await _with_tail(conn, invoice, option, now) if o.match is Match.AMOUNT else option)
    await invoices.add_options(conn, id_, options)
    await _reserve_references(conn, id_, options)
    await _watch(conn, options, now)
    invoice = replace(invoice, options=tuple(options))
    await reading.tell_of_invoices(conn, [(invoice, EventType.INVOICE_CREATED)], now=now)
    return invoice


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
    conn: AsyncConnection, id_: InvoiceId, draft: Draft, policy: DepositPolicy, now: datetime
) -> list[Address]:
    """Where each option is to be paid. What was named by hand is taken first, or the pool might give the same. Not what
    another merchant's invoice was given: money would be nobody's, for two were meant, and anybody can name an address.
    """
    named = [o.pay_to for o in draft.options if o.pay_to is not None]
    others = await deposits.of_another_merchant(conn, named, draft.merchant, now=now)
    for index, o in enumerate(draft.options):
        if o.pay_to in others:
            raise Conflict(
                f"options[{index}].pay_to",
                f"{to_checksum(o.pay_to)} is the deposit address of another invoice; give another address, or leave it "
                "out to be given one",
            )
    await deposits.mark_taken(conn, named, id_, until=draft.monitoring_until + policy.quarantine)
    left_out = next((index for index, o in enumerate(draft.options) if o.pay_to is None), None)
    if left_out is None:
        return named
    own = await deposits.give(
        conn,
        id_,
        monitoring_until=draft.monitoring_until,
        policy=policy,
        now=now,
        at=f"options[{left_out}].pay_to",
    )
    return [o.pay_to or own for o in draft.options]


async def _reserve_references(conn: AsyncConnection, id_: InvoiceId, options: Sequence[Option]) -> None:
    """Each reference names this invoice at its address, for good, in every form a log may show it in."""
    index_of: dict[tuple[bytes, Address], int] = {}
    for option in options:
        if option.reference is not None:
            for key in reference_keys(option.reference, keccak):
                index_of.setdefault((key, option.pay_to), option.index)
    for key, pay_to in sorted(index_of):  # in one order: two invoices with the same two must not wait for each other
        row = {"key": key, "pay_to": pay_to, "invoice_id": id_}
        if not await insert_one_if_absent(conn, _r, row, key=["key", "pay_to"]):
            option = options[index_of[key, pay_to]]
            assert option.reference is not None, "only references are reserved"
            raise Conflict(
                f"options[{option.index}].reference",
                f"0x{option.reference.hex()} names another invoice at that address; give another reference, or leave "
                "it out to have one made",
            )


async def _watch(conn: AsyncConnection, options: Sequence[Option], now: datetime) -> None:
    """The addresses are watched when this commits, also where an operator is retiring one just now."""
    addresses = sorted({o.pay_to for o in options})
    await chains.watch_addresses(conn, addresses, now=now)
    held = select(_w).where(_w.c.address.in_(addresses)).order_by(_w.c.address).with_for_update(read=True)
    rows = (await conn.execute(held)).all()
    if any(row.retired_at is not None for row in rows):
        await chains.watch_addresses(conn, addresses, now=now)
    with_references = {o.pay_to for o in options if o.reference is not None}
    fresh = [Address(row.address) for row in rows if row.address in with_references and not row.has_references]
    if fresh:
        await chains.expect_references(conn, fresh)


async def _with_tail(conn: AsyncConnection, invoice: Invoice, option: Option, now: datetime) -> Option:
    """The option with the smallest tail that makes its amount unique on that address and token, reserved for it."""
    unit, capacity = tail_unit(option.decimals), tail_capacity(option.decimals)
    taken = await invoices.reserved_amounts(conn, option, option.amount_base + capacity * unit, now=now)
    for step in range(1, capacity + 1):
        tail = step * unit
        if option.amount_base + tail in taken:
            continue
        unique = replace(option, amount_base=BaseUnits(option.amount_base + tail), tail_base=BaseUnits(tail))
        if await invoices.reserve_amount(conn, invoice, unique):
            return unique
    raise Conflict(
        f"options[{option.index}].match",
        f"all {capacity} unique amounts above this one are taken on that address; use another address",
    )
