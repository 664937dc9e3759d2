"""What everything in one process shares, and the time its end may take."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from settler.clock import Clock
from settler.config import Settings
from settler.health import Health
from settler.metrics import Metrics
from settler.runtime.outside import Outside
from settler.stages.payment_traces import PaymentTraces
from settler.storage.api_keys import KeyUses
from settler.storage.engine import Database
from settler.tracing import Tracer


class Drain:
    """The time a stop may take in all: what ends earlier leaves the rest to what comes after it."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self._ends_at: float | None = None

    def begin(self) -> None:
        self._ends_at = asyncio.get_running_loop().time() + self.limit_s

    def left_s(self, share: float = 1.0) -> float:
        """Seconds left of that share of the whole; before `begin`, all of it."""
        if self._ends_at is None:
            return self.limit_s * share
        now = asyncio.get_running_loop().time()
        return max(0.0, self._ends_at - (1 - share) * self.limit_s - now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """What everything in this process shares."""

    settings: Settings
    outside: Outside
    db: Database
    clock: Clock
    metrics: Metrics
    health: Health
    drain: Drain
    key_uses: KeyUses
    tracer: Tracer
    traces: PaymentTraces
