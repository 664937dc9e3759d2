"""Deposit addresses: the pool that operators fill, and those derived from an extended public key.

    pool      free ── given to an invoice ── taken ── monitoring ends ── quarantined ── free again
    derived   index 0, 1, 2 …, each given to one invoice and never again

An address is given in the transaction that makes the invoice, under a lock on its row (pool) or on the key's counter
(derived): two invoices made at once get two addresses, and what is rolled back was never given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, Table, bindparam, case, func, insert, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from chains.address import to_checksum
from chains.model import Address
from settler.domain.deposits import DepositAddress, DepositState, Source
from settler.domain.derivation import INDEX_END, DepositKey
from settler.domain.errors import Conflict, InvalidInput, NotFound
from settler.domain.ids import InvoiceId
from settler.domain.invoices import InvoiceStatus
from settler.storage import chains, operator_actions, schema
from settler.storage.sql import chunks, insert_absent, insert_missing, is_one_of

_d, _k, _w = schema.deposit_addresses, schema.deposit_keys, schema.watched_addresses
_i, _o = schema.invoices, schema.invoice_options

MAX_ADDED = 10_000
"""Addresses added at once: the audit log names each of them in one row."""
MAX_SKIPPED = 1_000
"""Indices passed over for one invoice, since their addresses were in use before: those of a wallet whose addresses
were given by hand until now."""

_UNFINISHED = [s.value for s in (InvoiceStatus.PENDING, InvoiceStatus.PROCESSING, InvoiceStatus.REVERSED)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """An address that an invoice is to be given."""

    invoice_id: InvoiceId
    until: datetime
    """Nobody else is to get it before."""
    at: str
    """The request's field it is for."""


