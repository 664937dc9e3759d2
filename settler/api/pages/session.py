"""Who is logged in at the operator's pages: a sealed cookie, and marks that only this session could have been given.

    cookie   key id . began . seen . nonce . mark          times in Unix seconds; never the key itself
    seal     HMAC-SHA256 under HMAC(stored hash of that very key, "settler ops session")

The seal follows from what is stored of the API key: revoking or rotating the key ends its sessions at once, any
worker can check any session, and there is no further secret to keep. Beside the seal a session has to be open
(`settler.storage.ops_sessions`, which keeps a hash of the nonce): logging out ends it everywhere, and who can read the
database can make no cookie of it. Pure: cookies are set by `settler.api.pages.ops_door`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

LIFE = timedelta(hours=8)
"""A session ends then, used or not: a working day."""
IDLE = timedelta(hours=1)
"""It ends this long after it was used last."""
RENEWED_EVERY = timedelta(minutes=1)
"""The cookie is not written anew at each request."""
SKEW = timedelta(minutes=1)
"""How far another worker's clock may be ahead of ours."""
NONCE_BYTES = 16

_COOKIE = re.compile(
    r"(?P<key_id>key_[0-9a-hjkmnp-tv-z]{26})\.(?P<began>[0-9]{1,12})\.(?P<seen>[0-9]{1,12})"
    r"\.(?P<nonce>[A-Za-z0-9_-]{22})\.(?P<mark>[A-Za-z0-9_-]{43})",
    re.ASCII,
)


class Seal:
    """Makes and checks marks under one secret."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    @classmethod
    def of_key(cls, key_hash: bytes) -> Seal:
        """That of the sessions of an API key, from what is stored of it."""
        return cls(hmac.digest(key_hash, b"settler ops session", hashlib.sha256))

    def mark(self, purpose: str, *parts: str) -> str:
        """43 characters that fit `purpose` and `parts` and nothing else."""
        whole = b"".join(len(part).to_bytes(4) + part for part in (text.encode() for text in (purpose, *parts)))
        return _text(hmac.digest(self._secret, whole, hashlib.sha256))

    def fits(self, mark: str, purpose: str, *parts: str) -> bool:
        """Compared in constant time."""
        return hmac.compare_digest(mark.encode("utf-8", "replace"), self.mark(purpose, *parts).encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    key_id: str
    began: datetime
    """When its owner logged in, to the second."""
    seen: datetime
    """When it was used last, to `RENEWED_EVERY`."""
    nonce: str
    """Tells sessions of one key apart."""

    @classmethod
    def begin(cls, key_id: str, *, now: datetime, entropy: bytes) -> Session:
        assert len(entropy) == NONCE_BYTES, f"a nonce is made of {NONCE_BYTES} bytes, got {len(entropy)}"
        at = now.replace(microsecond=0)
        return cls(key_id=key_id, began=at, seen=at, nonce=_text(entropy))

    def renewed(self, now: datetime) -> Session | None:
        """As it is to be kept from now on; `None` where that is not worth a new cookie."""
        return replace(self, seen=now.replace(microsecond=0)) if now - self.seen >= RENEWED_EVERY else None

    def sealed(self, seal: Seal) -> str:
        """The cookie's text."""
        parts = self._parts()
        return ".".join((*parts, seal.mark("session", *parts)))

    def form_mark(self, seal: Seal) -> str:
        """What every form of this session carries; the same as long as it lasts."""
        return seal.mark("form", self.key_id, self._parts()[1], self.nonce)

    def _parts(self) -> tuple[str, str, str, str]:
        return self.key_id, str(int(self.began.timestamp())), str(int(self.seen.timestamp())), self.nonce


def key_id_of(cookie: str) -> str | None:
    """Whose session a cookie says it is, unchecked; `None` for what is no cookie of ours."""
    found = _COOKIE.fullmatch(cookie)
    return None if found is None else found["key_id"]


def opened(cookie: str, seal: Seal, *, now: datetime) -> Session | None:
    """The session, unless the seal is broken or its time is over."""
    found = _COOKIE.fullmatch(cookie)
    if found is None or not seal.fits(found["mark"], "session", *found.group("key_id", "began", "seen", "nonce")):
        return None
    began, seen = (datetime.fromtimestamp(int(found[name]), UTC) for name in ("began", "seen"))
    if not (began - SKEW <= now < began + LIFE and seen - SKEW <= now < seen + IDLE):
        return None
    return Session(key_id=found["key_id"], began=began, seen=seen, nonce=found["nonce"])


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
