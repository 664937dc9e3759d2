from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chains.logs_window import (
    FIRST_BLOCKS,
    MAX_BLOCKS,
    NEW_PROVIDER,
    START_BLOCKS,
    WANTED_LOGS,
    LogsWindow,
    bounded,
    narrowed,
    next_span,
    unanswered,
    widened,
)
from chains.model import BlockNumber

WIDTHS = st.integers(min_value=1, max_value=20_000)


@pytest.mark.parametrize(
    ("cursor", "upto", "width", "span"),
    [
        (100, 111, 10, "101..110"),
        (100, 105, 10, "101..105"),
        (100, 101, 1, "101..101"),
        (100, 100, 10, "None"),
        (100, 90, 10, "None"),
    ],
)
def test_next_span(cursor: int, upto: int, width: int, span: str) -> None:
    assert str(next_span(BlockNumber(cursor), BlockNumber(upto), width)) == span


def test_next_span__no_width__is_refused() -> None:
    with pytest.raises(ValueError, match="width"):
        next_span(BlockNumber(1), BlockNumber(2), 0)


@given(cursor=st.integers(0, 10_000), gap=st.integers(0, 30_000), width=WIDTHS)
def test_next_span__spans_one_after_another__cover_each_block_once(cursor: int, gap: int, width: int) -> None:
    covered, at, upto = 0, BlockNumber(cursor), BlockNumber(cursor + gap)
    width = max(width, gap // 50 + 1)
    while (span := next_span(at, upto, width)) is not None:
        assert span.first == at + 1
        assert len(span) <= width
        covered, at = covered + len(span), span.last
    assert (covered, at) == (gap, upto)


@given(
    window=st.builds(lambda width, more: LogsWindow(width=width, cap=width + more), WIDTHS, st.integers(0, 10_000)),
    refused=WIDTHS,
    suggested=st.one_of(st.none(), st.integers(-5, 30_000)),
    is_cap=st.booleans(),
)
def test_narrowed__is_always_narrower_than_what_was_refused(
    window: LogsWindow, refused: int, suggested: int | None, is_cap: bool
) -> None:
    after = narrowed(window, refused, suggested, is_cap=is_cap)
    assert 1 <= after.width <= after.cap <= window.cap
    assert after.width < refused or after.width == refused == 1


@pytest.mark.parametrize(
    ("suggested", "is_cap", "width", "cap"),
    [
        (None, False, 1000, 10_000),
        (799, True, 799, 799),
        (799, False, 799, 10_000),
        (5000, True, 1000, 10_000),
        (0, True, 1000, 10_000),
    ],
)
def test_narrowed(suggested: int | None, is_cap: bool, width: int, cap: int) -> None:
    after = narrowed(LogsWindow(), 2000, suggested, is_cap=is_cap)
    assert after == LogsWindow(width=width, cap=cap, careful_from=width)


def test_narrowed__refusal_of_what_was_asked_before_it_narrowed__widens_nothing() -> None:
    """Several spans are asked at once: the refusal of the widest may come last."""
    assert narrowed(LogsWindow(width=100), 2000).width == 100
    assert unanswered(LogsWindow(width=100), 2000).width == 100


def test_widened__after_a_halving__is_back_in_six_spans_and_stops_at_the_cap() -> None:
    window = narrowed(LogsWindow(), START_BLOCKS)
    for _ in range(6):
        assert window.width < START_BLOCKS
        window = widened(window)
    assert window.width >= START_BLOCKS
    for _ in range(50):
        window = widened(window)
    assert window.width == MAX_BLOCKS


def test_widened__after_silence__doubles_back_to_what_was_served() -> None:
    """A provider that was down is as good as before; one that was slow says so again."""
    window = narrowed(LogsWindow(), 2000, 800)
    for _ in range(4):
        window = unanswered(window, window.width)
    assert window.width == 50
    widths = []
    while window.width < 900:
        window = widened(window)
        widths.append(window.width)
    assert widths == [100, 200, 400, 800, 900]


def test_unanswered__one_block__stays_one_block() -> None:
    assert unanswered(LogsWindow(width=1), 1).width == 1


def test_widened__from_one_block__grows() -> None:
    assert widened(LogsWindow(width=1)).width == 2


def test_window__one_block_refused__stays_one_block() -> None:
    """The caller sees that narrowing did not help, and lets the refusal through."""
    assert narrowed(LogsWindow(width=1), 1).width == 1


@pytest.mark.parametrize(("width", "cap"), [(0, 10), (11, 10)])
def test_window__impossible__cannot_be_made(width: int, cap: int) -> None:
    with pytest.raises(ValueError, match="width"):
        LogsWindow(width=width, cap=cap)


@pytest.mark.parametrize(
    ("logs", "width"), [(0, START_BLOCKS), (FIRST_BLOCKS, START_BLOCKS), (FIRST_BLOCKS * 80, WANTED_LOGS // 80)]
)
def test_bounded__first_answer_of_a_provider__decides_how_wide_to_begin(logs: int, width: int) -> None:
    after = bounded(widened(NEW_PROVIDER), FIRST_BLOCKS, logs)
    assert after == LogsWindow(width=width)


@pytest.mark.parametrize("after", [narrowed(NEW_PROVIDER, FIRST_BLOCKS), unanswered(NEW_PROVIDER, FIRST_BLOCKS)])
def test_bounded__after_a_first_refusal__does_not_begin_wide(after: LogsWindow) -> None:
    assert bounded(after, FIRST_BLOCKS // 2, 0).width == FIRST_BLOCKS // 2


@pytest.mark.parametrize(
    ("blocks", "logs", "width"),
    [
        (100, 0, 2_000),
        (100, WANTED_LOGS // 20, 2_000),  # the whole width would just be answered with that
        (100, WANTED_LOGS // 10, 1_000),
        (2_000, 2 * WANTED_LOGS, 1_000),
        (1, 2 * WANTED_LOGS, 1),  # one block cannot be asked for in parts
    ],
)
def test_bounded__by_what_an_answer_held__is_as_wide_as_an_answer_should_be(blocks: int, logs: int, width: int) -> None:
    assert bounded(LogsWindow(width=2_000), blocks, logs).width == width


def test_bounded__once_blocks_are_quiet_again__doubles_back() -> None:
    window = bounded(LogsWindow(width=START_BLOCKS), 100, WANTED_LOGS)
    assert window.width == 100
    for _ in range(5):
        window = bounded(widened(window), window.width, 3)
    assert window.width == START_BLOCKS
