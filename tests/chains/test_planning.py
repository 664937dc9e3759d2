"""The plan covers whom it must, keeps to what the provider takes, and costs no more than asking in the other way."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from chains.address_set import address_set
from chains.model import Address
from chains.planning import (
    FILTER_RECIPIENTS_MAX,
    FILTERS_MAX,
    LOG_BYTES,
    LOOK_BLOCKS,
    LOOK_EVERY,
    LOOK_FROM_BYTES,
    RECIPIENT_BYTES,
    REMEMBERED_BLOCKS,
    SPLIT_FROM_BYTES,
    Learned,
    answered,
    filtered_bytes,
    plan,
    refused,
    unfiltered_bytes,
)

MANY = LOOK_FROM_BYTES // RECIPIENT_BYTES + 1
"""Recipients of whom it is worth knowing whether a filter pays."""

learned_ones = st.builds(
    Learned,
    recipients_max=st.integers(0, 1_000),
    blocks=st.sampled_from([0.0, 1.0, 10.0, 2_500.0]),
    logs=st.floats(0, 1e6),
    wanted=st.floats(0, 1e3),
    filtered_since=st.integers(0, 2 * LOOK_EVERY),
)
widths = st.one_of(st.integers(1, 20), st.integers(1, 10_000))


def crowd(count: int) -> frozenset[Address]:
    return frozenset(Address(n.to_bytes(20)) for n in range(1, count + 1))


def seen(logs_per_block: float, *, blocks: int = 1_000, wanted: int = 0, cap: int = FILTER_RECIPIENTS_MAX) -> Learned:
    """Of a chain that is so busy."""
    logs = round(logs_per_block * blocks)
    return answered(Learned(recipients_max=cap), None, blocks=blocks, logs=logs, wanted=wanted)


def sizes(blocks: int, recipients: int, learned: Learned) -> list[int] | None:
    filters = plan(blocks, crowd(recipients), learned)
    return None if filters is None else [len(part) for part in filters]


# -- any plan ----------------------------------------------------------------------------------------------------------


@given(blocks=widths, count=st.integers(1, 3_000), learned=learned_ones)
def test_plan__any__has_every_recipient_once_and_no_filter_too_long(blocks: int, count: int, learned: Learned) -> None:
    filters = plan(blocks, crowd(count), learned)
    if filters is not None:
        assert [a for part in filters for a in part] == sorted(crowd(count))
        assert 0 < max(map(len, filters)) <= learned.recipients_max
        assert len(filters) <= FILTERS_MAX
        assert filters == plan(blocks, address_set(crowd(count)), learned), "equal sets are asked for alike"


@given(blocks=widths, count=st.integers(1, 3_000), learned=learned_ones)
def test_plan__any_but_a_look__costs_no_more_than_what_it_was_chosen_over(
    blocks: int, count: int, learned: Learned
) -> None:
    filters = plan(blocks, crowd(count), learned)
    filtered, unfiltered = filtered_bytes(blocks, count, learned), unfiltered_bytes(blocks, learned)
    assume(filtered is not None and unfiltered is not None)
    assert filtered is not None
    assert unfiltered is not None
    if filters is not None:
        assert filtered <= unfiltered
    elif learned.filtered_since < LOOK_EVERY or blocks > LOOK_BLOCKS:
        assert unfiltered <= max(filtered, SPLIT_FROM_BYTES)


@given(blocks=st.integers(1, LOOK_BLOCKS), count=st.integers(1, 5_001), logs=st.integers(0, 390))
def test_plan__following_the_head_of_any_chain__is_one_call(blocks: int, count: int, logs: int) -> None:
    """RULES.md section 1: at most three calls a tick. The busiest chains have some 300 stablecoin transfers a block."""
    learned = seen(logs)
    unfiltered = unfiltered_bytes(blocks, learned)
    assert unfiltered is not None
    assert unfiltered < SPLIT_FROM_BYTES
    filters = plan(blocks, crowd(count), learned)
    assert filters is None or len(filters) == 1


@given(answers=st.lists(st.tuples(st.integers(1, 5_000), st.integers(0, 10_000)), max_size=30))
def test_answered__whatever_came__remembers_a_bounded_past(answers: list[tuple[int, int]]) -> None:
    learned = Learned()
    for blocks, logs in answers:
        learned = answered(learned, None, blocks=blocks, logs=logs, wanted=min(logs, 3))
    assert 0 <= learned.blocks <= REMEMBERED_BLOCKS + 5_000
    assert 0 <= learned.wanted <= learned.logs or learned.logs == 0


# -- single cases ------------------------------------------------------------------------------------------------------


def test_plan__to_anybody__has_no_filter() -> None:
    assert plan(1, None, seen(300)) is None


@pytest.mark.parametrize("blocks", [1, 8, 2_000])
def test_plan__few_recipients_and_nothing_known__are_in_the_filter(blocks: int) -> None:
    assert sizes(blocks, 3, Learned()) == [3]


def test_plan__more_than_a_filter_takes_and_nothing_known__is_asked_without() -> None:
    assert sizes(2_000, FILTER_RECIPIENTS_MAX + 1, Learned()) is None


def test_plan__many_recipients_on_a_quiet_chain__are_matched_here() -> None:
    """34 kB to send at each tick, for a log every other block."""
    assert sizes(1, 500, seen(0.5)) is None
    assert sizes(2_000, 500, seen(0.5)) == [500]


def test_plan__many_recipients_on_a_busy_chain__are_in_the_filter() -> None:
    assert sizes(1, 500, seen(70)) == [500]


def test_plan__more_than_a_filter_takes_on_a_busy_chain__is_asked_without_at_the_head() -> None:
    assert sizes(5, 501, seen(300)) is None
    assert sizes(1, 1_000_000 // 400, seen(70)) is None


def test_plan__far_behind_on_a_busy_chain__is_split() -> None:
    """What one answer may hold of it is five megabytes; the span grows once only our logs come back."""
    assert sizes(114, 501, seen(70)) == [500, 1]
    assert sizes(114, 5_000, seen(70)) == [500] * 10
    assert sizes(10_000, 5_000, seen(70)) == [500] * 10
    assert sizes(10_000, 5_001, seen(70)) is None, "more than ten filters"


def test_plan__nearly_all_logs_are_ours__has_no_filter() -> None:
    """A shop's own chain: a filter keeps nothing back."""
    assert sizes(100, 500, seen(10, wanted=10_000)) is None
    assert sizes(100, 500, seen(10, wanted=10)) == [500]


