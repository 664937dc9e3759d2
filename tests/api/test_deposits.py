"""References, payers and deposit addresses over HTTP."""

from __future__ import annotations

import re
from typing import Any

import pytest

from chains.address import parse_address
from settler.domain.deposits import POOL_ONLY, DepositPolicy
from settler.domain.derivation import read_key
from settler.storage import deposits
from settler.storage.api_keys import Scope
from tests.api.conftest import NOW, Api, Start, address, invoice
from tests.support.db import sqlite_alone
from tests.support.wallet import ANVIL_ADDRESSES, XPUB

db_url = sqlite_alone

SHOP = address(7)
PAYER = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
REFERENCE = "0xa0098add01acc736"


def option(**changes: Any) -> dict[str, Any]:
    return {"chain": "base", "token": "USDC", "pay_to": SHOP, **changes}


async def made(api: Api, **changes: Any) -> Any:
    """The option of a new invoice that offers one."""
    (shown,) = (await api.post("/v1/invoices", invoice(options=[option(**changes)])))["options"]
    return shown


async def test_post_invoice__by_address_or_amount__has_neither_reference_nor_payer(api: Api) -> None:
    for match in ("address", "amount"):
        shown = await made(api, match=match)
        assert (shown["match"], shown["reference"], shown["payer"]) == (match, None, None)


async def test_post_invoice__by_reference__shows_it_in_hex(api: Api) -> None:
    shown = await made(api, match="reference", reference=REFERENCE.replace("ac", "AC"), payer=PAYER)
    assert (shown["reference"], shown["payer"], shown["amount_base"]) == (REFERENCE, PAYER, "100000000")


async def test_post_invoice__by_reference_left_out__is_given_32_bytes_of_its_own(api: Api) -> None:
    references = [(await made(api, match="reference"))["reference"] for _ in range(2)]
    assert all(re.fullmatch(r"0x[0-9a-f]{64}", reference) for reference in references)
    assert references[0] != references[1]


async def test_post_invoice__by_payer__shows_who(api: Api) -> None:
    shown = await made(api, match="payer", payer=PAYER)
    assert (shown["reference"], shown["payer"], shown["amount_base"]) == (None, PAYER, "100000000")


async def test_post_invoice__reference_of_another_invoice__is_409_and_stores_nothing(api: Api) -> None:
    await made(api, match="reference", reference=REFERENCE)
    ways = [option(pay_to=address(9)), option(match="reference", reference=REFERENCE)]
    problem = await api.refused("POST", "/v1/invoices", 409, json=invoice(options=ways))
    assert [e["field"] for e in problem["errors"]] == ["options[1].reference"]
    assert f"{REFERENCE} names another invoice" in problem["detail"]
    assert len((await api.get("/v1/invoices"))["data"]) == 1


async def test_post_invoice__reference_of_another_invoice__with_an_idempotency_key__stores_nothing_either(
    api: Api,
) -> None:
    """There the refused effect is undone on its own, and the answer kept."""
    await made(api, match="reference", reference=REFERENCE)
    body = invoice(options=[option(match="reference", reference=REFERENCE)])
    for _ in range(2):
        await api.refused("POST", "/v1/invoices", 409, json=body, headers={"Idempotency-Key": "k"})
    assert len((await api.get("/v1/invoices"))["data"]) == 1


