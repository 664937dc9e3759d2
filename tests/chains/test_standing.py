"""`Standing`: how long a provider rests, what wakes it, and what takes and returns its trust."""

from __future__ import annotations

import pytest

from chains.errors import (
    BlockNotFound,
    ChainError,
    HistoryPruned,
    MethodUnsupported,
    NodeInconsistent,
    RangeTooWide,
    RateLimited,
    Rejected,
    Timeout,
    Transient,
    WrongChain,
)
from chains.model import BlockNumber
from chains.proof import Unprovable
from chains.standing import (
    DISTRUSTED_REST_S,
    HEAD_FRESH_S,
    MAX_ASKED_REST_S,
    MAX_REST_S,
    REJECTED_REST_S,
    REMOVED_REST_S,
    Standing,
    State,
)

TIMEOUT = Timeout("no answer")


def standing(*, known: bool = True) -> Standing:
    made = Standing("node")
    made.is_chain_known = known
    return made


def woken(s: Standing, now: float) -> None:
    """Asked again after its rest: its chain id is right, and it answers."""
    assert not s.is_chain_known
    s.is_chain_known = True
    s.answered(0.1, now)


def distrusted(now: float = 0.0) -> Standing:
    s = standing()
    for _ in range(3):
        s.differed(now)
    assert s.state is State.DISTRUSTED
    return s


# -- failing and resting -----------------------------------------------------------------------------------------------


def test_failures__rest_twice_as_long_each_time_up_to_a_minute() -> None:
    s, now, rests = standing(), 0.0, []
    for _ in range(9):
        s.failed(TIMEOUT, now)
        rests.append(s.rest_left_s(now))
        now += rests[-1]
        assert not s.is_resting(now)
    assert rests == [1, 2, 4, 8, 16, 32, MAX_REST_S, MAX_REST_S, MAX_REST_S]


def test_answer_after_the_rest__is_up_and_the_next_rest_is_short_again() -> None:
    s = standing()
    for now in (0.0, 1.0, 3.0):
        s.failed(TIMEOUT, now)
    woken(s, 7.0)
    assert (s.state, s.reason, s.is_resting(7.0)) == (State.UP, "", False)
    s.failed(TIMEOUT, 8.0)
    assert s.rest_left_s(8.0) == 1.0


def test_failed__must_show_its_chain_again() -> None:
    s = standing()
    s.failed(TIMEOUT, 0.0)
    assert not s.is_chain_known


@pytest.mark.parametrize(
    ("asked_s", "rest_s"), [(30.0, 30.0), (0.25, 1.0), (None, 1.0), (0.0, 1.0), (86_400.0, MAX_ASKED_REST_S)]
)
def test_rate_limited__rests_as_long_as_it_asked_within_reason(asked_s: float | None, rest_s: float) -> None:
    s = standing()
    s.failed(RateLimited("429", retry_after_s=asked_s), 100.0)
    assert s.rest_left_s(100.0) == rest_s
    assert (s.state, s.is_up) == (State.RESTING, False)


def test_answer_to_a_question_of_before_the_rest__does_not_end_it() -> None:
    """Reproduced: two stages asked one provider, one got `Retry-After: 30`, the other its answer, and it was up."""
    s = standing()
    s.failed(RateLimited("429", retry_after_s=30.0), 0.0)
    s.answered(0.1, 0.5)
    assert (s.state, s.is_resting(29.0), s.is_chain_known) == (State.RESTING, True, False)
    s.failed(TIMEOUT, 31.0)
    assert s.rest_left_s(31.0) == 2.0, "nor does it forget the failures"


def test_answer_to_a_question_of_before__does_not_bring_back_a_provider_of_another_chain() -> None:
    s = standing()
    s.failed(WrongChain("it serves chain id 5"), 0.0)
    s.answered(0.1, 0.5)
    assert (s.state, s.is_chain_known) == (State.REMOVED, False)
    woken(s, REMOVED_REST_S)
    assert s.is_up


@pytest.mark.parametrize(
    ("first", "left_s"),
    [(RateLimited("429", retry_after_s=200.0), 199.0), (WrongChain("5"), 299.0), (Rejected("key"), 59.0)],
)
def test_a_failure_while_it_rests__never_shortens_the_rest(first: ChainError, left_s: float) -> None:
    s = standing()
    s.failed(first, 0.0)
    before = s.reason
    s.failed(TIMEOUT, 1.0)
    assert s.rest_left_s(1.0) == left_s
    assert before or s.reason


def test_of_another_chain__stays_removed_while_it_fails() -> None:
    s = standing()
    s.failed(WrongChain("it serves chain id 5"), 0.0)
    s.failed(TIMEOUT, REMOVED_REST_S)
    assert (s.state, s.reason) == (State.REMOVED, "it serves chain id 5")
    assert s.rest_left_s(REMOVED_REST_S) == 1.0


