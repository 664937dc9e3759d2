"""Invoices over HTTP: made, shown, listed, canceled."""

from __future__ import annotations

import pytest

from tests.api.conftest import Api, address, invoice


async def test_post_invoice__a_good_request__is_created_and_found_again(api: Api) -> None:
    body = invoice(metadata={"cart": [1, "ä", None]}, expires_in_s=600, currency="USD")
    response, made = await api.ask("POST", "/v1/invoices", json=body)

    assert response.status == 201
    assert response.headers["Location"] == f"/v1/invoices/{made['id']}"
    assert response.headers["Cache-Control"] == "no-store"
    assert (made["status"], made["merchant"], made["amount_requested"]) == ("pending", "default", "100.00")
    assert made["options"][0]["amount_base"] == "100000000"
    assert made["options"][0]["pay_to"] == body["options"][0]["pay_to"]
    assert made["expires_at"] == "2026-03-01T12:10:00Z"
    assert made["metadata"] == {"cart": [1, "ä", None]}
    assert await api.get(f"/v1/invoices/{made['id']}") == made
    assert await api.get("/v1/invoices") == {"data": [made], "next_cursor": None}


async def test_post_invoice__matched_by_amount__gets_a_unique_amount(api: Api) -> None:
    way = {"chain": "base", "token": "USDC", "pay_to": address(), "match": "amount"}
    amounts = {(await api.post("/v1/invoices", invoice(options=[way])))["options"][0]["amount_base"] for _ in range(3)}
    assert len(amounts) == 3


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("status=pending", {"one", "two"}),
        ("status=settled", set()),
        ("reference=one", {"one"}),
        ("reference=three", set()),
        ("merchant=default", {"one"}),
        ("merchant=other", {"two"}),
        ("exception=overpaid", set()),
        ("merchant=other&status=pending&reference=two", {"two"}),
    ],
)
async def test_list_invoices__filters__show_what_fits(api: Api, query: str, expected: set[str]) -> None:
    await api.post("/v1/invoices", invoice(reference="one"))
    await api.post("/v1/invoices", invoice(reference="two", merchant="other"))
    found = await api.get(f"/v1/invoices?{query}")
    assert {i["reference"] for i in found["data"]} == expected


async def test_cancel__a_pending_invoice__is_canceled_once(api: Api) -> None:
    made = await api.post("/v1/invoices", invoice())
    path = f"/v1/invoices/{made['id']}/cancel"
    canceled = await api.post(path, {"reason": "customer left"}, status=200)
    assert canceled["status"] == "canceled"
    assert canceled["version"] == made["version"] + 1

    again = await api.refused("POST", path, 409, json={"reason": "asked twice"})
    assert "canceled already" in again["detail"]
    assert await api.get(f"/v1/invoices/{made['id']}") == canceled
    told = [e["type"] for e in (await api.get("/v1/events"))["data"]]
    assert told == ["invoice.created", "invoice.canceled"]


async def test_cancel__without_a_body__is_canceled(api: Api) -> None:
    made = await api.post("/v1/invoices", invoice())
    response, canceled = await api.ask("POST", f"/v1/invoices/{made['id']}/cancel")
    assert (response.status, canceled["status"]) == (200, "canceled")


@pytest.mark.parametrize(
    "id_", ["inv_01kjmma2g00000000000000zzz", "inv_short", "trf_01kjmma2g00000000000000zzz", "%00", "%ff"]
)
async def test_invoice__an_id_of_nothing__is_404(api: Api, id_: str) -> None:
    for method, path in (("GET", f"/v1/invoices/{id_}"), ("POST", f"/v1/invoices/{id_}/cancel")):
        problem = await api.refused(method, path, 404)
        assert problem["type"] == "urn:settler:problem:not-found"
