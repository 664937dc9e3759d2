"""Fixtures: a crew without workers yet, on a server of its own that keeps what it committed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from settler.storage import migrate
from tests.ha.crew import Crew
from tests.ha.shop import open_shop
from tests.support.cluster import free_port
from tests.support.postgres import DURABLE, SUPERUSER, PostgresServer


@pytest.fixture(scope="module")
def durable_server() -> Iterator[PostgresServer]:
    made = PostgresServer(settings=DURABLE, port=free_port())
    try:
        made.start()
        yield made
    finally:
        made.remove()


@pytest.fixture
async def crew(durable_server: PostgresServer, tmp_path: Path) -> AsyncIterator[Crew]:
    name = f"shop_{tmp_path.name[-20:]}"
    durable_server.create_database(name)
    database = f"postgresql://{SUPERUSER}@127.0.0.1:{durable_server.port}/{name}"
    await migrate.upgrade(database)
    async with open_shop(tmp_path) as shop:
        made = Crew(shop=shop, database=database)
        made.lay_witness()
        try:
            yield made
        finally:
            await made.dismiss()
    durable_server.drop_database(name)
