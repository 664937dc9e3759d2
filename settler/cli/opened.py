"""The configuration and the database, opened for one command."""

from __future__ import annotations

import asyncio
import os
import pwd
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from settler.cli.failures import USAGE, Failure

if TYPE_CHECKING:
    from settler.config import Settings
    from settler.storage.engine import Database

T = TypeVar("T")


def with_database(config: Path, work: Callable[[Settings, Database], Awaitable[T]]) -> T:
    """Does `work` on the database of the configuration, its tables being those of this release.

    Beside a running daemon too. SQLite is migrated on the way, as `settler run` does. Raises `Failure` where
    only `settler migrate` may do that."""
    from settler.config import load

    settings = load(config)
    quiet_logs()
    return asyncio.run(_work(config, settings, work))


async def _work(config: Path, settings: Settings, work: Callable[[Settings, Database], Awaitable[T]]) -> T:
    from settler.storage.engine import Database

    db = await Database.open(settings.database_url)
    try:
        await _ensure_tables(config, db)
        return await work(settings, db)
    finally:
        await db.dispose()


async def _ensure_tables(config: Path, db: Database) -> None:
    from settler.storage import migrate

    match await migrate.state(db):
        case migrate.Current():
            return
        case migrate.Ahead(revision=revision, head=head):
            raise Failure(
                f"the database is at revision {revision}, newer than this settler's {head}; use the newer settler",
                code=USAGE,
            )
        case migrate.Behind() | migrate.Empty() if db.dialect == "sqlite":
            await migrate.upgrade_open(db)
        case migrate.Empty():
            raise Failure(f"the database has no tables yet; run settler migrate -c {config}", code=USAGE)
        case migrate.Behind(revision=revision, head=head):
            raise Failure(
                f"the database is at revision {revision}, this settler needs {head}; run settler migrate -c {config}",
                code=USAGE,
            )


def quiet_logs() -> None:
    """A command speaks through its output; of the logs only warnings are shown, on stderr."""
    from settler import logs

    logs.configure("auto", "warning")


def operator() -> str:
    """Who acts, for the audit log."""
    uid = os.getuid()
    try:
        return f"cli:{pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"cli:uid-{uid}"
