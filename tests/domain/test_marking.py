"""`settle_as_it_is`: what an operator settles by hand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from settler.domain.invoices import InvoiceException
from settler.domain.settlement import InvoicePolicy, settle_as_it_is, settled_amount
from tests.domain.samples import EXPIRES, a_transfer, an_invoice

ONE_PERCENT = InvoicePolicy(underpayment_tolerance_bps=100, underpayment_tolerance_max=10**19)
MARKED, UNDERPAID = InvoiceException.MARKED, InvoiceException.UNDERPAID


@pytest.mark.parametrize(
    ("paid", "policy", "expected"),
    [
        ([], InvoicePolicy(), {MARKED, UNDERPAID}),
        ([99_999_999], InvoicePolicy(), {MARKED, UNDERPAID}),
        ([60_000_000, 40_000_000], InvoicePolicy(), {MARKED}),
        ([99_000_000], ONE_PERCENT, {MARKED}),
        ([98_999_999], ONE_PERCENT, {MARKED, UNDERPAID}),
        ([100_000_001], InvoicePolicy(), {MARKED, InvoiceException.OVERPAID}),
    ],
)
def test_exceptions__say_what_is_short_or_over(
    paid: Sequence[int], policy: InvoicePolicy, expected: set[InvoiceException]
) -> None:
    assert settle_as_it_is(an_invoice(), [a_transfer(n) for n in paid], policy).exceptions == expected


def test_late_money__counts_and_is_said() -> None:
    late = a_transfer(30_000_000, block_time=EXPIRES + timedelta(seconds=1))
    found = settle_as_it_is(an_invoice(), [late], InvoicePolicy())
    assert found.exceptions == {MARKED, UNDERPAID, InvoiceException.LATE}
    assert [p.settled for p in found.parts] == [30_000_000]


@given(st.lists(st.integers(1, 200_000_000), max_size=5))
def test_parts__take_all_that_came__and_settle_no_more_than_is_due(paid: list[int]) -> None:
    invoice = an_invoice()
    parts = settle_as_it_is(invoice, [a_transfer(n) for n in paid], InvoicePolicy()).parts
    assert sum(p.settled + p.surplus for p in parts) == sum(paid)
    assert settled_amount(invoice, parts) == min(sum(paid), invoice.amount)
