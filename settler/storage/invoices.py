"""Invoices: rows found, added and changed, and unique amounts reserved on shared addresses."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Row, bindparam, delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from chains.model import Address, ChainId
from settler.domain.ids import InvoiceId
from settler.domain.invoices import (
    Invoice,
    InvoiceException,
    InvoiceStatus,
    Match,
    Option,
    TransferStatus,
)
from settler.storage import schema
from settler.storage.bulk import insert, update
from settler.storage.sql import chunks, insert_absent, is_one_of

_i, _o, _a = schema.invoices, schema.invoice_options, schema.amount_reservations
_c, _t = schema.chains, schema.transfers
_STATUSES: dict[str, InvoiceStatus] = {s.value: s for s in InvoiceStatus}
_MATCHES: dict[str, Match] = {m.value: m for m in Match}
_DIGEST_CHARS = 16
"""64 bits: two states of one invoice do not meet in them."""

# The statements of every tick, built once: building one costs more than running it.
_IS_NOT_READ_UP_TO_ITS_EXPIRY = (
    select(_o.c.invoice_id)
    .outerjoin(_c, _c.c.chain_id == _o.c.chain_id)
    .where(
        _o.c.invoice_id == _i.c.id,
        _c.c.scanned_time.is_(None) | (_c.c.scanned_time <= _i.c.expires_at),
    )
    .exists()
)
_DUE_FOR_EXPIRY = (
    select(_i.c.id)
    .where(
        _i.c.status == InvoiceStatus.PENDING.value,
        _i.c.expires_at < select(func.max(_c.c.scanned_time)).scalar_subquery(),
        ~_IS_NOT_READ_UP_TO_ITS_EXPIRY,
    )
    .order_by(_i.c.expires_at)
    .limit(bindparam("limit"))
)
_PAID_BY = select(_t.c.id).where(_t.c.invoice_id == _i.c.id)
_LEFT_UNFINISHED = (
    select(_i.c.id)
    .where(
        _i.c.status.in_(["processing", "reversed"]),
        _PAID_BY.where(_t.c.status == TransferStatus.FINAL.value).exists(),
        ~_PAID_BY.where(_t.c.status == TransferStatus.DETECTED.value).exists(),
    )
    .order_by(_i.c.id)
    .limit(bindparam("limit"))
)
_LEFT_UNFINISHED_ABOVE = _LEFT_UNFINISHED.where(_i.c.id > bindparam("after"))


async def add(conn: AsyncConnection, new: Sequence[Invoice]) -> frozenset[InvoiceId]:
    """Inserts new invoices, not their options; those that were. The others' merchants have their reference already."""
    # in one order: two transactions with the same two references must not wait for each other
    ordered = sorted(new, key=lambda i: (i.reference, i.merchant))
    rows = [_row(i) for i in ordered]
    added = await insert_absent(conn, _i, rows, key=["reference", "merchant"], telling=["id"])
    return frozenset(InvoiceId(id_) for (id_,) in added)


async def add_options(conn: AsyncConnection, of: Sequence[tuple[InvoiceId, Option]]) -> None:
    await insert(conn, _o, [_option_row(id_, o) for id_, o in of])


Way = tuple[Address, ChainId, Address]
"""Where a unique amount is unique: recipient, chain, token."""


def way_of(option: Option) -> Way:
    return option.pay_to, option.chain_id, option.token_address


async def reserve_amounts(conn: AsyncConnection, wanted: Sequence[tuple[Invoice, Option]]) -> set[tuple[Way, int]]:
    """Keeps each option's amount for its invoice until its monitoring ends; those that were not taken."""
    rows = [
        {
            "chain_id": option.chain_id,
            "token": option.token_address,
            "pay_to": option.pay_to,
            "amount": option.amount_base,
            "invoice_id": invoice.id,
            "reserved_until": invoice.monitoring_until,
        }
        for invoice, option in sorted(wanted, key=lambda each: (way_of(each[1]), each[1].amount_base))
    ]
    key = ["pay_to", "chain_id", "token", "amount"]
    kept = await insert_absent(conn, _a, rows, key=key, telling=key)
    return {((Address(pay_to), ChainId(chain_id), Address(token)), amount) for pay_to, chain_id, token, amount in kept}


