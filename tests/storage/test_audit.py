"""The audit log as it is stored: appended by many at once without a gap, and found out when somebody changes it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from settler.domain.audit import NOTHING, Head
from settler.storage import operator_actions, schema
from settler.storage.engine import Database
from settler.storage.operator_actions import Verified

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
WRITERS = 64
_t = schema.operator_actions


async def act(conn: AsyncConnection, n: int) -> None:
    await operator_actions.add(
        conn,
        action=("transfer.assign", "transfer.dismiss")[n % 2],
        object_id=f"trf_{n}",
        who=f"cli:op{n % 3}",
        reason=f"grund nr. {n} ∑",
        now=NOW + timedelta(minutes=n),
        detail={"n": n, "amounts": ("1", 2), "by_index": {10: "a", 9: "b"}, "big": 2**200},
    )


async def filled(db: Database, count: int) -> None:
    async with db.write() as conn:
        for n in range(1, count + 1):
            await act(conn, n)


async def verify(db: Database, *, known_seq: int | None = None, known_hash: bytes | None = None) -> Verified:
    async with db.read() as conn:
        return await operator_actions.verify(conn, known_seq=known_seq, known_hash=known_hash)


async def forge(db: Database, *statements: sa.UpdateBase) -> None:
    """Behind the triggers, as who owns the database can."""
    async with db.write() as conn:
        if db.dialect == "postgresql":
            await conn.execute(sa.text("ALTER TABLE operator_actions DISABLE TRIGGER ALL"))
        else:
            for change in ("update", "delete"):
                await conn.execute(sa.text(f"DROP TRIGGER operator_actions_no_{change}"))
        for statement in statements:
            await conn.execute(statement)


class Undone(Exception):
    pass


async def test_many_writers__some_undone__leave_one_chain_without_gaps(db: Database) -> None:
    async def write(n: int) -> None:
        try:
            async with db.write() as conn:
                await act(conn, n)
                if n % 7 == 0:
                    raise Undone
        except Undone:
            pass

    await asyncio.gather(*(write(n) for n in range(WRITERS)))
    kept = WRITERS - len(range(0, WRITERS, 7))
    found = await verify(db)
    assert (found.flaw, found.head.seq) == (None, kept)
    async with db.read() as conn:
        assert (await operator_actions.head(conn)).hash == found.head.hash
        assert [a.action.seq for a in await operator_actions.find(conn, limit=100)] == list(range(kept, 0, -1))


async def test_several_actions_of_one_transaction__follow_each_other(db: Database) -> None:
    assert await verify(db) == Verified(head=NOTHING, flaw=None, known=None)
    await filled(db, 3)
    found = await verify(db, known_seq=2)
    assert (found.flaw, found.head.seq) == (None, 3)
    assert found.known is not None
    assert (await verify(db, known_hash=found.known.hash)).known == Head(seq=2, hash=found.known.hash)


@pytest.mark.parametrize(
    ("statements", "seq", "said"),
    [
        ([_t.update().where(_t.c.seq == 3).values(reason="other")], 3, "was changed"),
        ([_t.update().where(_t.c.seq == 3).values(detail={"n": 4})], 3, "was changed"),
        ([_t.update().where(_t.c.seq == 3).values(hash=b"\x07" * 32)], 3, "was changed"),
        ([_t.delete().where(_t.c.seq == 3)], 3, "row 3 is missing"),
        ([_t.delete().where(_t.c.seq == 1)], 1, "row 1 is missing"),
        (
            [
                _t.update().where(_t.c.seq == 2).values(seq=99),
                _t.update().where(_t.c.seq == 4).values(seq=2),
                _t.update().where(_t.c.seq == 99).values(seq=4),
            ],
            2,
            "was written as row 4",
        ),
        (
            [
                _t.delete().where(_t.c.seq == 3),
                _t.update().where(_t.c.seq == 4).values(seq=3),
                _t.update().where(_t.c.seq == 5).values(seq=4),
            ],
            3,
            "was written as row 4",
        ),
    ],
    ids=["words", "detail", "hash", "taken out", "first taken out", "reordered", "taken out and closed"],
)
async def test_verify__tampered__names_the_first_bad_row(
    db: Database, statements: list[sa.UpdateBase], seq: int, said: str
) -> None:
    await filled(db, 5)
    assert (await verify(db)).flaw is None
    await forge(db, *statements)
    flaw = (await verify(db)).flaw
    assert flaw is not None
    assert flaw.seq == seq
    assert said in flaw.detail


async def test_verify__cut_off_at_the_end__shows_by_the_row_that_is_gone(db: Database) -> None:
    await filled(db, 5)
    before = (await verify(db)).head
    await forge(db, _t.delete().where(_t.c.seq == 5))
    found = await verify(db, known_seq=before.seq, known_hash=before.hash)
    assert (found.flaw, found.head.seq, found.known) == (None, 4, None)


async def test_verify__a_row_nobody_can_read__is_a_flaw_and_no_crash(sqlite_db: Database) -> None:
    await filled(sqlite_db, 3)
    await forge(sqlite_db, sa.text("UPDATE operator_actions SET at = 'nonsense' WHERE seq = 2"))  # type: ignore[arg-type]  # any statement will do
    flaw = (await verify(sqlite_db)).flaw
    assert flaw is not None
    assert "cannot be read" in flaw.detail


async def test_find__filters_and_pages(db: Database) -> None:
    await filled(db, 6)

    async def seqs(**filters: object) -> list[int]:
        async with db.read() as conn:
            return [kept.action.seq for kept in await operator_actions.find(conn, **filters)]  # type: ignore[arg-type]  # a test's shorthand

    assert await seqs() == [6, 5, 4, 3, 2, 1]
    assert await seqs(action="transfer.dismiss") == [5, 3, 1]
    assert await seqs(object_id="trf_4") == [4]
    assert await seqs(who="cli:op0") == [6, 3]
    assert await seqs(since=NOW + timedelta(minutes=3), until=NOW + timedelta(minutes=5)) == [4, 3]
    assert await seqs(limit=2) == [6, 5]
    assert await seqs(before=5, limit=2) == [4, 3]


async def test_the_log__is_append_only(db: Database) -> None:
    await filled(db, 1)
    with pytest.raises(sa.exc.DBAPIError):
        async with db.write() as conn:
            await conn.execute(_t.update().values(reason="other"))
