"""When a webhook is sent again, and when no more: the answer of an endpoint judged, the next attempt timed.

The schedule is that of Standard Webhooks 1.0 (https://github.com/standard-webhooks/standard-webhooks, section
"Deliverability and reliability"): ten attempts over about three days.

    # attempt   1     2     3      4    5    6     7     8     9     10
    # after     now   5 s   5 min  30 m 2 h  5 h   10 h  14 h  20 h  24 h     sum 75 h 35 min 5 s, then dead
"""

from __future__ import annotations

import string
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import NewType, TypeAlias, assert_never

from settler.domain.errors import InvalidInput
from settler.domain.events import EventType
from settler.domain.ids import EventId, derived_id

EndpointId = NewType("EndpointId", str)
DeliveryId = NewType("DeliveryId", str)

RETRY_DELAYS_S = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""Waits after the first, second … failed attempt. Source: see above."""
MAX_ATTEMPTS = len(RETRY_DELAYS_S) + 1
JITTER = 0.2
"""A delay is widened or narrowed by at most this part of it, so that what failed together does not return
together."""
RETRY_AFTER_MAX_S = 3_600.0
"""A `Retry-After` counts up to here: an endpoint may ask for peace, not keep a delivery alive for weeks."""
REASON_CHARS = 200
OVERLAP_S = 86_400
"""How long the secret before still signs after a rotation: a day to bring the new one to every receiver."""
OVERLAP_MAX_S = 7 * 86_400
"""A secret on its way out is not to stay for good."""


class DeliveryStatus(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"
    """A dead letter: given up, until an operator retries it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a merchant wants to be told of what."""

    id: EndpointId
    url: str
    merchant: str | None
    """Only events about this merchant's invoices; `None`: all events, also those of no invoice."""
    types: tuple[EventType, ...]
    """Only these; empty: all."""
    secret: str = field(repr=False)
    previous_secret: str | None = field(repr=False)
    """The secret before the present one, which signs too until `previous_secret_until`."""
    created_at: datetime
    previous_secret_until: datetime | None = None
    """`None` where there is no previous secret."""
    disabled_at: datetime | None = None
    disabled_reason: str | None = None

    def __post_init__(self) -> None:
        assert (self.previous_secret is None) == (self.previous_secret_until is None), "a rotation has an end"

    @property
    def is_live(self) -> bool:
        return self.disabled_at is None

    def secrets(self, now: datetime) -> tuple[str, ...]:
        """Those that sign at `now`, newest first: one, or two during a rotation."""
        if self.previous_secret is None or self.previous_secret_until is None or now >= self.previous_secret_until:
            return (self.secret,)
        return (self.secret, self.previous_secret)

    def wants(self, type_: str, merchant: str | None) -> bool:
        """Whether an event of this type about this merchant goes there."""
        return self.merchant in {None, merchant} and (not self.types or type_ in self.types)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One event on its way to one endpoint."""

    id: DeliveryId
    endpoint_id: EndpointId
    event_id: EventId
    event_type: str
    status: DeliveryStatus
    attempts: int
    """Made so far; an operator's retry counts afresh."""
    next_attempt_at: datetime | None
    """`None` unless pending."""
    last_attempt_at: datetime | None
    last_status_code: int | None
    """`None`: never answered."""
    last_error: str | None
    created_at: datetime
    delivered_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedAttempt:
    """One attempt to deliver, as it is remembered."""

    delivery_id: DeliveryId
    at: datetime
    """When it ended."""
    duration_ms: int
    status_code: int | None
    """`None`: nobody answered."""
    error: str | None
    """`None`: it was delivered."""


def delivery_id(endpoint: EndpointId, event: EventId, event_time: datetime) -> DeliveryId:
    """Follows from endpoint and event: fanning out again makes the same deliveries."""
    return DeliveryId(derived_id("dlv", event_time, endpoint, event))


def check_types(types: Sequence[str]) -> tuple[EventType, ...]:
    """The event types named, each once. Raises `InvalidInput`."""
    for index, name in enumerate(types):
        if name not in set(EventType):
            raise InvalidInput(f"types[{index}]", f"no such event type: {name!r}; there are {', '.join(EventType)}")
    return tuple(dict.fromkeys(EventType(name) for name in types))


# What came back


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    status_code: int
    retry_after_s: float | None = None
    """What the answer asked us to wait; `None`: nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoAnswer:
    """Not sent, or nothing came back: time-out, connection refused or reset, an address that may not be
    called."""

    reason: str


Reply: TypeAlias = Answered | NoAnswer


# What it means


@dataclass(frozen=True, slots=True)
class Delivered:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    reason: str
    retry_after_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Disable:
    """The endpoint said 410 Gone: it wants no more of anything."""

    reason: str


Verdict: TypeAlias = Delivered | Retry | Disable


def verdict(reply: Reply) -> Verdict:
    """2xx delivered, 410 disables the endpoint, all else is tried again: also redirects, which are never
    followed."""
    match reply:
        case NoAnswer(reason=reason):
            return Retry(reason=printable(reason), retry_after_s=None)
        case Answered(status_code=code, retry_after_s=retry_after_s):
            if 200 <= code <= 299:
                return Delivered()
            if code == 410:
                return Disable(reason="the endpoint answered 410 Gone")
            hint = ", redirects are not followed" if 300 <= code <= 399 else ""
            return Retry(reason=f"answered {code}{hint}", retry_after_s=retry_after_s)
        case _:
            assert_never(reply)


# When next


@dataclass(frozen=True, slots=True)
class GiveUp:
    attempts: int


def next_attempt(attempts: int, now: datetime, *, jitter: float, retry_after_s: float | None) -> datetime | GiveUp:
    """When to try again after `attempts` (at least 1) failed ones, the last of them `now`.

    `jitter`: 0 .. 1, drawn by the caller; 0 is 20 % sooner than the schedule, 1 is 20 % later.
    `retry_after_s` only ever makes it later than the schedule, and by no more than `RETRY_AFTER_MAX_S` (and
    its own jitter, upwards).
    """
    assert attempts >= 1, f"an attempt was made: {attempts=}"
    assert 0 <= jitter <= 1, f"{jitter=} is not within 0 .. 1"
    if attempts >= MAX_ATTEMPTS:
        return GiveUp(attempts)
    scheduled_s = RETRY_DELAYS_S[attempts - 1] * (1 - JITTER + 2 * JITTER * jitter)
    asked_s = min(max(retry_after_s or 0.0, 0.0), RETRY_AFTER_MAX_S) * (1 + JITTER * jitter)
    return now + timedelta(seconds=max(scheduled_s, asked_s))


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds that a `Retry-After` header asks for (RFC 9110 section 10.2.3: seconds or a date); `None` if it
    says nothing.

    Never negative, at most `RETRY_AFTER_MAX_S`.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:12]), RETRY_AFTER_MAX_S)
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    seconds = ((at if at.tzinfo else at.replace(tzinfo=UTC)) - now).total_seconds()
    return min(max(seconds, 0.0), RETRY_AFTER_MAX_S)


def printable(text: str, keep: Collection[str] = frozenset(string.printable) - frozenset("\t\n\r\x0b\x0c")) -> str:
    """Bounded and free of control characters: it may quote what a stranger's server said, and goes to logs
    and tables."""
    return "".join(c if c in keep else "?" for c in text[:REASON_CHARS])
