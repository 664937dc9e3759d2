"""`settler bench webhooks`."""

from __future__ import annotations

from typing import Annotated

import typer

from settler.cli.bench.options import InsteadOfSqlite
from settler.cli.bench.printing import columns, print_report
from settler.cli.bench.running import benchmark, run_as_daemon
from settler.cli.options import AsJson

_COLUMNS = columns(
    {
        "endpoints": "endpoints",
        "deliveries": "deliveries",
        "per second": "per_s",
        "bare posts per second": "floor_per_s",
        "µs CPU": "cpu_us",
        "µs CPU bare": "floor_cpu_us",
        "ratio": "ratio",
        "wall s": "wall_s",
        "ticks": "ticks",
    }
)


def webhooks(
    events: Annotated[
        int, typer.Option("--events", min=1, max=1_000_000, help="How many events wait in the outbox.")
    ] = 2_000,
    database: InsteadOfSqlite = None,
    as_json: AsJson = False,
) -> None:
    """Webhooks delivered a second, to 1 and to 10 endpoints, and what each costs beside a bare post."""
    from settler.bench.webhooks import deliver

    with benchmark():
        report = run_as_daemon(deliver(count=events, database=database))
    print_report(report, _COLUMNS, as_json=as_json)
