"""The dispatch stage: on both databases, with the fake sender and with real receivers."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from settler.clock import Clock, FakeClock
from settler.domain.delivery import MAX_ATTEMPTS, RETRY_DELAYS_S, Answered, Delivery, NoAnswer, Reply
from settler.stages import dispatch as dispatch_module
from settler.stages.dispatch import BEGIN_WITHIN_S, LEASE_S, OUTCOMES, SEND_LIMIT_S, Dispatch
from settler.storage import webhooks
from settler.storage.engine import Database
from settler.storage.errors import StorageUnavailable
from settler.webhook import sign
from settler.webhook.fake import FakeSender
from settler.webhook.send import BODY_BYTES, TIMEOUT_S, HttpSender, WebhookSender
from tests.webhook.receiver import raw_server, receiving, reset, timestamp, verify
from tests.webhook.samples import NOW, OLD_SECRET, SECRET, added, an_endpoint, an_event


@dataclass
class Worker:
    """A dispatch stage and the loop that ticks it."""

    dispatch: Dispatch
    outcomes: Counter[str]
    clock: FakeClock

    async def run(self, ticks: int = 200) -> int:
        """Ticks until there is nothing left to do now; how often."""
        for number in range(1, ticks + 1):
            if not (await self.dispatch.tick()).has_more:
                return number
        raise AssertionError(f"still busy after {ticks} ticks: {self.outcomes}")


def a_worker(
    db: Database,
    sender: WebhookSender,
    clock: Clock | None = None,
    *,
    max_in_flight: int = 128,
    per_endpoint: int = 4,
) -> Worker:
    outcomes: Counter[str] = Counter()
    ticking = clock if isinstance(clock, FakeClock) else FakeClock(datetime.now(UTC))

    def count(outcome: str) -> None:
        assert outcome in OUTCOMES
        outcomes[outcome] += 1

    dispatch = Dispatch(
        db,
        sender,
        ticking,
        jitter=lambda: 0.5,
        on_attempt=count,
        max_in_flight=max_in_flight,
        per_endpoint=per_endpoint,
        patience_s=0.05,
    )
    return Worker(dispatch, outcomes, ticking)


async def _deliveries(db: Database) -> list[Delivery]:
    async with db.read() as conn:
        return await webhooks.find_deliveries(conn, limit=1000)


async def _delivery(db: Database) -> Delivery:
    (delivery,) = await _deliveries(db)
    return delivery


def test_bounds__a_send_ends_before_its_lease() -> None:
    assert TIMEOUT_S < SEND_LIMIT_S < LEASE_S
    assert BEGIN_WITHIN_S + SEND_LIMIT_S < LEASE_S


# With the fake sender


async def test_tick__an_event__goes_to_each_endpoint_that_wants_it(db: Database) -> None:
    sender = FakeSender()
    await added(db, an_endpoint(1), an_endpoint(2, merchant="other"), an_event(1), an_event(2))
    worker = a_worker(db, sender)
    await worker.run()
    assert sorted(sent.headers["webhook-id"] for sent in sender.sent) == sorted([an_event(1).id, an_event(2).id])
    assert {sent.url for sent in sender.sent} == {an_endpoint(1).url}
    assert worker.outcomes == {"delivered": 2}
    assert [d.status for d in await _deliveries(db)] == ["delivered"] * 2
    assert await worker.run() == 1
    assert len(sender.sent) == 2


async def test_tick__failing__is_repeated_on_schedule_with_equal_id_and_bytes_then_dead(db: Database) -> None:
    sender = FakeSender(default=Answered(status_code=500))
    await added(db, an_endpoint(), an_event())
    worker = a_worker(db, sender)
    for delay_s in (*RETRY_DELAYS_S, 86_400 * 30):
        await worker.run()
        await worker.run()
        worker.clock.advance(delay_s - 1)
        await worker.run()
        worker.clock.advance(1)
    await worker.run()
    assert len(sender.sent) == MAX_ATTEMPTS
    assert len({(sent.headers["webhook-id"], sent.body) for sent in sender.sent}) == 1
    stamps = [int(sent.headers["webhook-timestamp"]) for sent in sender.sent]
    assert [b - a for a, b in itertools.pairwise(stamps)] == list(RETRY_DELAYS_S)
    delivery = await _delivery(db)
    assert (delivery.status, delivery.attempts, delivery.last_error) == ("dead", 10, "answered 500")
    assert worker.outcomes == {"retried": 9, "dead": 1}


async def test_tick__every_attempt__is_logged_with_how_long_it_took(db: Database) -> None:
    clock = FakeClock(datetime.now(UTC))
    sender = SlowSender(clock, [Answered(status_code=503), NoAnswer(reason="reset"), Answered(status_code=200)])
    await added(db, an_endpoint(), an_event())
    worker = a_worker(db, sender, clock)
    for delay_s in (5, 300, 0):
        await worker.run()
        clock.advance(delay_s)
    delivery = await _delivery(db)
    async with db.read() as conn:
        log = await webhooks.attempts_of(conn, delivery.id, limit=9)
    assert [(each.status_code, each.error, each.duration_ms) for each in log] == [
        (200, None, 750),
        (None, "reset", 500),
        (503, "answered 503", 250),
    ]
    assert log[0].at == delivery.delivered_at


async def test_tick__lease_lost_meanwhile__the_attempt_is_logged_all_the_same(db: Database) -> None:
    sender = FakeSender(default=Answered(status_code=500))
    await added(db, an_endpoint(), an_event())
    slow = a_worker(db, sender)
    await slow.dispatch.tick()  # sent, not yet recorded
    slow.clock.advance(LEASE_S)
    sender.default = Answered(status_code=200)
    await a_worker(db, sender, slow.clock).run()
    await slow.run()
    delivery = await _delivery(db)
    async with db.read() as conn:
        log = await webhooks.attempts_of(conn, delivery.id, limit=9)
    assert [each.status_code for each in log] == [500, 200]
    assert delivery.status == "delivered"


async def test_tick__secret_rotated__signs_with_both_until_the_overlap_ends(db: Database) -> None:
    sender = FakeSender()
    clock = FakeClock(datetime.now(UTC))
    await added(db, an_endpoint(secret=OLD_SECRET))
    async with db.write() as conn:
        await webhooks.rotate_secret(conn, an_endpoint().id, SECRET, until=clock.now() + timedelta(hours=1))
    worker = a_worker(db, sender, clock)
    for number, wait_s in enumerate((3599, 1)):
        await added(db, an_event(number))
        clock.advance(wait_s)
        await worker.run()
    counts = [len(sent.headers["webhook-signature"].split()) for sent in sender.sent]
    assert counts == [2, 1]
    last = sender.sent[-1]
    assert last.headers == sign.headers(an_event(1).id, clock.now(), last.body, [SECRET])


async def test_tick__gone__disables_the_endpoint_and_buries_the_rest(db: Database) -> None:
    sender = FakeSender()
    sender.answer(an_endpoint(1).url, Answered(status_code=410))
    await added(db, an_endpoint(1), an_endpoint(2), *(an_event(n) for n in range(3)))
    worker = a_worker(db, sender, per_endpoint=1)
    await worker.run()
    assert len(sender.sent_to(an_endpoint(1).url)) == 1
    assert len(sender.sent_to(an_endpoint(2).url)) == 3
    assert Counter(d.status for d in await _deliveries(db)) == {"delivered": 3, "dead": 3}
    assert worker.outcomes == {"disabled": 1, "delivered": 3}
    async with db.read() as conn:
        endpoint = await webhooks.get_endpoint(conn, an_endpoint(1).id)
    assert endpoint is not None
    assert endpoint.disabled_reason == "the endpoint answered 410 Gone"


async def test_tick__retry_after__is_honoured(db: Database) -> None:
    sender = FakeSender()
    sender.answer(an_endpoint().url, Answered(status_code=429, retry_after_s=600))
    await added(db, an_endpoint(), an_event())
    worker = a_worker(db, sender)
    await worker.run()
    worker.clock.advance(599)
    await worker.run()
    assert len(sender.sent) == 1
    worker.clock.advance(120)
    await worker.run()
    assert worker.outcomes == {"retried": 1, "delivered": 1}


async def test_crash__between_send_and_record__is_sent_again_with_the_same_id(db: Database) -> None:
    """At least once: nobody knows whether the first arrived, so a second goes out, told apart by nothing but
    its time."""
    sender = FakeSender()
    await added(db, an_endpoint(), an_event())
    dying = a_worker(db, sender)
    await dying.dispatch.tick()  # claimed, committed, sent; the process ends here
    assert len(sender.sent) == 1
    survivor = a_worker(db, sender, dying.clock)
    await survivor.run()
    assert len(sender.sent) == 1, "still leased"
    survivor.clock.advance(LEASE_S)
    await survivor.run()
    assert len({(sent.headers["webhook-id"], sent.body) for sent in sender.sent}) == 1
    assert len(sender.sent) == 2
    assert (await _delivery(db)).status == "delivered"


async def test_crash__between_claim_and_send__is_sent_after_the_lease(db: Database) -> None:
    sender = FakeSender()
    await added(db, an_endpoint(), an_event())
    worker = a_worker(db, sender)
    async with db.write() as conn:
        await webhooks.fan_out(conn, worker.clock.now(), 10)
        await webhooks.claim_due(conn, worker.clock.now(), per_endpoint=1, limit=1, lease_s=LEASE_S)
    await worker.run()
    assert not sender.sent
    worker.clock.advance(LEASE_S)
    await worker.run()
    assert worker.outcomes == {"delivered": 1}


class FailingCommits:
    """A database whose next writes fail: `Database.write` as far as the stage sees."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.failures = 0

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        async with self.db.write() as conn:
            yield conn
            if self.failures:
                self.failures -= 1
                raise StorageUnavailable("the commit was lost")

    def read(self) -> AbstractAsyncContextManager[AsyncConnection]:
        return self.db.read()