def test_plan__provider_takes_no_filter__is_asked_without() -> None:
    learned = Learned()
    for recipients in (3, 1):
        learned = refused(learned, recipients)
    assert learned.recipients_max == 0
    assert sizes(1, 1, learned) is None


def test_plan__an_empty_block__does_not_make_a_chain_quiet() -> None:
    learned = answered(Learned(), None, blocks=1, logs=0, wanted=0)
    assert sizes(1, 500, learned) is None
    assert sizes(100, 500, learned) == [500]


# -- looks -------------------------------------------------------------------------------------------------------------


def test_plan__density_unknown_and_a_long_filter__looks_once_at_a_narrow_span() -> None:
    assert sizes(LOOK_BLOCKS + 1, MANY, Learned()) == [MANY]
    assert sizes(LOOK_BLOCKS, MANY, Learned()) is None
    assert sizes(LOOK_BLOCKS, MANY - 1, Learned()) == [MANY - 1]


def test_plan__filtered_for_long__looks_again_and_learns_that_it_is_quiet_now() -> None:
    learned = seen(70)
    asked = []
    for _ in range(4 * LOOK_EVERY):
        filters = plan(1, crowd(MANY), learned)
        asked.append(filters is None)
        learned = answered(learned, filters, blocks=1, logs=0, wanted=0)
    assert sum(asked) == 3
    assert asked.index(True) == LOOK_EVERY


def test_looks__on_the_busiest_chain__cost_a_small_part_of_the_filters() -> None:
    a_look = LOOK_BLOCKS * 300 * LOG_BYTES
    assert a_look / LOOK_EVERY < LOOK_FROM_BYTES / 5


def test_answered__quiet_after_busy__is_known_within_a_few_hundred_blocks() -> None:
    learned = seen(100, blocks=10_000)
    for _ in range(500):
        learned = answered(learned, None, blocks=1, logs=0, wanted=0)
    assert learned.logs / learned.blocks < 60
    for _ in range(3_000):
        learned = answered(learned, None, blocks=1, logs=0, wanted=0)
    assert learned.logs / learned.blocks < 1
