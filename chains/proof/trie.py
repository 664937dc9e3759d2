"""The Merkle-Patricia trie of a block's receipts or transactions: value i under the key rlp(i). Pure.

Only what such a trie can be, which is less than the general one: no key begins another (so a branch holds no value),
nothing is ever removed, and values have 32 bytes or more (so every node is named by its hash). A receipt has at least
the 256 bytes of its bloom. Ethereum yellow paper, appendix D.

    path(5) of a block of 200:  branch ──0──▶ branch ──5──▶ leaf     3 nodes, keys 01 .. 7f, 80 (of 0), 8180 .. 81c7
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from chains.proof.keccak import keccak
from chains.proof.rlp import Item, Malformed, decode, encode_bytes, encode_int, encode_list

EMPTY_ROOT = keccak(b"\x80")
"""The root of no values at all."""
MIN_VALUE_BYTES = 32

_NO_CHILD = b"\x80"
_HASH_SIZE = 32
_BRANCH_ITEMS = 17
_NIBBLES = "0123456789abcdef"
_LEAF_FLAG = 0x20
_ODD_FLAG = 0x10


@dataclass(frozen=True, slots=True, kw_only=True)
class Trie:
    root: bytes
    """32 bytes."""
    nodes: dict[str, bytes] = field(repr=False)
    """The encoding of each node, by the nibbles that lead to it."""

    def path(self, index: int) -> tuple[bytes, ...]:
        """The nodes from the root to value `index`, which the last one, a leaf, contains."""
        key = key_of(index)
        return tuple(self.nodes[key[:depth]] for depth in range(len(key) + 1) if key[:depth] in self.nodes)


def build(values: Sequence[bytes]) -> Trie:
    """The trie of these values, in order. Raises `ValueError` for one that is shorter than `MIN_VALUE_BYTES`."""
    if not values:
        return Trie(root=EMPTY_ROOT, nodes={})
    if min(map(len, values)) < MIN_VALUE_BYTES:
        raise ValueError(f"a value shorter than {MIN_VALUE_BYTES} bytes")
    nodes: dict[str, bytes] = {}
    entries = sorted((key_of(index), value) for index, value in enumerate(values))
    return Trie(root=_add(entries, 0, nodes), nodes=nodes)


def value_at(
    root: bytes,
    index: int,
    path: Sequence[bytes],
    *,
    hash_of: Callable[[bytes], bytes] = keccak,
    decoded: Callable[[bytes], Item] = decode,
) -> bytes:
    """The value under `index` in the trie of this root, as the nodes of `path` show. Raises `Malformed` unless each
    node has the hash that the one before names, and the last is the leaf of exactly this index.

    `hash_of`, `decoded`: `keccak` and `rlp.decode`, or ones that remember what those said of the very same bytes.
    """
    key, expected = key_of(index), root
    for position, node in enumerate(path):
        if hash_of(node) != expected:
            raise Malformed(f"node {position} of the path has another hash than the node before it names")
        items = decoded(node)
        if isinstance(items, list) and len(items) == _BRANCH_ITEMS and key:
            expected, key = _hash(items[int(key[0], 16)]), key[1:]
            continue
        nibbles, is_leaf, last = _short(items)
        if not key.startswith(nibbles):
            raise Malformed(f"node {position} of the path leads elsewhere")
        key = key[len(nibbles) :]
        if not is_leaf:
            expected = _hash(last)
        elif key or position + 1 != len(path) or not isinstance(last, bytes):
            raise Malformed("the path ends at another value")
        else:
            return last
    raise Malformed("the path ends before a value")


@functools.lru_cache(maxsize=4096)
def key_of(index: int) -> str:
    """The nibbles of rlp(index), as hex digits."""
    return encode_int(index).hex()


# -- nodes -------------------------------------------------------------------------------------------------------------


def _add(entries: list[tuple[str, bytes]], depth: int, nodes: dict[str, bytes]) -> bytes:
    """The hash of the node of these entries, sorted by key, which share their first `depth` nibbles. Adds it and all
    below it to `nodes`."""
    first, value = entries[0]
    if len(entries) == 1:
        node = encode_list((_hex_prefix(first[depth:], _LEAF_FLAG), encode_bytes(value)))
    elif (shared := _shared(first, entries[-1][0], depth)) > depth:
        child = _add(entries, shared, nodes)
        node = encode_list((_hex_prefix(first[depth:shared], 0), b"\xa0" + child))
    else:
        node = encode_list(_branch(entries, depth, nodes))
    nodes[first[:depth]] = node
    return keccak(node)


def _branch(entries: list[tuple[str, bytes]], depth: int, nodes: dict[str, bytes]) -> list[bytes]:
    below: dict[str, list[tuple[str, bytes]]] = {}
    for entry in entries:
        below.setdefault(entry[0][depth], []).append(entry)
    children = [
        b"\xa0" + _add(below[nibble], depth + 1, nodes) if nibble in below else _NO_CHILD for nibble in _NIBBLES
    ]
    return [*children, _NO_CHILD]


def _shared(first: str, last: str, depth: int) -> int:
    """How many nibbles sorted keys have in common: what their first and last have."""
    while depth < len(first) and depth < len(last) and first[depth] == last[depth]:
        depth += 1
    return depth


@functools.lru_cache(maxsize=1024)
def _hex_prefix(nibbles: str, flag: int) -> bytes:
    """Nibbles packed into bytes, leaf or extension and odd or even in the first nibble; encoded."""
    if len(nibbles) % 2:
        return encode_bytes(bytes.fromhex(f"{(flag | _ODD_FLAG) >> 4:x}{nibbles}"))
    return encode_bytes(bytes.fromhex(f"{flag:02x}{nibbles}"))


def _short(items: Item) -> tuple[str, bool, Item]:
    """The nibbles, the kind and the second item of a leaf or an extension."""
    if not isinstance(items, list) or len(items) != 2 or not isinstance(items[0], bytes) or not items[0]:
        raise Malformed("a node that is neither branch, extension nor leaf")
    packed = items[0].hex()
    flag = items[0][0] & 0xF0
    if flag & ~(_LEAF_FLAG | _ODD_FLAG) or (not flag & _ODD_FLAG and packed[1] != "0"):
        raise Malformed("a node with an unknown flag")
    return packed[1 if flag & _ODD_FLAG else 2 :], bool(flag & _LEAF_FLAG), items[1]


def _hash(item: Item) -> bytes:
    if not isinstance(item, bytes) or len(item) != _HASH_SIZE:
        raise Malformed("a node that names no child by hash where the path leads")
    return item
