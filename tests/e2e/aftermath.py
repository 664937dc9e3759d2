"""What is left when a daemon was disturbed, held against one that was not: the same chain, read into a new database
that knows the same invoices (I5).
"""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from settler.storage import schema
from settler.storage.engine import Database
from tests.e2e.traffic import Traffic
from tests.support.daemon import Api, Process, cli, until
from tests.support.dump import Dump, audit, dump
from tests.webhook.receiver import Receiver


@dataclass(frozen=True, kw_only=True)
class Calm:
    """The daemon that nobody disturbs."""

    config: Path
    database: str
    """Its URL, without tables."""


async def settled(api: Api, traffic: Traffic, final: int) -> None:
    """Returns once all up to the block `final` is decided; every invoice that was paid is there, once, and no other."""
    await api.decided(final)
    found = await until(
        lambda: api.every("/v1/invoices", status="settled"),
        lambda invoices: len(invoices) >= len(traffic.paid),
        what="every invoice to be settled",
    )
    assert sorted(i["id"] for i in found) == sorted(i["id"] for i in traffic.paid)
    expired = await until(
        lambda: api.every("/v1/invoices", status="expired"),
        lambda invoices: len(invoices) >= len(traffic.left),
        what="every invoice left to expire",
    )
    assert sorted(i["id"] for i in expired) == sorted(i["id"] for i in traffic.left)


async def told_once(api: Api, merchant: Receiver) -> int:
    """Returns once every event was delivered, and nothing else: how many there are. Each has an id of its own."""
    events = [e["id"] for e in await api.events()]
    assert max(Counter(events).values()) == 1, "an event that stands in the feed twice"
    told = set(events)
    await until(lambda: delivered(merchant), lambda ids: ids >= told, what="every event to be delivered")
    assert await delivered(merchant) == told, "and nothing else"
    return len(told)


async def delivered(merchant: Receiver) -> set[str]:
    return {got.headers["webhook-id"] for got in merchant.got}


async def compare(disturbed: str, calm: Calm, traffic: Traffic, final: int) -> Dump:
    """Fails where the database at the URL `disturbed` holds anything but what the undisturbed one comes to; what it
    holds. To be called when no daemon runs.
    """
    assert (await asyncio.to_thread(cli, "migrate", config=calm.config)).returncode == 0
    await copy_invoices(disturbed, calm.database)
    async with Process(calm.config) as process:
        await settled(process.api, traffic, final)
        assert await process.signal(signal.SIGTERM) == 0
    found = await dump(disturbed)
    found.assert_same_outcome(await dump(calm.database))
    await audit(disturbed)
    await audit(calm.database)
    return found


async def let_leases_run_out(url: str) -> None:
    """As a minute does: what was being sent when the daemon was killed may be sent again. What a worker is writing
    about right now is left to it.
    """
    db, table = await Database.open(url, pool_size=1), schema.webhook_deliveries
    try:
        async with db.write() as conn:
            claimed = sa.select(table.c.id).where(table.c.claimed_until.is_not(None)).with_for_update(skip_locked=True)
            ids = (await conn.execute(claimed)).scalars().all()
            await conn.execute(sa.update(table).where(table.c.id.in_(ids)).values(claimed_until=datetime.now(UTC)))
    finally:
        await db.dispose()


async def copy_invoices(source: str, target: str) -> None:
    """The invoices as they were when they were made; nothing of what became of them."""
    new = {"status": "pending", "exceptions": " ", "settled_at": None, "settlement_id": None, "version": 1}
    one, other = await Database.open(source, pool_size=1), await Database.open(target, pool_size=1)
    try:
        async with one.read() as reading, other.write() as writing:
            for table, change in (
                (schema.invoices, new),
                (schema.invoice_options, {}),
                (schema.watched_addresses, {}),
                (schema.amount_reservations, {}),
                (schema.events, {}),
            ):
                query = sa.select(table)
                if table is schema.events:
                    query = query.where(table.c.type == "invoice.created").order_by(table.c.seq)
                rows = [{**row._mapping, **change} for row in await reading.execute(query)]
                if table is schema.events:
                    rows = [{k: v for k, v in row.items() if k != "seq"} for row in rows]
                if rows:
                    await writing.execute(sa.insert(table), rows)
    finally:
        await one.dispose()
        await other.dispose()
