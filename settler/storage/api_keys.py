"""API keys: shown once, kept as a hash, found by it.

A key is 32 random bytes, so its SHA-256 needs no salt and no slow hash, and finding it by an index tells an
attacker nothing by the time it takes: the bytes compared are of the hash, which nobody can steer. What does
not belong here: what a scope allows (`settler.api`)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from settler.domain.errors import Conflict, NotFound
from settler.domain.ids import make_id
from settler.storage import operator_actions, schema

_t = schema.api_keys

PREFIX = "sk_"
"""Lets secret scanners and people see what it is."""
SECRET_BYTES = 32


class Scope(StrEnum):
    READ = "read"
    """Look at everything."""
    WRITE = "write"
    """Make and cancel invoices, set up webhooks."""
    OPERATE = "operate"
    """An operator's decisions: assign, dismiss, mark, release."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as it is kept: everything but itself."""

    id: str
    name: str
    """The operator's own name for it."""
    scopes: frozenset[Scope]
    merchant: str | None
    """The one merchant whose objects it sees; `None`: all."""
    created_at: datetime
    revoked_at: datetime | None

    @property
    def is_live(self) -> bool:
        return self.revoked_at is None

    def may(self, scope: Scope) -> bool:
        return self.is_live and scope in self.scopes


async def create(
    conn: AsyncConnection,
    *,
    name: str,
    scopes: Iterable[Scope],
    merchant: str | None,
    now: datetime,
    who: str,
    secret: bytes,
    entropy: bytes,
) -> tuple[ApiKey, str]:
    """Stores a new key; returns it and its text, which cannot be had again.

    `secret`: 32 bytes, `entropy`: 10, both from a secure source.
    """
    assert len(secret) == SECRET_BYTES, f"a key has {SECRET_BYTES} bytes, got {len(secret)}"
    text = PREFIX + secret.hex()
    key = ApiKey(
        id=make_id("key", now, entropy),
        name=name,
        scopes=frozenset(scopes),
        merchant=merchant,
        created_at=now,
        revoked_at=None,
    )
    assert key.scopes, "a key without scopes opens nothing"
    await conn.execute(
        insert(_t).values(
            id=key.id,
            name=name,
            key_hash=_hash(text),
            scopes=sorted(scope.value for scope in key.scopes),
            merchant=merchant,
            created_at=now,
            revoked_at=None,
        )
    )
    await operator_actions.add(
        conn, action="api_key.create", object_id=key.id, who=who, reason=f"name: {name}", now=now
    )
    return key, text


async def find_live(conn: AsyncConnection, text: str) -> ApiKey | None:
    """The key of that text, unless there is none or it is revoked."""
    if not text.startswith(PREFIX):
        return None
    query = select(_t).where(_t.c.key_hash == _hash(text), _t.c.revoked_at.is_(None))
    row = (await conn.execute(query)).one_or_none()
    return None if row is None else _key(row)


async def list_all(conn: AsyncConnection) -> list[ApiKey]:
    """Newest first, revoked ones too."""
    return [_key(row) for row in await conn.execute(select(_t).order_by(_t.c.id.desc()))]


async def revoke(conn: AsyncConnection, id_: str, *, now: datetime, who: str, reason: str) -> ApiKey:
    """Ends a key, at once and for good. Raises `NotFound`, or `Conflict` if it was revoked already."""
    row = (await conn.execute(select(_t).where(_t.c.id == id_))).one_or_none()
    if row is None:
        raise NotFound(f"there is no API key {id_!r}; see `settler api-key list`")
    if row.revoked_at is not None:
        raise Conflict("id", f"{id_} was revoked already")
    await conn.execute(update(_t).where(_t.c.id == id_).values(revoked_at=now))
    await operator_actions.add(conn, action="api_key.revoke", object_id=id_, who=who, reason=reason, now=now)
    revoked = (await conn.execute(select(_t).where(_t.c.id == id_))).one()
    return _key(revoked)


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def _key(row: Row[Any]) -> ApiKey:
    return ApiKey(
        id=row.id,
        name=row.name,
        scopes=frozenset(Scope(name) for name in row.scopes),
        merchant=row.merchant,
        created_at=row.created_at,
        revoked_at=row.revoked_at,
    )
