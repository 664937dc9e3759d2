"""The instruments: names, types, labels and buckets, as INTERFACE.md promises them and a golden file keeps
them.
"""

from __future__ import annotations

import platform
from functools import cache
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

RPC_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Up to the time-out of one attempt."""
LATENCY_BUCKETS_S = (0.25, 0.5, 1, 2, 4, 6, 10, 24, 30, 60, 120, 300, 900, 1_800, 3_600, 7_200)
"""From one block of a fast chain to the finality of a slow one. 2, 4, 6, 10 and 24 are two blocks of the chains we
know, 30 is what a settlement may take: the objectives in deploy/prometheus read these very bounds.
"""
DEPTH_BUCKETS = (1, 2, 3, 5, 10, 20, 50, 100, 500)
"""Blocks. One or two are daily life; Polygon has had 157."""


# A `…_created` gauge beside each counter and histogram: half as many series again that nobody was promised.
disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus_client leaves it untyped


Made = TypeVar("Made", Counter, Gauge, Histogram)


class Instruments:
    """Every instrument of one registry, not a global one."""

    def __init__(self, *, version: str) -> None:
        self.registry = CollectorRegistry()
        self._make_chain_instruments()
        self._make_rpc_instruments()
        self._make_money_instruments()
        self._make_webhook_instruments()
        build = self._gauge("settler_build_info", "Version of settler and of Python; always 1.", "version", "python")
        build.labels(version, platform.python_version()).set(1)

    def _make_chain_instruments(self) -> None:
        self.head = self._gauge("settler_head_block", "Newest block a provider reported.", "chain")
        self.scanned = self._gauge("settler_scanned_block", "Last block of the first reading.", "chain")
        self.final = self._gauge("settler_final_block", "Highest final block by the chain's policy.", "chain")
        self.settled = self._gauge("settler_settled_block", "Last block of the second reading.", "chain")
        self.chain_lag = self._gauge(
            "settler_chain_lag_seconds", "Time of the head minus time of the last scanned block.", "chain"
        )
        self.head_age = self._gauge("settler_head_age_seconds", "Now minus time of the head.", "chain")
        self.finality_lag = self._gauge(
            "settler_finality_lag_seconds", "Time of the head minus time of the final block.", "chain"
        )
        self.halted = self._gauge(
            "settler_chain_halted", "1 while nothing settles on the chain until an operator resumes it.", "chain"
        )
        self.usual_block = self._gauge(
            "settler_usual_block_seconds", "Time from block to block that the chain is known for.", "chain"
        )
        self.usual_finality = self._gauge(
            "settler_usual_finality_seconds",
            "Longest usual time from a block to its finality by the chain's policy.",
            "chain",
        )
        self.leader = self._gauge("settler_leader", "1 while this worker leads the chain.", "chain")
        self.lease_fencing = self._gauge(
            "settler_lease_fencing", "Fencing number of the chain's lease: grows by one with each leader.", "chain"
        )
        self.reconciliation_breaks = self._gauge(
            "settler_reconciliation_breaks", "Breaks and violations the newest reconciliation found.", "chain"
        )
        self.reconciliation_age = self._gauge(
            "settler_reconciliation_age_seconds", "Now minus the end of the newest reconciliation.", "chain"
        )
        self.reversals = self._counter("settler_reversals_total", "Settlements undone by the chain.", "chain")
        self.reorgs = self._counter("settler_reorgs_total", "Forks followed.", "chain")
        self.reorg_depth = self._histogram(
            "settler_reorg_depth_blocks", "Held blocks a fork replaced.", DEPTH_BUCKETS, "chain"
        )
        self.stage_ticks = self._counter(
            "settler_stage_ticks_total", "Ticks of a stage, by how they ended.", "stage", "chain", "outcome"
        )

    def _make_rpc_instruments(self) -> None:
        self.rpc_requests = self._counter(
            "settler_rpc_requests_total",
            "JSON-RPC calls; those of a batch count one by one.",
            *("chain", "provider", "method", "outcome"),
        )
        self.rpc_duration = self._histogram(
            "settler_rpc_request_duration_seconds",
            "Duration of the HTTP attempt a call was part of.",
            RPC_BUCKETS_S,
            *("chain", "provider", "method"),
        )
        self.provider_up = self._gauge(
            "settler_rpc_provider_up",
            "1 while the provider answers and serves the right chain.",
            "chain",
            "provider",
        )
        self.disagreements = self._counter(
            "settler_rpc_disagreements_total",
            "Answers that differed from those of the other providers.",
            *("chain", "provider"),
        )
        self.rate_limits = self._counter(
            "settler_rpc_rate_limits_total", "Calls the provider refused for their rate.", "chain", "provider"
        )

    def _make_money_instruments(self) -> None:
        self.transfers = self._counter(
            "settler_transfers_total",
            "Transfers recorded, by first allocation.",
            "chain",
            "token",
            "allocation",
        )
        self.invoices = self._gauge("settler_invoices", "Invoices, by status.", "status")
        self.oldest_unsettled = self._gauge(
            "settler_oldest_unsettled_seconds",
            "Age of the oldest payment that waits for settlement, those on hold apart.",
            "chain",
        )
        self.unmatched = self._gauge(
            "settler_unmatched_transfers", "Transfers in suspense.", "chain", "token", "reason"
        )
        self.unmatched_amount = self._gauge(
            "settler_unmatched_amount_base",
            "Base units in suspense. A float: for alerts only, never for books.",
            *("chain", "token"),
        )
        self.settlements = self._counter("settler_settlements_total", "Settlement lines written.", "chain", "token")
        self.settled_amount = self._counter(
            "settler_settled_amount_base_total",
            "Base units settled. A float: for rates only, never for books.",
            *("chain", "token"),
        )
        self.token_decimals = self._gauge(
            "settler_token_decimals", "Decimals of a token, to show amounts in base units as tokens.", "chain", "token"
        )
        self.detection_latency = self._histogram(
            "settler_detection_latency_seconds", "From block time to recorded.", LATENCY_BUCKETS_S, "chain"
        )
        self.settlement_latency = self._histogram(
            "settler_settlement_latency_seconds", "From final to settled.", LATENCY_BUCKETS_S, "chain"
        )
        self.holds = self._gauge("settler_holds", "Settlements that wait for an operator.", "reason")

    def _make_webhook_instruments(self) -> None:
        self.deliveries = self._counter(
            "settler_webhook_deliveries_total", "Attempts to deliver an event, by how they ended.", "outcome"
        )
        self.outbox_pending = self._gauge("settler_outbox_pending", "Deliveries to be made.")
        self.outbox_oldest = self._gauge("settler_outbox_oldest_seconds", "Age of the oldest delivery to be made.")
        self.dead_letters = self._gauge("settler_webhook_dead_letters", "Deliveries given up.")

    def _gauge(self, name: str, help_: str, *labels: str) -> Gauge:
        return _remembered(Gauge(name, help_, labels, registry=self.registry))

    def _counter(self, name: str, help_: str, *labels: str) -> Counter:
        return _remembered(Counter(name, help_, labels, registry=self.registry))

    def _histogram(self, name: str, help_: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return _remembered(Histogram(name, help_, labels, buckets=buckets, registry=self.registry))


def _remembered(instrument: Made) -> Made:
    """Looks each series up once: prometheus_client takes a lock and makes texts of the labels, at every call of a node.

    Series are a small closed set, and none is ever removed.
    """
    instrument.labels = cache(instrument.labels)  # type: ignore[method-assign] # the same, remembered
    return instrument
