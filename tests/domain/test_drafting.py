from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chains.model import Address
from settler.domain.drafting import (
    MAX_EXPIRES_IN_S,
    MAX_OPTIONS,
    NEW_REFERENCE_BYTES,
    TAIL_CAPACITY,
    ChainOffer,
    Draft,
    InvalidRequest,
    InvoiceDefaults,
    InvoiceRequest,
    OptionRequest,
    draft,
    parse_reference,
    reference_keys,
    tail_capacity,
    tail_unit,
)
from settler.domain.errors import Conflict, InvalidInput
from settler.domain.invoices import Match
from tests.domain.samples import CHAIN, DAI, OTHER_CHAIN, PAYER, SHOP, T0, a_token

CATALOG = {
    "base": ChainOffer(
        name="base",
        chain_id=CHAIN,
        tokens={
            "USDC": a_token(),
            "DAI": a_token("DAI", decimals=18, address=DAI),
            "EURC": a_token("EURC", address=Address(b"\x0e" * 20), currency="EUR"),
            "CENT": a_token("CENT", decimals=2, address=Address(b"\x0f" * 20)),
        },
    ),
    "eth": ChainOffer(name="eth", chain_id=OTHER_CHAIN, tokens={"USDC": a_token(chain_id=OTHER_CHAIN)}),
    "bare": ChainOffer(name="bare", chain_id=CHAIN, tokens={}),
}


def an_option_request(**changes: Any) -> OptionRequest:
    return replace(OptionRequest(chain="base", token="USDC", pay_to=SHOP, match=Match.ADDRESS), **changes)


def drafted(*options: OptionRequest, new_reference: bytes | None = None, **changes: Any) -> Draft:
    request = InvoiceRequest(amount="100", reference="order-42", options=options or (an_option_request(),))
    return draft(
        replace(request, **changes),
        catalog=CATALOG,
        defaults=InvoiceDefaults(),
        now=T0,
        new_reference=new_reference,
    )


def problems(*options: OptionRequest, **changes: Any) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as refused:
        drafted(*options, **changes)
    assert refused.value.field == refused.value.problems[0].field
    assert str(refused.value) == "; ".join(str(p) for p in refused.value.problems)
    return {p.field: p.problem for p in refused.value.problems}


def test_draft__simplest_request__takes_the_defaults() -> None:
    made = drafted()
    assert (made.merchant, made.reference, made.currency) == ("default", "order-42", "USD")
    assert (made.amount, made.scale) == (100_000_000, 6)
    assert made.created_at == T0
    assert made.expires_at == T0 + timedelta(hours=1)
    assert made.monitoring_until == T0 + timedelta(hours=25)
    (option,) = made.options
    assert (option.chain, option.token, option.pay_to, option.amount_base) == ("base", a_token(), SHOP, 100_000_000)


def test_draft__tokens_of_6_and_18_decimals__asks_each_in_its_own_units() -> None:
    made = drafted(an_option_request(), an_option_request(token="DAI"), amount="0.01")
    assert (made.amount, made.scale) == (10**16, 18)
    assert [o.amount_base for o in made.options] == [10_000, 10**16]


def test_draft__own_expiry_metadata_and_merchant__are_kept() -> None:
    made = drafted(expires_in_s=60, metadata={"cart": [1, 2]}, merchant="shop-7", currency="USD")
    assert made.expires_at == T0 + timedelta(seconds=60)
    assert made.monitoring_until == T0 + timedelta(seconds=60 + 86_400)
    assert (made.metadata, made.merchant) == ({"cart": [1, 2]}, "shop-7")


def test_draft__one_address_on_several_ways__is_allowed() -> None:
    ways = [
        an_option_request(),
        an_option_request(token="DAI"),
        an_option_request(chain="eth"),
        an_option_request(pay_to=DAI),
    ]
    assert len(drafted(*ways).options) == 4


@pytest.mark.parametrize(
    ("changes", "field", "says"),
    [
        ({"reference": ""}, "reference", "is empty"),
        ({"reference": " \t"}, "reference", "is empty"),
        ({"expires_in_s": 0}, "expires_in_s", "within a year"),
        ({"expires_in_s": -1}, "expires_in_s", "within a year"),
        ({"expires_in_s": MAX_EXPIRES_IN_S + 1}, "expires_in_s", "within a year"),
        ({"amount": "0"}, "amount", "is zero"),
        ({"amount": "1e3"}, "amount", "is not an amount"),
        ({"amount": "0.0000001"}, "amount", "at most 6"),
        ({"currency": "EUR"}, "currency", "USD"),
    ],
)
def test_draft__bad_field__is_named_with_a_remedy(changes: dict[str, Any], field: str, says: str) -> None:
    found = problems(**changes)
    assert list(found) == [field]
    assert says in found[field]


