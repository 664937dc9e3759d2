from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from settler.domain.ids import (
    ENTROPY_BYTES,
    TOKEN_BYTES,
    derived_id,
    looks_like_id,
    looks_like_token,
    make_id,
    make_token,
)

times = st.datetimes(datetime(2020, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - bounds are to be naive
entropies = st.binary(min_size=ENTROPY_BYTES, max_size=ENTROPY_BYTES)
T = datetime(2026, 3, 1, tzinfo=UTC)


@given(time=times, later_by_ms=st.integers(2, 10**9), a=entropies, b=entropies)
def test_make_id__order_of_ids_is_order_of_time(time: datetime, later_by_ms: int, a: bytes, b: bytes) -> None:
    assert make_id("inv", time, a) < make_id("inv", time + timedelta(milliseconds=later_by_ms), b)


@given(time=times, a=entropies, b=entropies)
def test_make_id__same_time__order_is_that_of_the_entropy(time: datetime, a: bytes, b: bytes) -> None:
    assert (make_id("inv", time, a) < make_id("inv", time, b)) == (a < b)


@given(time=times, entropy=entropies)
def test_make_id__looks_like_one(time: datetime, entropy: bytes) -> None:
    id_ = make_id("inv", time, entropy)
    assert len(id_) == 30
    assert looks_like_id(id_, "inv")
    assert not looks_like_id(id_, "trf")


tokens = st.binary(min_size=TOKEN_BYTES, max_size=TOKEN_BYTES)


@given(a=tokens, b=tokens)
def test_make_token__holds_all_of_its_entropy(a: bytes, b: bytes) -> None:
    assert (make_token(a) == make_token(b)) == (a == b)
    assert looks_like_token(make_token(a))


@pytest.mark.parametrize("text", ["", "0" * 25, "0" * 27, "0" * 25 + "U", "0" * 25 + "i", "0" * 25 + "\n"])
def test_looks_like_token__what_was_never_given_out__does_not(text: str) -> None:
    assert not looks_like_token(text)


@given(time=times, parts=st.lists(st.text() | st.integers()))
def test_derived_id__follows_from_what_it_names(time: datetime, parts: list[object]) -> None:
    assert derived_id("evt", time, *parts) == derived_id("evt", time, *parts)
    assert derived_id("evt", time, *parts) != derived_id("evt", time, *parts, "more")


def test_derived_id__is_stable_across_releases() -> None:
    """Ids once written are looked up by the next release: a changed derivation would tell everything again."""
    assert derived_id("evt", T, "invoice.settled", "inv_1", 3) == "evt_01kjkb3q00mynjvj9ghd705hdh"


def test_derived_id__parts_do_not_run_together() -> None:
    assert derived_id("evt", T, "a", "bc") != derived_id("evt", T, "ab", "c")


@pytest.mark.parametrize("entropy", [b"", bytes(9), bytes(11)])
def test_make_id__wrong_entropy__is_a_bug(entropy: bytes) -> None:
    with pytest.raises(AssertionError, match="10 bytes"):
        make_id("inv", T, entropy)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "inv_",
        "inv",
        "inv_" + "0" * 25,
        "inv_" + "0" * 27,
        "inv_" + "O" * 26,
        "inv_" + "u" * 26,
        "inv_" + "0" * 26 + "\n",
    ],
)
def test_looks_like_id__anything_else__does_not(text: str) -> None:
    assert not looks_like_id(text, "inv")
