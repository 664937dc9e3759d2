"""Recursive-length prefix: the bytes that headers, trie nodes and receipts are hashed as. Pure.

Encoders take what is already encoded and join it, so that nothing is encoded twice; the decoder is strict: each value
has exactly one encoding, and whatever is not that is refused. Ethereum yellow paper, appendix B;
https://ethereum.org/en/developers/docs/data-structures-and-encoding/rlp/
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import TypeAlias

Item: TypeAlias = "bytes | list[Item]"

MAX_DEPTH = 8
"""Lists in lists: a receipt has four levels. More is an attempt on the stack."""

_STRING = 0x80
_LIST = 0xC0
_SHORT = 55
"""The longest payload whose length fits the first byte."""


class Malformed(ValueError):
    """Not RLP, or not its only form. Caught by whoever reads evidence, and turned into `ProofFailed`."""


def encode_bytes(raw: bytes) -> bytes:
    if len(raw) == 1 and raw[0] < _STRING:
        return raw
    return prefix(len(raw), _STRING) + raw


def encode_int(number: int) -> bytes:
    """Big-endian without leading zeros; 0 is the empty string."""
    if 0 < number < _STRING:
        return bytes((number,))
    raw = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return bytes((_STRING + len(raw),)) + raw


def encode_list(encoded: Iterable[bytes]) -> bytes:
    """A list of items that are encoded already."""
    payload = b"".join(encoded)
    return prefix(len(payload), _LIST) + payload


@lru_cache(maxsize=4_096)
def prefix(size: int, kind: int = _LIST) -> bytes:
    """What stands before `size` bytes of a list (or, `kind` 0x80, of a string)."""
    if size <= _SHORT:
        return bytes((kind + size,))
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((kind + _SHORT + len(length),)) + length


def decode(raw: bytes) -> Item:
    """The one item that `raw` is: bytes, or a list of items. Raises `Malformed`."""
    item, end = _read(raw, 0, MAX_DEPTH)
    if end != len(raw):
        raise Malformed(f"{len(raw) - end} bytes after the item")
    return item


def _read(raw: bytes, at: int, depth: int) -> tuple[Item, int]:
    """The item at `at`, and where it ends."""
    if depth < 0:
        raise Malformed(f"lists nested more than {MAX_DEPTH} deep")
    if at >= len(raw):
        raise Malformed("an item is missing")
    first = raw[at]
    if first < _STRING:
        return raw[at : at + 1], at + 1
    kind = _LIST if first >= _LIST else _STRING
    start, size = _payload(raw, at, first - kind)
    end = start + size
    if end > len(raw):
        raise Malformed("an item is cut short")
    if kind == _STRING:
        if size == 1 and raw[start] < _STRING:
            raise Malformed("one small byte with a length before it")
        return raw[start:end], end
    items: list[Item] = []
    while start < end:
        size = raw[start] - _STRING
        # most items are short strings, hashes and addresses: a call for each would cost more than reading them
        if 1 < size <= _SHORT and start + size < len(raw):
            items.append(raw[start + 1 : start + 1 + size])
            start += 1 + size
            continue
        item, start = _read(raw, start, depth - 1)
        items.append(item)
    if start != end:
        raise Malformed("an item is longer than the list it stands in")
    return items, end


def _payload(raw: bytes, at: int, head: int) -> tuple[int, int]:
    """Where the payload starts, and its size."""
    if head <= _SHORT:
        return at + 1, head
    start = at + 1 + head - _SHORT
    length = raw[at + 1 : start]
    if len(length) != head - _SHORT or length[0] == 0:
        raise Malformed("a length that is cut short or begins with zero")
    size = int.from_bytes(length, "big")
    if size <= _SHORT:
        raise Malformed("a long length where a short one was due")
    return start, size
