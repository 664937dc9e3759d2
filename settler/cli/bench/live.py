"""`settler bench live`."""

from __future__ import annotations

from typing import Annotated

import typer

from settler.cli.bench.printing import columns, print_report
from settler.cli.bench.running import benchmark, run_as_daemon
from settler.cli.options import AsJson
from settler.cli.text import print_json

_CALLS = columns(
    {
        "chain": "chain",
        "providers": "providers",
        "quorum": "quorum",
        "proof": "proof",
        "load": "load",
        "blocks": "blocks",
        "calls/1000 blocks": "calls_per_1000_blocks",
        "calls/poll": "calls_per_poll",
    }
)
_LATENCIES = columns(
    {
        "load": "load",
        "payments": "payments",
        "recorded p50 ms": "recorded_p50_ms",
        "p95": "recorded_p95_ms",
        "p99": "recorded_p99_ms",
        "settled p50 ms": "settled_p50_ms",
        "p95 ": "settled_p95_ms",
        "p99 ": "settled_p99_ms",
        "ms CPU a payment": "cpu_ms",
        "longest hold ms": "longest_hold_ms",
    }
)


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
    from settler.bench.latency import latencies
    from settler.bench.live import calls
    from settler.config import anvil_program

    anvil = anvil_program()
    with benchmark():
        measured = run_as_daemon(
            latencies(steady_blocks=steady, payments=payments, busy_blocks=blocks, anvil=anvil, database=database)
        )
        counted = run_as_daemon(calls(polls=polls, anvil=anvil)) if polls else None
    if as_json:
        print_json(
            {"latencies": measured.as_json(), "calls": None if counted is None else counted.as_json()},
        )
        return
    print_report(measured, _LATENCIES, as_json=False)
    if counted is not None:
        print_report(counted, _CALLS, as_json=False)
