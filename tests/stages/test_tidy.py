"""What is let go of, and when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from settler.clock import FakeClock
from settler.domain.delivery import DeliveryId, LoggedAttempt, delivery_id
from settler.stages import tidy
from settler.stages.tidy import KEEP_ATTEMPTS, Tidy
from settler.storage import api_keys, ops_sessions, webhooks
from settler.storage.api_keys import Scope
from settler.storage.engine import Database
from tests.webhook.samples import OLD_SECRET, SECRET, added, an_endpoint, an_event

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
DELIVERY = delivery_id(an_endpoint().id, an_event().id, an_event().created_at)


async def _attempted(db: Database, *ages: timedelta) -> None:
    await added(db, an_endpoint(), an_event())
    async with db.write() as conn:
        await webhooks.fan_out(conn, NOW, 10)
        await webhooks.log_attempts(conn, [_attempt(DELIVERY, NOW - age) for age in ages])


def _attempt(delivery: DeliveryId, at: datetime) -> LoggedAttempt:
    return LoggedAttempt(delivery_id=delivery, at=at, duration_ms=1, status_code=500, error="answered 500")


async def _left(db: Database) -> list[timedelta]:
    async with db.read() as conn:
        return [NOW - each.at for each in await webhooks.attempts_of(conn, DELIVERY, limit=50)]


async def test_tick__old_attempts__are_forgotten_in_bounded_pieces(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tidy, "BATCH", 2)
    second = timedelta(seconds=1)
    await _attempted(db, *[KEEP_ATTEMPTS + second] * 3, KEEP_ATTEMPTS, timedelta(0))
    stage = Tidy(db=db, clock=FakeClock(NOW), give_back=lambda: None)
    ticks = [await stage.tick() for _ in range(2)]
    assert [(tick.has_more, tick.facts["attempts"]) for tick in ticks] == [(True, 2), (False, 1)]
    assert await _left(db) == [timedelta(0), KEEP_ATTEMPTS]


async def test_tick__sessions_that_are_over__are_forgotten(db: Database) -> None:
    async with db.write() as conn:
        key, _ = await api_keys.create(
            conn, name="k", scopes=list(Scope), merchant=None, now=NOW, who="t", secret=bytes(32), entropy=bytes(10)
        )
        for nonce, age in (("old", ops_sessions.KEPT + timedelta(seconds=1)), ("young", ops_sessions.KEPT)):
            await ops_sessions.begin(conn, nonce, key_id=key.id, now=NOW - age)
    assert (await Tidy(db=db, clock=FakeClock(NOW), give_back=lambda: None).tick()).facts["sessions"] == 1
    async with db.read() as conn:
        assert [await ops_sessions.is_open(conn, n, key_id=key.id) for n in ("old", "young")] == [False, True]


async def test_tick__secret_whose_overlap_ended__is_deleted(db: Database) -> None:
    until = NOW + timedelta(hours=1)
    await added(db, an_endpoint(previous_secret=OLD_SECRET, previous_secret_until=until))
    clock = FakeClock(NOW)
    stage = Tidy(db=db, clock=clock, give_back=lambda: None)
    assert (await stage.tick()).facts["secrets"] == 0
    clock.advance(3600)
    assert (await stage.tick()).facts["secrets"] == 1
    async with db.read() as conn:
        endpoint = await webhooks.get_endpoint(conn, an_endpoint().id)
    assert endpoint is not None
    assert (endpoint.secret, endpoint.previous_secret) == (SECRET, None)
