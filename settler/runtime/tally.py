"""Counts and traces RPC calls for the tick that makes them, whichever task of the tick does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from chains.rpc import CallObserver
from settler.tracing import SILENT, Tracer


class Tally:
    """How many calls one tick made."""

    def __init__(self) -> None:
        self.calls = 0


_current: ContextVar[Tally | None] = ContextVar("settler_tally", default=None)


@contextmanager
def counting() -> Iterator[Tally]:
    """Counts the calls made inside, by this task and those it starts."""
    tally = Tally()
    token = _current.set(tally)
    try:
        yield tally
    finally:
        _current.reset(token)


class TallyingObserver:
    """Passes calls of one provider on, and counts them for the tick under way."""

    def __init__(self, inner: CallObserver, *, provider: str = "", tracer: Tracer = SILENT) -> None:
        """`provider`: its host."""
        self._inner = inner
        self._provider = provider
        self._tracer = tracer

    def on_call(self, method: str, outcome: str, seconds: float) -> None:
        tally = _current.get()
        if tally is not None:
            tally.calls += 1
        if self._tracer.is_on:
            self._tracer.call(
                f"rpc {method}",
                seconds,
                {
                    "rpc.system": "jsonrpc",
                    "rpc.method": method,
                    "server.address": self._provider,
                    "settler.outcome": outcome,
                },
                error=None if outcome == "ok" else outcome,
            )
        self._inner.on_call(method, outcome, seconds)
