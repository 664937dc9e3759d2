"""Deliveries as kept, on both databases."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from settler.domain.delivery import Delivery, DeliveryId, DeliveryStatus, Endpoint, EndpointId
from settler.domain.errors import Conflict, NotFound
from settler.domain.events import EventType
from settler.storage import webhook_deliveries, webhook_endpoints, webhooks
from settler.storage.engine import Database
from settler.storage.webhooks import Claim, Replay
from tests.webhook.samples import NOW, OLD_SECRET, add, added, an_endpoint, an_event

LATER = NOW + timedelta(minutes=5)


async def _fan_out(db: Database, limit: int = 100, at: datetime = NOW) -> int:
    async with db.write() as conn:
        return await webhooks.fan_out(conn, at, limit)


async def _claim(
    db: Database,
    at: datetime = NOW,
    *,
    per_endpoint: int = 4,
    limit: int = 100,
    taken: dict[EndpointId, int] | None = None,
    after: str = "",
) -> list[Claim]:
    async with db.write() as conn:
        return await webhooks.claim_due(
            conn, at, per_endpoint=per_endpoint, limit=limit, lease_s=60, taken=taken, after=after
        )


async def _find(db: Database, **filters: object) -> list[Delivery]:
    async with db.read() as conn:
        return await webhooks.find_deliveries(conn, **filters)  # type: ignore[arg-type]  # find's own


async def _one_claim(db: Database) -> Claim:
    await added(db, an_endpoint(), an_event())
    await _fan_out(db)
    (claim,) = await _claim(db)
    return claim


# Endpoints


async def test_endpoint__kept__is_as_it_was(db: Database) -> None:
    endpoint = an_endpoint(merchant="acme", types=(EventType.INVOICE_SETTLED,), previous_secret=OLD_SECRET)
    await added(db, endpoint)
    async with db.read() as conn:
        assert await webhooks.get_endpoint(conn, endpoint.id) == endpoint
        assert await webhooks.get_endpoint(conn, endpoint.id, merchant="other") is None
        assert await webhooks.find_endpoints(conn, merchant="acme") == [endpoint]
        assert await webhooks.find_endpoints(conn, merchant="other") == []


async def test_find_endpoints__pages__newest_first(db: Database) -> None:
    made = [an_endpoint(n) for n in range(3)]
    await added(db, *made)
    async with db.read() as conn:
        first = await webhooks.find_endpoints(conn, limit=2)
        rest = await webhooks.find_endpoints(conn, limit=2, before=first[-1].id)
    assert [*first, *rest] == made[::-1]


async def test_disable_endpoint__its_pending_deliveries__are_buried_in_pieces(db: Database) -> None:
    endpoint = an_endpoint()
    await added(db, endpoint, *(an_event(n) for n in range(5)))
    await _fan_out(db)
    async with db.write() as conn:
        assert await webhooks.disable_endpoint(conn, endpoint.id, NOW, reason="removed")
        assert not await webhooks.disable_endpoint(conn, endpoint.id, LATER, reason="again")
    assert await _claim(db) == []
    async with db.write() as conn:
        assert [await webhooks.bury(conn, 3) for _ in range(3)] == [3, 2, 0]
    dead = await _find(db, status=DeliveryStatus.DEAD)
    assert len(dead) == 5
    assert {d.last_error for d in dead} == {"endpoint disabled: removed"}
    await added(db, an_event(9))
    await _fan_out(db)
    assert len(await _find(db)) == 5


# The outbox


async def test_fan_out__events_and_endpoints__one_delivery_each_once(db: Database) -> None:
    await added(db, an_endpoint(1), an_endpoint(2), *(an_event(n) for n in range(3)))
    assert [await _fan_out(db, 2) for _ in range(3)] == [2, 1, 0]
    deliveries = await _find(db)
    assert len({(d.endpoint_id, d.event_id) for d in deliveries}) == len(deliveries) == 6


async def test_fan_out__repeated_after_a_lost_mark__makes_nothing_twice(db: Database) -> None:
    await added(db, an_endpoint(), an_event())
    await _fan_out(db)
    before = await _find(db)
    async with db.write() as conn:
        await conn.execute(text("UPDATE events SET is_fanned_out = (1 = 0)"))
    assert await _fan_out(db, at=LATER) == 1
    assert await _find(db) == before


async def test_fan_out__types_and_merchants__are_respected(db: Database) -> None:
    all_, acme, created = (
        an_endpoint(1),
        an_endpoint(2, merchant="acme"),
        an_endpoint(3, types=(EventType.INVOICE_CREATED,)),
    )
    await added(
        db,
        all_,
        acme,
        created,
        an_event(1, merchant="acme"),
        an_event(2, merchant=None, type_=EventType.TRANSFER_UNMATCHED),
        an_event(3, type_=EventType.INVOICE_CREATED),
    )
    await _fan_out(db)
    assert Counter(d.endpoint_id for d in await _find(db)) == {all_.id: 3, acme.id: 1, created.id: 1}


@pytest.mark.parametrize("others", [0, 1])
async def test_add_endpoint__events_from_before__do_not_go_there(db: Database, others: int) -> None:
    """Whatever the clocks say: the event's time is after the endpoint's here, as of a host whose clock is
    ahead."""
    await added(db, *(an_endpoint(n + 10) for n in range(others)), an_event(1, at=LATER))
    await added(db, an_endpoint(1), an_event(2, at=NOW - timedelta(hours=1)))
    await _fan_out(db)
    deliveries = await _find(db, endpoint_id=an_endpoint(1).id)
    assert [d.event_id for d in deliveries] == [an_event(2, at=NOW - timedelta(hours=1)).id]
    assert len(await _find(db)) == 1 + 2 * others


@pytest.mark.postgres
async def test_fan_out__two_workers__share_the_outbox(postgres_db: Database) -> None:
    await added(postgres_db, an_endpoint(), *(an_event(n) for n in range(4)))
    async with postgres_db.write() as one, postgres_db.write() as other:
        assert await webhooks.fan_out(one, NOW, 3) == 3
        assert await webhooks.fan_out(other, NOW, 3) == 1
    assert len(await _find(postgres_db)) == 4


@pytest.mark.postgres
async def test_add_endpoint__the_first_two_at_once__no_event_is_lost(
    postgres_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The story: who added the second saw that there was none yet, the first came into being, an event for it was
    told, and then all events were marked as done, "for there is nobody to tell"."""
    has_looked, may_go_on, look = asyncio.Event(), asyncio.Event(), webhook_endpoints.live_endpoints

    async def look_and_wait(conn: AsyncConnection) -> Sequence[Endpoint]:
        found = await look(conn)
        if not has_looked.is_set():
            has_looked.set()
            await may_go_on.wait()
        return found

    monkeypatch.setattr(webhooks, "live_endpoints", look_and_wait)
    second = asyncio.create_task(added(postgres_db, an_endpoint(2)))
    looked = asyncio.create_task(has_looked.wait())
    await asyncio.wait({second, looked}, return_when=asyncio.FIRST_COMPLETED)
    looked.cancel()
    await added(postgres_db, an_endpoint(1))
    await added(postgres_db, an_event())
    may_go_on.set()
    await second
    await _fan_out(postgres_db)
    assert an_endpoint(1).id in {d.endpoint_id for d in await _find(postgres_db)}