async def give(
    conn: AsyncConnection, wanted: Sequence[Wanted], *, key: DepositKey | None, now: datetime
) -> list[Address]:
    """An address each, that no invoice waits at: of the pool, those free the longest; else the key's next.

    Raises `InvalidInput` where there is neither pool nor key, `Conflict` where the pool is exhausted.
    """
    if not wanted:
        return []
    of_pool = await _take(conn, wanted, now=now)
    rest = wanted[len(of_pool) :]
    if not rest:
        return of_pool
    if key is None:
        raise await _nothing_to_give(conn, now=now, at=rest[0].at)
    return [*of_pool, *await _derive(conn, key, rest, now=now)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """An address of an invoice that its request named by hand."""

    address: Address
    invoice_id: InvoiceId
    until: datetime
    """If it is a deposit address of ours, nobody else is to get it before."""


async def owners(conn: AsyncConnection, addresses: Iterable[Address], *, now: datetime) -> Mapping[Address, str | None]:
    """Those of the addresses that are deposit addresses of ours: the merchant whose invoice was given it and has it
    still; `None`: nobody's.
    """
    found: dict[Address, str | None] = {}
    for chunk in chunks(sorted(set(addresses))):
        query = (
            select(_d.c.address, _d.c.free_from, _i.c.merchant)
            .outerjoin(_i, _i.c.id == _d.c.invoice_id)
            .where(is_one_of(conn, _d.c.address, chunk))
        )
        for row in await conn.execute(query):
            found[Address(row.address)] = row.merchant if row.free_from > now else None
    return found


async def mark_taken(conn: AsyncConnection, named: Iterable[Named]) -> None:
    """Deposit addresses that requests named by hand are their invoices' as if they had been given to them."""
    for one in sorted(named, key=lambda each: each.address):
        later = case((_d.c.free_from < one.until, literal(one.until, _d.c.free_from.type)), else_=_d.c.free_from)
        await conn.execute(
            update(_d).where(_d.c.address == one.address).values(invoice_id=one.invoice_id, free_from=later)
        )


async def _take(conn: AsyncConnection, wanted: Sequence[Wanted], *, now: datetime) -> list[Address]:
    """Of the pool, as many as there are free; for the first of those who want one."""
    query = (
        select(_d.c.address)
        .where(_d.c.source == Source.POOL.value, _d.c.retired_at.is_(None), _d.c.free_from <= now)
        .where(~_is_in_use(_d.c.address, now))
        .order_by(_d.c.free_from, _d.c.address)
        .limit(len(wanted))
        .with_for_update(skip_locked=True)
    )
    free = [Address(row.address) for row in await conn.execute(query)]
    if free:
        await conn.execute(
            _GIVING,
            [
                {"_address": address, "_invoice_id": each.invoice_id, "_until": each.until}
                for address, each in zip(free, wanted, strict=False)
            ],
        )
    return free


_GIVING = (
    update(_d)
    .where(_d.c.address == bindparam("_address"))
    .values(invoice_id=bindparam("_invoice_id"), free_from=bindparam("_until"))
)


async def _derive(conn: AsyncConnection, key: DepositKey, wanted: Sequence[Wanted], *, now: datetime) -> list[Address]:
    """The addresses at the next indices that were not in use before. The counter's row is locked until the transaction
    ends: who is rolled back gives the indices back before anybody else counts on.
    """
    counter = {"id": key.id, "path": key.path, "next_index": 0, "first_used_at": now}
    await insert_missing(conn, _k, [counter], key=["id", "path"])
    this = (_k.c.id == key.id) & (_k.c.path == key.path)
    given: dict[InvoiceId, Address] = {}
    rest = list(wanted)
    skipped = 0
    while skipped < MAX_SKIPPED:
        counted = update(_k).where(this).values(next_index=_k.c.next_index + len(rest)).returning(_k.c.next_index)
        end = (await conn.execute(counted)).scalar_one()
        if end > INDEX_END:
            raise Conflict(
                rest[0].at,
                "the extended public key has no index left; configure another path in [deposits] xpub_path",
            )
        derived = {key.address(index): index for index in range(end - len(rest), end)}
        watched = await _watched(conn, derived)
        fresh = [address for address in derived if address not in watched]
        rows = [
            {
                "address": address,
                "source": Source.DERIVED.value,
                "key_id": key.id,
                "path": key.path,
                "index": derived[address],
                "added_at": now,
                "invoice_id": each.invoice_id,
                "free_from": each.until,
                "retired_at": None,
            }
            for address, each in zip(fresh, rest, strict=False)
        ]
        added = await insert_absent(conn, _d, rows, key=["address"], telling=["address"])
        given |= {each.invoice_id: a for a, each in zip(fresh, rest, strict=False) if (a,) in added}
        skipped += len(rest) - len(added)
        rest = [each for each in rest if each.invoice_id not in given]
        if not rest:
            return [given[each.invoice_id] for each in wanted]
    raise Conflict(
        rest[0].at,
        f"{MAX_SKIPPED} addresses of the extended public key in a row were in use before; configure another path in "
        '[deposits] xpub_path, like "1"',
    )


async def _watched(conn: AsyncConnection, addresses: Iterable[Address]) -> set[Address]:
    """Those of them that are, or were, watched."""
    found: set[Address] = set()
    for chunk in chunks(addresses):
        query = select(_w.c.address).where(is_one_of(conn, _w.c.address, chunk))
        found |= {Address(row.address) for row in await conn.execute(query)}
    return found


async def _nothing_to_give(conn: AsyncConnection, *, now: datetime, at: str) -> InvalidInput | Conflict:
    later = case((_d.c.free_from > now, _d.c.free_from))
    query = select(func.count(), func.min(later, type_=_d.c.free_from.type)).where(
        _d.c.source == Source.POOL.value, _d.c.retired_at.is_(None)
    )
    count, next_free = (await conn.execute(query)).one()
    if count == 0:
        return InvalidInput(
            at,
            "is missing; give the address to be paid, fill the address pool (settler address add), or configure an "
            "extended public key ([deposits] xpub)",
        )
    when = (
        "when an invoice that is open past its time ends" if next_free is None else f"at {next_free:%Y-%m-%dT%H:%M:%SZ}"
    )
    return Conflict(
        at,
        f"the pool has {count} address{'es' if count > 1 else ''} and none is free, the next {when}; add addresses "
        "(settler address add), configure [deposits] xpub, or give the address to be paid",
    )


def _is_in_use(address: ColumnElement[bytes], now: datetime) -> ColumnElement[bool]:
    return _users(now).where(_o.c.pay_to == address).exists()


def _users(now: datetime) -> Select[tuple[str]]:
    """Invoices that may still get money at the address of an option: not finished, or monitored."""
    return (
        select(_o.c.invoice_id)
        .join(_i, _i.c.id == _o.c.invoice_id)
        .where(_i.c.status.in_(_UNFINISHED) | (_i.c.monitoring_until >= now))
    )


# -- what operators do -------------------------------------------------------------------------------------------------


async def add(
    conn: AsyncConnection,
    addresses: Sequence[Address],
    *,
    quarantine: timedelta,
    now: datetime,
    who: str,
    reason: str = "",
) -> list[DepositAddress]:
    """Puts addresses into the pool and watches them; such as are there stay as they are, retired ones come back.

    One that invoices had before rests first, as if it had been given to them. Raises `InvalidInput` for a token's
    contract, `Conflict` for a derived address; nothing is stored then.
    """
    wanted = sorted(set(addresses))
    assert 0 < len(wanted) <= MAX_ADDED, "the caller bounds how many"
    tokens = {t.address: t.symbol for t in await chains.tokens_of(conn)}
    for address in wanted:
        if address in tokens:
            raise InvalidInput(
                "address", f"{to_checksum(address)} is the contract of {tokens[address]}: what is sent there is lost"
            )
    known = await _rows(conn, wanted)
    for row in known.values():
        if row.source == Source.DERIVED.value:
            raise Conflict(
                "address",
                f"{to_checksum(Address(row.address))} is derived from an extended public key, which gives it out once; "
                "leave it out",
            )
    changed = [a for a in wanted if a not in known or known[a].retired_at is not None]
    rested = await _monitored_until(conn, changed)
    for address in changed:
        free_from = max(now, rested[address] + quarantine) if address in rested else now
        if address in known:
            back = update(_d).where(_d.c.address == address)
            await conn.execute(back.values(retired_at=None, free_from=free_from))
        else:
            await conn.execute(
                insert(_d).values(address=address, source=Source.POOL.value, added_at=now, free_from=free_from)
            )
    for chunk in chunks(changed):
        await chains.watch_addresses(conn, chunk, now=now)
    if changed:
        detail = {"addresses": [to_checksum(a) for a in changed]}
        object_id = to_checksum(changed[0]) if len(changed) == 1 else "pool"
        await operator_actions.add(
            conn, action="address.add", object_id=object_id, who=who, reason=reason, now=now, detail=detail
        )
    return await _shown(conn, await _rows(conn, wanted), now)


async def retire(conn: AsyncConnection, address: Address, *, now: datetime, who: str, reason: str) -> None:
    """The address is given out and watched no longer: money that reaches it from now on is not seen. Again is no error.

    For any watched address, also one that callers gave. Raises `NotFound` where it never was watched, `Conflict` while
    an invoice may get money there.
    """
    # in the order in which an invoice that is being made takes them
    deposit = await _locked(conn, _d, address)
    watched = await _locked(conn, _w, address)
    shown = to_checksum(address)
    if watched is None:
        raise NotFound(f"{shown} is not watched; settler address list shows the pool, an invoice its own addresses")
    user = (await conn.execute(_users(now).where(_o.c.pay_to == address).order_by(_o.c.invoice_id).limit(1))).first()
    if user is not None:
        raise Conflict(
            "address", f"{shown} is that of {user.invoice_id}, which is open or still monitored; wait until it is not"
        )
    if watched.retired_at is not None and (deposit is None or deposit.retired_at is not None):
        return
    await conn.execute(update(_w).where(_w.c.address == address).values(retired_at=now))
    await conn.execute(update(_d).where(_d.c.address == address, _d.c.retired_at.is_(None)).values(retired_at=now))
    await operator_actions.add(conn, action="address.retire", object_id=shown, who=who, reason=reason, now=now)


async def find(
    conn: AsyncConnection, *, now: datetime, state: DepositState | None = None, limit: int = 50
) -> list[DepositAddress]:
    """The newest first. `state`: only those that are so now."""
    found: list[DepositAddress] = []
    before: tuple[datetime, bytes] | None = None
    while len(found) < limit:
        query = select(_d).order_by(_d.c.added_at.desc(), _d.c.address.desc()).limit(limit)
        if before is not None:
            query = query.where(
                (_d.c.added_at < before[0]) | ((_d.c.added_at == before[0]) & (_d.c.address < before[1]))
            )
        rows = (await conn.execute(query)).all()
        shown = await _shown(conn, {Address(row.address): row for row in rows}, now)
        found += [each for each in shown if state is None or each.state is state]
        if len(rows) < limit:
            break
        before = (rows[-1].added_at, rows[-1].address)
    return found[:limit]


async def _rows(conn: AsyncConnection, addresses: Iterable[Address]) -> dict[Address, Row[Any]]:
    found: dict[Address, Row[Any]] = {}
    for chunk in chunks(addresses):
        query = select(_d).where(is_one_of(conn, _d.c.address, chunk)).order_by(_d.c.address)
        found |= {Address(row.address): row for row in await conn.execute(query)}
    return found


async def _locked(conn: AsyncConnection, table: Table, address: Address) -> Row[Any] | None:
    return (await conn.execute(select(table).where(table.c.address == address).with_for_update())).one_or_none()


async def _monitored_until(conn: AsyncConnection, addresses: Iterable[Address]) -> dict[Address, datetime]:
    """The latest end of monitoring of the invoices that had each; those without any are left out."""
    found: dict[Address, datetime] = {}
    for chunk in chunks(addresses):
        query = (
            select(_o.c.pay_to, func.max(_i.c.monitoring_until))
            .join(_i, _i.c.id == _o.c.invoice_id)
            .where(is_one_of(conn, _o.c.pay_to, chunk))
            .group_by(_o.c.pay_to)
        )
        found |= {Address(pay_to): until for pay_to, until in await conn.execute(query)}
    return found


async def _shown(conn: AsyncConnection, rows: Mapping[Address, Row[Any]], now: datetime) -> list[DepositAddress]:
    in_use: set[Address] = set()
    for chunk in chunks(rows):
        query = _users(now).with_only_columns(_o.c.pay_to).where(is_one_of(conn, _o.c.pay_to, chunk)).distinct()
        in_use |= {Address(row.pay_to) for row in await conn.execute(query)}
    return [
        DepositAddress(
            address=address,
            source=Source(row.source),
            path=None if row.path is None else "/".join(filter(None, (row.path, str(row._mapping["index"])))),
            invoice_id=None if row.invoice_id is None else InvoiceId(row.invoice_id),
            free_from=row.free_from,
            state=_state(row, address in in_use, now),
        )
        for address, row in rows.items()
    ]


def _state(row: Row[Any], is_in_use: bool, now: datetime) -> DepositState:
    if row.retired_at is not None:
        return DepositState.RETIRED
    if is_in_use or row.source == Source.DERIVED.value:
        return DepositState.TAKEN
    return DepositState.FREE if row.free_from <= now else DepositState.QUARANTINED
