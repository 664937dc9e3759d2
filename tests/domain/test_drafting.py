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
    TAIL_CAPACITY,
    ChainOffer,
    Draft,
    InvalidRequest,
    InvoiceDefaults,
    InvoiceRequest,
    OptionRequest,
    draft,
    tail_capacity,
    tail_unit,
)
from settler.domain.errors import Conflict
from settler.domain.invoices import Match
from tests.domain.samples import CHAIN, DAI, OTHER_CHAIN, SHOP, T0, a_token

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


def drafted(*options: OptionRequest, **changes: Any) -> Draft:
    request = InvoiceRequest(amount="100", reference="order-42", options=options or (an_option_request(),))
    return draft(replace(request, **changes), catalog=CATALOG, defaults=InvoiceDefaults(), now=T0)


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
        ({"match": Match.REFERENCE}, "match", "choose one of address, amount"),
        ({"match": Match.PAYER}, "match", "not available"),
        ({"pay_to": None}, "pay_to", "give the address"),
        ({"pay_to": a_token().address}, "pay_to", "is the contract of USDC itself"),
        ({"pay_to": Address(bytes(20))}, "pay_to", "is the zero address"),
        ({"match": Match.AMOUNT, "token": "CENT"}, "match", "more than 2 decimals"),
    ],
)
def test_draft__bad_option__is_named_with_a_remedy(changes: dict[str, Any], field: str, says: str) -> None:
    found = problems(an_option_request(**changes))
    assert list(found) == [f"options[0].{field}"]
    assert says in found[f"options[0].{field}"]


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
        an_option_request(pay_to=None),
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