async def let_go_of_ended(conn: AsyncConnection, way: Way, now: datetime) -> None:
    """Gives up the ended reservations of one way."""
    await conn.execute(delete(_a).where(_is_way(way), _a.c.reserved_until < now))


async def reserved_amounts(conn: AsyncConnection, way: Way, *, first: int, last: int) -> set[int]:
    """Amounts from `first` to `last` that are taken."""
    query = select(_a.c.amount).where(_is_way(way), _a.c.amount.between(first, last))
    return {row.amount for row in await conn.execute(query)}


def _is_way(way: Way) -> ColumnElement[bool]:
    pay_to, chain_id, token = way
    return (_a.c.chain_id == chain_id) & (_a.c.token == token) & (_a.c.pay_to == pay_to)


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
        query = select(_i).where(is_one_of(conn, _i.c.id, chunk)).order_by(_i.c.id)
        if lock:
            query = query.with_for_update()
        found |= {i.id: i for i in await _with_options(conn, (await conn.execute(query)).all())}
    return found


async def get_by_pay_token(conn: AsyncConnection, token: str) -> Invoice | None:
    """The invoice whose payment page is named so."""
    rows = (await conn.execute(select(_i).where(_i.c.pay_token == token))).all()
    return next(iter(await _with_options(conn, rows)), None)


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Which state of an invoice this is: equal fingerprints, equal state."""

    version: int
    """Of the invoice itself."""
    digest: str
    """Of all that it shows: its payments too and, while one of them is not final, how far its chain is read."""


async def fingerprints(conn: AsyncConnection, ids: Iterable[InvoiceId]) -> dict[InvoiceId, Fingerprint]:
    """Of those of the invoices that are there, by one query (for each 500 of them)."""
    t, c = schema.transfers, schema.chains
    found: dict[InvoiceId, Fingerprint] = {}
    for chunk in chunks(sorted(set(ids))):
        query = (
            select(_i.c.id, _i.c.version, t.c.id, t.c.version, t.c.status, c.c.scanned_number, c.c.settled_number)
            .outerjoin(t, t.c.invoice_id == _i.c.id)
            .outerjoin(c, c.c.chain_id == t.c.chain_id)
            .where(is_one_of(conn, _i.c.id, chunk))
            .order_by(_i.c.id, t.c.id)
        )
        digests: dict[InvoiceId, tuple[int, Any]] = {}
        for id_, version, transfer_id, transfer_version, status, scanned, settled in await conn.execute(query):
            _, digest = digests.setdefault(InvoiceId(id_), (version, hashlib.sha256(b"%d" % version)))
            read_to = max(scanned or 0, settled or 0) if status == TransferStatus.DETECTED.value else 0
            digest.update(f"|{transfer_id} {transfer_version} {read_to}".encode())
        found |= {
            id_: Fingerprint(version, digest.hexdigest()[:_DIGEST_CHARS]) for id_, (version, digest) in digests.items()
        }
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
    rows = [
        {
            "id": i.id,
            "status": i.status.value,
            "exceptions": _listed(i.exceptions),
            "settled_at": i.settled_at,
            "settlement_id": i.settlement_id,
            "version": i.version,
        }
        for i in invoices
    ]
    await update(conn, _i, rows, key="id")


async def due_for_expiry(conn: AsyncConnection, limit: int) -> list[InvoiceId]:
    """Pending invoices whose time ended before the newest block read on each chain of their options, the longest
    ago first.
    """
    return [InvoiceId(row.id) for row in await conn.execute(_DUE_FOR_EXPIRY, {"limit": limit})]


async def offered_before(conn: AsyncConnection, addresses: Iterable[Address]) -> frozenset[Address]:
    """Those of the addresses at which an invoice is, or was, to be paid as its own."""
    found: set[Address] = set()
    for chunk in chunks(sorted(set(addresses))):
        query = select(_o.c.pay_to).where(is_one_of(conn, _o.c.pay_to, chunk), _o.c.match == Match.ADDRESS.value)
        found |= {Address(row.pay_to) for row in await conn.execute(query.distinct())}
    return frozenset(found)


async def left_unfinished(conn: AsyncConnection, after: InvoiceId | None, limit: int) -> list[InvoiceId]:
    """Processing and reversed invoices none of whose payments waits for finality any more, by id from above `after`.

    They may have become due without a payment changing: paid for on a chain that was halted then.
    """
    found = (
        await conn.execute(_LEFT_UNFINISHED, {"limit": limit})
        if after is None
        else await conn.execute(_LEFT_UNFINISHED_ABOVE, {"after": after, "limit": limit})
    )
    return [InvoiceId(row.id) for row in found]


async def merchants(conn: AsyncConnection, ids: Iterable[InvoiceId]) -> dict[InvoiceId, str]:
    """Whose invoices they are."""
    found: dict[InvoiceId, str] = {}
    for chunk in chunks(set(ids)):
        query = select(_i.c.id, _i.c.merchant).where(is_one_of(conn, _i.c.id, chunk))
        found |= {InvoiceId(row.id): row.merchant for row in await conn.execute(query)}
    return found


async def count_by_status(conn: AsyncConnection, *, merchant: str | None = None) -> dict[InvoiceStatus, int]:
    """`merchant`: that merchant's alone."""
    counts = dict.fromkeys(InvoiceStatus, 0)
    query = select(_i.c.status, func.count()).group_by(_i.c.status)
    if merchant is not None:
        query = query.where(_i.c.merchant == merchant)
    for status, count in await conn.execute(query):
        counts[InvoiceStatus(status)] = int(count)
    return counts


