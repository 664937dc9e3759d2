"""The audit log: what operators did, each row chained to the one before by SHA-256. Pure.

    #  seq 1                seq 2                 seq 3
    #  previous 00…00 ◀──── previous hash(1) ◀─── previous hash(2) ◀── head

Whoever changes, takes out, inserts or reorders a row breaks the chain from there on (`follow` finds where), unless he
writes every later row anew, or takes away the newest ones; the newest hash, kept elsewhere, shows that as well.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

BEGINNING = bytes(32)
"""What the first row is chained to."""
MOVED_AT_MOST = 1_000
"""Places up and down at which a row that does not fit is tried, to tell a reordered row from a changed one: as many
hashes, once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One thing an operator did."""

    seq: int
    """1, 2, 3 …, without gaps."""
    id: str
    at: datetime
    who: str
    action: str
    """Object and verb, e.g. `transfer.assign`."""
    object_id: str
    reason: str
    """In the operator's words."""
    detail: Mapping[str, Any]
    """What was decided, as JSON values."""
    previous_hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A row as it is stored: the action, and the hash that was stored with it."""

    action: Action
    hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The newest row followed so far; `seq` 0 before the first."""

    seq: int
    hash: bytes
    before: bytes | None = None
    """What that row was chained to itself; `None`: not looked at."""

    def __str__(self) -> str:
        """To be kept elsewhere: `SEQ:HASH`."""
        return f"{self.seq}:{self.hash.hex()}"


NOTHING = Head(seq=0, hash=BEGINNING)
"""Where an empty log stands, and from where the first row is followed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flaw:
    """The first row that does not fit, and why not."""

    seq: int
    detail: str


def follow(head: Head, row: Kept) -> Head | Flaw:
    """One step along the chain: `row` is the next that is stored, by seq. What comes after a flaw says nothing."""
    action = row.action
    if action.seq > head.seq + 1:
        last = action.seq - 1
        gone = f"row {last} is" if last == head.seq + 1 else f"rows {head.seq + 1} to {last} are"
        return Flaw(seq=head.seq + 1, detail=f"{gone} missing")
    if action.seq <= head.seq:
        return Flaw(seq=action.seq, detail=f"there is another row {action.seq}")
    is_as_written = action_hash(action) == row.hash
    if not is_as_written and (was := _written_as(row)) is not None:
        return Flaw(seq=action.seq, detail=f"was written as row {was}: the rows were reordered, or some taken out")
    if not is_as_written:
        return Flaw(seq=action.seq, detail="was changed: it does not have the hash that was stored with it")
    if action.previous_hash == head.before:
        return Flaw(seq=action.seq, detail=f"forks the chain: it follows the same row as row {head.seq} does")
    if action.previous_hash != head.hash:
        return Flaw(seq=action.seq, detail=f"does not follow row {head.seq}: that one was replaced, or this one put in")
    return Head(seq=action.seq, hash=row.hash, before=action.previous_hash)


def _written_as(row: Kept) -> int | None:
    """The place for which the row's hash was made, near its own; `None` if there is none: its words were changed."""
    own = row.action.seq
    near = (seq for step in range(1, MOVED_AT_MOST + 1) for seq in (own + step, own - step))
    return next((seq for seq in near if seq > 0 and action_hash(replace(row.action, seq=seq)) == row.hash), None)


def action_hash(action: Action) -> bytes:
    """SHA-256 of the row's canonical JSON (sorted keys, no spaces, UTF-8), the hash of the row before among it."""
    text = json.dumps(
        {
            "seq": action.seq,
            "id": action.id,
            "at": action.at.astimezone(UTC).isoformat(timespec="microseconds"),
            "who": action.who,
            "action": action.action,
            "object_id": action.object_id,
            "reason": action.reason,
            "detail": dict(action.detail),
            "previous_hash": action.previous_hash.hex(),
        },
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
    )
    return hashlib.sha256(text.encode()).digest()
