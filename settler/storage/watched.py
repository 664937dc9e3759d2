"""The watched addresses in memory, as the table has them: all are read once, then only what changed.

    read              rows that a transaction unfinished at the reading before has written, or one begun since
    #   low    high
    #   100 .. 104        transactions 100 and 103 are at work at this reading: all below 100 have ended
    #   100 .. 110        the next one reads what 100 .. 109 wrote and 110 did not begin: 103 may have committed late

A missed address is a missed payment. So no row is passed over because another with a higher number was seen first:
`changed` is the writing transaction on PostgreSQL, and what is read begins with the oldest one that had not ended. On
SQLite one transaction writes at a time, and it counts on from the highest number: numbers are in order of commits. The
database numbers the rows itself (triggers), whoever writes them.

What cannot be followed is read whole: another server, another table, numbers that went back, too many changes. And
whatever has gone wrong nevertheless is found: slice by slice all is compared with the table (`CHECK_ALL_S`).

What does not belong here: who watches an address, and retires it (`chains`, `deposits`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Set
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import BigInteger, LargeBinary, Text, bindparam, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from chains.address_set import Gathering, between, cut, with_changes
from chains.model import Address
from settler.logs import get_logger
from settler.storage import schema
from settler.storage.engine import Database

FOLLOWED_MAX = 20_000
"""Changed rows that are taken one by one; where there are more, reading all again costs less."""
LOADED_ROWS = 16_384
"""Addresses in one answer when all are read, about: 20 ms of the event loop. With fewer, PostgreSQL
would fetch each page of the table for each answer."""
CHECKED_ROWS = 4_096
"""Addresses in one answer when they are compared, about: 5 ms of the event loop."""
CHECK_ALL_S = 900.0
"""In this time all that is in memory is compared with the table, one slice now and then: a million addresses cost 0.2 %
of a processor. An address that was missed for any reason at all is missed for no longer."""

_WIDTH = 20
_PREFIX_BITS = 32
_SLICES_MAX = 1 << 16

_w = schema.watched_addresses
_COUNT = select(func.count()).select_from(_w)
_CHANGED = (
    select(_w.c.address, _w.c.retired_at.is_(None), _w.c.has_references)
    .where(_w.c.changed >= bindparam("since"), _w.c.changed < bindparam("high"))
    .limit(FOLLOWED_MAX + 1)
)
# The answer is one value: rows would cost forty times as much.
_SLICE = {
    "postgresql": text(
        "SELECT string_agg(address, ''::bytea ORDER BY address),"
        " string_agg(address, ''::bytea ORDER BY address) FILTER (WHERE has_references)"
        " FROM watched_addresses WHERE retired_at IS NULL AND address BETWEEN :first AND :last"
    ).columns(all=LargeBinary, labelled=LargeBinary),
    "sqlite": text(
        "SELECT group_concat(hex(address), ''), group_concat(hex(address), '') FILTER (WHERE has_references)"
        " FROM watched_addresses WHERE retired_at IS NULL AND address BETWEEN :first AND :last"
    ).columns(all=Text, labelled=Text),
}
# The server since its start, the database, and the table's file: what is restored, failed over or truncated has others.
_PLACE = {
    "postgresql": text(
        "SELECT concat_ws(' ', extract(epoch FROM pg_postmaster_start_time()),"
        " (SELECT oid FROM pg_database WHERE datname = current_database()), pg_relation_filenode('watched_addresses')),"
        " pg_snapshot_xmin(now_)::text::bigint, pg_snapshot_xmax(now_)::text::bigint FROM pg_current_snapshot() AS now_"
    ).columns(origin=Text, low=BigInteger, high=BigInteger),
    "sqlite": text(
        "SELECT '', coalesce(max(changed), 0) + 1, coalesce(max(changed), 0) + 1 FROM watched_addresses"
    ).columns(origin=Text, low=BigInteger, high=BigInteger),
}

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """Addresses whose inflows are recorded, on every chain."""

    addresses: Set[Address]
    labelled: Set[Address]
    """Of them: those at which an invoice expects an on-chain reference."""


class _Place(NamedTuple):
    """How far a reading saw."""

    origin: str
    """Numbers of another one mean nothing."""
    low: int
    """All numbers below were seen; from here on the next reading begins."""
    high: int
    """No number from here on was seen."""

    def follows(self, before: _Place) -> bool:
        return self.origin == before.origin and self.low >= before.low and self.high >= before.high


class _Known(NamedTuple):
    watched: Watched
    place: _Place


class WatchedAddresses:
    """One for a process: the stages of all chains ask it, and share what it holds."""

    def __init__(self, db: Database, *, monotonic: Callable[[], float]) -> None:
        self._db = db
        self._monotonic = monotonic
        self._turn = asyncio.Lock()
        """One reading at a time: an older one must not undo what a newer one saw."""
        self._known: _Known | None = None
        self._check_from = 0
        """First bits of the address up to which this round of the comparison has come."""
        self._checked_at = 0.0

    async def current(self) -> Watched:
        """All that were watched when this was called, maybe more recent ones. What is answered never changes.

        Not to be called inside a transaction. Raises `StorageUnavailable`.
        """
        async with self._turn, self._db.read() as conn:
            place = await _place(conn)
            known = self._known
            watched = None if known is None or not place.follows(known.place) else await _followed(conn, known, place)
            if watched is None:
                watched = await _all(conn)
                self._check_from, self._checked_at = 0, self._monotonic()
            else:
                watched = await self._checked(conn, watched)
            self._known = _Known(watched=watched, place=place)
        return watched

    async def _checked(self, conn: AsyncConnection, watched: Watched) -> Watched:
        """One slice more, if it is time, held against the table: both are of the same moment here."""
        slices = _slices(len(watched.addresses), CHECKED_ROWS)
        now = self._monotonic()
        if now - self._checked_at < CHECK_ALL_S / slices:
            return watched
        width = (1 << _PREFIX_BITS) // slices
        first, last = _bounds(self._check_from, width)
        addresses, labelled = await _slice(conn, first, last)
        self._checked_at = now
        self._check_from = (self._check_from + width) % (1 << _PREFIX_BITS)
        return Watched(
            addresses=_as_in_table(watched.addresses, addresses, first, last, what="watched"),
            labelled=_as_in_table(watched.labelled, labelled, first, last, what="labelled"),
        )


async def watched_now(conn: AsyncConnection) -> Watched:
    """All that are watched now, for who asks once."""
    return await _all(conn)


async def _place(conn: AsyncConnection) -> _Place:
    """Of the moment that all statements of the transaction see."""
    return _Place(*(await conn.execute(_PLACE[conn.dialect.name])).one())


async def _followed(conn: AsyncConnection, known: _Known, place: _Place) -> Watched | None:
    """What was known, with what changed since; `None` where that is too much."""
    before = known.watched
    if known.place.low >= place.high:
        return before
    # rows of an earlier server may have higher numbers than this one's transactions
    rows = (await conn.execute(_CHANGED, {"since": known.place.low, "high": place.high})).all()
    if len(rows) > FOLLOWED_MAX:
        return None
    if not rows:
        return before
    now = {Address(address): (is_watched, is_watched and labelled) for address, is_watched, labelled in rows}
    return Watched(
        addresses=with_changes(
            before.addresses,
            added=[a for a, (is_watched, _) in now.items() if is_watched],
            removed=[a for a, (is_watched, _) in now.items() if not is_watched],
        ),
        labelled=with_changes(
            before.labelled,
            added=[a for a, (_, is_labelled) in now.items() if is_labelled],
            removed=[a for a, (_, is_labelled) in now.items() if not is_labelled],
        ),
    )


async def _all(conn: AsyncConnection) -> Watched:
    count = (await conn.execute(_COUNT)).scalar_one()
    slices = _slices(count, LOADED_ROWS)
    addresses, labelled = (Gathering(slices=slices, expected=count) for _ in range(2))
    width = (1 << _PREFIX_BITS) // slices
    for number in range(slices):
        every, some = await _slice(conn, *_bounds(number * width, width))
        addresses.add(every)
        labelled.add(some)
    return Watched(addresses=addresses.done(), labelled=labelled.done())


async def _slice(conn: AsyncConnection, first: bytes, last: bytes) -> tuple[bytes, bytes]:
    """The watched addresses `first .. last`, and those of them that are labelled: ascending, one after the other."""
    dialect = conn.dialect.name
    every, some = (await conn.execute(_SLICE[dialect], {"first": first, "last": last})).one()
    if dialect == "sqlite":  # which adds up no bytes, and before 3.44 nothing in order
        return _ascending(bytes.fromhex(every or "")), _ascending(bytes.fromhex(some or ""))
    return bytes(every or b""), bytes(some or b"")


def _as_in_table(held: Set[Address], part: bytes, first: bytes, last: bytes, *, what: str) -> Set[Address]:
    here = between(held, first, last)
    if b"".join(here) == part:
        return held
    missing, extra = frozenset(cut(part)).difference(here), frozenset(here).difference(cut(part))
    some = min(missing or extra)
    log.error(
        "watched.differed", what=what, missing=len(missing), extra=len(extra), one="0x" + some.hex(),
        remedy="rows of watched_addresses were changed past the triggers; settler rescan what was read since",
    )  # fmt: skip
    return with_changes(held, added=missing, removed=extra)


def _slices(count: int, rows: int) -> int:
    """A power of two: so many that each has about so many rows of `count`."""
    return min(_SLICES_MAX, 1 << (count // rows).bit_length())


def _bounds(first: int, width: int) -> tuple[bytes, bytes]:
    """(first, last), both inclusive, of the addresses that begin with the 32 bits `first .. first + width - 1`."""
    last = min(first + width, 1 << _PREFIX_BITS) - 1
    rest = _WIDTH - _PREFIX_BITS // 8
    return first.to_bytes(_PREFIX_BITS // 8) + bytes(rest), last.to_bytes(_PREFIX_BITS // 8) + b"\xff" * rest


def _ascending(addresses: bytes) -> bytes:
    return b"".join(sorted(cut(addresses)))
