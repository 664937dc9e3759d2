from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from settler.domain.events import EventType
from settler.domain.invoices import InvoiceException, InvoiceStatus
from settler.domain.lifecycle import advance
from settler.domain.settlement import Expire, Hold, HoldReason, Outcome, Processing, Settle, Stop, Waiting
from tests.domain.samples import an_invoice

PENDING, PROCESSING, SETTLED, EXPIRED, CANCELED, REVERSED = InvoiceStatus
NOTHING: frozenset[InvoiceException] = frozenset()
ON_HOLD = frozenset({InvoiceException.ON_HOLD})

waiting = Waiting(exceptions=NOTHING)
processing = Processing(exceptions=NOTHING)
expire = Expire(exceptions=NOTHING)
LATE = (Stop(reason=HoldReason.LATE),)
held = Hold(stops=LATE, is_paid=False, expire=False, exceptions=ON_HOLD)
held_and_past = Hold(stops=LATE, is_paid=False, expire=True, exceptions=ON_HOLD)
held_and_paid = Hold(stops=(Stop(reason=HoldReason.MANUAL),), is_paid=True, expire=False, exceptions=ON_HOLD)
settle = Settle(parts=(), exceptions=NOTHING)
OPEN = [PENDING, PROCESSING, EXPIRED, REVERSED]
OUTCOMES: list[Outcome] = [waiting, processing, expire, held, held_and_past, held_and_paid, settle]

ARROWS: list[tuple[InvoiceStatus, Outcome, InvoiceStatus]] = [
    (PENDING, waiting, PENDING),
    (PENDING, processing, PROCESSING),
    (PENDING, expire, EXPIRED),
    (PENDING, held, PENDING),
    (PENDING, held_and_past, EXPIRED),
    (PENDING, held_and_paid, PROCESSING),
    (PENDING, settle, SETTLED),
    (PROCESSING, waiting, PENDING),
    (PROCESSING, processing, PROCESSING),
    (PROCESSING, expire, EXPIRED),
    (PROCESSING, held, PENDING),
    (PROCESSING, held_and_past, EXPIRED),
    (PROCESSING, held_and_paid, PROCESSING),
    (PROCESSING, settle, SETTLED),
    (EXPIRED, waiting, EXPIRED),
    (EXPIRED, processing, PROCESSING),
    (EXPIRED, expire, EXPIRED),
    (EXPIRED, held, EXPIRED),
    (EXPIRED, held_and_past, EXPIRED),
    (EXPIRED, held_and_paid, PROCESSING),
    (EXPIRED, settle, SETTLED),
    (REVERSED, waiting, REVERSED),
    (REVERSED, processing, REVERSED),
    (REVERSED, expire, REVERSED),
    (REVERSED, held, REVERSED),
    (REVERSED, held_and_past, REVERSED),
    (REVERSED, held_and_paid, REVERSED),
    (REVERSED, settle, SETTLED),
]
TELLS = {
    PENDING: EventType.INVOICE_PENDING,
    PROCESSING: EventType.INVOICE_PROCESSING,
    SETTLED: EventType.INVOICE_SETTLED,
    EXPIRED: EventType.INVOICE_EXPIRED,
}


def test_arrows__every_state_and_outcome_is_there() -> None:
    assert [(before, outcome) for before, outcome, _ in ARROWS] == [(s, o) for s in OPEN for o in OUTCOMES]


@pytest.mark.parametrize(("before", "outcome", "after"), ARROWS)
def test_advance__every_arrow__and_an_event_for_each_change(
    before: InvoiceStatus, outcome: Outcome, after: InvoiceStatus
) -> None:
    step = advance(an_invoice(status=before), outcome)
    assert step.status is after
    entered = [] if after is before else [TELLS[after]]
    hold = [EventType.INVOICE_ON_HOLD] if isinstance(outcome, Hold) else []
    assert list(step.events) == entered + hold


def test_advance__expires_and_is_held_in_one_step__tells_both() -> None:
    """Found by reading: a late payment that was final before the expiry was noticed (a chain that catches up) made
    the invoice `expired`, and only `invoice.on_hold` told of it: a shop waiting for `invoice.expired` waited on."""
    step = advance(an_invoice(), held_and_past)
    assert step.events == (EventType.INVOICE_EXPIRED, EventType.INVOICE_ON_HOLD)


def test_advance__held_already__tells_it_once() -> None:
    step = advance(an_invoice(status=EXPIRED, exceptions=ON_HOLD), held_and_past)
    assert step.events == ()
    assert not step.changes(an_invoice(status=EXPIRED, exceptions=ON_HOLD))


def test_advance__an_operators_mark__stays() -> None:
    marked = an_invoice(exceptions=frozenset({InvoiceException.MARKED, InvoiceException.UNDERPAID}))
    assert advance(marked, processing).exceptions == {InvoiceException.MARKED}


exceptions = st.frozensets(st.sampled_from(InvoiceException))


@given(before=st.sampled_from(OPEN), had=exceptions, outcome=st.sampled_from(OUTCOMES), notes=exceptions)
def test_advance__twice__changes_nothing_the_second_time(
    before: InvoiceStatus, had: Any, outcome: Outcome, notes: Any
) -> None:
    outcome = replace(outcome, exceptions=outcome.exceptions | notes)
    invoice = an_invoice(status=before, exceptions=had)
    step = advance(invoice, outcome)
    assert not step.events or step.changes(invoice)
    after = replace(invoice, status=step.status, exceptions=step.exceptions)
    if after.status is SETTLED:
        return
    again = advance(after, outcome)
    assert not again.changes(after)
    assert again.events == ()
