"""From a slow bucket to the trace of what was slow: where traces are kept, and where the scraper can read it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from settler.clock import FakeClock
from settler.metrics import SLOW_CALL_S, ChainCalls, Metrics
from settler.stages.assessing import Assessed
from settler.stages.effects import Reporter
from settler.stages.recording import Recorded
from settler.tracing import SILENT, Tracer
from tests.domain.samples import a_line, a_settlement, a_token, a_transfer, an_invoice
from tests.tracing.test_tracer import Sink, tracer

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PROMETHEUS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
"""What Prometheus 2.42 asks for."""
INVOICE = an_invoice()


def live(ratio: float = 1.0) -> Tracer:
    return tracer(Sink(), FakeClock(NOW), ratio=ratio)


def traces(told: Metrics, name: str) -> list[str]:
    """Trace ids beside the buckets of a histogram."""
    body, content_type = told.scrape(PROMETHEUS)
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    return [
        sample.exemplar.labels["trace_id"]
        for family in text_string_to_metric_families(body.decode())  # type: ignore[no-untyped-call]  # theirs
        for sample in family.samples
        if sample.name == f"{name}_bucket" and sample.exemplar is not None
    ]


def reported(tracer_: Tracer) -> Metrics:
    """A payment seen and settled."""
    metrics = Metrics(FakeClock(NOW), version="0")
    reporter = Reporter(metrics, chain="base", tokens=(a_token(),), tracer=tracer_)
    payment = a_transfer(invoice_id=INVOICE.id)
    reporter.recorded(Recorded(added=(payment,)), NOW)
    settlement = a_settlement(INVOICE, a_line(payment))
    reporter.assessed(Assessed(settled=(settlement,)), 2.0)
    return metrics


def test_latencies__a_payment__name_its_own_trace() -> None:
    metrics, of_payment = reported(live()), live().derived(INVOICE.id).trace_hex
    assert traces(metrics, "settler_detection_latency_seconds") == [of_payment]
    assert traces(metrics, "settler_settlement_latency_seconds") == [of_payment]


@pytest.mark.parametrize("tracer_", [SILENT, live(ratio=0.0)], ids=["traces are off", "this trace is not kept"])
def test_latencies__no_trace_to_look_at__name_none(tracer_: Tracer) -> None:
    metrics = reported(tracer_)
    assert traces(metrics, "settler_detection_latency_seconds") == []
    assert traces(metrics, "settler_settlement_latency_seconds") == []
    assert b"settler_settlement_latency_seconds_count" in metrics.exposition()


def test_latencies__money_in_suspense__names_the_trace_of_its_transfer() -> None:
    metrics = Metrics(FakeClock(NOW), version="0")
    stray = a_transfer(invoice_id=None)
    Reporter(metrics, chain="base", tokens=(a_token(),), tracer=live()).recorded(
        Recorded(added=(stray,)), NOW + timedelta(seconds=4)
    )
    assert traces(metrics, "settler_detection_latency_seconds") == [live().derived(stray.id).trace_hex]


@pytest.mark.parametrize(
    ("outcome", "seconds", "is_named"), [("ok", 0.1, False), ("ok", SLOW_CALL_S, True), ("timeout", 0.1, True)]
)
def test_call__slow_or_failed__names_the_trace_of_its_tick_and_keeps_it(
    outcome: str, seconds: float, is_named: bool
) -> None:
    """A trace that was not kept would be a dead end."""
    metrics, sink = Metrics(FakeClock(NOW), version="0"), Sink()
    with tracer(sink, FakeClock(NOW)).work("stage.tick") as work:
        work.is_kept = False
        ChainCalls(metrics, chain="base", provider="a.example").on_call("eth_getLogs", outcome, seconds)
    named = [work.place.trace_hex] if is_named else []
    assert traces(metrics, "settler_rpc_request_duration_seconds") == named
    assert [span.name for span in sink.spans] == ["stage.tick"] * is_named


def test_scrape__who_does_not_ask_for_openmetrics__gets_the_plain_text_without_exemplars() -> None:
    metrics = reported(live())
    for accept in ("", "*/*", "text/plain;version=0.0.4"):
        body, content_type = metrics.scrape(accept)
        assert content_type.startswith("text/plain")
        assert b"trace_id" not in body
        assert body == metrics.exposition()
