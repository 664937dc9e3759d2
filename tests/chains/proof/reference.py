"""RLP, the trie and the bloom the plain way, after the yellow paper: slow, general, and written without looking at
`chains.proof`. What the fast code is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from eth_hash.auto import keccak

Nested: TypeAlias = "bytes | int | Sequence[Nested]"


def rlp_encode(item: Nested) -> bytes:
    if isinstance(item, int):
        return rlp_encode(item.to_bytes((item.bit_length() + 7) // 8, "big"))
    if isinstance(item, bytes):
        if len(item) == 1 and item[0] < 0x80:
            return item
        return _length(len(item), 0x80) + item
    payload = b"".join(rlp_encode(each) for each in item)
    return _length(len(payload), 0xC0) + payload


def _length(size: int, offset: int) -> bytes:
    if size < 56:
        return bytes([offset + size])
    digits = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([offset + 55 + len(digits)]) + digits


def trie_root(values: Sequence[bytes]) -> bytes:
    """The root of rlp(index) -> value; nodes below 32 bytes stand in their parents, as in the general trie."""
    pairs = {tuple(_nibbles(rlp_encode(index))): value for index, value in enumerate(values)}
    return keccak(rlp_encode(_node(pairs)))


def _node(pairs: Mapping[tuple[int, ...], bytes]) -> Nested:
    if not pairs:
        return b""
    if len(pairs) == 1:
        [(key, value)] = pairs.items()
        return [_compact(key, is_leaf=True), value]
    shared = 0
    keys = list(pairs)
    while all(len(key) > shared and key[shared] == keys[0][shared] for key in keys):
        shared += 1
    if shared:
        return [_compact(keys[0][:shared], is_leaf=False), _ref({key[shared:]: pairs[key] for key in keys})]
    children = [_ref({key[1:]: pairs[key] for key in keys if key and key[0] == nibble}) for nibble in range(16)]
    return [*children, pairs.get((), b"")]


def _ref(pairs: Mapping[tuple[int, ...], bytes]) -> Nested:
    node = _node(pairs)
    encoded = rlp_encode(node)
    return node if len(encoded) < 32 else keccak(encoded)


def _compact(nibbles: Sequence[int], *, is_leaf: bool) -> bytes:
    flag = 2 if is_leaf else 0
    padded = [flag + 1, *nibbles] if len(nibbles) % 2 else [flag, 0, *nibbles]
    return bytes(16 * padded[at] + padded[at + 1] for at in range(0, len(padded), 2))


def _nibbles(raw: bytes) -> list[int]:
    return [nibble for byte in raw for nibble in (byte >> 4, byte & 15)]


def bloom(logs: Sequence[Mapping[str, object]]) -> bytes:
    """The bloom of logs as JSON-RPC gives them."""
    bits = 0
    for log in logs:
        topics = log["topics"]
        assert isinstance(topics, list)
        for text in [log["address"], *topics]:
            digest = keccak(bytes.fromhex(str(text)[2:]))
            for at in (0, 2, 4):
                bits |= 1 << (int.from_bytes(digest[at : at + 2], "big") & 2047)
    return bits.to_bytes(256, "big")
