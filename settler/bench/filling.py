"""Writes open invoices by the million, for benchmarks: as the daemon would have, past all its checks.

What an invoice waits for follows from its number (`Waits`). Rows go in by `executemany` (SQLite) and `COPY`
(PostgreSQL). What does not belong here: anything a daemon does; events, which nobody looks up by.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, Self

import psycopg
from psycopg import sql

from chains.model import Address, Token
from chains.proof.keccak import keccak
from settler.domain.ids import make_id, make_token
from settler.domain.invoices import Match

NOW = datetime(2026, 6, 1, tzinfo=UTC)
EXPIRES_AT = NOW + timedelta(days=365)
MONITORED_UNTIL = NOW + timedelta(days=366)
OWN, SHARED, OWNERS = 0x0A << 144, 0x5A << 144, 0x0B << 144
"""Addresses count up from here: invoices' own, shared ones, and payers'."""
SHARE_ONE = 1_000
"""Invoices that wait at one shared address."""
FIRST_SHARED = 14
"""Of those, the first that waits there."""
BATCH = 20_000
"""Invoices in one transaction."""
UNIT = 10**6


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """What invoice `number` waits for."""

    match: Match
    pay_to: Address
    amount: int
    """Base units."""
    reference: bytes | None = None
    payer: Address | None = None

    @classmethod
    def of(cls, number: int) -> Self:
        shared = Address((SHARED + number // SHARE_ONE).to_bytes(20))
        asked = (10 + number % 90) * UNIT
        match number % 20:
            case 14 | 15 | 16:
                return cls(match=Match.AMOUNT, pay_to=shared, amount=asked + 1 + number % SHARE_ONE)
            case 17 | 18:
                reference = keccak(b"order %d" % number)
                return cls(match=Match.REFERENCE, pay_to=shared, amount=asked, reference=reference)
            case 19:
                return cls(
                    match=Match.PAYER, pay_to=shared, amount=asked, payer=Address((OWNERS + number).to_bytes(20))
                )
            case _:
                return cls(match=Match.ADDRESS, pay_to=Address((OWN + number).to_bytes(20)), amount=asked)


class Filler(Protocol):
    kind: str
    """Of the database."""

    def fill(self, upto: int, *, chain: str, token: Token) -> None:
        """Writes those of the first `upto` invoices that are not there yet; nobody else writes meanwhile."""
        ...

    def forget_pages(self) -> None:
        """Has the system read from disk what is read next, as far as it can be made to."""
        ...

    def size_bytes(self) -> int: ...


Rows = tuple[str, tuple[str, ...], list[tuple[Any, ...]]]
"""Table, columns, rows."""


def _batch(numbers: Sequence[int], chain: str, token: Token) -> Iterator[Rows]:
    """The rows of some invoices, table by table; amounts as integers, times as they are."""
    waits = {number: Waits.of(number) for number in numbers}
    ids = {number: make_id("inv", NOW, number.to_bytes(10)) for number in numbers}
    yield (
        "invoices",
        (
            "id", "merchant", "reference", "status", "exceptions", "currency", "amount", "scale", "created_at",
            "expires_at", "monitoring_until", "metadata", "version", "pay_token",
        ),
        [
            (
                ids[n], "default", f"order-{n:09}", "pending", "  ", "USD", w.amount, 6, NOW, EXPIRES_AT,
                MONITORED_UNTIL, "{}", 1, make_token(n.to_bytes(16)),
            )
            for n, w in waits.items()
        ],
    )  # fmt: skip
    yield (
        "invoice_options",
        (
            "invoice_id", "index", "chain", "chain_id", "token", "token_address", "decimals", "pay_to", "match",
            "amount_base", "tail_base", "from_block", "reference", "payer",
        ),
        [
            (
                ids[n], 0, chain, token.chain_id, token.symbol, token.address, 6, w.pay_to, w.match.value, w.amount, 0,
                None, w.reference, w.payer,
            )
            for n, w in waits.items()
        ],
    )  # fmt: skip
    own = [(w.pay_to, NOW, False) for w in waits.values() if w.match is Match.ADDRESS]
    # a shared one with the first that waits there, so that none is written twice
    shared = [(w.pay_to, NOW, True) for n, w in waits.items() if n % SHARE_ONE == FIRST_SHARED]
    yield "watched_addresses", ("address", "watched_since", "has_references"), [*own, *shared]
    yield (
        "invoice_references",
        ("key", "pay_to", "invoice_id"),
        sorted(
            (key, w.pay_to, ids[n])
            for n, w in waits.items()
            if w.reference is not None
            for key in (w.reference, keccak(w.reference))
        ),
    )
    yield (
        "amount_reservations",
        ("chain_id", "token", "pay_to", "amount", "invoice_id", "reserved_until"),
        [
            (token.chain_id, token.address, w.pay_to, w.amount, ids[n], MONITORED_UNTIL)
            for n, w in waits.items()
            if w.match is Match.AMOUNT
        ],
    )


def _batches(first: int, upto: int) -> Iterator[list[int]]:
    numbers = iter(range(first, upto))
    while some := list(islice(numbers, BATCH)):
        yield some


_AMOUNTS = frozenset({"amount", "amount_base", "tail_base"})


def sqlite_filler(path: Path) -> Filler:
    return _Sqlite(path)


class _Sqlite:
    kind = "sqlite"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._there = 0

    def fill(self, upto: int, *, chain: str, token: Token) -> None:
        with closing(sqlite3.connect(self._path, isolation_level=None)) as conn:
            conn.execute("PRAGMA synchronous = OFF")
            conn.execute("PRAGMA cache_size = -200000")
            for numbers in _batches(self._there, upto):
                conn.execute("BEGIN IMMEDIATE")
                for table, columns, rows in _batch(numbers, chain, token):
                    names, marks = ", ".join(f'"{name}"' for name in columns), ", ".join("?" * len(columns))
                    into = f"INSERT INTO {table} ({names}) VALUES ({marks})"  # noqa: S608
                    conn.executemany(into, _sqlite_rows(columns, rows))
                conn.execute("COMMIT")
            conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._there = max(self._there, upto)

    def forget_pages(self) -> None:
        if not hasattr(os, "posix_fadvise"):
            return
        with self._path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def size_bytes(self) -> int:
        return self._path.stat().st_size


def _sqlite_rows(columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """The rows with amounts and times as SQLite has them (`settler.storage.types`)."""
    amounts = {at for at, name in enumerate(columns) if name in _AMOUNTS}
    texts = {time: time.strftime("%Y-%m-%dT%H:%M:%S.%fZ") for time in (NOW, EXPIRES_AT, MONITORED_UNTIL)}
    times = {at for at, value in enumerate(rows[0] if rows else ()) if isinstance(value, datetime)}
    for row in rows:
        yield tuple([f"{v:078d}" if at in amounts else texts[v] if at in times else v for at, v in enumerate(row)])


def postgres_filler(url: str) -> Filler:
    return _Postgres(url)


class _Postgres:
    kind = "postgresql"

    def __init__(self, url: str) -> None:
        self._url = url
        self._there = 0

    def fill(self, upto: int, *, chain: str, token: Token) -> None:
        with psycopg.connect(self._url, autocommit=True) as conn:
            for numbers in _batches(self._there, upto):
                with conn.transaction():
                    for table, columns, rows in _batch(numbers, chain, token):
                        _copy(conn, table, columns, rows)
            conn.execute("VACUUM ANALYZE")  # as autovacuum does in time
        self._there = max(self._there, upto)

    def forget_pages(self) -> None:
        """The server's memory is its own."""

    def size_bytes(self) -> int:
        with psycopg.connect(self._url) as conn:
            row = conn.execute("SELECT pg_database_size(current_database())").fetchone()
        assert row is not None, "a database has a size"
        return int(row[0])


def _copy(conn: psycopg.Connection, table: str, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    copying = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table), names)
    with conn.cursor() as cursor, cursor.copy(copying) as copy:
        for row in rows:
            copy.write_row(row)
