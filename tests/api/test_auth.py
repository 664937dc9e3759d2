"""Who may call what, and what is there for whom."""

from __future__ import annotations

import pytest

from settler.api.app import ROUTES
from settler.storage import api_keys
from settler.storage.api_keys import Scope
from tests.api.conftest import Api, Start, invoice
from tests.support.db import sqlite_alone

db_url = sqlite_alone

SOME_ID = "01kjmma2g0ge4f94hcy47t12sp"


def addressed(path: str) -> str:
    prefix = {
        "holds": "hld", "invoices": "inv", "transfers": "trf", "settlements": "stl", "webhook-endpoints": "whe"
    }  # fmt: skip
    return path.replace("{id}", f"{prefix.get(path.split('/')[2], 'dlv')}_{SOME_ID}")


@pytest.mark.parametrize(("method", "path"), [(r.method, addressed(r.path)) for r in ROUTES])
async def test_every_route__without_a_key__is_401(api: Api, method: str, path: str) -> None:
    async with api.client.request(method, path) as response:
        problem = await response.json()
        assert (response.status, problem["status"]) == (401, 401)
        assert response.content_type == "application/problem+json"
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
        assert "settler api-key create" in problem["detail"]


@pytest.mark.parametrize(("method", "path", "scope"), [(r.method, addressed(r.path), r.scope) for r in ROUTES])
async def test_every_route__with_every_scope_but_its_own__is_403(
    api: Api, method: str, path: str, scope: Scope
) -> None:
    key = await api.key_for(*(set(Scope) - {scope}))
    problem = await api.refused(method, path, 403, key=key)
    assert f"scope {scope.value}" in problem["detail"]
    right = await api.key_for(scope)
    response, _ = await api.ask(method, path, key=right)
    assert response.status not in {401, 403}


def test_scopes__gets_read_operators_decide_and_the_rest_writes() -> None:
    decisions = {r.path for r in ROUTES if r.method == "POST" and r.scope is Scope.OPERATE}
    assert decisions == {
        "/v1/invoices/{id}/mark",
        "/v1/transfers/{id}/assign",
        "/v1/transfers/{id}/dismiss",
        "/v1/holds",
        "/v1/holds/{id}/release",
    }
    for route in ROUTES:
        if route.path not in decisions or route.method == "GET":
            assert route.scope is (Scope.READ if route.method == "GET" else Scope.WRITE)


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Basic abc", "sk_123", "Bearer sk_123", "Bearer " + "k" * 300, "Bearer ä", "Bearer a b"],
)
async def test_authorization__that_is_no_key_of_ours__is_401(api: Api, header: str) -> None:
    async with api.client.get("/v1/invoices", headers={"Authorization": header}) as response:
        assert response.status == 401
        assert "Bearer" in response.headers["WWW-Authenticate"]


async def test_authorization__the_scheme_in_any_case__is_accepted(api: Api) -> None:
    async with api.client.get("/v1/invoices", headers={"Authorization": f"bEARER {api.key}"}) as response:
        assert response.status == 200


async def test_authorization__a_revoked_key__is_401_at_once(api: Api) -> None:
    key = await api.key_for(Scope.READ)
    await api.get("/v1/invoices", key=key)
    async with api.db.write() as conn:
        newest = (await api_keys.list_all(conn))[0]
        await api_keys.revoke(conn, newest.id, now=api.clock.now(), who="test", reason="leaked")
    await api.refused("GET", "/v1/invoices", 401, key=key)


async def test_auth_none__everybody_may_do_everything(start: Start) -> None:
    api = await start(auth="none")
    async with api.client.post("/v1/invoices", json=invoice()) as response:
        made = await response.json()
        assert response.status == 201
    async with api.client.post(f"/v1/invoices/{made['id']}/cancel", json={}) as response:
        assert response.status == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:8080", 200),
        ("127.0.0.1", 200),
        ("[::1]:8080", 200),
        ("app.localhost", 200),
        ("attacker.example", 421),
        ("localhost.attacker.example:80", 421),
        ("127.0.0.1.attacker.example", 421),
        ("[::", 421),
    ],
)
async def test_auth_none__called_by_a_foreign_name__is_421(start: Start, host: str, status: int) -> None:
    """DNS rebinding: a page that points its own name at this machine."""
    api = await start(auth="none")
    async with api.client.get("/v1/invoices", headers={"Host": host}) as response:
        assert response.status == status


