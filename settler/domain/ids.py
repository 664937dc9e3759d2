"""Ids: a prefix that names the kind and 26 characters, time-ordered (the ULID layout: 48 bits of milliseconds, 80
more).

Derived ids are a function of what they name, so that replaying a stage gives the same ids and writes nothing twice.
"""

from __future__ import annotations

import functools
import hashlib
import re
from datetime import datetime
from typing import NewType

InvoiceId = NewType("InvoiceId", str)
TransferId = NewType("TransferId", str)
SettlementId = NewType("SettlementId", str)
ReversalId = NewType("ReversalId", str)
EventId = NewType("EventId", str)
HoldId = NewType("HoldId", str)
RefundId = NewType("RefundId", str)

_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [first + second for first in _CROCKFORD for second in _CROCKFORD]
"""Two digits at once: ids are made several times for each payment."""
ENTROPY_BYTES = 10
TOKEN_BYTES = 16
"""Of a name that only who was told it knows: 128 bits are not guessed."""
_ID = re.compile(r"[a-z]{2,4}_[0-9a-hjkmnp-tv-z]{26}")
_TOKEN = re.compile(r"[0-9a-hjkmnp-tv-z]{26}")


def make_id(prefix: str, time: datetime, entropy: bytes) -> str:
    """`prefix_` + 26 characters from `time` (milliseconds) and 10 bytes of `entropy`."""
    assert len(entropy) == ENTROPY_BYTES, f"an id needs {ENTROPY_BYTES} bytes, got {len(entropy)}"
    return f"{prefix}_{_time_text(time)}{_half(entropy[:5])}{_half(entropy[5:])}"


def make_token(entropy: bytes) -> str:
    """26 characters that nobody can guess, if nobody can guess the 16 bytes of `entropy`; tells no time."""
    assert len(entropy) == TOKEN_BYTES, f"a token needs {TOKEN_BYTES} bytes, got {len(entropy)}"
    return _text(int.from_bytes(entropy), 130)


def looks_like_token(text: str) -> bool:
    return _TOKEN.fullmatch(text) is not None


def _text(number: int, bits: int) -> str:
    """Base 32, the highest digits first; `bits`: a multiple of 10."""
    return "".join([_PAIRS[(number >> shift) & 1023] for shift in range(bits - 10, -1, -10)])


def _half(entropy: bytes) -> str:
    """As `_text` of 40 bits: numbers that fit a machine word are quick to take apart."""
    n = int.from_bytes(entropy)
    return f"{_PAIRS[n >> 30]}{_PAIRS[n >> 20 & 1023]}{_PAIRS[n >> 10 & 1023]}{_PAIRS[n & 1023]}"


@functools.lru_cache(maxsize=256)
def _time_text(time: datetime) -> str:
    """48 bits in 10 characters: the first has only 3 bits to tell. Many ids are made of one moment."""
    return _text(int(time.timestamp() * 1000), 50)


def derived_id(prefix: str, time: datetime, *parts: object) -> str:
    """The id of the thing that `parts` name; equal parts and time give equal ids."""
    digest = hashlib.sha256("\x1f".join(map(str, (prefix, *parts))).encode()).digest()
    return make_id(prefix, time, digest[:ENTROPY_BYTES])


def looks_like_id(text: str, prefix: str) -> bool:
    return text.startswith(prefix + "_") and _ID.fullmatch(text) is not None
