"""`settler simulate`: years of chain time with everything failing, and whether the invariants held."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from settler.cli.failures import Failure
from settler.cli.options import AsJson
from settler.cli.progress import progress
from settler.cli.text import Json, print_json

if TYPE_CHECKING:
    from settler.simulation.run import Ran, Report
    from settler.simulation.verdict import Verdict

LINES_SHOWN = 40
"""Of the trace of a world in which something broke."""
TELL_EVERY_S = 30.0
"""A soak of a night has a line so often, where there is no terminal to draw a bar on."""
INTERRUPTED = 130
DAY_S = 86_400
YEAR_S = 365.25 * DAY_S

Seeds = Annotated[int, typer.Option("--seeds", min=1, max=10_000_000, help="How many worlds.")]
First = Annotated[
    int | None,
    typer.Option("--seed", min=0, max=2**63, help="Number of the first world; the next ones follow. Default: drawn."),
]
Steps = Annotated[
    int | None, typer.Option("--steps", min=1, max=1_000_000, help="How many steps each world has. Default: 100.")
]
Jobs = Annotated[int, typer.Option("--jobs", "-j", min=1, max=1_024, help="How many processes at once.")]
OnDatabase = Annotated[
    str | None,
    typer.Option(
        "--database",
        help='PostgreSQL instead of SQLite in memory, one world at a time; has "sim" in its name, and is emptied.',
        metavar="URL",
    ),
]
Kinds = Annotated[
    list[str] | None,
    typer.Option("--fault", help="Only this kind of fault, often. May be given several times.", metavar="KIND"),
]
Slow = Annotated[
    bool,
    typer.Option("--slow", help="Only worlds whose looks are two hours apart or more: years for little work."),
]
Stops = Annotated[bool, typer.Option("--until-broken", help="Stop at the first world in which something broke.")]


def simulate(
    seeds: Seeds = 20,
    seed: First = None,
    steps: Steps = None,
    jobs: Jobs = 1,
    fault: Kinds = None,
    slow: Slow = False,
    database: OnDatabase = None,
    until_broken: Stops = False,
    as_json: AsJson = False,
) -> None:
    """Runs simulated worlds: the real daemon on a virtual clock, with chains, nodes, databases and receivers that fail.

    A seed is a whole world; it does the same on every machine. Exit 1 if something broke, with the command that
    plays it again. Ctrl-C ends it with the report so far.
    """
    from concurrent.futures.process import BrokenProcessPool
    from itertools import islice

    from settler.simulation.plan import ALL_FAULTS, STEPS, slow_ones
    from settler.simulation.run import run

    only = fault or []
    for kind in only:
        if kind not in ALL_FAULTS:
            raise typer.BadParameter(f"{kind!r} is none of: {', '.join(ALL_FAULTS)}", param_hint="'--fault'")
    first = _drawn() if seed is None else seed
    with progress("worlds", seeds, as_json=as_json, unit="worlds", every_s=TELL_EVERY_S) as advance:

        def on_ran(ran: Ran, report: Report) -> None:
            if not ran.verdict.is_good and not as_json:
                _print_failure(ran.verdict, _again(ran.verdict, only, database))
            advance(report.seeds, _said(report))

        try:
            report = run(
                islice(slow_ones(first), seeds) if slow else range(first, first + seeds),
                STEPS if steps is None else steps,
                only=only,
                jobs=jobs,
                database=database,
                stops_at_failure=until_broken,
                on_ran=on_ran,
            )
        except BrokenProcessPool as error:
            raise Failure("the system ended one of the processes, for its memory perhaps; give fewer --jobs") from error
    if as_json:
        print_json(_json(report, first, [_again(verdict, only, database) for verdict in report.failed]))
    else:
        _print(report, first)
    raise typer.Exit(INTERRUPTED if report.was_interrupted and report.is_good else int(not report.is_good))


def _drawn() -> int:
    import secrets

    return secrets.randbelow(2**31)


def _said(report: Report) -> str:
    return (
        f"{report.simulated_s / DAY_S:,.0f} simulated days, {report.faults.total():,} faults, "
        f"{len(report.failed)} broken"
    )


def _again(verdict: Verdict, only: Sequence[str], database: str | None) -> str:
    """The command line that plays a world again. A database's password is nobody's business."""
    of = "".join(f" --fault {shlex.quote(kind)}" for kind in only)
    on = "" if database is None else " --database URL"
    return f"settler simulate --seeds 1 --seed {verdict.seed} --steps {verdict.steps}{of}{on}"


def _print_failure(verdict: Verdict, again: str) -> None:
    print(f"\nseed {verdict.seed}: BROKEN, trace {verdict.digest}")
    for line in (*verdict.lines[-LINES_SHOWN:], *map(str, verdict.violations), *verdict.problems):
        print(f"  {line}")
    print(f"  to see it again: {again}\n", flush=True)


def _print(report: Report, first: int) -> None:
    print(f"first seed {first}, trace {report.trace}")
    print(
        f"{report.seeds} worlds, {report.simulated_s / DAY_S:.1f} simulated days "
        f"({report.simulated_s / YEAR_S:.3f} years; {report.chain_s / YEAR_S:.3f} of chains), "
        f"{report.blocks:,} blocks, {report.cpu_s:.1f} s of CPU: {report.blocks_a_cpu_second:,.0f} blocks a second, "
        f"{report.days_a_cpu_minute:.1f} days a minute"
    )
    print("rows    " + _counted(report.rows))
    print("people  " + _counted(report.did))
    print("faults  " + _counted(report.faults))
    if report.never_struck:
        print(f"never   {', '.join(report.never_struck)}")
    print(_outcome(report))


def _outcome(report: Report) -> str:
    if report.failed:
        return f"broken  {len(report.failed)} of {report.seeds}: seeds {', '.join(str(v.seed) for v in report.failed)}"
    if not report.is_good:
        return "a kind of fault never struck: the simulation does not test what it says"
    if not report.seeds:
        return "no world came to its end"
    return "nothing lost, nothing doubled, nothing settled that was not paid"


def _counted(counts: Counter[str]) -> str:
    return " · ".join(f"{name} {count}" for name, count in counts.most_common()) or "none"


def _json(report: Report, first: int, again: Sequence[str]) -> Json:
    return {
        "first_seed": first,
        "worlds": report.seeds,
        "trace": report.trace,
        "simulated_days": round(report.simulated_s / DAY_S, 3),
        "chain_days": round(report.chain_s / DAY_S, 3),
        "blocks": report.blocks,
        "cpu_s": round(report.cpu_s, 3),
        "blocks_per_cpu_s": round(report.blocks_a_cpu_second, 1),
        "days_per_cpu_minute": round(report.days_a_cpu_minute, 2),
        "faults": dict(sorted(report.faults.items())),
        "never_struck": report.never_struck,
        "people": dict(sorted(report.did.items())),
        "rows": dict(sorted(report.rows.items())),
        "broken": [
            {
                "seed": verdict.seed,
                "steps": verdict.steps,
                "trace": verdict.digest,
                "violations": [str(violation) for violation in verdict.violations],
                "problems": verdict.problems,
                "lines": verdict.lines[-LINES_SHOWN:],
                "again": line,
            }
            for verdict, line in zip(report.failed, again, strict=True)
        ],
        "was_interrupted": report.was_interrupted,
        "is_good": report.is_good,
    }
