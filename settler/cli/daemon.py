"""`settler run`, `settler demo`, `settler migrate`."""

from __future__ import annotations

import errno
import os
from typing import Annotated

import typer

from settler.cli.failures import USAGE, Failure
from settler.cli.options import CONFIG, AsJson, Config
from settler.cli.text import print_json

_CANNOT_LISTEN = (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES)


def run(
    config: Config = CONFIG,
    shadow: Annotated[
        bool, typer.Option("--shadow", help="Watch and match, but send nothing out: no webhooks.")
    ] = False,
) -> int:
    """The daemon: every configured chain, the API, webhooks."""
    from settler import logs
    from settler.config import load

    settings = load(config)
    logs.configure(settings.runtime.log_format, settings.runtime.log_level)
    from settler.runtime import supervisor

    try:
        return supervisor.run_daemon(settings, shadow=shadow)
    except supervisor.SchemaMismatch as error:
        raise Failure(str(error), code=USAGE) from error
    except OSError as error:
        if error.errno not in _CANNOT_LISTEN:
            raise
        reason = os.strerror(error.errno)
        raise Failure(f"api.listen: cannot listen on {settings.api.listen}: {reason}; choose another") from error


def demo(
    invoices: Annotated[int, typer.Option("--invoices", min=1, max=50, help="How many to make and pay.")] = 3,
    exit_when_settled: Annotated[
        bool, typer.Option("--exit-when-settled", help="End once all are settled, instead of running on.")
    ] = False,
) -> int:
    """The main job on this machine, on a local chain, with nothing to configure."""
    from settler.anvil import AnvilError
    from settler.config import anvil_program
    from settler.demo import run_demo

    try:
        return run_demo(invoices=invoices, exit_when_settled=exit_when_settled, anvil=anvil_program())
    except AnvilError as error:
        raise Failure(str(error)) from error


def migrate(config: Config = CONFIG, as_json: AsJson = False) -> None:
    """Creates the tables of the database, or upgrades them to this release."""
    import asyncio

    from settler.cli.opened import quiet_logs
    from settler.config import load

    settings = load(config)
    quiet_logs()
    before, after = asyncio.run(_migrate(settings.database_url))
    if as_json:
        print_json({"before": before, "after": after})
    elif before is None:
        print(f"created the tables, revision {after}")
    elif before == after:
        print(f"the database is at revision {after} already")
    else:
        print(f"upgraded the database from revision {before} to {after}")


async def _migrate(url: str) -> tuple[str | None, str]:
    """The revision before and after; `None`: there were no tables."""
    from settler.storage import migrate as migrations
    from settler.storage.engine import Database

    db = await Database.open(url, pool_size=1)
    try:
        before = await migrations.state(db)
        await migrations.upgrade_open(db)
        after = await migrations.state(db)
    finally:
        await db.dispose()
    if not isinstance(after, migrations.Current):
        raise Failure("another settler changed the database meanwhile; run settler migrate again")
    match before:
        case migrations.Empty():
            return None, after.revision
        case (
            migrations.Current(revision=revision)
            | migrations.Behind(revision=revision)
            | migrations.Ahead(revision=revision)
        ):
            return revision, after.revision
