"""API keys: shown once, kept as a hash, found by it.

A key is 32 random bytes, so its SHA-256 needs no salt and no slow hash, and finding it by an index tells an
attacker nothing by the time it takes: the bytes compared are of the hash, which nobody can steer. What does
not belong here: what a scope allows (`settler.api`)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from settler.domain.errors import Conflict, NotFound
from settler.domain.ids import make_id
from settler.storage import operator_actions, schema
from settler.storage.sql import chunks

_t = schema.api_keys

PREFIX = "sk_"
"""Lets secret scanners and people see what it is."""
SECRET_BYTES = 32
MAX_OVERLAP = timedelta(days=30)
"""How long a rotated key's old text may go on opening it: longer is no rotation."""


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
    previous_until: datetime | None = None
    """Until then the text it had before it was rotated opens it too; `None`: it was not rotated."""
    last_used_at: datetime | None = None
    """Within a minute or so; `None`: never."""

    @property
    def is_live(self) -> bool:
        return self.revoked_at is None

    def may(self, scope: Scope) -> bool:
        return self.is_live and scope in self.scopes


@dataclass(slots=True)
class KeyUses:
    """When keys were used, kept in memory until it is written: a request writes nothing because it was asked."""

    _by_id: dict[str, datetime] = field(default_factory=dict)

    def note(self, id_: str, at: datetime) -> None:
        self._by_id[id_] = at

    def take(self) -> Mapping[str, datetime]:
        """What was noted since the last time."""
        taken, self._by_id = self._by_id, {}
        return taken


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


async def find_live(conn: AsyncConnection, text: str, *, now: datetime) -> ApiKey | None:
    """The key of that text, unless there is none or it is revoked. Also by the text it had before, for a while."""
    return (await find_all_live(conn, [text], now=now)).get(text)


async def find_all_live(conn: AsyncConnection, texts: Iterable[str], *, now: datetime) -> dict[str, ApiKey]:
    """The live keys of those of the texts that have one, also by the text each had before, for a while."""
    text_of = {_hash(text): text for text in texts if text.startswith(PREFIX)}
    found: dict[str, ApiKey] = {}
    for hashes in chunks(text_of):
        had = and_(_t.c.previous_hash.in_(hashes), _t.c.previous_until > now)
        query = select(_t).where(or_(_t.c.key_hash.in_(hashes), had), _t.c.revoked_at.is_(None))
        for row in await conn.execute(query):
            key = _key(row)
            for hash_ in (row.key_hash, row.previous_hash if key.previous_until and key.previous_until > now else None):
                if hash_ in text_of:
                    found[text_of[hash_]] = key
    return found


async def find_current(conn: AsyncConnection, text: str) -> tuple[ApiKey, bytes] | None:
    """The live key whose present text that is, with what is kept of it; not by the text it had before."""
    return await _with_hash(conn, _t.c.key_hash == _hash(text))


async def find_live_by_id(conn: AsyncConnection, id_: str) -> tuple[ApiKey, bytes] | None:
    """The live key of that id, with what is kept of it: something else once it is rotated."""
    return await _with_hash(conn, _t.c.id == id_)


async def list_all(conn: AsyncConnection) -> list[ApiKey]:
    """Newest first, revoked ones too."""
    return [_key(row) for row in await conn.execute(select(_t).order_by(_t.c.id.desc()))]


async def rotate(
    conn: AsyncConnection, id_: str, *, now: datetime, overlap: timedelta, who: str, secret: bytes
) -> tuple[ApiKey, str]:
    """Gives a key a new text, returned and not to be had again; the old one opens it for `overlap` more.

    Id, scopes, merchant and idempotency keys stay. A text that an earlier rotation left behind ends now. Raises
    `NotFound`, or `Conflict` if it is revoked. `secret`: 32 bytes from a secure source.
    """
    assert len(secret) == SECRET_BYTES, f"a key has {SECRET_BYTES} bytes, got {len(secret)}"
    assert timedelta(0) <= overlap <= MAX_OVERLAP, f"{overlap=} is not within 0 .. {MAX_OVERLAP}"
    key = await _get_live(conn, id_, "a revoked key is not rotated; create a new one")
    text = PREFIX + secret.hex()
    await conn.execute(
        update(_t)
        .where(_t.c.id == id_)
        .values(key_hash=_hash(text), previous_hash=_t.c.key_hash, previous_until=now + overlap)
    )
    reason = f"overlap: {overlap.total_seconds():.0f} s"
    await operator_actions.add(conn, action="api_key.rotate", object_id=id_, who=who, reason=reason, now=now)
    return replace(key, previous_until=now + overlap), text


async def note_uses(conn: AsyncConnection, uses: Mapping[str, datetime]) -> None:
    """When keys were last used, by id; an earlier time than is known changes nothing."""
    for id_, at in sorted(uses.items()):
        await conn.execute(
            update(_t)
            .where(_t.c.id == id_, or_(_t.c.last_used_at.is_(None), _t.c.last_used_at < at))
            .values(last_used_at=at)
        )


async def revoke(conn: AsyncConnection, id_: str, *, now: datetime, who: str, reason: str) -> ApiKey:
    """Ends a key, at once and for good. Raises `NotFound`, or `Conflict` if it was revoked already."""
    key = await _get_live(conn, id_, "it ended then")
    await conn.execute(update(_t).where(_t.c.id == id_).values(revoked_at=now))
    await operator_actions.add(conn, action="api_key.revoke", object_id=id_, who=who, reason=reason, now=now)
    return replace(key, revoked_at=now)


async def _get_live(conn: AsyncConnection, id_: str, remedy: str) -> ApiKey:
    """The key, locked until the transaction ends."""
    row = (await conn.execute(select(_t).where(_t.c.id == id_).with_for_update())).one_or_none()
    if row is None:
        raise NotFound(f"there is no API key {id_!r}; see `settler api-key list`")
    if row.revoked_at is not None:
        raise Conflict("id", f"{id_} was revoked already; {remedy}")
    return _key(row)


async def _with_hash(conn: AsyncConnection, which: ColumnElement[bool]) -> tuple[ApiKey, bytes] | None:
    row = (await conn.execute(select(_t).where(which, _t.c.revoked_at.is_(None)))).one_or_none()
    return None if row is None else (_key(row), bytes(row.key_hash))


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
        previous_until=row.previous_until,
        last_used_at=row.last_used_at,
    )