@pytest.mark.parametrize(
    ("changes", "field", "says"),
    [
        ({"match": "reference", "reference": "0x" + "ab" * 7}, "reference", "has 7 bytes; give 8 to 32 bytes"),
        ({"match": "reference", "reference": "0x" + "ab" * 33}, "reference", "has 33 bytes; give 8 to 32 bytes"),
        ({"match": "reference", "reference": "0x" + "a" * 17}, "reference", "has 17 hex digits; a byte has two"),
        ({"match": "reference", "reference": "0x" + "xy" * 8}, "reference", "other than hex digits"),
        ({"match": "reference", "reference": "ab" * 8}, "reference", "is not hex"),
        ({"match": "reference", "reference": "0x" + "a" * 5_000}, "reference", "at most 1000"),
        ({"match": "reference", "reference": 8}, "reference", "8"),
        ({"match": "address", "reference": REFERENCE}, "reference", f"{REFERENCE} is not looked at where match is"),
        ({"match": "amount", "payer": PAYER}, "payer", "leave it out, or match by 'payer' or 'reference'"),
        ({"match": "payer"}, "payer", "is missing; give the address that will pay"),
        ({"match": "payer", "payer": PAYER.lower()}, "payer", f"write {PAYER}"),
        ({"match": "payer", "payer": "0x12"}, "payer", "is no address"),
        ({"match": "payer", "payer": SHOP}, "payer", "is pay_to itself"),
        ({"pay_to": None}, "pay_to", "is missing; give the address to be paid, fill the address pool"),
        ({"pay_to": None}, "pay_to", "[deposits] xpub"),
    ],
)
async def test_post_invoice__wrong__is_422_and_stores_nothing(
    api: Api, changes: dict[str, Any], field: str, says: str
) -> None:
    problem = await api.refused("POST", "/v1/invoices", 422, json=invoice(options=[option(**changes)]))
    assert [e["field"] for e in problem["errors"]] == [f"options[0].{field}"]
    assert says in problem["errors"][0]["detail"]
    assert (await api.get("/v1/invoices"))["data"] == []
    assert (await api.get("/v1/events"))["data"] == []


async def test_post_invoice__without_pay_to__is_given_an_address_of_the_configured_key(start: Start) -> None:
    api = await start(deposits=DepositPolicy(key=read_key(XPUB, "0")))
    shown = [await made(api, pay_to=None), await made(api, pay_to=None, match="reference")]
    assert [each["pay_to"] for each in shown] == list(ANVIL_ADDRESSES[:2])
    assert ANVIL_ADDRESSES[0] in shown[0]["uri"]


async def test_post_invoice__pool_exhausted__is_409(api: Api) -> None:
    async with api.db.write() as conn:
        await deposits.add(conn, [parse_address(SHOP)], quarantine=POOL_ONLY.quarantine, now=NOW, who="ada")
    assert (await made(api, pay_to=None))["pay_to"] == SHOP
    body = invoice(options=[option(pay_to=None)])
    problem = await api.refused("POST", "/v1/invoices", 409, json=body)
    assert [e["field"] for e in problem["errors"]] == ["options[0].pay_to"]
    assert "the pool has 1 address and none is free" in problem["detail"]


async def test_post_invoice__at_the_deposit_address_of_another_merchant__is_409(start: Start) -> None:
    """A merchant could name by hand the address that another's invoice was given. What that one's customers paid then
    fitted two invoices, settled neither, and waited in suspense for an operator.
    """
    api = await start(deposits=DepositPolicy(key=read_key(XPUB, "0")))
    acme, other = await api.key_for(Scope.WRITE, merchant="acme"), await api.key_for(Scope.WRITE, merchant="other")
    given = await api.post("/v1/invoices", invoice(options=[option(pay_to=None)]), key=acme)
    pay_to = given["options"][0]["pay_to"]
    named = invoice(options=[option(pay_to=address(9)), option(pay_to=pay_to)])
    problem = await api.refused("POST", "/v1/invoices", 409, json=named, key=other)
    assert [e["field"] for e in problem["errors"]] == ["options[1].pay_to"]
    assert "acme" not in str(problem)
    await api.post("/v1/invoices", named, key=acme)


async def test_post_invoice__repeated_with_its_key__takes_one_address(start: Start) -> None:
    api = await start(deposits=DepositPolicy(key=read_key(XPUB, "0")))
    body = invoice(options=[option(pay_to=None)])
    answers = [await api.post("/v1/invoices", body, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert answers[0] == answers[1]
    assert (await made(api, pay_to=None))["pay_to"] == ANVIL_ADDRESSES[1]
