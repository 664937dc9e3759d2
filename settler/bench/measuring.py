"""What all benchmarks share: processor time and wall time of a piece of work, the machine, and what a run reports.

Processor time is this process's own, all its threads: what it costs whoever else is busy. Wall time depends on the
machine's other work, and is only ever compared with wall time of the same run.
"""

from __future__ import annotations

import os
import platform
import resource
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

MIB = 2**20
_CPUINFO = Path("/proc/cpuinfo")
_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")


class Unmeasurable(Exception):
    """The run says nothing. The text is for the person at the terminal; caught by the command."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where a figure was measured."""

    processor: str
    cores: int
    """That this process may use."""
    python: str
    system: str

    def line(self) -> str:
        return f"{self.cores} cores of {self.processor}, {self.system}, Python {self.python}"


def machine() -> Machine:
    return Machine(
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One run of one benchmark."""

    benchmark: str
    inputs: Mapping[str, object]
    """What it was run on: two runs with equal inputs do the same work."""
    rows: Sequence[Mapping[str, Any]]
    machine: Machine = field(default_factory=machine)

    def as_json(self) -> dict[str, Any]:
        return {
            "benchmark": self.benchmark,
            "machine": asdict(self.machine),
            "inputs": dict(self.inputs),
            "rows": [dict(row) for row in self.rows],
        }


class Meter:
    """Measures what is done within it: `with Meter() as spent: …`, then `spent.cpu_s`, `spent.wall_s`."""

    def __init__(self) -> None:
        self.cpu_s = 0.0
        """Of this process, user and system, all threads; not of its children."""
        self.wall_s = 0.0

    def __enter__(self) -> Meter:
        self._cpu, self._wall = time.process_time(), time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cpu_s = time.process_time() - self._cpu
        self.wall_s = time.perf_counter() - self._wall


def rss_mib() -> float:
    """Memory this process holds now; 0 where the system does not say."""
    return _status_mib("VmRSS")


def peak_rss_mib() -> float:
    """The most it held since the start or the last `forget_peak`."""
    return _status_mib("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def forget_peak() -> None:
    """Begins the peak anew, where the system can (Linux)."""
    try:
        _CLEAR_REFS.write_text("5")
    except OSError:
        return


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (0 to 1) of them do not exceed (nearest rank). Raises `ValueError` for
    none at all.
    """
    if not values:
        raise ValueError("a percentile of no values")
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * round(share * 1_000_000) // 1_000_000) - 1)]


def _status_mib(name: str) -> float:
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:")), 0.0)


def _processor() -> str:
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:
        lines = []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or "an unnamed processor")
