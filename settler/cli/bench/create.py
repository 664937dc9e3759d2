"""`settler bench create`."""

from __future__ import annotations

from typing import Annotated

import typer

from settler.cli.bench.options import BesideSqlite
from settler.cli.bench.printing import columns, print_report
from settler.cli.bench.running import benchmark
from settler.cli.options import AsJson

_CREATE = columns(
    {
        "database": "database",
        "invoices/s": lambda row: f"{row['invoices_per_s']:,}",
        "µs CPU/invoice": "cpu_us_per_invoice",
        "p50 ms": "p50_ms",
        "p99 ms": "p99_ms",
        "store/s": lambda row: f"{row['store_per_s']:,}",
        "store µs CPU": "store_cpu_us",
        "floor/s": lambda row: f"{row['floor_per_s']:,}",
        "floor µs CPU": "floor_cpu_us",
        "wall ÷ floor": "wall_ratio",
    }
)


def create(
    invoices: Annotated[int, typer.Option("--invoices", min=1, max=10_000_000, help="How many are made.")] = 20_000,
    at_once: Annotated[
        int, typer.Option("--at-once", min=1, max=500, help="Requests under way at a time, a connection each.")
    ] = 64,
    database: BesideSqlite = None,
    as_json: AsJson = False,
) -> None:
    """Invoices made a second over HTTP, with keys, beside bare inserts of the same rows."""
    import asyncio

    from settler.bench.creating import creating

    with benchmark():
        report = asyncio.run(creating(invoices=invoices, at_once=at_once, database=database))
    print_report(report, _CREATE, as_json=as_json)
