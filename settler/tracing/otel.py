"""Spans into OpenTelemetry's SDK, and from there over OTLP/HTTP (protobuf) to a collector. Imports the extra `otel`.

Its own thread sends. We put spans into its queue while there is room (75 us each), and lose them while there is none,
which the log says when it begins and when it ends. The SDK's global provider, its exit hooks and its logging are not
used. Headers for the collector (its key) and certificates are the exporter's own variables:
OTEL_EXPORTER_OTLP_HEADERS, OTEL_EXPORTER_OTLP_CERTIFICATE.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from settler.logs import get_logger
from settler.tracing.places import Place
from settler.tracing.spans import Kind, Span

QUEUE_SPANS = 4_096
"""Some 8 MB: minutes of a busy shop, or one tick that catches up on some hundred payments. Beyond it, spans are lost
before they cost anything."""
BATCH_SPANS = 256
SEND_EVERY_S = 2.0
SEND_TIMEOUT_S = 5.0
"""For one batch with all its tries. It blocks the sending thread alone."""

_KINDS: dict[Kind, SpanKind] = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_log = get_logger(__name__)


class OtelSink:
    """`settler.tracing.spans.Sink` over OpenTelemetry. Used from one thread, that of the event loop."""

    def __init__(
        self,
        endpoint: str,
        *,
        service_name: str,
        version: str,
        send_every_s: float = SEND_EVERY_S,
        send_timeout_s: float = SEND_TIMEOUT_S,
        queue_spans: int = QUEUE_SPANS,
    ) -> None:
        """`endpoint`: the full URL, as `http://collector:4318/v1/traces`."""
        # it would tell of every batch that fails, with the URL; `_Reporting` tells of the first
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self._exporter = _Reporting(OTLPSpanExporter(endpoint=endpoint, timeout=send_timeout_s))
        self._queue_spans = queue_spans
        self._taken = 0
        self._lost = 0
        """Since the queue was full last; 0 while it takes spans."""
        self._processor = BatchSpanProcessor(
            self._exporter,
            max_queue_size=queue_spans,
            schedule_delay_millis=send_every_s * 1000,
            max_export_batch_size=min(BATCH_SPANS, queue_spans),
        )
        self._ids = _GivenIds()
        provider = TracerProvider(
            sampler=ALWAYS_ON,  # what is not to be kept does not come here
            resource=Resource({"service.name": service_name, "service.version": version}),
            shutdown_on_exit=False,
            id_generator=self._ids,
            span_limits=SpanLimits(max_span_attributes=64, max_span_attribute_length=256, max_links=16),
        )
        provider.add_span_processor(self._processor)
        self._tracer = provider.get_tracer("settler", version)
        self._is_closed = False

    def take(self, span: Span) -> None:
        if self._is_closed or not self._has_room():
            return
        self._taken += 1
        self._ids.next = span.place
        made = self._tracer.start_span(
            span.name,
            context=Context() if span.parent is None else _context(span.parent),
            kind=_KINDS[span.kind],
            attributes=dict(span.attributes),
            links=[Link(_span_context(place)) for place in span.links],
            start_time=_nanoseconds(span.start),
        )
        if span.error is not None:
            made.set_status(Status(StatusCode.ERROR, span.error))
        made.end(end_time=_nanoseconds(max(span.start, span.end)))

    def _has_room(self) -> bool:
        waiting = self._taken - self._exporter.begun
        if self._lost and waiting <= self._queue_spans // 2:
            _log.info("telemetry.room", lost_spans=self._lost)
            self._lost = 0
        if not self._lost and waiting < self._queue_spans:
            return True
        if not self._lost:
            _log.warning("telemetry.full", reason="spans come faster than the collector takes them; some are lost")
        self._lost += 1
        return False

    async def close(self, timeout_s: float) -> None:
        self._is_closed = True
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def shut_down() -> None:
            self._processor.shutdown()  # type: ignore[no-untyped-call]  # the SDK forgot its annotation
            with contextlib.suppress(RuntimeError):  # we waited no longer, and the loop is gone
                loop.call_soon_threadsafe(done.set)

        # A thread of its own, which nobody waits for at the end of the process: `shutdown` takes up to 30 s, and the
        # loop's executor would be joined.
        threading.Thread(target=shut_down, name="telemetry-shutdown", daemon=True).start()
        try:
            async with asyncio.timeout(timeout_s):
                await done.wait()
        except TimeoutError:
            _log.warning("telemetry.lost", reason=f"the collector did not take the last spans within {timeout_s:.1f} s")


class _GivenIds(IdGenerator):
    """The ids of the span that is made next: ours are derived, not drawn."""

    next: Place

    def generate_span_id(self) -> int:
        return self.next.span_id

    def generate_trace_id(self) -> int:
        return self.next.trace_id


class _Reporting(SpanExporter):
    """Says once that spans do not arrive, and once that they do again. Runs on the sending thread."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self.begun = 0
        """Spans taken out of the queue, sent or not."""
        self._is_down = False
        self._lost = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.begun += len(spans)
        result = self._inner.export(spans)
        if result is SpanExportResult.SUCCESS:
            if self._is_down:
                _log.info("telemetry.up", lost_spans=self._lost)
            self._is_down, self._lost = False, 0
            return result
        self._lost += len(spans)
        if not self._is_down:
            _log.warning("telemetry.down", reason="the collector takes no spans; they are lost meanwhile")
        self._is_down = True
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._inner.force_flush(timeout_millis)


def _span_context(place: Place) -> SpanContext:
    return SpanContext(
        trace_id=place.trace_id,
        span_id=place.span_id,
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED if place.is_sampled else TraceFlags.DEFAULT),
    )


def _context(place: Place) -> Context:
    return trace.set_span_in_context(NonRecordingSpan(_span_context(place)), Context())


def _nanoseconds(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(microseconds=1) * 1_000