def test_rejected__rests_a_minute_and_does_not_repeat_the_nodes_words() -> None:
    s = standing()
    s.failed(Rejected("key sk-secret is invalid"), 0.0)
    assert s.rest_left_s(0.0) == REJECTED_REST_S
    assert "secret" not in s.reason
    assert "fatal" in s.reason


@pytest.mark.parametrize("error", [Timeout("sk-secret"), Transient("sk-secret"), NodeInconsistent("sk-secret")])
def test_reason__is_in_our_words(error: ChainError) -> None:
    s = standing()
    s.failed(error, 0.0)
    assert error.label in s.reason
    assert "secret" not in s.reason


@pytest.mark.parametrize(
    "error",
    [
        BlockNotFound("not yet"),
        RangeTooWide("wide"),
        HistoryPruned("old"),
        MethodUnsupported("no"),
        Unprovable("a receipt type nobody here knows"),
    ],
)
def test_error_about_the_request__leaves_it_up(error: ChainError) -> None:
    """`Unprovable` is our own ignorance: it put every provider to rest, one after another."""
    s = standing()
    s.failed(error, 5.0)
    assert (s.state, s.is_resting(5.0), s.is_chain_known, s.heard_at) == (State.UP, False, True, 5.0)


# -- trust -------------------------------------------------------------------------------------------------------------


def test_differs_three_times_running__is_distrusted_for_ten_minutes() -> None:
    s = standing()
    s.differed(0.0)
    s.differed(0.0)
    assert s.is_up
    s.differed(0.0)
    assert (s.state, s.rest_left_s(0.0)) == (State.DISTRUSTED, DISTRUSTED_REST_S)


def test_differs_one_time_in_five__is_never_distrusted() -> None:
    s = standing()
    for _ in range(50):
        s.differed(0.0)
        for _ in range(4):
            s.agreed(0.0)
    assert s.is_up


def test_differs_one_time_in_three__is_distrusted() -> None:
    s = standing()
    for _ in range(20):
        s.differed(0.0)
        if not s.is_up:
            return
        s.agreed(0.0)
        s.agreed(0.0)
    raise AssertionError("never distrusted")


def test_distrusted__agrees_and_is_up_again_but_the_next_difference_counts_whole() -> None:
    s = distrusted()
    s.agreed(700.0)
    assert (s.state, s.is_resting(700.0)) == (State.UP, False)
    s.differed(701.0)
    assert s.state is State.DISTRUSTED


def test_distrusted__answering_or_failing_does_not_earn_its_trust_back() -> None:
    s = distrusted()
    s.answered(0.1, 10.0)
    assert s.state is State.DISTRUSTED
    s.failed(TIMEOUT, 20.0)
    assert (s.state, s.rest_left_s(20.0)) == (State.DISTRUSTED, DISTRUSTED_REST_S - 20.0)
    s.is_chain_known = True
    s.answered(0.1, 30.0)
    assert s.state is State.DISTRUSTED


def test_distrusted__answers_when_the_time_is_over__is_on_probation() -> None:
    """Reproduced: of three providers the third was never compared again, so that it stayed distrusted for good."""
    s = distrusted()
    woken(s, DISTRUSTED_REST_S)
    assert s.is_up
    s.differed(DISTRUSTED_REST_S + 1)
    assert s.state is State.DISTRUSTED


def test_distrusted__another_chain__is_removed() -> None:
    s = distrusted()
    s.failed(WrongChain("5"), 1.0)
    assert s.state is State.REMOVED
    assert s.rest_left_s(1.0) >= REMOVED_REST_S


# -- heads and latency -------------------------------------------------------------------------------------------------


def test_lacks__only_what_lies_above_a_head_shown_a_moment_ago() -> None:
    s = standing()
    assert not s.lacks(BlockNumber(1), 0.0)
    s.shows(BlockNumber(100), 0.0)
    assert s.lacks(BlockNumber(101), 1.0)
    assert not s.lacks(BlockNumber(100), 1.0)
    assert not s.lacks(BlockNumber(101), HEAD_FRESH_S)


def test_reached__raises_the_head_and_never_lowers_it() -> None:
    """Reproduced: a provider that had read old blocks was not asked for new ones, as if these were its newest."""
    s = standing()
    s.reached(BlockNumber(100))
    assert (s.head, s.lacks(BlockNumber(101), 0.0)) == (100, False)
    s.reached(BlockNumber(90))
    assert s.head == 100
    s.shows(BlockNumber(100), 1.0)
    s.reached(BlockNumber(100))
    assert s.lacks(BlockNumber(101), 1.0)
    s.reached(BlockNumber(101))
    assert (s.head, s.lacks(BlockNumber(102), 1.0)) == (101, False)


def test_shows__may_lower_the_head() -> None:
    s = standing()
    s.shows(BlockNumber(100), 0.0)
    s.shows(BlockNumber(90), 1.0)
    assert s.lacks(BlockNumber(91), 1.0)


def test_latency__follows_slowly() -> None:
    s = standing()
    s.answered(1.0, 0.0)
    assert s.latency_s == 1.0
    s.answered(2.0, 0.0)
    assert s.latency_s == pytest.approx(1.2)
