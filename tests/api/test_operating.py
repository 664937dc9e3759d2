"""What operators decide, over HTTP: assign, dismiss, mark, holds; who may, what is refused, and many at once."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from typing import Any

import pytest

from settler.domain.invoices import Invoice, TransferRecord
from settler.storage import operator_actions, schema
from settler.storage.api_keys import Scope
from tests.api.conftest import Api, invoice
from tests.api.test_auth import SOME_ID
from tests.api.test_never_5xx import twisted
from tests.stages.test_operating import of_usdc, stray
from tests.support.db import on_sqlite
from tests.support.dump import audit
from tests.support.world import World

WHY = {"reason": "customer wrote"}
MARK = {"status": "settled", **WHY}
KEY = {"Idempotency-Key": "f2c1"}
CROWD = 64


@pytest.fixture
async def world(api: Api) -> World:
    """A chain with money on it, in the API's database."""
    return await World.on(api.db)


async def assigned(api: Api, money: TransferRecord, to: Invoice, **how: Any) -> Any:
    return await api.post(f"/v1/transfers/{money.id}/assign", {"invoice_id": to.id, **WHY}, status=200, **how)


async def held(api: Api, of: Invoice) -> Any:
    return await api.post("/v1/holds", {"invoice_id": of.id, "reason": "looks odd"})


async def actions_on(api: Api, money: TransferRecord) -> list[tuple[str, str]]:
    """What the audit log has of it: each with its reason, all by a key."""
    async with api.db.read() as conn:
        found = await operator_actions.find(conn, object_id=money.id)
    assert all(kept.action.who.startswith("api-key ") for kept in found)
    return [(kept.action.action, kept.action.reason) for kept in found]


# Each of them


async def test_assign__settles_the_invoice_and_is_counted(api: Api, world: World) -> None:
    money, to = await stray(world), await of_usdc(world)
    body = await assigned(api, money, to)
    assert (body["id"], body["allocation"], body["invoice_id"], body["reason"]) == (money.id, "invoice", to.id, None)
    assert body["evidence"] == {"strategy": "assigned"}, "who decided and why is the audit log's to say"
    assert await actions_on(api, money) == [("transfer.assign", WHY["reason"])]
    assert await api.get(f"/v1/transfers/{money.id}") == body
    shown = await api.get(f"/v1/invoices/{to.id}")
    assert (shown["status"], shown["amount_settled"]) == ("settled", "100.00")
    async with api.client.get("/metrics") as response:
        figures = await response.text()
    assert 'settler_settlements_total{chain="anvil",token="USDC"} 1.0' in figures
    assert 'settler_settled_amount_base_total{chain="anvil",token="USDC"} 1e+08' in figures


async def test_assign__repeated_with_its_key__answers_again_and_is_counted_once(api: Api, world: World) -> None:
    money, to = await stray(world), await of_usdc(world)
    first = await assigned(api, money, to, headers=KEY)
    assert await assigned(api, money, to, headers=KEY) == first
    async with api.client.get("/metrics") as response:
        assert 'settler_settlements_total{chain="anvil",token="USDC"} 1.0' in await response.text()
    path = f"/v1/transfers/{money.id}/assign"
    problem = await api.refused("POST", path, 409, json={"invoice_id": to.id, **WHY})
    assert problem["errors"][0] == {
        "field": "transfer",
        "detail": f"{money.id} pays {to.id}; only money in suspense can be decided about",
    }


async def test_dismiss__leaves_the_queue(api: Api, world: World) -> None:
    money = await stray(world)
    queue = "/v1/transfers?allocation=unmatched"
    assert [t["id"] for t in (await api.get(queue))["data"]] == [money.id]
    body = await api.post(f"/v1/transfers/{money.id}/dismiss", WHY, status=200)
    assert (body["allocation"], body["reason"], body["evidence"]) == ("dismissed", None, {})
    assert await actions_on(api, money) == [("transfer.dismiss", WHY["reason"])]
    assert (await api.get(queue))["data"] == []
    await api.refused("POST", f"/v1/transfers/{money.id}/dismiss", 409, json=WHY)


async def test_mark__settles_with_what_there_is(api: Api) -> None:
    made = await api.post("/v1/invoices", invoice())
    body = await api.post(f"/v1/invoices/{made['id']}/mark", MARK, status=200)
    assert (body["status"], body["amount_settled"]) == ("settled", "0.00")
    assert body["exceptions"] == ["marked", "underpaid"]
    settlement = await api.get(f"/v1/settlements/{body['settlement_id']}")
    assert settlement["payments"] == []
    assert settlement["policy"]["marked"]["reason"] == WHY["reason"]
    await api.refused("POST", f"/v1/invoices/{made['id']}/mark", 409, json=MARK)
    told = [e["type"] for e in (await api.get("/v1/events"))["data"]]
    assert sorted(told) == ["invoice.created", "invoice.settled", "settlement.created"]