async def test_tick__nothing_to_do__opens_no_transaction_that_writes(db: Database) -> None:
    """Half a second apart, day and night: an idle daemon would keep the only writer of SQLite busy, and wake the
    database's disk."""
    await added(db, an_endpoint())
    failing = FailingCommits(db)
    failing.failures = 1
    worker = a_worker(failing, FakeSender())  # type: ignore[arg-type]  # all that the stage uses of a Database
    await worker.dispatch.tick()
    assert failing.failures == 1
    await added(db, an_event())
    with pytest.raises(StorageUnavailable):
        await worker.dispatch.tick()


async def test_tick__record_not_committed__is_recorded_by_the_next_and_not_sent_again(db: Database) -> None:
    sender = FakeSender()
    await added(db, an_endpoint(), an_event())
    failing = FailingCommits(db)
    worker = a_worker(failing, sender)  # type: ignore[arg-type]  # all that the stage uses of a Database
    await worker.dispatch.tick()
    failing.failures = 1
    with pytest.raises(StorageUnavailable):
        await worker.dispatch.tick()
    assert not worker.outcomes
    await worker.run()
    assert worker.outcomes == {"delivered": 1}
    assert len(sender.sent) == 1


async def test_tick__unsignable__fails_alone(db: Database) -> None:
    """A secret spoiled in the table: its endpoint gets nothing, the others all."""
    sender = FakeSender()
    await added(db, an_endpoint(1, secret="whsec_spoiled!"), an_endpoint(2), an_event())
    worker = a_worker(db, sender)
    await worker.run()
    assert worker.outcomes == {"delivered": 1, "retried": 1}
    (failed,) = [d for d in await _deliveries(db) if d.status == "pending"]
    assert failed.last_error is not None
    assert failed.last_error.startswith("not sent: secret")
    assert "spoiled" not in failed.last_error


