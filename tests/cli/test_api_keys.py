"""API keys as they are kept, on SQLite and PostgreSQL."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from settler.domain.errors import Conflict, NotFound
from settler.stages.noting import Noting
from settler.storage import api_keys, schema
from settler.storage.api_keys import ApiKey, KeyUses, Scope
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
        assert await api_keys.find_live(conn, text, now=NOW) == made
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
        assert await api_keys.find_live(conn, text, now=NOW) is None


async def test_revoke__ends_it_at_once_and_for_good(db: Database) -> None:
    made, text = await create(db)
    async with db.write() as conn:
        revoked = await api_keys.revoke(conn, made.id, now=NOW, who="test", reason="leaked")
    assert not revoked.may(Scope.READ)
    async with db.read() as conn:
        assert await api_keys.find_live(conn, text, now=NOW) is None
        assert await api_keys.list_all(conn) == [revoked]
    async with db.write() as conn:
        with pytest.raises(Conflict):
            await api_keys.revoke(conn, made.id, now=NOW, who="test", reason="")
        with pytest.raises(NotFound):
            await api_keys.revoke(conn, "key_nope", now=NOW, who="test", reason="")


async def rotate(db: Database, id_: str, number: int, *, overlap_s: int = 60, now: datetime = NOW) -> str:
    async with db.write() as conn:
        _, text = await api_keys.rotate(
            conn, id_, now=now, overlap=timedelta(seconds=overlap_s), who="ops", secret=bytes([number]) * 32
        )
    return text


async def opens(db: Database, text: str, *, after_s: int = 0) -> str | None:
    """The id of the key that this text opens."""
    async with db.read() as conn:
        found = await api_keys.find_live(conn, text, now=NOW + timedelta(seconds=after_s))
    return None if found is None else found.id


async def test_rotate__both_texts_open_it_until_the_overlap_ends(db: Database) -> None:
    made, old = await create(db, 1, merchant="m1")
    new = await rotate(db, made.id, 2, overlap_s=60)
    assert [await opens(db, text, after_s=59) for text in (old, new)] == [made.id, made.id]
    assert [await opens(db, text, after_s=60) for text in (old, new)] == [None, made.id]
    async with db.read() as conn:
        kept = await api_keys.find_live(conn, new, now=NOW)
    assert kept == replace(made, previous_until=NOW + timedelta(seconds=60))


async def test_rotate__without_overlap__ends_the_old_text_at_once(db: Database) -> None:
    made, old = await create(db)
    new = await rotate(db, made.id, 2, overlap_s=0)
    assert [await opens(db, text) for text in (old, new)] == [None, made.id]


async def test_rotate__twice__two_texts_at_most(db: Database) -> None:
    made, first = await create(db)
    second = await rotate(db, made.id, 2)
    third = await rotate(db, made.id, 3)
    assert [await opens(db, text) for text in (first, second, third)] == [None, made.id, made.id]


async def test_rotate__revoked_or_unknown__is_refused(db: Database) -> None:
    made, old = await create(db)
    new = await rotate(db, made.id, 2)
    async with db.write() as conn:
        await api_keys.revoke(conn, made.id, now=NOW, who="ops", reason="leaked")
    assert [await opens(db, text) for text in (old, new)] == [None, None]
    with pytest.raises(Conflict, match="create a new one"):
        await rotate(db, made.id, 3)
    with pytest.raises(NotFound, match="api-key list"):
        await rotate(db, "key_nope", 3)


async def test_note_uses__the_latest_stays(db: Database) -> None:
    made, _ = await create(db)
    idle, _ = await create(db, 2)
    later = NOW + timedelta(minutes=5)
    for at in (later, NOW):
        async with db.write() as conn:
            await api_keys.note_uses(conn, {made.id: at, "key_gone": at})
    async with db.read() as conn:
        assert {key.id: key.last_used_at for key in await api_keys.list_all(conn)} == {made.id: later, idle.id: None}


async def test_noting__writes_what_was_used_since_the_last_tick(db: Database) -> None:
    made, _ = await create(db)
    uses = KeyUses()
    noting = Noting(db, uses)
    for at in (NOW, NOW + timedelta(seconds=3)):
        uses.note(made.id, at)
    assert (await noting.tick()).facts == {"keys": 1}
    assert (await noting.tick()).facts == {"keys": 0}
    async with db.read() as conn:
        (kept,) = await api_keys.list_all(conn)
    assert kept.last_used_at == NOW + timedelta(seconds=3)


async def test_create_and_revoke__are_in_the_audit_log(db: Database) -> None:
    made, _ = await create(db)
    await rotate(db, made.id, 2)
    async with db.write() as conn:
        await api_keys.revoke(conn, made.id, now=NOW, who="ops", reason="leaked")
    async with db.read() as conn:
        actions = (await conn.execute(select(schema.operator_actions))).all()
    assert {(a.action, a.object_id, a.who) for a in actions} == {
        ("api_key.create", made.id, "test"),
        ("api_key.rotate", made.id, "ops"),
        ("api_key.revoke", made.id, "ops"),
    }
