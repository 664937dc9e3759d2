"""Proof that the simulation can fail: defects are planted, one at a time, and worlds are run until one shows it.

    python -m tests.simulation.defects [--jobs 2] [--only "has no outbox"] [--seeds 40] [--steps 90]

Prints a table of which world found which, and by what. Each defect has a process of its own; the program on disk stays
as it is. Worlds are tried the simplest first, and those that cannot show a defect by their plan not at all. One that
fails without the defect too does not count.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.pool import Pool

from settler.simulation.clock import VirtualLoop
from settler.simulation.life import Dead
from settler.simulation.plan import Plan, draw
from settler.simulation.verdict import Verdict
from settler.simulation.world import World
from tests.simulation import defects_money, defects_reading, defects_stages, defects_telling
from tests.simulation.defects_planting import DEFECTS

ALL = (defects_reading, defects_stages, defects_money, defects_telling)
"""Their modules, which put them among `DEFECTS` when they are imported."""
SEEDS = 40
STEPS = 90
"""Of each world: enough for a few invoices of each kind."""
DENSITY = 3.0
"""So many times as much happens here in the same time of the chains as in worlds of `settler simulate`: what costs is
the chains' time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What became of one defect."""

    name: str
    tried: int
    """Worlds that were run."""
    seed: int | None = None
    """Of the one that showed it."""
    by: str = ""
    """What was wrong there, first."""
    cpu_s: float = 0.0


def look_for(name: str, seeds: Sequence[int], steps: int = STEPS, is_planted: bool = True) -> Found:
    """Plants a defect in this process, which is to be thrown away, and runs worlds until one fails. Not `is_planted`:
    runs its worlds with the sound program.
    """
    if is_planted:
        DEFECTS[name].plant()
    began = time.process_time()
    for tried, seed in enumerate(seeds, 1):
        wrong = what_is_wrong(plan_of(name, seed, steps))
        if wrong is not None:
            return Found(name=name, tried=tried, seed=seed, by=wrong, cpu_s=time.process_time() - began)
    return Found(name=name, tried=len(seeds), cpu_s=time.process_time() - began)


def plan_of(name: str, seed: int, steps: int = STEPS) -> Plan:
    """The seed's plan with the faults that bring a defect out, and with less time between its steps."""
    plan = draw(seed, steps, only=DEFECTS[name].faults)
    return replace(plan, gap_s=plan.gap_s / DENSITY)


def what_is_wrong(plan: Plan) -> str | None:
    """The first wrong of a world, in short: the invariant, or what else came of it. `None`: it is as it should be."""
    try:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            verdict = runner.run(_lived(plan))
    except (Exception, Dead) as error:  # noqa: BLE001 - whatever a defect does to the world shows it
        return f"the world itself broke: {error!r}"
    if verdict.violations:
        first = verdict.violations[0]
        return f"{first.invariant.name}: {first.detail}"
    return verdict.problems[0] if verdict.problems else None


async def _lived(plan: Plan) -> Verdict:
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)  # the dead leave tasks behind
    world = await World.of(plan)
    return await world.run()


# -- the table ---------------------------------------------------------------------------------------------------------


def simplest_first(name: str, seeds: Sequence[int], steps: int = STEPS) -> list[int]:
    """Seeds of the worlds that can show a defect, by the blocks and looks they will have: what they cost."""
    plans = {seed: plan_of(name, seed, steps) for seed in seeds}

    def work(seed: int) -> float:
        return sum(1 + plans[seed].gap_s / chain.block_s / 200 for chain in plans[seed].chains)

    return sorted((seed for seed in seeds if DEFECTS[name].can_show(plans[seed])), key=work)


def run(names: Sequence[str], seeds: Sequence[int], *, steps: int, jobs: int) -> None:
    """Prints a line of the table as each defect is done."""
    _say("| where | defect | what the program then does | worlds | seed | found by |")
    _say("|---|---|---|---:|---:|---|")
    missed = []
    able = [simplest_first(name, seeds, steps) for name in names]
    with ThreadPoolExecutor(jobs) as pool:
        for found in pool.map(_found, names, able, [steps] * len(names)):
            _say(line(found))
            if found.seed is None:
                missed.append(found.name)
    _say(f"\n{len(names) - len(missed)} of {len(names)} found; not found: {', '.join(missed) or 'none'}")


def _found(name: str, seeds: Sequence[int], steps: int) -> Found:
    """As `look_for`, by a world in which the sound program has nothing wrong."""
    tried = 0
    while True:
        with processes(1) as pool:
            found = pool.apply(look_for, (name, seeds[tried:], steps))
            found = replace(found, tried=tried + found.tried)
            if found.seed is None or pool.apply(look_for, (name, [found.seed], steps, False)).seed is None:
                return found
        tried = found.tried


def line(found: Found) -> str:
    """Of the table."""
    defect = DEFECTS[found.name]
    seed = "—" if found.seed is None else f"{found.seed}"
    shown = (found.by or "nobody").replace("|", "/").replace("\n", " ")
    return f"| {defect.stage} | {defect.name} | {defect.story} | {found.tried} | {seed} | {shown[:160]} |"


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def processes(count: int) -> Pool:
    """So many at once, each for one task: it is damaged after that. Tasks are to be handed out one by one."""
    return get_context("spawn").Pool(count, maxtasksperchild=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", action="append", choices=sorted(DEFECTS), metavar="DEFECT")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="How many, from 0 on.")
    parser.add_argument("--steps", type=int, default=STEPS)
    asked = parser.parse_args()
    run(asked.only or list(DEFECTS), range(asked.seeds), steps=asked.steps, jobs=asked.jobs)


if __name__ == "__main__":
    main()
