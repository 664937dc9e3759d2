"""What the daemon has of the world beyond its settings. The simulation gives it another world; all else stays."""

from __future__ import annotations

import random
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from chains.post import HttpSession
from settler.clock import Clock, SystemClock
from settler.runtime.memory import give_back
from settler.storage.engine import Database
from settler.webhook.send import HttpSender, WebhookSender


class ClosableSender(WebhookSender, Protocol):
    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Cadence:
    """How often the loops tick whose pace is not a chain's poll, in seconds."""

    lease_s: float = 1.0
    """Between two looks at who leads which chain; every other one renews, and a leader that nobody has seen renew over
    eight is replaced (`settler.domain.leading`).
    """
    expire_s: float = 2.0
    dispatch_s: float = 0.5
    gauges_s: float = 5.0
    place_s: float = 5.0
    """Whoever reads the feed places what is new himself; this keeps the first such reader's work small."""
    note_s: float = 60.0
    """How fresh "last used" of an API key is."""
    tidy_s: float = 600.0
    announced_s: float = 600.0
    """Between two looks at what tokens announced while nobody pays; before a payment settles it is read anyhow. Two
    calls each time, and never so many blocks behind that a payment waits for reading them."""


def _sender(clock: Clock, *, allow_private: bool) -> ClosableSender:
    return HttpSender(clock=clock, allow_private=allow_private)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """The defaults are the real world."""

    clock: Clock = field(default_factory=SystemClock)
    open_database: Callable[[str], Awaitable[Database]] = Database.open
    """By its URL. Raises as `Database.open` does."""
    make_sender: Callable[..., ClosableSender] = _sender
    """(clock, allow_private=). Called inside the running loop."""
    rpc_session: HttpSession | None = None
    """For all providers over HTTP; `None`: each has its own connections."""
    jitter: random.Random = field(default_factory=random.Random)
    """Spreads retries, keeps no secret."""
    entropy: Callable[[int], bytes] = secrets.token_bytes
    give_back: Callable[[], None] = give_back
    """Memory that is held free, to the system."""
    cadence: Cadence = Cadence()
    serves_api: bool = True
