"""The description for machines and the page for people: complete, and alike."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest

from settler.api.app import ROUTES
from settler.api.openapi import document
from settler.api.pages import reference
from settler.api.pages.reference import reference_of, with_code
from settler.domain.events import EventType
from tests.api.conftest import Api, Start

DESCRIPTION = document(ROUTES)
SCHEMAS = DESCRIPTION["components"]["schemas"]


class Links(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.hrefs: list[str] = []
        self.sources: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        assert not {"style", "onclick", "onload"} & set(found), f"<{tag}> carries what the policy forbids"
        if "id" in found:
            self.ids.append(str(found["id"]))
        if tag == "a":
            self.hrefs.append(str(found["href"]))
        if "src" in found or tag == "link":
            self.sources.append(str(found.get("src") or found["href"]))


async def test_openapi__without_a_key__is_the_description(api: Api) -> None:
    async with api.client.get("/openapi.json") as response:
        assert (response.status, response.content_type) == (200, "application/json")
        assert await response.json() == json.loads(json.dumps(DESCRIPTION))


def test_description__every_route_with_its_scope_and_every_event() -> None:
    for route in ROUTES:
        operation = DESCRIPTION["paths"][route.path][route.method.lower()]
        assert operation["security"] == [{"key": [route.scope.value]}]
        assert operation["summary"] == route.summary
        assert len(operation["description"]) > len(f"Needs a key with scope `{route.scope}`."), route.path
        assert ("requestBody" in operation) == (route.method == "POST")
    ids = [o["operationId"] for item in DESCRIPTION["paths"].values() for o in item.values()]
    assert len(ids) == len(set(ids))
    assert set(DESCRIPTION["webhooks"]) == {type_.value for type_ in EventType}


def test_description__every_reference_leads_somewhere_and_every_schema_is_used() -> None:
    text = json.dumps(DESCRIPTION)
    refs = set(re.findall(r'"#/components/schemas/(\w+)"', text))
    assert refs == set(SCHEMAS)
    assert set(re.findall(r'"#/components/responses/(\w+)"', text)) <= set(DESCRIPTION["components"]["responses"])


def test_description__amounts_are_strings_and_times_are_dated() -> None:
    invoice = SCHEMAS["Invoice"]["properties"]
    assert invoice["amount_requested"] == {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?$"}
    assert invoice["created_at"]["format"] == "date-time"
    assert SCHEMAS["Option"]["properties"]["amount_base"]["pattern"] == "^[0-9]+$"
    limit = next(p for p in DESCRIPTION["paths"]["/v1/events"]["get"]["parameters"] if p["name"] == "limit")
    assert {k: limit["schema"][k] for k in ("minimum", "maximum", "default")} == {
        "minimum": 1, "maximum": 200, "default": 50
    }  # fmt: skip


def test_description__open_to_what_is_added_later__closed_for_tests() -> None:
    assert SCHEMAS["Invoice"].get("additionalProperties", True) is not False
    assert document(ROUTES, is_closed=True)["components"]["schemas"]["Invoice"]["additionalProperties"] is False


async def test_docs__everything_described_is_on_the_page_and_nothing_is_fetched_from_elsewhere(start: Start) -> None:
    api = await start()
    async with api.client.get("/docs") as response:
        assert (response.status, response.content_type) == (200, "text/html")
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        text = await response.text()
    page = Links(text)
    assert len(page.ids) == len(set(page.ids))
    operations = {o["operationId"] for item in DESCRIPTION["paths"].values() for o in item.values()}
    assert operations | {f"schema-{name}" for name in SCHEMAS} <= set(page.ids)
    for href in page.hrefs:
        assert href == "/openapi.json" or href.removeprefix("#") in page.ids, href
    for source in page.sources:
        assert source.startswith(("/static/", "data:")), source
        if source.startswith("/"):
            async with api.client.get(source) as asset:
                assert asset.status == 200


async def test_docs__asked_for_again__is_not_made_again(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page was put together anew for each stranger who asked: 190 kB, some 40 ms of the whole process."""
    async with api.client.get("/docs") as response:
        first = await response.text()
    monkeypatch.setattr(reference, "fill", lambda *_, **__: pytest.fail("it is made already"))
    async with api.client.get("/docs") as response:
        assert (response.status, await response.text()) == (200, first)


async def test_docs__the_first_example__makes_an_invoice(api: Api) -> None:
    """The line a newcomer copies, with only the key and the address put in."""
    calls = {call.id: call for _, _, calls in reference_of(DESCRIPTION).groups for call in calls}
    example = calls["create_invoice"].example
    sent = re.search(r"-d '(.*)' \"\$URL(.*)\"$", example)
    assert sent is not None, example
    await api.post(sent[2], json.loads(sent[1]), headers={"Idempotency-Key": "k"})


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a `b` c", "a <code>b</code> c"),
        ("<i>`<b>`", "&lt;i&gt;<code>&lt;b&gt;</code>"),
        ("one ` alone", "one ` alone"),
    ],
)
def test_with_code__escapes_all_and_marks_code(text: str, shown: str) -> None:
    assert str(with_code(text)) == shown
