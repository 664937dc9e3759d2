"""What the newest reconciliation of each chain found. Written by `settler reconcile`, read for the metrics.

A row speaks of a whole chain, from its first block to where it was settled then. A run over a part of it counts only
where it goes on from a clean one: then both together read everything.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from chains.model import BlockNumber, BlockSpan, ChainId
from settler.storage import schema
from settler.storage.sql import upsert

_t = schema.reconciliations
_ALL = select(_t)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """One chain's newest."""

    chain_id: ChainId
    first_number: BlockNumber
    last_number: BlockNumber
    """Inclusive."""
    breaks: int
    """Of the chain, and violations of the whole database: no chain's records can be relied on while those contradict
    each other."""
    finished_at: datetime


async def newest(conn: AsyncConnection) -> dict[ChainId, Reconciliation]:
    """Of each chain that was ever reconciled."""
    return {ChainId(row.chain_id): Reconciliation(**row._mapping) for row in await conn.execute(_ALL)}


async def store(
    conn: AsyncConnection, *, chain_id: ChainId, span: BlockSpan, is_from_start: bool, breaks: int, now: datetime
) -> bool:
    """Keeps the result of a run over `span` that ended; whether it is one of the whole chain, else nothing is kept.

    `is_from_start`: the span begins with the chain's first block known.
    """
    first = span.first
    if not is_from_start:
        before = (await newest(conn)).get(chain_id)
        if before is None or before.breaks or first > before.last_number + 1 or span.last < before.last_number:
            return False
        first = BlockNumber(min(first, before.first_number))
    row = {
        "chain_id": chain_id,
        "first_number": first,
        "last_number": span.last,
        "breaks": breaks,
        "finished_at": now,
    }
    await upsert(conn, _t, [row], key=["chain_id"])
    return True
