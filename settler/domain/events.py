"""What is told to the outside: event types, and ids that follow from what they tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from settler.domain.ids import EventId, derived_id

API_VERSION = "v1"


class EventType(StrEnum):
    INVOICE_CREATED = "invoice.created"
    INVOICE_PROCESSING = "invoice.processing"
    INVOICE_PENDING = "invoice.pending"
    """Again, after a reorg."""
    INVOICE_SETTLED = "invoice.settled"
    INVOICE_EXPIRED = "invoice.expired"
    INVOICE_CANCELED = "invoice.canceled"
    INVOICE_REVERSED = "invoice.reversed"
    INVOICE_ON_HOLD = "invoice.on_hold"
    PAYMENT_DETECTED = "payment.detected"
    PAYMENT_FINAL = "payment.final"
    PAYMENT_ORPHANED = "payment.orphaned"
    TRANSFER_UNMATCHED = "transfer.unmatched"
    SETTLEMENT_CREATED = "settlement.created"
    SETTLEMENT_REVERSED = "settlement.reversed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One state change of one object. `data` is the object as the API shows it, after the change."""

    id: EventId
    type: EventType
    created_at: datetime
    object_id: str
    version: int
    merchant: str | None
    """Whose invoice it is about; `None` where no invoice is."""
    data: Mapping[str, Any]

    def body(self) -> dict[str, Any]:
        """The webhook body and the item of `GET /v1/events`."""
        return {
            "id": self.id,
            "type": self.type.value,
            "created_at": self.created_at.isoformat().replace("+00:00", "Z"),
            "api_version": API_VERSION,
            "data": dict(self.data),
        }


def event(
    type_: EventType,
    object_id: str,
    version: int,
    *,
    at: datetime,
    merchant: str | None,
    data: Mapping[str, Any],
) -> Event:
    """The event of `object_id` reaching `version` at `at`.

    Type, object and version name it: the outbox holds each such triple once, so that a stage replayed after a
    crash tells
    nothing twice, and an id once delivered is the id at every later attempt.
    """
    return Event(
        id=EventId(derived_id("evt", at, type_.value, object_id, version)),
        type=type_,
        created_at=at,
        object_id=object_id,
        version=version,
        merchant=merchant,
        data=data,
    )
