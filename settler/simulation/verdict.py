"""What became of a simulated world."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from settler.domain.invariants import Violation


@dataclass(slots=True, kw_only=True)
class Verdict:
    """What became of a world."""

    seed: int
    steps: int
    chains: int
    digest: str = ""
    """The trace hash."""
    violations: list[Violation] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """Bugs, ends of the process nobody caused, and rest that never came."""
    faults: Counter[str] = field(default_factory=Counter)
    did: Counter[str] = field(default_factory=Counter)
    """What people and operators did."""
    simulated_s: float = 0.0
    blocks: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    """Rows by table at the end."""
    lines: list[str] = field(default_factory=list)
    """The last lines of the trace, where something is wrong."""

    @property
    def is_good(self) -> bool:
        return not self.violations and not self.problems
