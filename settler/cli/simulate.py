"""`settler simulate`: years of chain time with everything failing, and whether the invariants held."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from settler.cli.options import AsJson
from settler.cli.progress import progress
from settler.cli.text import Json

if TYPE_CHECKING:
    from settler.simulation.run import Ran, Report
    from settler.simulation.verdict import Verdict

LINES_SHOWN = 40
"""Of the trace of a world in which something broke."""
YEAR_S = 365.25 * 86_400


def simulate(
    seeds: Annotated[int, typer.Option("--seeds", min=1, max=10_000_000, help="How many worlds.")] = 20,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, max=2**63, help="The first; those after it follow. Default: drawn.")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, max=1_000_000, help="Of each world.")] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, max=1_024, help="Processes at once.")] = 1,
    database: Annotated[
        str | None, typer.Option("--database", help="A PostgreSQL to use instead of SQLite in memory; it is emptied.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Runs simulated worlds: the real daemon on a virtual clock, with chains, nodes, databases and receivers that fail.

    A seed is a whole world; it does the same on every machine. Exit 1 if an invariant broke, with the command that
    plays it again.
    """
    from settler.simulation.plan import STEPS
    from settler.simulation.run import run

    steps = STEPS if steps is None else steps
    first = _fresh() if seed is None else seed
    with progress("worlds", seeds, as_json=as_json, unit="worlds") as advance:

        def told(ran: Ran, report: Report) -> None:
            advance(report.seeds, f"{report.simulated_s / 86_400:.0f} simulated days, {len(report.failed)} failed")
            if not ran.verdict.is_good and not as_json:
                _print_failure(ran.verdict, database)

        report = run(range(first, first + seeds), steps, jobs=jobs, database=database, on_ran=told)
    if as_json:
        _print_json(report)
    else:
        _print(report)
    raise typer.Exit(0 if report.is_good else 1)


def _fresh() -> int:
    import secrets

    return secrets.randbelow(2**31)


def _print_failure(verdict: Verdict, database: str | None) -> None:
    on = " --database URL" if database is not None else ""
    print(f"\nseed {verdict.seed}: BROKEN, trace {verdict.digest}")
    for line in verdict.lines[-LINES_SHOWN:]:
        print(f"  {line}")
    for violation in verdict.violations:
        print(f"  {violation}")
    for problem in verdict.problems:
        print(f"  {problem}")
    print(f"  to see it again: settler simulate --seeds 1 --seed {verdict.seed} --steps {verdict.steps}{on}\n")


def _print(report: Report) -> None:
    if report.last is not None and report.seeds == 1:
        print(f"seed {report.last.seed}: {report.last.steps} steps, trace {report.last.digest}")
    print(
        f"{report.seeds} worlds, {report.simulated_s / 86_400:.1f} simulated days "
        f"({report.simulated_s / YEAR_S:.3f} years; {report.chain_s / YEAR_S:.3f} of chains), {report.blocks:,} blocks, "
        f"{report.cpu_s:.1f} s of CPU: {report.blocks_a_cpu_second:,.0f} blocks a second, "
        f"{report.days_a_cpu_minute:.1f} days a minute"
    )
    print("rows    " + _counted(report.rows))
    print("people  " + _counted(report.did))
    print("faults  " + _counted(report.faults))
    if report.never_struck:
        print(f"never   {', '.join(report.never_struck)}")
    if report.failed:
        print(f"broken  {len(report.failed)} of {report.seeds}: seeds {', '.join(str(v.seed) for v in report.failed)}")
    elif report.is_good:
        print("nothing lost, nothing doubled, nothing settled that was not paid")
    else:
        print("a kind of fault never struck: the simulation does not test what it says")


def _counted(counts: Counter[str]) -> str:
    return " · ".join(f"{name} {count}" for name, count in counts.most_common()) or "none"


def _print_json(report: Report) -> None:
    import json

    print(json.dumps(_json(report)))


def _json(report: Report) -> Json:
    def world(verdict: Verdict) -> dict[str, Any]:
        return {
            "seed": verdict.seed,
            "steps": verdict.steps,
            "trace": verdict.digest,
            "violations": [str(v) for v in verdict.violations],
            "problems": verdict.problems,
        }

    return {
        "worlds": report.seeds,
        "simulated_days": round(report.simulated_s / 86_400, 3),
        "chain_days": round(report.chain_s / 86_400, 3),
        "blocks": report.blocks,
        "cpu_s": round(report.cpu_s, 3),
        "blocks_per_cpu_s": round(report.blocks_a_cpu_second, 1),
        "days_per_cpu_minute": round(report.days_a_cpu_minute, 2),
        "faults": dict(report.faults),
        "never_struck": report.never_struck,
        "people": dict(report.did),
        "rows": dict(report.rows),
        "last": None if report.last is None else world(report.last),
        "broken": [world(verdict) for verdict in report.failed],
        "is_good": report.is_good,
    }
