"""A finished span, as plain values, and what takes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

from settler.tracing.places import Place

Kind = Literal["internal", "server", "client"]
Value = str | int | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    name: str
    """Of a small closed set: what kind of thing it was; which one, the attributes say."""
    place: Place
    parent: Place | None
    """`None`: the root of its trace."""
    start: datetime
    end: datetime
    """Not before the start."""
    kind: Kind = "internal"
    attributes: Mapping[str, Value] = field(default_factory=dict)
    links: tuple[Place, ...] = ()
    """What it has to do with in other traces."""
    error: str | None = None
    """A word for what went wrong; `None`: nothing did."""


class Sink(Protocol):
    """Takes spans to where they are looked at."""

    def take(self, span: Span) -> None:
        """Keeps it to be sent. Returns at once and never raises, whatever became of who it is sent to."""
        ...

    async def close(self, timeout_s: float) -> None:
        """Sends what is kept; what could not be sent in `timeout_s` is lost. Nothing is taken afterwards."""
        ...
