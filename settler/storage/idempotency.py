"""Idempotency keys: the first request with a key takes it, in the transaction of its effect; later ones see its answer.

    async with db.write() as conn:
        first = await claim(conn, claim_of_mine)      # None: it is mine
        ...                                           # the effect
        await complete(conn, claim_of_mine, answer)   # committed together, or neither

A duplicate that comes while the first is under way waits in `claim` for that transaction's end: it sees the answer, or,
if the first was rolled back, takes the key itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, delete, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from settler.storage import schema
from settler.storage.sql import insert_one_if_absent

_t = schema.idempotency_keys

PRUNE_LIMIT = 1_000
"""Rows one `prune` deletes at most: a short transaction, repeated, holds nobody up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A request that wants to be done once."""

    scope: str
    """Whose keys these are: the same key of two callers is two keys."""
    key: str
    request_hash: bytes
    """32 bytes over everything that makes the request what it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAnswer:
    status: int
    """HTTP status, below 500."""
    body: str
    """JSON text, as it was sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class First:
    """The request that took the key before."""

    request_hash: bytes
    answer: StoredAnswer | None
    """`None`: under way."""


async def claim(conn: AsyncConnection, claim_: Claim, *, now: datetime) -> First | None:
    """Takes the key for this transaction; `None` when it was free, else who took it first."""
    row = {
        "scope": claim_.scope,
        "key": claim_.key,
        "request_hash": claim_.request_hash,
        "status": None,
        "body": None,
        "created_at": now,
    }
    if await insert_one_if_absent(conn, _t, row, key=["scope", "key"]):
        return None
    query = select(_t.c.request_hash, _t.c.status, _t.c.body).where(_is(claim_))
    found = (await conn.execute(query)).one_or_none()
    if found is None:
        # It was there and was pruned in between: as good as under way, the caller asks again.
        return First(request_hash=claim_.request_hash, answer=None)
    answer = None if found.status is None else StoredAnswer(status=found.status, body=found.body)
    return First(request_hash=bytes(found.request_hash), answer=answer)


async def complete(conn: AsyncConnection, claim_: Claim, answer: StoredAnswer) -> None:
    """Keeps the answer to a key claimed in this transaction."""
    assert answer.status < 500, f"a {answer.status} is no answer to keep: the caller is to try again"
    await conn.execute(update(_t).where(_is(claim_)).values(status=answer.status, body=answer.body))


async def prune(conn: AsyncConnection, before: datetime, *, limit: int = PRUNE_LIMIT) -> int:
    """Forgets keys first used before that time, at most `limit` of them, oldest first; how many.

    Keep them for at least 24 hours: that long a caller may repeat a request.
    """
    oldest = select(_t.c.scope, _t.c.key).where(_t.c.created_at < before).order_by(_t.c.created_at).limit(limit)
    result = await conn.execute(delete(_t).where(tuple_(_t.c.scope, _t.c.key).in_(oldest)))
    return int(result.rowcount)


def _is(claim_: Claim) -> ColumnElement[bool]:
    return (_t.c.scope == claim_.scope) & (_t.c.key == claim_.key)
