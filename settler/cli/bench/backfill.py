"""`settler bench backfill`."""

from __future__ import annotations

from typing import Annotated

import typer

from settler.cli.bench.printing import columns, print_report
from settler.cli.bench.running import benchmark, run_as_daemon
from settler.cli.failures import USAGE, Failure
from settler.cli.options import AsJson

_COLUMNS = columns(
    {
        "what": "what",
        "events": "events",
        "µs CPU/event": lambda row: f"{row['cpu_us']:.2f}",
        "ratio": lambda row: "-" if row["ratio"] is None else f"{row['ratio']:.2f}",
        "µs CPU/payment": lambda row: str(row.get("payment_us", "-")),
        "µs/event": lambda row: f"{row['wall_us']:.2f}",
        "events/s": "events_per_s",
        "peak MiB": "peak_mib",
        "RPC calls": "calls",
        "paid": "paid",
        "settled": "settled",
    }
)


def backfill(
    events: Annotated[int, typer.Option("--events", min=100, max=1_000_000_000, help="Transfers of the chain.")] = (
        100_000
    ),
    blocks: Annotated[
        int | None, typer.Option("--blocks", min=1, help="That hold them; 200 transfers in three unless given.")
    ] = None,
    matched: Annotated[
        float, typer.Option("--matched", min=0.0, max=1.0, help="Share of the transfers that pay an invoice.")
    ] = 0.05,
    case: Annotated[
        list[str] | None, typer.Option("--case", help="Only this: floor, unpaid, paid or quorum. Repeatable.")
    ] = None,
    with_anvil: Annotated[
        bool, typer.Option("--anvil", help="Also from a real node, which has to mine the chain first: minutes.")
    ] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Each run of settler once more, to see where its time goes.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Catching up with a chain: processor time an event, beside the least it can cost. Starts a server of its own."""
    from settler.bench.backfill import ANVIL, CASES, work_of
    from settler.bench.backfill import backfill as run
    from settler.cli.progress import progress
    from settler.config import anvil_program

    unknown = sorted(set(case or ()) - set(CASES))
    if unknown:
        raise Failure(f"--case {unknown[0]} is none of {', '.join(CASES)}", code=USAGE)
    cases = [*(case or CASES), *([ANVIL] if with_anvil else [])]
    work = work_of(
        events=events, matched=matched, blocks=blocks, cases=cases, is_profiled=profile, anvil=anvil_program()
    )
    with (
        benchmark(),
        progress("backfill", work.passes * events, as_json=as_json, unit="events") as advance,
    ):
        report = run_as_daemon(run(work, advance))
    print_report(report, _COLUMNS, as_json=as_json)
    if profile and not as_json:
        for row in report.rows:
            if "shares" in row:
                steps = ", ".join(f"{step} {share:.0%}" for step, share in row["shares"].items())
                typer.echo(
                    f"{row['what']}: {steps}; its loop was held for {row['held_ms']} ms at the longest", err=True
                )
