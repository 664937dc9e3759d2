"""What the daemon counts and measures, under the names, types and labels of INTERFACE.md, for Prometheus to
scrape.

Promises: its own registry, nothing global; labels are small closed sets (chains, tokens and providers of the
configuration, words of the domain), never an address, an id or text from outside: an unknown RPC method is
`other`, an unknown outcome `other`; series whose labels are known exist from the start, so that a rate of
zero is seen as zero. What does not belong here: deciding what the numbers mean (health, alerts), and anything
exact: prometheus counters are floats, amounts of money are to be read from settlements.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.openmetrics import exposition as open_metrics

from settler.clock import Clock
from settler.metrics.instruments import Instruments
from settler.metrics.labels import (
    ALLOCATIONS,
    DELIVERY_OUTCOMES,
    HOLD_REASONS,
    INVOICE_STATUSES,
    RPC_METHODS,
    RPC_OUTCOMES,
    TICK_OUTCOMES,
    UNMATCHED_REASONS,
    known,
)
from settler.tracing import current_work

SLOW_CALL_S = 1.0
"""A call of a node that takes so long is worth a trace, whatever its tick did."""


class Metrics:
    """All instruments. Methods speak the domain's words; amounts and depths are numbers, times aware UTC."""

    def __init__(self, clock: Clock, *, version: str) -> None:
        self._clock = clock
        self._on = Instruments(version=version)
        self._unmatched_seen: set[tuple[str, str, str]] = set()
        self._amounts_seen: set[tuple[str, str]] = set()
        self.invoices({})
        self.holds({})
        for outcome in DELIVERY_OUTCOMES:
            self._on.deliveries.labels(outcome)

    def scrape(self, accept: str) -> tuple[bytes, str]:
        """What `/metrics` answers, and its content type: OpenMetrics where the header `accept` names it, which alone
        carries exemplars; else Prometheus' own text.
        """
        if "application/openmetrics-text" in accept:
            body: bytes = open_metrics.generate_latest(self._on.registry)  # type: ignore[no-untyped-call]  # theirs
            return body, open_metrics.CONTENT_TYPE_LATEST
        return self.exposition(), CONTENT_TYPE_LATEST

    def exposition(self) -> bytes:
        """Prometheus' own text."""
        return generate_latest(self._on.registry)

    # -- what exists from the start ------------------------------------------------------------

    def add_chain(
        self, chain: str, *, providers: Iterable[str], tokens: Mapping[str, int], stages: Iterable[str]
    ) -> None:
        """Makes a configured chain's series, at zero. Called once a chain at start. `tokens`: decimals by symbol."""
        for stage in stages:
            for outcome in TICK_OUTCOMES:
                self._on.stage_ticks.labels(stage, chain, outcome)
        for token, decimals in tokens.items():
            self._on.token_decimals.labels(chain, token).set(decimals)
            self._on.unmatched_amount.labels(chain, token)
            self._on.settlements.labels(chain, token)
            self._on.settled_amount.labels(chain, token)
            for allocation in ALLOCATIONS:
                self._on.transfers.labels(chain, token, allocation)
            for reason in UNMATCHED_REASONS:
                self._on.unmatched.labels(chain, token, reason)
        for by_chain in (self._on.reversals, self._on.reorgs):
            by_chain.labels(chain)
        for measured in (self._on.reorg_depth, self._on.detection_latency, self._on.settlement_latency):
            measured.labels(chain)
        for gauge in (self._on.oldest_unsettled, self._on.halted, self._on.leader):
            gauge.labels(chain)
        for provider in providers:
            self._on.rate_limits.labels(chain, provider)
            self._on.disagreements.labels(chain, provider)

    def usual(self, chain: str, *, block_s: float | None, finality_s: float | None) -> None:
        """What the chain is known for, in seconds; `None`: nothing is known. Alerts measure against it."""
        if block_s is not None:
            self._on.usual_block.labels(chain).set(block_s)
        if finality_s is not None:
            self._on.usual_finality.labels(chain).set(finality_s)

    # -- stages and chains ------------------------------------------------------------

    def tick(self, stage: str, chain: str, outcome: str) -> None:
        """One tick ended; `outcome` of `TICK_OUTCOMES`. `chain` is empty for stages that belong to none."""
        self._on.stage_ticks.labels(stage, chain, known(outcome, TICK_OUTCOMES)).inc()

    def chain(
        self,
        chain: str,
        *,
        head: int | None = None,
        scanned: int | None = None,
        final: int | None = None,
        settled: int | None = None,
        head_time: datetime | None = None,
        scanned_time: datetime | None = None,
        final_time: datetime | None = None,
    ) -> None:
        """Where a chain stands: heights, and the times of those blocks. `None`: not known (yet), nothing
        changes.
        """
        for gauge, number in (
            (self._on.head, head),
            (self._on.scanned, scanned),
            (self._on.final, final),
            (self._on.settled, settled),
        ):
            if number is not None:
                gauge.labels(chain).set(number)
        if head_time is None:
            return
        self._on.head_age.labels(chain).set_function(lambda: _seconds(self._clock.now() - head_time))
        if scanned_time is not None:
            self._on.chain_lag.labels(chain).set(max(0.0, _seconds(head_time - scanned_time)))
        if final_time is not None:
            self._on.finality_lag.labels(chain).set(max(0.0, _seconds(head_time - final_time)))

    def halted(self, chain: str, is_halted: bool) -> None:
        """Whether an operator has to resume the chain."""
        self._on.halted.labels(chain).set(int(is_halted))

    def leads(self, chain: str, is_leader: bool) -> None:
        """Whether this worker leads the chain."""
        self._on.leader.labels(chain).set(int(is_leader))

    def lease(self, chain: str, fencing: int) -> None:
        """The lease's fencing number, as the database has it, whoever leads."""
        self._on.lease_fencing.labels(chain).set(fencing)

    def reconciled(self, chain: str, *, breaks: int, at: datetime) -> None:
        """The newest reconciliation of the chain ended at `at` and found so many breaks."""
        self._on.reconciliation_breaks.labels(chain).set(breaks)
        self._on.reconciliation_age.labels(chain).set_function(lambda: max(0.0, _seconds(self._clock.now() - at)))

    def reorg(self, chain: str, depth_blocks: int) -> None:
        """A fork was followed; `depth_blocks` held blocks were replaced."""
        self._on.reorgs.labels(chain).inc()
        self._on.reorg_depth.labels(chain).observe(depth_blocks)

    # -- providers ------------------------------------------------------------

    def rpc_call(
        self, chain: str, provider: str, method: str, outcome: str, seconds: float, *, trace_id: str | None = None
    ) -> None:
        """One JSON-RPC call of one attempt. `outcome`: of `RPC_OUTCOMES`. `provider`: a host, never a URL."""
        method = known(method, RPC_METHODS)
        self._on.rpc_requests.labels(chain, provider, method, known(outcome, RPC_OUTCOMES)).inc()
        self._on.rpc_duration.labels(chain, provider, method).observe(seconds, _exemplar(trace_id))
        if outcome == "rate_limited":
            self._on.rate_limits.labels(chain, provider).inc()

    def provider_up(self, chain: str, provider: str, is_up: bool) -> None:
        self._on.provider_up.labels(chain, provider).set(int(is_up))

    def disagreement(self, chain: str, provider: str) -> None:
        """The provider answered otherwise than the others."""
        self._on.disagreements.labels(chain, provider).inc()

    # -- transfers, invoices, settlements ------------------------------------------------------------

    def transfer(self, chain: str, token: str, allocation: str) -> None:
        """A transfer was recorded for the first time. `allocation`: of `ALLOCATIONS`, or why it is
        unmatched.
        """
        kind = "unmatched" if allocation in UNMATCHED_REASONS else known(allocation, ALLOCATIONS)
        self._on.transfers.labels(chain, token, kind).inc()

    def detection(self, chain: str, seconds: float, *, trace_id: str | None = None) -> None:
        """From the time of a transfer's block to its being recorded. `trace_id`: the payment's, in hex."""
        self._on.detection_latency.labels(chain).observe(max(0.0, seconds), _exemplar(trace_id))

    def settled(self, chain: str, token: str, amount_base: int) -> None:
        """A line of a settlement was written. The amount is counted as a float: for rates, not for books."""
        self._on.settlements.labels(chain, token).inc()
        self._on.settled_amount.labels(chain, token).inc(amount_base)

    def settlement_latency(self, chain: str, seconds: float, *, trace_id: str | None = None) -> None:
        """From a payment's block being final to its settlement. `trace_id`: the payment's, in hex."""
        self._on.settlement_latency.labels(chain).observe(max(0.0, seconds), _exemplar(trace_id))

    def reversal(self, chain: str) -> None:
        self._on.reversals.labels(chain).inc()

    def invoices(self, by_status: Mapping[str, int]) -> None:
        """How many invoices there are; a status not named has none."""
        for status in INVOICE_STATUSES:
            self._on.invoices.labels(status).set(by_status.get(status, 0))

    def oldest_unsettled(self, chain: str, seconds: float) -> None:
        """Age of the oldest payment on the chain that waits for its settlement, and not for an operator; 0: none."""
        self._on.oldest_unsettled.labels(chain).set(seconds)

    def unmatched(self, by_place: Mapping[tuple[str, str, str], int]) -> None:
        """The suspense queue, by (chain, token, reason); what was counted before and is not named is empty
        now.
        """
        named = {(c, t, known(r, UNMATCHED_REASONS)): count for (c, t, r), count in by_place.items()}
        for labels in self._unmatched_seen - set(named):
            self._on.unmatched.labels(*labels).set(0)
        for labels, count in named.items():
            self._on.unmatched.labels(*labels).set(count)
        self._unmatched_seen |= set(named)

    def unmatched_amounts(self, by_token: Mapping[tuple[str, str], int]) -> None:
        """The suspense queue's sums in base units, by (chain, token); what was summed before and is not named is 0."""
        for labels in self._amounts_seen - set(by_token):
            self._on.unmatched_amount.labels(*labels).set(0)
        for labels, amount_base in by_token.items():
            self._on.unmatched_amount.labels(*labels).set(amount_base)
        self._amounts_seen |= set(by_token)

    def holds(self, by_reason: Mapping[str, int]) -> None:
        """Settlements waiting for an operator; a reason not named has none."""
        for reason in HOLD_REASONS:
            self._on.holds.labels(reason).set(by_reason.get(reason, 0))

    # -- webhooks ------------------------------------------------------------

    def delivery(self, outcome: str) -> None:
        """One attempt to deliver ended; `outcome` of `DELIVERY_OUTCOMES`."""
        self._on.deliveries.labels(known(outcome, DELIVERY_OUTCOMES)).inc()

    def outbox(self, *, pending: int, oldest_seconds: float, dead: int) -> None:
        """Deliveries to be made, the age of the oldest (0 where there is none), and those given up."""
        self._on.outbox_pending.set(pending)
        self._on.outbox_oldest.set(oldest_seconds)
        self._on.dead_letters.set(dead)


class ChainCalls:
    """`chains.rpc.CallObserver` of one provider: counts each call under its chain and host.

    A call that was slow or failed names the trace of the tick it was made in, and that tick is kept for it.
    """

    def __init__(self, metrics: Metrics, *, chain: str, provider: str) -> None:
        self._metrics = metrics
        self._chain = chain
        self._provider = provider

    def on_call(self, method: str, outcome: str, seconds: float) -> None:
        trace_id = None
        work = current_work()
        if work is not None and work.place.is_sampled and (outcome != "ok" or seconds >= SLOW_CALL_S):
            work.is_kept = True
            trace_id = work.place.trace_hex
        self._metrics.rpc_call(self._chain, self._provider, method, outcome, seconds, trace_id=trace_id)


def _exemplar(trace_id: str | None) -> dict[str, str] | None:
    return None if trace_id is None else {"trace_id": trace_id}


def _seconds(span: timedelta) -> float:
    return span.total_seconds()
