"""What is claimed ahead of an endpoint's sends: it makes a quick endpoint quicker, and stands in nobody's way."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from settler.clock import FakeClock
from settler.domain.delivery import Answered, NoAnswer, Reply
from settler.stages.dispatch import AHEAD_MAX, BEGIN_WITHIN_S, LEASE_S, PER_ENDPOINT, Dispatch
from settler.storage import webhooks
from settler.storage.engine import Database
from tests.webhook.samples import NOW, added, an_endpoint, an_event

WAVE = 150


@dataclass
class Endpoints:
    """A sender whose endpoints answer at once, until they are told otherwise; counts how many sends are under way."""

    sent: list[str] = field(default_factory=list)
    under_way: Counter[str] = field(default_factory=Counter)
    most_at_once: Counter[str] = field(default_factory=Counter)
    fails_from: int | None = None
    """From this send on, each fails."""
    hangs_from: int | None = None
    """From this send on, none is answered until `released`."""
    released: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        self.sent.append(headers["webhook-id"])
        number = len(self.sent)
        self.under_way[url] += 1
        self.most_at_once[url] = max(self.most_at_once[url], self.under_way[url])
        try:
            await asyncio.sleep(0)
            if self.hangs_from is not None and number >= self.hangs_from:
                await self.released.wait()
            if self.fails_from is not None and number >= self.fails_from:
                return NoAnswer(reason="connection reset")
            return Answered(status_code=200)
        finally:
            self.under_way[url] -= 1


def a_stage(db: Database, sender: Endpoints, clock: FakeClock) -> Dispatch:
    return Dispatch(db, sender, clock, jitter=lambda: 0.5, patience_s=0.05)


async def claimable(db: Database, clock: FakeClock) -> int:
    """What another worker would find to be sent now, this one having gone no further."""
    async with db.write() as conn:
        found = await webhooks.claim_due(conn, clock.now(), per_endpoint=1_000, limit=1_000, lease_s=LEASE_S)
        await webhooks.release(conn, found)
    return len(found)


async def warmed(db: Database, sender: Endpoints, clock: FakeClock) -> Dispatch:
    """A stage whose endpoint has taken a good deal, and for which more is claimed than it is sent at a time."""
    await added(db, an_endpoint(), *(an_event(n) for n in range(WAVE)))
    stage = a_stage(db, sender, clock)
    claimed = [(await stage.tick()).facts["claimed"] for _ in range(3)]
    assert claimed[0] == PER_ENDPOINT
    assert int(claimed[-1]) > PER_ENDPOINT
    return stage


async def test_tick__a_quick_endpoint__gets_more_a_tick_and_no_more_at_a_time(db: Database) -> None:
    sender = Endpoints()
    await added(db, an_endpoint(), *(an_event(n) for n in range(WAVE)))
    stage = a_stage(db, sender, FakeClock(NOW))
    ticks = 1
    while (await stage.tick()).has_more:
        ticks += 1
    assert ticks < WAVE / PER_ENDPOINT / 3
    assert sender.most_at_once[an_endpoint().url] == PER_ENDPOINT
    assert len(sender.sent) == len(set(sender.sent)) == WAVE


async def test_tick__the_longest_due__goes_first(db: Database) -> None:
    sender, clock = Endpoints(), FakeClock(NOW)
    await added(db, an_endpoint(), *(an_event(n) for n in range(WAVE)))
    stage = a_stage(db, sender, clock)
    async with db.write() as conn:
        await webhooks.fan_out(conn, clock.now(), WAVE)
        due = await webhooks.claim_due(conn, clock.now(), per_endpoint=WAVE, limit=WAVE, lease_s=LEASE_S)
        await webhooks.release(conn, due)
    while (await stage.tick()).has_more:
        pass
    assert sender.sent == [claim.event.id for claim in due]


async def test_tick__an_endpoint_begins_to_fail__what_waits_is_given_back_unsent(db: Database) -> None:
    sender, clock = Endpoints(), FakeClock(NOW)
    stage = await warmed(db, sender, clock)
    before = len(sender.sent)
    sender.fails_from = before + 1
    for _ in range(4):
        await stage.tick()
    assert len(sender.sent) - before <= 2 * PER_ENDPOINT + 4, "those under way, then one at a time"
    sender.fails_from = None
    clock.advance(10)
    while (await stage.tick()).has_more:
        pass
    assert len(set(sender.sent)) == WAVE


async def test_tick__an_endpoint_begins_to_hang__what_waits_is_soon_anybodys(db: Database) -> None:
    sender, clock = Endpoints(), FakeClock(NOW)
    stage = await warmed(db, sender, clock)
    sender.hangs_from = len(sender.sent) + 1
    for _ in range(3):
        await stage.tick()
    assert sender.under_way[an_endpoint().url] == PER_ENDPOINT
    async with db.read() as conn:
        left = (await webhooks.outbox_stats(conn, clock.now())).pending
    assert await claimable(db, clock) == left - PER_ENDPOINT, "all but those under way"
    sender.released.set()
    sender.hangs_from = None
    while (await stage.tick()).has_more:
        pass
    assert Counter(sender.sent).most_common(1)[0][1] == 1


async def test_drain__what_waits__is_given_back(db: Database) -> None:
    sender, clock = Endpoints(), FakeClock(NOW)
    stage = await warmed(db, sender, clock)
    sender.hangs_from = len(sender.sent) + 1
    await stage.tick()
    assert await stage.drain(0) == PER_ENDPOINT
    async with db.read() as conn:
        left = (await webhooks.outbox_stats(conn, clock.now())).pending
    assert await claimable(db, clock) == left - PER_ENDPOINT, "those cut off may have arrived: their lease runs out"


async def test_tick__a_claim_that_waited_too_long__is_given_back_instead_of_sent(db: Database) -> None:
    """Its send could outlast its lease: another worker would send it meanwhile."""
    sender, clock = Endpoints(), FakeClock(NOW)
    stage = await warmed(db, sender, clock)
    sender.hangs_from = len(sender.sent) + PER_ENDPOINT
    await stage.tick()
    sent = len(sender.sent)
    clock.advance(BEGIN_WITHIN_S)
    sender.released.set()
    await asyncio.sleep(0.01)
    assert len(sender.sent) == sent, "none was begun"
    sender.hangs_from = None
    while (await stage.tick()).has_more:
        pass
    assert len(sender.sent) == len(set(sender.sent)) == WAVE


def test_bounds__a_claim_is_begun_early_enough() -> None:
    assert timedelta(seconds=BEGIN_WITHIN_S) < timedelta(seconds=LEASE_S) / 2
    assert AHEAD_MAX > PER_ENDPOINT