@pytest.mark.parametrize(
    ("headers", "is_let_in"),
    [
        ({"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}, False),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "http://["}, False),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:3000"}, False),
        ({"Origin": "http://127.0.0.1:8080", "Sec-Fetch-Site": "same-origin"}, True),
        ({}, True),
    ],
)
async def test_auth_none__a_page_of_another_site__changes_nothing(
    start: Start, headers: dict[str, str], is_let_in: bool
) -> None:
    """A POST without a body needs no permission of ours from a browser: any page that an operator visited could have
    all webhooks sent again.
    """
    api = await start(auth="none")
    called = {"Host": "127.0.0.1:8080", **headers}
    async with api.client.post("/v1/webhook-deliveries/replay", headers=called) as response:
        assert response.status == (200 if is_let_in else 403), await response.text()
    async with api.client.get("/v1/invoices", headers=called) as response:
        assert response.status == 200, "looking is not changing, and the browser keeps the answer from the page"


async def test_a_bound_key__makes_and_sees_its_merchants_objects_alone(api: Api) -> None:
    acme = await api.key_for(*Scope, merchant="acme")
    ours = await api.post("/v1/invoices", invoice(), key=acme)
    theirs = await api.post("/v1/invoices", invoice(merchant="other"))
    assert ours["merchant"] == "acme"

    assert [i["id"] for i in (await api.get("/v1/invoices", key=acme))["data"]] == [ours["id"]]
    assert (await api.get(f"/v1/invoices/{ours['id']}", key=acme))["id"] == ours["id"]
    await api.refused("GET", f"/v1/invoices/{theirs['id']}", 404, key=acme)
    await api.refused("POST", f"/v1/invoices/{theirs['id']}/cancel", 404, key=acme)
    assert (await api.get(f"/v1/invoices/{theirs['id']}"))["status"] == "pending"
    reference = theirs["reference"]
    assert (await api.get(f"/v1/invoices?reference={reference}", key=acme))["data"] == []


async def test_a_bound_key__for_another_merchant__is_403(api: Api) -> None:
    acme = await api.key_for(*Scope, merchant="acme")
    problem = await api.refused("POST", "/v1/invoices", 403, key=acme, json=invoice(merchant="other"))
    assert "acme" in problem["detail"]
    for path in ("/v1/invoices", "/v1/transfers", "/v1/settlements"):
        await api.refused("GET", f"{path}?merchant=other", 403, key=acme)
        await api.get(f"{path}?merchant=acme", key=acme)
    url = "https://shop.example/hook"
    await api.refused("POST", "/v1/webhook-endpoints", 403, key=acme, json={"url": url, "merchant": "other"})
    assert (await api.get("/v1/invoices"))["data"] == []


async def test_a_bound_key__sees_its_own_events_and_endpoints(api: Api) -> None:
    acme = await api.key_for(*Scope, merchant="acme")
    ours = await api.post("/v1/invoices", invoice(), key=acme)
    await api.post("/v1/invoices", invoice())
    everything = (await api.get("/v1/events"))["data"]
    seen = (await api.get("/v1/events", key=acme))["data"]
    assert len(everything) == 2
    assert [e["data"]["id"] for e in seen] == [ours["id"]]
    foreign = next(e["id"] for e in everything if e["id"] != seen[0]["id"])
    await api.refused("GET", f"/v1/events?after={foreign}", 422, key=acme)

    url = "https://shop.example/hook"
    mine = await api.post("/v1/webhook-endpoints", {"url": url}, key=acme)
    theirs = await api.post("/v1/webhook-endpoints", {"url": url})
    assert (mine["merchant"], theirs["merchant"]) == ("acme", None)
    assert [e["id"] for e in (await api.get("/v1/webhook-endpoints", key=acme))["data"]] == [mine["id"]]
    await api.refused("GET", f"/v1/webhook-endpoints/{theirs['id']}", 404, key=acme)
    await api.refused("DELETE", f"/v1/webhook-endpoints/{theirs['id']}", 404, key=acme)
