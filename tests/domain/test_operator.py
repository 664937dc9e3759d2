"""An operator's word, once spoken, is what it was."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from settler.domain.operator import By, Decided
from tests.domain.samples import T0, a_settlement, an_invoice

BY = By(who="cli:ada", reason="looked at it", now=T0)


@pytest.mark.parametrize("field", ["who", "reason", "now"])
def test_by__is_not_changed_after_it_was_said(field: str) -> None:
    with pytest.raises(FrozenInstanceError):
        setattr(BY, field, "else")
    assert By(who="cli:ada", reason="looked at it", now=T0) == BY


def test_decided__keeps_what_came_of_it__and_is_not_changed() -> None:
    invoice = an_invoice()
    decided = Decided(value=invoice, settled=(a_settlement(invoice),))
    assert (decided.value, [s.invoice_id for s in decided.settled]) == (invoice, [invoice.id])
    with pytest.raises(FrozenInstanceError):
        decided.settled = ()  # type: ignore[misc]  # that is what is tested