@pytest.mark.postgres
async def test_fan_out__its_events_replayed_meanwhile__neither_waits_for_the_other(postgres_db: Database) -> None:
    """Both made the same deliveries, one in the order of the outbox and one in that of ids: a deadlock."""
    await added(postgres_db, an_endpoint())
    wanted = Replay(since=None, until=LATER, endpoint_id=an_endpoint().id)

    async def replay() -> None:
        async with postgres_db.write() as conn:
            await webhooks.replay(conn, wanted, NOW, after=None, limit=10_000)

    for batch in range(12):
        async with postgres_db.write() as conn:
            await add(conn, *(an_event(batch * 100 + n) for n in range(100)))
        await asyncio.gather(_fan_out(postgres_db), replay())
    assert len(await _find(postgres_db, limit=2_000)) == 1_200


# Claims


async def test_claim_due__claimed__is_nobody_elses_until_the_lease_ends(db: Database) -> None:
    claim = await _one_claim(db)
    assert claim.endpoint == an_endpoint()
    assert claim.event == an_event()
    assert await _claim(db, NOW + timedelta(seconds=59)) == []
    (again,) = await _claim(db, NOW + timedelta(seconds=60))
    assert again.id == claim.id
    assert again.event.body() == claim.event.body()


async def test_claim_due__a_long_backlog__leaves_room_for_the_others(db: Database) -> None:
    async with db.write() as conn:
        await add(conn, an_endpoint(1), *(an_event(n) for n in range(50)))
        await webhooks.fan_out(conn, NOW, 100)
        await add(conn, an_endpoint(2), an_endpoint(3), an_event(99))
        await webhooks.fan_out(conn, LATER, 100)
    claims = await _claim(db, LATER, per_endpoint=10, limit=12)
    by_endpoint = Counter(c.endpoint.id for c in claims)
    assert by_endpoint == {an_endpoint(1).id: 4, an_endpoint(2).id: 1, an_endpoint(3).id: 1}


