"""JSON columns as text, and back: of events and proofs there are several for each payment."""

from __future__ import annotations

import json
from typing import Any

import msgspec

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder()


def to_text(value: object) -> str:
    """The JSON of a value that is made of what JSON has, tuples and enumerations included."""
    try:
        return _encoder.encode(value).decode()
    except (TypeError, ValueError):
        # half a surrogate pair, which JSON can write and UTF-8 cannot: somebody else's words must not stop a settlement
        return json.dumps(value)


def from_text(text: str | bytes) -> Any:
    """What the text says."""
    try:
        return _decoder.decode(text)
    except ValueError:
        # half a surrogate pair, or a number beyond what floats hold
        return json.loads(text)
