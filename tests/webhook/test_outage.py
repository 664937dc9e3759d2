"""A receiver that is down for a day, or for too long: real HTTP, simulated time, on both databases."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest_asyncio
import standardwebhooks
from aiohttp import web

from settler.clock import FakeClock
from settler.domain.delivery import MAX_ATTEMPTS, Delivery
from settler.domain.events import Event, EventType
from settler.stages.dispatch import LEASE_S, Dispatch
from settler.storage import webhooks
from settler.storage.engine import Database
from settler.webhook.send import HttpSender
from tests.webhook.samples import SECRET, added, an_endpoint, an_event

NOW = datetime(2026, 3, 1, tzinfo=UTC)
LIFE = (EventType.INVOICE_CREATED, EventType.INVOICE_PROCESSING, EventType.INVOICE_SETTLED)
INVOICES = 8


@dataclass
class Merchant:
    """A receiver that can be switched off: then nobody listens on its port."""

    runner: web.AppRunner
    port: int = 0
    got: list[tuple[str, bytes]] = field(default_factory=list)
    """Event id and body of what was answered 2xx, in order of arrival."""
    versions: dict[str, int] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    """What a receiver believes that goes by the version: never back."""
    seen: set[str] = field(default_factory=set)

    async def up(self) -> None:
        await web.TCPSite(self.runner, "127.0.0.1", self.port, reuse_address=True).start()
        self.port = self.runner.addresses[0][1]

    async def down(self) -> None:
        for site in list(self.runner.sites):
            await site.stop()

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        id_, stamp = request.headers["webhook-id"], int(request.headers["webhook-timestamp"])
        # The library's `verify` asks the real clock; its signature is what counts here.
        expected = standardwebhooks.Webhook(SECRET).sign(id_, datetime.fromtimestamp(stamp, UTC), body.decode())
        assert request.headers["webhook-signature"] == expected
        self.got.append((id_, body))
        if id_ not in self.seen:
            self.seen.add(id_)
            event = json.loads(body)
            invoice, version = event["data"]["id"], event["data"]["version"]
            if version > self.versions.get(invoice, 0):
                self.versions[invoice], self.states[invoice] = version, event["type"]
        return web.Response(status=204)


@pytest_asyncio.fixture
async def merchant() -> AsyncIterator[Merchant]:
    app = web.Application()
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    merchant = Merchant(runner)
    app.router.add_post("/hook", merchant.take)
    await runner.setup()
    try:
        await merchant.up()
        yield merchant
    finally:
        await runner.cleanup()


@dataclass
class Daemon:
    """The dispatch stage as a process runs it: it can be killed and started again."""

    db: Database
    sender: HttpSender
    clock: FakeClock
    random: random.Random
    outcomes: Counter[str] = field(default_factory=Counter)

    def start(self) -> None:
        self.dispatch = Dispatch(
            self.db,
            self.sender,
            self.clock,
            jitter=self.random.random,
            on_attempt=lambda outcome: self.outcomes.update([outcome]),
            patience_s=60,  # a tick ends when a send does, never by the clock on the wall
        )

    async def kill(self) -> None:
        """In the middle of what it does: whatever was sent is not recorded."""
        await self.dispatch.tick()
        self.start()

    async def until_idle(self) -> None:
        while (await self.dispatch.tick()).has_more:
            pass

    async def live(self, hours: float, every_s: float = 1200.0) -> None:
        for _ in range(int(hours * 3600 / every_s)):
            self.clock.advance(every_s)
            await self.until_idle()


@asynccontextmanager
async def _daemon(db: Database, merchant: Merchant) -> AsyncIterator[Daemon]:
    clock = FakeClock(NOW)
    async with HttpSender(clock=clock, allow_private=True) as sender:
        daemon = Daemon(db, sender, clock, random.Random(1))
        daemon.start()
        await added(db, an_endpoint(url=f"http://127.0.0.1:{merchant.port}/hook"))
        yield daemon
        await daemon.dispatch.drain(5)


def _change(invoice: int, version: int, at: datetime) -> Event:
    data = {"id": f"inv_{invoice}", "version": version}
    return an_event(type_=LIFE[version - 1], object_id=f"inv_{invoice}", version=version, at=at, data=data)


async def _deliveries(db: Database) -> list[Delivery]:
    async with db.read() as conn:
        return await webhooks.find_deliveries(conn, limit=1000)


async def test_receiver_down_for_a_day__then_gets_every_event_once(db: Database, merchant: Merchant) -> None:
    told: list[Event] = []

    async def happen(version: int) -> None:
        """Each invoice changes, in no particular order."""
        changes = [_change(n, version, daemon.clock.now()) for n in daemon.random.sample(range(INVOICES), INVOICES)]
        told.extend(changes)
        await added(db, *changes)

    async with _daemon(db, merchant) as daemon:
        await happen(1)
        await daemon.until_idle()
        assert len(merchant.got) == INVOICES
        await merchant.down()
        await daemon.live(hours=1)
        await happen(2)
        await daemon.live(hours=6)
        await daemon.kill()
        await daemon.live(hours=5)
        await happen(3)
        await daemon.live(hours=12)
        assert len(merchant.got) == INVOICES
        assert daemon.outcomes["retried"] > 2 * INVOICES

        await merchant.up()
        daemon.clock.advance(LEASE_S)
        await daemon.live(hours=29, every_s=1800.0)  # the longest delay, and its jitter
        assert daemon.outcomes["dead"] == 0

    ids = [id_ for id_, _ in merchant.got]
    assert set(ids) == {event.id for event in told}
    assert len(ids) == len(told), "nothing was in flight when it was killed: once each"
    assert merchant.states == {f"inv_{n}": "invoice.settled" for n in range(INVOICES)}
    found = await _deliveries(db)
    assert {d.status for d in found} == {"delivered"}
    assert max(d.attempts for d in found) <= MAX_ATTEMPTS
    async with db.read() as conn:
        logs = [len(await webhooks.attempts_of(conn, d.id, limit=50)) for d in found]
    assert sum(logs) >= sum(d.attempts for d in found), "each attempt is in the log"


async def test_receiver_back__while_the_daemon_is_killed__each_id_counts_once(
    sqlite_db: Database, merchant: Merchant
) -> None:
    """At least once: what was under way when it was killed comes again, under the same id and with the same bytes."""
    events = [_change(n, 3, NOW) for n in range(6)]
    async with _daemon(sqlite_db, merchant) as daemon:
        await added(sqlite_db, *events)
        await daemon.kill()
        arrived = len(merchant.got)
        daemon.clock.advance(LEASE_S)
        await daemon.until_idle()
    assert arrived > 0
    assert len(merchant.got) > len(events)
    assert merchant.seen == {event.id for event in events}
    assert len(set(merchant.got)) == len(events)


async def test_receiver_down_for_longer_than_is_tried__dead_letters_replayed_when_it_is_back(
    db: Database, merchant: Merchant
) -> None:
    events = [_change(n, 3, NOW) for n in range(3)]
    async with _daemon(db, merchant) as daemon:
        await merchant.down()
        await added(db, *events)
        await daemon.live(hours=24 * 5, every_s=3600.0)
        assert daemon.outcomes == {"retried": len(events) * (MAX_ATTEMPTS - 1), "dead": len(events)}
        await merchant.up()
        await daemon.live(hours=48, every_s=7200.0)
        assert not merchant.got
        now = daemon.clock.now()
        async with db.write() as conn:
            wanted = webhooks.Replay(since=NOW, until=NOW + timedelta(days=1), is_dead_only=True)
            assert (await webhooks.replay(conn, wanted, now, after=None, limit=100)).replayed == len(events)
        await daemon.until_idle()
    assert [id_ for id_, _ in sorted(merchant.got)] == sorted(event.id for event in events)
    assert {d.status for d in await _deliveries(db)} == {"delivered"}
