"""`settler bench match`."""

from __future__ import annotations

from typing import Annotated

import typer

from settler.cli.bench.options import BesideSqlite
from settler.cli.bench.printing import columns, print_report
from settler.cli.bench.running import benchmark
from settler.cli.options import AsJson

_MATCH = columns(
    {
        "database": "database",
        "open invoices": lambda row: f"{row['open_invoices']:,}",
        "µs CPU/transfer": "warm_cpu_us",
        "× smallest": "cpu_ratio",
        "wall µs": "warm_wall_us",
        "× smallest (wall)": "wall_ratio",
        "cold wall µs": "cold_wall_us",
        "matched": "matched",
        "database MiB": lambda row: f"{row['database_mib']:,}",
        "RSS MiB": "rss_mib",
    }
)


def match(
    sizes: Annotated[
        str, typer.Option("--sizes", help="Open invoices, several with commas; 10000000 takes minutes and 10 GB.")
    ] = "1000,100000,1000000",
    transfers: Annotated[int, typer.Option("--transfers", min=1, max=10_000, help="In a span.")] = 1_000,
    database: BesideSqlite = None,
    as_json: AsJson = False,
) -> None:
    """What it costs to find whose a transfer is, by how many invoices are open."""
    import asyncio

    from settler.bench.matching import matching

    with benchmark():
        report = asyncio.run(matching(sizes=_sizes(sizes), database=database, transfers_a_span=transfers))
    print_report(report, _MATCH, as_json=as_json)


def _sizes(text: str) -> list[int]:
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) < 1:
        raise typer.BadParameter(f"{text!r} are no sizes; give whole numbers with commas, like 1000,1000000")
    return found
