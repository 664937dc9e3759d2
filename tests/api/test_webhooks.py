"""Webhook endpoints and deliveries over HTTP."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from settler.domain.delivery import DeliveryId, LoggedAttempt
from settler.storage import operator_actions, webhooks
from settler.storage.api_keys import Scope
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


async def test_post_endpoint__answer_lost_and_asked_again__is_the_same_endpoint_and_secret(api: Api) -> None:
    """Who never saw the first answer would else have an endpoint whose secret nobody knows."""
    key = {"Idempotency-Key": "endpoint-1"}
    made = await api.post("/v1/webhook-endpoints", {"url": URL}, headers=key)
    response, again = await api.ask("POST", "/v1/webhook-endpoints", json={"url": URL}, headers=key)
    assert (response.headers["Idempotency-Hit"], again) == ("true", made)
    others = await api.key_for(Scope.WRITE)
    other = await api.post("/v1/webhook-endpoints", {"url": URL}, headers=key, key=others)
    assert other["secret"] != made["secret"], "an idempotency key is its API key's own"


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
    monkeypatch.setattr("settler.storage.webhook_admin.MAX_ENDPOINTS", 2)
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


async def test_delivery__shown_with_its_attempts_newest_first(api: Api) -> None:
    id_ = await _delivery(api, URL)
    shown = await api.get(f"/v1/webhook-deliveries/{id_}")
    assert (shown["id"], shown["attempt_log"]) == (id_, [])
    now = api.clock.now()
    async with api.db.write() as conn:
        for number in range(60):
            attempt = LoggedAttempt(
                delivery_id=DeliveryId(id_),
                at=now + timedelta(seconds=number),
                duration_ms=number,
                status_code=None if number else 500,
                error="no answer within 15 s" if number else "answered 500",
            )
            await webhooks.log_attempts(conn, [attempt])
    log = (await api.get(f"/v1/webhook-deliveries/{id_}"))["attempt_log"]
    assert [each["duration_ms"] for each in log] == list(range(59, 9, -1))
    assert log[0] == {
        "at": "2026-03-01T12:00:59Z",
        "duration_ms": 59,
        "status_code": None,
        "error": "no answer within 15 s",
    }
    await api.refused("GET", "/v1/webhook-deliveries/dlv_01kjmma2g0ge4f94hcy47t12sp", 404)
    others = await api.key_for(Scope.READ, merchant="other")
    await api.refused("GET", f"/v1/webhook-deliveries/{id_}", 404, key=others)


async def test_deliveries__listed_by_endpoint_event_and_type(api: Api) -> None:
    id_ = await _delivery(api, URL)
    shown = (await api.get("/v1/webhook-deliveries"))["data"]
    [delivery] = shown
    for name in ("endpoint_id", "event_id", "event_type"):
        assert (await api.get(f"/v1/webhook-deliveries?{name}={delivery[name]}"))["data"] == shown
    assert (await api.get("/v1/webhook-deliveries?event_type=invoice.settled"))["data"] == []
    assert (await api.get(f"/v1/webhook-deliveries?event_id={id_}"))["data"] == []
    await api.refused("GET", "/v1/webhook-deliveries?event_type=invoice.payed", 422)


async def test_rotate_secret__new_secret_shown_once_and_both_sign_for_the_overlap(api: Api) -> None:
    made = await api.post("/v1/webhook-endpoints", {"url": URL})
    path = f"/v1/webhook-endpoints/{made['id']}"
    key = {"Idempotency-Key": "rotation-1"}
    rotated = await api.post(f"{path}/rotate-secret", {"overlap_s": 3600}, status=200, headers=key)
    check_secret(rotated["secret"])
    assert rotated["secret"] != made["secret"]
    assert rotated["previous_secret_until"] == "2026-03-01T13:00:00Z"
    # who lost the answer asks again with its key, and gets the same secret, not a third one
    assert await api.post(f"{path}/rotate-secret", {"overlap_s": 3600}, status=200, headers=key) == rotated
    assert await api.get(path) == {name: value for name, value in rotated.items() if name != "secret"}
    async with api.db.read() as conn:
        kept = await webhooks.get_endpoint(conn, made["id"])
        [action, _] = [each.action for each in await operator_actions.find(conn, object_id=made["id"])]
    assert kept is not None
    assert kept.secrets(api.clock.now()) == (rotated["secret"], made["secret"])
    assert action.action == "webhook_endpoint.rotate_secret"

    at_once = await api.post(f"{path}/rotate-secret", {"overlap_s": 0, "reason": "it leaked"}, status=200)
    assert at_once["previous_secret_until"] is None


async def test_rotate_secret__bad_overlap__is_422(api: Api) -> None:
    made = await api.post("/v1/webhook-endpoints", {"url": URL})
    for bad in (-1, 604_801, "60", 1.5, None):
        path = f"/v1/webhook-endpoints/{made['id']}/rotate-secret"
        problem = await api.refused("POST", path, 422, json={"overlap_s": bad})
        assert [e["field"] for e in problem["errors"]] == ["overlap_s"]


async def test_endpoint__of_another_merchant__is_not_there(api: Api) -> None:
    made = await api.post("/v1/webhook-endpoints", {"url": URL, "merchant": "acme"})
    others = await api.key_for(Scope.READ, Scope.WRITE, merchant="other")
    path = f"/v1/webhook-endpoints/{made['id']}"
    for method, where in (("GET", ""), ("DELETE", ""), ("POST", "/rotate-secret"), ("POST", "/enable")):
        await api.refused(method, path + where, 404, key=others)
    problem = {"endpoint_id": made["id"]}
    await api.refused("POST", "/v1/webhook-deliveries/replay", 404, key=others, json=problem)
    reader = await api.key_for(Scope.READ)
    for where in (f"{path}/rotate-secret", f"{path}/enable", "/v1/webhook-deliveries/replay"):
        await api.refused("POST", where, 403, key=reader)


async def test_enable__disabled_endpoint__its_dead_letters_can_be_replayed(api: Api) -> None:
    id_ = await _delivery(api, URL)
    endpoint = (await api.get(f"/v1/webhook-deliveries/{id_}"))["endpoint_id"]
    async with api.db.write() as conn:
        await webhooks.disable_endpoint(conn, endpoint, api.clock.now(), reason="the endpoint answered 410 Gone")
        assert await webhooks.bury(conn, 100) == 1
    assert (await api.get("/v1/webhook-endpoints"))["data"] == []
    [disabled] = (await api.get("/v1/webhook-endpoints?status=disabled"))["data"]
    assert disabled["disabled_reason"] == "the endpoint answered 410 Gone"
    assert len((await api.get("/v1/webhook-endpoints?status=all"))["data"]) == 1
    await api.refused("POST", f"/v1/webhook-deliveries/{id_}/retry", 409)
    await api.refused("POST", "/v1/webhook-deliveries/replay", 409, json={"endpoint_id": endpoint})

    enabled = await api.post(f"/v1/webhook-endpoints/{endpoint}/enable", {"reason": "deployed"}, status=200)
    assert (enabled["disabled_at"], enabled["disabled_reason"]) == (None, None)
    await api.refused("POST", f"/v1/webhook-endpoints/{endpoint}/enable", 409)
    api.clock.advance(1)
    done = await api.post("/v1/webhook-deliveries/replay", {"dead_only": True}, status=200)
    assert (done["replayed"], done["created"], done["next_cursor"]) == (1, 0, None)
    assert (await api.get(f"/v1/webhook-deliveries/{id_}"))["status"] == "pending"


async def test_replay__in_pieces__says_how_to_go_on_and_is_done_once_a_key(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("settler.api.routes.deliveries.PIECE", 2)
    for _ in range(3):
        await api.post("/v1/invoices", invoice())
    late = await api.post("/v1/webhook-endpoints", {"url": URL})  # none of the three goes there
    api.clock.advance(1)
    body = {"endpoint_id": late["id"], "since": "2026-03-01T12:00:00Z"}
    first = await api.post("/v1/webhook-deliveries/replay", body, status=200, headers={"Idempotency-Key": "r1"})
    assert first == {
        "since": "2026-03-01T12:00:00Z",
        "until": "2026-03-01T12:00:01Z",
        "dead_only": False,
        "endpoint_id": late["id"],
        "replayed": 0,
        "created": 2,
        "next_cursor": first["next_cursor"],
    }
    assert await api.post("/v1/webhook-deliveries/replay", body, status=200, headers={"Idempotency-Key": "r1"}) == first
    api.clock.advance(60)
    await api.post("/v1/invoices", invoice())  # after the range
    rest = {**body, "until": first["until"], "cursor": first["next_cursor"]}
    last = await api.post("/v1/webhook-deliveries/replay", rest, status=200)
    assert (last["created"], last["until"], last["next_cursor"]) == (1, first["until"], None)
    assert len((await api.get("/v1/webhook-deliveries"))["data"]) == 3


async def test_replay__by_a_merchants_key__reaches_its_own_endpoints_alone(api: Api) -> None:
    own = await api.post("/v1/webhook-endpoints", {"url": URL, "merchant": "acme"})
    await api.post("/v1/webhook-endpoints", {"url": URL})
    await api.post("/v1/invoices", invoice(merchant="acme"))
    async with api.db.write() as conn:
        now = api.clock.now()
        await webhooks.fan_out(conn, now, 100)
        for claim in await webhooks.claim_due(conn, now, per_endpoint=9, limit=9, lease_s=60):
            await webhooks.record_delivered(conn, claim, now, status_code=200)
    api.clock.advance(1)
    key = await api.key_for(Scope.READ, Scope.WRITE, merchant="acme")
    done = await api.post("/v1/webhook-deliveries/replay", {}, status=200, key=key)
    assert done["replayed"] == 1
    [due] = (await api.get("/v1/webhook-deliveries?status=pending"))["data"]
    assert due["endpoint_id"] == own["id"]


async def test_replay__bad_input__is_422(api: Api) -> None:
    for body, said in (
        ({"since": "yesterday"}, "is no time"),
        ({"since": "2026-13-01T00:00:00Z"}, "is no time"),
        ({"since": "2026-03-01T00:00:00"}, "is no time"),
        ({"since": 5}, "since"),
        ({"since": "2026-03-02T00:00:00Z", "until": "2026-03-01T00:00:00Z"}, "not before"),
        ({"endpoint_id": "whe_1"}, "no id of a webhook endpoint"),
        ({"cursor": "ZHh4"}, "`until`"),
        ({"cursor": "ZHh4", "until": "2026-03-01T00:00:00Z"}, "next_cursor"),
        ({"dead": True}, "dead"),
    ):
        problem = await api.refused("POST", "/v1/webhook-deliveries/replay", 422, json=body)
        assert said in problem["detail"], body


async def _delivery(api: Api, url: str) -> str:
    """Of a new invoice to a new endpoint: its id."""
    await api.post("/v1/webhook-endpoints", {"url": url})
    await api.post("/v1/invoices", invoice())
    async with api.db.write() as conn:
        await webhooks.fan_out(conn, api.clock.now(), 100)
    [delivery] = (await api.get("/v1/webhook-deliveries"))["data"]
    return str(delivery["id"])
