"""The code a wallet scans: the invoice's payment URI and nothing else, as SVG that stands alone."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import segno

from settler.api.routes import qr
from settler.storage.api_keys import Scope
from tests.api.conftest import Api, address, invoice
from tests.support.db import sqlite_alone

db_url = sqlite_alone

SVG = "{http://www.w3.org/2000/svg}"
QUIET = 4


def modules(svg: str) -> list[list[int]]:
    """What the picture shows, without its quiet zone: 1 is dark. Reads the one path of horizontal strokes."""
    root = ET.fromstring(svg)
    assert root.tag == f"{SVG}svg"
    size = int(root.attrib["viewBox"].split()[2])
    background, strokes = root
    assert background.tag == strokes.tag == f"{SVG}path"
    assert (background.attrib["fill"], background.attrib["d"]) == ("#fff", f"M0 0h{size}v{size}h-{size}z")
    shown = [[0] * size for _ in range(size)]
    x = y = 0.0
    for command, numbers in re.findall(r"([Mmh])([^Mmh]*)", strokes.attrib["d"]):
        parts = [float(n) for n in re.findall(r"-?[0-9.]+", numbers)]
        if command == "h":
            for column in range(int(x), int(x + parts[0])):
                shown[int(y)][column] = 1
            x += parts[0]
        else:
            x, y = (parts[0], parts[1]) if command == "M" else (x + parts[0], y + parts[1])
    assert not any(shown[0] + shown[QUIET - 1] + [row[0] for row in shown] + [row[-QUIET] for row in shown])
    return [row[QUIET:-QUIET] for row in shown[QUIET:-QUIET]]


def matrix(uri: str) -> list[list[int]]:
    return [list(row) for row in segno.make(uri).matrix]


async def fetched(api: Api, path: str) -> str:
    async with api.client.get(path, headers={"Authorization": f"Bearer {api.key}"}) as response:
        assert response.status == 200
        assert response.content_type == "image/svg+xml"
        assert response.headers["Cache-Control"] == "no-store"
        return await response.text()


async def two_ways(api: Api) -> Any:
    ways = [{"chain": "base", "token": "USDC", "pay_to": address()} for _ in range(2)]
    return await api.post("/v1/invoices", invoice(options=ways))


async def test_qr__shows_the_uri_of_the_option_asked_for(api: Api) -> None:
    made = await two_ways(api)
    first, second = (option["uri"] for option in made["options"])
    assert matrix(first) != matrix(second)
    for query, uri in (("", first), ("?option=0", first), ("?option=1", second)):
        assert modules(await fetched(api, f"/v1/invoices/{made['id']}/qr.svg{query}")) == matrix(uri)


async def test_qr__asked_for_again__is_not_made_again(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A code takes some 15 ms in which the process does nothing else; whoever had one payment page could ask for its
    code again and again.
    """
    made: list[str] = []

    def counted(uri: str) -> segno.QRCode:
        made.append(uri)
        return segno.make_qr(uri)

    monkeypatch.setattr(qr, "code", counted)
    invoice_ = await two_ways(api)
    paths = [f"/v1/invoices/{invoice_['id']}/qr.svg", invoice_["pay_path"] + "/qr.svg"]
    first, *others = [await fetched(api, path) for path in paths * 3]
    assert all(other == first for other in others)
    assert len(made) == 1


async def test_qr__refers_to_nothing_outside(api: Api) -> None:
    made = await two_ways(api)
    svg = await fetched(api, f"/v1/invoices/{made['id']}/qr.svg")
    assert re.findall(r"https?://[^\"]*", svg) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"href|script|<!DOCTYPE|<!ENTITY|url\(", svg)


@pytest.mark.parametrize(
    ("query", "field", "says"),
    [
        ("option=2", "option", "2 is not offered; inv_"),
        ("option=50", "option", "at most|too large|less than"),
        ("option=-1", "option", "'-1' is not a whole number"),
        ("option=1.0", "option", "'1.0' is not a whole number"),
        ("option=%201", "option", "is not a whole number"),
        ("option=", "option", "'' is not a whole number"),
        ("option=one", "option", "'one' is not a whole number"),
        ("option=0&option=1", "option", "more than once"),
        ("size=5", "size", "known are option"),
    ],
)
async def test_qr__wrong_query__is_422(api: Api, query: str, field: str, says: str) -> None:
    made = await two_ways(api)
    problem = await api.refused("GET", f"/v1/invoices/{made['id']}/qr.svg?{query}", 422)
    assert [e["field"] for e in problem["errors"]] == [field]
    assert re.search(says, problem["errors"][0]["detail"])


async def test_qr__of_no_invoice_or_somebody_elses__is_404(api: Api) -> None:
    made = await api.post("/v1/invoices", invoice(merchant="one"))
    other = await api.key_for(Scope.READ, merchant="two")
    for path, key in ((f"/v1/invoices/{made['id']}", other), ("/v1/invoices/inv_" + "0" * 26, None)):
        problem = await api.refused("GET", f"{path}/qr.svg", 404, key=key)
        assert problem["type"] == "urn:settler:problem:not-found"
