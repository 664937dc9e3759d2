"""What a payment takes on PostgreSQL, in bytes and processor time: `python -m tests.postgres.sizes [--invoices 5000]`.

The stages as they ship, on a simulated chain of one provider, write to a real server; then the server is asked. For
docs/scaling.md; no test, for nothing fails because it is large.
"""

from __future__ import annotations

import argparse
import asyncio
import time

import psycopg

from settler.domain.delivery import Endpoint, EndpointId
from settler.stages.dispatch import Dispatch
from settler.storage import feed, migrate, webhook_endpoints
from settler.storage.engine import Database
from settler.webhook import sign
from settler.webhook.fake import FakeSender
from tests.support.daemon import show
from tests.support.postgres import PostgresServer
from tests.support.world import World

A_BLOCK = 20
"""Payments."""
OF_A_PAYMENT = (
    *("invoices", "invoice_options", "watched_addresses", "transfers", "payment_evidence"),
    *("settlements", "settlement_lines"),
    *("ledger_entries", "ledger_lines", "events", "webhook_deliveries", "webhook_attempts"),
)
_SIZES = """
SELECT c.relname, count_rows(c.oid), pg_relation_size(c.oid), pg_indexes_size(c.oid), pg_total_relation_size(c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname = 'public' ORDER BY 5 DESC"""
_COUNT = """
CREATE FUNCTION count_rows(oid) RETURNS bigint LANGUAGE plpgsql AS
$$ DECLARE n bigint; BEGIN EXECUTE 'SELECT count(*) FROM ' || $1::regclass INTO n; RETURN n; END $$"""


async def fill(url: str, invoices: int) -> dict[str, float]:
    """Seconds of this process's processor time a payment, by what it was spent on."""
    db = await Database.open(url)
    spent: dict[str, float] = {"create": 0.0, "watch": 0.0, "settle": 0.0, "place": 0.0, "webhooks": 0.0}
    try:
        world = await World.on(db)
        await _endpoint(db, world)
        for _ in range(0, invoices, A_BLOCK):
            at = time.process_time()
            made = [await world.invoice("100") for _ in range(A_BLOCK)]
            spent["create"] += time.process_time() - at
            for invoice in made:
                world.pay(invoice)
            world.mine(3)
            for name, work in (("watch", world.watch), ("settle", world.settle)):
                at = time.process_time()
                await work()
                spent[name] += time.process_time() - at
            at = time.process_time()
            await feed.catch_up(db)
            spent["place"] += time.process_time() - at
            at = time.process_time()
            await _deliver(db, world)
            spent["webhooks"] += time.process_time() - at
    finally:
        await db.dispose()
    return {name: seconds / invoices for name, seconds in spent.items()}


async def _endpoint(db: Database, world: World) -> None:
    endpoint = Endpoint(
        id=EndpointId("whe_01kb2y7t3q8m5x9n4c6w0r1hzd"),
        url="https://shop.example/hooks",
        merchant=None,
        types=(),
        secret=sign.new_secret(bytes(sign.SECRET_BYTES)),
        previous_secret=None,
        created_at=world.clock.now(),
    )
    async with db.write() as conn:
        await webhook_endpoints.insert_endpoint(conn, endpoint)


async def _deliver(db: Database, world: World) -> None:
    dispatch = Dispatch(db, FakeSender(), world.clock, jitter=lambda: 0.5, patience_s=0.05)
    while (await dispatch.tick()).has_more:
        pass


def measure(url: str, invoices: int) -> None:
    """As the tables have grown (an updated row is written again; the old one is room for others once it was vacuumed),
    and packed, as they would be had no row ever been updated.
    """
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(_COUNT)
        found = {}
        for how in ("VACUUM ANALYZE", "VACUUM FULL"):
            conn.execute(how)
            found[how] = {row[0]: row[1:] for row in conn.execute(_SIZES).fetchall() if row[0] in OF_A_PAYMENT}
    grown, packed = found.values()
    show(f"{'table':<20} {'rows':>8} {'rows a payment':>15} {'B a row':>8} {'packed':>8} {'indexes':>8}")
    for table, (rows, _heap, indexes, whole) in packed.items():
        show(
            f"{table:<20} {rows:>8} {rows / invoices:>15.2f} {grown[table][3] / max(1, rows):>8.0f} "
            f"{whole / max(1, rows):>8.0f} {indexes / max(1, rows):>8.0f}"
        )
    for name, sizes in (("grown", grown), ("packed", packed)):
        show(f"a payment, {name}: {sum(row[3] for row in sizes.values()) / invoices:.0f} B in tables and indexes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--invoices", type=int, default=5_000)
    invoices = parser.parse_args().invoices
    server = PostgresServer()
    try:
        server.start()
        url = server.create_database("sizes")
        asyncio.run(migrate.upgrade(url))
        started, before = time.monotonic(), _wal(url)
        spent = asyncio.run(fill(url, invoices))
        show(
            f"{invoices} invoices, paid and settled in {time.monotonic() - started:.0f} s; WAL a payment "
            f"{(_wal(url) - before) / invoices:.0f} B"
        )
        show("ms of processor time a payment: " + ", ".join(f"{k} {v * 1000:.2f}" for k, v in spent.items()))
        measure(url, invoices)
    finally:
        server.remove()


def _wal(url: str) -> int:
    with psycopg.connect(url) as conn:
        found = conn.execute("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')").fetchone()
        return int(found[0]) if found else 0


if __name__ == "__main__":
    main()
