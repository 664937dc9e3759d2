"""Worlds run one after the other, or side by side in processes of their own, and what came of all of them."""

from __future__ import annotations

import asyncio
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing import active_children, get_context

from settler.simulation.clock import VirtualLoop
from settler.simulation.life import Dead
from settler.simulation.plan import ALL_FAULTS, STEPS, Plan, draw
from settler.simulation.verdict import Verdict
from settler.simulation.world import World

COVERING_SEEDS = 100
"""So many worlds of the usual length have every kind of fault; where one never struck, the simulation itself is
broken."""
DAY_S = 86_400.0
SEEDS_A_PROCESS = 25
"""Then it is replaced by a new one: whatever a world leaves behind in memory goes with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A world that was run. `cpu_s`: of this process, for this world alone."""

    verdict: Verdict
    cpu_s: float


def run_seed(seed: int, steps: int = STEPS, *, only: Collection[str] = (), database: str | None = None) -> Ran:
    """One world in this process. `only`: of `draw`. `database`: URL of a PostgreSQL that nobody else uses; `None`:
    SQLite in memory.

    A world that fails by itself is a problem of its verdict. Raises what `SimStore.create` raises.
    """
    begun = time.process_time()
    worlds: list[World] = []
    try:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            verdict = runner.run(_run(draw(seed, steps, only=only), database, worlds))
    except (Exception, Dead) as error:
        if not worlds:
            raise
        worlds[0].store.driver.close()  # a loop that is stuck ends no task
        verdict = _broken(worlds[0], error)
    return Ran(verdict=verdict, cpu_s=time.process_time() - begun)


async def _run(plan: Plan, database: str | None, worlds: list[World]) -> Verdict:
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)  # the dead leave tasks behind
    world = await World.of(plan, database=database)
    worlds.append(world)
    return await world.run()


def _broken(world: World, error: BaseException) -> Verdict:
    """Nobody knows what else would have become of it."""
    where = [line for text in traceback.format_exception(error) for line in text.splitlines()]
    return Verdict(
        seed=world.plan.seed,
        steps=world.plan.steps,
        chains=len(world.plan.chains),
        digest=world.trace.digest,
        problems=[*world.trace.bugs, f"the world itself broke: {error!r}"],
        lines=[*world.trace.lines, *where],
    )


def run_seeds(
    seeds: Iterable[int],
    steps: int = STEPS,
    *,
    only: Collection[str] = (),
    jobs: int = 1,
    database: str | None = None,
) -> Generator[Ran, None, None]:
    """As they end. `jobs`: processes at once; with a database, one. Closed early, it ends its processes at once."""
    if jobs == 1 or database is not None:
        for seed in seeds:
            yield run_seed(seed, steps, only=only, database=database)
        return
    others = set(active_children())
    pool = ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=_leave_interrupts, max_tasks_per_child=SEEDS_A_PROCESS
    )
    try:
        yield from _side_by_side(pool, iter(seeds), steps, only, jobs)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in set(active_children()) - others:
            child.terminate()


def _leave_interrupts() -> None:
    """Ctrl-C reaches every process of a terminal: it is for the first to decide."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _side_by_side(
    pool: ProcessPoolExecutor, seeds: Iterable[int], steps: int, only: Collection[str], jobs: int
) -> Generator[Ran, None, None]:
    running: set[Future[Ran]] = set()
    while True:
        for seed in islice(seeds, 2 * jobs - len(running)):
            running.add(pool.submit(run_seed, seed, steps, only=only))
        if not running:
            return
        done, running = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            yield future.result()


@dataclass(slots=True, kw_only=True)
class Report:
    """What a run of many worlds comes to."""

    kinds: Collection[str] = ALL_FAULTS
    """Of fault, which were to strike."""
    seeds: int = 0
    steps: int = 0
    simulated_s: float = 0.0
    chain_s: float = 0.0
    """Time of chains: a world of three chains has three times its own."""
    blocks: int = 0
    cpu_s: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    did: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    failed: list[Verdict] = field(default_factory=list)
    """In the order of their seeds."""
    was_interrupted: bool = False
    """There were more to run."""
    _trace: int = 0

    def add(self, ran: Ran) -> None:
        verdict = ran.verdict
        self.seeds += 1
        self.steps += verdict.steps
        self._trace ^= int(verdict.digest or "0", 16)
        self.simulated_s += verdict.simulated_s
        self.chain_s += verdict.simulated_s * verdict.chains
        self.blocks += verdict.blocks
        self.cpu_s += ran.cpu_s
        self.faults += verdict.faults
        self.did += verdict.did
        self.rows += Counter(verdict.counts)
        if not verdict.is_good:
            self.failed.append(verdict)
            self.failed.sort(key=lambda failed: failed.seed)

    @property
    def trace(self) -> str:
        """The trace hashes of all worlds in one, whatever their order: that of a single world is its own."""
        return f"{self._trace:032x}"

    @property
    def never_struck(self) -> list[str]:
        return [name for name in self.kinds if not self.faults[name]]

    @property
    def is_covering(self) -> bool:
        """Whether the worlds were enough, and long enough, for every kind of fault to strike."""
        return self.steps >= COVERING_SEEDS * STEPS

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
    only: Collection[str] = (),
    jobs: int = 1,
    database: str | None = None,
    stops_at_failure: bool = False,
    on_ran: Progress = lambda _ran, _report: None,
) -> Report:
    """All of them, or until Ctrl-C: then the report is of those that had ended. `stops_at_failure`: or until one
    fails."""
    report = Report(kinds=only or ALL_FAULTS)
    try:
        with closing(run_seeds(seeds, steps, only=only, jobs=jobs, database=database)) as ended:
            for ran in ended:
                report.add(ran)
                on_ran(ran, report)
                if stops_at_failure and not ran.verdict.is_good:
                    break
    except KeyboardInterrupt:
        report.was_interrupted = True
    return report
