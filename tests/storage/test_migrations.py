"""The sum of the migrations is the schema, append-only tables are so, states are told apart; on both databases."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Boolean, Connection, Inspector, Table, bindparam, delete, insert, inspect, text, update
from sqlalchemy.exc import IntegrityError

from settler.storage import migrate, schema
from settler.storage.engine import Database
from settler.storage.errors import SchemaTooNew, StorageBusy
from settler.storage.types import UtcDateTime
from settler.storage.watched import WatchedAddresses
from tests.ha import next_release
from tests.storage import samples
from tests.support.daemon import until
from tests.support.db import BOTH

HEAD = "0003"


async def test_migrations__all__leave_nothing_to_generate(db: Database) -> None:
    def differences(conn: Connection) -> list[Any]:
        return list(compare_metadata(MigrationContext.configure(conn), schema.metadata))

    async with db.read() as conn:
        assert await conn.run_sync(differences) == []


@pytest.mark.parametrize("kind", BOTH)
async def test_migrations__all__make_what_the_schema_would(kind: str, request: pytest.FixtureRequest) -> None:
    """Alembic compares neither check constraints nor the conditions of indexes; here the database tells."""
    migrated = await Database.open(request.getfixturevalue(f"{kind}_db_url"))
    created = await Database.open(request.getfixturevalue(f"empty_{kind}_db_url"))
    try:
        async with created.write() as conn:
            await conn.run_sync(schema.metadata.create_all)
        assert await _described(migrated) == await _described(created)
    finally:
        await migrated.dispose()
        await created.dispose()


async def _described(db: Database) -> dict[str, Any]:
    def describe(conn: Connection) -> dict[str, Any]:
        inspector: Inspector = inspect(conn)
        return {
            table: {
                "columns": [
                    (c["name"], repr(c["type"]), c["nullable"], c["default"]) for c in inspector.get_columns(table)
                ],
                "primary key": inspector.get_pk_constraint(table),
                "unique": _by_name(inspector.get_unique_constraints(table)),
                "check": _by_name(inspector.get_check_constraints(table)),
                "foreign": _by_name(inspector.get_foreign_keys(table)),
                "indexes": [
                    (index["name"], index["column_names"], index["unique"], _options(index))
                    for index in _by_name(inspector.get_indexes(table))
                ],
            }
            for table in inspector.get_table_names()
            if table != "alembic_version"
        }

    async with db.read() as conn:
        return await conn.run_sync(describe)


def _options(index: Any) -> dict[str, str]:
    """The condition of a partial index among them."""
    return {name: str(value) for name, value in index.get("dialect_options", {}).items()}


def _by_name(items: Any) -> list[Any]:
    return sorted(items, key=lambda item: str(item["name"]))


async def test_state__before_and_after_upgrade__is_named(empty_db_url: str) -> None:
    db = await Database.open(empty_db_url)
    try:
        assert await migrate.state(db) == migrate.Empty(head=HEAD)
        await migrate.upgrade(empty_db_url)
        assert await migrate.state(db) == migrate.Current(revision=HEAD)
    finally:
        await db.dispose()


async def test_state__newer_revision__is_ahead_and_upgrade_refuses(db: Database) -> None:
    async with db.write() as conn:
        await conn.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    assert await migrate.state(db) == migrate.Ahead(revision="9999", head=HEAD)
    with pytest.raises(SchemaTooNew, match="9999"):
        await migrate.upgrade_open(db)


async def test_state__older_revision__is_behind(db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A release with one revision more meets the database of this one, and brings it on."""
    scripts = _scripts_up_to(tmp_path / "migrations", HEAD)
    (scripts / "versions" / "0004_next.py").write_text(
        f"from alembic import op\nrevision = '0004'\ndown_revision = '{HEAD}'\n"
        "def upgrade() -> None:\n    op.execute('CREATE TABLE later (id INTEGER)')\n"
    )
    monkeypatch.setattr(migrate, "_SCRIPTS", scripts)
    assert await migrate.state(db) == migrate.Behind(revision=HEAD, head="0004")
    await migrate.upgrade_open(db)
    assert await migrate.state(db) == migrate.Current(revision="0004")


