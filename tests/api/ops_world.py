"""Everything an operator's pages can show, at once: in the API's database, by the verbs that would have made it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from settler.domain.delivery import Endpoint, EndpointId
from settler.domain.invoices import Invoice, TransferRecord
from settler.domain.records import Hold
from settler.storage import holds, schema, webhooks
from settler.storage.engine import Database
from tests.api.conftest import NOW
from tests.stages.test_operating import of_usdc, place, stray
from tests.support.world import STRICT, World

HOOK = "https://shop.example/hook"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    """One thing of each kind."""

    money: TransferRecord
    """100.00 USDC in suspense, final."""
    open_invoice: Invoice
    """100.00, pending; nothing was paid."""
    held: Invoice
    """100.00, paid in full and final, stopped by a hold."""
    hold: Hold
    settled: Invoice
    dead: str
    """Id of a delivery that was given up."""
    endpoint: EndpointId


async def full_shop(db: Database) -> Shop:
    world = await World.on(db)
    money = await stray(world)
    held, settled = await of_usdc(world), await of_usdc(world)
    hold = await place(world, held, "the payer asked for a refund")
    endpoint = await add_endpoint(db, "whe_01kdvdnnq000000000000000h1")
    for invoice in (held, settled):
        world.pay(invoice)
    world.mine(6)
    await world.catch_up()
    open_invoice = await of_usdc(world)
    dead = await bury_oldest(db, endpoint)
    return Shop(
        money=money,
        open_invoice=open_invoice,
        held=held,
        hold=hold,
        settled=settled,
        dead=dead,
        endpoint=endpoint,
    )


def build_shop(url: str) -> Shop:
    """A full shop in the migrated database at `url`, once for many tests to copy."""

    async def built() -> Shop:
        db = await Database.open(url)
        try:
            return await full_shop(db)
        finally:
            await db.dispose()

    return asyncio.run(built())


def seen(db: Database) -> World:
    """What there is in a database that others filled."""
    return World(db, STRICT)


async def add_endpoint(db: Database, id_: str, *, url: str = HOOK, merchant: str | None = None) -> EndpointId:
    endpoint = Endpoint(
        id=EndpointId(id_),
        url=url,
        merchant=merchant,
        types=(),
        secret="whsec_" + "A" * 32,
        previous_secret=None,
        created_at=NOW,
    )
    async with db.write() as conn:
        await webhooks.add_endpoint(conn, endpoint)
    return endpoint.id


async def bury_oldest(db: Database, endpoint: EndpointId, *, error: str = "answered 500") -> str:
    """Makes a dead letter of the endpoint's oldest pending delivery."""
    d = schema.webhook_deliveries
    async with db.write() as conn:
        while await webhooks.fan_out(conn, NOW, 500):
            pass
        query = sa.select(d.c.id).where(d.c.endpoint_id == endpoint, d.c.status == "pending").order_by(d.c.id).limit(1)
        id_ = str((await conn.execute(query)).scalar_one())
        gone: dict[str, Any] = {"status": "dead", "attempts": 10, "next_attempt_at": None, "last_error": error}
        await conn.execute(
            sa.update(d)
            .where(d.c.id == id_)
            .values(**gone, last_status_code=500, last_attempt_at=NOW - timedelta(hours=2))
        )
    return id_


async def status_of(db: Database, delivery: str) -> str:
    d = schema.webhook_deliveries
    async with db.read() as conn:
        return str((await conn.execute(sa.select(d.c.status).where(d.c.id == delivery))).scalar_one())


async def stands(db: Database, hold: Hold) -> bool:
    async with db.read() as conn:
        found = await holds.get(conn, hold.id)
    assert found is not None
    return found.stands
