"""Sessions of the operator's pages that are open.

A cookie is sealed (`settler.api.pages.session`); a row here is what it takes beside the seal, so that logging out ends
a session wherever it was copied to, and a copy of the database opens none.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from settler.storage import schema

_t = schema.ops_sessions
KEPT = timedelta(days=1)
"""Longer than any session lasts."""


async def begin(conn: AsyncConnection, nonce: str, *, key_id: str, now: datetime) -> None:
    """`nonce`: the session's own, from a secure source."""
    await conn.execute(insert(_t).values(nonce_hash=_hash(nonce), key_id=key_id, began_at=now))


async def is_open(conn: AsyncConnection, nonce: str, *, key_id: str) -> bool:
    found = await conn.execute(select(_t.c.key_id).where(_t.c.nonce_hash == _hash(nonce), _t.c.key_id == key_id))
    return found.first() is not None


async def end(conn: AsyncConnection, nonce: str) -> None:
    """Ending it again is no error."""
    await conn.execute(delete(_t).where(_t.c.nonce_hash == _hash(nonce)))


async def prune(conn: AsyncConnection, before: datetime, *, limit: int) -> int:
    """Forgets at most `limit` sessions that began before that; how many."""
    oldest = select(_t.c.nonce_hash).where(_t.c.began_at < before).order_by(_t.c.began_at).limit(limit)
    return (await conn.execute(delete(_t).where(_t.c.nonce_hash.in_(oldest)))).rowcount


def _hash(nonce: str) -> bytes:
    return hashlib.sha256(nonce.encode()).digest()
