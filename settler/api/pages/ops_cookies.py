"""The cookies of the operator's pages, and which requests come from these pages themselves.

Over https a cookie is `__Host-…`, Secure. A request counts as https unless it came by plain http to an IP address or
a name of this machine, where there is nobody to encrypt for or the operator chose so; what a proxy says of it
(`X-Forwarded-Proto`) can only make the cookie stricter, so that whoever forges it shuts out himself.
"""

from __future__ import annotations

from http import HTTPStatus

from aiohttp import web

from settler.api.auth import is_own_origin, names_this_machine
from settler.api.errors import Problem

SESSION = "settler"
LOGIN = "settler-login"
"""Holds what the login form has to carry, before there is a session."""
_SECURE_PREFIX = "__Host-"
"""Browsers take it only with Secure, Path=/ and no Domain: no other host can set it. RFC 6265bis section 4.1.3.2."""


def read(request: web.Request, name: str) -> str | None:
    """The cookie, if it can be ours; one that is not Secure only where none can be."""
    found = request.cookies.get(_SECURE_PREFIX + name)
    if found is None and not _is_https(request):
        found = request.cookies.get(name)
    return found if found is not None and found.isascii() else None


def put(request: web.Request, response: web.Response, name: str, text: str) -> None:
    """Until the browser is closed; what it holds says itself when it ends."""
    is_https = _is_https(request)
    response.set_cookie(
        _SECURE_PREFIX + name if is_https else name,
        text,
        path="/",
        secure=is_https,
        httponly=True,
        samesite="Strict",
    )


def drop(request: web.Request, response: web.Response, name: str) -> None:
    is_https = _is_https(request)
    response.del_cookie(
        _SECURE_PREFIX + name if is_https else name, path="/", secure=is_https, httponly=True, samesite="Strict"
    )


def refuse_foreign(request: web.Request) -> None:
    """Raises `Problem` 403 for a form that another site sent.

    `Sec-Fetch-Site` is the browser's own word, which no script can forge (https://www.w3.org/TR/fetch-metadata/).
    Without it (plain http to another machine) the Origin has to name the host that was asked. A browser sends one of
    them with every form; what sends neither is no browser, and has the API.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        is_own = site == "same-origin"
    else:
        is_own = is_own_origin(request, request.headers.get("Origin", ""))
    if not is_own:
        raise Problem(
            HTTPStatus.FORBIDDEN,
            "forbidden",
            "this form was sent from another site, or by something that does not say from where; open the page here "
            "and send it again",
        )


def _is_https(request: web.Request) -> bool:
    return (
        request.secure
        or request.headers.get("X-Forwarded-Proto", "").lower() == "https"
        or request.headers.get("Origin", "").startswith("https://")
        or not names_this_machine(request)
    )
