"""When a worker may take a chain over."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from settler.domain.leading import (
    MOST_PATIENT_LOOKS,
    STALE_LOOKS,
    LeaseRow,
    Sighting,
    Take,
    Wait,
    decide,
    look,
)

LED = LeaseRow(holder="a", fencing=3, renewals=7)
FREE = LeaseRow(holder=None, fencing=3, renewals=7)


def seen(row: LeaseRow | None, unchanged_looks: int = 0) -> Sighting:
    return Sighting(row=row, unchanged_looks=unchanged_looks)


def test_look__first__counts_nothing_unchanged() -> None:
    assert look(None, LED) == seen(LED, 0)


def test_look__the_same_again__is_counted() -> None:
    assert look(seen(LED, 4), LED) == seen(LED, 5)


@pytest.mark.parametrize(
    "row",
    [
        LeaseRow(holder="a", fencing=3, renewals=8),
        LeaseRow(holder="a", fencing=4, renewals=7),
        LeaseRow(holder="b", fencing=3, renewals=7),
        FREE,
        None,
    ],
)
def test_look__anything_else__begins_anew(row: LeaseRow | None) -> None:
    assert look(seen(LED, 4), row) == seen(row, 0)


@pytest.mark.parametrize("row", [None, FREE])
def test_decide__nobody_leads__takes_at_once(row: LeaseRow | None) -> None:
    assert decide(seen(row), worker="b", is_first_look=False, chains_led=0) == Take()


def test_decide__a_leader_that_renews__waits() -> None:
    assert decide(seen(LED), worker="b", is_first_look=True, chains_led=0) == Wait(is_led=True)


def test_decide__a_leader_that_stood_still_for_less__waits() -> None:
    stood = seen(LED, STALE_LOOKS - 1)
    assert decide(stood, worker="b", is_first_look=False, chains_led=0) == Wait(is_led=True)


def test_decide__a_leader_that_stood_still__is_replaced() -> None:
    assert decide(seen(LED, STALE_LOOKS), worker="b", is_first_look=False, chains_led=0) == Take()


def test_decide__own_name_at_the_first_look__is_taken_back_at_once() -> None:
    assert decide(seen(LED), worker="a", is_first_look=True, chains_led=0) == Take()


def test_decide__own_name_later__is_another_process_and_waited_for() -> None:
    """Two workers by one name would else take the lease from each other for ever."""
    assert decide(seen(LED), worker="a", is_first_look=False, chains_led=0) == Wait(is_led=True)


@pytest.mark.parametrize("row", [None, FREE])
def test_decide__who_leads_already__lets_others_go_first(row: LeaseRow | None) -> None:
    assert decide(seen(row, 1), worker="b", is_first_look=False, chains_led=2) == Wait(is_led=False)
    assert decide(seen(row, 2), worker="b", is_first_look=False, chains_led=2) == Take()


@given(led=st.integers(0, 1_000))
def test_decide__however_much_it_leads__it_takes_what_is_left_within_the_bound(led: int) -> None:
    stood = seen(LED, STALE_LOOKS + MOST_PATIENT_LOOKS)
    assert decide(stood, worker="b", is_first_look=False, chains_led=led) == Take()
