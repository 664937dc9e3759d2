"""Who did what, when and why: one appended row an action of an operator, each chained to the one before."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from settler.domain.audit import BEGINNING, Action, action_hash
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
    last = (await conn.execute(select(_t.c.seq, _t.c.hash).order_by(_t.c.seq.desc()).limit(1))).one_or_none()
    seq, previous = (1, BEGINNING) if last is None else (last.seq + 1, last.hash)
    row = Action(
        seq=seq,
        id=derived_id("act", now, action, object_id, who, reason, seq),
        at=now,
        who=who,
        action=action,
        object_id=object_id,
        reason=reason,
        detail=detail,
        previous_hash=previous,
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
            detail=dict(row.detail),
            previous_hash=row.previous_hash,
            hash=action_hash(row),
        )
    )
