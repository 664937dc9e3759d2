"""`settler run --shadow`: watches and matches beside another system, and tells nobody."""

from __future__ import annotations

import signal

import sqlalchemy as sa

from settler.storage import schema
from settler.storage.engine import Database
from tests.e2e.conftest import Market
from tests.support.daemon import Process, cli, running, until
from tests.webhook.receiver import receiving


async def test_shadow__sends_nothing__and_a_later_run_sends_what_is_new_only(market: Market) -> None:
    text = market.config.read_text()
    market.config.write_text(text + "[webhooks]\nallow_private_addresses = true\n")
    async with receiving() as merchant:
        assert cli("webhook", "endpoint", "add", f"{merchant.base}/hooks", config=market.config).returncode == 0
        async with Process(market.config, args=["--shadow"]) as shadow:
            old = await shadow.api.create("10.00")
            await market.pay(old)
            await shadow.api.reaches(old, "settled")
            told = {e["id"] for e in await shadow.api.events()}
            assert {e["type"] for e in await shadow.api.events()} >= {"invoice.settled", "settlement.created"}
            assert await shadow.signal(signal.SIGTERM) == 0
        assert merchant.got == []

        async with Process(market.config) as daemon:
            new = await daemon.api.create("20.00")
            await market.pay(new)
            await daemon.api.reaches(new, "settled")
            events = {e["id"]: e["type"] for e in await daemon.api.events()}
            fresh = {id_ for id_ in events if id_ not in told}
            assert "invoice.settled" in {events[id_] for id_ in fresh}

            async def received() -> set[str]:
                return {got.headers["webhook-id"] for got in merchant.got}

            await until(received, lambda ids: ids >= fresh, what="the new events to be delivered")
            assert await received() == fresh, "what happened in the shadow stays there"
            await until(
                lambda: daemon.api.get("/v1/webhook-deliveries", status="pending"),
                lambda page: page["data"] == [],
                what="the deliveries to be recorded",
            )
            assert await daemon.signal(signal.SIGTERM) == 0


async def test_shadow__stopped_right_after_something_happened__leaves_nothing_to_send(market: Market) -> None:
    """What it wrote in its last half second stayed in the outbox, and a later run that was no shadow sent it."""
    async with running(market.config, shadow=True) as shadow:
        for _ in range(3):
            await shadow.api.create("10.00")
    db = await Database.open(f"sqlite:///{market.config.parent / 'settler.db'}")
    try:
        async with db.read() as conn:
            told = [row.is_fanned_out for row in await conn.execute(sa.select(schema.events))]
    finally:
        await db.dispose()
    assert told == [True] * 3
