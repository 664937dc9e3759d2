"""Which invoices a transfer might pay: the hot look-up of matching."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence, Set
from datetime import datetime

from sqlalchemy import select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from chains.model import Address, ChainId
from settler.domain.ids import InvoiceId
from settler.domain.invoices import Match
from settler.domain.matching import Arrival, Candidates
from settler.storage import invoices, schema
from settler.storage.sql import chunks, is_one_of, look_up

_i, _o = schema.invoices, schema.invoice_options
_a, _r = schema.amount_reservations, schema.invoice_references
_w, _t = schema.watched_addresses, schema.tokens

MAX_CANDIDATES = 50
"""Invoices looked at for one address: more than one open is ambiguous anyway."""

# One row of it, not EXISTS: that PostgreSQL turns into a join, for which it may read all reservations there are.
_HAS_RESERVATIONS = (
    select(_a.c.amount).where(_a.c.pay_to == _w.c.address).limit(1).correlate(_w).scalar_subquery().is_not(None)
)
_SHARED_BY_ASSET = (
    select(_w.c.address, _t.c.chain_id, _t.c.address)
    .select_from(_w.join(_t, true()))
    .where(
        select(_a.c.amount)
        .where(_a.c.pay_to == _w.c.address, _a.c.chain_id == _t.c.chain_id, _a.c.token == _t.c.address)
        .limit(1)
        .correlate(_w, _t)
        .scalar_subquery()
        .is_not(None)
    )
)


async def find(conn: AsyncConnection, arrivals: Sequence[Arrival]) -> list[Candidates]:
    """For each arrival the invoices it might pay, and who else shares its address."""
    recipients = {a.identity.recipient for a in arrivals}
    by_address = await _by_address(conn, recipients)
    by_amount = await _by_amount(conn, {(a.identity.recipient, a.identity.amount) for a in arrivals})
    shared = await _sharing(conn, recipients)
    by_key = await _by_key(conn, {(key, a.identity.recipient) for a in arrivals for key in a.keys})
    by_payer = await _by_payer(conn, {(a.identity.recipient, a.identity.sender) for a in arrivals})
    named = [frozenset(id_ for key in a.keys for id_ in by_key[key, a.identity.recipient]) for a in arrivals]
    crowded = [ids for some in (by_address, by_amount, by_payer) for ids in some.values() if len(ids) > MAX_CANDIDATES]
    over = await _over(
        conn, {id_ for ids in crowded for id_ in ids}, min((a.block_time for a in arrivals), default=None)
    )
    near = [
        list(
            dict.fromkeys(
                [
                    *sorted(names),
                    *_newest(by_address[a.identity.recipient], over),
                    *_newest(by_amount[a.identity.recipient, a.identity.amount], over),
                    *_newest(by_payer[a.identity.recipient, a.identity.sender], over),
                ]
            )
        )
        for a, names in zip(arrivals, named, strict=True)
    ]
    found = await invoices.get_many(conn, {id_ for ids in near for id_ in ids}, lock=True)
    return [
        Candidates(
            invoices=[found[id_] for id_ in ids],
            named=names,
            shares_address_same_asset=(asset := (a.identity.chain_id, a.identity.token))
            in shared[a.identity.recipient],
            shares_address_other_asset=bool(shared[a.identity.recipient] - {asset}),
        )
        for a, ids, names in zip(arrivals, near, named, strict=True)
    ]


def _newest(ids: set[InvoiceId], over: Set[InvoiceId]) -> list[InvoiceId]:
    """Those that can take money first: invoices that cannot must not crowd out one that can."""
    return sorted(sorted(ids, reverse=True), key=lambda id_: id_ in over)[:MAX_CANDIDATES]


async def _over(conn: AsyncConnection, ids: Set[InvoiceId], at: datetime | None) -> frozenset[InvoiceId]:
    """Those that take no money mined at `at` or later: closed, or not monitored any more."""
    found: set[InvoiceId] = set()
    for chunk in chunks(sorted(ids)):
        query = select(_i.c.id).where(
            is_one_of(conn, _i.c.id, chunk), _i.c.status.in_(["settled", "canceled"]) | (_i.c.monitoring_until < at)
        )
        found |= {InvoiceId(row.id) for row in await conn.execute(query)}
    return frozenset(found)


async def _by_address(conn: AsyncConnection, recipients: Set[Address]) -> dict[Address, set[InvoiceId]]:
    """Invoices that have the address as their own."""
    wanted = [(pay_to, Match.ADDRESS.value) for pay_to in sorted(recipients)]
    found: dict[Address, set[InvoiceId]] = defaultdict(set)
    for at, id_ in await look_up(conn, _o, ("pay_to", "match"), wanted, telling=("invoice_id",)):
        found[wanted[at][0]].add(id_)
    return found


async def _by_amount(
    conn: AsyncConnection, wanted: Set[tuple[Address, int]]
) -> dict[tuple[Address, int], set[InvoiceId]]:
    """Invoices that ask for just that amount at an address."""
    asked = [(pay_to, Match.AMOUNT.value, amount) for pay_to, amount in sorted(wanted)]
    found: dict[tuple[Address, int], set[InvoiceId]] = defaultdict(set)
    for at, id_ in await look_up(conn, _o, ("pay_to", "match", "amount_base"), asked, telling=("invoice_id",)):
        pay_to, _, amount = asked[at]
        found[pay_to, amount].add(id_)
    return found


async def _sharing(conn: AsyncConnection, recipients: Set[Address]) -> dict[Address, set[tuple[ChainId, Address]]]:
    """The assets for which open invoices share an address by amount. Asked asset by asset: an address may have as many
    reservations as there are invoices.
    """
    found: dict[Address, set[tuple[ChainId, Address]]] = defaultdict(set)
    for chunk in chunks(sorted(recipients)):
        is_shared = select(_w.c.address).where(is_one_of(conn, _w.c.address, chunk), _HAS_RESERVATIONS)
        addresses = [row.address for row in await conn.execute(is_shared)]
        if addresses:
            by_asset = _SHARED_BY_ASSET.where(is_one_of(conn, _w.c.address, addresses))
            for address, chain_id, token in await conn.execute(by_asset):
                found[address].add((chain_id, token))
    return found


async def _by_key(
    conn: AsyncConnection, wanted: Set[tuple[bytes, Address]]
) -> dict[tuple[bytes, Address], set[InvoiceId]]:
    """The invoice that a reference names at an address."""
    asked = sorted(wanted)
    found: dict[tuple[bytes, Address], set[InvoiceId]] = defaultdict(set)
    for at, id_ in await look_up(conn, _r, ("key", "pay_to"), asked, telling=("invoice_id",)):
        found[asked[at]].add(id_)
    return found


async def _by_payer(
    conn: AsyncConnection, wanted: Set[tuple[Address, Address]]
) -> dict[tuple[Address, Address], set[InvoiceId]]:
    """Invoices that expect a sender at an address, by address and sender."""
    asked = sorted((payer, pay_to) for pay_to, payer in wanted)
    found: dict[tuple[Address, Address], set[InvoiceId]] = defaultdict(set)
    # as the index is for; the strategy is looked at here, since SQLite would make itself an index of it each time
    for at, match, id_ in await look_up(
        conn,
        _o,
        ("payer", "pay_to"),
        asked,
        telling=("match", "invoice_id"),
        besides="invoice_options.payer IS NOT NULL",
    ):
        if match == Match.PAYER.value:
            payer, pay_to = asked[at]
            found[pay_to, payer].add(id_)
    return found
