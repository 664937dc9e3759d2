"""Which invoices a transfer might pay: the hot look-up of matching."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence, Set
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from chains.model import Address, ChainId
from settler.domain.ids import InvoiceId
from settler.domain.invoices import Match
from settler.domain.matching import Arrival, Candidates
from settler.storage import invoices, schema
from settler.storage.sql import chunks

_i, _o = schema.invoices, schema.invoice_options
_a, _r = schema.amount_reservations, schema.invoice_references

MAX_CANDIDATES = 50
"""Invoices looked at for one address: more than one open is ambiguous anyway."""


async def find(conn: AsyncConnection, arrivals: Sequence[Arrival]) -> list[Candidates]:
    """For each arrival the invoices it might pay, and who else shares its address."""
    recipients = {a.identity.recipient for a in arrivals}
    amounts = {a.identity.amount for a in arrivals}
    by_address: dict[Address, set[InvoiceId]] = defaultdict(set)
    by_amount: dict[tuple[Address, int], set[InvoiceId]] = defaultdict(set)
    shared: dict[Address, set[tuple[ChainId, Address]]] = defaultdict(set)
    for chunk in chunks(sorted(recipients)):
        of_address = select(_o.c.pay_to, _o.c.invoice_id).where(
            _o.c.pay_to.in_(chunk), _o.c.match == Match.ADDRESS.value
        )
        for pay_to, id_ in await conn.execute(of_address):
            by_address[Address(pay_to)].add(InvoiceId(id_))
        for some in chunks(sorted(amounts)):
            of_amount = select(_o.c.pay_to, _o.c.amount_base, _o.c.invoice_id).where(
                _o.c.pay_to.in_(chunk), _o.c.match == Match.AMOUNT.value, _o.c.amount_base.in_(some)
            )
            for pay_to, amount, id_ in await conn.execute(of_amount):
                by_amount[Address(pay_to), amount].add(InvoiceId(id_))
        reserved = select(_a.c.pay_to, _a.c.chain_id, _a.c.token).where(_a.c.pay_to.in_(chunk)).distinct()
        for pay_to, chain_id, token in await conn.execute(reserved):
            shared[Address(pay_to)].add((ChainId(chain_id), Address(token)))
    by_key = await _by_key(conn, arrivals)
    by_payer = await _by_payer(conn, arrivals)
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
            _i.c.id.in_(chunk), _i.c.status.in_(["settled", "canceled"]) | (_i.c.monitoring_until < at)
        )
        found |= {InvoiceId(row.id) for row in await conn.execute(query)}
    return frozenset(found)


async def _by_key(conn: AsyncConnection, arrivals: Sequence[Arrival]) -> dict[tuple[bytes, Address], set[InvoiceId]]:
    """The invoice that a reference names at an address."""
    found: dict[tuple[bytes, Address], set[InvoiceId]] = defaultdict(set)
    for chunk in chunks(sorted({key for a in arrivals for key in a.keys})):
        query = select(_r.c.key, _r.c.pay_to, _r.c.invoice_id).where(_r.c.key.in_(chunk))
        for key, pay_to, id_ in await conn.execute(query):
            found[key, Address(pay_to)].add(InvoiceId(id_))
    return found


async def _by_payer(
    conn: AsyncConnection, arrivals: Sequence[Arrival]
) -> dict[tuple[Address, Address], set[InvoiceId]]:
    """Invoices that expect a sender at an address."""
    found: dict[tuple[Address, Address], set[InvoiceId]] = defaultdict(set)
    for chunk in chunks(sorted({a.identity.sender for a in arrivals})):
        query = select(_o.c.pay_to, _o.c.payer, _o.c.invoice_id).where(
            _o.c.payer.in_(chunk), _o.c.match == Match.PAYER.value
        )
        for pay_to, payer, id_ in await conn.execute(query):
            found[Address(pay_to), Address(payer)].add(InvoiceId(id_))
    return found