async def test_upgrade__failing_half_way__leaves_nothing(empty_db_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object) -> None:
        raise RuntimeError("power cut")

    monkeypatch.setattr("alembic.runtime.migration.HeadMaintainer.update_to_step", fail)
    with pytest.raises(RuntimeError, match="power cut"):
        await migrate.upgrade(empty_db_url)
    monkeypatch.undo()
    db = await Database.open(empty_db_url)
    try:
        async with db.read() as conn:
            assert await conn.run_sync(lambda c: inspect(c).get_table_names()) == []
    finally:
        await db.dispose()


async def test_upgrade__several_at_once_and_again__makes_it_once(empty_db_url: str) -> None:
    await asyncio.gather(*(migrate.upgrade(empty_db_url) for _ in range(4)))
    await migrate.upgrade(empty_db_url)
    db = await Database.open(empty_db_url)
    try:
        assert await migrate.state(db) == migrate.Current(revision=HEAD)
    finally:
        await db.dispose()


@pytest.mark.postgres
async def test_upgrade__tables_in_use_in_another_order__gives_way_and_begins_anew(
    postgres_db_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The migration has `invoices` and asks for `transfers`; a worker has these and asks for those."""
    monkeypatch.setattr(migrate, "_SCRIPTS", next_release.scripts(tmp_path / "next"))
    db = await Database.open(postgres_db_url)
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'transfers'::regclass")
    try:
        async with db.write() as worker:
            await worker.execute(text("SELECT 1 FROM transfers FOR UPDATE"))
            migrating = asyncio.create_task(migrate.upgrade(postgres_db_url))

            async def waiters() -> int:
                return int((await worker.execute(waiting)).scalar_one())

            await until(waiters, lambda count: count == 1, what="the migration to wait for a table", every_s=0.02)
            assert (await worker.execute(text("SELECT count(*) FROM invoices"))).scalar_one() == 0
        await migrating
        assert await migrate.state(db) == migrate.Current(revision="next")
    finally:
        await db.dispose()


@pytest.mark.postgres
async def test_upgrade__tables_in_use_for_long__gives_up_and_leaves_nothing(
    postgres_db_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "_SCRIPTS", next_release.scripts(tmp_path / "next"))
    monkeypatch.setattr(migrate, "_LOCK_WAIT_S", 2)
    db = await Database.open(postgres_db_url)
    try:
        async with db.write() as worker:
            await worker.execute(text("SELECT 1 FROM transfers FOR UPDATE"))
            with pytest.raises(StorageBusy, match="lock timeout"):
                await migrate.upgrade(postgres_db_url)
        assert await migrate.state(db) == migrate.Behind(revision=HEAD, head="next")
    finally:
        await db.dispose()


async def test_upgrade_open__in_memory__makes_the_tables() -> None:
    db = await Database.open("sqlite://")
    try:
        await migrate.upgrade_open(db)
        assert await migrate.state(db) == migrate.Current(revision=HEAD)
    finally:
        await db.dispose()


@pytest.mark.parametrize("table", schema.APPEND_ONLY, ids=lambda table: table.name)
async def test_append_only__row__can_be_added_and_not_changed(db: Database, table: Table) -> None:
    async with db.write() as conn:
        for parent, row in samples.with_parents(table):
            await conn.execute(insert(parent), row)
    column = next(iter(table.columns))
    for statement in (update(table).values({column.name: column}), delete(table)):
        with pytest.raises(IntegrityError, match=f"{table.name} is append-only"):
            async with db.write() as conn:
                await conn.execute(statement)
    async with db.read() as conn:
        assert len((await conn.execute(table.select())).all()) == 1


@pytest.mark.postgres
@pytest.mark.parametrize("table", schema.APPEND_ONLY, ids=lambda table: table.name)
async def test_append_only__truncate__is_refused(postgres_db: Database, table: Table) -> None:
    with pytest.raises(IntegrityError, match="is append-only"):
        async with postgres_db.write() as conn:
            await conn.execute(text(f"TRUNCATE {table.name} CASCADE"))


@pytest.mark.parametrize("table", schema.APPEND_ONLY, ids=lambda table: table.name)
async def test_append_only__insert_or_replace__is_refused(sqlite_db: Database, table: Table) -> None:
    """REPLACE deletes without asking delete triggers unless `recursive_triggers` is on."""
    rows = samples.with_parents(table)
    async with sqlite_db.write() as conn:
        for parent, row in rows:
            await conn.execute(insert(parent), row)
    with pytest.raises(IntegrityError, match="is append-only"):
        async with sqlite_db.write() as conn:
            await conn.execute(insert(table).prefix_with("OR REPLACE"), rows[-1][1])


async def test_foreign_keys__missing_parent__is_refused(db: Database) -> None:
    *_, (table, row) = samples.with_parents(schema.settlements)
    with pytest.raises(IntegrityError, match=r"(?i)foreign key"):
        async with db.write() as conn:
            await conn.execute(insert(table), row)


async def test_events__deleted_last_number__is_not_given_out_again(db: Database) -> None:
    (*_, (events, row)) = samples.with_parents(schema.events)
    seqs = []
    for number in range(2):
        async with db.write() as conn:
            added = insert(events).values(row | {"id": f"evt_{number}", "version": number})
            seqs.append((await conn.execute(added.returning(events.c.seq))).scalar_one())
            await conn.execute(delete(events).where(events.c.seq == seqs[-1]))
    assert seqs[1] > seqs[0]


def _scripts_up_to(folder: Path, revision: str) -> Path:
    """The migrations of the release that had this revision as its newest."""
    source = Path(migrate.__file__).parent / "migrations"
    for file in source.rglob("*.py"):
        if file.parent.name == "versions" and file.name[:4].isdigit() and file.name[:4] > revision:
            continue
        copy = folder / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(file.read_text())
    return folder


REVISIONS = sorted(
    file.name[:4] for file in (Path(migrate.__file__).parent / "migrations" / "versions").glob("[0-9]*.py")
)


@pytest.mark.parametrize("revision", REVISIONS[:-1])
async def test_next_revision__only_adds__so_that_the_release_before_runs_on(
    empty_db_url: str, revision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While workers are replaced one by one, those of the release before write to the next schema: nothing they use may
    be gone or stricter, and they fill no column they do not know.
    """
    following = REVISIONS[REVISIONS.index(revision) + 1]
    described = []
    for newest in (revision, following):
        scripts = _scripts_up_to(tmp_path / newest, newest)
        monkeypatch.setattr(migrate, "_SCRIPTS", scripts)
        db = await Database.open(empty_db_url)
        try:
            await migrate.upgrade_open(db)
            described.append(await _described(db))
        finally:
            await db.dispose()
    before, after = described
    assert before != after, "a revision changes something"
    for table, was in before.items():
        now = after[table]
        assert {"check": now["check"], "unique": now["unique"], "foreign": now["foreign"]} == {
            "check": was["check"],
            "unique": was["unique"],
            "foreign": was["foreign"],
        }, f"{table} refuses rows that the release before writes"
        assert [column for column in now["columns"] if column in was["columns"]] == was["columns"], table
        for name, _type, is_nullable, default in (c for c in now["columns"] if c not in was["columns"]):
            assert is_nullable or default is not None, f"{table}.{name} has no value in rows of the release before"


async def test_0003__addresses_watched_before_and_by_the_release_before__are_followed(
    empty_db_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of before have no number; a worker that is not replaced yet writes such as know nothing of it."""
    old, new, late = (bytes([n]) * 20 for n in (1, 2, 3))
    row = "INSERT INTO watched_addresses (address, watched_since, has_references) VALUES (:address, :since, :flag)"
    typed = text(row).bindparams(bindparam("since", type_=UtcDateTime), bindparam("flag", type_=Boolean))

    async def watch(db: Database, address: bytes) -> None:
        async with db.write() as conn:
            await conn.execute(typed, {"address": address, "since": datetime(2026, 1, 1, tzinfo=UTC), "flag": False})

    monkeypatch.setattr(migrate, "_SCRIPTS", _scripts_up_to(tmp_path / "before", "0002"))
    db = await Database.open(empty_db_url)
    try:
        await migrate.upgrade_open(db)
        await watch(db, old)
        monkeypatch.undo()
        await migrate.upgrade_open(db)
        ours = WatchedAddresses(db, monotonic=lambda: 0.0)
        assert (await ours.current()).addresses == {old}
        await watch(db, new)
        assert (await ours.current()).addresses == {old, new}
        async with db.write() as conn:
            await conn.execute(
                text("UPDATE watched_addresses SET retired_at = watched_since WHERE has_references = false")
            )
        await watch(db, late)
        assert (await ours.current()).addresses == {late}
    finally:
        await db.dispose()
