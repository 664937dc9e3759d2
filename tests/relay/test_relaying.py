"""The relay on a broker in memory: nothing passed over, whatever fails in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta

import pytest

from settler.clock import FakeClock
from settler.stages import relaying
from settler.stages.relaying import Message, Published, PublishRefused, Relay, run
from settler.storage import operator_actions, relays
from settler.storage.engine import Database, StorageUnavailable
from settler.webhook.sign import encode
from tests.relay.fake import FakeBroker
from tests.relay.samples import NOW, tell


@pytest.fixture
def db_url(sqlite_alone: str) -> str:
    return sqlite_alone


def relay_of(db: Database, broker: FakeBroker, *, name: str = "default", batch: int = 4) -> Relay:
    return Relay(name=name, db=db, publisher=broker, clock=FakeClock(NOW), in_flight=8, batch=batch)


async def position(db: Database, name: str = "default") -> int:
    async with db.read() as conn:
        return await relays.position(conn, name)


async def reaches(is_there: Callable[[], bool]) -> None:
    while not is_there():  # noqa: ASYNC110 -- looked at each turn of the loop, on a clock that is not real
        await asyncio.sleep(0)


async def until_done(relay: Relay, *, ticks: int = 50) -> None:
    for _ in range(ticks):
        done = await relay.tick()
        if not done.has_more and done.trouble is None:
            return
    pytest.fail("it never came to the end of the feed")


async def test_tick__events_in_the_feed__each_once_in_order_in_batches(db: Database) -> None:
    told = await tell(db, 0, 10)
    broker = FakeBroker()
    await until_done(relay_of(db, broker))
    assert broker.names == [e.id for e in told]
    assert broker.sizes == [4, 4, 2]
    assert await position(db) == 10


async def test_tick__a_message__is_the_event_as_a_webhook_has_it(db: Database) -> None:
    (told,) = await tell(db, 7, 1)
    broker = FakeBroker()
    await relay_of(db, broker).tick()
    (message,) = broker.stored.values()
    assert message.body == encode(told.body())
    assert (message.id, message.type, message.merchant, message.position) == (told.id, "payment.detected", "m1", 1)


async def test_tick__nothing_new__asks_the_broker_nothing(db: Database) -> None:
    broker = FakeBroker()
    done = await relay_of(db, broker).tick()
    assert (done.events, done.has_more, broker.sizes) == (0, False, [])


async def test_tick__stored_and_not_confirmed__is_repeated_under_the_same_ids(db: Database) -> None:
    """A broker that died between storing and saying so."""
    told = await tell(db, 0, 4)
    broker = FakeBroker(confirms=1)
    relay = relay_of(db, broker)
    done = await relay.tick()
    assert (done.events, done.trouble) == (1, "the broker went away")
    assert await position(db) == 1
    await until_done(relay)
    assert broker.names == [e.id for e in told]
    assert broker.sizes == [4, 3]


async def test_tick__after_trouble__goes_one_by_one_until_a_batch_went_through(db: Database) -> None:
    await tell(db, 0, 12)
    broker = FakeBroker(stores=2)
    relay = relay_of(db, broker)
    await until_done(relay)
    assert broker.in_flight == [8, 1, 8, 8]


async def test_tick__broker_down__moves_nothing(db: Database) -> None:
    await tell(db, 0, 3)
    broker = FakeBroker(is_down=True)
    relay = relay_of(db, broker)
    assert (await relay.tick()).trouble is not None
    assert await position(db) == 0
    broker.is_down = False
    await until_done(relay)
    assert await position(db) == 3


async def test_tick__killed_before_the_position_is_kept__is_repeated_and_not_doubled(db: Database) -> None:
    """The database is away at the very moment: what was handed on is handed on again."""
    told = await tell(db, 0, 4)
    broker = FakeBroker()
    relay = relay_of(db, broker)
    write, fails = db.write, [True]

    def failing() -> object:
        if broker.sizes and fails:
            fails.pop()
            raise StorageUnavailable("the disk is full")
        return write()

    db.write = failing  # type: ignore[method-assign,assignment]  # the one transaction that fails
    with pytest.raises(StorageUnavailable):
        await relay.tick()
    assert await position(db) == 0
    await until_done(relay)
    assert broker.sizes == [4, 4]
    assert broker.names == [e.id for e in told]


async def test_tick__two_of_one_name__hand_all_on_and_pass_nothing_over(db: Database) -> None:
    told = await tell(db, 0, 40)
    broker = FakeBroker()
    await asyncio.gather(*(until_done(relay_of(db, broker), ticks=200) for _ in range(3)))
    assert broker.names == [e.id for e in told]
    assert await position(db) == 40


async def test_tick__overtaken__leaves_the_position_where_the_other_put_it(db: Database) -> None:
    await tell(db, 0, 8)
    broker = FakeBroker()
    quick = relay_of(db, broker)

    class Slow(FakeBroker):
        async def publish(self, messages: Sequence[Message], *, in_flight: int) -> Published:
            await until_done(quick)
            return await broker.publish(messages, in_flight=in_flight)

    slow = relay_of(db, Slow())
    done = await slow.tick()
    assert done.is_overtaken
    assert done.has_more
    assert await position(db) == 8


async def test_tick__names__have_positions_of_their_own(db: Database) -> None:
    await tell(db, 0, 3)
    one, other = FakeBroker(), FakeBroker()
    await until_done(relay_of(db, one, name="one"))
    assert await position(db, "other") == 0
    await until_done(relay_of(db, other, name="other"))
    assert one.names == other.names


async def test_tick__large_bodies__are_bounded_by_their_bytes(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    told = await tell(db, 0, 4)
    monkeypatch.setattr(relaying, "BATCH_BYTES", 2 * len(encode(told[0].body())) + 40)
    broker = FakeBroker()
    await until_done(relay_of(db, broker))
    assert broker.sizes == [2, 2]
    monkeypatch.setattr(relaying, "BATCH_BYTES", 1)
    more = await tell(db, 4, 2)
    await until_done(relay_of(db, broker))
    assert broker.sizes == [2, 2, 1, 1], "one that is larger by itself goes alone"
    assert broker.names == [e.id for e in told + more]


async def test_advance__from_where_it_is_not__changes_nothing(db: Database) -> None:
    async with db.write() as conn:
        assert await relays.advance(conn, "r", seen=0, to=5, now=NOW)
        assert not await relays.advance(conn, "r", seen=0, to=3, now=NOW)
        assert not await relays.advance(conn, "r", seen=4, to=9, now=NOW)
        assert await relays.advance(conn, "r", seen=5, to=9, now=NOW)
    assert await position(db, "r") == 9


async def test_standings__say_how_far_behind_and_since_when(db: Database) -> None:
    await tell(db, 0, 5)
    broker = FakeBroker()
    relay = relay_of(db, broker, batch=3)
    await relay.tick()
    async with db.read() as conn:
        (standing,) = await relays.standings(conn)
    assert (standing.position, standing.behind, standing.oldest_waiting_at) == (3, 2, NOW)
    await until_done(relay)
    async with db.read() as conn:
        (standing,) = await relays.standings(conn)
    assert (standing.behind, standing.oldest_waiting_at) == (0, None)
    await tell(db, 5, 2)
    async with db.read() as conn:
        (standing,) = await relays.standings(conn)
    assert (standing.behind, standing.oldest_waiting_at) == (2, NOW), "events without a place wait too"


async def test_forget__begins_with_the_first_event_and_is_in_the_audit_log(db: Database) -> None:
    await tell(db, 0, 2)
    broker = FakeBroker()
    await until_done(relay_of(db, broker))
    async with db.write() as conn:
        assert await relays.forget(conn, "default", now=NOW, who="cli:ada", reason="stream lost") == 2
        assert await relays.forget(conn, "default", now=NOW, who="cli:ada", reason="again") is None
        (kept,) = await operator_actions.find(conn, action="relay.forget", limit=9)
    assert (kept.action.object_id, kept.action.detail) == ("default", {"position": 2})
    fresh = FakeBroker()
    await until_done(relay_of(db, fresh))
    assert fresh.names == broker.names


async def test_run__trouble_in_between__is_tried_again_until_told_to_stop(db: Database) -> None:
    told = await tell(db, 0, 6)
    broker, clock, stop = FakeBroker(is_down=True), FakeClock(NOW), asyncio.Event()
    task = asyncio.create_task(run(relay_of(db, broker), stop, clock=clock, jitter=lambda: 0.0))
    async with asyncio.timeout(10):
        await reaches(lambda: len(broker.sizes) >= 3)
        assert clock.now() >= NOW + timedelta(seconds=0.2 + 0.4), "it paused, and longer the second time"
        broker.is_down = False
        await reaches(lambda: len(broker.names) == 6)
        stop.set()
        ended = await task
    assert broker.names == [e.id for e in told]
    assert (ended.events, ended.position, ended.trouble) == (6, 6, None)


async def test_run__once__ends_with_the_feed_or_the_first_trouble(db: Database) -> None:
    await tell(db, 0, 9)
    broker, stop = FakeBroker(), asyncio.Event()
    ended = await run(relay_of(db, broker), stop, clock=FakeClock(NOW), jitter=lambda: 0.0, is_once=True)
    assert (ended.events, ended.position, ended.trouble) == (9, 9, None)
    await tell(db, 9, 1)
    broker.is_down = True
    ended = await run(relay_of(db, broker), stop, clock=FakeClock(NOW), jitter=lambda: 0.0, is_once=True)
    assert (ended.events, ended.trouble) == (0, "the broker does not answer")


async def test_run__refused__ends_it(db: Database) -> None:
    await tell(db, 0, 1)
    broker = FakeBroker(is_refusing=True)
    with pytest.raises(PublishRefused, match="no such stream"):
        await run(relay_of(db, broker), asyncio.Event(), clock=FakeClock(NOW), jitter=lambda: 0.0)


async def test_run__database_away__is_trouble_and_no_end(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    await tell(db, 0, 2)
    broker, stop = FakeBroker(), asyncio.Event()
    read, away = db.read, iter([True, True, False])

    def flaky() -> object:
        if next(away, False):
            raise StorageUnavailable("connection refused")
        return read()

    monkeypatch.setattr(db, "read", flaky)
    task = asyncio.create_task(run(relay_of(db, broker), stop, clock=FakeClock(NOW), jitter=lambda: 0.0))
    async with asyncio.timeout(10):
        await reaches(lambda: len(broker.names) == 2)
    stop.set()
    assert (await task).events == 2


def test_event__of_any_kind__has_a_type_of_two_words() -> None:
    """What `subject_filter` rests on."""
    from settler.domain.events import EventType

    assert all(len(type_.value.split(".")) == 2 for type_ in EventType)
