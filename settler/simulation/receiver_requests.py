"""One request as a receiver takes it off the wire, and what is wrong with it: the merchant's side, written anew.

Uses nothing of `settler.webhook`: what the sender and this agree on is Standard Webhooks 1.0 and the documentation.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from settler.domain.events import EventType

TOLERANCE = timedelta(minutes=5)
"""Of the timestamp; as the `standardwebhooks` libraries have it."""
_TYPES = frozenset(each.value for each in EventType)


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def sent_at(self) -> datetime:
        return datetime.fromtimestamp(int(self.headers["webhook-timestamp"]), UTC)


@dataclass(frozen=True, slots=True)
class Wrong:
    """Why a request is none that the sender may send."""

    what: str


def read_request(data: bytes) -> Request | None:
    """The request that `data` begins with; `None`: there is more to come. Whatever follows it belongs to its body."""
    head, end, body = data.partition(b"\r\n\r\n")
    if not end:
        return None
    line, *rest = head.decode("latin-1").split("\r\n")
    headers = {}
    for each in rest:
        name, _, value = each.partition(":")
        headers[name.lower()] = value.strip()
    if len(body) < int(headers.get("content-length", "0")):
        return None
    method, _, target = line.partition(" ")
    return Request(method, target.rpartition(" ")[0], headers, body)


def event_type(request: Request, *, host: str, path: str, secrets: Iterable[str]) -> str | Wrong:
    """The type of the event that a genuine webhook tells of. Its age is not looked at: `is_timely`."""
    headers = request.headers
    if request.method != "POST" or request.path != path:
        return Wrong(f"{request.method} {request.path}: was a redirect followed?")
    if headers.get("host") != host:
        return Wrong(f"meant for host {headers.get('host')!r}")
    if headers.get("content-length") != str(len(request.body)):
        return Wrong(f"a body of {len(request.body)} bytes is said to be {headers.get('content-length')!r}")
    if "cookie" in headers or "authorization" in headers:
        return Wrong("it carries a cookie or a password")
    if not is_signed(request, secrets):
        return Wrong(f"{headers.get('webhook-id')!r} is not signed with a secret of this receiver")
    return _told(request)


def is_signed(request: Request, secrets: Iterable[str]) -> bool:
    headers = request.headers
    id_, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not id_ or not timestamp.isdecimal():
        return False
    signed = f"{id_}.{timestamp}.".encode() + request.body
    given = [each.removeprefix("v1,") for each in headers.get("webhook-signature", "").split(" ")]
    for secret in secrets:
        expected = base64.b64encode(hmac.digest(_key(secret), signed, hashlib.sha256)).decode("ascii")
        if any(hmac.compare_digest(expected, each) for each in given):
            return True
    return False


@lru_cache(maxsize=256)
def _key(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix("whsec_"))


def is_timely(request: Request, now: datetime) -> bool:
    """Whether a receiver whose clock says `now` takes it for new."""
    return abs(now - request.sent_at) <= TOLERANCE


def _told(request: Request) -> str | Wrong:
    if request.headers.get("content-type") != "application/json":
        return Wrong(f"a body of type {request.headers.get('content-type')!r}")
    try:
        event: Any = json.loads(request.body)
    except ValueError as error:
        return Wrong(f"{request.id}: no JSON: {error}")
    match event:
        case {"id": request.id, "type": str(type_), "created_at": str(created), "data": dict(data)} if data:
            pass
        case _:
            return Wrong(f"{request.id}: not the body of an event: {request.body[:80]!r}")
    if type_ not in _TYPES:
        return Wrong(f"{request.id}: an event of type {type_!r}, which is none")
    try:
        at = datetime.fromisoformat(created)
    except ValueError as error:
        return Wrong(f"{request.id}: {error}")
    return type_ if at.tzinfo is not None else Wrong(f"{request.id}: its time has no zone: {created}")
