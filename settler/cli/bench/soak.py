"""`settler bench soak`."""

from __future__ import annotations

from typing import Annotated

import typer

from settler.cli.failures import Failure
from settler.cli.options import AsJson
from settler.cli.text import print_one


def soak(
    minutes: Annotated[float, typer.Option("--minutes", min=0.1, max=10_000, help="How long customers pay.")] = 30,
    rate: Annotated[int, typer.Option("--rate", min=1, max=1_000, help="Payments a second.")] = 50,
    database: Annotated[
        str | None,
        typer.Option("--database", help="PostgreSQL, migrated and empty; SQLite unless given.", metavar="URL"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Memory, open files and tasks of the daemon under a steady load, and how they grow. Starts anvil; exit 1 if a
    payment was not settled in the end."""
    import asyncio

    from settler import logs
    from settler.anvil import AnvilError
    from settler.bench.soak import Sample, Unmeasurable
    from settler.bench.soak import soak as run
    from settler.cli.progress import progress
    from settler.config import anvil_program

    logs.configure("console", "error")
    seconds = minutes * 60
    with progress("soak", round(seconds), as_json=as_json, unit="seconds") as advance:

        def show(sample: Sample) -> None:
            said = f"{sample.rss_mib:.0f} MiB, {sample.open_files} open files, {sample.tasks} tasks"
            advance(round(sample.at_s), said)

        try:
            figure = asyncio.run(
                run(rate=rate, seconds=seconds, anvil=anvil_program(), database=database, on_sample=show)
            )
        except (AnvilError, Unmeasurable) as error:
            raise Failure(str(error)) from error
    print_one(figure.as_json(), as_json=as_json)
    if not figure.is_settled:
        raise typer.Exit(1)
