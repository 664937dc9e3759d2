"""`settler bench soak`."""

from __future__ import annotations

from typing import Annotated

import typer

from settler.cli.bench.options import InsteadOfSqlite
from settler.cli.bench.running import benchmark
from settler.cli.options import AsJson
from settler.cli.text import print_one


def soak(
    minutes: Annotated[float, typer.Option("--minutes", min=0.1, max=10_000, help="How long customers pay.")] = 30,
    rate: Annotated[int, typer.Option("--rate", min=1, max=1_000, help="Payments a second.")] = 50,
    database: InsteadOfSqlite = None,
    as_json: AsJson = False,
) -> None:
    """Memory, open files and tasks of the daemon under a steady load, and how they grow. Starts anvil; exit 1 if a
    payment was not settled in the end."""
    import asyncio

    from settler.bench.soak import Sample
    from settler.bench.soak import soak as run
    from settler.cli.progress import progress
    from settler.config import anvil_program

    seconds = minutes * 60
    with benchmark(), progress("soak", round(seconds), as_json=as_json, unit="seconds") as advance:

        def show(sample: Sample) -> None:
            said = f"{sample.rss_mib:.0f} MiB, {sample.open_files} open files, {sample.tasks} tasks"
            advance(round(sample.at_s), said)

        figure = asyncio.run(run(rate=rate, seconds=seconds, anvil=anvil_program(), database=database, on_sample=show))
    print_one(figure.as_json(), as_json=as_json)
    if not figure.is_settled:
        raise typer.Exit(1)
