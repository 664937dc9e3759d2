"""Idempotency keys: the first request with a key takes it, in the transaction of its effect; later ones see its answer.

    async with db.write() as conn:
        first = await claim(conn, claim_of_mine)      # None: it is mine
        ...                                           # the effect
        await complete(conn, claim_of_mine, answer)   # committed together, or neither

Where several are done in one transaction, all that were used before are looked up first (`answered`), and all others
taken last, each with its answer (`keep`).

A duplicate that comes while the first is under way waits in `claim` for that transaction's end: it sees the answer, or,
if the first was rolled back, takes the key itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, delete, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from settler.storage import schema
from settler.storage.sql import chunks, insert_absent, insert_one_if_absent, is_one_of

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


async def answered(conn: AsyncConnection, claims: Sequence[Claim]) -> dict[tuple[str, str], First]:
    """Those of the keys that were used before, by scope and key, with the request that took each. Takes none."""
    found: dict[tuple[str, str], First] = {}
    for chunk in chunks(claims):
        # also what one caller's key is to another: few have several callers' requests at once
        scopes, keys = sorted({c.scope for c in chunk}), sorted({c.key for c in chunk})
        wanted = is_one_of(conn, _t.c.scope, scopes), is_one_of(conn, _t.c.key, keys)
        query = select(_t.c.scope, _t.c.key, _t.c.request_hash, _t.c.status, _t.c.body).where(*wanted)
        for row in await conn.execute(query):
            found[row.scope, row.key] = _first(row.request_hash, row.status, row.body)
    return found


async def keep(conn: AsyncConnection, answers: Sequence[tuple[Claim, StoredAnswer]], *, now: datetime) -> bool:
    """Takes each key together with its answer; `False` if one of them was taken meanwhile: the caller rolls back."""
    ordered = sorted(answers, key=lambda each: (each[0].scope, each[0].key))  # who takes the same two waits for one
    rows = []
    for claim_, answer in ordered:
        _check(answer)
        key = {"scope": claim_.scope, "key": claim_.key, "request_hash": claim_.request_hash}
        rows.append({**key, "status": answer.status, "body": answer.body, "created_at": now})
    kept = await insert_absent(conn, _t, rows, key=["scope", "key"], telling=["scope", "key"])
    return len(kept) == len(rows)


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
    return _first(found.request_hash, found.status, found.body)


async def complete(conn: AsyncConnection, claim_: Claim, answer: StoredAnswer) -> None:
    """Keeps the answer to a key claimed in this transaction."""
    _check(answer)
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


def _first(request_hash: bytes, status: int | None, body: str) -> First:
    answer = None if status is None else StoredAnswer(status=status, body=body)
    return First(request_hash=bytes(request_hash), answer=answer)


def _check(answer: StoredAnswer) -> None:
    assert answer.status < 500, f"a {answer.status} is no answer to keep: the caller is to try again"
