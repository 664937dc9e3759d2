"""The whole daemon through PgBouncer in transaction mode: each transaction may get another server connection."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from settler.storage import migrate
from tests.ha.shop import open_shop
from tests.support.daemon import Process, show
from tests.support.pgbouncer import PgBouncer
from tests.support.postgres import PostgresServer

pytestmark = [pytest.mark.postgres, pytest.mark.system]
CONNECTIONS = 3
"""To the server: fewer than the daemon has to PgBouncer, so that its transactions take turns."""
BACK_WITHIN_S = 15.0


@pytest.mark.timeout(300)
async def test_daemon_through_pgbouncer__under_load_and_cut_off__nothing_is_lost(
    durable_server: PostgresServer, tmp_path: Path
) -> None:
    """PgBouncer is killed and started again, and so is the server behind it."""
    durable_server.create_database("shop")
    with PgBouncer(durable_server, size=CONNECTIONS) as bouncer:
        database = bouncer.url("shop")
        await migrate.upgrade(database)
        async with open_shop(tmp_path) as shop, Process(shop.config("only", database)) as worker:
            await shop.open(worker)
            await shop.goes_on(worker.api, within_s=BACK_WITHIN_S)
            await asyncio.sleep(3.0)
            (pool,) = [p for p in await asyncio.to_thread(bouncer.show, "POOLS") if p["database"] == "shop"]
            clients = [c for c in await asyncio.to_thread(bouncer.show, "CLIENTS") if c["database"] == "shop"]
            servers = [s for s in await asyncio.to_thread(bouncer.show, "SERVERS") if s["database"] == "shop"]
            assert pool["pool_mode"] == "transaction"
            assert len(servers) <= CONNECTIONS < len(clients)
            await asyncio.to_thread(bouncer.kill)
            await asyncio.to_thread(bouncer.start)
            pooler_s = await shop.goes_on(worker.api, within_s=BACK_WITHIN_S)
            await asyncio.to_thread(durable_server.kill, sessions=True)
            await asyncio.to_thread(durable_server.start)
            server_s = await shop.goes_on(worker.api, within_s=BACK_WITHIN_S)
            (stats,) = [s for s in await asyncio.to_thread(bouncer.show, "STATS") if s["database"] == "shop"]
            figures = await shop.reckon([worker], database)
    show(
        f"{len(clients)} connections to PgBouncer, {len(servers)} to PostgreSQL, {stats['total_xact_count']} "
        f"transactions; reads on {pooler_s:.1f} s after PgBouncer is back, {server_s:.1f} s after PostgreSQL is; "
        f"{figures}"
    )
