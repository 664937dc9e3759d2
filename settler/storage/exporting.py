"""What is exported, read page by page in the order of the ids: bounded memory, however long the table.

All pages are of one transaction of the caller's, so that the rows agree with each other.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Select, Table, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from chains.model import ChainId
from settler.domain.exporting import PostedLine, What
from settler.domain.ids import SettlementId, TransferId
from settler.domain.invoices import TransferRecord
from settler.domain.records import Settlement
from settler.storage import ledger, schema, settlements, transfers

PAGE = 500
"""Rows read at once, and the values of one IN list."""
_s, _sl, _e, _l, _t = (
    schema.settlements,
    schema.settlement_lines,
    schema.ledger_entries,
    schema.ledger_lines,
    schema.transfers,
)
_TABLES: dict[What, tuple[Table, Column[datetime]]] = {
    What.SETTLEMENTS: (_s, _s.c.settled_at),
    What.LEDGER: (_e, _e.c.posted_at),
    What.TRANSFERS: (_t, _t.c.recorded_at),
}
"""Where the ids are, and the time that `since` and `until` are of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    since: datetime | None = None
    """Inclusive."""
    until: datetime | None = None
    """Exclusive."""
    chain_id: ChainId | None = None
    """Transfers and lines of this chain; settlements that any payment on it belongs to, as a whole."""


async def count(conn: AsyncConnection, what: What, selection: Selection) -> int:
    """How many settlements, entries or transfers there are; to show how far an export is."""
    chosen = _chosen(what, selection, select(_TABLES[what][0].c.id)).subquery()
    return int((await conn.execute(select(func.count()).select_from(chosen))).scalar_one())


async def settlement_pages(conn: AsyncConnection, selection: Selection) -> AsyncIterator[list[Settlement]]:
    async for ids in _pages(conn, What.SETTLEMENTS, selection):
        found = await settlements.get_many(conn, [SettlementId(id_) for id_ in ids])
        yield [found[SettlementId(id_)] for id_ in ids]


async def ledger_pages(conn: AsyncConnection, selection: Selection) -> AsyncIterator[tuple[int, list[PostedLine]]]:
    """With each page, how many entries its lines are of: entries are never divided."""
    async for ids in _pages(conn, What.LEDGER, selection):
        query = (
            select(_l, _e.c.kind, _e.c.posted_at)
            .join(_e, _e.c.id == _l.c.entry_id)
            .where(_l.c.entry_id.in_(ids))
            .order_by(_l.c.entry_id, _l.c.index)
        )
        if selection.chain_id is not None:
            query = query.where(_l.c.chain_id == selection.chain_id)
        yield (
            len(ids),
            [
                PostedLine(
                    entry_id=row.entry_id,
                    index=row._mapping["index"],  # `row.index` is a method of tuples
                    kind=row.kind,
                    posted_at=row.posted_at,
                    line=ledger.line_of(row),
                )
                for row in await conn.execute(query)
            ],
        )


async def transfer_pages(conn: AsyncConnection, selection: Selection) -> AsyncIterator[list[TransferRecord]]:
    async for ids in _pages(conn, What.TRANSFERS, selection):
        found = await transfers.get_many(conn, [TransferId(id_) for id_ in ids])
        yield [found[TransferId(id_)] for id_ in ids]


async def _pages(conn: AsyncConnection, what: What, selection: Selection) -> AsyncIterator[Sequence[str]]:
    column = _TABLES[what][0].c.id
    query = _chosen(what, selection, select(column)).order_by(column).limit(PAGE)
    last = ""
    while True:
        ids: Sequence[str] = (await conn.execute(query.where(column > last))).scalars().all()
        if not ids:
            return
        yield ids
        last = ids[-1]


def _chosen(what: What, selection: Selection, query: Select[Any]) -> Select[Any]:
    time = _TABLES[what][1]
    if selection.since is not None:
        query = query.where(time >= selection.since)
    if selection.until is not None:
        query = query.where(time < selection.until)
    if selection.chain_id is None:
        return query
    match what:
        case What.SETTLEMENTS:
            paid_on = select(_sl.c.settlement_id).where(_sl.c.chain_id == selection.chain_id)
            return query.where(paid_on.where(_sl.c.settlement_id == _s.c.id).exists())
        case What.LEDGER:
            lines = select(_l.c.entry_id).where(_l.c.chain_id == selection.chain_id)
            return query.where(lines.where(_l.c.entry_id == _e.c.id).exists())
        case What.TRANSFERS:
            return query.where(_t.c.chain_id == selection.chain_id)
