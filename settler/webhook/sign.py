"""Signatures of Standard Webhooks 1.0 (https://github.com/standard-webhooks/standard-webhooks), symmetric,
`v1`.

What is signed is the exact bytes that are sent. A receiver verifies with the `standardwebhooks` library of
its language.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from settler.domain.errors import InvalidInput

SECRET_PREFIX = "whsec_"  # noqa: S105  # the format's, no secret
SECRET_BYTES = 32
"""As long as the digest: more gives HMAC-SHA256 nothing."""
SECRET_BYTES_MIN = 24
SECRET_BYTES_MAX = 64
"""The bounds of Standard Webhooks."""


def new_secret(entropy: bytes) -> str:
    """`whsec_` and base64 of `entropy`: `SECRET_BYTES` bytes of a secure source."""
    assert len(entropy) == SECRET_BYTES, f"a secret needs {SECRET_BYTES} bytes, got {len(entropy)}"
    return SECRET_PREFIX + base64.b64encode(entropy).decode("ascii")


def check_secret(secret: str) -> str:
    """`secret` as it is, if it can sign. Raises `InvalidInput`, which does not show it."""
    key_of(secret)
    return secret


def key_of(secret: str) -> bytes:
    """The key of a `whsec_` secret. Raises `InvalidInput`, which does not show it."""
    if not secret.startswith(SECRET_PREFIX):
        raise InvalidInput("secret", f"begins with {SECRET_PREFIX!r}")
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):  # ValueError: not ASCII. No `from`: its text could quote the secret.
        raise InvalidInput("secret", f"what follows {SECRET_PREFIX!r} is not base64") from None
    if not SECRET_BYTES_MIN <= len(key) <= SECRET_BYTES_MAX:
        raise InvalidInput("secret", f"is {len(key)} bytes long; takes {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX}")
    return key


def encode(body: Mapping[str, Any]) -> bytes:
    """Compact JSON in UTF-8, in the order given. Equal bodies give equal bytes: every attempt sends the
    same."""
    text = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # A lone surrogate (half a pair in a merchant's metadata) has no UTF-8; `\ud83d`, its JSON escape, is what
    # this writes.
    return text.encode("utf-8", "backslashreplace")


def headers(message_id: str, at: datetime, body: bytes, secrets: Sequence[str]) -> dict[str, str]:
    """The headers that make `body` a webhook sent `at`; one signature for each live secret (at least one)."""
    assert secrets, "a webhook is signed"
    timestamp = str(int(at.timestamp()))
    return {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(signature(message_id, timestamp, body, secret) for secret in secrets),
    }


def signature(message_id: str, timestamp: str, body: bytes, secret: str) -> str:
    """`v1,` and base64 of HMAC-SHA256 over `id.timestamp.body`."""
    signed = b".".join((message_id.encode("ascii"), timestamp.encode("ascii"), body))
    return "v1," + base64.b64encode(hmac.digest(key_of(secret), signed, "sha256")).decode("ascii")