@pytest.mark.parametrize(
    ("changes", "field", "says"),
    [
        ({"chain": "solana"}, "chain", "choose one of bare, base, eth"),
        ({"token": "PEPE"}, "token", "choose one of CENT, DAI, EURC, USDC"),
        ({"chain": "bare"}, "token", "nothing is configured there"),
        ({"match": Match.REFERENCE}, "reference", "is missing; give 8 to 32 bytes in hex"),
        ({"match": Match.REFERENCE, "reference": bytes(range(7))}, "reference", "has 7 bytes; give 8 to 32"),
        ({"match": Match.REFERENCE, "reference": bytes(range(33))}, "reference", "has 33 bytes; give 8 to 32"),
        ({"match": Match.REFERENCE, "reference": bytes(32)}, "reference", "is all zeros"),
        (
            {"reference": b"\x01" * 8},
            "reference",
            "0x0101010101010101 is not looked at where match is 'address'; leave",
        ),
        ({"match": Match.AMOUNT, "reference": b"\x01" * 8}, "reference", "not looked at where match is 'amount'"),
        (
            {"match": Match.PAYER, "payer": PAYER, "reference": b"\x01" * 8},
            "reference",
            "not looked at where match is 'payer'",
        ),
        ({"match": Match.PAYER}, "payer", "is missing; give the address that will pay"),
        ({"match": Match.PAYER, "payer": SHOP}, "payer", "is pay_to itself"),
        ({"payer": PAYER}, "payer", f"0x{PAYER.hex()} is not looked at where match is 'address'; leave it out"),
        ({"match": Match.AMOUNT, "payer": PAYER}, "payer", "not looked at where match is 'amount'"),
        ({"pay_to": a_token().address}, "pay_to", "is the contract of USDC itself"),
        ({"pay_to": Address(bytes(20))}, "pay_to", "is the zero address"),
        ({"match": Match.AMOUNT, "token": "CENT"}, "match", "more than 2 decimals"),
    ],
)
def test_draft__bad_option__is_named_with_a_remedy(changes: dict[str, Any], field: str, says: str) -> None:
    found = problems(an_option_request(**changes))
    assert list(found) == [f"options[0].{field}"]
    assert says in found[f"options[0].{field}"]


def test_draft__by_reference__keeps_it_or_takes_the_new_one_for_all_that_leave_it_out() -> None:
    new, own = bytes(range(NEW_REFERENCE_BYTES)), b"\x07" * 8
    by_reference = an_option_request(match=Match.REFERENCE)
    made = drafted(
        by_reference,
        replace(by_reference, chain="eth"),
        replace(by_reference, token="DAI", reference=own, payer=PAYER),
        an_option_request(pay_to=DAI),
        new_reference=new,
    )
    assert [(o.reference, o.payer) for o in made.options] == [(new, None), (new, None), (own, PAYER), (None, None)]


def test_draft__by_payer__keeps_the_payer_and_the_amount() -> None:
    (option,) = drafted(an_option_request(match=Match.PAYER, payer=PAYER)).options
    assert (option.match, option.payer, option.reference, option.amount_base) == (
        Match.PAYER,
        PAYER,
        None,
        100_000_000,
    )


@pytest.mark.parametrize("match", Match)
def test_draft__without_pay_to__is_left_to_the_store(match: Match) -> None:
    payer = PAYER if match is Match.PAYER else None
    made = drafted(an_option_request(pay_to=None, match=match, payer=payer), new_reference=b"\x01" * 32)
    assert [o.pay_to for o in made.options] == [None]


