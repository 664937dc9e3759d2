"""Invoices: rows found, added and changed, and unique amounts reserved on shared addresses."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, bindparam, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from chains.model import Address, BaseUnits, BlockNumber, ChainId
from settler.domain.ids import InvoiceId, SettlementId
from settler.domain.invoices import (
    Invoice,
    InvoiceException,
    InvoiceStatus,
    Match,
    Option,
    TransferStatus,
)
from settler.storage import schema
from settler.storage.sql import chunks, insert_one_if_absent

_i, _o, _a = schema.invoices, schema.invoice_options, schema.amount_reservations
_c, _t = schema.chains, schema.transfers
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


async def add(conn: AsyncConnection, invoice: Invoice) -> bool:
    """Inserts a new invoice, not its options; `False`, and nothing is stored, where the merchant has the reference."""
    return await insert_one_if_absent(conn, _i, _row(invoice), key=["merchant", "reference"])


async def add_options(conn: AsyncConnection, id_: InvoiceId, options: Sequence[Option]) -> None:
    await conn.execute(insert(_o), [_option_row(id_, o) for o in options])


async def reserve_amount(conn: AsyncConnection, invoice: Invoice, option: Option) -> bool:
    """Keeps the option's amount for the invoice until its monitoring ends; `False` where it is taken."""
    row = {
        "chain_id": option.chain_id,
        "token": option.token_address,
        "pay_to": option.pay_to,
        "amount": option.amount_base,
        "invoice_id": invoice.id,
        "reserved_until": invoice.monitoring_until,
    }
    return await insert_one_if_absent(conn, _a, row, key=["chain_id", "token", "pay_to", "amount"])


async def reserved_amounts(conn: AsyncConnection, option: Option, top: int, *, now: datetime) -> set[int]:
    """Amounts from the option's up to `top` that are taken on its address and token; ended reservations are let go."""
    way = (_a.c.chain_id == option.chain_id) & (_a.c.token == option.token_address) & (_a.c.pay_to == option.pay_to)
    await conn.execute(delete(_a).where(way, _a.c.reserved_until < now))
    query = select(_a.c.amount).where(way, _a.c.amount.between(option.amount_base, top))
    return {row.amount for row in await conn.execute(query)}


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
            .where(_i.c.id.in_(chunk))
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
    if not invoices:
        return
    statement = (
        update(_i).where(_i.c.id == bindparam("_id")).values({name: bindparam(f"_{name}") for name in _CHANGING})
    )
    await conn.execute(
        statement,
        [{"_id": i.id} | {f"_{name}": value for name, value in _row(i).items() if name in _CHANGING} for i in invoices],
    )


async def due_for_expiry(conn: AsyncConnection, limit: int) -> list[InvoiceId]:
    """Pending invoices whose time ended before the newest block read on each chain of their options, the longest
    ago first.
    """
    return [InvoiceId(row.id) for row in await conn.execute(_DUE_FOR_EXPIRY, {"limit": limit})]


async def offered_by_others(conn: AsyncConnection, addresses: Iterable[Address], id_: InvoiceId) -> frozenset[Address]:
    """Those of the addresses at which another invoice is, or was, to be paid as its own."""
    found: set[Address] = set()
    for chunk in chunks(sorted(set(addresses))):
        query = select(_o.c.pay_to).where(
            _o.c.pay_to.in_(chunk), _o.c.match == Match.ADDRESS.value, _o.c.invoice_id != id_
        )
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
        query = select(_i.c.id, _i.c.merchant).where(_i.c.id.in_(chunk))
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
        "pay_token": i.pay_token,
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
        "reference": o.reference,
        "payer": o.payer,
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
        reference=row.reference,
        payer=None if row.payer is None else Address(row.payer),
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
        pay_token=row.pay_token,
    )
