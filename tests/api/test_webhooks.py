"""Webhook endpoints and deliveries over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from settler.storage import webhooks
from settler.webhook.sign import check_secret
from tests.api.conftest import Api, Start, invoice

URL = "https://shop.example/hook"


async def test_post_endpoint__shows_its_secret_once(api: Api) -> None:
    body = {"url": URL, "types": ["invoice.settled", "invoice.settled"], "merchant": "acme"}
    response, made = await api.ask("POST", "/v1/webhook-endpoints", json=body)
    assert response.status == 201
    check_secret(made.pop("secret"))
    assert (made["url"], made["types"], made["merchant"]) == (URL, ["invoice.settled"], "acme")
    assert response.headers["Location"] == f"/v1/webhook-endpoints/{made['id']}"
    assert await api.get(f"/v1/webhook-endpoints/{made['id']}") == made
    assert await api.get("/v1/webhook-endpoints") == {"data": [made], "next_cursor": None}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "url"),
        ({"url": "ftp://shop.example"}, "url"),
        ({"url": "http://127.0.0.1/hook"}, "url"),
        ({"url": "http://[::1]/hook"}, "url"),
        ({"url": "http://169.254.169.254/latest"}, "url"),
        ({"url": "http://localhost:80"}, "url"),
        ({"url": "https://user:secret@shop.example"}, "url"),
        ({"url": "nonsense"}, "url"),
        ({"url": 5}, "url"),
        ({"url": URL, "types": ["invoice.payed"]}, "types[0]"),
        ({"url": URL, "types": "invoice.settled"}, "types"),
        ({"url": URL, "secret": "x"}, "secret"),
    ],
)
async def test_post_endpoint__bad_input__is_422(api: Api, body: dict[str, Any], field: str) -> None:
    problem = await api.refused("POST", "/v1/webhook-endpoints", 422, json=body)
    assert [e["field"] for e in problem["errors"]] == [field]
    assert (await api.get("/v1/webhook-endpoints"))["data"] == []


@pytest.mark.parametrize(("url", "said"), [("ftp://shop.example", "the scheme 'ftp'"), ("nonsense", "no scheme")])
async def test_post_endpoint__not_http__says_what_is_wrong_and_what_to_do(api: Api, url: str, said: str) -> None:
    """It said `url: begins with https:// or http://`, of one that does not."""
    problem = await api.refused("POST", "/v1/webhook-endpoints", 422, json={"url": url})
    assert problem["detail"] == f"url: has {said}; it must begin with https:// or http://"


async def test_post_endpoint__private_addresses_allowed__takes_loopback(start: Start) -> None:
    api = await start(allow_private_webhooks=True)
    await api.post("/v1/webhook-endpoints", {"url": "http://127.0.0.1:9000/hook"})


async def test_post_endpoint__too_many__is_409(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("settler.api.routes.webhooks.MAX_ENDPOINTS", 2)
    for _ in range(2):
        await api.post("/v1/webhook-endpoints", {"url": URL})
    problem = await api.refused("POST", "/v1/webhook-endpoints", 409, json={"url": URL})
    assert "remove" in problem["detail"]


async def test_delete_endpoint__is_gone_from_the_list_and_may_be_repeated(api: Api) -> None:
    made = await api.post("/v1/webhook-endpoints", {"url": URL})
    for _ in range(2):
        response, body = await api.ask("DELETE", f"/v1/webhook-endpoints/{made['id']}")
        assert (response.status, body) == (204, None)
    assert (await api.get("/v1/webhook-endpoints"))["data"] == []
    assert "removed by" in (await api.get(f"/v1/webhook-endpoints/{made['id']}"))["disabled_reason"]
    await api.refused("DELETE", "/v1/webhook-endpoints/whe_01kjmma2g0ge4f94hcy47t12sp", 404)


async def test_deliveries__listed_by_status_and_retried(api: Api) -> None:
    endpoint = await api.post("/v1/webhook-endpoints", {"url": URL})
    await api.post("/v1/invoices", invoice())
    async with api.db.write() as conn:
        assert await webhooks.fan_out(conn, api.clock.now(), 100) == 1
    [delivery] = (await api.get("/v1/webhook-deliveries?status=pending"))["data"]
    assert (delivery["endpoint_id"], delivery["event_type"]) == (endpoint["id"], "invoice.created")
    assert (delivery["attempts"], delivery["last_status_code"]) == (0, None)
    assert (await api.get("/v1/webhook-deliveries?status=dead"))["data"] == []
    assert (await api.get("/v1/webhook-deliveries"))["data"] == [delivery]

    api.clock.advance(60)
    retried = await api.post(f"/v1/webhook-deliveries/{delivery['id']}/retry", status=200)
    assert retried["next_attempt_at"] == "2026-03-01T12:01:00Z"
    await api.refused("POST", "/v1/webhook-deliveries/dlv_01kjmma2g0ge4f94hcy47t12sp/retry", 404)
    problem = await api.refused("POST", "/v1/webhook-deliveries/dlv_x/retry", 404)
    assert problem["detail"] == "there is no delivery 'dlv_x'; the id of a delivery is dlv_ and 26 characters"

    await api.ask("DELETE", f"/v1/webhook-endpoints/{endpoint['id']}")
    await api.refused("POST", f"/v1/webhook-deliveries/{delivery['id']}/retry", 409)
