"""Tracer, limits and bounds, built from the settings."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from settler import __version__
from settler.api.connections import Bounds
from settler.api.limits import NO_LIMITS, Limits
from settler.clock import Clock
from settler.config import ApiSettings, TelemetrySettings
from settler.tracing import SILENT, LiveTracer, Tracer

FLUSH_AT_LEAST_S = 0.2
"""For the last spans, however long the rest took to end."""
FLUSH_AT_MOST_S = 2.0
"""A collector that hangs must not make a stop long that has nothing else to wait for."""


@asynccontextmanager
async def tracing(
    settings: TelemetrySettings, *, clock: Clock, entropy: Callable[[int], bytes], left_s: Callable[[], float]
) -> AsyncIterator[Tracer]:
    """The tracer, silent unless a collector is configured; sends its last spans at the end.

    `left_s`: what is left of the drain then.
    """
    if settings.otlp_endpoint is None:
        yield SILENT
        return
    # the extra `otel`; that it is there was checked with the configuration
    from settler.tracing.otel import OtelSink

    sink = OtelSink(settings.otlp_endpoint, service_name=settings.service_name, version=__version__)
    tracer = LiveTracer(sink, clock=clock, ratio=settings.sample_ratio, entropy=entropy)
    try:
        yield tracer
    finally:
        await tracer.close(min(FLUSH_AT_MOST_S, max(FLUSH_AT_LEAST_S, left_s())))


def limits_of(api: ApiSettings, clock: Clock) -> Limits:
    if api.auth == "none":  # one machine, and nobody to be told apart
        return NO_LIMITS
    return Limits(
        rate_per_s=api.rate_limit_rps,
        burst=api.rate_limit_burst,
        monotonic=clock.monotonic,
        proxies=api.trusted_proxies,
    )


def bounds_of(api: ApiSettings) -> Bounds:
    return Bounds(
        max_connections=api.max_connections,
        max_per_address=api.max_connections_per_address,
        proxies=api.trusted_proxies,
    )
