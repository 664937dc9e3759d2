"""Where to, and what a stream has to be: decided without a server."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nats.js.api import StreamConfig

from settler.domain.events import EventType
from settler.stages import nats_credentials
from settler.stages.nats_stream import (
    NatsTarget,
    checked,
    headers,
    matches,
    reply_error,
    stream_problem,
    subject_filter,
)
from settler.stages.relaying import PublishRefused
from tests.relay import nats_jwt
from tests.relay.samples import a_message


def a_target(**given: object) -> NatsTarget:
    return NatsTarget(**{"servers": ("nats://u:s3cret@127.0.0.1",), "stream": "S", "subject": "s.{type}", **given})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "option"),
    [
        ({"servers": ("http://u:s3cret@host",)}, "--url"),
        ({"servers": ("nats://",)}, "--url"),
        ({"servers": ("nats://u:s3cret@host:99999",)}, "--url"),
        ({"servers": ("nats://u:s3 cret@host",)}, "--url"),
        ({"stream": "a.b"}, "--stream"),
        ({"stream": ""}, "--stream"),
        ({"subject": "s..{type}"}, "--subject"),
        ({"subject": "s.{typ}"}, "--subject"),
        ({"subject": "s.>"}, "--subject"),
        ({"subject": ""}, "--subject"),
    ],
)
def test_checked__what_is_wrong__is_named_and_no_secret_shown(given: dict[str, object], option: str) -> None:
    with pytest.raises(ValueError, match=option) as caught:
        checked(a_target(**given))
    assert "s3" not in str(caught.value)


def test_target__shown__has_no_secret() -> None:
    target = checked(a_target())
    assert target.hosts == "127.0.0.1:4222"
    assert "s3cret" not in repr(target)


@pytest.mark.parametrize("subject", ["s.{type}", "{type}", "a.{type}.b", "{type}.{type}", "fixed"])
def test_subject_filter__matches_what_is_sent(subject: str) -> None:
    for type_ in EventType:
        assert matches(subject_filter(subject), subject.replace("{type}", type_.value))
    assert stream_problem(StreamConfig(subjects=[subject_filter(subject)]), subject) is None


@pytest.mark.parametrize(
    ("pattern", "subject", "is_match"),
    [
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        (">", "a.b", True),
        ("a.*.c", "a.b.c", True),
        ("a.*", "a.b.c", False),
        ("*.*.c", "a.b.c", True),
        ("b.>", "a.b", False),
    ],
)
def test_matches__as_nats_does(pattern: str, subject: str, is_match: bool) -> None:
    assert matches(pattern, subject) is is_match


def test_stream_problem__one_kind_of_event_missing__is_named() -> None:
    config = StreamConfig(subjects=["s.invoice.>", "s.payment.*", "s.transfer.unmatched"])
    assert stream_problem(config, "s.{type}") == "takes no s.settlement.created; add s.> to its subjects"


def test_headers__a_merchant_with_anything_in_its_name__cannot_add_a_header() -> None:
    found = headers(a_message(1, merchant="a\r\nNats-Msg-Id: evil ä"))
    assert found["Settler-Merchant"] == "a%0D%0ANats-Msg-Id%3A%20evil%20%C3%A4"
    assert "Settler-Merchant" not in headers(a_message(1, merchant=None))


def test_reply_error__stored_or_known__is_none() -> None:
    assert reply_error(None, b'{"stream":"S","seq":7}', "S") is None
    assert reply_error(None, b'{"stream":"S","seq":7,"duplicate":true}', "S") is None


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'{"stream":"S","seq":0,"duplicate":true}', "without saying where"),
        (b'{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"}}', "maximum bytes exceeded"),
        (b"+ACK", "no acknowledgement"),
        (b"[]", "no acknowledgement"),
        (b'{"error":"x"}', "no acknowledgement"),
    ],
)
def test_reply_error__not_stored__is_tried_again(data: bytes, words: str) -> None:
    error = reply_error(None, data, "S")
    assert not isinstance(error, PublishRefused)
    assert words in str(error)


@pytest.mark.parametrize(
    "data",
    [
        b'{"stream":"OTHER","seq":7}',
        b'{"error":{"code":400,"err_code":10054,"description":"message size exceeds maximum allowed"}}',
    ],
)
def test_reply_error__what_repeating_does_not_mend__is_refused(data: bytes) -> None:
    assert isinstance(reply_error(None, data, "S"), PublishRefused)


def test_reply_error__nobody_listens__is_tried_again() -> None:
    error = reply_error({"Status": "503"}, b"", "S")
    assert "no stream takes" in str(error)


# -- credentials -------------------------------------------------------------------------------------------------------


def test_credentials__as_nsc_writes_them__sign() -> None:
    found = nats_credentials.parse(nats_jwt.credentials(), "file")
    assert found.seed == nats_jwt.OF_USER.seed
    assert nats_jwt.OF_USER.name.startswith("U")
    assert nats_jwt.OF_USER.seed_text.startswith("SU")
    public = Ed25519PrivateKey.from_private_bytes(found.seed).public_key()
    public.verify(base64.b64decode(found.sign("nonce")), b"nonce")
    assert found.jwt not in repr(found)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no NATS credentials file"),
        (nats_jwt.credentials().partition("*")[0], "holds no user JWT with its seed"),
        (nats_jwt.credentials().replace("SU", "SUA", 1), "cut off or changed"),
        (nats_jwt.credentials(nats_jwt.OF_ACCOUNT), "not a user's"),
    ],
)
def test_credentials__of_no_use__are_named_and_not_shown(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "settler.creds"
    file.write_text(text)
    with pytest.raises(ValueError, match=words) as caught:
        checked(a_target(creds=file))
    assert str(caught.value).startswith(f"--creds: {file}")
    assert nats_jwt.OF_USER.seed_text[4:20] not in str(caught.value)
