"""The trie's roots and paths against the plain implementation."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chains.proof import trie
from chains.proof.rlp import Malformed
from tests.chains.proof.reference import trie_root

SIZES = (0, 1, 2, 3, 10, 15, 16, 17, 18, 111, 112, 113, 127, 128, 129, 130, 144, 200, 255, 256, 257, 300, 1000)
"""Where the shape of rlp(index) changes, and around it."""


def values_of(count: int, seed: int = 1) -> list[bytes]:
    chance = random.Random(seed)
    return [chance.randbytes(chance.randint(32, 80)) for _ in range(count)]


@pytest.mark.parametrize("count", SIZES)
def test_build__so_many_values__equals_the_reference(count: int) -> None:
    values = values_of(count)
    built = trie.build(values)
    assert built.root == trie_root(values)
    for index in range(count):
        assert trie.value_at(built.root, index, built.path(index)) == values[index]


@settings(deadline=None)
@given(st.lists(st.binary(min_size=32, max_size=90), max_size=40))
def test_build__any_values__equals_the_reference(values: list[bytes]) -> None:
    assert trie.build(values).root == trie_root(values)


def test_build__a_short_value__is_refused() -> None:
    """It would stand inside its parent, which this trie does not know."""
    with pytest.raises(ValueError):
        trie.build([b"a" * 31])


@settings(deadline=None)
@given(st.integers(1, 300), st.data())
def test_value_at__another_index__is_refused(count: int, data: st.DataObject) -> None:
    values = values_of(count)
    index, other = data.draw(st.integers(0, count - 1)), data.draw(st.integers(0, count + 40))
    built = trie.build(values)
    if other == index:
        return
    with pytest.raises(Malformed):
        trie.value_at(built.root, other, built.path(index))


@settings(deadline=None)
@given(st.integers(1, 300), st.data())
def test_value_at__any_altered_byte__is_refused(count: int, data: st.DataObject) -> None:
    built = trie.build(values_of(count))
    index = data.draw(st.integers(0, count - 1))
    path = list(built.path(index))
    node = data.draw(st.integers(0, len(path) - 1))
    at = data.draw(st.integers(0, len(path[node]) - 1))
    path[node] = path[node][:at] + bytes([path[node][at] ^ data.draw(st.integers(1, 255))]) + path[node][at + 1 :]
    with pytest.raises(Malformed):
        trie.value_at(built.root, index, path)


@pytest.mark.parametrize("count", [1, 2, 17, 200])
def test_value_at__path_cut_or_lengthened__is_refused(count: int) -> None:
    built = trie.build(values_of(count))
    path = built.path(count - 1)
    for wrong in ((), path[:-1], path[1:], (*path, path[-1]), (path[0], *path)):
        with pytest.raises(Malformed):
            trie.value_at(built.root, count - 1, wrong)
