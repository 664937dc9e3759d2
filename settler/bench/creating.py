"""`settler bench create`: invoices made a second over HTTP, each with an address, an API key and an Idempotency-Key.

The real daemon runs in this process, and who orders in one of its own (`settler.bench.buyers`). One chain is configured
whose node does not answer: making invoices asks none. The same without HTTP, authentication and JSON says what the
store takes of it. The floor is measured in the same run: the very rows that were written, as the database has them,
inserted by its driver into equal tables, as many to a transaction as there were orders at once.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from chains.address import to_checksum
from chains.model import Address, ChainId, Token
from settler.api.creating import Creating, Made, Order
from settler.bench.buyers import CHAIN, SYMBOL, Orders, Served, address_of, order
from settler.bench.companions import START_S, companion
from settler.bench.databases import opened
from settler.bench.measuring import Meter, Report, percentile
from settler.clock import SystemClock
from settler.domain.deposits import POOL_ONLY
from settler.domain.drafting import ChainOffer, InvoiceDefaults, InvoiceRequest, OptionRequest
from settler.domain.invoices import Match
from settler.runtime.embedded import embedded
from settler.storage import api_keys, migrate
from settler.storage.api_keys import SECRET_BYTES, Scope
from settler.storage.connect import SQLITE_PRAGMAS
from settler.storage.idempotency import Claim

TABLES = ("invoices", "invoice_options", "watched_addresses", "events", "idempotency_keys")
"""What a new invoice with an address of its own is written to."""
WARM_UP = 500
"""Invoices made first, and not measured: statements are compiled, connections opened."""
TOKEN = Address(b"\xc0" * 20)
_TOKEN = Token(chain_id=ChainId(31337), symbol=SYMBOL, address=TOKEN, decimals=6, currency="USD")
ORDER_S = 0.2
"""An invoice may take at most, on average."""
NO_NODE = "http://127.0.0.1:9"
"""The discard port: nothing answers there."""


async def creating(*, invoices: int, at_once: int, database: str | None) -> Report:
    """A row for SQLite, and one for `database`: a URL of an empty, migrated PostgreSQL database.

    Raises `CompanionFailed`, and what the daemon raises before it runs.
    """
    with tempfile.TemporaryDirectory(prefix="settler-bench-") as folder:
        home = Path(folder)
        url = f"sqlite:///{home / 'settler.db'}"
        await migrate.upgrade(url)
        rows = [await _row("sqlite", url, home, invoices, at_once)]
        if database is not None:
            rows.append(await _row("postgresql", database, home, invoices, at_once))
    return Report(benchmark="create", inputs={"invoices": invoices, "at_once": at_once}, rows=rows)


async def _row(kind: str, url: str, home: Path, invoices: int, at_once: int) -> dict[str, Any]:
    spent, served = await _measured(url, home, invoices, at_once)
    stored = await _stored(url, invoices, at_once)
    floor = await asyncio.to_thread(_FLOORS[kind], url, home, invoices, at_once)
    return {
        "database": kind,
        "invoices_per_s": round(invoices / served.wall_s),
        "cpu_us_per_invoice": round(1e6 * spent.cpu_s / invoices),
        "p50_ms": round(percentile(served.latencies_ms, 0.5), 1),
        "p99_ms": round(percentile(served.latencies_ms, 0.99), 1),
        "store_per_s": round(invoices / stored.wall_s),
        "store_cpu_us": round(1e6 * stored.cpu_s / invoices),
        "floor_per_s": round(invoices / floor.wall_s),
        "floor_cpu_us": round(1e6 * floor.cpu_s / invoices),
        "wall_ratio": round(served.wall_s / floor.wall_s, 1),
    }


async def _measured(url: str, home: Path, invoices: int, at_once: int) -> tuple[Meter, Served]:
    key = await _key(url)
    config = home / "settler.toml"
    config.write_text(_config(url))
    async with embedded(config) as (address, _):
        at = urlsplit(address)
        assert at.hostname is not None and at.port is not None, "it listens somewhere"
        orders = Orders(host=at.hostname, port=at.port, key=key, count=WARM_UP, at_once=at_once)
        await order(orders)
        with Meter() as spent:
            served = await _ordered(
                Orders(host=at.hostname, port=at.port, key=key, count=invoices, at_once=at_once, first=WARM_UP)
            )
    return spent, served


async def _stored(url: str, invoices: int, at_once: int) -> Meter:
    """As many invoices more, as the API makes them of requests that it has read."""
    orders = iter([_order(number) for number in range(WARM_UP + invoices, WARM_UP + 2 * invoices)])
    async with opened(url) as db:
        creating = Creating(
            db=db,
            clock=SystemClock(),
            catalog={CHAIN: ChainOffer(name=CHAIN, chain_id=_TOKEN.chain_id, tokens={SYMBOL: _TOKEN})},
            defaults=InvoiceDefaults(),
            deposits=POOL_ONLY,
            entropy=secrets.token_bytes,
        )

        async def shop() -> None:
            for each in orders:
                outcome = await creating.create(each)
                assert isinstance(outcome, Made) and outcome.told is not None, "nothing refuses it"

        with Meter() as spent:
            await asyncio.gather(*(shop() for _ in range(at_once)))
    return spent


def _order(number: int) -> Order:
    option = OptionRequest(chain=CHAIN, token=SYMBOL, pay_to=address_of(number), match=Match.ADDRESS)
    request = InvoiceRequest(amount="12.34", reference=f"order-{number}", options=(option,), metadata={"cart": number})
    claim = Claim(scope="bench", key=f"bench-{number:012}", request_hash=number.to_bytes(32))
    return Order(request=request, claim=claim, path="/v1/invoices")


async def _ordered(orders: Orders) -> Served:
    async with companion("buyers", **asdict(orders)) as buyers:
        return Served(**await buyers.heard(within_s=START_S + orders.count * ORDER_S))


async def _key(url: str) -> str:
    async with opened(url) as db, db.write() as conn:
        _, text = await api_keys.create(
            conn,
            name="bench",
            scopes=[Scope.WRITE],
            merchant=None,
            now=SystemClock().now(),
            who="bench",
            secret=secrets.token_bytes(SECRET_BYTES),
            entropy=secrets.token_bytes(10),
        )
    return text


def _config(url: str) -> str:
    return f"""\
