"""`settler bench live`."""

from __future__ import annotations

from typing import Annotated

import typer

from settler.cli.bench.printing import print_report
from settler.cli.failures import Failure
from settler.cli.options import AsJson
from settler.cli.text import Columns, print_json

_CALLS: Columns = {
    "chain": lambda row: row["chain"],
    "providers": lambda row: str(row["providers"]),
    "quorum": lambda row: str(row["quorum"]),
    "proof": lambda row: row["proof"],
    "load": lambda row: row["load"],
    "blocks": lambda row: str(row["blocks"]),
    "calls/1000 blocks": lambda row: str(row["calls_per_1000_blocks"]),
    "calls/poll": lambda row: str(row["calls_per_poll"]),
}
_LATENCIES: Columns = {
    "load": lambda row: row["load"],
    "payments": lambda row: row["payments"],
    "recorded p50 ms": lambda row: row["recorded_p50_ms"],
    "p95": lambda row: row["recorded_p95_ms"],
    "p99": lambda row: row["recorded_p99_ms"],
    "settled p50 ms": lambda row: row["settled_p50_ms"],
    "p95 ": lambda row: row["settled_p95_ms"],
    "p99 ": lambda row: row["settled_p99_ms"],
    "ms CPU a payment": lambda row: row["cpu_ms"],
    "longest hold ms": lambda row: row["longest_hold_ms"],
}


def live(
    polls: Annotated[
        int, typer.Option("--polls", min=0, max=10_000, help="Polls each count of calls is taken over; 0: none.")
    ] = 60,
    payments: Annotated[
        int, typer.Option("--payments", min=1, max=2_500, help="In one block, for the latencies under load.")
    ] = 1_000,
    blocks: Annotated[int, typer.Option("--blocks", min=1, max=1_000, help="Such blocks, of each kind.")] = 3,
    steady: Annotated[
        int, typer.Option("--steady", min=1, max=100_000, help="Blocks with 5 payments each, a second apart.")
    ] = 60,
    database: Annotated[
        str | None,
        typer.Option(
            "--database", help="PostgreSQL for the latencies, migrated and empty; SQLite unless given.", metavar="URL"
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Time from a block to its payments recorded and, once final, settled; RPC calls per 1,000 blocks. Starts anvil."""
    import asyncio

    from settler import logs
    from settler.anvil import AnvilError
    from settler.bench.latency import latencies
    from settler.bench.live import calls
    from settler.config import anvil_program
    from settler.runtime.supervisor import loop_factory

    logs.configure("console", "error")
    anvil = anvil_program()
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:  # the daemon's own
            measured = runner.run(
                latencies(steady_blocks=steady, payments=payments, busy_blocks=blocks, anvil=anvil, database=database)
            )
            counted = runner.run(calls(polls=polls, anvil=anvil)) if polls else None
    except AnvilError as error:
        raise Failure(str(error)) from error
    if as_json:
        print_json(
            {"latencies": measured.as_json(), "calls": None if counted is None else counted.as_json()},
        )
        return
    print_report(measured, _LATENCIES, as_json=False)
    if counted is not None:
        print_report(counted, _CALLS, as_json=False)
