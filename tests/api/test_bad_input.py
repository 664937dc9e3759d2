"""What is wrong with a request is a 4xx that names the field, the value and a remedy; and nothing is stored."""

from __future__ import annotations

import gzip
import io
import json
import time
from typing import Any

import pytest
from sqlalchemy import func, select

from chains.model import UINT256_MAX
from settler.api.body import parse
from settler.api.errors import Problem
from settler.storage import schema
from tests.api.conftest import Api, address, invoice
from tests.support.db import sqlite_alone

db_url = sqlite_alone

GOOD = address(7)
ZERO = "0x" + "0" * 40


def option(**changes: Any) -> dict[str, Any]:
    return {"chain": "base", "token": "USDC", "pay_to": GOOD, **changes}


BAD_BODIES: list[tuple[str, dict[str, Any], str, list[str]]] = [
    # name, changes to a good request, the field named, what its detail says
    ("too many decimals", {"amount": "1.0000001"}, "amount", ["1.0000001", "6"]),
    ("zero", {"amount": "0.00"}, "amount", ["0.00", "above zero"]),
    ("negative", {"amount": "-1"}, "amount", ["-1", "100.00"]),
    ("above uint256", {"amount": str(UINT256_MAX + 1)}, "amount", ["2**256"]),
    ("above uint256 in base units", {"amount": str(UINT256_MAX // 1000)}, "amount", ["2**256"]),
    ("NaN", {"amount": "NaN"}, "amount", ["NaN", "100.00"]),
    ("Infinity", {"amount": "Infinity"}, "amount", ["Infinity", "100.00"]),
    ("exponent", {"amount": "1e2"}, "amount", ["1e2", "100.00"]),
    ("hex", {"amount": "0x10"}, "amount", ["0x10", "100.00"]),
    ("comma", {"amount": "1,00"}, "amount", ["1,00", "100.00"]),
    ("space", {"amount": " 1"}, "amount", ["100.00"]),
    ("empty", {"amount": ""}, "amount", ["100.00"]),
    ("other digits", {"amount": "١٠٠"}, "amount", ["100.00"]),
    ("very long", {"amount": "9" * 5_000}, "amount", ["5000", "160"]),
    ("a number", {"amount": 100}, "amount", ["100", "string"]),
    ("a float", {"amount": 100.1}, "amount", ["100.1", "string"]),
    ("null", {"amount": None}, "amount", ["null"]),
    ("a boolean", {"amount": True}, "amount", ["true"]),
    ("an empty reference", {"reference": "  "}, "reference", ["empty"]),
    ("a long reference", {"reference": "r" * 201}, "reference", ["201", "200"]),
    ("a control character", {"reference": "a\nb"}, "reference", ["U+000A"]),
    ("a reference that is a number", {"reference": 42}, "reference", ["42", "string"]),
    ("expiry now", {"expires_in_s": 0}, "expires_in_s", ["0", "at least 1"]),
    ("expiry in the past", {"expires_in_s": -60}, "expires_in_s", ["-60", "at least 1"]),
    ("expiry beyond a year", {"expires_in_s": 10**9}, "expires_in_s", ["1000000000", "31622400"]),
    ("expiry as text", {"expires_in_s": "60"}, "expires_in_s", ['"60"', "integer"]),
    ("expiry as float", {"expires_in_s": 60.0}, "expires_in_s", ["60.0", "integer"]),
    ("no options", {"options": []}, "options", ["0", "1"]),
    ("51 options", {"options": [option(pay_to=address(i)) for i in range(51)]}, "options", ["50"]),
    ("options that are no list", {"options": {}}, "options", ["{}"]),
    ("an option that is no object", {"options": ["base"]}, "options[0]", ['"base"']),
    ("an unknown chain", {"options": [option(chain="solana")]}, "options[0].chain", ["solana", "base"]),
    ("an unknown token", {"options": [option(token="DOGE")]}, "options[0].token", ["DOGE", "USDC"]),
    ("an unknown match", {"options": [option(match="guess")]}, "options[0].match", ["guess", "address"]),
    (
        "a wrong checksum",
        {"options": [option(pay_to="0x5aaeb6053F3E94C9b9A09f33669435E7Ef1BeAed")]},
        "options[0].pay_to",
        ["0x5aAeb"],
    ),
    ("the zero address", {"options": [option(pay_to=ZERO)]}, "options[0].pay_to", [ZERO, "zero address"]),
    ("a short address", {"options": [option(pay_to="0x12")]}, "options[0].pay_to", ["0x12", "40 hex"]),
    ("no address", {"options": [option(pay_to=None)]}, "options[0].pay_to", ["missing"]),
    ("the same way twice", {"options": [option(), option()]}, "options[1]", ["already"]),
    ("another currency", {"currency": "EUR"}, "currency", ["EUR", "USD"]),
    ("two currencies", {"options": [option(), option(token="EURC")]}, "currency", ["EUR", "USD"]),
    ("an unknown field", {"amout": "1"}, "amout", ["known", "amount"]),
    ("an unknown field of an option", {"options": [option(payto="x")]}, "options[0].payto", ["pay_to"]),
    ("metadata that is no object", {"metadata": []}, "metadata", ["[]"]),
    ("too many metadata keys", {"metadata": {str(i): i for i in range(51)}}, "metadata", ["51", "50"]),
    ("too much metadata", {"metadata": {"k": "v" * 8_200}}, "metadata", ["8192"]),
    ("a bad merchant", {"merchant": "a b"}, "merchant", ["a b"]),
]


@pytest.mark.parametrize(
    ("changes", "field", "says"), [case[1:] for case in BAD_BODIES], ids=[case[0] for case in BAD_BODIES]
)
async def test_post_invoice__bad_input__is_422_and_stores_nothing(
    api: Api, changes: dict[str, Any], field: str, says: list[str]
) -> None:
    problem = await api.refused("POST", "/v1/invoices", 422, json=invoice(**changes))
    assert [e["field"] for e in problem["errors"]] == [field]
    for part in says:
        assert part in problem["errors"][0]["detail"]
    assert field in problem["detail"]
    await assert_nothing_stored(api)


async def test_post_invoice__a_checksum_error__says_the_right_form(api: Api) -> None:
    right = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
    body = invoice(options=[option(pay_to=right.lower())])
    problem = await api.refused("POST", "/v1/invoices", 422, json=body)
    assert right in problem["errors"][0]["detail"]


async def test_post_invoice__much_is_wrong__all_of_it_is_told(api: Api) -> None:
    body = {"amount": 1, "options": [option(pay_to="0x12", chain=5), option(match="x")], "colour": "red"}
    problem = await api.refused("POST", "/v1/invoices", 422, json=body)
    assert {e["field"] for e in problem["errors"]} == {
        "amount",
        "reference",
        "colour",
        "options[0].chain",
        "options[0].pay_to",
        "options[1].match",
    }


async def test_post_invoice__thousands_of_things_are_wrong__the_answer_is_bounded(api: Api) -> None:
    problem = await api.refused("POST", "/v1/invoices", 422, json={f"f{i}": 1 for i in range(5_000)})
    assert len(problem["errors"]) == 51
    assert "more" in problem["errors"][-1]["detail"]


async def test_post_invoice__the_reference_is_taken__is_409(api: Api) -> None:
    await api.post("/v1/invoices", invoice(reference="twice"))
    problem = await api.refused("POST", "/v1/invoices", 409, json=invoice(reference="twice"))
    assert problem["errors"][0]["field"] == "reference"
    assert "twice" in problem["detail"]
    await api.post("/v1/invoices", invoice(reference="twice", merchant="another"))
    assert len((await api.get("/v1/invoices"))["data"]) == 2


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", None),
        (b"{", "line 1"),
        (b"{'amount': '1'}", "line 1"),
        (b'{"amount": "1",}', "line 1"),
        (b"\xff\xfe", "UTF-8"),
        (b'{"amount": "1", "amount": "2"}', "given twice"),
        (b'{"metadata": {"a": NaN}}', "NaN"),
        (b'{"metadata": {"a": -Infinity}}', "Infinity"),
        (b'{"metadata": {"a": 1e999}}', "1e999"),
        (b'{"metadata": ' + b"[" * 40 + b"]" * 40 + b"}", "32 levels"),
        (b"[" * 60_000, "32 levels"),
        (b'{"metadata": ' + b"9" * 5_000 + b"}", "digits"),
        (b'{"reference": "a\\u0000b"}', "U+0000"),
        (b'{"metadata": {"\\ud800": 1}}', "surrogate"),
    ],
)
async def test_post_invoice__broken_json__is_400(api: Api, raw: bytes, says: str | None) -> None:
    headers = {"Content-Type": "application/json"}
    status = 422 if says is None else 400  # no body at all lacks fields
    problem = await api.refused("POST", "/v1/invoices", status, data=raw, headers=headers)
    assert says is None or says in problem["detail"]
    await assert_nothing_stored(api)


@pytest.mark.parametrize("end", [b"", b"\\"])
def test_parse__a_string_of_quotes_that_never_ends__takes_no_longer_than_it_is_long(end: bytes) -> None:
    """How deep a body nests was looked for string by string; one that never ended was looked through again from each
    quote in it. 64 kB of them, from any key that may write, stopped the whole process for 49 s, settling included.
    """
    began = time.process_time()
    with pytest.raises(Problem) as refused:
        parse(b'"' + b'\\"' * 32_000 + end)
    assert refused.value.status == 400
    assert time.process_time() - began < 2


@pytest.mark.parametrize("body", [[], "text", 1, None, True])
async def test_post_invoice__json_that_is_no_object__is_422(api: Api, body: Any) -> None:
    headers = {"Content-Type": "application/json"}
    problem = await api.refused("POST", "/v1/invoices", 422, data=json.dumps(body), headers=headers)
    assert problem["errors"][0]["field"] == "request"


async def test_post_invoice__a_10_mb_body__is_413(api: Api) -> None:
    body = io.BytesIO(json.dumps(invoice(metadata={"k": "v" * 10_000_000})).encode())
    headers = {"Content-Type": "application/json"}
    problem = await api.refused("POST", "/v1/invoices", 413, data=body, headers=headers)
    assert "65536" in problem["detail"]
    await assert_nothing_stored(api)


async def test_post_invoice__a_large_body_of_unknown_length__is_413(api: Api) -> None:
    async def chunks() -> Any:
        for _ in range(200):
            yield b" " * 1_000

    headers = {"Content-Type": "application/json"}
    await api.refused("POST", "/v1/invoices", 413, data=chunks(), headers=headers)


@pytest.mark.parametrize("type_", ["text/plain", "application/x-www-form-urlencoded", "application/xml"])
async def test_post_invoice__another_content_type__is_415(api: Api, type_: str) -> None:
    body = json.dumps(invoice())
    problem = await api.refused("POST", "/v1/invoices", 415, data=body, headers={"Content-Type": type_})
    assert type_ in problem["detail"]
    assert "application/json" in problem["detail"]
    await assert_nothing_stored(api)


async def test_post_invoice__a_compressed_body__is_415(api: Api) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    body = gzip.compress(json.dumps(invoice()).encode())
    await api.refused("POST", "/v1/invoices", 415, data=body, headers=headers)
    await assert_nothing_stored(api)


@pytest.mark.parametrize(
    ("path", "field", "says"),
    [
        ("/v1/invoices?colour=red", "colour", "status"),
        ("/v1/invoices?status=paid", "status", "pending, processing, settled, expired, canceled, reversed"),
        ("/v1/invoices?status=", "status", "pending"),
        ("/v1/invoices?status=pending&status=settled", "status", "once"),
        ("/v1/invoices?exception=odd", "exception", "underpaid"),
        ("/v1/invoices?limit=0", "limit", "at least 1"),
        ("/v1/invoices?limit=201", "limit", "at most 200"),
        ("/v1/invoices?limit=-1", "limit", "-1"),
        ("/v1/invoices?limit=1_0", "limit", "1_0"),
        ("/v1/invoices?limit=ten", "limit", "ten"),
        ("/v1/invoices?cursor=abc", "cursor", "next_cursor"),
        ("/v1/invoices?cursor=ä", "cursor", "next_cursor"),
        ("/v1/invoices?cursor=", "cursor", "next_cursor"),
        ("/v1/invoices?reference=a%00b", "reference", "U+0000"),
        ("/v1/invoices?merchant=a%00b", "merchant", "match"),
        ("/v1/transfers?status=gone", "status", "detected, final, orphaned"),
        ("/v1/transfers?allocation=x", "allocation", "invoice, unmatched, dismissed"),
        ("/v1/transfers?reason=x", "reason", "no_invoice"),
        ("/v1/transfers?chain=nowhere", "chain", "base"),
        ("/v1/transfers?chain=a%00b", "chain", "U+0000"),
        ("/v1/settlements?invoice_id=a%00b", "invoice_id", "U+0000"),
        ("/v1/events?after=inv_1", "after", "evt_"),
        ("/v1/events?after=evt_01kjmma2g0ge4f94hcy47t12sp", "after", "no event"),
        ("/v1/webhook-deliveries?status=sent", "status", "pending, delivered, dead"),
        ("/v1/chains?x=1", "x", "none"),
    ],
)
async def test_get__a_bad_query__is_422(api: Api, path: str, field: str, says: str) -> None:
    problem = await api.refused("GET", path, 422)
    assert [e["field"] for e in problem["errors"]] == [field]
    assert says in problem["errors"][0]["detail"]


async def test_get__a_bad_query_in_several_places__all_are_told(api: Api) -> None:
    problem = await api.refused("GET", "/v1/invoices?limit=0&status=x&colour=red", 422)
    assert {e["field"] for e in problem["errors"]} == {"limit", "status", "colour"}


async def test_get__a_cursor_of_another_list__is_422(api: Api) -> None:
    for _ in range(2):
        await api.post("/v1/invoices", invoice())
    cursor = (await api.get("/v1/invoices?limit=1"))["next_cursor"]
    problem = await api.refused("GET", f"/v1/settlements?cursor={cursor}", 422)
    assert problem["errors"][0]["field"] == "cursor"


async def assert_nothing_stored(api: Api) -> None:
    async with api.db.read() as conn:
        for table in (schema.invoices, schema.events, schema.watched_addresses, schema.amount_reservations):
            assert (await conn.execute(select(func.count()).select_from(table))).scalar_one() == 0
