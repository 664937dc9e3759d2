"""When a worker may take over a chain: pure, and by no clock.

A leader renews its lease; a standby looks at it again and again. Whether the leader lives follows from the renewals
alone: one that stands still over `STALE_LOOKS` looks of the standby is taken for dead. So neither clocks that differ
nor one that jumps can make two leaders or none, and a database that was away for a while counts against nobody, since a
look that failed is no look. A mistake costs a change of leaders, never money: an older leader's transactions are
refused by the fencing number.

    renewals   7   8   8   8   8   8   8   8   8   8
    look       1   2   3   4   5   6   7   8   9  10     taken at the tenth: unchanged over eight looks
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import assert_never

STALE_LOOKS = 8
"""At one look a second: a leader that was killed is replaced within ten seconds, and one that paused for less stays."""
LOOKS_PER_RENEWAL = 2
"""A renewal that comes late, or three that fail, make nobody leader."""
MOST_PATIENT_LOOKS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRow:
    """A chain's lease as the database has it."""

    holder: str | None
    """The worker that leads; `None`: given back."""
    fencing: int
    renewals: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """What one worker has seen of a lease so far."""

    row: LeaseRow | None
    """`None`: nobody ever led the chain."""
    unchanged_looks: int
    """How many looks before this one showed the very same."""


@dataclass(frozen=True, slots=True)
class Take:
    """Nobody leads: this worker may try to."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Somebody leads, or another worker shall have the first try."""

    is_led: bool


Decision = Take | Wait


def look(before: Sighting | None, row: LeaseRow | None) -> Sighting:
    """The sighting after another look."""
    if before is None or before.row != row:
        return Sighting(row=row, unchanged_looks=0)
    return replace(before, unchanged_looks=before.unchanged_looks + 1)


def decide(seen: Sighting, *, worker: str, is_first_look: bool, chains_led: int) -> Decision:
    """Whether `worker` may take the lease now.

    `is_first_look`: of this process; a lease in its own name is then that of the process before it. `chains_led`: by
    this worker; who leads more waits longer for another free one, so that chains spread over workers that start
    together.
    """
    patience = min(chains_led, MOST_PATIENT_LOOKS)
    match seen.row:
        case None:
            free_looks = seen.unchanged_looks
        case LeaseRow(holder=None):
            free_looks = seen.unchanged_looks
        case LeaseRow(holder=holder) if holder == worker and is_first_look:
            return Take()
        case LeaseRow():
            free_looks = seen.unchanged_looks - STALE_LOOKS
        case never:
            assert_never(never)
    return Take() if free_looks >= patience else Wait(is_led=free_looks < 0)
