"""Events to hand on."""

from __future__ import annotations

from datetime import UTC, datetime

from settler.domain.events import Event, EventType, event
from settler.stages.relaying import Message
from settler.storage import events
from settler.storage.engine import Database

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TYPES = (EventType.INVOICE_CREATED, EventType.PAYMENT_DETECTED, EventType.INVOICE_SETTLED)


def an_event(number: int, *, merchant: str | None = "m1", data: str = "ä") -> Event:
    name = f"obj-{number:06}"
    return event(TYPES[number % 3], name, 1, at=NOW, merchant=merchant, data={"id": name, "n": number, "text": data})


async def tell(db: Database, first: int, count: int) -> list[Event]:
    """Writes so many events, some hundred a transaction."""
    told = [an_event(number) for number in range(first, first + count)]
    for start in range(0, count, 500):
        async with db.write() as conn:
            await events.append(conn, told[start : start + 500])
    return told


def a_message(number: int, *, merchant: str | None = "m1", body: bytes = b"{}") -> Message:
    return Message(id=f"evt_{number:06}", type="invoice.settled", merchant=merchant, position=number, body=body)
