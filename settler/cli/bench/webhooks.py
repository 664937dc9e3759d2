"""`settler bench webhooks`."""

from __future__ import annotations

from typing import Annotated

import typer

from settler.cli.bench.printing import print_report
from settler.cli.failures import Failure
from settler.cli.options import AsJson
from settler.cli.text import Columns

_COLUMNS: Columns = {
    "endpoints": lambda row: row["endpoints"],
    "deliveries": lambda row: row["deliveries"],
    "per second": lambda row: row["per_s"],
    "bare posts per second": lambda row: row["floor_per_s"],
    "µs CPU": lambda row: row["cpu_us"],
    "µs CPU bare": lambda row: row["floor_cpu_us"],
    "ratio": lambda row: row["ratio"],
    "wall s": lambda row: row["wall_s"],
    "ticks": lambda row: row["ticks"],
}


def webhooks(
    events: Annotated[
        int, typer.Option("--events", min=1, max=1_000_000, help="How many events wait in the outbox.")
    ] = 2_000,
    database: Annotated[
        str | None,
        typer.Option("--database", help="PostgreSQL, migrated and empty; SQLite unless given.", metavar="URL"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Webhooks delivered a second, to 1 and to 10 endpoints, and what each costs beside a bare post."""
    import asyncio

    from settler import logs
    from settler.bench.webhooks import Unmeasurable, deliver
    from settler.runtime.supervisor import loop_factory
    from settler.storage.errors import StorageError

    logs.configure("console", "error")
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:  # the daemon's own
            report = runner.run(deliver(count=events, database=database))
    except (Unmeasurable, StorageError) as error:
        raise Failure(str(error)) from error
    print_report(report, _COLUMNS, as_json=as_json)
