"""What the invariants are judged by, read in pages: bounded memory, and each page one state of the database."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Table, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from chains.model import BlockNumber, BlockSpan, ChainId
from settler.domain.delivery import EndpointId
from settler.domain.ids import InvoiceId, SettlementId, TransferId
from settler.domain.invariants import Told, TransferBooks
from settler.domain.ledger import Account, Side
from settler.domain.records import Settlement, SettlementLine
from settler.storage import schema, settlements
from settler.storage.engine import Database
from settler.storage.sql import chunks, is_one_of

PAGE = 500
"""Objects judged at once, and the values of one IN list."""
_s, _sl, _r, _l, _b, _e, _d, _a = (
    schema.settlements,
    schema.settlement_lines,
    schema.reversals,
    schema.ledger_lines,
    schema.refunds,
    schema.events,
    schema.webhook_deliveries,
    schema.operator_actions,
)


async def pages(db: Database, table: Table) -> AsyncIterator[tuple[AsyncConnection, Sequence[str]]]:
    """The ids of a table in order, `PAGE` at a time, each with a transaction to read the rest of that page in."""
    last = ""
    while True:
        async with db.read() as conn:
            query = select(table.c.id).where(table.c.id > last).order_by(table.c.id).limit(PAGE)
            ids = (await conn.execute(query)).scalars().all()
            if not ids:
                return
            yield conn, ids
        last = ids[-1]


async def settlements_of(conn: AsyncConnection, ids: Iterable[InvoiceId]) -> dict[InvoiceId, list[Settlement]]:
    """All generations of each invoice, oldest first; those never settled are left out."""
    wanted: list[SettlementId] = []
    for chunk in chunks(ids):
        query = select(_s.c.id).where(is_one_of(conn, _s.c.invoice_id, chunk))
        wanted += [SettlementId(id_) for id_ in (await conn.execute(query)).scalars()]
    found: dict[InvoiceId, list[Settlement]] = defaultdict(list)
    for s in sorted((await settlements.get_many(conn, wanted)).values(), key=lambda s: s.generation):
        found[s.invoice_id].append(s)
    return dict(found)


async def told_of(conn: AsyncConnection, types: Collection[str], ids: Iterable[str]) -> dict[str, list[Told]]:
    """Events of these types by object."""
    found: dict[str, list[Told]] = defaultdict(list)
    for chunk in chunks(ids):
        query = select(_e.c.object_id, _e.c.type, _e.c.version).where(
            _e.c.type.in_(types), is_one_of(conn, _e.c.object_id, chunk)
        )
        for object_id, type_, version in await conn.execute(query):
            found[object_id].append(Told(type=type_, version=version))
    return found


async def audited(conn: AsyncConnection, action: str, ids: Iterable[str]) -> set[str]:
    """Those of the objects of which the audit log has such an action."""
    found: set[str] = set()
    for chunk in chunks(ids):
        query = select(_a.c.object_id).where(_a.c.action == action, is_one_of(conn, _a.c.object_id, chunk))
        found |= set((await conn.execute(query)).scalars())
    return found


async def count_resumed(conn: AsyncConnection) -> dict[str, int]:
    """How often operators resumed each chain, by its id as text."""
    query = select(_a.c.object_id, func.count()).where(_a.c.action == "chain.resume").group_by(_a.c.object_id)
    return {object_id: int(count) for object_id, count in await conn.execute(query)}


async def enabled_at(conn: AsyncConnection) -> dict[EndpointId, datetime]:
    """When each webhook endpoint that was disabled for a while was last taken up again: what happened before it, it may
    have missed.
    """
    query = (
        select(_a.c.object_id, func.max(_a.c.at))
        .where(_a.c.action == "webhook_endpoint.enable")
        .group_by(_a.c.object_id)
    )
    return {EndpointId(id_): at for id_, at in await conn.execute(query)}


async def books_of(conn: AsyncConnection, ids: Sequence[TransferId]) -> dict[TransferId, TransferBooks]:
    """What is kept of each transfer beside its record."""
    accounts: dict[str, Counter[Account]] = defaultdict(Counter)
    settled: Counter[str] = Counter()
    surplus: Counter[str] = Counter()
    refunded: Counter[str] = Counter()
    refunded_surplus: Counter[str] = Counter()
    for chunk in chunks(ids):
        lines = select(_l.c.transfer_id, _l.c.account, _l.c.side, _l.c.amount).where(
            is_one_of(conn, _l.c.transfer_id, chunk)
        )
        for id_, account, side, amount in await conn.execute(lines):
            accounts[id_][Account(account)] += amount if side == Side.DEBIT else -amount
        in_force = (
            select(_sl.c.transfer_id, _sl.c.amount_settled, _sl.c.amount_surplus)
            .outerjoin(_r, _r.c.settlement_id == _sl.c.settlement_id)
            .where(is_one_of(conn, _sl.c.transfer_id, chunk), _r.c.id.is_(None))
        )
        for id_, of_it, beyond in await conn.execute(in_force):
            settled[id_] += of_it
            surplus[id_] += beyond
        sent_back = select(_b.c.transfer_id, _b.c.amount, _b.c.settlement_id).where(
            is_one_of(conn, _b.c.transfer_id, chunk)
        )
        for id_, amount, settlement_id in await conn.execute(sent_back):
            refunded[id_] += amount
            refunded_surplus[id_] += 0 if settlement_id is None else amount
    return {
        id_: TransferBooks(
            accounts=accounts[id_],
            settled=settled[id_],
            surplus=surplus[id_],
            refunded=refunded[id_],
            refunded_surplus=refunded_surplus[id_],
        )
        for id_ in ids
    }


async def in_force_on(conn: AsyncConnection, ids: Sequence[TransferId]) -> dict[TransferId, list[str]]:
    """Settlements in force that rest on each transfer; those that back none are left out."""
    found: dict[TransferId, list[str]] = defaultdict(list)
    for chunk in chunks(ids):
        query = (
            select(_sl.c.transfer_id, _sl.c.settlement_id)
            .outerjoin(_r, _r.c.settlement_id == _sl.c.settlement_id)
            .where(is_one_of(conn, _sl.c.transfer_id, chunk), _r.c.id.is_(None))
            .order_by(_sl.c.settlement_id)
        )
        for id_, settlement_id in await conn.execute(query):
            found[TransferId(id_)].append(settlement_id)
    return found


async def highest_line(conn: AsyncConnection, chain_id: ChainId) -> BlockNumber | None:
    """The highest block of the chain that any settlement rests on."""
    found = await conn.execute(select(func.max(_sl.c.block_number)).where(_sl.c.chain_id == chain_id))
    number = found.scalar_one()
    return None if number is None else BlockNumber(number)


async def lines_in_force(
    conn: AsyncConnection, chain_id: ChainId, span: BlockSpan
) -> list[tuple[SettlementId, SettlementLine]]:
    """Of settlements in force, the payments that stand in these blocks."""
    query = (
        select(_sl.c.settlement_id)
        .outerjoin(_r, _r.c.settlement_id == _sl.c.settlement_id)
        .where(_sl.c.chain_id == chain_id, _sl.c.block_number.between(span.first, span.last), _r.c.id.is_(None))
        .distinct()
    )
    ids = [SettlementId(id_) for id_ in (await conn.execute(query)).scalars()]
    found = await settlements.get_many(conn, sorted(ids))
    return [
        (s.id, line)
        for s in found.values()
        for line in s.lines
        if line.chain_id == chain_id and line.block_number in span
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class FannedOut:
    """An event whose deliveries were made."""

    id: str
    type: str
    merchant: str | None
    created_at: datetime
    deliveries: Mapping[EndpointId, int]


async def fanned_out_pages(db: Database) -> AsyncIterator[list[FannedOut]]:
    last = 0
    while True:
        async with db.read() as conn:
            query = (
                select(_e.c.seq, _e.c.id, _e.c.type, _e.c.merchant, _e.c.created_at)
                .where(_e.c.seq > last, _e.c.is_fanned_out.is_(True))
                .order_by(_e.c.seq)
                .limit(PAGE)
            )
            rows = (await conn.execute(query)).all()
            if not rows:
                return
            made: dict[str, Counter[EndpointId]] = defaultdict(Counter)
            of = select(_d.c.event_id, _d.c.endpoint_id).join(_e, _e.c.id == _d.c.event_id)
            for event_id, endpoint_id in await conn.execute(of.where(_e.c.seq.between(rows[0].seq, rows[-1].seq))):
                made[event_id][EndpointId(endpoint_id)] += 1
        yield [
            FannedOut(
                id=row.id, type=row.type, merchant=row.merchant, created_at=row.created_at, deliveries=made[row.id]
            )
            for row in rows
        ]
        last = rows[-1].seq
