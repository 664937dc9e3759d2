"""API keys as they are kept, on SQLite and PostgreSQL."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import pytest
from sqlalchemy import select

from settler.domain.errors import Conflict, NotFound
from settler.storage import api_keys, schema
from settler.storage.api_keys import ApiKey, Scope
from settler.storage.engine import Database

NOW = datetime(2026, 1, 1, tzinfo=UTC)


async def create(db: Database, number: int = 1, *, merchant: str | None = None) -> tuple[ApiKey, str]:
    async with db.write() as conn:
        return await api_keys.create(
            conn,
            name=f"key {number}",
            scopes=[Scope.READ, Scope.WRITE],
            merchant=merchant,
            now=NOW,
            who="test",
            secret=bytes([number]) * 32,
            entropy=bytes([number]) * 10,
        )


async def test_find_live__the_text_of_a_key__is_that_key(db: Database) -> None:
    made, text = await create(db, 1, merchant="m1")
    await create(db, 2)
    async with db.read() as conn:
        assert await api_keys.find_live(conn, text) == made
    assert made.may(Scope.READ)
    assert not made.may(Scope.OPERATE)
    assert made.merchant == "m1"


async def test_create__keeps_the_hash_alone(db: Database) -> None:
    _, text = await create(db)
    async with db.read() as conn:
        row = (await conn.execute(select(schema.api_keys))).one()
    assert row.key_hash == hashlib.sha256(text.encode()).digest()
    assert text not in repr(row)


@pytest.mark.parametrize("text", ["", "sk_", "sk_00", "whatever", "sk_\udcff", "sk_" + "0" * 64])
async def test_find_live__anything_else__is_none(db: Database, text: str) -> None:
    await create(db)
    async with db.read() as conn:
        assert await api_keys.find_live(conn, text) is None


async def test_revoke__ends_it_at_once_and_for_good(db: Database) -> None:
    made, text = await create(db)
    async with db.write() as conn:
        revoked = await api_keys.revoke(conn, made.id, now=NOW, who="test", reason="leaked")
    assert not revoked.may(Scope.READ)
    async with db.read() as conn:
        assert await api_keys.find_live(conn, text) is None
        assert await api_keys.list_all(conn) == [revoked]
    async with db.write() as conn:
        with pytest.raises(Conflict):
            await api_keys.revoke(conn, made.id, now=NOW, who="test", reason="")
        with pytest.raises(NotFound):
            await api_keys.revoke(conn, "key_nope", now=NOW, who="test", reason="")


async def test_create_and_revoke__are_in_the_audit_log(db: Database) -> None:
    made, _ = await create(db)
    async with db.write() as conn:
        await api_keys.revoke(conn, made.id, now=NOW, who="ops", reason="leaked")
    async with db.read() as conn:
        actions = (await conn.execute(select(schema.operator_actions))).all()
    assert {(a.action, a.object_id, a.who) for a in actions} == {
        ("api_key.create", made.id, "test"),
        ("api_key.revoke", made.id, "ops"),
    }
