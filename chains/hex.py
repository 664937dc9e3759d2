"""0x-hex of a node's answer to integers and bytes, strictly. Pure.

Whatever is not exactly what the execution API says raises `NodeInconsistent` naming the field: nothing is guessed,
padded or truncated. https://ethereum.github.io/execution-apis (QUANTITY and DATA).
"""

from __future__ import annotations

import re

from chains.errors import NodeInconsistent

UINT64_MAX = 2**64 - 1
"""Heights, log indices and timestamps are uint64 in every client."""

_SHOWN_CHARS = 24
"""How much of a bad value a message repeats."""

_HEX_DIGITS = re.compile(r"[0-9a-fA-F]*", re.ASCII)


def read_quantity(text: str, field: str, *, maximum: int = UINT64_MAX) -> int:
    """The integer of `0x…` hex. Leading zeros are taken (some nodes pad), an empty `0x` is not."""
    if len(text) < 3 or not text.startswith("0x") or len(text) > 66 or not _is_hex(text):
        raise NodeInconsistent(f"{field}: expected a 0x quantity, got {_shown(text)}")
    number = int(text, 16)
    if number > maximum:
        raise NodeInconsistent(f"{field}: {_shown(text)} is beyond {maximum}")
    return number


def read_bytes(text: str, field: str, size: int) -> bytes:
    """Exactly `size` bytes of `0x…` hex."""
    try:
        raw = bytes.fromhex(text[2:])
    except ValueError:
        raw = b""
    # its length again: `fromhex` passes over blanks
    if len(raw) != size or len(text) != 2 + 2 * size or not text.startswith("0x"):
        raise NodeInconsistent(f"{field}: expected {size} bytes of 0x hex, got {_shown(text)}")
    return raw


def read_hash(text: str, field: str) -> bytes:
    """A 32-byte hash."""
    return read_bytes(text, field, 32)


def to_quantity(number: int) -> str:
    """`0x…` without leading zeros, as the execution API wants it."""
    return hex(number)


def to_hex(raw: bytes) -> str:
    """`0x…` in lower case."""
    return "0x" + raw.hex()


def _is_hex(text: str) -> bool:
    """`int(…, 16)` also takes what JSON-RPC does not: `_`, spaces, a sign."""
    return _HEX_DIGITS.fullmatch(text, 2) is not None


def _shown(text: str) -> str:
    return ascii(text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…")
