"""Who is calling, and what they may do and see.

A key has scopes (`settler.storage.api_keys.Scope`), none of which includes another. A key bound to a merchant sees that
merchant's objects alone: others' are not there (404), transfers in suspense neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from ipaddress import ip_address

from aiohttp import web

from settler.api.errors import Problem
from settler.api.gathering import Gathered
from settler.domain.invoices import DEFAULT_MERCHANT
from settler.storage import api_keys
from settler.storage.api_keys import ApiKey, KeyUses, Scope
from settler.storage.engine import Database

MAX_KEY_CHARS = 200
"""Longer than any key we make; what is longer is not looked up."""
ANONYMOUS = "anonymous"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    name: str
    """Who, in the audit log."""
    scopes: frozenset[Scope]
    merchant: str | None
    """The merchant whose objects alone it sees; `None`: all."""
    idempotency_scope: str
    """Whose idempotency keys its keys are."""

    def require(self, scope: Scope) -> None:
        """Raises `Problem` 403 without that scope."""
        if scope not in self.scopes:
            raise Problem(
                HTTPStatus.FORBIDDEN,
                "forbidden",
                f"this needs a key with scope {scope}; yours has {', '.join(sorted(self.scopes)) or 'none'}",
            )

    def sees(self, merchant: str | None) -> bool:
        """Whether an object of that merchant (`None`: of no merchant) is there for this caller."""
        return self.merchant in {None, merchant}

    def merchant_seen(self, asked: str | None) -> str | None:
        """The merchant to look for. Raises `Problem` 403 when another's is asked for."""
        if self.merchant is None:
            return asked
        if asked not in {None, self.merchant}:
            raise Problem(
                HTTPStatus.FORBIDDEN,
                "forbidden",
                f"your key is bound to merchant {self.merchant!r}, not {asked!r}; "
                "leave merchant out, or use another key",
            )
        return self.merchant

    def merchant_of_new(self, asked: str | None) -> str:
        """Whose a new object is to be. Raises `Problem` 403 when it is to be another's."""
        return self.merchant_seen(asked) or DEFAULT_MERCHANT


EVERYBODY = Caller(
    name=ANONYMOUS,
    scopes=frozenset(Scope),
    merchant=None,
    idempotency_scope=ANONYMOUS,
)
"""Whoever reaches the port, with `auth = "none"`."""


def everybody(request: web.Request) -> Caller:
    """The caller with `auth = "none"`. Raises `Problem` 421 for a Host that is no name of this machine's own, 403 for a
    change that a page of another site asks for.

    A web page elsewhere can point its own name at 127.0.0.1 and then read and write here with the visitor's browser
    (DNS rebinding); its requests bear that name. It can also just send a POST without a body here, which no browser
    asks us about first; its requests bear the page's origin.
    """
    if not names_this_machine(request):
        host = _host(request)
        raise Problem(
            HTTPStatus.MISDIRECTED_REQUEST,
            "misdirected-request",
            f"without keys this API answers to localhost and to IP addresses, not to {host[:80]!r}; call it by one of "
            'these, or use keys (auth = "keys")',
        )
    if request.method not in {"GET", "HEAD"} and _is_from_another_site(request):
        raise Problem(
            HTTPStatus.FORBIDDEN,
            "forbidden",
            "a page of another site asked for this; without keys only programs and pages of this address may",
        )
    return EVERYBODY


def _is_from_another_site(request: web.Request) -> bool:
    """As far as a browser says so; what says nothing is none. https://www.w3.org/TR/fetch-metadata/"""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site not in {"same-origin", "none"}
    origin = request.headers.get("Origin")
    return origin is not None and not is_own_origin(request, origin)


def is_own_origin(request: web.Request, origin: str) -> bool:
    """Whether an `Origin` names the host that was asked, as it was asked. `null`, and what is no origin, do not."""
    scheme, _, host = origin.lower().partition("://")
    return scheme in {"http", "https"} and bool(host) and host == request.host.lower()


def names_this_machine(request: web.Request) -> bool:
    """Whether it was called by localhost or by an IP address, which no other site can be made to bear."""
    host = _host(request)
    return host == "localhost" or host.endswith(".localhost") or _is_ip_address(host)


def _host(request: web.Request) -> str:
    """Without its port."""
    return request.host.rpartition("]")[0].removeprefix("[") or request.host.partition(":")[0]


def _is_ip_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


KEYS_AT_ONCE = 256
"""Looked up together; more than come in the time of a look-up."""


class KeyReader:
    """Looks keys up in the database, those of requests that come at once in one transaction. Nothing is kept: each
    look-up begins after its request came, so that a key that was revoked before opens nothing.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self._gathered = Gathered[tuple[str, datetime], ApiKey | None](
            self._find, most=KEYS_AT_ONCE, name="looking up keys"
        )

    async def find_live(self, text: str, *, now: datetime) -> ApiKey | None:
        """As `api_keys.find_live`."""
        return await self._gathered((text, now))

    async def end(self, _app: object = None) -> None:
        """To be called once no request is under way."""
        await self._gathered.end()

    async def _find(self, asked: Sequence[tuple[str, datetime]]) -> list[ApiKey | None]:
        texts, times = zip(*asked, strict=True)
        async with self._db.read() as conn:
            found = await api_keys.find_all_live(conn, texts, now=max(times))
        return [found.get(text) for text in texts]


async def authenticate(request: web.Request, keys: KeyReader, *, now: datetime, uses: KeyUses) -> Caller:
    """The caller whose key the request bears; that it was used is noted. Raises `Problem` 401.

    The key is looked up by its hash: how long that takes says nothing of how much of it was right.
    """
    found = await keys.find_live(_bearer(request), now=now)
    if found is None:
        raise _unauthenticated("the key is not known, or was revoked", 'Bearer realm="settler", error="invalid_token"')
    uses.note(found.id, now)
    return caller_of(found)


def caller_of(key: ApiKey) -> Caller:
    return Caller(
        name=f"api-key {key.name} ({key.id})",
        scopes=key.scopes,
        merchant=key.merchant,
        idempotency_scope=f"api-key:{key.id}",
    )


def _bearer(request: web.Request) -> str:
    headers = request.headers.getall("Authorization", [])
    if len(headers) != 1:
        said = "there is no Authorization header" if not headers else "Authorization is given more than once"
        raise _unauthenticated(said, 'Bearer realm="settler"')
    scheme, _, key = headers[0].partition(" ")
    key = key.strip()
    if scheme.lower() != "bearer" or not key:
        raise _unauthenticated("Authorization is not of the form `Bearer KEY`", 'Bearer realm="settler"')
    if len(key) > MAX_KEY_CHARS or not key.isascii() or not key.isprintable():
        raise _unauthenticated("this cannot be a key of ours", 'Bearer realm="settler", error="invalid_token"')
    return key


def _unauthenticated(what: str, challenge: str) -> Problem:
    return Problem(
        HTTPStatus.UNAUTHORIZED,
        "unauthenticated",
        f"{what}; send `Authorization: Bearer KEY` with a key from `settler api-key create`",
        headers={"WWW-Authenticate": challenge},
    )
