"""Invoices that are asked for at once share a transaction, and each is answered as it would be alone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event, func, select

from chains.address import parse_address
from settler.domain.deposits import POOL_ONLY
from settler.storage import deposits, schema
from tests.api.conftest import NOW, Api, Start, address, invoice

AT_ONCE = 30


@contextmanager
def commits(api: Api) -> Iterator[list[None]]:
    """An entry for each transaction that is committed within."""
    seen: list[None] = []
    engine = api.db._writer.sync_engine

    def note(_connection: object) -> None:
        seen.append(None)

    event.listen(engine, "commit", note)
    try:
        yield seen
    finally:
        event.remove(engine, "commit", note)


async def post_all(api: Api, bodies: list[dict[str, Any]], keys: list[str | None]) -> list[tuple[int, Any]]:
    """What each was answered: status and body."""
    headers = [{} if key is None else {"Idempotency-Key": key} for key in keys]
    answers = await asyncio.gather(
        *(api.ask("POST", "/v1/invoices", json=body, headers=h) for body, h in zip(bodies, headers, strict=True))
    )
    return [(response.status, body) for response, body in answers]


async def count(api: Api, table: str) -> int:
    async with api.db.read() as conn:
        query = select(func.count()).select_from(schema.metadata.tables[table])
        return int((await conn.execute(query)).scalar_one())


async def test_invoices_at_once__share_transactions_and_are_each_told_of_once(api: Api) -> None:
    bodies = [invoice() for _ in range(AT_ONCE)]
    with commits(api) as seen:
        answers = await post_all(api, bodies, [f"key-{n}" for n in range(AT_ONCE)])
    assert [status for status, _ in answers] == [201] * AT_ONCE
    assert [made["reference"] for _, made in answers] == [body["reference"] for body in bodies]
    assert [made["options"][0]["pay_to"] for _, made in answers] == [b["options"][0]["pay_to"] for b in bodies]
    assert len(seen) < AT_ONCE / 2
    told = (await api.get("/v1/events?limit=200"))["data"]
    assert sorted(each["data"]["id"] for each in told) == sorted(made["id"] for _, made in answers)
    assert await count(api, "idempotency_keys") == AT_ONCE


async def test_invoices_at_once__one_reference_twice__the_other_is_refused_and_nothing_else(api: Api) -> None:
    bodies = [invoice(reference="twice" if n in {3, 17} else f"once-{n}") for n in range(AT_ONCE)]
    answers = await post_all(api, bodies, [None] * AT_ONCE)
    assert sorted(status for status, _ in answers) == [201] * (AT_ONCE - 1) + [409]
    (refused,) = [body for status, body in answers if status == 409]
    assert refused["errors"][0]["field"] == "reference"
    assert await count(api, "invoices") == AT_ONCE - 1


async def test_invoices_at_once__the_pool_has_fewer_addresses__only_those_left_over_are_refused(api: Api) -> None:
    pool = [address() for _ in range(5)]
    async with api.db.write() as conn:
        await deposits.add(conn, [parse_address(a) for a in pool], quarantine=POOL_ONLY.quarantine, now=NOW, who="ada")
    asking = [invoice(options=[{"chain": "base", "token": "USDC"}]) for _ in range(8)]
    bodies = [*asking, *(invoice() for _ in range(8))]
    answers = await post_all(api, bodies, [f"key-{n}" for n in range(16)])
    given = [body["options"][0]["pay_to"] for status, body in answers[:8] if status == 201]
    assert sorted(given) == sorted(pool)
    assert [status for status, _ in answers[8:]] == [201] * 8
    refused = [body for status, body in answers if status == 409]
    assert [problem["errors"][0]["field"] for problem in refused] == ["options[0].pay_to"] * 3
    assert await count(api, "invoices") == 13
    assert await count(api, "idempotency_keys") == 16


async def test_invoices_at_once__one_on_chain_reference_twice__the_other_is_refused(api: Api) -> None:
    shop = address()
    way = {"chain": "base", "token": "USDC", "pay_to": shop, "match": "reference", "reference": "0x" + "ab" * 32}
    bodies = [invoice(options=[way]), invoice(options=[way]), *(invoice() for _ in range(6))]
    answers = await post_all(api, bodies, [f"key-{n}" for n in range(8)])
    assert sorted(status for status, _ in answers[:2]) == [201, 409]
    assert [status for status, _ in answers[2:]] == [201] * 6


async def test_invoices_at_once__one_amount_at_one_address__get_tails_of_their_own(api: Api) -> None:
    way = {"chain": "base", "token": "USDC", "pay_to": address(), "match": "amount"}
    answers = await post_all(api, [invoice(options=[way]) for _ in range(AT_ONCE)], [None] * AT_ONCE)
    assert [status for status, _ in answers] == [201] * AT_ONCE
    asked = sorted(int(made["options"][0]["amount_base"]) for _, made in answers)
    assert asked == [100_000_000 + tail for tail in range(1, AT_ONCE + 1)]


async def test_invoices_at_once__what_is_wrong_with_one__is_answered_again_and_makes_nothing(api: Api) -> None:
    bodies = [invoice(amount="0" if n == 4 else "5") for n in range(8)]
    keys: list[str | None] = [f"key-{n}" for n in range(8)]
    first = await post_all(api, bodies, keys)
    assert [status for status, _ in first] == [201] * 4 + [422] + [201] * 3
    assert await post_all(api, bodies, keys) == first
    assert await count(api, "invoices") == 7


async def test_two_processes__the_same_requests_at_once__have_one_effect_each(start: Start) -> None:
    one, two = await start(), await start()
    two.key = one.key  # whose keys they are follows from who asks
    bodies = [invoice() for _ in range(AT_ONCE)]
    keys: list[str | None] = [f"key-{n}" for n in range(AT_ONCE)]
    at_one, at_two = await asyncio.gather(post_all(one, bodies, keys), post_all(two, bodies[::-1], keys[::-1]))
    assert at_one == at_two[::-1]
    assert [status for status, _ in at_one] == [201] * AT_ONCE
    assert await count(one, "invoices") == AT_ONCE
    assert await count(one, "events") == AT_ONCE
