"""Invoices: made from drafts, found, changed by version, and looked up as candidates for a transfer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Row, bindparam, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from chains.model import Address, BaseUnits, BlockNumber, ChainId
from settler.domain.drafting import Draft, DraftOption, tail_capacity, tail_unit
from settler.domain.errors import Conflict, NotFound
from settler.domain.events import EventType
from settler.domain.ids import InvoiceId, SettlementId, make_id
from settler.domain.invoices import (
    Allocation,
    Invoice,
    InvoiceException,
    InvoiceStatus,
    Match,
    Option,
    TransferStatus,
    UnmatchedReason,
)
from settler.domain.matching import Arrival, Candidates
from settler.storage import chains, operator_actions, reading, schema, transfers
from settler.storage.sql import chunks, insert_one_if_absent

_i, _o, _a = schema.invoices, schema.invoice_options, schema.amount_reservations

MAX_CANDIDATES = 50
"""Invoices looked at for one address: more than one open is ambiguous anyway."""


async def insert(conn: AsyncConnection, draft: Draft, *, now: datetime, entropy: bytes) -> Invoice:
    """Stores a new invoice, watches its addresses, reserves its unique amounts and tells of it.

    `entropy`: 10 random bytes for the id. Raises `Conflict` if the merchant has the reference already, or if no
    unique amount is
    left on a shared address; nothing is stored then (the caller's transaction is to be rolled back).
    """
    id_ = InvoiceId(make_id("inv", now, entropy))
    heads = {s.chain_id: s.head_number for s in await chains.all_states(conn)}
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
    )
    if not await insert_one_if_absent(conn, _i, _row(invoice), key=["merchant", "reference"]):
        raise Conflict(
            "reference",
            f"{draft.reference!r} is taken by another invoice of merchant {draft.merchant!r}; "
            "use a new reference, or look that invoice up",
        )
    options = []
    for index, option in enumerate(draft.options):
        tail = 0
        if option.match is Match.AMOUNT:
            tail = await _reserve_tail(conn, option, invoice, index, now)
        options.append(
            Option(
                index=index,
                chain=option.chain,
                chain_id=option.token.chain_id,
                token=option.token.symbol,
                token_address=option.token.address,
                decimals=option.token.decimals,
                pay_to=option.pay_to,
                match=option.match,
                amount_base=BaseUnits(option.amount_base + tail),
                tail_base=BaseUnits(tail),
                from_block=heads.get(option.token.chain_id),
            )
        )
    await conn.execute(sa.insert(_o), [_option_row(id_, o) for o in options])
    await chains.watch_addresses(conn, (o.pay_to for o in options), now=now)
    invoice = replace(invoice, options=tuple(options))
    await reading.tell_of_invoices(conn, [(invoice, EventType.INVOICE_CREATED)], now=now)
    return invoice


async def _reserve_tail(conn: AsyncConnection, option: DraftOption, invoice: Invoice, index: int, now: datetime) -> int:
    """The smallest tail that makes the amount unique on that address and token; reserved until monitoring ends."""
    unit, capacity = tail_unit(option.token.decimals), tail_capacity(option.token.decimals)
    way = (
        (_a.c.chain_id == option.token.chain_id) & (_a.c.token == option.token.address) & (_a.c.pay_to == option.pay_to)
    )
    await conn.execute(delete(_a).where(way, _a.c.reserved_until < now))
    top = option.amount_base + capacity * unit
    query = select(_a.c.amount).where(way, _a.c.amount.between(option.amount_base, top))
    taken = {row.amount for row in await conn.execute(query)}
    for step in range(1, capacity + 1):
        amount = option.amount_base + step * unit
        if amount in taken:
            continue
        row = {
            "chain_id": option.token.chain_id,
            "token": option.token.address,
            "pay_to": option.pay_to,
            "amount": amount,
            "invoice_id": invoice.id,
            "reserved_until": invoice.monitoring_until,
        }
        if await insert_one_if_absent(conn, _a, row, key=["chain_id", "token", "pay_to", "amount"]):
            return int(step * unit)
    raise Conflict(
        f"options[{index}].match",
        f"all {capacity} unique amounts above this one are taken on that address; use another address",
    )


async def free_amounts(conn: AsyncConnection, now: datetime, *, limit: int) -> int:
    """Gives up reservations of unique amounts that have ended; how many, at most `limit`."""
    ended = (
        await conn.execute(
            select(_a.c.chain_id, _a.c.token, _a.c.pay_to, _a.c.amount).where(_a.c.reserved_until < now).limit(limit)
        )
    ).all()
    for row in ended:
        await conn.execute(
            delete(_a).where(
                _a.c.chain_id == row.chain_id,
                _a.c.token == row.token,
                _a.c.pay_to == row.pay_to,
                _a.c.amount == row.amount,
                _a.c.reserved_until < now,
            )
        )
    return len(ended)


async def get(conn: AsyncConnection, id_: InvoiceId) -> Invoice | None:
    return (await get_many(conn, [id_])).get(id_)


async def get_many(conn: AsyncConnection, ids: Iterable[InvoiceId], *, lock: bool = False) -> dict[InvoiceId, Invoice]:
    """Invoices by id. `lock`: nobody else may change them until the transaction ends; taken in id order against
    deadlock.
    """
    found: dict[InvoiceId, Invoice] = {}
    for chunk in chunks(sorted(set(ids))):
        query = select(_i).where(_i.c.id.in_(chunk)).order_by(_i.c.id)
        if lock:
            query = query.with_for_update()
        found |= {i.id: i for i in await _with_options(conn, (await conn.execute(query)).all())}
    return found


async def find(
    conn: AsyncConnection,
    *,
    status: InvoiceStatus | None = None,
    reference: str | None = None,
    merchant: str | None = None,
    exception: InvoiceException | None = None,
    before: str | None = None,
    limit: int = 50,
) -> list[Invoice]:
    """Newest first. `before`: id to go on below."""
    query = select(_i).order_by(_i.c.id.desc()).limit(limit)
    if status is not None:
        query = query.where(_i.c.status == status.value)
    if reference is not None:
        query = query.where(_i.c.reference == reference)
    if merchant is not None:
        query = query.where(_i.c.merchant == merchant)
    if exception is not None:
        query = query.where(_i.c.exceptions.like(f"% {exception.value} %"))
    if before is not None:
        query = query.where(_i.c.id < before)
    return await _with_options(conn, (await conn.execute(query)).all())


async def save(conn: AsyncConnection, invoices: Sequence[Invoice]) -> None:
    """Writes what may change of known invoices: status, exceptions, settlement, version."""
    if not invoices:
        return
    statement = (
        update(_i).where(_i.c.id == bindparam("_id")).values({name: bindparam(f"_{name}") for name in _CHANGING})
    )
    await conn.execute(
        statement,
        [{"_id": i.id} | {f"_{name}": value for name, value in _row(i).items() if name in _CHANGING} for i in invoices],
    )


async def cancel(conn: AsyncConnection, id_: InvoiceId, *, now: datetime, who: str, reason: str) -> Invoice:
    """Takes an invoice back. What was paid on it goes to suspense, where an operator sees it.

    Only while it is pending: raises `Conflict` otherwise, `NotFound` if there is none.
    """
    invoice = (await get_many(conn, [id_], lock=True)).get(id_)
    if invoice is None:
        raise NotFound(f"there is no invoice {id_}")
    if invoice.status is not InvoiceStatus.PENDING:
        raise Conflict("status", f"{id_} is {invoice.status}; only a pending invoice can be canceled")
    allocated = (await transfers.of_invoices(conn, [id_]))[id_]
    released = [
        replace(
            t,
            allocation=Allocation.UNMATCHED,
            reason=UnmatchedReason.NO_INVOICE,
            invoice_id=None,
            evidence={"released_by_cancel_of": id_},
            version=t.version + 1,
        )
        for t in allocated
    ]
    await transfers.save(conn, released)
    canceled = replace(invoice, status=InvoiceStatus.CANCELED, exceptions=frozenset(), version=invoice.version + 1)
    await save(conn, [canceled])
    await conn.execute(delete(_a).where(_a.c.invoice_id == id_))
    await operator_actions.add(conn, action="invoice.cancel", object_id=id_, who=who, reason=reason, now=now)
    live = [t for t in released if t.is_canonical]
    await reading.tell_of_transfers(conn, [(t, EventType.TRANSFER_UNMATCHED) for t in live], now=now)
    await reading.tell_of_invoices(conn, [(canceled, EventType.INVOICE_CANCELED)], now=now)
    return canceled


async def candidates(conn: AsyncConnection, arrivals: Sequence[Arrival]) -> list[Candidates]:
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
    near = [
        sorted(by_address[a.identity.recipient], reverse=True)[:MAX_CANDIDATES]
        + sorted(by_amount[a.identity.recipient, a.identity.amount], reverse=True)[:MAX_CANDIDATES]
        for a in arrivals
    ]
    invoices = await get_many(conn, {id_ for ids in near for id_ in ids}, lock=True)
    return [
        Candidates(
            invoices=[invoices[id_] for id_ in ids],
            shares_address_same_asset=(asset := (a.identity.chain_id, a.identity.token))
            in shared[a.identity.recipient],
            shares_address_other_asset=bool(shared[a.identity.recipient] - {asset}),
        )
        for a, ids in zip(arrivals, near, strict=True)
    ]


async def due_for_expiry(conn: AsyncConnection, limit: int) -> list[InvoiceId]:
    """Pending invoices whose time ended before the newest block read on each chain of their options, the longest
    ago first.
    """
    c = schema.chains
    not_yet = (
        select(_o.c.invoice_id)
        .outerjoin(c, c.c.chain_id == _o.c.chain_id)
        .where(
            _o.c.invoice_id == _i.c.id,
            c.c.scanned_time.is_(None) | (c.c.scanned_time <= _i.c.expires_at),
        )
        .exists()
    )
    newest = select(func.max(c.c.scanned_time)).scalar_subquery()
    query = (
        select(_i.c.id)
        .where(_i.c.status == InvoiceStatus.PENDING.value, _i.c.expires_at < newest, ~not_yet)
        .order_by(_i.c.expires_at)
        .limit(limit)
    )
    return [InvoiceId(row.id) for row in await conn.execute(query)]


async def paid_and_final(conn: AsyncConnection, limit: int) -> list[InvoiceId]:
    """Processing invoices none of whose payments waits for finality any more: they should have been settled already."""
    t = schema.transfers
    waits = select(t.c.id).where(t.c.invoice_id == _i.c.id, t.c.status == TransferStatus.DETECTED.value).exists()
    query = select(_i.c.id).where(_i.c.status == InvoiceStatus.PROCESSING.value, ~waits).order_by(_i.c.id).limit(limit)
    return [InvoiceId(row.id) for row in await conn.execute(query)]


async def merchants(conn: AsyncConnection, ids: Iterable[InvoiceId]) -> dict[InvoiceId, str]:
    """Whose invoices they are."""
    found: dict[InvoiceId, str] = {}
    for chunk in chunks(set(ids)):
        query = select(_i.c.id, _i.c.merchant).where(_i.c.id.in_(chunk))
        found |= {InvoiceId(row.id): row.merchant for row in await conn.execute(query)}
    return found


async def count_by_status(conn: AsyncConnection) -> dict[InvoiceStatus, int]:
    counts = dict.fromkeys(InvoiceStatus, 0)
    query = select(_i.c.status, func.count()).group_by(_i.c.status)
    for status, count in await conn.execute(query):
        counts[InvoiceStatus(status)] = int(count)
    return counts


_CHANGING = ("status", "exceptions", "settled_at", "settlement_id", "version")


def _row(i: Invoice) -> dict[str, Any]:
    return {
        "id": i.id,
        "merchant": i.merchant,
        "reference": i.reference,
        "status": i.status.value,
        "exceptions": " ".join(["", *sorted(e.value for e in i.exceptions), ""]),
        "currency": i.currency,
        "amount": i.amount,
        "scale": i.scale,
        "created_at": i.created_at,
        "expires_at": i.expires_at,
        "monitoring_until": i.monitoring_until,
        "settled_at": i.settled_at,
        "settlement_id": i.settlement_id,
        "metadata": dict(i.metadata),
        "version": i.version,
    }


def _option_row(invoice_id: InvoiceId, o: Option) -> dict[str, Any]:
    return {
        "invoice_id": invoice_id,
        "index": o.index,
        "chain": o.chain,
        "chain_id": o.chain_id,
        "token": o.token,
        "token_address": o.token_address,
        "decimals": o.decimals,
        "pay_to": o.pay_to,
        "match": o.match.value,
        "amount_base": o.amount_base,
        "tail_base": o.tail_base,
        "from_block": o.from_block,
    }


async def _with_options(conn: AsyncConnection, rows: Sequence[Row[Any]]) -> list[Invoice]:
    options: dict[str, list[Option]] = {row.id: [] for row in rows}
    for chunk in chunks(options):
        query = select(_o).where(_o.c.invoice_id.in_(chunk)).order_by(_o.c.invoice_id, _o.c.index)
        for row in await conn.execute(query):
            options[row.invoice_id].append(_option(row))
    return [_invoice(row, tuple(options[row.id])) for row in rows]


def _option(row: Row[Any]) -> Option:
    values = row._mapping
    return Option(
        index=values["index"],
        chain=row.chain,
        chain_id=ChainId(row.chain_id),
        token=row.token,
        token_address=Address(row.token_address),
        decimals=row.decimals,
        pay_to=Address(row.pay_to),
        match=Match(row.match),
        amount_base=BaseUnits(row.amount_base),
        tail_base=BaseUnits(row.tail_base),
        from_block=None if row.from_block is None else BlockNumber(row.from_block),
    )


def _invoice(row: Row[Any], options: tuple[Option, ...]) -> Invoice:
    return Invoice(
        id=InvoiceId(row.id),
        merchant=row.merchant,
        reference=row.reference,
        status=InvoiceStatus(row.status),
        exceptions=frozenset(InvoiceException(e) for e in row.exceptions.split()),
        currency=row.currency,
        amount=row.amount,
        scale=row.scale,
        options=options,
        created_at=row.created_at,
        expires_at=row.expires_at,
        monitoring_until=row.monitoring_until,
        settled_at=row.settled_at,
        settlement_id=None if row.settlement_id is None else SettlementId(row.settlement_id),
        metadata=row._mapping["metadata"],
        version=row.version,
    )
