"""A browser without a screen for the operator's pages: keeps cookies, reads what is on a page, fills in its forms."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp
from aiohttp.test_utils import TestClient

OWN_SITE = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": "document"}
MAX_STEPS = 5
_VOID = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr"}


@dataclass(slots=True)
class Form:
    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)
    """What it sends as it stands."""


class Html(HTMLParser):
    """A page taken apart. Raises `AssertionError` where tags do not close as they opened, or an id is there twice."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.forms: list[Form] = []
        self.links: dict[str, str] = {}
        """Addresses by their text."""
        self.hrefs: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.said: list[str] = []
        self._open: list[str] = []
        self._link: list[str] | None = None
        self.feed(text)
        self.close()
        assert self._open == [], f"never closed: {self._open}"
        ids = [attributes["id"] for _, attributes in self.tags if "id" in attributes]
        assert len(ids) == len(set(ids)), f"an id is there twice: {ids}"

    @property
    def text(self) -> str:
        """All that is read, with single spaces."""
        return " ".join(" ".join(self.said).split())

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def form(self, action: str) -> Form:
        """The form that is sent there; the part before the last slash may be left out."""
        found = [form for form in self.forms if form.action.endswith(action)]
        assert len(found) == 1, f"{action} is not among {[form.action for form in self.forms]}, or not alone"
        return found[0]

    def actions(self) -> list[str]:
        """What may be done here, by the last part of each form's address."""
        return [form.action.rpartition("/")[2] for form in self.forms if form.method == "post"]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        assert len(attributes) == len(attrs), f"<{tag}> has an attribute twice: {attrs}"
        self.tags.append((tag, attributes))
        if tag not in _VOID:
            self._open.append(tag)
        match tag:
            case "form":
                self.forms.append(Form(action=attributes["action"] or "", method=(attributes["method"] or "").lower()))
            case "input" if self.forms and attributes.get("name") and "form" in self._open:
                self.forms[-1].fields[str(attributes["name"])] = attributes.get("value") or ""
            case "a":
                self.hrefs.append(attributes["href"] or "")
                self._link = []
            case _:
                pass

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open[-1] == tag, f"</{tag}> inside of {self._open}"
        self._open.pop()
        if tag == "a" and self._link is not None:
            self.links[" ".join("".join(self._link).split())] = self.hrefs[-1]
            self._link = None

    def handle_data(self, data: str) -> None:
        if "script" not in self._open and "style" not in self._open:
            self.said.append(data)
        if self._link is not None:
            self._link.append(data)


@dataclass(slots=True)
class Browser:
    """One person's; `client` is shared, the cookies are its own."""

    client: TestClient[Any, Any]
    headers: dict[str, str] = field(default_factory=lambda: dict(OWN_SITE))
    """Sent with each request."""
    cookies: dict[str, str] = field(default_factory=dict)
    address: str = "/ops"
    html: Html = field(default_factory=lambda: Html(""))
    raw: str = ""

    async def open(self, path: str, *, status: int = 200, headers: dict[str, str] | None = None) -> Html:
        """The page there, or where it leads."""
        await self.request("GET", path, status=status, headers=headers)
        return self.html

    async def send(self, action: str, *, status: int = 200, **fields: str) -> Html:
        """Fills in and sends the form of the open page; the page it leads to."""
        form = self.html.form(action)
        assert form.method == "post"
        await self.request("POST", form.action, status=status, data={**form.fields, **fields})
        return self.html

    async def log_in(self, key: str, *, status: int = 200, at: str = "/ops") -> Html:
        await self.open(at)
        assert self.address.startswith("/ops/login")
        return await self.send("/ops/login", key=key, status=status)

    async def request(
        self,
        method: str,
        path: str,
        *,
        status: int = 200,
        headers: dict[str, str] | None = None,
        data: dict[str, str] | None = None,
    ) -> aiohttp.ClientResponse:
        """Follows redirections; the last answer must be of `status`."""
        for step in itertools.count(1):
            assert step <= MAX_STEPS, f"{path} leads round in a circle"
            self.client.session.cookie_jar.clear()
            sent = {**self.headers, **(headers or {})}
            if self.cookies:
                sent["Cookie"] = "; ".join(f"{name}={text}" for name, text in self.cookies.items())
            async with self.client.request(method, path, headers=sent, data=data, allow_redirects=False) as response:
                self.raw = await response.text()
            self._keep(response)
            if response.status in {303, 308}:
                method, data, path = "GET", None, urljoin(path, response.headers["Location"])
                continue
            assert response.status == status, (response.status, self.raw)
            self.address = path
            self.html = Html(self.raw)
            return response
        raise AssertionError("unreachable: counting never ends")

    def _keep(self, response: aiohttp.ClientResponse) -> None:
        for name, morsel in response.cookies.items():
            assert morsel["httponly"] and morsel["samesite"] == "Strict" and morsel["path"] == "/", (
                morsel.OutputString()
            )
            if morsel.value:
                self.cookies[name] = morsel.value
            else:
                self.cookies.pop(name, None)

    @property
    def path(self) -> str:
        return urlsplit(self.address).path
