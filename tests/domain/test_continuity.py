from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chains.model import BlockHash, BlockNumber, BlockRef
from settler.domain.continuity import Behind, Extends, Foreign, Forked, compare
from tests.domain.samples import T0


def block(number: int, fork: str = "a") -> BlockRef:
    """The block of a height on a fork; parents are not looked at."""
    name = BlockHash(f"{fork}{number}".encode().ljust(32, b"\0"))
    return BlockRef(number=BlockNumber(number), hash=name, parent_hash=BlockHash(bytes(32)), time=T0)


def test_compare__same_newest__extends() -> None:
    ours = [block(1), block(2)]
    assert compare(ours, {b.number: b for b in ours}) == Extends()


def test_compare__node_lacks_our_newest__is_behind() -> None:
    assert compare([block(1), block(2)], {BlockNumber(1): block(1), BlockNumber(2): None}) == Behind()


def test_compare__nothing_held__is_a_bug() -> None:
    with pytest.raises(AssertionError):
        compare([], {})


@given(
    heights=st.lists(st.integers(0, 60), min_size=1, unique=True).map(sorted),
    forked_above=st.integers(-1, 60),
    head=st.integers(0, 60),
)
def test_compare__is_what_a_model_of_a_fork_says(heights: list[int], forked_above: int, head: int) -> None:
    """The node has our blocks up to `forked_above`, others above it, and nothing above its head."""
    ours = [block(n) for n in heights]
    theirs = {
        BlockNumber(n): None if n > head else block(n) if n <= forked_above else block(n, fork="b") for n in heights
    }
    found = compare(ours, theirs)
    shared = [n for n in heights if n <= min(forked_above, head)]
    if heights[-1] > head:
        assert found == Behind()
    elif heights[-1] <= forked_above:
        assert found == Extends()
    elif shared:
        assert found == Forked(ancestor=block(shared[-1]))
    else:
        assert found == Foreign()
