"""Brings the tables to the state this release needs, and says whether they are in it.

All pending revisions are one transaction, on SQLite too: a migration that fails or is killed leaves nothing
behind. Two processes that migrate at once queue; the second finds nothing to do. Workers of the release before go on
meanwhile: on PostgreSQL a migration gives way to them and begins anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from settler.storage.engine import Database
from settler.storage.errors import SchemaTooNew, StorageBusy

_SCRIPTS = Path(__file__).parent / "migrations"
_LOCK_KEY = 0x736574746C6572
"""`settler` in ASCII: the PostgreSQL advisory lock that lets one migration run at a time."""
_LOCK_WAIT_S = 60
"""How long a migration waits for another before it gives up; likewise for tables in use."""
_TABLE_WAIT_MS = 900
"""PostgreSQL: how long it waits for a table in use. Whoever comes to the table after it waits behind it, and workers
lock tables in another order: it lets go of all it has before PostgreSQL looks for a deadlock (after a second) and ends
one of the two, which need not be the migration.
"""
_PAUSE_S = wait_random_exponential(multiplier=0.2, max=3)


@dataclass(frozen=True, slots=True)
class Current:
    """The tables are those of this release."""

    revision: str


@dataclass(frozen=True, slots=True)
class Behind:
    """An older release made the tables: to be migrated."""

    revision: str
    head: str


@dataclass(frozen=True, slots=True)
class Ahead:
    """A newer release made the tables: this one must not touch them."""

    revision: str
    head: str


@dataclass(frozen=True, slots=True)
class Empty:
    """No tables yet."""

    head: str


SchemaState = Current | Behind | Ahead | Empty
"""`revision` is the one the database is at, `head` the one this release needs."""


async def upgrade(url: str) -> None:
    """`upgrade_open` for a database that nobody in this process has open."""
    db = await Database.open(url, pool_size=1)
    try:
        await upgrade_open(db)
    finally:
        await db.dispose()


async def upgrade_open(db: Database) -> None:
    """Migrates the database to this release's revision; does nothing if it is there already.

    Raises `SchemaTooNew` if a newer release made it, `StorageUnavailable` if it does not answer in time, `StorageBusy`
    if others use the tables without a pause for a minute.
    """
    async for attempt in AsyncRetrying(
        stop=stop_after_delay(_LOCK_WAIT_S), wait=_PAUSE_S, retry=retry_if_exception_type(StorageBusy), reraise=True
    ):
        with attempt:
            async with db.write() as conn:
                await conn.run_sync(_upgrade)


async def state(db: Database) -> SchemaState:
    """Where the tables of the database stand against this release."""
    async with db.read() as conn:
        return await conn.run_sync(_state)


def _upgrade(conn: Connection) -> None:
    if conn.dialect.name == "postgresql":
        _queue_on_postgresql(conn)
    match _state(conn):
        case Current():
            return
        case Ahead(revision=revision, head=head):
            raise SchemaTooNew(f"the database is at revision {revision}; this settler knows up to {head}")
        case Behind() | Empty():
            config = _config()
            config.attributes["connection"] = conn
            command.upgrade(config, "head")
        case never:
            assert_never(never)


def _queue_on_postgresql(conn: Connection) -> None:
    """One migration at a time, however long it takes, and no long wait for a table. On SQLite the transaction has the
    write lock.
    """
    conn.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_WAIT_S}s'"))
    conn.execute(text("SET LOCAL statement_timeout = 0"))
    conn.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
    conn.execute(text(f"SET LOCAL lock_timeout = '{_TABLE_WAIT_MS}ms'"))


def _state(conn: Connection) -> SchemaState:
    scripts = ScriptDirectory.from_config(_config())
    head = scripts.get_current_head()
    assert head is not None, "the package holds no migrations"
    revision = MigrationContext.configure(conn).get_current_revision()
    if revision is None:
        return Empty(head=head)
    if revision == head:
        return Current(revision=revision)
    known = {script.revision for script in scripts.walk_revisions()}
    return (Behind if revision in known else Ahead)(revision=revision, head=head)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
