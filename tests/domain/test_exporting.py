"""Cells of an export: exact amounts, times that sort, and text that no spreadsheet runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chains.model import UINT256_MAX
from settler.domain.exporting import COLUMNS, Amount, Kind, guarded, time_text


@given(units=st.integers(-UINT256_MAX, UINT256_MAX), scale=st.integers(0, 77))
def test_amount__as_text_and_as_a_decimal__is_exact(units: int, scale: int) -> None:
    amount = Amount(units, scale)
    assert Decimal(str(amount)) == amount.decimal()
    sign, digits, exponent = amount.decimal().as_tuple()
    assert exponent == -scale
    assert int("".join(map(str, digits))) * (-1 if sign else 1) == units


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1"])
def test_guarded__what_a_spreadsheet_would_run__is_text(text: str) -> None:
    assert guarded(text) == "'" + text


@pytest.mark.parametrize("text", ["", "order-42", "a=b", "1-2", "'=1", " =1", "0xabc"])
def test_guarded__anything_else__is_left_alone(text: str) -> None:
    assert guarded(text) == text


def test_time_text__sorts_as_time_does() -> None:
    at = datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC)
    times = [at, at + timedelta(microseconds=1), at + timedelta(milliseconds=1), at + timedelta(seconds=1)]
    assert time_text(at) == "2026-01-31T23:59:59.000000Z"
    assert sorted(map(time_text, reversed(times))) == list(map(time_text, times))
    assert time_text(at.astimezone(timezone(timedelta(hours=5, minutes=30)))) == time_text(at)


def test_columns__each_amount_has_its_unit_beside_it() -> None:
    for columns in COLUMNS.values():
        assert Kind.AMOUNT in columns.values()
        assert "currency" in columns or {"chain", "token", "token_address"} <= set(columns)
