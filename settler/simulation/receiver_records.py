"""What simulated receivers remember: the truth about webhooks, for the checkers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from settler.domain.ids import EventId

PATH = "/hook"
"""Of every receiver's URL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Processed:
    """A webhook that a receiver acted on."""

    event_id: EventId
    type: str
    body: bytes
    sha256: str
    sent_at: datetime
    """What its timestamp says: by the sender's clock."""
    at: datetime
    """True."""
    answered: int | None
    """The status said afterwards, heard or not; `None`: none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """What must never happen, whatever the network does."""

    at: datetime
    host: str
    """The receiver, or the address, where it was seen."""
    what: str


@dataclass(slots=True, kw_only=True, eq=False)
class Receiver:
    host: str
    addresses: tuple[str, ...]
    secrets: list[str] = field(repr=False)
    """Any of them verifies. Rotated: append the new one."""
    think_s: tuple[float, float]
    """Between these it takes for a request when all is well."""
    processed: list[Processed] = field(default_factory=list)
    """All of them, in order, repeated ones too."""
    first: dict[EventId, Processed] = field(default_factory=dict)
    """By event id, what was processed first."""
    times: Counter[EventId] = field(default_factory=Counter)
    """By event id, how often it was processed."""
    failed: Counter[EventId] = field(default_factory=Counter)
    """By event id, how many attempts ended without having heard of success: by what was told, not by what the sender
    made of it."""
    answered: Counter[int] = field(default_factory=Counter)
    faults: dict[str, float] = field(default_factory=dict)
    """Probabilities, per look-up, connect or request."""
    bound_to: list[str] | None = None
    """What its name means at the next look-up, and then no more."""

    @property
    def url(self) -> str:
        return f"http://{self.host}{PATH}"
