from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import standardwebhooks
from hypothesis import given
from hypothesis import strategies as st

from settler.domain.errors import InvalidInput
from settler.domain.events import EventType
from settler.webhook.sign import check_secret, encode, headers, new_secret, signature
from tests.webhook.samples import NOW, OLD_SECRET, SECRET, an_event

GOLDEN = Path(__file__).parent.parent / "golden" / "webhooks"
ids = st.text(st.sampled_from("abcdefghjkmnpqrstvwxyz0123456789_"), min_size=1, max_size=30)
times = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


def test_golden__body_and_headers__are_what_they_always_were() -> None:
    """Receivers depend on both. The signature stands there as the `standardwebhooks` library made it."""
    kept = json.loads((GOLDEN / "invoice.settled.headers.json").read_text())
    event = an_event(
        object_id="inv_01jd9y3k8000000000000000001",
        version=3,
        at=datetime(2026, 11, 22, 12, 0, 0, 250_000, tzinfo=UTC),
        data={
            "id": "inv_01jd9y3k8000000000000000001",
            "version": 3,
            "status": "settled",
            "exceptions": ["overpaid"],
            "amount_requested": "100.00",
            "amount_received": "101.00",
            "metadata": {"customer": "Zoë 東京 ✓", "quote": 'a "b" \\ /', "empty": {}},
        },
    )
    assert event.type is EventType.INVOICE_SETTLED
    body = encode(event.body())
    assert body == (GOLDEN / "invoice.settled.json").read_bytes()
    assert headers(event.id, NOW, body, [SECRET, OLD_SECRET]) == kept


@given(ids, times, st.binary(max_size=300), st.binary(min_size=24, max_size=64))
def test_headers__any_body__are_those_of_the_library(id_: str, at: datetime, body: bytes, key: bytes) -> None:
    secret = "whsec_" + base64.b64encode(key).decode()
    text = body.decode("latin-1").encode("utf-8")  # the library takes text
    made = headers(id_, at, text, [secret])
    theirs = standardwebhooks.Webhook(secret).sign(id_, at.replace(microsecond=0), text.decode("utf-8"))
    assert made["webhook-signature"] == theirs


def test_headers__two_live_secrets__either_verifies() -> None:
    body = encode(an_event().body())
    made = headers("evt_1", datetime.now(UTC), body, [SECRET, OLD_SECRET])
    assert made["webhook-signature"].count("v1,") == 2
    for secret in (SECRET, OLD_SECRET):
        standardwebhooks.Webhook(secret).verify(body, made)


def test_headers__changed_body_or_id__does_not_verify() -> None:
    body = encode(an_event().body())
    made = headers("evt_1", datetime.now(UTC), body, [SECRET])
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(SECRET).verify(body + b" ", made)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(SECRET).verify(body, {**made, "webhook-id": "evt_2"})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text(st.characters()), json_values))
def test_encode__any_json__is_compact_utf8_and_reads_back(body: dict[str, object]) -> None:
    sent = encode(body)
    sent.decode("utf-8")
    assert json.loads(sent) == body
    assert list(json.loads(sent)) == list(body)


def test_encode__half_a_surrogate_pair__is_escaped() -> None:
    assert encode({"a": "\ud83d"}) == b'{"a":"\\ud83d"}'


def test_encode__nan__is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        encode({"a": float("nan")})


def test_new_secret__is_32_bytes_that_the_library_takes() -> None:
    assert SECRET.startswith("whsec_")
    standardwebhooks.Webhook(SECRET)
    assert check_secret(new_secret(bytes(32))) == new_secret(bytes(32))


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "secret",
        "whsec_",
        "whsec_!!!!",
        "whsec_é",
        "whsk_" + base64.b64encode(bytes(32)).decode(),
        "whsec_" + base64.b64encode(bytes(23)).decode(),
        "whsec_" + base64.b64encode(bytes(65)).decode(),
    ],
)
def test_check_secret__bad__is_refused_without_being_shown(secret: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_secret(secret)
    assert len(secret) < 7 or secret.removeprefix("whsec_") not in str(caught.value)


@pytest.mark.parametrize("length", [24, 64])
def test_check_secret__at_the_bounds__is_taken(length: int) -> None:
    secret = "whsec_" + base64.b64encode(bytes(length)).decode()
    assert signature("evt_1", "0", b"", check_secret(secret)).startswith("v1,")