def _row(i: Invoice) -> dict[str, Any]:
    return {
        "id": i.id,
        "merchant": i.merchant,
        "reference": i.reference,
        "status": i.status.value,
        "exceptions": _listed(i.exceptions),
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
        "pay_token": i.pay_token,
    }


def _listed(exceptions: Iterable[InvoiceException]) -> str:
    return " ".join(["", *sorted(e.value for e in exceptions), ""])


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
        "reference": o.reference,
        "payer": o.payer,
    }


async def _with_options(conn: AsyncConnection, rows: Sequence[Row[Any]]) -> list[Invoice]:
    options: dict[str, list[Option]] = {row.id: [] for row in rows}
    for chunk in chunks(options):
        query = select(_o).where(is_one_of(conn, _o.c.invoice_id, chunk)).order_by(_o.c.invoice_id, _o.c.index)
        for row in await conn.execute(query):
            options[row.invoice_id].append(_option(row))
    return [_invoice(row, tuple(options[row.id])) for row in rows]


def _option(row: Sequence[Any]) -> Option:
    # by position, as the table has its columns: each by name would cost more than all together
    (
        _, index, chain, chain_id, token, token_address, decimals, pay_to, match, amount_base, tail_base, from_block,
        reference, payer,
    ) = row  # fmt: skip
    return Option(
        index=index,
        chain=chain,
        chain_id=chain_id,
        token=token,
        token_address=token_address,
        decimals=decimals,
        pay_to=pay_to,
        match=_MATCHES[match],
        amount_base=amount_base,
        tail_base=tail_base,
        from_block=from_block,
        reference=reference,
        payer=payer,
    )


def _invoice(row: Sequence[Any], options: tuple[Option, ...]) -> Invoice:
    (
        id_, merchant, reference, status, exceptions, currency, amount, scale, created_at, expires_at, monitoring_until,
        settled_at, settlement_id, metadata, version, pay_token,
    ) = row  # fmt: skip
    return Invoice(
        id=id_,
        merchant=merchant,
        reference=reference,
        status=_STATUSES[status],
        exceptions=_exceptions(exceptions),
        currency=currency,
        amount=amount,
        scale=scale,
        options=options,
        created_at=created_at,
        expires_at=expires_at,
        monitoring_until=monitoring_until,
        settled_at=settled_at,
        settlement_id=settlement_id,
        metadata=metadata,
        version=version,
        pay_token=pay_token,
    )


@cache
def _exceptions(listed: str) -> frozenset[InvoiceException]:
    return frozenset(InvoiceException(e) for e in listed.split())
