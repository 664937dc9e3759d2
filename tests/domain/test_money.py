from __future__ import annotations

from decimal import Decimal, localcontext

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chains.model import UINT256_MAX
from settler.domain.errors import InvalidInput
from settler.domain.money import (
    BPS,
    FINEST_SCALE,
    format_amount,
    parse_amount,
    parse_positive,
    rescale_down,
    rescale_exact,
    rescale_up,
    tolerance,
    units_of,
)

amounts = st.integers(0, UINT256_MAX)
decimals = st.integers(0, 77)


@given(amount=amounts, places=decimals)
@example(amount=UINT256_MAX, places=0)
@example(amount=UINT256_MAX, places=77)
@example(amount=0, places=0)
def test_parse_amount__what_was_formatted__is_the_same_amount(amount: int, places: int) -> None:
    assert parse_amount(format_amount(amount, places), places, field="amount") == amount


@given(amount=amounts, places=decimals)
def test_format_amount__is_what_decimal_arithmetic_says(amount: int, places: int) -> None:
    with localcontext(prec=200):
        assert Decimal(format_amount(amount, places)) == Decimal(amount).scaleb(-places)


@pytest.mark.parametrize(
    ("amount", "places", "shown"),
    [
        (0, 0, "0"),
        (0, 6, "0.00"),
        (5, 1, "0.5"),
        (100_000_000, 6, "100.00"),
        (100_500_000, 6, "100.50"),
        (1, 6, "0.000001"),
        (-1_500_000, 6, "-1.50"),
        (-7, 0, "-7"),
        (10**18, 18, "1.00"),
    ],
)
def test_format_amount__shows_cents_and_no_more_zeros(amount: int, places: int, shown: str) -> None:
    assert format_amount(amount, places) == shown


MALFORMED = [
    "",
    " ",
    " 1",
    "1 ",
    "1\n",
    "\n1",
    "1e3",
    "1E3",
    "NaN",
    "nan",
    "Infinity",
    "-Infinity",
    "inf",
    "-1",
    "-0",
    "+1",
    "01",
    "00",
    "00.1",
    "1.",
    ".5",
    ".",
    "1..2",
    "1.2.3",
    "1_000",
    "1,000",
    "1,5",
    "0x10",
    "１００",
    "１",
    "1.٥",
    "¹",
    "½",
    "1/2",
    "1\x00",
    "1" * 79,
    "0." + "0" * 78,
    "9" * 100_000,
]


@pytest.mark.parametrize("text", MALFORMED, ids=range(len(MALFORMED)))
def test_parse_amount__malformed__is_refused_and_named(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_amount(text, 18, field="amount")
    assert refused.value.field == "amount"
    assert "is not an amount" in refused.value.problem
    assert len(str(refused.value)) < 500


@given(st.text(max_size=20))
def test_parse_amount__any_text__is_an_amount_or_refused(text: str) -> None:
    try:
        amount = parse_amount(text, 6, field="amount")
    except InvalidInput:
        return
    assert text.isascii()
    assert 0 <= amount <= UINT256_MAX
    assert Decimal(text) * 10**6 == amount


def test_parse_amount__bounds_of_uint256() -> None:
    assert parse_amount(str(UINT256_MAX), 0, field="amount") == UINT256_MAX
    for text, places in ((str(2**256), 0), (str(UINT256_MAX), 1)):
        with pytest.raises(InvalidInput, match=r"2\*\*256"):
            parse_amount(text, places, field="amount")


@given(places=st.integers(0, 76))
def test_parse_amount__one_digit_too_fine__is_refused_and_not_rounded(places: int) -> None:
    with pytest.raises(InvalidInput, match=f"at most {places}"):
        parse_amount("0." + "0" * places + "1", places, field="amount")


@given(places=decimals)
def test_parse_amount__zeros_at_the_end__say_nothing(places: int) -> None:
    assert parse_amount("1." + "0" * 77, places, field="amount") == 10**places


@pytest.mark.parametrize("text", ["0", "0.0", "0.000000"])
def test_parse_positive__zero__is_refused(text: str) -> None:
    assert parse_amount(text, 6, field="amount") == 0
    with pytest.raises(InvalidInput, match="is zero"):
        parse_positive(text, 6, field="amount")


def test_parse_positive__the_least_unit() -> None:
    assert parse_positive("0.000001", 6, field="amount") == 1


@given(amount=amounts, places=st.integers(0, 36), finer=st.integers(0, 36))
def test_rescale_up__undoes_rescale_exact(amount: int, places: int, finer: int) -> None:
    scale = places + finer
    assert rescale_up(rescale_exact(amount, places, scale), scale, places) == amount


@given(amount=amounts, places=st.integers(0, 36), finer=st.integers(0, 36))
def test_rescale_up__is_the_least_that_covers(amount: int, places: int, finer: int) -> None:
    scale = places + finer
    units = rescale_up(amount, scale, places)
    assert rescale_exact(units, places, scale) >= amount
    assert units == 0 or rescale_exact(units - 1, places, scale) < amount


def test_rescale__to_a_coarser_scale__only_what_is_whole_in_it() -> None:
    assert rescale_exact(3 * 10**12, 18, 6) == 3
    with pytest.raises(AssertionError):
        rescale_exact(3 * 10**12 + 1, 18, 6)
    assert rescale_up(3, 6, 18) == 3 * 10**12


@given(amount=amounts, scale=decimals)
def test_rescale_down__never_gives_more(amount: int, scale: int) -> None:
    units = rescale_down(amount, scale)
    assert units * 10**FINEST_SCALE <= amount * 10**scale < (units + 1) * 10**FINEST_SCALE


@given(amount=amounts, bps=st.integers(0, BPS), at_most=amounts)
def test_tolerance__is_the_smaller_and_rounded_down(amount: int, bps: int, at_most: int) -> None:
    allowed = tolerance(amount, bps=bps, at_most=at_most)
    assert allowed <= at_most
    assert allowed * BPS <= amount * bps
    assert allowed == at_most or (allowed + 1) * BPS > amount * bps


@given(amount=st.integers(-(2**300), 2**300), places=decimals)
@example(amount=-50, places=2)
def test_units_of__what_was_formatted__is_the_amount_again(amount: int, places: int) -> None:
    """Also a sum of payments, which no token could hold."""
    assert units_of(format_amount(amount, places), places) == amount