async def test_holds__placed_listed_and_released(api: Api, world: World) -> None:
    of = await of_usdc(world)
    response, placed = await api.ask("POST", "/v1/holds", json={"invoice_id": of.id, "reason": "looks odd"})
    assert (response.status, response.headers["Location"]) == (201, f"/v1/holds/{placed['id']}")
    by, at = placed["held_by"], placed["held_at"]
    assert by.startswith("api-key ")
    assert placed == {
        "id": placed["id"], "invoice_id": of.id, "merchant": "default", "status": "held", "reason": "manual",
        "detail": "looks odd", "transfer_id": None, "held_at": at, "held_by": by, "released_at": None,
        "released_by": None, "release_reason": None,
    }  # fmt: skip
    assert await api.get(f"/v1/holds/{placed['id']}") == placed
    assert (await api.get(f"/v1/invoices/{of.id}"))["exceptions"] == ["on_hold"]
    await api.refused("POST", "/v1/holds", 409, json={"invoice_id": of.id, "reason": "again"})

    released = await api.post(f"/v1/holds/{placed['id']}/release", WHY, status=200)
    assert released == {
        **placed, "status": "released", "released_at": at, "released_by": by, "release_reason": WHY["reason"],
    }  # fmt: skip
    await api.refused("POST", f"/v1/holds/{placed['id']}/release", 409, json=WHY)
    assert (await api.get(f"/v1/invoices/{of.id}"))["exceptions"] == []


async def test_list_holds__filters(api: Api, world: World) -> None:
    first, second, third = [await of_usdc(world) for _ in range(3)]
    one = await held(api, first)
    api.clock.advance(1)
    two = await held(api, second)
    await api.post(f"/v1/holds/{one['id']}/release", WHY, status=200)
    closed = await held(api, third)
    await api.post(f"/v1/invoices/{third.id}/cancel", {}, status=200)
    expected = {
        "": {two["id"]},
        "?status=held": {two["id"]},
        "?status=released": {one["id"]},
        "?status=all": {one["id"], two["id"], closed["id"]},
        "?status=all&reason=manual": {one["id"], two["id"], closed["id"]},
        "?status=all&reason=late": set(),
        f"?status=all&invoice_id={first.id}": {one["id"]},
        "?status=all&merchant=nobody": set(),
    }
    found = {query: {h["id"] for h in (await api.get(f"/v1/holds{query}"))["data"]} for query in expected}
    assert found == expected
    page = await api.get("/v1/holds?status=all&limit=2")
    rest = await api.get(f"/v1/holds?status=all&limit=2&cursor={page['next_cursor']}")
    assert len(page["data"]) == 2
    assert {h["id"] for h in page["data"] + rest["data"]} == expected["?status=all"]
    problem = await api.refused("GET", "/v1/holds?status=standing", 422)
    assert "choose one of held, released, all" in problem["detail"]


async def test_release__what_was_paid_meanwhile__settles(api: Api, world: World) -> None:
    of = await of_usdc(world)
    hold = await held(api, of)
    world.pay(of)
    world.mine(5)
    await world.catch_up()
    assert (await api.get(f"/v1/invoices/{of.id}"))["status"] == "processing"
    await api.post(f"/v1/holds/{hold['id']}/release", WHY, status=200)
    assert (await api.get(f"/v1/invoices/{of.id}"))["status"] == "settled"


# Bad input


