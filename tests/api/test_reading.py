"""What the stages wrote, as the API shows it: transfers, settlements, chains, events."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest_asyncio
import sqlalchemy as sa

from settler.storage import chains, schema
from settler.storage.api_keys import Scope
from settler.storage.engine import Database
from tests.api.conftest import Api, Start
from tests.support.world import World


@pytest_asyncio.fixture
async def world(db: Database) -> World:
    return await World.on(db)


@pytest_asyncio.fixture
async def api(start: Start, world: World) -> Api:
    """Over a world in which one invoice was paid too much and settled, and somebody paid nobody's address."""
    api = await start(catalog=world.catalog())
    invoice = await world.invoice("100", reference="paid")
    other = await world.invoice("7")
    world.pay(invoice, "101")
    world.mine(empty_after=10)
    await world.catch_up()
    world.pay(invoice, "5")  # after the settlement: suspense
    world.pay(other, "7")
    world.mine()
    await world.watch()
    return api


async def test_invoice__paid_and_settled__shows_its_payment_and_settlement(api: Api) -> None:
    shown = (await api.get("/v1/invoices?reference=paid"))["data"][0]
    assert (shown["status"], shown["exceptions"]) == ("settled", ["overpaid"])
    assert (shown["amount_received"], shown["amount_settled"]) == ("101.00", "100.00")
    assert [p["status"] for p in shown["payments"]] == ["final"]

    settlement = await api.get(f"/v1/settlements/{shown['settlement_id']}")
    assert settlement["invoice_id"] == shown["id"]
    assert settlement["amount_surplus"] == "1.00"
    assert (await api.get("/v1/settlements"))["data"] == [settlement]
    assert (await api.get(f"/v1/settlements?invoice_id={shown['id']}"))["data"] == [settlement]
    assert (await api.get("/v1/settlements?invoice_id=inv_none"))["data"] == []
    assert (await api.get("/v1/settlements?merchant=other"))["data"] == []


async def test_evidence__of_a_settlement__is_what_each_payment_rests_on(api: Api, world: World) -> None:
    settlement = (await api.get("/v1/settlements"))["data"][0]
    shown = await api.get(f"/v1/settlements/{settlement['id']}/evidence")
    assert (shown["settlement_id"], shown["invoice_id"]) == (settlement["id"], settlement["invoice_id"])
    assert shown["is_reversed"] is False
    (payment,), (line,) = shown["payments"], settlement["payments"]
    same = ("transfer_id", "chain", "chain_id", "tx_hash", "log_index", "block_number", "block_hash", "token_address",
            "payer", "pay_to")  # fmt: skip
    assert {name: payment[name] for name in same} == {name: line[name] for name in same}
    assert (payment["amount_base"], payment["ordinal"], payment["sources"]) == ("101000000", 0, ["node-0"])
    assert (payment["proof"], payment["proof_failure"], payment["is_transaction_proven"]) == (None, None, None)
    assert payment["not_shown"] == ["payment", "tx_hash", "log_index", "block_is_canonical"]
    assert payment["read_at"].endswith("Z")

    async with api.db.write() as conn:
        await conn.execute(sa.update(schema.payment_evidence).values(proof={"transaction_path": None}))
    (proven,) = (await api.get(f"/v1/settlements/{settlement['id']}/evidence"))["payments"]
    assert (proven["proof"], proven["is_transaction_proven"]) == ({"transaction_path": None}, False)
    assert proven["not_shown"] == ["tx_hash", "log_index", "block_is_canonical"]
    await api.refused("GET", "/v1/settlements/stl_01kjmma2g0ge4f94hcy47t12sp/evidence", 404)
    await api.refused("GET", "/v1/settlements/7/evidence", 404)


async def test_transfers__filters__show_what_fits(api: Api) -> None:
    async def amounts(query: str) -> list[str]:
        return sorted(t["amount"] for t in (await api.get(f"/v1/transfers?{query}"))["data"])

    assert await amounts("") == ["101.00", "5.00", "7.00"]
    assert await amounts("status=final") == ["101.00"]
    assert await amounts("status=detected") == ["5.00", "7.00"]
    assert await amounts("status=orphaned") == []
    assert await amounts("allocation=unmatched") == ["5.00"]
    assert await amounts("allocation=unmatched&reason=surplus") == ["5.00"]
    assert await amounts("reason=no_invoice") == []
    assert await amounts("chain=anvil") == ["101.00", "5.00", "7.00"]
    assert await amounts("chain=eip155:31337&status=final") == ["101.00"]
    assert await amounts("chain=base") == []
    assert await amounts("chain=eip155:1") == []
    assert await amounts("merchant=default") == ["101.00", "7.00"]


