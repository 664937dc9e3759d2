"""Pages: templates filled on the server, and the few style sheets and scripts they use. Nothing from elsewhere.

Every value is escaped, whoever wrote it; an unknown name in a template is an error and not an empty place. No script
and no style stands in the page itself, so that the content security policy can forbid both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from importlib.resources import files
from typing import Any

from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined

from settler.api.errors import Handler, Problem, not_found, refusing_as

PACKAGE = "settler.api.pages"
STATIC_PATH = "/static/"

SECURITY_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    # a page's address may hold a secret: it is told to nobody
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex, nofollow",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cache-Control": "no-store",
}
"""Of every page. https://owasp.org/www-project-secure-headers/"""

_FOREVER = "public, max-age=31536000, immutable"
"""The address of an asset changes with its content."""
_KINDS = {".css": "text/css", ".js": "text/javascript"}


def page(
    template: str, *, status: int = HTTPStatus.OK, headers: Mapping[str, str] | None = None, **values: Any
) -> web.Response:
    """The template of that name filled with `values`, as an answer with `SECURITY_HEADERS`."""
    return page_of(fill(template, **values), status=status, headers=headers)


def fill(template: str, **values: Any) -> str:
    """The template of that name filled with `values`. For pages that stay the same, to be filled once."""
    return _templates().get_template(template).render(values)


def page_of(html: str, *, status: int = HTTPStatus.OK, headers: Mapping[str, str] | None = None) -> web.Response:
    """A page that `fill` made, as an answer with `SECURITY_HEADERS`."""
    return web.Response(
        status=status,
        text=html,
        content_type="text/html",
        charset="utf-8",
        headers={**SECURITY_HEADERS, **(headers or {})},
    )


def with_problem_pages(handler: Handler) -> Handler:
    """The handler, whose refusals and failures people read as a page."""
    return refusing_as(problem_page, handler)


def problem_page(problem: Problem, _request: web.Request) -> web.Response:
    response = page("problem.html", status=problem.status, headers=problem.headers, problem=problem)
    if problem.closes:
        response.force_close()
    return response


@dataclass(frozen=True, slots=True)
class Asset:
    body: bytes
    content_type: str
    version: str
    """Of its content: a new one is another address."""


def asset_path(name: str) -> str:
    """The address of a style sheet or script, for templates: `asset('base.css')`. Raises `KeyError` for no such one."""
    return f"{STATIC_PATH}{name}?v={_assets()[name].version}"


async def show_asset(request: web.Request) -> web.StreamResponse:
    found = _assets().get(request.match_info["name"])
    if found is None:
        raise not_found("there is no such file")
    is_current = request.query_string == f"v={found.version}"
    return web.Response(
        body=found.body,
        content_type=found.content_type,
        charset="utf-8",
        headers={
            "Cache-Control": _FOREVER if is_current else "no-cache",
            "X-Content-Type-Options": "nosniff",
            "Cross-Origin-Resource-Policy": "same-origin",
        },
    )


@cache
def _assets() -> Mapping[str, Asset]:
    """All of `static/`, by name: a name in a request is looked up here and never on the disk."""
    found: dict[str, Asset] = {}
    for file in (files(PACKAGE) / "static").iterdir():
        kind = next((kind for suffix, kind in _KINDS.items() if file.name.endswith(suffix)), None)
        if kind is not None:
            body = file.read_bytes()
            found[file.name] = Asset(body, kind, hashlib.sha256(body).hexdigest()[:16])
    return found


@cache
def _templates() -> Environment:
    made = Environment(
        loader=PackageLoader(PACKAGE),
        autoescape=True,
        undefined=StrictUndefined,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["asset"] = asset_path
    return made
