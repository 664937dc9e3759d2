"""Counts RPC calls for the tick that makes them, whichever task of the tick does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from chains.rpc import CallObserver


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
    """Passes calls on and counts them for the tick under way."""

    def __init__(self, inner: CallObserver) -> None:
        self._inner = inner

    def on_call(self, method: str, outcome: str, seconds: float) -> None:
        tally = _current.get()
        if tally is not None:
            tally.calls += 1
        self._inner.on_call(method, outcome, seconds)
