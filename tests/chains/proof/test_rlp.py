"""RLP against the plain implementation, and against what is not RLP."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chains.proof import rlp
from tests.chains.proof.reference import rlp_encode

items: st.SearchStrategy[Any] = st.recursive(
    st.binary(max_size=70), lambda inner: st.lists(inner, max_size=5), max_leaves=12
)


@pytest.mark.parametrize(
    ("item", "encoded"),
    [
        (b"", "80"),
        (b"\x00", "00"),
        (b"\x7f", "7f"),
        (b"\x80", "8180"),
        (b"dog", "83646f67"),
        ([], "c0"),
        ([b"cat", b"dog"], "c88363617483646f67"),
        ([[], [[]], [[], [[]]]], "c7c0c1c0c3c0c1c0"),
        (b"a" * 55, "b7" + "61" * 55),
        (b"a" * 56, "b838" + "61" * 56),
    ],
)
def test_decode__yellow_paper_examples(item: rlp.Item, encoded: str) -> None:
    """The examples of the documentation: https://ethereum.org/en/developers/docs/data-structures-and-encoding/rlp/"""
    assert rlp.decode(bytes.fromhex(encoded)) == item
    assert rlp_encode(item) == bytes.fromhex(encoded)


@settings(deadline=None)
@given(st.binary(max_size=600))
def test_encode_bytes__any__equals_the_reference(raw: bytes) -> None:
    assert rlp.encode_bytes(raw) == rlp_encode(raw)
    assert rlp.decode(rlp.encode_bytes(raw)) == raw


@settings(deadline=None)
@given(st.integers(min_value=0, max_value=2**256 - 1))
def test_encode_int__any__equals_the_reference(number: int) -> None:
    assert rlp.encode_int(number) == rlp_encode(number)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=12))
def test_encode_list__any__equals_the_reference(raws: list[bytes]) -> None:
    assert rlp.encode_list(map(rlp.encode_bytes, raws)) == rlp_encode(raws)


@settings(deadline=None)
@given(items)
def test_decode__what_the_reference_encoded__is_the_item(item: rlp.Item) -> None:
    assert rlp.decode(rlp_encode(item)) == item


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_decode__any_bytes__is_refused_or_the_only_encoding(raw: bytes) -> None:
    try:
        item = rlp.decode(raw)
    except rlp.Malformed:
        return
    assert rlp_encode(item) == raw


@pytest.mark.parametrize("encoded", ["", "8100", "b800", "b90001ff", "83aa", "c2aa", "c3b90001", "8080", "f800", "b8"])
def test_decode__not_the_only_form__is_refused(encoded: str) -> None:
    with pytest.raises(rlp.Malformed):
        rlp.decode(bytes.fromhex(encoded))


def test_decode__lists_a_thousand_deep__is_refused_without_recursion() -> None:
    nested: bytes = b""
    for _ in range(1_000):
        nested = rlp.encode_list([nested])
    with pytest.raises(rlp.Malformed, match="deep"):
        rlp.decode(nested)
