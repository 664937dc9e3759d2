"""The audit log: what operators did, each row chained to the one before by SHA-256. Pure.

Whoever changes, takes out, inserts or reorders a row breaks the chain from there on, unless he writes every later row
anew; the newest hash, kept elsewhere, shows that as well.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

BEGINNING = bytes(32)
"""What the first row is chained to."""


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
