"""`weigh`: up to where the chain is final, and whether the settled block stands, by what a quorum shows."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chains.errors import ChainError, Disagreement
from chains.model import BlockHash, BlockNumber, BlockRef, ChainId, Tag
from chains.pool import LAGGING_BLOCKS
from settler.domain.finality import ByTag, Depth, FinalityPolicy
from settler.stages.looking import AskOn, Final, Look, Replaced, TagUnusable, weigh
from settler.stages.setup import ChainSetup

START = datetime(2026, 1, 1, tzinfo=UTC)
OURS, OTHER = b"\x01" * 32, b"\x02" * 32
DEPTH = Depth(blocks=3)
FINALIZED = ByTag(tag=Tag.FINALIZED)


def ref(number: int, block_hash: bytes = b"\x09" * 32) -> BlockRef:
    return BlockRef(
        number=BlockNumber(number),
        hash=BlockHash(block_hash),
        parent_hash=BlockHash(bytes(32)),
        time=START + timedelta(seconds=2 * number),
    )


SETTLED = ref(100, OURS)


def setup(quorum: int, finality: FinalityPolicy = DEPTH) -> ChainSetup:
    return ChainSetup(
        name="anvil", chain_id=ChainId(1), tokens=(), finality=finality, start_block="latest", quorum=quorum
    )


def seen(head: int, *, tagged: int | None = None, anchor: bytes | None = OURS) -> Look:
    return Look(
        head=ref(head),
        tagged=None if tagged is None else ref(tagged),
        anchor=None if anchor is None else ref(100, anchor),
    )


def weighed(
    *looks: Look, quorum: int = 2, finality: FinalityPolicy = DEPTH, has_others: bool = False
) -> Final | AskOn | Replaced:
    """Without the head, which `test_any_looks` checks."""
    outcome = _weighed(*looks, quorum=quorum, finality=finality, has_others=has_others)
    return replace(outcome, head=None) if isinstance(outcome, Final) else outcome


def _weighed(*looks: Look, quorum: int, finality: FinalityPolicy, has_others: bool) -> Final | AskOn | Replaced:
    named = dict(zip("abcde", looks, strict=False))
    return weigh(named, chain=setup(quorum, finality), settled=SETTLED, has_others=has_others)


def final(number: int | None, against: str = "") -> Final:
    known = None if number is None else BlockNumber(number)
    return Final(number=known, head=None, block=None, against=tuple(against))


@pytest.mark.parametrize(
    ("heads", "quorum", "number"),
    [
        ([110], 1, 107),
        ([110, 112], 2, 107),
        ([112, 110], 2, 107),
        ([110, 112, 114], 2, 109),
        ([110, 112, 114], 3, 107),
        ([1_000_000, 110, 112], 2, 109),
        ([0, 110, 112], 2, 107),
        ([0, 0, 110], 2, None),
        ([1, 2], 2, None),
        ([110, 1], 2, None),
    ],
)
def test_depth__as_many_as_the_quorum_have_reached_it(heads: list[int], quorum: int, number: int | None) -> None:
    assert weighed(*map(seen, heads), quorum=quorum) == final(number)


def test_too_few_asked__others_are_asked() -> None:
    assert weighed(seen(110), has_others=True) == AskOn()
    assert weighed(has_others=True) == AskOn()


@pytest.mark.parametrize(("behind", "is_enough"), [(LAGGING_BLOCKS, True), (LAGGING_BLOCKS + 1, False)])
def test_one_lags__others_are_asked_while_there_are_any(behind: int, is_enough: bool) -> None:
    looks = (seen(120), seen(120 - behind))
    assert (weighed(*looks, has_others=True) == final(117 - behind)) is is_enough
    assert weighed(*looks) == final(117 - behind)


def test_one_has_no_final_height_yet__others_are_asked() -> None:
    assert weighed(seen(120), seen(2), has_others=True) == AskOn()
    assert weighed(seen(120), seen(2)) == final(None)


def test_the_settled_block_is_not_there__is_a_lag_and_no_news() -> None:
    behind = seen(90, anchor=None)
    assert weighed(seen(110), behind, has_others=True) == AskOn()
    assert weighed(seen(110), behind) == final(None)
    assert weighed(behind, behind) == final(None)
    assert weighed(seen(110), behind, seen(110)) == final(107)


def test_another_block_where_we_settled__by_one__is_told_and_not_counted() -> None:
    foreign = seen(1_000, anchor=OTHER)
    assert weighed(foreign, seen(110), has_others=True) == AskOn()
    assert weighed(foreign, seen(110), seen(111)) == final(107, against="a")
    assert weighed(seen(110), seen(111), foreign) == final(107, against="c")


def test_another_block_where_we_settled__by_a_quorum__is_replaced() -> None:
    foreign = seen(110, anchor=OTHER)
    assert weighed(foreign, foreign, seen(110)) == Replaced(by=("a", "b"))
    assert weighed(foreign, quorum=1) == Replaced(by=("a",))


def test_another_block_where_we_settled__as_many_as_show_ours__is_a_disagreement() -> None:
    foreign = seen(110, anchor=OTHER)
    for looks in ((foreign, seen(110)), (foreign, foreign, seen(110), seen(110)), (foreign, seen(9, anchor=None))):
        assert weighed(*looks, has_others=True) == AskOn()
        with pytest.raises(Disagreement):
            weighed(*looks)


def test_three_different_blocks__is_a_disagreement() -> None:
    with pytest.raises(Disagreement):
        weighed(*[seen(110, anchor=bytes([n]) * 32) for n in (1, 2, 3)])


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        (seen(200, tagged=None), 140),
        (seen(200, tagged=201), 140),
        (seen(200, tagged=200), 140),
        (seen(200, tagged=199), 150),
        (seen(200, tagged=0), 140),
        (seen(100_000, tagged=150), 140),
    ],
    ids=["missing", "ahead", "equals head", "too high", "too low", "stuck"],
)
def test_tag__wrong_at_one_of_three(at: int, bad: Look, expected: int) -> None:
    looks = [seen(200, tagged=140), seen(202, tagged=150)]
    looks.insert(at, bad)
    outcome = weighed(*looks, finality=FINALIZED)
    assert isinstance(outcome, Final)
    assert outcome.number == expected
    assert outcome.block == ref(expected)


def test_tag__wrong_at_too_many__is_unusable_and_says_at_whom() -> None:
    looks = (seen(200, tagged=None), seen(200, tagged=140), seen(200, tagged=200))
    assert weighed(*looks, finality=FINALIZED, has_others=True) == AskOn()
    with pytest.raises(TagUnusable, match=r"finalized .* does not answer it; it equals the head .*\(a, c\)"):
        weighed(*looks, finality=FINALIZED)


def test_tag_and_depth__the_lower_counts() -> None:
    policy = ByTag(tag=Tag.FINALIZED, min_depth=50)
    assert weighed(seen(200, tagged=190), seen(200, tagged=190), finality=policy) == final(150)


LOOKS = st.builds(
    seen,
    st.sampled_from([0, 90, 110, 112, 130, 1_000_000]),
    anchor=st.sampled_from([OURS, OURS, OTHER, None]),
)


@settings(max_examples=200, derandomize=True, deadline=None, database=None)
@given(looks=st.lists(LOOKS, max_size=5), quorum=st.integers(1, 3), has_others=st.booleans())
def test_any_looks__what_a_quorum_did_not_show_is_never_said(looks: list[Look], quorum: int, has_others: bool) -> None:
    shown = Counter(look.anchor.hash for look in looks if look.anchor is not None)
    try:
        outcome = _weighed(*looks, quorum=quorum, finality=DEPTH, has_others=has_others)
    except ChainError:
        assert not has_others
        return
    match outcome:
        case Replaced():
            assert shown[BlockHash(OTHER)] >= quorum
            assert shown[BlockHash(OTHER)] > shown[BlockHash(OURS)]
        case Final(number=number, head=head):
            assert number is None or shown[BlockHash(OURS)] >= quorum
            vouching = [look for look in looks if look.anchor is not None and look.anchor.hash == OURS]
            assert number is None or sum(look.head.number - 3 >= number for look in vouching) >= quorum
            assert head is None or sum(look.head.number >= head for look in vouching) >= quorum
        case AskOn():
            assert has_others
