"""The tracer that everybody is given: silent, or live."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import Protocol

from structlog.contextvars import bound_contextvars

from settler.clock import Clock
from settler.tracing.places import Place, derived_place, is_sampled
from settler.tracing.spans import Kind, Sink, Span, Value

CALLS_MAX = 200
"""Calls told of in one piece of work; those of a long catching-up are alike anyhow."""


class Work:
    """Something under way that takes time: a tick, a request. What is told of it is told when it has ended."""

    def __init__(self, *, name: str, kind: Kind, place: Place, parent: Place | None, start: datetime) -> None:
        self.place = place
        self.name = name
        """May be changed until it ends."""
        self.error: str | None = None
        self.is_kept = True
        """Whether it is told of at all: most ticks find nothing, and are not."""
        self.attributes: dict[str, Value] = {}
        self.calls_left_out = 0
        self._kind: Kind = kind
        self._parent = parent
        self._start = start
        self._calls: list[Span] = []

    def add_call(self, call: Span) -> None:
        if len(self._calls) < CALLS_MAX:
            self._calls.append(call)
        else:
            self.calls_left_out += 1

    def spans(self, end: datetime) -> list[Span]:
        """Its own, and those of the calls made in it."""
        left_out: dict[str, Value] = {"settler.calls_left_out": self.calls_left_out} if self.calls_left_out else {}
        own = Span(
            name=self.name,
            place=self.place,
            parent=self._parent,
            start=self._start,
            end=max(self._start, end),
            kind=self._kind,
            attributes={**self.attributes, **left_out},
            error=self.error,
        )
        return [own, *self._calls]


_current: ContextVar[Work | None] = ContextVar("settler_work", default=None)


def current_work() -> Work | None:
    """What this task is doing, if that is traced."""
    return _current.get()


class Tracer(Protocol):
    @property
    def is_on(self) -> bool: ...

    def derived(self, story: str, *parts: str) -> Place:
        """A place that is the same in every process (`settler.tracing.places.derived_place`)."""
        ...

    def work(
        self, name: str, *, kind: Kind = "internal", parent: Place | None = None
    ) -> AbstractContextManager[Work | None]:
        """A piece of work, ended with the block. `None` where nothing is traced. Log lines inside carry its ids."""
        ...

    def call(self, name: str, seconds: float, attributes: Mapping[str, Value], *, error: str | None = None) -> None:
        """A call to somebody else ended just now, for the work under way; without one it is not told of."""
        ...

    def tell(self, span: Span) -> None:
        """A span made elsewhere."""
        ...

    async def close(self, timeout_s: float) -> None:
        """Sends what was told of, for at most `timeout_s`."""
        ...


class _Silent:
    """Traces nothing."""

    is_on = False

    def derived(self, story: str, *parts: str) -> Place:
        return derived_place(story, *parts, ratio=0.0)

    def work(
        self, name: str, *, kind: Kind = "internal", parent: Place | None = None
    ) -> AbstractContextManager[Work | None]:
        return nullcontext()

    def call(self, name: str, seconds: float, attributes: Mapping[str, Value], *, error: str | None = None) -> None:
        pass

    def tell(self, span: Span) -> None:
        pass

    async def close(self, timeout_s: float) -> None:
        pass


SILENT: Tracer = _Silent()


class LiveTracer:
    """Tells a sink."""

    is_on = True

    def __init__(self, sink: Sink, *, clock: Clock, ratio: float, entropy: Callable[[int], bytes]) -> None:
        """`ratio`: of traces that are kept, 0 .. 1. `entropy`: that many bytes, for ids that nothing derives."""
        self._sink = sink
        self._clock = clock
        self._ratio = ratio
        self._entropy = entropy

    def derived(self, story: str, *parts: str) -> Place:
        return derived_place(story, *parts, ratio=self._ratio)

    @contextmanager
    def work(self, name: str, *, kind: Kind = "internal", parent: Place | None = None) -> Iterator[Work]:
        place = self._new_place(parent)
        work = Work(name=name, kind=kind, place=place, parent=parent, start=self._clock.now())
        token = _current.set(work)
        try:
            with bound_contextvars(trace_id=place.trace_hex, span_id=place.span_hex):
                yield work
        finally:
            _current.reset(token)
            if work.is_kept:
                for span in work.spans(self._clock.now()):
                    self.tell(span)

    def call(self, name: str, seconds: float, attributes: Mapping[str, Value], *, error: str | None = None) -> None:
        work = _current.get()
        if work is None:
            return
        end = self._clock.now()
        work.add_call(
            Span(
                name=name,
                place=self._new_place(work.place),
                parent=work.place,
                start=end - timedelta(seconds=max(0.0, seconds)),
                end=end,
                kind="client",
                attributes=attributes,
                error=error,
            )
        )

    def tell(self, span: Span) -> None:
        if span.place.is_sampled:
            self._sink.take(span)

    async def close(self, timeout_s: float) -> None:
        await self._sink.close(timeout_s)

    def _new_place(self, parent: Place | None) -> Place:
        """In the parent's trace, and kept if that is; else in a trace of its own."""
        span_id = int.from_bytes(self._entropy(8)) or 1
        if parent is not None:
            return Place(trace_id=parent.trace_id, span_id=span_id, is_sampled=parent.is_sampled)
        trace_id = int.from_bytes(self._entropy(16)) or 1
        return Place(trace_id=trace_id, span_id=span_id, is_sampled=is_sampled(trace_id, self._ratio))