async def test_claim_due__more_endpoints_than_room__take_turns(db: Database) -> None:
    async with db.write() as conn:
        await add(conn, *(an_endpoint(n) for n in range(5)), *(an_event(n) for n in range(3)))
        await webhooks.fan_out(conn, NOW, 100)
    served: list[str] = []
    after = ""
    for _ in range(5):
        claims = await _claim(db, limit=2, after=after)
        after = claims[-1].endpoint.id
        served += [c.endpoint.id for c in claims]
    assert set(Counter(served).values()) == {2}


async def test_claim_due__slots_taken__are_not_given_again(db: Database) -> None:
    async with db.write() as conn:
        await add(conn, an_endpoint(1), an_endpoint(2), *(an_event(n) for n in range(9)))
        await webhooks.fan_out(conn, NOW, 100)
    claims = await _claim(db, taken={an_endpoint(1).id: 3, an_endpoint(2).id: 4})
    assert [c.endpoint.id for c in claims] == [an_endpoint(1).id]


async def test_claim_due__not_due_yet__waits(db: Database) -> None:
    claim = await _one_claim(db)
    async with db.write() as conn:
        await webhooks.record_retry(conn, claim, NOW, next_attempt_at=LATER, status_code=500, error="answered 500")
    assert await _claim(db, LATER - timedelta(seconds=1)) == []
    (again,) = await _claim(db, LATER)
    assert again.attempts == 1
    (delivery,) = await _find(db)
    assert (delivery.last_status_code, delivery.last_error, delivery.attempts) == (500, "answered 500", 1)


@pytest.mark.postgres
async def test_claim_due__two_workers_at_once__never_claim_the_same(postgres_db: Database) -> None:
    await added(postgres_db, an_endpoint(1), an_endpoint(2), *(an_event(n) for n in range(20)))
    await _fan_out(postgres_db)
    claims = await asyncio.gather(*(_claim(postgres_db, per_endpoint=5) for _ in range(6)))
    ids = [c.id for part in claims for c in part]
    assert len(ids) == len(set(ids))
    assert len(ids) >= 10


# Records


async def test_record_delivered__ends_it(db: Database) -> None:
    claim = await _one_claim(db)
    async with db.write() as conn:
        await webhooks.record_delivered(conn, claim, LATER, status_code=204)
    (delivery,) = await _find(db, status=DeliveryStatus.DELIVERED)
    assert (delivery.delivered_at, delivery.attempts, delivery.next_attempt_at) == (LATER, 1, None)
    assert await _claim(db, LATER + timedelta(days=9)) == []


async def test_record_retry__lease_lost__changes_nothing(db: Database) -> None:
    """A worker that slept through its lease must not undo what the next one did."""
    stale = await _one_claim(db)
    (fresh,) = await _claim(db, LATER)
    async with db.write() as conn:
        await webhooks.record_retry(conn, stale, LATER, next_attempt_at=LATER, status_code=None, error="late")
        await webhooks.record_dead(conn, stale, LATER, status_code=None, error="late")
    assert [d.last_error for d in await _find(db)] == [None]
    async with db.write() as conn:
        await webhooks.record_delivered(conn, fresh, LATER, status_code=200)
        await webhooks.record_dead(conn, fresh, LATER, status_code=None, error="late")
    assert [d.status for d in await _find(db)] == [DeliveryStatus.DELIVERED]


async def test_record_delivered__lease_lost__counts_all_the_same(db: Database) -> None:
    stale = await _one_claim(db)
    (fresh,) = await _claim(db, LATER)
    async with db.write() as conn:
        await webhooks.record_delivered(conn, stale, LATER, status_code=200)
        await webhooks.record_retry(conn, fresh, LATER, next_attempt_at=LATER, status_code=500, error="x")
    assert [d.status for d in await _find(db)] == [DeliveryStatus.DELIVERED]


