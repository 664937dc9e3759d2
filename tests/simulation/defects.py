"""Proof that the simulation can fail: defects are planted, one at a time, and seeds are run until one of them shows it.

    python -m tests.simulation.defects [--jobs 2] [--only "has no outbox"] [--seeds 40] [--steps 60]

Prints a table of which seed found which, and by what. Each defect has a process of its own; the program on disk stays as
it is. Seeds that fail without any defect are left out, and named: they are to be mended first.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context

from settler.simulation.run import run_seed
from settler.simulation.verdict import Verdict
from tests.simulation import defects_money, defects_reading, defects_stages, defects_telling
from tests.simulation.defects_planting import DEFECTS

ALL = (defects_reading, defects_stages, defects_money, defects_telling)
"""Their modules, which put them among `DEFECTS` when they are imported."""
SEEDS = 40
STEPS = 60
"""Of each world: enough for a few invoices of each kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What became of one defect, or of the sound program (`name` is empty)."""

    name: str
    tried: int
    """Seeds that were run."""
    seed: int | None = None
    """The first that showed it."""
    by: str = ""
    """What was wrong there, first."""
    cpu_s: float = 0.0


def look_for(name: str, seeds: Sequence[int], steps: int = STEPS) -> Found:
    """Plants a defect (`""`: none) in this process, which is to be thrown away, and runs seeds until one fails."""
    if name:
        DEFECTS[name].plant()
    began = time.process_time()
    for tried, seed in enumerate(seeds, 1):
        verdict = run_seed(seed, steps).verdict
        if not verdict.is_good:
            return Found(name=name, tried=tried, seed=seed, by=what(verdict), cpu_s=time.process_time() - began)
    return Found(name=name, tried=len(seeds), cpu_s=time.process_time() - began)


def what(verdict: Verdict) -> str:
    """The first wrong of a world, in short: the invariant, or what else came of it."""
    if verdict.violations:
        first = verdict.violations[0]
        return f"{first.invariant.name}: {first.detail}"
    return verdict.problems[0]


def sound(seeds: Sequence[int], steps: int, jobs: int) -> list[int]:
    """Those of the seeds that the sound program passes."""
    with _pool(jobs) as pool:
        tried = list(pool.map(look_for, [""] * len(seeds), [[seed] for seed in seeds], [steps] * len(seeds)))
    return [seed for seed, found in zip(seeds, tried, strict=True) if found.seed is None]


def run(names: Sequence[str], seeds: Sequence[int], *, steps: int, jobs: int) -> None:
    """Prints a line of the table as each defect is done."""
    print("| where | defect | what the program then does | seeds | found by |")
    print("|---|---|---|---:|---|", flush=True)
    missed = []
    with _pool(jobs) as pool:
        for found in pool.map(look_for, names, [seeds] * len(names), [steps] * len(names)):
            print(line(found), flush=True)
            if found.seed is None:
                missed.append(found.name)
    print(f"\n{len(names) - len(missed)} of {len(names)} found", end="")
    print(f"; not found: {', '.join(missed)}" if missed else "")


def line(found: Found) -> str:
    """Of the table."""
    defect = DEFECTS[found.name]
    count = f"{found.tried}" if found.seed is not None else f"not in {found.tried}"
    shown = (found.by or "nobody").replace("|", "/").replace("\n", " ")
    return f"| {defect.stage} | {defect.name} | {defect.story} | {count} | {shown[:160]} |"


def _pool(jobs: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), max_tasks_per_child=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", action="append", choices=sorted(DEFECTS))
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    asked = parser.parse_args()
    seeds = range(asked.first, asked.first + asked.seeds)
    good = sound(seeds, asked.steps, asked.jobs)
    if len(good) < len(seeds):
        print(f"fail without any defect: {sorted(set(seeds) - set(good))}", file=sys.stderr)
    run(asked.only or list(DEFECTS), good, steps=asked.steps, jobs=asked.jobs)


if __name__ == "__main__":
    main()
