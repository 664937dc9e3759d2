"""Worlds run one after the other, or side by side in processes of their own, and what came of all of them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing import get_context

from settler.simulation.clock import VirtualLoop
from settler.simulation.plan import ALL_FAULTS, STEPS, draw
from settler.simulation.verdict import Verdict
from settler.simulation.world import World

COVERING_SEEDS = 100
"""So many worlds have every kind of fault; where one never struck, the simulation itself is broken."""
DAY_S = 86_400.0
SEEDS_A_PROCESS = 25
"""Then it is replaced by a new one: whatever a world leaves behind in memory goes with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A world that was run. `cpu_s`: of this process, for this world alone."""

    verdict: Verdict
    cpu_s: float


def run_seed(seed: int, steps: int = STEPS, *, database: str | None = None) -> Ran:
    """One world in this process. `database`: URL of a PostgreSQL that nobody else uses; `None`: SQLite in memory."""
    begun = time.process_time()
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        verdict = runner.run(_run(seed, steps, database))
    return Ran(verdict=verdict, cpu_s=time.process_time() - begun)


async def _run(seed: int, steps: int, database: str | None) -> Verdict:
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)  # the dead leave tasks behind
    world = await World.of(draw(seed, steps), database=database)
    return await world.run()


def run_seeds(
    seeds: Iterable[int], steps: int = STEPS, *, jobs: int = 1, database: str | None = None
) -> Iterator[Ran]:
    """As they end. `jobs`: processes at once; with a database, one."""
    if jobs == 1 or database is not None:
        for seed in seeds:
            yield run_seed(seed, steps, database=database)
        return
    waiting = iter(seeds)
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), max_tasks_per_child=SEEDS_A_PROCESS) as pool:
        running: set[Future[Ran]] = set()
        while True:
            for seed in islice(waiting, 2 * jobs - len(running)):
                running.add(pool.submit(run_seed, seed, steps))
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()


@dataclass(slots=True, kw_only=True)
class Report:
    """What a run of many worlds comes to."""

    seeds: int = 0
    simulated_s: float = 0.0
    chain_s: float = 0.0
    """Time of chains: a world of three chains has three times its own."""
    blocks: int = 0
    cpu_s: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    did: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    failed: list[Verdict] = field(default_factory=list)
    last: Verdict | None = None

    def add(self, ran: Ran) -> None:
        verdict = ran.verdict
        self.seeds += 1
        self.last = verdict
        self.simulated_s += verdict.simulated_s
        self.chain_s += verdict.simulated_s * verdict.chains
        self.blocks += verdict.blocks
        self.cpu_s += ran.cpu_s
        self.faults += verdict.faults
        self.did += verdict.did
        self.rows += Counter(verdict.counts)
        if not verdict.is_good:
            self.failed.append(verdict)

    @property
    def never_struck(self) -> list[str]:
        return [name for name in ALL_FAULTS if not self.faults[name]]

    @property
    def is_covering(self) -> bool:
        """Whether there were worlds enough for every kind of fault to strike."""
        return self.seeds >= COVERING_SEEDS

    @property
    def is_good(self) -> bool:
        return not self.failed and not (self.is_covering and self.never_struck)

    @property
    def days_a_cpu_minute(self) -> float:
        return self.simulated_s / DAY_S / (self.cpu_s / 60) if self.cpu_s else 0.0

    @property
    def blocks_a_cpu_second(self) -> float:
        return self.blocks / self.cpu_s if self.cpu_s else 0.0


Progress = Callable[[Ran, Report], None]


def run(
    seeds: Iterable[int],
    steps: int = STEPS,
    *,
    jobs: int = 1,
    database: str | None = None,
    on_ran: Progress = lambda _ran, _report: None,
) -> Report:
    report = Report()
    for ran in run_seeds(seeds, steps, jobs=jobs, database=database):
        report.add(ran)
        on_ran(ran, report)
    return report
