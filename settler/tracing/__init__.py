"""Traces: how long things took and what they led to, for OpenTelemetry's collectors to show. Off unless configured.

Promises: off, it costs an attribute look-up and imports nothing of OpenTelemetry; on, it blocks nobody: a collector
that is down, slow or hanging costs spans and never a payment; nothing is told of what was rolled back. A payment has
one trace from its invoice to its last webhook, though many ticks, restarts and processes carry it: the trace's id is
derived from the invoice's, so that everybody finds it and nobody stores it.

A leaf: any layer but `domain` may use it, and it knows none of them. What does not belong here: which state change is
which span (`settler.stages.payment_traces`).

    places     where a span stands: trace id and span id; W3C traceparent
    spans      a finished span; what takes it
    tracer     `Tracer`, its silent default, and `Work`: something under way that takes time
    otel       spans into OpenTelemetry's SDK and OTLP: the only module that imports it

What attributes may hold: ids of ours (invoice, transfer, settlement, event, endpoint, delivery), chain, token symbol,
amounts as strings, block numbers, statuses, counts. Never: addresses of payers or receivers, transaction hashes (they
lead to the payer), references and metadata (a merchant's words about a customer), URLs and their paths, keys.
"""

from settler.tracing.places import Place, derived_place, parse_traceparent
from settler.tracing.spans import Kind, Sink, Span, Value
from settler.tracing.tracer import SILENT, LiveTracer, Tracer, Work, current_work

__all__ = [
    "SILENT",
    "Kind",
    "LiveTracer",
    "Place",
    "Sink",
    "Span",
    "Tracer",
    "Value",
    "Work",
    "current_work",
    "derived_place",
    "parse_traceparent",
]
