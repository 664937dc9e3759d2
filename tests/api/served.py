"""The API over a database with something of everything, served by a thread: for clients that are not asyncio."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from settler.api.app import make_app
from settler.api.server import serve
from settler.clock import Clock
from settler.domain.delivery import Endpoint, EndpointId
from settler.domain.drafting import InvoiceDefaults
from settler.health import Health
from settler.metrics import Metrics
from settler.storage import api_keys, holds, invoices, settlements, transfers, webhooks
from settler.storage.api_keys import Scope
from settler.storage.engine import Database
from tests.support.world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    url: str
    key: str
    """May do everything."""
    ids: dict[str, list[str]]
    """Of objects that are there, by the part of the path after the version."""


@contextmanager
def served(database_url: str, clock: Clock) -> Iterator[Served]:
    """Until the block ends. `clock`: the API's own."""
    ready: list[Served] = []
    started = threading.Event()
    stop = asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def run() -> None:
        loops.append(asyncio.get_running_loop())
        db = await Database.open(database_url)
        try:
            world = await peopled(db)
            app = make_app(
                db=db,
                clock=clock,
                catalog=world.catalog(),
                defaults=InvoiceDefaults(),
                operator=world.operating,
                auth="keys",
                metrics=Metrics(clock, version="0"),
                health=Health(clock),
                providers=list,
                entropy=secrets.token_bytes,
                allow_private_webhooks=False,
            )
            async with db.write() as conn:
                _, key = await api_keys.create(
                    conn,
                    name="all",
                    scopes=list(Scope),
                    merchant=None,
                    now=clock.now(),
                    who="test",
                    secret=secrets.token_bytes(32),
                    entropy=secrets.token_bytes(10),
                )
            runner = await serve(app, "127.0.0.1", 0)
            ready.append(Served(url="http://{}:{}".format(*runner.addresses[0][:2]), key=key, ids=await ids_of(world)))
            started.set()
            await stop.wait()
            await runner.cleanup()
        finally:
            await db.dispose()
            started.set()

    thread = threading.Thread(target=asyncio.run, args=(run(),), name="api")
    thread.start()
    try:
        assert started.wait(60), "the API did not start"
        assert ready, "the API could not start"
        yield ready[0]
    finally:
        loops[0].call_soon_threadsafe(stop.set)
        thread.join(30)
        assert not thread.is_alive()


async def peopled(db: Database) -> World:
    """A world with invoices pending, processing, settled, canceled and held, money in suspense, and dead letters."""
    world = await World.on(db)
    async with db.write() as conn:
        await webhooks.add_endpoint(
            conn,
            Endpoint(
                id=EndpointId("whe_" + "0" * 26),
                url="https://shop.example/hooks",
                merchant=None,
                types=(),
                secret="whsec_" + "A" * 44,
                previous_secret=None,
                created_at=world.clock.now(),
            ),
        )
    made = [await world.invoice("100") for _ in range(8)]
    for invoice, amount in zip(made, ("100", "100", "40", "150"), strict=False):
        world.pay(invoice, amount)
    world.pay(made[0], "5")
    world.mine(4)
    await world.catch_up()
    async with db.write() as conn:
        await world.operating.place_hold(conn, made[4].id, world.by())
        await world.operating.cancel(conn, made[5].id, world.by())
    for late in (made[0], made[4], made[6]):
        world.pay(late, "100")
    world.mine(4)
    world.pay(made[7], "100")
    world.mine()
    await world.catch_up()
    async with db.write() as conn:
        await webhooks.fan_out(conn, world.clock.now(), 500)
    return world


async def ids_of(world: World) -> dict[str, list[str]]:
    async with world.db.read() as conn:
        return {
            "invoices": [i.id for i in await invoices.find(conn, limit=50)],
            "transfers": [t.id for t in await transfers.find(conn, limit=50)],
            "settlements": [s.id for s in await settlements.find(conn, limit=50)],
            "holds": [h.id for h in await holds.find(conn, limit=50)],
            "webhook-endpoints": [e.id for e in await webhooks.find_endpoints(conn)],
            "webhook-deliveries": [d.id for d in await webhooks.find_deliveries(conn)],
        }
