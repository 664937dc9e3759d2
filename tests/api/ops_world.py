"""Everything an operator's pages can show, at once: in the API's database, by the verbs that would have made it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from settler.domain.delivery import Endpoint, EndpointId
from settler.domain.drafting import OptionRequest
from settler.domain.invoices import Invoice, Match, TransferRecord
from settler.domain.records import Hold
from settler.storage import holds, schema, webhooks
from tests.api.conftest import Api
from tests.stages.test_operating import of_usdc, place, stray
from tests.support.world import World

HOOK = "https://shop.example/hook"


@dataclass(slots=True, kw_only=True)
class Shop:
    """`world` with one thing of each kind in it."""

    world: World
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


async def full_shop(api: Api, *, at: World | None = None) -> Shop:
    world = at or await World.on(api.db)
    money = await stray(world)
    held, settled = await of_usdc(world), await of_usdc(world)
    hold = await place(world, held, "the payer asked for a refund")
    endpoint = await add_endpoint(api, "whe_01kdvdnnq000000000000000h1")
    for invoice in (held, settled):
        world.pay(invoice)
    world.mine(6)
    await world.catch_up()
    open_invoice = await of_usdc(world)
    dead = await bury_oldest(api, endpoint)
    return Shop(
        world=world,
        money=money,
        open_invoice=open_invoice,
        held=held,
        hold=hold,
        settled=settled,
        dead=dead,
        endpoint=endpoint,
    )


async def add_endpoint(api: Api, id_: str, *, url: str = HOOK, merchant: str | None = None) -> EndpointId:
    now = api.clock.now()
    endpoint = Endpoint(
        id=EndpointId(id_),
        url=url,
        merchant=merchant,
        types=(),
        secret="whsec_" + "A" * 32,
        previous_secret=None,
        created_at=now,
    )
    async with api.db.write() as conn:
        await webhooks.add_endpoint(conn, endpoint)
    return endpoint.id


async def bury_oldest(api: Api, endpoint: EndpointId, *, error: str = "answered 500") -> str:
    """Makes a dead letter of the endpoint's oldest pending delivery."""
    now = api.clock.now()
    d = schema.webhook_deliveries
    async with api.db.write() as conn:
        while await webhooks.fan_out(conn, now, 500):
            pass
        query = sa.select(d.c.id).where(d.c.endpoint_id == endpoint, d.c.status == "pending").order_by(d.c.id).limit(1)
        id_ = str((await conn.execute(query)).scalar_one())
        gone: dict[str, Any] = {"status": "dead", "attempts": 10, "next_attempt_at": None, "last_error": error}
        await conn.execute(
            sa.update(d)
            .where(d.c.id == id_)
            .values(**gone, last_status_code=500, last_attempt_at=now - timedelta(hours=2))
        )
    return id_


async def status_of(api: Api, delivery: str) -> str:
    d = schema.webhook_deliveries
    async with api.db.read() as conn:
        return str((await conn.execute(sa.select(d.c.status).where(d.c.id == delivery))).scalar_one())


async def stands(api: Api, hold: Hold) -> bool:
    async with api.db.read() as conn:
        found = await holds.get(conn, hold.id)
    assert found is not None
    return found.stands


async def at_one_address(world: World, first: Invoice) -> Invoice:
    """Another open invoice to be paid where `first` is: what comes there is ambiguous."""
    way = OptionRequest(chain="anvil", token="USDC", pay_to=first.options[0].pay_to, match=Match.ADDRESS)
    return await world.invoice("100", options=[way])
