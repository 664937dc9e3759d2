"""Endpoints and events for tests; every field can be overridden."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from settler.domain import events
from settler.domain.delivery import Endpoint, EndpointId
from settler.domain.events import Event, EventType
from settler.domain.ids import make_id
from settler.storage import events as outbox
from settler.storage import webhooks
from settler.storage.engine import Database
from settler.webhook.sign import new_secret

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
SECRET = new_secret(bytes(range(32)))
OLD_SECRET = new_secret(bytes(range(32, 64)))


def an_endpoint(number: int = 1, **fields: Any) -> Endpoint:
    given: dict[str, Any] = {
        "id": EndpointId(make_id("whe", NOW, number.to_bytes(10))),
        "url": f"http://endpoint-{number}.test/hook",
        "merchant": None,
        "types": (),
        "secret": SECRET,
        "previous_secret": None,
        "created_at": NOW,
    }
    merged = {**given, **fields}
    if merged["previous_secret"] is not None:
        merged.setdefault("previous_secret_until", datetime(2126, 1, 1, tzinfo=UTC))
    return Endpoint(**merged)


def an_event(number: int = 1, **fields: Any) -> Event:
    given: dict[str, Any] = {
        "type_": EventType.INVOICE_SETTLED,
        "object_id": f"inv_{number}",
        "version": 1,
        "at": NOW,
        "merchant": "default",
        "data": {"id": f"inv_{number}", "amount_requested": "100.00", "note": "Zürich ✓"},
    }
    merged = {**given, **fields}
    return events.event(merged.pop("type_"), merged.pop("object_id"), merged.pop("version"), **merged)


async def add(conn: AsyncConnection, *things: Endpoint | Event) -> None:
    for thing in things:
        if isinstance(thing, Endpoint):
            await webhooks.add_endpoint(conn, thing)
        else:
            await outbox.append(conn, [thing])


async def added(db: Database, *things: Endpoint | Event) -> None:
    async with db.write() as conn:
        await add(conn, *things)
