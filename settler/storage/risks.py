"""What tokens announced of themselves, and what an operator accepted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from chains.model import Address, Announcement, AnnouncementKind, BlockNumber, ChainId, TxHash
from settler.domain.errors import Conflict
from settler.domain.risks import Risk
from settler.storage import operator_actions, schema
from settler.storage.sql import insert_missing

_t = schema.token_risks
NOBODY = Address(bytes(20))
"""Where an announcement names no address."""


async def add(conn: AsyncConnection, chain_id: ChainId, found: Iterable[Announcement], *, now: datetime) -> None:
    """Keeps announcements; those that are there already stay as they are."""
    rows = [
        {
            "chain_id": chain_id,
            "token": a.token,
            "block_number": a.block_number,
            "tx_hash": a.tx_hash,
            "log_index": a.log_index,
            "kind": a.kind.value,
            "subject": a.subject or NOBODY,
            "seen_at": now,
        }
        for a in found
    ]
    await insert_missing(conn, _t, rows, key=["chain_id", "token", "block_number", "log_index", "kind", "subject"])


async def of_chain(conn: AsyncConnection, chain_id: ChainId) -> dict[Address, Sequence[Risk]]:
    """By token, oldest first. They are rare: an upgrade a year, a freeze now and then."""
    found: dict[Address, list[Risk]] = defaultdict(list)
    query = select(_t).where(_t.c.chain_id == chain_id).order_by(_t.c.block_number, _t.c.log_index)
    for row in await conn.execute(query):
        announcement = Announcement(
            token=Address(row.token),
            kind=AnnouncementKind(row.kind),
            subject=None if row.subject == NOBODY else Address(row.subject),
            block_number=BlockNumber(row.block_number),
            tx_hash=TxHash(row.tx_hash),
            log_index=row.log_index,
        )
        found[announcement.token].append(Risk(announcement=announcement, is_accepted=row.accepted_at is not None))
    return dict(found)


async def forget(conn: AsyncConnection, chain_id: ChainId, *, above: BlockNumber) -> None:
    """Lets go of what was announced in blocks that are gone."""
    await conn.execute(delete(_t).where(_t.c.chain_id == chain_id, _t.c.block_number > above))


async def accept(
    conn: AsyncConnection, chain_id: ChainId, token: Address, *, now: datetime, who: str, reason: str
) -> int:
    """An operator trusts the token as it is now: what it announced so far holds no payment that becomes final from now
    on. How many announcements that were; raises `Conflict` if there is none to accept.
    """
    statement = (
        update(_t)
        .where(_t.c.chain_id == chain_id, _t.c.token == token, _t.c.accepted_at.is_(None))
        .values(accepted_at=now, accepted_by=who)
    )
    count = int((await conn.execute(statement)).rowcount)
    if count == 0:
        raise Conflict("token", "it announced nothing that was not accepted; there is nothing to do")
    await operator_actions.add(
        conn, action="token.accept", object_id=f"{chain_id}:0x{token.hex()}", who=who, reason=reason, now=now
    )
    return count
