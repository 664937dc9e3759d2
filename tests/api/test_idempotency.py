"""One `Idempotency-Key`, one effect, one answer."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from settler.domain.ids import ENTROPY_BYTES
from settler.storage import idempotency
from settler.storage.api_keys import Scope
from settler.storage.errors import StorageUnavailable
from tests.api.conftest import NOW, Api, Start, address, entropy, invoice

KEY = {"Idempotency-Key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}


async def count_invoices(api: Api) -> int:
    return len((await api.get("/v1/invoices?limit=200"))["data"])


async def test_post__the_same_key_and_body__answers_the_first_answer(api: Api) -> None:
    body = invoice()
    first, made = await api.ask("POST", "/v1/invoices", json=body, headers=KEY)
    again, same = await api.ask("POST", "/v1/invoices", json=body, headers=KEY)

    assert (first.status, again.status) == (201, 201)
    assert same == made
    assert first.headers["Content-Length"] == again.headers["Content-Length"]
    assert "Idempotency-Hit" not in first.headers
    assert again.headers["Idempotency-Hit"] == "true"
    assert again.headers["Location"] == first.headers["Location"]
    assert again.content_type == "application/json"
    assert await count_invoices(api) == 1


async def test_post__the_same_body_written_otherwise__is_the_same(api: Api) -> None:
    body = invoice()
    await api.post("/v1/invoices", body, headers=KEY)
    response, _ = await api.ask("POST", "/v1/invoices", json=dict(reversed(body.items())), headers=KEY)
    assert response.headers["Idempotency-Hit"] == "true"


async def test_post__the_same_key_with_another_body__is_409(api: Api) -> None:
    await api.post("/v1/invoices", invoice(), headers=KEY)
    problem = await api.refused("POST", "/v1/invoices", 409, json=invoice(), headers=KEY)
    assert problem["type"] == "urn:settler:problem:idempotency-key-reused"
    assert "new key" in problem["detail"]
    assert await count_invoices(api) == 1


async def test_post__the_same_key_at_another_address__is_409(api: Api) -> None:
    made = await api.post("/v1/invoices", invoice())
    other = await api.post("/v1/invoices", invoice())
    await api.post(f"/v1/invoices/{made['id']}/cancel", {}, status=200, headers=KEY)
    await api.refused("POST", f"/v1/invoices/{other['id']}/cancel", 409, json={}, headers=KEY)
    assert (await api.get(f"/v1/invoices/{other['id']}"))["status"] == "pending"


async def test_post__without_a_key__is_done_each_time(api: Api) -> None:
    for _ in range(2):
        await api.post("/v1/webhook-endpoints", {"url": "https://shop.example/hook"})
    assert len((await api.get("/v1/webhook-endpoints"))["data"]) == 2


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"amount": "0"}, 422),
        ({"amount": 5}, 422),
        ({"reference": "taken"}, 409),
        ({"options": [{"chain": "x", "token": "USDC", "pay_to": address(1)}]}, 422),
    ],
)
async def test_post__a_refusal__is_answered_again_and_leaves_nothing(
    api: Api, body: dict[str, Any], status: int
) -> None:
    await api.post("/v1/invoices", invoice(reference="taken"))
    bad = invoice(**body)
    problem = await api.refused("POST", "/v1/invoices", status, json=bad, headers=KEY)
    again, same = await api.ask("POST", "/v1/invoices", json=bad, headers=KEY)
    assert (again.status, same) == (status, problem)
    assert again.content_type == "application/problem+json"
    assert again.headers["Idempotency-Hit"] == "true"
    assert await count_invoices(api) == 1


async def test_cancel__repeated_with_its_key__answers_the_canceled_invoice(api: Api) -> None:
    made = await api.post("/v1/invoices", invoice())
    path = f"/v1/invoices/{made['id']}/cancel"
    canceled = await api.post(path, {}, status=200, headers=KEY)
    assert await api.post(path, {}, status=200, headers=KEY) == canceled


async def test_post__twenty_equal_requests_at_once__have_one_effect(api: Api) -> None:
    body = invoice()
    answers = await asyncio.gather(*(api.ask("POST", "/v1/invoices", json=body, headers=KEY) for _ in range(20)))
    assert [response.status for response, _ in answers] == [201] * 20
    assert len({answer["id"] for _, answer in answers}) == 1
    assert sum("Idempotency-Hit" in response.headers for response, _ in answers) == 19
    assert await count_invoices(api) == 1
    assert len((await api.get("/v1/events"))["data"]) == 1


async def test_post__twenty_at_once_without_keys__have_one_effect_and_nineteen_conflicts(api: Api) -> None:
    body = invoice()
    answers = await asyncio.gather(*(api.ask("POST", "/v1/invoices", json=body) for _ in range(20)))
    assert sorted(response.status for response, _ in answers) == [201] + [409] * 19
    assert await count_invoices(api) == 1


async def test_post__twenty_different_bodies_with_one_key_at_once__have_one_effect(api: Api) -> None:
    answers = await asyncio.gather(*(api.ask("POST", "/v1/invoices", json=invoice(), headers=KEY) for _ in range(20)))
    assert sorted(response.status for response, _ in answers) == [201] + [409] * 19
    assert await count_invoices(api) == 1


async def test_post__the_same_key_of_two_callers__is_two_keys(api: Api) -> None:
    other = await api.key_for(Scope.WRITE, merchant="acme")
    mine = await api.post("/v1/invoices", invoice(), headers=KEY)
    theirs = await api.post("/v1/invoices", invoice(), headers=KEY, key=other)
    assert mine["id"] != theirs["id"]


async def test_post__the_first_try_failed_with_503__the_second_is_done(start: Start) -> None:
    """What is not known to have happened must be possible again with the same key."""
    calls = 0

    def failing_once(size: int) -> bytes:
        nonlocal calls
        calls += size == ENTROPY_BYTES
        if (size, calls) == (ENTROPY_BYTES, 1):
            raise StorageUnavailable("connection lost")
        return entropy(size)

    api = await start(entropy=failing_once)
    body = invoice()
    response, problem = await api.ask("POST", "/v1/invoices", json=body, headers=KEY)
    assert (response.status, problem["status"]) == (503, 503)
    assert int(response.headers["Retry-After"]) > 0
    assert await count_invoices(api) == 0

    response, _ = await api.ask("POST", "/v1/invoices", json=body, headers=KEY)
    assert response.status == 201
    assert "Idempotency-Hit" not in response.headers


@pytest.mark.parametrize("key", ["", "k" * 256, "a\tb", "ä"])
async def test_post__a_key_that_is_none__is_422(api: Api, key: str) -> None:
    problem = await api.refused("POST", "/v1/invoices", 422, json=invoice(), headers={"Idempotency-Key": key})
    assert problem["errors"][0]["field"] == "Idempotency-Key"
    assert "255" in problem["errors"][0]["detail"]
    assert await count_invoices(api) == 0


async def test_post__the_longest_key__is_taken(api: Api) -> None:
    await api.post("/v1/invoices", invoice(), headers={"Idempotency-Key": "k" * 255})


async def test_prune__forgets_old_keys_and_keeps_new_ones(api: Api) -> None:
    old, new = invoice(), invoice()
    await api.post("/v1/invoices", old, headers={"Idempotency-Key": "old"})
    api.clock.advance(90_000)
    await api.post("/v1/invoices", new, headers={"Idempotency-Key": "new"})

    async with api.db.write() as conn:
        before = api.clock.now() - timedelta(hours=24)
        assert await idempotency.prune(conn, NOW) == 0
        assert await idempotency.prune(conn, before) == 1
        assert await idempotency.prune(conn, before) == 0
    await api.refused("POST", "/v1/invoices", 409, json=old, headers={"Idempotency-Key": "old"})  # its reference
    response, _ = await api.ask("POST", "/v1/invoices", json=new, headers={"Idempotency-Key": "new"})
    assert response.headers["Idempotency-Hit"] == "true"
