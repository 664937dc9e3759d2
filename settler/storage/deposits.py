"""Deposit addresses: the pool that operators fill, and those derived from an extended public key.

    pool      free ── given to an invoice ── taken ── monitoring ends ── quarantined ── free again
    derived   index 0, 1, 2 …, each given to one invoice and never again

An address is given in the transaction that makes the invoice, under a lock on its row (pool) or on the key's counter
(derived): two invoices made at once get two addresses, and what is rolled back was never given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, Table, case, func, insert, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from chains.address import to_checksum
from chains.model import Address
from settler.domain.deposits import DepositAddress, DepositPolicy, DepositState, Source
from settler.domain.derivation import INDEX_END, DepositKey
from settler.domain.errors import Conflict, InvalidInput, NotFound
from settler.domain.ids import InvoiceId
from settler.domain.invoices import InvoiceStatus
from settler.storage import chains, operator_actions, schema
from settler.storage.sql import chunks, insert_missing, insert_one_if_absent

_d, _k, _w = schema.deposit_addresses, schema.deposit_keys, schema.watched_addresses
_i, _o = schema.invoices, schema.invoice_options

MAX_ADDED = 10_000
"""Addresses added at once: the audit log names each of them in one row."""
MAX_SKIPPED = 1_000
"""Indices passed over for one invoice, since their addresses were in use before: those of a wallet whose addresses
were given by hand until now."""

_UNFINISHED = [s.value for s in (InvoiceStatus.PENDING, InvoiceStatus.PROCESSING, InvoiceStatus.REVERSED)]


async def give(
    conn: AsyncConnection,
    invoice_id: InvoiceId,
    *,
    monitoring_until: datetime,
    policy: DepositPolicy,
    now: datetime,
    at: str,
) -> Address:
    """An address that no invoice waits at: of the pool, the one free the longest; else the key's next.

    `at`: the request's field it is for. Raises `InvalidInput` where there is neither pool nor key, `Conflict` where
    the pool is exhausted.
    """
    until = monitoring_until + policy.quarantine
    of_pool = await _take(conn, invoice_id, until=until, now=now)
    if of_pool is not None:
        return of_pool
    if policy.key is not None:
        return await _derive(conn, policy.key, invoice_id, until=until, now=now, at=at)
    raise await _nothing_to_give(conn, now=now, at=at)


async def mark_taken(
    conn: AsyncConnection, addresses: Iterable[Address], invoice_id: InvoiceId, *, until: datetime
) -> None:
    """Addresses of ours that a request named by hand are the invoice's as if they had been given to it."""
    later = case((_d.c.free_from < until, literal(until, _d.c.free_from.type)), else_=_d.c.free_from)
    for address in sorted(set(addresses)):
        await conn.execute(update(_d).where(_d.c.address == address).values(invoice_id=invoice_id, free_from=later))


async def of_another_merchant(
    conn: AsyncConnection, addresses: Iterable[Address], merchant: str, *, now: datetime
) -> frozenset[Address]:
    """Those of the addresses that an invoice of another merchant was given, and has still."""
    found: set[Address] = set()
    for chunk in chunks(sorted(set(addresses))):
        query = (
            select(_d.c.address)
            .join(_i, _i.c.id == _d.c.invoice_id)
            .where(_d.c.address.in_(chunk), _i.c.merchant != merchant, _d.c.free_from > now)
        )
        found |= {Address(row.address) for row in await conn.execute(query)}
    return frozenset(found)


async def _take(conn: AsyncConnection, invoice_id: InvoiceId, *, until: datetime, now: datetime) -> Address | None:
    query = (
        select(_d.c.address)
        .where(_d.c.source == Source.POOL.value, _d.c.retired_at.is_(None), _d.c.free_from <= now)
        .where(~_is_in_use(_d.c.address, now))
        .order_by(_d.c.free_from, _d.c.address)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    row = (await conn.execute(query)).one_or_none()
    if row is None:
        return None
    await conn.execute(update(_d).where(_d.c.address == row.address).values(invoice_id=invoice_id, free_from=until))
    return Address(row.address)


async def _derive(
    conn: AsyncConnection, key: DepositKey, invoice_id: InvoiceId, *, until: datetime, now: datetime, at: str
) -> Address:
    """The address at the next index that was not in use before. The counter's row is locked until the transaction
    ends: who is rolled back gives the index back before anybody else counts on.
    """
    counter = {"id": key.id, "path": key.path, "next_index": 0, "first_used_at": now}
    await insert_missing(conn, _k, [counter], key=["id", "path"])
    this = (_k.c.id == key.id) & (_k.c.path == key.path)
    for _ in range(MAX_SKIPPED):
        counted = update(_k).where(this).values(next_index=_k.c.next_index + 1).returning(_k.c.next_index)
        index = (await conn.execute(counted)).scalar_one() - 1
        if index >= INDEX_END:
            raise Conflict(
                at, "the extended public key has no index left; configure another path in [deposits] xpub_path"
            )
        address = key.address(index)
        if await _was_watched(conn, address):
            continue
        row = {
            "address": address,
            "source": Source.DERIVED.value,
            "key_id": key.id,
            "path": key.path,
            "index": index,
            "added_at": now,
            "invoice_id": invoice_id,
            "free_from": until,
            "retired_at": None,
        }
        if await insert_one_if_absent(conn, _d, row, key=["address"]):
            return address
    raise Conflict(
        at,
        f"{MAX_SKIPPED} addresses of the extended public key in a row were in use before; configure another path in "
        '[deposits] xpub_path, like "1"',
    )


async def _was_watched(conn: AsyncConnection, address: Address) -> bool:
    return (await conn.execute(select(_w.c.address).where(_w.c.address == address))).first() is not None


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
        query = select(_d).where(_d.c.address.in_(chunk)).order_by(_d.c.address)
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
            .where(_o.c.pay_to.in_(chunk))
            .group_by(_o.c.pay_to)
        )
        found |= {Address(pay_to): until for pay_to, until in await conn.execute(query)}
    return found


async def _shown(conn: AsyncConnection, rows: Mapping[Address, Row[Any]], now: datetime) -> list[DepositAddress]:
    in_use: set[Address] = set()
    for chunk in chunks(rows):
        query = _users(now).with_only_columns(_o.c.pay_to).where(_o.c.pay_to.in_(chunk)).distinct()
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