def test_draft__without_pay_to_twice_on_one_way__is_refused() -> None:
    """Both would be the same address."""
    left_out = an_option_request(pay_to=None)
    assert list(problems(left_out, replace(left_out, chain="eth"), left_out)) == ["options[2]"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "'' is not hex; write 0x and 8 to 32 bytes in hex"),
        ("a0098add01acc736", "is not hex"),
        ("0Xa0098add01acc736", "is not hex"),
        ("0x", "0x has 0 bytes"),
        ("0xa0098add01acc7", "0xa0098add01acc7 has 7 bytes; give 8 to 32 bytes in hex"),
        ("0x" + "ab" * 33, "has 33 bytes"),
        ("0xa0098add01acc73", "has 15 hex digits; a byte has two"),
        ("0xa0098add01acc73g", "has other than hex digits"),
        ("0xa0098add01acc7 6", "has other than hex digits"),
        ("0x" + "\u0661" * 16, "has other than hex digits"),
        ("0x" + "00" * 8, "is all zeros"),
    ],
)
def test_parse_reference__what_is_none__is_named_with_a_remedy(text: str, says: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_reference(text)
    assert refused.value.field == "reference"
    assert says in refused.value.problem


@given(st.binary(min_size=8, max_size=32).filter(any))
def test_parse_reference__any_other__is_its_bytes(reference: bytes) -> None:
    assert parse_reference("0x" + reference.hex()) == reference
    assert parse_reference("0x" + reference.hex().upper()) == reference


def test_reference_keys__only_a_whole_word_is_shown_as_it_is() -> None:
    def hashed(data: bytes) -> bytes:
        return b"keccak of " + data

    assert reference_keys(b"r" * 8, hashed) == (b"keccak of rrrrrrrr",)
    assert reference_keys(b"r" * 31, hashed) == (b"keccak of " + b"r" * 31,)
    assert reference_keys(b"r" * 32, hashed) == (b"r" * 32, b"keccak of " + b"r" * 32)


def test_draft__no_option__is_refused() -> None:
    with pytest.raises(InvalidRequest, match="has 0 entries"):
        draft(
            InvoiceRequest(amount="1", reference="r", options=()), catalog=CATALOG, defaults=InvoiceDefaults(), now=T0
        )


def test_draft__too_many_options__looks_at_no_more_than_the_bound() -> None:
    many = [an_option_request(pay_to=Address(n.to_bytes(20))) for n in range(1, MAX_OPTIONS + 2)]
    assert list(problems(*many)) == ["options"]
    assert len(drafted(*many[:MAX_OPTIONS]).options) == MAX_OPTIONS


def test_draft__two_currencies__is_refused() -> None:
    assert "EUR, USD" in problems(an_option_request(), an_option_request(token="EURC"))["currency"]


def test_draft__everything_wrong__all_is_said_at_once() -> None:
    found = problems(
        an_option_request(chain="solana"),
        an_option_request(token="PEPE"),
        an_option_request(pay_to=DAI, token="DAI"),
        reference="",
        expires_in_s=0,
        amount="ten",
    )
    assert list(found) == ["reference", "expires_in_s", "options[0].chain", "options[1].token", "options[2].pay_to"]


def test_draft__amount_wrong_for_several_options__is_said_once() -> None:
    with pytest.raises(InvalidRequest) as refused:
        drafted(an_option_request(), an_option_request(chain="eth"), amount="x")
    assert [p.field for p in refused.value.problems] == ["amount"]


def test_draft__same_way_twice__is_refused() -> None:
    assert list(problems(an_option_request(), an_option_request(match=Match.AMOUNT))) == ["options[1]"]


def test_draft__same_way_twice_after_a_bad_option__is_named_where_it_stands() -> None:
    """Found by reading: the place was counted among the options that were right, so with a mistake further up the
    second of two equal options was blamed on a neighbour."""
    found = problems(an_option_request(chain="solana"), an_option_request(), an_option_request())
    assert list(found) == ["options[0].chain", "options[2]"]


@given(st.integers(0, 77))
def test_tail__is_below_a_hundredth_and_in_the_digits_that_wallets_show(decimals: int) -> None:
    largest = tail_unit(decimals) * tail_capacity(decimals)
    assert 0 <= tail_capacity(decimals) <= TAIL_CAPACITY
    assert largest * 100 < 10**decimals or tail_capacity(decimals) == 0
    if decimals >= 6:
        assert tail_unit(decimals) * 10**6 == 10**decimals
        assert tail_capacity(decimals) == TAIL_CAPACITY
    else:
        assert tail_unit(decimals) == 1


def test_conflict__names_the_field_as_invalid_input_does() -> None:
    conflict = Conflict("reference", "is taken")
    assert (str(conflict), conflict.field, conflict.problem) == ("reference: is taken", "reference", "is taken")