@dataclass
class SlowSender:
    """Takes a quarter of a second longer each time."""

    clock: FakeClock
    replies: list[Reply]
    seconds: float = 0.0

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        self.seconds += 0.25
        await self.clock.sleep(self.seconds)
        return self.replies.pop(0)


@dataclass
class RaisingSender:
    inner: FakeSender = field(default_factory=FakeSender)

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        if url == an_endpoint(1).url:
            raise RuntimeError("a bug")
        return await self.inner.send(url, headers, body)


async def test_tick__a_bug_in_a_send__is_raised_and_stops_nothing_else(db: Database) -> None:
    await added(db, an_endpoint(1), an_endpoint(2), an_event())
    worker = a_worker(db, RaisingSender())
    await worker.dispatch.tick()
    with pytest.raises(ExceptionGroup, match="no endpoint can cause"):
        await worker.dispatch.tick()
    await worker.run()
    assert worker.outcomes == {"delivered": 1}


async def test_tick__more_than_its_bounds__holds_no_more_than_them(db: Database) -> None:
    sender = FakeSender(timeout_s=60)
    endpoints = [an_endpoint(n) for n in range(5)]
    sender.hanging = {endpoint.url for endpoint in endpoints}
    await added(db, *endpoints, *(an_event(n) for n in range(10)))
    worker = a_worker(db, sender, max_in_flight=8, per_endpoint=3)
    for _ in range(5):
        await worker.dispatch.tick()
    assert len(sender.sent) == 8
    assert max(Counter(sent.url for sent in sender.sent).values()) <= 3
    assert await worker.dispatch.drain(0) == 8


