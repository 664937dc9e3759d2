"""What a committed tick did, told to the metrics. Called after the commit only: a rolled-back tick did nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from chains.model import Address, ChainId, Token
from settler.domain.invoices import Allocation, TransferRecord
from settler.stages.assessing import Assessed
from settler.stages.recording import Recorded
from settler.tracing import SILENT, Tracer


class Effects(Protocol):
    """The counters a stage feeds; `settler.metrics.Metrics` is one."""

    def transfer(self, chain: str, token: str, allocation: str) -> None: ...
    def detection(self, chain: str, seconds: float, *, trace_id: str | None = None) -> None: ...
    def settled(self, chain: str, token: str, amount_base: int) -> None: ...
    def settlement_latency(self, chain: str, seconds: float, *, trace_id: str | None = None) -> None: ...
    def reversal(self, chain: str) -> None: ...
    def reorg(self, chain: str, depth_blocks: int) -> None: ...


class Reporter:
    """Turns records into counts, naming chains and tokens as the configuration does."""

    def __init__(self, effects: Effects, *, chain: str, tokens: tuple[Token, ...], tracer: Tracer = SILENT) -> None:
        self._effects = effects
        self._tracer = tracer
        self._chain = chain
        self._symbols: Mapping[tuple[ChainId, Address], str] = {(t.chain_id, t.address): t.symbol for t in tokens}

    def recorded(self, recorded: Recorded, now: datetime) -> None:
        for t in recorded.added:
            self._effects.transfer(self._chain, self._symbol(t), allocation_label(t))
            seconds = max(0.0, (now - t.block_time).total_seconds())
            self._effects.detection(self._chain, seconds, trace_id=self._trace_id(t.invoice_id or t.id))

    def assessed(self, assessed: Assessed, seconds_since_final: float) -> None:
        for settlement in assessed.settled:
            trace_id = self._trace_id(settlement.invoice_id)
            self._effects.settlement_latency(self._chain, seconds_since_final, trace_id=trace_id)
            by_token: Counter[tuple[str, str]] = Counter()
            for line in settlement.lines:
                by_token[line.chain, line.token] += line.amount_settled
            for (chain, token), amount_base in by_token.items():
                self._effects.settled(chain, token, amount_base)

    def reversed(self, count: int) -> None:
        for _ in range(count):
            self._effects.reversal(self._chain)

    def reorg(self, depth_blocks: int) -> None:
        self._effects.reorg(self._chain, depth_blocks)

    def _trace_id(self, story: str) -> str | None:
        """The trace of the payment itself, where it is kept: from a slow bucket to the slow payment."""
        if not self._tracer.is_on:
            return None
        place = self._tracer.derived(story)
        return place.trace_hex if place.is_sampled else None

    def _symbol(self, t: TransferRecord) -> str:
        return self._symbols[t.identity.chain_id, t.identity.token]


def allocation_label(t: TransferRecord) -> str:
    """`invoice`, `dismissed`, or the reason why it is unmatched: a small closed set."""
    return t.reason.value if t.allocation is Allocation.UNMATCHED and t.reason else t.allocation.value
