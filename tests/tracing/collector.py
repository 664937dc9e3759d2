"""A collector of traces: takes OTLP over HTTP and keeps the spans, or misbehaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1 import trace_pb2


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A span as it arrived."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    attributes: dict[str, Any]
    links: tuple[tuple[str, str], ...]
    """(trace id, span id)"""
    start_ns: int
    end_ns: int
    is_error: bool
    service: str


@dataclass(kw_only=True)
class Collector:
    url: str = ""
    spans: list[Seen] = field(default_factory=list)
    status: int = 200
    hangs: bool = False
    requests: int = 0
    came: asyncio.Event = field(default_factory=asyncio.Event)
    """Set at each request."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def named(self, name: str) -> list[Seen]:
        return [span for span in self.spans if span.name == name]

    def of_trace(self, trace_id: str) -> dict[str, Seen]:
        """By name; of several, the last."""
        return {span.name: span for span in self.spans if span.trace_id == trace_id}

    async def take(self, request: web.Request) -> web.Response:
        self.requests += 1
        self.came.set()
        if self.hangs:
            await self.ended.wait()
        assert request.content_type == "application/x-protobuf"
        if self.status == 200:
            self.spans += _spans(await request.read())
        return web.Response(status=self.status, content_type="application/x-protobuf")


@asynccontextmanager
async def collecting(**how: Any) -> AsyncIterator[Collector]:
    collector = Collector(**how)
    app = web.Application()
    app.router.add_post("/v1/traces", collector.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    collector.url = f"http://{host}:{port}/v1/traces"
    try:
        yield collector
    finally:
        collector.ended.set()
        await runner.cleanup()


def _spans(body: bytes) -> list[Seen]:
    request = ExportTraceServiceRequest()
    request.ParseFromString(body)
    return [
        Seen(
            name=span.name,
            trace_id=span.trace_id.hex(),
            span_id=span.span_id.hex(),
            parent_id=span.parent_span_id.hex(),
            kind=span.kind,
            attributes={pair.key: _value(pair.value) for pair in span.attributes},
            links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
            start_ns=span.start_time_unix_nano,
            end_ns=span.end_time_unix_nano,
            is_error=span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
            service=next(_value(p.value) for p in of.resource.attributes if p.key == "service.name"),
        )
        for of in request.resource_spans
        for scope in of.scope_spans
        for span in scope.spans
    ]


def _value(value: AnyValue) -> Any:
    return getattr(value, str(value.WhichOneof("value")))
