from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chains.model import BlockHash, BlockNumber, BlockRef, Tag
from settler.domain.finality import ByTag, Depth, FinalityPolicy, TagFault, final_height, tag_fault
from tests.domain.samples import T0

heights = st.integers(0, 2**40)


def ref(number: int, seconds: float = 0) -> BlockRef:
    return BlockRef(
        number=BlockNumber(number),
        hash=BlockHash(bytes(32)),
        parent_hash=BlockHash(bytes(32)),
        time=T0 + timedelta(seconds=seconds),
    )


@pytest.mark.parametrize(
    ("policy", "head", "tagged", "final"),
    [
        (Depth(blocks=3), 105, None, 102),
        (Depth(blocks=0), 105, None, 105),
        (Depth(blocks=3), 3, None, 0),
        (Depth(blocks=3), 2, None, None),
        (ByTag(tag=Tag.FINALIZED), 105, 73, 73),
        (ByTag(tag=Tag.FINALIZED), 105, None, None),
        (ByTag(tag=Tag.SAFE, min_depth=50), 105, 73, 55),
        (ByTag(tag=Tag.SAFE, min_depth=10), 105, 73, 73),
        (ByTag(tag=Tag.SAFE, min_depth=200), 105, 73, None),
        (ByTag(tag=Tag.SAFE), 105, 110, 105),
    ],
)
def test_final_height__by_policy(policy: FinalityPolicy, head: int, tagged: int | None, final: int | None) -> None:
    assert final_height(policy, head=head, tagged=tagged) == final


@given(blocks=st.integers(0, 1_000), head=heights)
def test_final_height__depth__that_many_blocks_stand_on_it(blocks: int, head: int) -> None:
    final = final_height(Depth(blocks=blocks), head=head, tagged=None)
    assert (final is None) == (head < blocks)
    assert final is None or head - final == blocks


@given(head=heights, tagged=heights, min_depth=st.integers(0, 1_000))
def test_final_height__tag__is_never_above_tag_or_depth(head: int, tagged: int, min_depth: int) -> None:
    final = final_height(ByTag(tag=Tag.SAFE, min_depth=min_depth), head=head, tagged=tagged)
    assert final is None or (final <= tagged and final <= head - min_depth and final >= 0)


@pytest.mark.parametrize(
    ("head", "tagged", "is_instant", "fault"),
    [
        (ref(100, 200), ref(90, 180), False, None),
        (None, ref(90), False, TagFault.MISSING),
        (ref(100), None, False, TagFault.MISSING),
        (ref(100), ref(101), False, TagFault.AHEAD),
        (ref(100), ref(101), True, TagFault.AHEAD),
        (ref(100), ref(100), False, TagFault.EQUALS_HEAD),
        (ref(100), ref(100), True, None),
        (ref(0), ref(0), False, None),
        (ref(100, 600), ref(90, 0), False, None),
        (ref(100, 601), ref(90, 0), False, TagFault.STUCK),
        (ref(100, 601), ref(90, 0), True, TagFault.STUCK),
    ],
)
def test_tag_fault(head: BlockRef | None, tagged: BlockRef | None, is_instant: bool, fault: TagFault | None) -> None:
    assert tag_fault(head=head, tagged=tagged, is_instant=is_instant, stuck_after_s=600) is fault


def test_policy__as_text__is_as_it_is_stored() -> None:
    policies: dict[str, FinalityPolicy] = {
        "eth": ByTag(tag=Tag.FINALIZED, min_depth=50),
        "base": Depth(blocks=12),
        "op": ByTag(tag=Tag.SAFE),
    }
    assert {chain: str(policy) for chain, policy in policies.items()} == {
        "base": "12",
        "eth": "finalized and 50 blocks",
        "op": "safe",
    }