async def test_transfer__by_id__is_the_same_as_in_the_list(api: Api) -> None:
    for transfer in (await api.get("/v1/transfers"))["data"]:
        assert await api.get(f"/v1/transfers/{transfer['id']}") == transfer
    await api.refused("GET", "/v1/transfers/trf_01kjmma2g0ge4f94hcy47t12sp", 404)
    await api.refused("GET", "/v1/settlements/stl_01kjmma2g0ge4f94hcy47t12sp", 404)


async def test_transfers__paged__come_once_each(api: Api) -> None:
    seen: list[str] = []
    cursor = ""
    while True:
        answer = await api.get(f"/v1/transfers?limit=1{cursor}")
        seen += [t["id"] for t in answer["data"]]
        if answer["next_cursor"] is None:
            break
        cursor = f"&cursor={answer['next_cursor']}"
    assert seen == [t["id"] for t in (await api.get("/v1/transfers"))["data"]]
    assert len(set(seen)) == 3


async def test_a_bound_key__sees_its_payments_and_not_the_suspense(api: Api) -> None:
    ours = await api.key_for(Scope.READ, merchant="default")
    theirs = await api.key_for(Scope.READ, merchant="acme")
    by_amount = {t["amount"]: t["id"] for t in (await api.get("/v1/transfers"))["data"]}
    settlement = (await api.get("/v1/settlements"))["data"][0]["id"]

    assert {t["amount"] for t in (await api.get("/v1/transfers", key=ours))["data"]} == {"101.00", "7.00"}
    await api.get(f"/v1/transfers/{by_amount['7.00']}", key=ours)
    await api.refused("GET", f"/v1/transfers/{by_amount['5.00']}", 404, key=ours)
    await api.get(f"/v1/settlements/{settlement}", key=ours)
    await api.get(f"/v1/settlements/{settlement}/evidence", key=ours)

    for path in ("/v1/transfers", "/v1/settlements", "/v1/invoices", "/v1/events"):
        assert (await api.get(path, key=theirs))["data"] == []
    await api.refused("GET", f"/v1/transfers/{by_amount['7.00']}", 404, key=theirs)
    await api.refused("GET", f"/v1/settlements/{settlement}", 404, key=theirs)
    await api.refused("GET", f"/v1/settlements/{settlement}/evidence", 404, key=theirs)


async def test_events__carry_the_objects_as_they_were_shown(api: Api) -> None:
    told = (await api.get("/v1/events?limit=200"))["data"]
    types = [event["type"] for event in told]
    for type_ in ("invoice.created", "payment.detected", "payment.final", "settlement.created", "invoice.settled"):
        assert type_ in types
    assert types.index("payment.detected") < types.index("invoice.settled")
    settled = next(event for event in told if event["type"] == "invoice.settled")
    assert set(settled) == {"id", "type", "created_at", "api_version", "data"}
    assert settled["data"]["status"] == "settled"
    assert settled["data"]["version"] > 1


async def test_chains__shows_where_each_stands(api: Api, world: World) -> None:
    api.providers[:] = [
        {"chain": "anvil", "provider": "node.example", "up": True},
        {"chain": "base", "provider": "other.example", "up": False},
    ]
    state = await world.state()
    shown = {c["name"]: c for c in (await api.get("/v1/chains"))["data"]}
    anvil: dict[str, Any] = shown["anvil"]
    assert (anvil["chain_id"], anvil["caip2"]) == (31337, "eip155:31337")
    assert (anvil["head"], anvil["scanned"]) == (state.head_number, state.scanned_number)
    assert (anvil["settled"], anvil["final"]) == (state.settled_number, state.final_number)
    assert anvil["head_time"].endswith("Z")
    assert anvil["lag_s"] == 0
    assert (anvil["halted"], anvil["halt_reason"]) == (False, None)
    assert anvil["providers"] == [{"provider": "node.example", "up": True}]
    assert shown["base"]["head"] is None
    assert shown["base"]["lag_s"] is None


async def test_chains__halted_and_behind__says_so(api: Api, world: World) -> None:
    state = await world.state()
    assert state.head_time is not None
    async with api.db.write() as conn:
        await chains.advance(
            conn,
            state,
            now=api.clock.now(),
            guard=[],
            head_time=state.head_time + timedelta(seconds=90),
            halted_at=api.clock.now(),
            halt_reason="finality violation",
        )
    shown = next(c for c in (await api.get("/v1/chains"))["data"] if c["name"] == "anvil")
    assert (shown["halted"], shown["halt_reason"]) == (True, "finality violation")
    assert shown["halted_at"] == "2026-03-01T12:00:00Z"
    assert shown["lag_s"] == 90