async def test_tick__endpoints_that_hang__come_to_share_half_of_the_slots(db: Database) -> None:
    """However many endpoints hang, once that is known the others find room."""
    sender = FakeSender(timeout_s=0.05)
    hanging = [an_endpoint(n) for n in range(20)]
    sender.hanging = {endpoint.url for endpoint in hanging}
    await added(db, *hanging, *(an_event(n) for n in range(5)))
    worker = a_worker(db, sender, max_in_flight=8, per_endpoint=4)
    await worker.run()
    assert worker.outcomes == {"retried": 100}
    sender.timeout_s = 60
    worker.clock.advance(10)
    await added(db, an_endpoint(99), an_event(9))
    for _ in range(4):
        await worker.dispatch.tick()
    assert [sent.headers["webhook-id"] for sent in sender.sent_to(an_endpoint(99).url)] == [an_event(9).id]
    in_flight = Counter(sent.url for sent in sender.sent[101:])
    assert sum(in_flight.values()) - in_flight[an_endpoint(99).url] <= 4
    await worker.dispatch.drain(0)


async def test_tick__failed_endpoint_that_recovers__gets_all_its_slots_again(db: Database) -> None:
    sender = FakeSender()
    sender.answer(an_endpoint().url, NoAnswer(reason="reset"))
    await added(db, an_endpoint(), an_event())
    worker = a_worker(db, sender)
    await worker.run()
    await added(db, *(an_event(n) for n in range(2, 10)))
    claimed = [(await worker.dispatch.tick()).facts["claimed"] for _ in range(2)]
    assert claimed == [1, 4]


async def test_drain__running_sends__are_waited_for_and_recorded(db: Database) -> None:
    sender = FakeSender(timeout_s=0.2)
    sender.hanging = {an_endpoint(1).url}
    await added(db, an_endpoint(1), an_event())
    worker = a_worker(db, sender)
    await worker.dispatch.tick()
    assert await worker.dispatch.drain(5) == 0
    assert worker.outcomes == {"retried": 1}


async def test_drain__too_slow__is_cut_off_and_comes_back_after_the_lease(db: Database) -> None:
    sender = FakeSender(timeout_s=60)
    sender.hanging = {an_endpoint(1).url}
    await added(db, an_endpoint(1), an_endpoint(2), an_event())
    worker = a_worker(db, sender)
    await worker.dispatch.tick()
    assert await worker.dispatch.drain(0.05) == 1
    assert worker.outcomes == {"delivered": 1}
    sender.hanging.clear()
    restarted = a_worker(db, sender, worker.clock)
    restarted.clock.advance(LEASE_S)
    await restarted.run()
    assert restarted.outcomes == {"delivered": 1}


async def test_tick__a_sender_past_its_time_out__is_cut_off(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch_module, "SEND_LIMIT_S", 0.05)
    sender = FakeSender(timeout_s=60)
    sender.hanging = {an_endpoint().url}
    await added(db, an_endpoint(), an_event())
    worker = a_worker(db, sender)
    await worker.run()
    assert (await _delivery(db)).last_error == "cut off after 0.05 s"


@pytest.mark.postgres
async def test_tick__two_workers__each_event_once(postgres_db: Database) -> None:
    sender = FakeSender()
    await added(postgres_db, an_endpoint(1), an_endpoint(2), *(an_event(n) for n in range(30)))
    one, other = a_worker(postgres_db, sender), a_worker(postgres_db, sender)
    await asyncio.gather(one.run(), other.run())
    await asyncio.gather(one.run(), other.run())
    assert len(sender.sent) == 60
    assert one.outcomes + other.outcomes == {"delivered": 60}