@on_sqlite
@pytest.mark.parametrize(
    ("path", "body", "field", "remedy"),
    [
        ("/v1/invoices/inv_{id}/mark", {"status": "canceled", "reason": "x"}, "status", "/cancel"),
        ("/v1/invoices/inv_{id}/mark", {"status": "expired", "reason": "x"}, "status", 'only "settled" can'),
        ("/v1/invoices/inv_{id}/mark", {"status": "settled"}, "reason", "is missing"),
        ("/v1/invoices/inv_{id}/mark", {"reason": "x"}, "status", "is missing"),
        ("/v1/invoices/inv_{id}/mark", {"status": "settled", "reason": " "}, "reason", "say why"),
        ("/v1/invoices/inv_{id}/mark", {"status": "settled", "reason": "x" * 501}, "reason", "at most 500"),
        ("/v1/invoices/inv_{id}/mark", {"status": "settled", "reason": "a\nb"}, "reason", "leave it out"),
        ("/v1/transfers/trf_{id}/assign", {"invoice_id": "order-42", "reason": "x"}, "invoice_id", "inv_ and 26"),
        ("/v1/transfers/trf_{id}/assign", {"reason": "x"}, "invoice_id", "is missing"),
        ("/v1/transfers/trf_{id}/assign", {"invoice_id": "inv_{id}"}, "reason", "is missing"),
        ("/v1/transfers/trf_{id}/dismiss", {}, "reason", "is missing"),
        ("/v1/transfers/trf_{id}/dismiss", {"reason": "x", "by": "me"}, "by", "known are reason"),
        ("/v1/holds", {"invoice_id": "inv_{id}"}, "reason", "is missing"),
        ("/v1/holds/hld_{id}/release", {"reason": ""}, "reason", "say why"),
    ],
)
async def test_bad_body__is_422_with_the_field_and_a_remedy(
    api: Api, path: str, body: dict[str, str], field: str, remedy: str
) -> None:
    sent = {name: value.replace("{id}", SOME_ID) for name, value in body.items()}
    problem = await api.refused("POST", path.replace("{id}", SOME_ID), 422, json=sent)
    (error,) = problem["errors"]
    assert error["field"] == field
    assert remedy in error["detail"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (f"/v1/invoices/inv_{SOME_ID}/mark", MARK),
        (f"/v1/transfers/trf_{SOME_ID}/assign", {"invoice_id": f"inv_{SOME_ID}", **WHY}),
        (f"/v1/transfers/trf_{SOME_ID}/dismiss", WHY),
        ("/v1/holds", {"invoice_id": f"inv_{SOME_ID}", **WHY}),
        (f"/v1/holds/hld_{SOME_ID}/release", WHY),
        ("/v1/holds/manual/release", WHY),
    ],
)
async def test_nothing_of_that_id__is_404(api: Api, path: str, body: dict[str, str]) -> None:
    await api.refused("POST", path, 404, json=body)


async def test_assign__to_no_invoice__is_404_and_changes_nothing(api: Api, world: World) -> None:
    money = await stray(world)
    body = {"invoice_id": f"inv_{SOME_ID}", **WHY}
    problem = await api.refused("POST", f"/v1/transfers/{money.id}/assign", 404, json=body)
    assert f"inv_{SOME_ID}" in problem["detail"]
    assert await world.transfers() == [money]


async def test_a_bound_key__decides_about_its_own_alone(api: Api, world: World) -> None:
    """Money in suspense is nobody's: not there for a merchant's key, also where the invoice would be its own."""
    acme = await api.key_for(*Scope, merchant="acme")
    ours = await api.post("/v1/invoices", invoice(), key=acme)
    money, theirs = await stray(world), await of_usdc(world)
    hold = await held(api, theirs)
    for path, body in (
        (f"/v1/transfers/{money.id}/assign", {"invoice_id": ours["id"], **WHY}),
        (f"/v1/transfers/{money.id}/dismiss", WHY),
        (f"/v1/invoices/{theirs.id}/mark", MARK),
        ("/v1/holds", {"invoice_id": theirs.id, **WHY}),
        (f"/v1/holds/{hold['id']}/release", WHY),
    ):
        await api.refused("POST", path, 404, json=body, key=acme)
    await api.refused("GET", f"/v1/holds/{hold['id']}", 404, key=acme)
    mine = await api.post("/v1/holds", {"invoice_id": ours["id"], **WHY}, key=acme)
    assert [h["id"] for h in (await api.get("/v1/holds", key=acme))["data"]] == [mine["id"]]
    assert mine["merchant"] == "acme"
    await api.refused("GET", "/v1/holds?merchant=default", 403, key=acme)
    assert (await api.get(f"/v1/holds/{hold['id']}")) == hold


@pytest.mark.parametrize("seed", range(2))
async def test_twisted_bodies__are_never_5xx(api: Api, world: World, seed: int) -> None:
    rng = random.Random(seed)
    money, of = await stray(world), await of_usdc(world)
    hold = await held(api, of)
    goods: list[tuple[str, dict[str, str]]] = [
        (f"/v1/invoices/{of.id}/mark", MARK),
        (f"/v1/transfers/{money.id}/assign", {"invoice_id": of.id, **WHY}),
        (f"/v1/transfers/{money.id}/dismiss", WHY),
        ("/v1/holds", {"invoice_id": of.id, **WHY}),
        (f"/v1/holds/{hold['id']}/release", WHY),
    ]
    seen: Counter[int] = Counter()
    for _ in range(150):
        path, good = rng.choice(goods)
        body = json.dumps(twisted(good, rng))
        response, answer = await api.ask("POST", path, data=body, headers={"Content-Type": "application/json"})
        assert response.status < 500, (path, body, answer)
        seen[response.status] += 1
    assert seen[422] > 50


