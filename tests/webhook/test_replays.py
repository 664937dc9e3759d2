"""Ranges sent again, in pieces, on both databases."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

import pytest

from settler.domain.delivery import DeliveryStatus, EndpointId
from settler.domain.errors import Conflict, NotFound
from settler.domain.events import EventType
from settler.domain.ids import EventId
from settler.storage import webhooks
from settler.storage.engine import Database
from settler.storage.webhooks import Replay, Replayed
from tests.webhook.samples import NOW, added, an_endpoint, an_event

HOURS = [NOW + timedelta(hours=n) for n in range(6)]
LATER = NOW + timedelta(days=1)
ALL = Replay(since=None, until=LATER)


def _event(hour: int) -> EventId:
    return an_event(hour, at=HOURS[hour]).id


async def _six_events(
    db: Database, *endpoint_ids: int, dead: tuple[int, ...] = (), pending: tuple[int, ...] = ()
) -> None:
    """One an hour, each delivered to each endpoint, but some dead or pending."""
    await added(db, *(an_endpoint(n) for n in endpoint_ids), *(an_event(n, at=at) for n, at in enumerate(HOURS)))
    async with db.write() as conn:
        await webhooks.fan_out(conn, NOW, 100)
        for claim in await webhooks.claim_due(conn, NOW, per_endpoint=6, limit=100, lease_s=60):
            if claim.event.id in {_event(n) for n in dead}:
                await webhooks.record_dead(conn, claim, NOW, status_code=500, error="answered 500")
            elif claim.event.id not in {_event(n) for n in pending}:
                await webhooks.record_delivered(conn, claim, NOW, status_code=200)


async def _replay(db: Database, wanted: Replay, limit: int = 100) -> Replayed:
    """All pieces, added up; each in a transaction of its own."""
    sums: Counter[str] = Counter()
    after = None
    while True:
        async with db.write() as conn:
            done = await webhooks.replay(conn, wanted, LATER, after=after, limit=limit)
        sums.update(replayed=done.replayed, created=done.created, seen=done.seen)
        if done.after is None:
            return Replayed(replayed=sums["replayed"], created=sums["created"], seen=sums["seen"], after=None)
        assert after is None or done.after > after
        after = done.after


async def _due(db: Database, endpoint: EndpointId | None = None) -> list[EventId]:
    """Events of the deliveries that are due again, oldest first."""
    async with db.read() as conn:
        found = await webhooks.find_deliveries(conn, status=DeliveryStatus.PENDING, endpoint_id=endpoint, limit=1000)
    return [d.event_id for d in reversed(found) if d.next_attempt_at == LATER]


async def _count(db: Database, wanted: Replay) -> int:
    async with db.read() as conn:
        return await webhooks.count_to_see(conn, wanted)


@pytest.mark.parametrize("limit", [2, 100])
async def test_replay__a_range__is_due_again_afresh_whatever_the_pieces(db: Database, limit: int) -> None:
    await _six_events(db, 1, dead=(3,), pending=(4,))
    wanted = Replay(since=HOURS[1], until=HOURS[5])
    assert await _count(db, wanted) == 3
    assert await _replay(db, wanted, limit) == Replayed(replayed=3, created=0, seen=3, after=None)
    assert await _due(db) == [_event(1), _event(2), _event(3)]  # 4 comes anyway; the end is not in the range
    async with db.read() as conn:
        found = await webhooks.find_deliveries(conn, event_id=_event(1))
    assert [(d.attempts, d.delivered_at) for d in found] == [(0, None)]


async def test_replay__dead_only__leaves_what_was_delivered(db: Database) -> None:
    await _six_events(db, 1, 2, dead=(2, 3))
    wanted = Replay(since=None, until=LATER, is_dead_only=True)
    assert await _count(db, wanted) == 4
    assert (await _replay(db, wanted, 3)).replayed == 4
    assert sorted(await _due(db)) == sorted([_event(2), _event(3)] * 2)


async def test_replay__dead_only_to_one_endpoint__leaves_the_other(db: Database) -> None:
    await _six_events(db, 1, 2, dead=(2,))
    wanted = Replay(since=None, until=LATER, is_dead_only=True, endpoint_id=an_endpoint(2).id)
    assert await _replay(db, wanted) == Replayed(replayed=1, created=0, seen=1, after=None)
    assert await _due(db, an_endpoint(2).id) == [_event(2)]
    assert await _due(db, an_endpoint(1).id) == []


@pytest.mark.parametrize("limit", [3, 100])
async def test_replay__endpoint_added_later_and_named__gets_what_it_was_never_sent(db: Database, limit: int) -> None:
    await _six_events(db, 1)
    await added(db, an_endpoint(2))
    assert (await _replay(db, ALL)).created == 0, "not named: only what there is"
    wanted = Replay(since=HOURS[2], until=LATER, endpoint_id=an_endpoint(2).id)
    assert await _count(db, wanted) == 4
    assert await _replay(db, wanted, limit) == Replayed(replayed=0, created=4, seen=4, after=None)
    assert await _due(db, an_endpoint(2).id) == [_event(n) for n in (2, 3, 4, 5)]
    assert await _replay(db, wanted, limit) == Replayed(replayed=0, created=0, seen=4, after=None)


async def test_replay__endpoint_named__mends_and_makes_in_one_pass(db: Database) -> None:
    """Its own deliveries become due, those it missed while it was disabled are made, the pending one is left."""
    await _six_events(db, 1, dead=(0,), pending=(1,))
    async with db.write() as conn:
        await webhooks.disable_endpoint(conn, an_endpoint(1).id, NOW, reason="410")
    await added(db, an_event(9, at=LATER - timedelta(hours=1)))
    async with db.write() as conn:
        await webhooks.fan_out(conn, NOW, 100)
        await webhooks.enable_endpoint(conn, an_endpoint(1).id)
    wanted = Replay(since=None, until=LATER, endpoint_id=an_endpoint(1).id)
    assert await _replay(db, wanted, 2) == Replayed(replayed=5, created=1, seen=7, after=None)
    due = await _due(db)
    assert len(due) == 6
    assert _event(1) not in due


async def test_replay__to_an_endpoint_of_some_types_of_one_merchant__makes_only_these(db: Database) -> None:
    picky = an_endpoint(1, merchant="acme", types=(EventType.INVOICE_SETTLED,))
    await added(
        db,
        an_event(1, merchant="acme"),
        an_event(2, merchant="other"),
        an_event(3, merchant=None, type_=EventType.TRANSFER_UNMATCHED),
        an_event(4, merchant="acme", type_=EventType.INVOICE_CREATED),
    )
    await added(db, picky)
    wanted = Replay(since=None, until=LATER, endpoint_id=picky.id, merchant="acme")
    assert await _replay(db, wanted) == Replayed(replayed=0, created=1, seen=4, after=None)
    assert await _due(db) == [an_event(1, merchant="acme").id]


async def test_replay__merchant__reaches_only_its_own_endpoints(db: Database) -> None:
    await added(db, an_endpoint(1, merchant="acme"), an_endpoint(2), an_event(1, merchant="acme"))
    async with db.write() as conn:
        await webhooks.fan_out(conn, NOW, 100)
        for claim in await webhooks.claim_due(conn, NOW, per_endpoint=6, limit=100, lease_s=60):
            await webhooks.record_delivered(conn, claim, NOW, status_code=200)
    assert (await _replay(db, Replay(since=None, until=LATER, merchant="acme"))).replayed == 1
    assert len(await _due(db, an_endpoint(1).id)) == 1
    with pytest.raises(NotFound):
        await _replay(db, Replay(since=None, until=LATER, merchant="acme", endpoint_id=an_endpoint(2).id))


async def test_replay__disabled_endpoint__is_passed_over_or_refused(db: Database) -> None:
    await _six_events(db, 1)
    async with db.write() as conn:
        await webhooks.disable_endpoint(conn, an_endpoint(1).id, NOW, reason="410")
    assert (await _replay(db, ALL)).replayed == 0
    for dead_only in (True, False):
        wanted = Replay(since=None, until=LATER, is_dead_only=dead_only, endpoint_id=an_endpoint(1).id)
        with pytest.raises(Conflict, match="enable it first"):
            await _count(db, wanted)
        with pytest.raises(Conflict, match="enable it first"):
            await _replay(db, wanted)


async def test_replay__event_not_fanned_out_yet__is_delivered_once(db: Database) -> None:
    await added(db, an_endpoint(1), an_event(1))
    assert (await _replay(db, Replay(since=None, until=LATER, endpoint_id=an_endpoint(1).id))).created == 1
    async with db.write() as conn:
        assert await webhooks.fan_out(conn, LATER, 100) == 1
    assert await _due(db) == [an_event(1).id]


@pytest.mark.parametrize("since", [datetime.min.replace(tzinfo=NOW.tzinfo), None])
async def test_replay__from_before_all_time__is_from_the_first(db: Database, since: datetime | None) -> None:
    await _six_events(db, 1)
    assert (await _replay(db, Replay(since=since, until=LATER))).replayed == 6
    assert (await _replay(db, Replay(since=None, until=NOW))).replayed == 0


async def test_replay__events_within_one_millisecond__are_told_apart_by_their_time(db: Database) -> None:
    """Ids hold milliseconds; the bounds are exact all the same."""
    moments = [NOW + timedelta(microseconds=n) for n in (0, 400, 800)]
    await added(db, *(an_event(n, at=at) for n, at in enumerate(moments)), an_endpoint())
    wanted = Replay(since=moments[1], until=moments[2], endpoint_id=an_endpoint().id)
    assert (await _replay(db, wanted)).created == 1
    assert await _due(db) == [an_event(1, at=moments[1]).id]
