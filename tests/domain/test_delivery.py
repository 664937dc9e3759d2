from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from settler.domain.delivery import (
    JITTER,
    MAX_ATTEMPTS,
    REASON_CHARS,
    RETRY_AFTER_MAX_S,
    RETRY_DELAYS_S,
    Answered,
    Delivered,
    Disable,
    Endpoint,
    EndpointId,
    GiveUp,
    NoAnswer,
    Retry,
    check_types,
    delivery_id,
    next_attempt,
    parse_retry_after,
    verdict,
)
from settler.domain.errors import InvalidInput
from settler.domain.events import EventType
from settler.domain.ids import EventId, looks_like_id

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
jitters = st.floats(0, 1)
retry_afters = st.none() | st.floats(0, 1e9)


def _wait_s(attempts: int, jitter: float, retry_after_s: float | None = None) -> float:
    at = next_attempt(attempts, NOW, jitter=jitter, retry_after_s=retry_after_s)
    assert isinstance(at, datetime)
    return (at - NOW).total_seconds()


def test_next_attempt__schedule__is_that_of_standard_webhooks() -> None:
    waits = [_wait_s(attempts, 0.5) for attempts in range(1, MAX_ATTEMPTS)]
    assert waits == [5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400]
    assert timedelta(days=3) < timedelta(seconds=sum(waits)) < timedelta(days=3.5)


def test_next_attempt__all_ten_made__gives_up() -> None:
    assert next_attempt(MAX_ATTEMPTS, NOW, jitter=0.5, retry_after_s=None) == GiveUp(10)


@given(st.integers(1, 100), jitters, retry_afters)
def test_next_attempt__whatever_is_asked__is_later_and_bounded(
    attempts: int, jitter: float, retry_after_s: float | None
) -> None:
    match next_attempt(attempts, NOW, jitter=jitter, retry_after_s=retry_after_s):
        case GiveUp():
            assert attempts >= MAX_ATTEMPTS
        case at:
            scheduled = RETRY_DELAYS_S[attempts - 1]
            wait = (at - NOW).total_seconds()
            most = max(scheduled, RETRY_AFTER_MAX_S)
            assert scheduled * (1 - JITTER) - 1e-3 <= wait <= most * (1 + JITTER) + 1e-3


@given(st.integers(1, MAX_ATTEMPTS - 1), jitters, st.floats(0, RETRY_AFTER_MAX_S))
def test_next_attempt__retry_after__never_earlier_than_asked(attempts: int, jitter: float, asked_s: float) -> None:
    assert _wait_s(attempts, jitter, asked_s) >= asked_s - 1e-3
    assert _wait_s(attempts, jitter, asked_s) >= _wait_s(attempts, jitter)


@given(jitters, jitters)
def test_next_attempt__more_jitter__is_not_sooner(one: float, other: float) -> None:
    assert _wait_s(3, min(one, other)) <= _wait_s(3, max(one, other))


@pytest.mark.parametrize("code", [200, 201, 204, 299])
def test_verdict__2xx__is_delivered(code: int) -> None:
    assert verdict(Answered(status_code=code)) == Delivered()


def test_verdict__gone__disables() -> None:
    assert isinstance(verdict(Answered(status_code=410)), Disable)


@pytest.mark.parametrize("code", [100, 301, 302, 307, 308, 400, 401, 404, 429, 500, 502, 503, 504])
def test_verdict__other_answers__are_retried(code: int) -> None:
    judged = verdict(Answered(status_code=code, retry_after_s=7))
    assert isinstance(judged, Retry)
    assert str(code) in judged.reason
    assert judged.retry_after_s == 7


@given(st.text())
def test_verdict__reason_from_outside__is_bounded_and_printable(text: str) -> None:
    judged = verdict(NoAnswer(reason=text))
    assert isinstance(judged, Retry)
    assert len(judged.reason) <= REASON_CHARS
    assert judged.reason.isascii()
    assert all(c.isprintable() for c in judged.reason)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("120", 120),
        (" 5 ", 5),
        ("0", 0),
        ("9" * 400, RETRY_AFTER_MAX_S),
        ("-5", None),
        ("1.5", None),
        ("²", None),
        ("soon", None),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90),
        (format_datetime(NOW - timedelta(days=1), usegmt=True), 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", RETRY_AFTER_MAX_S),
        ("Fri, 99 Foo 99999 99:99:99 GMT", None),
    ],
)
def test_parse_retry_after__forms(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, NOW) == seconds


@given(st.text())
def test_parse_retry_after__anything__never_raises(value: str) -> None:
    seconds = parse_retry_after(value, NOW)
    assert seconds is None or 0 <= seconds <= RETRY_AFTER_MAX_S


def _endpoint(merchant: str | None = None, types: tuple[EventType, ...] = ()) -> Endpoint:
    return Endpoint(
        id=EndpointId("whe_1"),
        url="https://example.com",
        merchant=merchant,
        types=types,
        secret="whsec_new",
        previous_secret="whsec_old",
        previous_secret_until=NOW + timedelta(days=1),
        created_at=NOW,
    )


def test_endpoint__repr__shows_no_secret() -> None:
    assert "whsec_" not in repr(_endpoint())


def test_endpoint__during_a_rotation__both_secrets_sign_until_its_end() -> None:
    end = NOW + timedelta(days=1)
    assert _endpoint().secrets(NOW) == ("whsec_new", "whsec_old")
    assert _endpoint().secrets(end - timedelta(seconds=1)) == ("whsec_new", "whsec_old")
    assert _endpoint().secrets(end) == ("whsec_new",)


def test_endpoint__previous_secret_without_an_end__cannot_be() -> None:
    with pytest.raises(AssertionError, match="has an end"):
        replace(_endpoint(), previous_secret_until=None)


def test_endpoint__of_one_merchant__gets_only_events_about_it() -> None:
    endpoint = _endpoint(merchant="acme")
    assert endpoint.wants("invoice.settled", "acme")
    assert not endpoint.wants("invoice.settled", "other")
    assert not endpoint.wants("transfer.unmatched", None)
    assert _endpoint().wants("transfer.unmatched", None)


def test_endpoint__with_types__gets_only_those() -> None:
    endpoint = _endpoint(types=(EventType.INVOICE_SETTLED,))
    assert endpoint.wants("invoice.settled", "acme")
    assert not endpoint.wants("invoice.created", "acme")


def test_check_types__unknown__names_the_place() -> None:
    assert check_types(["invoice.settled", "invoice.settled"]) == (EventType.INVOICE_SETTLED,)
    with pytest.raises(InvalidInput) as caught:
        check_types(["invoice.settled", "invoice.paid"])
    assert caught.value.field == "types[1]"


def test_delivery_id__of_the_same_pair__is_the_same() -> None:
    one, other = EndpointId("whe_1"), EndpointId("whe_2")
    event = EventId("evt_1")
    assert delivery_id(one, event, NOW) == delivery_id(one, event, NOW)
    assert delivery_id(one, event, NOW) != delivery_id(other, event, NOW)
    assert looks_like_id(delivery_id(one, event, NOW), "dlv")


def test_endpoint__disabled__is_not_live() -> None:
    assert _endpoint().is_live
    assert not replace(_endpoint(), disabled_at=NOW, disabled_reason="gone").is_live
    assert replace(_endpoint(), previous_secret=None, previous_secret_until=None).secrets(NOW) == ("whsec_new",)