@pytest.mark.postgres
async def test_tick__replayed_meanwhile__workers_and_replay_never_wait_for_each_other(postgres_db: Database) -> None:
    """Both lock deliveries: in one order, or PostgreSQL ends one of them as a deadlock."""
    sender = FakeSender()
    events = [an_event(n) for n in range(60)]
    await added(postgres_db, an_endpoint(1), *events)
    one, other = a_worker(postgres_db, sender), a_worker(postgres_db, sender, per_endpoint=30)
    now = one.clock.now()
    wanted = webhooks.Replay(since=None, until=NOW + timedelta(days=1), endpoint_id=an_endpoint(1).id)

    async def replayed() -> int:
        again, after = 0, None
        while True:
            async with postgres_db.write() as conn:
                done = await webhooks.replay(conn, wanted, now, after=after, limit=20)
            again += done.replayed
            if done.after is None:
                return again
            after = done.after

    counts = (await asyncio.gather(one.run(), other.run(), replayed(), replayed(), replayed()))[2:]
    await one.run()
    await other.run()
    assert {sent.headers["webhook-id"] for sent in sender.sent} == {event.id for event in events}
    assert len(sender.sent) <= len(events) + sum(counts)
    assert {d.status for d in await _deliveries(postgres_db)} == {"delivered"}


# With real receivers


async def test_real__ok__verifies_with_the_library_under_either_secret(db: Database) -> None:
    async with receiving() as receiver, _http() as sender:
        await added(db, an_endpoint(url=receiver.base + "/ok", previous_secret=OLD_SECRET), an_event())
        worker = a_worker(db, sender)
        await worker.run()
        (got,) = receiver.got
        verify(got, SECRET)
        verify(got, OLD_SECRET)
        assert got.headers["webhook-id"] == an_event().id
        assert abs((timestamp(got) - worker.clock.now()).total_seconds()) < 1
    assert worker.outcomes == {"delivered": 1}


async def test_real__500_redirect_reset__are_repeated(db: Database) -> None:
    async with receiving() as receiver, raw_server(reset) as broken, _http() as sender:
        receiver.codes = {"/flaky": [500, 302]}
        receiver.answer_headers["location"] = receiver.base + "/elsewhere"
        await added(db, an_endpoint(1, url=receiver.base + "/flaky"), an_endpoint(2, url=broken), an_event())
        worker = a_worker(db, sender)
        for delay_s in (5, 300, 1):
            await worker.run()
            worker.clock.advance(delay_s)
        got = receiver.got_at("/flaky")
        assert len(got) == 3
        assert len({(g.headers["webhook-id"], g.body) for g in got}) == 1
        assert not receiver.got_at("/elsewhere")
    assert worker.outcomes == {"retried": 5, "delivered": 1}


async def test_real__refused_address__is_a_failed_attempt_that_says_why(db: Database) -> None:
    sender = HttpSender(clock=FakeClock(datetime.now(UTC)), allow_private=False)
    async with receiving() as receiver, sender:
        await added(db, an_endpoint(url=receiver.base + "/ok"), an_event())
        worker = a_worker(db, sender)
        await worker.run()
        assert not receiver.got
    delivery = await _delivery(db)
    assert delivery.status == "pending"
    assert delivery.last_error is not None
    assert "127.0.0.1 is a loopback address" in delivery.last_error


async def test_real__body_past_the_bound__is_not_sent(db: Database) -> None:
    async with receiving() as receiver, _http() as sender:
        await added(db, an_endpoint(url=receiver.base + "/ok"), an_event(data={"a": "x" * BODY_BYTES}))
        await a_worker(db, sender).run()
        assert not receiver.got
    assert "limit" in str((await _delivery(db)).last_error)


async def test_real__one_of_fifty_hangs__the_others_are_not_delayed(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one hangs for longer than the test may take: if anything waited for it, this would not end."""
    monkeypatch.setattr(dispatch_module, "SEND_LIMIT_S", 600)
    async with receiving() as receiver, _http(timeout_s=600) as sender:
        paths = ["/hang", *(f"/{n}" for n in range(49))]
        endpoints = [an_endpoint(n, url=receiver.base + path) for n, path in enumerate(paths)]
        await added(db, *endpoints, *(an_event(n) for n in range(4)))
        worker = a_worker(db, sender)
        while worker.outcomes["delivered"] < 196:
            await worker.dispatch.tick()
        await added(db, an_event(4))  # a second wave, while the first still hangs
        while worker.outcomes["delivered"] < 245:
            await worker.dispatch.tick()
        assert worker.outcomes == {"delivered": 245}
        assert len(receiver.got_at("/hang")) == 4
        await worker.dispatch.drain(0)


def _http(timeout_s: float = TIMEOUT_S) -> HttpSender:
    return HttpSender(clock=FakeClock(datetime.now(UTC)), allow_private=True, timeout_s=timeout_s)
