"""The metrics as Prometheus scrapes them: names, types and labels are a promise, kept in a golden file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from chains import errors
from settler.clock import FakeClock
from settler.domain.invoices import Allocation, InvoiceStatus, UnmatchedReason
from settler.metrics import ChainCalls, Metrics
from settler.metrics.labels import ALLOCATIONS, INVOICE_STATUSES, RPC_OUTCOMES, UNMATCHED_REASONS

GOLDEN = Path(__file__).parent / "golden.txt"
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(START)


@pytest.fixture
def metrics(clock: FakeClock) -> Metrics:
    made = Metrics(clock, version="0.1.0")
    made.add_chain("base", providers=["node.example"], tokens={"USDC": 6}, stages=["watch", "settle"])
    return made


def samples(metrics: Metrics) -> Iterator[Sample]:
    for family in text_string_to_metric_families(metrics.exposition().decode()):
        yield from family.samples


def value(metrics: Metrics, name: str, **labels: str) -> float:
    """The one sample of that name with these labels among its own."""
    found = [s.value for s in samples(metrics) if s.name == name and labels.items() <= s.labels.items()]
    assert len(found) == 1, f"{name}{labels}: {found}"
    return found[0]


def exercised(metrics: Metrics) -> Metrics:
    """Each instrument fed once."""
    metrics.tick("watch", "base", "ok")
    metrics.chain("base", head=9, scanned=8, final=7, settled=6, head_time=START, scanned_time=START, final_time=START)
    metrics.usual("base", block_s=2.0, finality_s=1500.0)
    metrics.leads("base", True)
    metrics.lease("base", 3)
    metrics.halted("base", False)
    metrics.reconciled("base", breaks=0, at=START)
    metrics.reorg("base", 2)
    metrics.rpc_call("base", "node.example", "eth_getLogs", "rate_limited", 0.1)
    metrics.provider_up("base", "node.example", True)
    metrics.transfer("base", "USDC", "invoice")
    metrics.detection("base", 1.5)
    metrics.settled("base", "USDC", 100_000_000)
    metrics.settlement_latency("base", 2.5)
    metrics.reversal("base")
    metrics.oldest_unsettled("base", 10)
    metrics.unmatched({("base", "USDC", "late"): 1})
    metrics.unmatched_amounts({("base", "USDC"): 5_000_000})
    metrics.delivery("delivered")
    metrics.outbox(pending=1, oldest_seconds=2.0, dead=3)
    return metrics


def test_exposition__names_types_and_labels__are_those_promised(metrics: Metrics) -> None:
    lines = set()
    for family in text_string_to_metric_families(exercised(metrics).exposition().decode()):
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = {label for s in family.samples for label in s.labels if label != "le"}
        lines.add(f"{name} {family.type} {' '.join(sorted(labels))}".rstrip())
    assert sorted(lines) == GOLDEN.read_text().splitlines()


def test_exposition__every_line__is_of_settler(metrics: Metrics) -> None:
    lines = exercised(metrics).exposition().decode().splitlines()
    assert all(re.match(r"(# (HELP|TYPE) )?settler_", line) for line in lines)
    assert not [m for m in REGISTRY.collect() if m.name.startswith("settler")]


def test_exposition__known_label_sets__exist_from_the_start(metrics: Metrics) -> None:
    assert value(metrics, "settler_settlements_total", chain="base", token="USDC") == 0
    assert value(metrics, "settler_transfers_total", chain="base", allocation="unmatched") == 0
    assert value(metrics, "settler_reorgs_total", chain="base") == 0
    assert value(metrics, "settler_stage_ticks_total", stage="settle", outcome="storage") == 0
    assert value(metrics, "settler_webhook_deliveries_total", outcome="dead") == 0
    assert value(metrics, "settler_invoices", status="pending") == 0
    assert value(metrics, "settler_build_info", version="0.1.0") == 1


def test_labels__closed_sets__mirror_the_words_they_come_from() -> None:
    assert set(ALLOCATIONS) == {a.value for a in Allocation}
    assert set(INVOICE_STATUSES) == {s.value for s in InvoiceStatus}
    assert set(UNMATCHED_REASONS) == {r.value for r in UnmatchedReason}
    kinds = {kind.label for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "label")}
    assert kinds | {"ok"} == set(RPC_OUTCOMES)


def test_rpc_call__unknown_words__are_other(metrics: Metrics) -> None:
    calls = ChainCalls(metrics, chain="base", provider="node.example")
    for number in range(100):
        calls.on_call(f"evil_{number}", f"outcome {number}", 0.1)
    assert value(metrics, "settler_rpc_requests_total", method="other", outcome="other") == 100
    assert len([s for s in samples(metrics) if s.name == "settler_rpc_requests_total"]) == 1


def test_rpc_call__rate_limited__is_counted_twice_over(metrics: Metrics) -> None:
    metrics.rpc_call("base", "node.example", "eth_call", "rate_limited", 0.1)
    assert value(metrics, "settler_rpc_rate_limits_total", provider="node.example") == 1
    assert value(metrics, "settler_rpc_request_duration_seconds_count", method="eth_call") == 1


def test_chain__head_age__grows_between_scrapes(metrics: Metrics, clock: FakeClock) -> None:
    head = START - timedelta(seconds=5)
    metrics.chain("base", head=10, scanned=8, head_time=head, scanned_time=head - timedelta(seconds=4))
    assert value(metrics, "settler_head_age_seconds", chain="base") == 5
    assert value(metrics, "settler_chain_lag_seconds", chain="base") == 4
    clock.advance(7)
    assert value(metrics, "settler_head_age_seconds", chain="base") == 12
    assert value(metrics, "settler_chain_lag_seconds", chain="base") == 4


def test_chain__what_is_not_known__has_no_sample(metrics: Metrics) -> None:
    metrics.chain("base", head=10, head_time=START)
    names = {s.name for s in samples(metrics)}
    assert "settler_head_block" in names
    assert "settler_final_block" not in names
    assert "settler_finality_lag_seconds" not in names


def test_transfer__a_reason_why_it_is_unmatched__counts_as_unmatched(metrics: Metrics) -> None:
    metrics.transfer("base", "USDC", "no_invoice")
    metrics.transfer("base", "USDC", "unmatched")
    assert value(metrics, "settler_transfers_total", allocation="unmatched") == 2


def test_unmatched__a_queue_that_was_emptied__falls_to_zero(metrics: Metrics) -> None:
    metrics.unmatched({("base", "USDC", "late"): 3})
    metrics.unmatched({})
    assert value(metrics, "settler_unmatched_transfers", chain="base", reason="late") == 0


def test_detection__a_clock_behind_the_chain__is_no_negative_time(metrics: Metrics) -> None:
    metrics.detection("base", -3.0)
    assert value(metrics, "settler_detection_latency_seconds_sum", chain="base") == 0
