"""Cells of an export: exact amounts, times that sort, and text that no spreadsheet runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chains.address import to_checksum
from chains.model import UINT256_MAX, BaseUnits, BlockNumber
from settler.domain.exporting import (
    COLUMNS,
    LEDGER,
    SETTLEMENTS,
    TRANSFERS,
    Amount,
    Cell,
    Columns,
    Kind,
    PostedLine,
    Row,
    guarded,
    ledger_row,
    settlement_row,
    time_text,
    transfer_row,
)
from settler.domain.ids import ReversalId
from settler.domain.invoices import Allocation, TransferRecord, TransferStatus, UnmatchedReason
from settler.domain.ledger import receipt
from settler.domain.records import Reversal
from settler.domain.views import Render, hex_text
from tests.domain.samples import (
    CHAIN,
    EXPIRES,
    OTHER_CHAIN,
    PAYER,
    SHOP,
    T0,
    USDC,
    a_line,
    a_settlement,
    a_token,
    a_transfer,
    an_invoice,
)

RENDER = Render(address=to_checksum, chain_names={CHAIN: "base"}, tokens={(CHAIN, USDC): a_token()}, heads={})


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


def named(columns: Columns, row: Row) -> Mapping[str, Cell]:
    return dict(zip(columns, row, strict=True))


def test_settlement_row__of_two_chains__joins_them_and_leaves_the_blocks_out() -> None:
    first = a_transfer(60_000_000, block_number=BlockNumber(1_007))
    second = a_transfer(41_000_000, chain_id=OTHER_CHAIN)
    surplus = {"amount_settled": BaseUnits(40_000_000), "amount_surplus": BaseUnits(1_000_000)}
    lines = [a_line(first), a_line(second, chain="ethereum", **surplus)]
    settlement = a_settlement(an_invoice(), *lines, amount_surplus=1_000_000)
    row = named(SETTLEMENTS, settlement_row(settlement))
    assert (row["chains"], row["tokens"]) == ("base;ethereum", "USDC")
    assert row["tx_hashes"] == f"{hex_text(first.identity.tx_hash)};{hex_text(second.identity.tx_hash)}"
    assert (row["first_block"], row["last_block"], row["payment_count"]) == (None, None, 2)
    assert [str(row[f"amount_{of}"]) for of in ("requested", "settled", "surplus")] == ["100.00", "100.00", "1.00"]
    assert (row["reversed_at"], row["reversal_id"], row["settled_at"]) == (None, None, EXPIRES)
    assert json.loads(str(row["policy"])) == settlement.policy


def test_settlement_row__reversed__counts_for_nothing_and_keeps_what_it_said() -> None:
    lines = [a_line(a_transfer(50_000_000, block_number=BlockNumber(n))) for n in (1_009, 1_004)]
    settlement = a_settlement(an_invoice(), *lines, amount_surplus=7)
    reversal = Reversal(id=ReversalId("rev_1"), reason="finality violation", reversed_at=T0)
    before, after = (
        named(SETTLEMENTS, settlement_row(s)) for s in (settlement, replace(settlement, reversal=reversal))
    )
    assert (before["first_block"], before["last_block"]) == (1_004, 1_009)
    assert (after["reversed_at"], after["reversal_id"]) == (T0, "rev_1")
    for name in ("amount_requested", "amount_settled", "amount_surplus"):
        assert (after[name], after[f"{name}_gross"]) == (Amount(0, 6), before[name])
        assert before[name] == before[f"{name}_gross"] != Amount(0, 6)
    assert (before["payment_count"], after["payment_count"], after["payment_count_gross"]) == (2, 0, 2)


def test_ledger_row__debits_less_credits__sum_to_zero() -> None:
    paid = a_transfer(2_500_000)
    rows = [
        named(
            LEDGER, ledger_row(PostedLine(entry_id="ent_1", index=n, kind="receipt", posted_at=T0, line=line), RENDER)
        )
        for n, line in enumerate(receipt(paid))
    ]
    assert {str(row["account"]): str(row["amount"]) for row in rows} == {"received": "2.50", "suspense": "-2.50"}
    assert sum(int(str(row["amount_base"])) for row in rows) == 0
    for n, row in enumerate(rows):
        assert (row["entry_id"], row["line"], row["kind"], row["posted_at"]) == ("ent_1", n, "receipt", T0)
        assert (row["chain"], row["chain_id"], row["token"]) == ("base", "eip155:8453", "USDC")
        assert (row["token_address"], row["transfer_id"]) == (to_checksum(USDC), paid.id)
        assert (row["invoice_id"], row["settlement_id"]) == (None, None)


@pytest.mark.parametrize(
    ("paid", "counted", "reason"),
    [
        (a_transfer(2_500_000, allocation=Allocation.INVOICE), "2.50", None),
        (a_transfer(2_500_000, reason=UnmatchedReason.NO_INVOICE), "2.50", "no_invoice"),
        (a_transfer(2_500_000, reason=UnmatchedReason.IGNORED_ZERO), "0.00", "ignored_zero"),
        (a_transfer(2_500_000, status=TransferStatus.DETECTED, final_at=None), "0.00", None),
        (a_transfer(2_500_000, status=TransferStatus.ORPHANED, final_at=None), "0.00", None),
    ],
)
def test_transfer_row__only_what_is_final_and_moves_money_counts(
    paid: TransferRecord, counted: str, reason: str | None
) -> None:
    row = named(TRANSFERS, transfer_row(paid, RENDER))
    assert (str(row["amount_final"]), str(row["amount_gross"]), row["amount_gross_base"]) == (
        counted,
        "2.50",
        "2500000",
    )
    assert (row["status"], row["allocation"], row["reason"]) == (paid.status.value, paid.allocation.value, reason)
    assert (row["payer"], row["pay_to"]) == (to_checksum(PAYER), to_checksum(SHOP))
    assert (row["tx_hash"], row["log_index"]) == (hex_text(paid.identity.tx_hash), paid.log_index)
    assert (row["block_number"], row["block_hash"]) == (1_000, "0x" + "b0" * 32)
    assert (row["block_time"], row["final_at"]) == (paid.block_time, paid.final_at)
