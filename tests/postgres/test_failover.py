"""The PostgreSQL primary is killed under load and its standby promoted: the daemon, told of both, goes on by itself,
and nothing that was answered is lost.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from settler.storage import migrate, schema
from settler.storage.engine import Database, StorageUnavailable
from tests.ha.shop import open_shop
from tests.postgres.test_outages import _add as add
from tests.support.cluster import Cluster
from tests.support.daemon import Process, show

pytestmark = pytest.mark.postgres
BACK_WITHIN_S = 15.0
BOTH = pytest.mark.parametrize("parameters", ["target_session_attrs=read-write", ""])


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster() as made:
        yield made


@BOTH
async def test_standby__not_promoted_yet__is_unavailable_and_then_the_database(
    parameters: str, cluster: Cluster
) -> None:
    """Without `target_session_attrs` the standby is connected to and refuses to write (25006); with it, the client
    library passes it over."""
    url = cluster.url("shop", parameters)
    cluster.primary.create_database("shop")
    await migrate.upgrade(url)
    db = await Database.open(url)
    try:
        await asyncio.gather(*(add(db, number) for number in range(5)))
        cluster.primary.kill(sessions=True)
        for _ in range(3):
            with pytest.raises(StorageUnavailable):
                await add(db, 99)
        cluster.standby.promote()
        await asyncio.gather(*(add(db, number) for number in range(5, 10)))
        async with db.read() as conn:
            assert (await conn.execute(select(func.count()).select_from(schema.chains))).scalar_one() == 10
    finally:
        await db.dispose()


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_primary__killed_under_load__the_standby_takes_over_and_nothing_is_lost(
    cluster: Cluster, tmp_path: Path
) -> None:
    database = cluster.url("shop")
    cluster.primary.create_database("shop")
    await migrate.upgrade(database)
    async with open_shop(tmp_path) as shop, Process(shop.config("only", database)) as worker:
        await shop.open(worker)
        await shop.goes_on(worker.api, within_s=BACK_WITHIN_S)
        await asyncio.sleep(2.0)
        await asyncio.to_thread(cluster.primary.kill, sessions=True)
        await asyncio.sleep(1.0)  # as long as whoever watches the servers needs to decide
        promoted = time.monotonic()
        await asyncio.to_thread(cluster.standby.promote)
        await shop.goes_on(worker.api, within_s=BACK_WITHIN_S)
        back_s = time.monotonic() - promoted
        await asyncio.sleep(2.0)
        figures = await shop.reckon([worker], database)
        assert len([line for line in worker.log if line["event"] == "daemon.started"]) == 1
    show(f"reads on {back_s:.1f} s after the standby is told to take over; {figures}")
