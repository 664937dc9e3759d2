"""`settler bench create`."""

from __future__ import annotations

from typing import Annotated

import typer

from settler.cli.options import AsJson
from settler.cli.text import Columns

_CREATE: Columns = {
    "database": lambda row: row["database"],
    "invoices/s": lambda row: f"{row['invoices_per_s']:,}",
    "µs CPU/invoice": lambda row: str(row["cpu_us_per_invoice"]),
    "p50 ms": lambda row: str(row["p50_ms"]),
    "p99 ms": lambda row: str(row["p99_ms"]),
    "store/s": lambda row: f"{row['store_per_s']:,}",
    "store µs CPU": lambda row: str(row["store_cpu_us"]),
    "floor/s": lambda row: f"{row['floor_per_s']:,}",
    "floor µs CPU": lambda row: str(row["floor_cpu_us"]),
    "wall ÷ floor": lambda row: str(row["wall_ratio"]),
}


def create(
    invoices: Annotated[int, typer.Option("--invoices", min=1, max=10_000_000, help="How many are made.")] = 20_000,
    at_once: Annotated[
        int, typer.Option("--at-once", min=1, max=500, help="Requests under way at a time, a connection each.")
    ] = 64,
    database: Annotated[
        str | None,
        typer.Option("--database", help="PostgreSQL, migrated and empty, beside SQLite.", metavar="URL"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Invoices made a second over HTTP, with keys, beside bare inserts of the same rows."""
    import asyncio

    from settler import logs
    from settler.bench.creating import creating
    from settler.cli.bench.printing import print_report

    logs.configure("console", "error")
    report = asyncio.run(creating(invoices=invoices, at_once=at_once, database=database))
    print_report(report, _CREATE, as_json=as_json)