[database]
url = {json.dumps(url)}
[api]
listen = "127.0.0.1:0"
rate_limit_rps = 0
[chains.{CHAIN}]
chain_id = 31337
rpc = "{NO_NODE}"
finality = 3
[chains.{CHAIN}.token.{SYMBOL}]
address = "{to_checksum(TOKEN)}"
decimals = 6
"""


# -- the floor ---------------------------------------------------------------------------------------------------------


def _floor_sqlite(url: str, home: Path, invoices: int, at_once: int) -> Meter:
    copy = home / "floor.db"
    asyncio.run(migrate.upgrade(f"sqlite:///{copy}"))
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as there:
        rows = [there.execute(f"SELECT * FROM {table} LIMIT ?", (invoices,)).fetchall() for table in TABLES]  # noqa: S608
    with closing(sqlite3.connect(copy, isolation_level=None)) as here:
        for pragma in SQLITE_PRAGMAS:
            here.execute(pragma)
        here.execute("PRAGMA foreign_keys = OFF")
        marks = [", ".join("?" * len(some[0])) for some in rows]
        with Meter() as spent:
            for first in range(0, invoices, at_once):
                here.execute("BEGIN IMMEDIATE")
                for table, mark, some in zip(TABLES, marks, rows, strict=True):
                    here.executemany(f"INSERT INTO {table} VALUES ({mark})", some[first : first + at_once])  # noqa: S608
                here.execute("COMMIT")
    return spent


def _floor_postgresql(url: str, _home: Path, invoices: int, at_once: int) -> Meter:
    schema = sql.Identifier("settler_bench_floor")
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE SCHEMA {}").format(schema))
        try:
            rows, inserts = [], []
            for name in TABLES:
                table = sql.Identifier(name)
                copy = sql.SQL("{}.{}").format(schema, table)
                conn.execute(sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL)").format(copy, table))
                cursor = conn.execute(sql.SQL("SELECT * FROM {} LIMIT {}").format(table, invoices))
                columns = [column.name for column in cursor.description or ()]
                rows.append([tuple(map(_as_written, row)) for row in cursor.fetchall()])
                marks = sql.SQL(", ").join(sql.Placeholder() * len(columns))
                inserts.append(sql.SQL("INSERT INTO {} VALUES ({})").format(copy, marks))
            with Meter() as spent, conn.cursor() as cursor:
                for first in range(0, invoices, at_once):
                    with conn.transaction():
                        for insert, all_rows in zip(inserts, rows, strict=True):
                            cursor.executemany(insert, all_rows[first : first + at_once])
        finally:
            conn.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(schema))
    return spent


def _as_written(value: object) -> object:
    """JSON is read as objects, and written as text."""
    return json.dumps(value) if isinstance(value, dict | list) else value


_FLOORS: dict[str, Callable[[str, Path, int, int], Meter]] = {"sqlite": _floor_sqlite, "postgresql": _floor_postgresql}
