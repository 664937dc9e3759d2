"""Work under way: what it is told of, and under which ids."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from structlog.contextvars import get_contextvars

from settler.clock import FakeClock
from settler.tracing import SILENT, LiveTracer, Place, Span, current_work
from settler.tracing.tracer import CALLS_MAX

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Sink:
    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.closed_within_s: float | None = None

    def take(self, span: Span) -> None:
        self.spans.append(span)

    async def close(self, timeout_s: float) -> None:
        self.closed_within_s = timeout_s


def tracer(sink: Sink, clock: FakeClock, *, ratio: float = 1.0) -> LiveTracer:
    numbers = count(1)
    return LiveTracer(sink, clock=clock, ratio=ratio, entropy=lambda size: next(numbers).to_bytes(size))


def test_work__ended__is_told_with_the_calls_made_in_it() -> None:
    sink, clock = Sink(), FakeClock(NOW)
    with tracer(sink, clock).work("stage.tick") as work:
        assert current_work() is work
        clock.advance(2)
        tracer(sink, clock).call("rpc eth_getLogs", 0.5, {"rpc.method": "eth_getLogs"}, error="timeout")
        work.attributes["settler.stage"] = "watch"
    assert current_work() is None
    own, call = sink.spans
    assert (own.name, own.start, own.end, own.parent) == ("stage.tick", NOW, NOW + timedelta(seconds=2), None)
    assert own.attributes == {"settler.stage": "watch"}
    assert (call.parent, call.place.trace_id) == (own.place, own.place.trace_id)
    assert (call.start, call.end) == (NOW + timedelta(seconds=1.5), NOW + timedelta(seconds=2))
    assert (call.kind, call.error) == ("client", "timeout")


def test_work__not_kept__is_not_told_of_nor_its_calls() -> None:
    sink, clock = Sink(), FakeClock(NOW)
    live = tracer(sink, clock)
    with live.work("stage.tick") as work:
        live.call("rpc eth_blockNumber", 0.1, {})
        work.is_kept = False
    assert sink.spans == []


def test_work__that_raises__is_told_all_the_same() -> None:
    sink = Sink()
    with pytest.raises(RuntimeError), tracer(sink, FakeClock(NOW)).work("stage.tick"):
        raise RuntimeError
    assert [span.name for span in sink.spans] == ["stage.tick"]
    assert current_work() is None


def test_work__more_calls_than_are_kept__says_how_many() -> None:
    sink, clock = Sink(), FakeClock(NOW)
    live = tracer(sink, clock)
    with live.work("stage.tick"):
        for _ in range(CALLS_MAX + 5):
            live.call("rpc eth_call", 0.1, {})
    assert len(sink.spans) == 1 + CALLS_MAX
    assert sink.spans[0].attributes == {"settler.calls_left_out": 5}


def test_call__outside_of_any_work__is_not_told() -> None:
    sink, clock = Sink(), FakeClock(NOW)
    tracer(sink, clock).call("rpc eth_chainId", 0.1, {})
    assert sink.spans == []


async def test_work__in_tasks_side_by_side__each_has_its_own_ids_in_log_lines() -> None:
    live = tracer(Sink(), FakeClock(NOW))

    async def one() -> tuple[object, object]:
        with live.work("stage.tick") as work:
            await asyncio.sleep(0)
            assert current_work() is work
            bound = get_contextvars()
            assert bound["trace_id"] == work.place.trace_hex
            return bound["trace_id"], bound["span_id"]

    seen = await asyncio.gather(one(), one())
    assert len(set(seen)) == 2
    assert "trace_id" not in get_contextvars()


@pytest.mark.parametrize("is_sampled", [True, False])
def test_work__with_a_parent__is_kept_if_that_is(is_sampled: bool) -> None:
    sink = Sink()
    parent = Place(trace_id=7, span_id=8, is_sampled=is_sampled)
    with tracer(sink, FakeClock(NOW), ratio=0.0 if is_sampled else 1.0).work("GET /", parent=parent) as work:
        assert (work.place.trace_id, work.place.is_sampled) == (7, is_sampled)
    assert [span.parent for span in sink.spans] == ([parent] if is_sampled else [])


def test_tell__of_a_trace_that_is_not_kept__is_dropped() -> None:
    sink, live = Sink(), tracer(Sink(), FakeClock(NOW), ratio=0.0)
    live = tracer(sink, FakeClock(NOW), ratio=0.0)
    with live.work("stage.tick"):
        pass
    live.tell(Span(name="x", place=live.derived("inv_1"), parent=None, start=NOW, end=NOW))
    assert sink.spans == []


async def test_close__is_the_sinks() -> None:
    sink = Sink()
    await tracer(sink, FakeClock(NOW)).close(1.5)
    assert sink.closed_within_s == 1.5


async def test_silent__does_nothing_and_has_no_place_that_is_kept() -> None:
    with SILENT.work("stage.tick") as work:
        assert work is None
        assert current_work() is None
        assert "trace_id" not in get_contextvars()
        SILENT.call("rpc eth_call", 1, {})
    assert not SILENT.derived("inv_1").is_sampled
    await SILENT.close(1)


@pytest.mark.slow
def test_the_daemon__without_traces__imports_nothing_of_opentelemetry() -> None:
    code = (
        "import sys, settler.cli.daemon, settler.runtime.supervisor, settler.stages.payment_traces;"
        "sys.exit(any(name.partition('.')[0] == 'opentelemetry' for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
