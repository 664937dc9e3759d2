"""The adapter to OpenTelemetry: what arrives at a collector, and what one that does not work costs us."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from settler.tracing import Place, Span, derived_place
from settler.tracing.otel import OtelSink
from tests.tracing.collector import Collector, collecting

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
ROOT = derived_place("inv_1", ratio=1)
WITHIN_S = 20.0


def sink(url: str, **how: Any) -> OtelSink:
    return OtelSink(url, service_name="till", version="0", **{"send_every_s": 0.02, "send_timeout_s": 0.5, **how})


def span(number: int = 1, **changes: Any) -> Span:
    place = derived_place("inv_1", f"evt_{number}", ratio=1)
    return Span(
        **{"name": "transfer.final", "place": place, "parent": ROOT, "start": NOW, "end": NOW + timedelta(1), **changes}
    )


async def test_take__arrives_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=other")
    link = Place(trace_id=5, span_id=6, is_sampled=True)
    async with collecting() as collector:
        out = sink(collector.url)
        out.take(span(0, name="invoice.created", place=ROOT, parent=None, end=NOW))
        out.take(span(1, attributes={"a": "b", "n": 2**40, "is": True}, links=(link,), kind="client", error="timeout"))
        await out.close(WITHIN_S)
    created, final = sorted(collector.spans, key=lambda s: s.name)
    assert (created.trace_id, created.span_id, created.parent_id) == (ROOT.trace_hex, ROOT.span_hex, "")
    assert created.start_ns == created.end_ns == 1772366400_123456_000
    assert (final.trace_id, final.parent_id) == (ROOT.trace_hex, ROOT.span_hex)
    assert final.span_id == derived_place("inv_1", "evt_1", ratio=1).span_hex
    assert final.attributes == {"a": "b", "n": 2**40, "is": True}
    assert final.links == ((link.trace_hex, link.span_hex),)
    assert (final.is_error, created.is_error) == (True, False)
    assert final.end_ns - final.start_ns == 86_400 * 10**9
    assert {s.service for s in collector.spans} == {"till"}


async def test_take__ends_before_it_starts__is_of_no_length() -> None:
    """A block's time may be ahead of our clock."""
    async with collecting() as collector:
        out = sink(collector.url)
        out.take(span(end=NOW - timedelta(1)))
        await out.close(WITHIN_S)
    assert collector.spans[0].start_ns == collector.spans[0].end_ns


async def test_close__sends_what_waits_and_takes_nothing_more() -> None:
    async with collecting() as collector:
        out = sink(collector.url, send_every_s=3_600.0)
        for number in range(300):
            out.take(span(number))
        await out.close(WITHIN_S)
        out.take(span(301))
        assert len({s.span_id for s in collector.spans}) == 300


async def test_a_collector_that_hangs__holds_nobody_and_is_left_behind() -> None:
    async with collecting(hangs=True) as collector:
        out = sink(collector.url, send_timeout_s=5.0, queue_spans=64)
        out.take(span())
        await _came(collector)
        with capture_logs() as said:
            for number in range(1_000):
                out.take(span(number))  # far more than the queue holds: lost, and at once
            await out.close(0.05)
        assert [line["event"] for line in said] == ["telemetry.full", "telemetry.lost"]


async def test_a_collector_that_is_slow__has_room_again_once_it_caught_up() -> None:
    async with collecting(hangs=True) as collector:
        out = sink(collector.url, send_timeout_s=WITHIN_S, queue_spans=8)
        out.take(span())
        await _came(collector)
        with capture_logs() as said:
            for number in range(20):
                out.take(span(100 + number))
            collector.hangs = False
            collector.ended.set()
            await _until(lambda: len(collector.spans) == 9)
            out.take(span(200))
            await out.close(WITHIN_S)
    assert [line["event"] for line in said] == ["telemetry.full", "telemetry.room"]
    assert said[1]["lost_spans"] == 12
    assert len(collector.spans) == 10


async def test_a_collector_that_refuses__is_said_once_and_once_that_it_is_back() -> None:
    with capture_logs() as said:
        async with collecting(status=400) as collector:
            out = sink(collector.url)
            for number in range(3):
                collector.came.clear()
                out.take(span(number))
                await _came(collector)
            collector.status = 200
            collector.came.clear()
            out.take(span(4))
            await _came(collector)
            await out.close(WITHIN_S)
    assert [line["event"] for line in said] == ["telemetry.down", "telemetry.up"]
    assert said[1]["lost_spans"] == 3
    assert "127.0.0.1" not in str(said), "where it is may be a secret"


async def test_a_collector_that_is_not_there__costs_spans_only() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        out = sink(f"http://127.0.0.1:{taken.getsockname()[1]}/v1/traces")
        with capture_logs() as said:
            out.take(span())
            await out.close(WITHIN_S)
    assert "telemetry.down" in [line["event"] for line in said]


async def _until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not is_so():  # noqa: ASYNC110 -- another thread sends
            await asyncio.sleep(0.01)


async def _came(collector: Collector) -> None:
    async with asyncio.timeout(WITHIN_S):
        await collector.came.wait()
