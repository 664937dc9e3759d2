"""Words of the operator's pages: what was done, how long ago, which colour a state has, and strangers' text made
harmless.

What strangers wrote (references, metadata, token symbols, what nodes and endpoints answered) is escaped by the
templates as all text is; here it also loses the characters that move a cursor or turn the direction in which it is
read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from settler.logs import escape_controls

if TYPE_CHECKING:
    from settler.api.pages.ops_visit import Refused

DONE: Mapping[str, str] = {
    "assigned": "The transfer counts for the invoice now.",
    "assigned_settled": "The transfer counts for the invoice, and the invoice is settled.",
    "dismissed": "The transfer is dismissed. Its money stays in suspense, and can still be assigned.",
    "canceled": "The invoice is canceled.",
    "marked": "The invoice is marked as settled.",
    "held": "The invoice is on hold: it settles no more until the hold is released.",
    "released": "The hold is released.",
    "released_settled": "The hold is released, and its invoice is settled.",
    "retried": "The delivery is due now: it is sent again within seconds.",
    "replayed": "The endpoint's dead letters are due now: they are sent again one after the other.",
    "replayed_part": "The first 1,000 dead letters of the endpoint are due now. There are more: send again later.",
    "nothing_replayed": "There was no dead letter to send again.",
}
"""By the code that a page's address carries."""

MAX_CHARS = 10_000
"""Of one value; nothing that is stored is longer but by a mistake."""

MANY = 100
"""Payments or holds shown of one invoice: whoever likes can send it a thousand grains of dust."""

_TONES: Mapping[str, str] = {
    "settled": "good",
    "final": "good",
    "delivered": "good",
    "invoice": "good",
    "released": "neutral",
    "processing": "info",
    "detected": "info",
    "pending": "info",
    "held": "warn",
    "unmatched": "warn",
    "underpaid": "warn",
    "overpaid": "info",
    "late": "warn",
    "on_hold": "warn",
    "marked": "neutral",
    "reversed": "bad",
    "orphaned": "bad",
    "dead": "bad",
}


def plain(value: Any) -> Any:
    """The same value with all text in it made harmless."""
    match value:
        case str():
            return escape_controls(value if len(value) <= MAX_CHARS else value[: MAX_CHARS - 1] + "…")
        case Mapping():
            return {plain(name): plain(each) for name, each in value.items()}
        case list() | tuple():
            return [plain(each) for each in value]
        case _:
            return value


def plain_refusal(refused: Refused) -> Refused:
    return replace(refused, problems=tuple(plain(list(refused.problems))), fields=plain(refused.fields))


def tone(state: str) -> str:
    """The colour of a badge that says so."""
    return _TONES.get(state, "neutral")


def words(code: str) -> str:
    """`no_invoice` as `no invoice`."""
    return code.replace("_", " ")


def one_line(value: Any) -> str:
    """A JSON value as text; a string as it is."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def short(text: str, chars: int = 14) -> str:
    """The two ends of a hash or id."""
    return text if len(text) <= chars else f"{text[: chars - 5]}…{text[-4:]}"


def is_web(url: str) -> bool:
    """Whether a link may lead there."""
    return url.startswith(("https://", "http://"))


def clock_text(time: str) -> str:
    """`2026-03-01T12:00:00Z` as `2026-03-01 12:00:00 UTC`."""
    return datetime.fromisoformat(time).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def ago(time: str, now: datetime) -> str:
    """How long before `now`; a future time is `now`."""
    return lasting((now - datetime.fromisoformat(time)).total_seconds())


def lasting(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h`, `5 d`: rounded down, one unit."""
    whole = max(0, int(seconds))
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if whole >= length:
            return f"{whole // length:,}\N{NO-BREAK SPACE}{unit}"
    return f"{whole}\N{NO-BREAK SPACE}s"