# Many at once


async def crowd(api: Api, requests: list[tuple[str, dict[str, str]]]) -> list[Any]:
    """All at once; exactly one is done, the others are told that they are too late. The body of the one."""
    answers = await asyncio.gather(*(api.ask("POST", path, json=body) for path, body in requests))
    assert Counter(response.status for response, _ in answers) == {200: 1, 409: len(requests) - 1}
    return [body for response, body in answers if response.status == 200]


async def told_of(api: Api, object_id: str) -> Counter[str]:
    """Event types and how often, all pages."""
    found: Counter[str] = Counter()
    path: str | None = "/v1/events?limit=200"
    while path is not None:
        page = await api.get(path)
        found.update(e["type"] for e in page["data"] if e["data"]["id"] == object_id)
        path = None if page["next_cursor"] is None else f"/v1/events?limit=200&cursor={page['next_cursor']}"
    return found


async def test_cancel__64_at_once__one_wins(api: Api, world: World) -> None:
    of = await of_usdc(world)
    await crowd(api, [(f"/v1/invoices/{of.id}/cancel", {})] * CROWD)
    assert await told_of(api, of.id) == {"invoice.created": 1, "invoice.canceled": 1}
    assert await world.count(schema.operator_actions) == 2  # the test's key, and this


async def test_mark__64_at_once__one_wins(api: Api, world: World, db_url: str) -> None:
    of = await of_usdc(world)
    world.pay(of, "40")
    world.mine(5)
    await world.catch_up()
    (body,) = await crowd(api, [(f"/v1/invoices/{of.id}/mark", MARK)] * CROWD)
    assert body["amount_settled"] == "40.00"
    assert await world.count(schema.settlements) == 1
    assert await told_of(api, of.id) == {"invoice.created": 1, "invoice.settled": 1}
    assert await told_of(api, body["settlement_id"]) == {"settlement.created": 1}
    await audit(db_url)


async def test_assign__64_transfers_to_one_invoice_at_once__one_settles_it(api: Api, world: World, db_url: str) -> None:
    nobodys = await of_usdc(world)
    await api.post(f"/v1/invoices/{nobodys.id}/cancel", {}, status=200)
    for _ in range(CROWD):
        world.send(world.sim_transfer(nobodys.options[0].pay_to, "100"))
    world.mine(5)
    await world.catch_up()
    to = await of_usdc(world)
    body = {"invoice_id": to.id, **WHY}
    requests = [(f"/v1/transfers/{money.id}/assign", body) for money in await world.transfers()]
    assert len(requests) == CROWD
    (won,) = await crowd(api, requests)
    assert (await api.get(f"/v1/invoices/{to.id}"))["payments"][0]["transfer_id"] == won["id"]
    assert await world.count(schema.settlements) == 1
    assert await told_of(api, to.id) == {"invoice.created": 1, "invoice.settled": 1}
    allocations = Counter(t.allocation.value for t in await world.transfers())
    assert allocations == {"invoice": 1, "unmatched": CROWD - 1}
    await audit(db_url)


async def test_release__64_at_once__one_wins_and_settles(api: Api, world: World, db_url: str) -> None:
    of = await of_usdc(world)
    hold = await held(api, of)
    world.pay(of)
    world.mine(5)
    await world.catch_up()
    await crowd(api, [(f"/v1/holds/{hold['id']}/release", WHY)] * CROWD)
    assert await world.count(schema.settlements) == 1
    assert (await told_of(api, of.id))["invoice.settled"] == 1
    await audit(db_url)


async def test_everything__at_once_on_one_invoice__leaves_it_settled_or_canceled_once(
    api: Api, world: World, db_url: str
) -> None:
    of = await of_usdc(world)
    money = await stray(world)
    requests: list[tuple[str, dict[str, str]]] = [
        (f"/v1/invoices/{of.id}/cancel", {}),
        (f"/v1/invoices/{of.id}/mark", MARK),
        (f"/v1/transfers/{money.id}/assign", {"invoice_id": of.id, **WHY}),
        (f"/v1/transfers/{money.id}/dismiss", WHY),
        ("/v1/holds", {"invoice_id": of.id, **WHY}),
    ] * 12
    answers = await asyncio.gather(*(api.ask("POST", path, json=body) for path, body in requests))
    assert {response.status for response, _ in answers} <= {200, 201, 409}
    told = await told_of(api, of.id)
    assert all(count == 1 for count in told.values())
    assert told["invoice.settled"] + told["invoice.canceled"] <= 1
    await audit(db_url)
