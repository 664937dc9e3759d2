"""What a tick tells the loop that ticks it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from settler.storage.chains import ChainState


@dataclass(frozen=True, slots=True)
class Progress:
    has_more: bool
    """There is work left now: tick again without sleeping."""
    is_partial: bool = False
    """Nothing came of it yet, it is to be gone on with: trouble that follows is the trouble of before."""
    chain: ChainState | None = None
    """The row of the chain as it was when this tick read or wrote it last; `None`: to be looked up by who wants it."""
    facts: Mapping[str, int | str] = field(default_factory=dict)
    """Counts and spans for the tick's canonical log line, e.g. `{"span": "100..140", "transfers": 3}`."""
