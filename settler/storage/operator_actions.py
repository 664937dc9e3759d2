"""Who did what, when and why: one appended row an action of an operator, each chained to the one before."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

from sqlalchemy import Row, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from settler.domain.audit import NOTHING, Action, Flaw, Head, Kept, action_hash, follow
from settler.domain.ids import derived_id
from settler.storage import schema

_t = schema.operator_actions
_LOCK = 0x5E771E4
"""PostgreSQL's advisory lock under which rows are appended: two at once would follow the same row."""


async def add(
    conn: AsyncConnection,
    *,
    action: str,
    object_id: str,
    who: str,
    reason: str,
    now: datetime,
    detail: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Records an action, in the transaction that carries it out. To be called last in it: others wait from then on."""
    if conn.dialect.name == "postgresql":
        await conn.execute(select(func.pg_advisory_xact_lock(_LOCK)))
    newest = await head(conn)
    seq = newest.seq + 1
    row = Action(
        seq=seq,
        id=derived_id("act", now, action, object_id, who, reason, seq),
        at=now,
        who=who,
        action=action,
        object_id=object_id,
        reason=reason,
        # as it will be read back: a tuple as a list, every key as text
        detail=json.loads(json.dumps(dict(detail), allow_nan=False)),
        previous_hash=newest.hash,
    )
    await conn.execute(
        insert(_t).values(
            seq=row.seq,
            id=row.id,
            at=row.at,
            who=row.who,
            action=row.action,
            object_id=row.object_id,
            reason=row.reason,
            detail=row.detail,
            previous_hash=row.previous_hash,
            hash=action_hash(row),
        )
    )


async def head(conn: AsyncConnection) -> Head:
    """The newest row as it is stored, unverified; `NOTHING` before the first."""
    query = select(_t.c.seq, _t.c.hash, _t.c.previous_hash).order_by(_t.c.seq.desc()).limit(1)
    last = (await conn.execute(query)).one_or_none()
    return NOTHING if last is None else Head(seq=last.seq, hash=last.hash, before=last.previous_hash)


async def find(
    conn: AsyncConnection,
    *,
    action: str | None = None,
    object_id: str | None = None,
    who: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    before: int | None = None,
    limit: int = 50,
) -> list[Kept]:
    """Newest first. `since` is inclusive, `until` is not. `before`: number to go on below."""
    query = select(_t).order_by(_t.c.seq.desc()).limit(limit)
    if action is not None:
        query = query.where(_t.c.action == action)
    if object_id is not None:
        query = query.where(_t.c.object_id == object_id)
    if who is not None:
        query = query.where(_t.c.who == who)
    if since is not None:
        query = query.where(_t.c.at >= since)
    if until is not None:
        query = query.where(_t.c.at < until)
    if before is not None:
        query = query.where(_t.c.seq < before)
    return [_kept(row) for row in await conn.execute(query)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What came of following the whole chain."""

    head: Head
    """The last row that fits; of an unbroken chain the newest."""
    flaw: Flaw | None
    """`None`: every row fits."""
    known: Head | None
    """The row asked for by number or hash, as it is stored; `None` where there is none, or none was asked for."""


async def verify(conn: AsyncConnection, *, known_seq: int | None = None, known_hash: bytes | None = None) -> Verified:
    """Follows the chain from its beginning, row by row as they come, up to the first flaw.

    `known_seq`, `known_hash`: of a row to be looked out for on the way, by either.
    """
    at = NOTHING
    known = NOTHING if known_seq == 0 or known_hash == NOTHING.hash else None
    try:
        async for row in await conn.stream(select(_t).order_by(_t.c.seq)):
            kept = _kept(row)
            if (kept.action.seq == known_seq) if known_seq is not None else (kept.hash == known_hash):
                known = Head(seq=kept.action.seq, hash=kept.hash)
            step = follow(at, kept)
            if isinstance(step, Flaw):
                return Verified(head=at, flaw=step, known=known)
            at = step
    except (ValueError, TypeError, AttributeError) as error:
        # rows come in batches: it may be a later one of them
        flaw = Flaw(seq=at.seq + 1, detail=f"this row, or one soon after it, cannot be read: {error}")
        return Verified(head=at, flaw=flaw, known=known)
    return Verified(head=at, flaw=None, known=known)


def _kept(row: Row[Any]) -> Kept:
    action = Action(
        seq=row.seq,
        id=row.id,
        at=row.at,
        who=row.who,
        action=row.action,
        object_id=row.object_id,
        reason=row.reason,
        detail=row.detail,
        previous_hash=row.previous_hash,
    )
    return Kept(action=action, hash=row.hash)
