"""Hands the event feed on to a message broker: in order, at least once, the same id at every attempt.

    #   read beyond position ──▶ publish, all confirmed ──▶ move position, commit
    #                                                  ▲ a crash here hands on the same again, under the same ids

The position is moved after the broker's confirmations and never before, so whatever dies in between is repeated and
nothing is passed over. Messages of a batch are sent without waiting for each other; after trouble they are sent one by
one until a batch went through. Two relays of one name do no harm: both hand on the same, and the position is moved by
compare-and-set.

`Publisher` is the port; `settler.stages.relay_nats` is one. What does not belong here: what a broker's protocol looks
like, and the order of events (`settler.storage.feed`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from settler.clock import Clock, first_of
from settler.domain.events import Event
from settler.logs import get_logger
from settler.storage import feed, relays
from settler.storage.engine import Database, StorageUnavailable
from settler.storage.relays import Placed
from settler.webhook.sign import encode

BATCH = 500
"""Events read at once, and at most repeated after a crash."""
BATCH_BYTES = 4 << 20
"""Bodies of one batch, together; a single larger one goes alone."""
POLL_S = 0.5
"""How long to wait when there is nothing to hand on: one cheap look each."""
BACK_OFF_MAX_S = 15.0
"""A broker or a database that comes back is noticed within this."""
_BACK_OFF_FIRST_S = 0.2
_BACK_OFF_JITTER = 0.2

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One event as a broker gets it."""

    id: str
    """The event's: a broker that knows it already drops the message."""
    type: str
    merchant: str | None
    position: int
    """Its place in the feed: counts without gaps, so that a consumer can tell whether it has them all, in order."""
    body: bytes
    """The very bytes that a webhook of this event has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    confirmed: int
    """So many of the first messages are stored by the broker, for good."""
    trouble: str | None = None
    """Why not all of them; `None`: all are."""


class PublishRefused(Exception):
    """The broker will not take it, however often it is asked: no such stream, no permission, too large a message.

    For whoever runs the relay: it ends, somebody has to mend it. Its text names no secret.
    """


class Publisher(Protocol):
    async def publish(self, messages: Sequence[Message], *, in_flight: int) -> Published:
        """Sends the messages in order, at most `in_flight` of them unconfirmed, and waits, within a bound of its own,
        for the broker to store them.

        A message whose id the broker holds counts as stored. After trouble those behind the first unconfirmed message
        may be stored or not. Connects by itself, again and again. Raises `PublishRefused`, nothing else.
        """
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Relayed:
    """What a tick did."""

    events: int
    position: int
    has_more: bool
    trouble: str | None = None
    is_overtaken: bool = False
    """Another relay of this name moved the position meanwhile."""


class Relay:
    """One name of a relay; any number of processes may run it."""

    def __init__(
        self, *, name: str, db: Database, publisher: Publisher, clock: Clock, in_flight: int, batch: int = BATCH
    ) -> None:
        self.name = name
        self._db = db
        self._publisher = publisher
        self._clock = clock
        self._in_flight = in_flight
        self._batch = batch
        self._is_careful = False

    async def tick(self) -> Relayed:
        """Hands one batch on. Raises `PublishRefused`, and `StorageUnavailable`: nothing is lost by either."""
        await feed.catch_up(self._db)
        async with self._db.read() as conn:
            position = await relays.position(conn, self.name)
            placed = await relays.find_beyond(conn, position, limit=self._batch)
        messages = _bounded([_message(each) for each in placed])
        if not messages:
            return Relayed(events=0, position=position, has_more=False)
        published = await self._publisher.publish(messages, in_flight=1 if self._is_careful else self._in_flight)
        # in order again before the next message overtakes one that failed
        self._is_careful = published.trouble is not None
        done, is_ours = published.confirmed, True
        reached = position if done == 0 else messages[done - 1].position
        if done:
            async with self._db.write() as conn:
                is_ours = await relays.advance(conn, self.name, seen=position, to=reached, now=self._clock.now())
        return Relayed(
            events=done,
            position=reached,
            has_more=not is_ours or done < len(placed) or len(placed) == self._batch,
            trouble=published.trouble,
            is_overtaken=not is_ours,
        )


def _message(placed: Placed) -> Message:
    event: Event = placed.event
    return Message(
        id=event.id,
        type=event.type.value,
        merchant=event.merchant,
        position=placed.position,
        body=encode(event.body()),
    )


def _bounded(messages: Sequence[Message]) -> list[Message]:
    """The first of them, up to `BATCH_BYTES`; at least one."""
    taken: list[Message] = []
    size = 0
    for message in messages:
        size += len(message.body)
        if taken and size > BATCH_BYTES:
            break
        taken.append(message)
    return taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """How a run ended."""

    events: int
    """Handed on by it."""
    position: int | None
    """Of the relay; `None`: it was never read."""
    trouble: str | None
    """Of a run that ends with the feed: why it ended before. `None`: all is handed on, or it was asked to stop."""


async def run(
    relay: Relay, stop: asyncio.Event, *, clock: Clock, jitter: Callable[[], float], is_once: bool = False
) -> Stopped:
    """Ticks until `stop` is set, trying again after trouble; a tick under way is let finish.

    `is_once`: until all that there is has been handed on, or the first trouble. `jitter` draws from 0 .. 1. Raises
    `PublishRefused`.
    """
    events, position, failures = 0, None, 0
    while not stop.is_set():
        started = clock.monotonic()
        try:
            done = await relay.tick()
            trouble = done.trouble
        except StorageUnavailable as error:
            done, trouble = None, f"the database: {error}"
        if done is not None:
            events, position = events + done.events, done.position
        _log_tick(relay.name, done, trouble, elapsed_ms=round((clock.monotonic() - started) * 1000, 1), quiet=is_once)
        if is_once and (trouble is not None or (done is not None and not done.has_more)):
            return Stopped(events=events, position=position, trouble=trouble)
        if trouble is None:
            failures = 0
            pause = 0.0 if done is not None and done.has_more else POLL_S
        else:
            failures = 1 if done is not None and done.events else failures + 1
            grown = min(BACK_OFF_MAX_S, _BACK_OFF_FIRST_S * 2 ** min(failures - 1, 16))
            pause = grown * (1 - _BACK_OFF_JITTER * jitter())
        await _sleep(clock, stop, pause)
    return Stopped(events=events, position=position, trouble=None)


def _log_tick(name: str, done: Relayed | None, trouble: str | None, *, elapsed_ms: float, quiet: bool) -> None:
    """One canonical line a tick that did something."""
    facts = {} if done is None else {"events": done.events, "position": done.position}
    line = {"relay": name, **facts, "elapsed_ms": elapsed_ms}
    if trouble is not None:
        outcome = "storage" if done is None else "unpublished"
        # whoever runs it once is told the trouble as the error that ends it
        (log.info if quiet else log.warning)("relay.tick", **line, outcome=outcome, error=trouble)
    elif done is not None and done.is_overtaken:
        log.info("relay.tick", **line, outcome="conflict")
    elif done is not None and done.events:
        log.info("relay.tick", **line, outcome="ok")


async def _sleep(clock: Clock, stop: asyncio.Event, seconds: float) -> None:
    if seconds <= 0:
        await asyncio.sleep(0)
        return
    await first_of(stop.wait(), clock.sleep(seconds))