async def test_release__is_due_at_once(db: Database) -> None:
    claim = await _one_claim(db)
    async with db.write() as conn:
        await webhooks.release(conn, [claim])
    (again,) = await _claim(db)
    assert (again.id, again.attempts) == (claim.id, 0)


# Operators


async def _died(db: Database) -> DeliveryId:
    claim = await _one_claim(db)
    async with db.write() as conn:
        await webhooks.record_dead(conn, claim, NOW, status_code=500, error="answered 500")
    return claim.id


async def test_retry_delivery__dead__has_all_its_attempts_again(db: Database) -> None:
    id_ = await _died(db)
    async with db.write() as conn:
        again = await webhooks.retry_delivery(conn, id_, LATER)
    assert (again.status, again.attempts, again.next_attempt_at) == (DeliveryStatus.PENDING, 0, LATER)
    assert [c.id for c in await _claim(db, LATER)] == [id_]


async def test_retry_delivery__not_possible__says_so(db: Database) -> None:
    id_ = await _died(db)
    async with db.write() as conn:
        with pytest.raises(NotFound):
            await webhooks.retry_delivery(conn, DeliveryId("dlv_none"), LATER)
        with pytest.raises(NotFound):
            await webhooks.retry_delivery(conn, id_, LATER, merchant="other")
        await webhooks.disable_endpoint(conn, an_endpoint().id, NOW, reason="removed")
        with pytest.raises(Conflict, match="disabled"):
            await webhooks.retry_delivery(conn, id_, LATER)


@pytest.mark.postgres
async def test_retry_delivery__asked_twice_at_once__is_on_its_way_once(
    postgres_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The story: the second to ask took away the claim under which the delivery had gone out for the first, and
    another worker sent it beside that one."""
    id_ = await _died(postgres_db)
    has_looked, may_go_on, look = asyncio.Event(), asyncio.Event(), webhook_endpoints.get_endpoint

    async def look_and_wait(conn: AsyncConnection, endpoint: EndpointId) -> Endpoint | None:
        found = await look(conn, endpoint)
        if not has_looked.is_set():
            has_looked.set()
            await may_go_on.wait()
        return found

    async def retry() -> None:
        async with postgres_db.write() as conn:
            await webhooks.retry_delivery(conn, id_, LATER)

    monkeypatch.setattr(webhook_deliveries, "get_endpoint", look_and_wait)
    slow = asyncio.create_task(retry())
    await has_looked.wait()
    await retry()
    assert [claim.id for claim in await _claim(postgres_db, LATER)] == [id_]
    may_go_on.set()
    await slow
    assert await _claim(postgres_db, LATER) == []


async def test_find_deliveries__filters_and_pages(db: Database) -> None:
    await added(db, an_endpoint(1), an_endpoint(2, merchant="default"), *(an_event(n) for n in range(3)))
    await _fan_out(db)
    first = await _find(db, limit=4)
    rest = await _find(db, limit=4, before=first[-1].id)
    assert len({d.id for d in [*first, *rest]}) == 6
    assert len(await _find(db, merchant="default")) == 3
    assert len(await _find(db, endpoint_id=an_endpoint(1).id, status=DeliveryStatus.PENDING)) == 3
    assert len(await _find(db, event_id=an_event(1).id)) == 2
    assert len(await _find(db, event_type="invoice.settled")) == 6
    assert await _find(db, event_type="invoice.expired") == []
    assert {d.event_type for d in first} == {"invoice.settled"}


async def test_outbox_stats__empty_waiting_dead(db: Database) -> None:
    async def stats(at: datetime) -> webhooks.OutboxStats:
        async with db.read() as conn:
            return await webhooks.outbox_stats(conn, at)

    assert await stats(NOW) == webhooks.OutboxStats(pending=0, oldest_s=0, dead_letters=0)
    await _died(db)
    await added(db, an_event(2), an_event(3))
    waiting = webhooks.OutboxStats(pending=2, oldest_s=300, dead_letters=1)
    assert await stats(LATER) == waiting
    await _fan_out(db)
    assert await stats(LATER) == waiting
