"""`settler bench soak`: whether the daemon stays what it was at the beginning, under a steady load for a long time.

The real daemon runs in this process; its customers and their chain in one of their own (`settler.bench.customers`), so
that memory, open files and tasks are the daemon's. After the warm-up a straight line is laid through its memory by
least squares: its slope is what matters, not its height.

    #  warm-up |  measured                          | drain
    #  .  .  . |  .  .  .  .  .  .  .  .  .  .  .  . |          a sample each: RSS, open files, tasks
"""

from __future__ import annotations

import asyncio
import gc
import resource
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from settler.bench.anvil_chain import configured
from settler.bench.companions import companion
from settler.bench.customers import BLOCK_S, DRAIN_S, Order, Sales
from settler.bench.measuring import MIB, Unmeasurable
from settler.runtime.embedded import embedded
from settler.runtime.memory import keep_steady

WARM_UP = 1 / 3
"""Share of the samples that are not measured: caches fill, pools grow to their size."""
SAMPLES = 360
"""In all; but none closer than:"""
SAMPLE_LEAST_S = 0.5
_PROC = Path("/proc/self")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    at_s: float
    """Since the first."""
    rss_mib: float
    open_files: int
    tasks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    rate: int
    """Payments a second that were asked for."""
    seconds: float
    payments: int
    payments_per_s: float
    """That came about."""
    settled: int
    drain_s: float
    """From the last payment until all was settled."""
    busy: int
    """Requests for an invoice that were answered with 503, and repeated."""
    blocks: int
    cpu_share: float
    """Of one core, the daemon's."""
    rss_mib_first: float
    rss_mib_warm: float
    """After the warm-up."""
    rss_mib_last: float
    rss_slope_mib_per_hour: float
    """After the warm-up, by least squares."""
    open_files: tuple[int, int]
    """Least and most after the warm-up."""
    open_files_slope_per_hour: float
    tasks: tuple[int, int]
    tasks_slope_per_hour: float
    samples: int

    @property
    def is_settled(self) -> bool:
        return self.settled == self.payments

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


async def soak(
    *, rate: int, seconds: float, anvil: str | None, database: str | None, on_sample: Callable[[Sample], None]
) -> Figure:
    """Runs it, and says what came of it. `database`: a URL; `None`: SQLite in a temporary directory.

    Raises `Unmeasurable`, and what the daemon raises before it runs.
    """
    if not (_PROC / "statm").exists():
        raise Unmeasurable("memory and open files are read from /proc, which is not there")
    keep_steady()  # as the daemon's own process does
    order = Order(rate=rate, seconds=seconds, anvil=anvil)
    with tempfile.TemporaryDirectory(prefix="settler-soak-") as folder:
        url = database or f"sqlite:///{Path(folder) / 'settler.db'}"
        async with companion("customers", **asdict(order)) as customers:
            ready = await customers.heard()
            config = configured(Path(folder), database=url, poll_interval_s=BLOCK_S / 2, **ready)
            async with embedded(config) as (address, _):
                customers.say({"api": address})
                cpu_before = _cpu_s()
                selling = asyncio.create_task(customers.heard(within_s=seconds + 3 * DRAIN_S), name="customers")
                samples = await _sampled(selling, max(SAMPLE_LEAST_S, seconds / SAMPLES), seconds, on_sample)
                cpu_s = _cpu_s() - cpu_before
                sales = Sales(**await selling)
    return _figure(order, sales, samples, cpu_s)


async def _sampled(
    selling: asyncio.Task[dict[str, Any]], every_s: float, seconds: float, on_sample: Callable[[Sample], None]
) -> list[Sample]:
    """A sample each so often, as long as the customers pay; returns when they are done."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    samples: list[Sample] = []
    while not selling.done():
        await asyncio.wait([selling], timeout=max(0.0, started + len(samples) * every_s - loop.time()))
        if loop.time() - started <= seconds and not selling.done():
            samples.append(_sample(loop.time() - started))
            on_sample(samples[-1])
        elif not selling.done():
            await asyncio.wait([selling])
    return samples


def _sample(at_s: float) -> Sample:
    gc.collect()  # what only waits to be collected is no leak
    pages = int((_PROC / "statm").read_text().split()[1])
    return Sample(
        at_s=at_s,
        rss_mib=pages * resource.getpagesize() / MIB,
        open_files=len(list((_PROC / "fd").iterdir())) - 1,  # less the one that this listing is
        tasks=len(asyncio.all_tasks()),
    )


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _figure(order: Order, sales: Sales, samples: Sequence[Sample], cpu_s: float) -> Figure:
    warm = samples[int(len(samples) * WARM_UP) :]
    at = [s.at_s for s in warm]
    return Figure(
        rate=order.rate,
        seconds=order.seconds,
        payments=sales.paid,
        payments_per_s=round(sales.paid / max(sales.pay_s, BLOCK_S), 1),
        settled=sales.settled,
        drain_s=round(sales.drain_s, 1),
        busy=sales.busy,
        blocks=sales.blocks,
        cpu_share=round(cpu_s / (sales.pay_s + sales.drain_s), 2),
        rss_mib_first=round(samples[0].rss_mib, 1),
        rss_mib_warm=round(warm[0].rss_mib, 1),
        rss_mib_last=round(warm[-1].rss_mib, 1),
        rss_slope_mib_per_hour=round(3600 * slope(at, [s.rss_mib for s in warm]), 2),
        open_files=(min(s.open_files for s in warm), max(s.open_files for s in warm)),
        open_files_slope_per_hour=round(3600 * slope(at, [s.open_files for s in warm]), 2),
        tasks=(min(s.tasks for s in warm), max(s.tasks for s in warm)),
        tasks_slope_per_hour=round(3600 * slope(at, [s.tasks for s in warm]), 2),
        samples=len(samples),
    )


def slope(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Of the straight line nearest to the points, by least squares; 0 where there is but one place."""
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - mean_x) ** 2 for x in xs)
    if spread == 0:
        return 0.0
    return sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread
