from __future__ import annotations

from datetime import timedelta
from itertools import product

from settler.domain.events import API_VERSION, EventType, event
from settler.domain.ids import looks_like_id
from tests.domain.samples import T0


def test_event__same_change__has_the_same_id() -> None:
    made = [event(EventType.INVOICE_SETTLED, "inv_1", 3, at=T0, merchant="m", data={"n": n}) for n in range(2)]
    assert made[0].id == made[1].id
    assert looks_like_id(made[0].id, "evt")


def test_event__any_other_change__has_another_id() -> None:
    ids = {
        event(type_, object_id, version, at=T0, merchant=None, data={}).id
        for type_, object_id, version in product(EventType, ("inv_1", "inv_2"), (1, 2, 11))
    }
    assert len(ids) == len(EventType) * 6


def test_event__later__sorts_later() -> None:
    first, second = (
        event(EventType.INVOICE_PENDING, "inv_1", n, at=T0 + timedelta(seconds=n), merchant=None, data={})
        for n in (1, 2)
    )
    assert first.id < second.id


def test_body__is_what_the_interface_promises() -> None:
    made = event(EventType.PAYMENT_FINAL, "trf_1", 2, at=T0, merchant="m", data={"id": "trf_1", "version": 2})
    assert made.body() == {
        "id": made.id,
        "type": "payment.final",
        "created_at": "2026-03-01T12:00:00Z",
        "api_version": API_VERSION,
        "data": {"id": "trf_1", "version": 2},
    }
