"""Fixtures: fresh, migrated databases. A pytest plugin, loaded by `tests/conftest.py`.

    db             on SQLite, and once more on PostgreSQL (marked `postgres`)
    sqlite_db      on SQLite only
    postgres_db    on PostgreSQL only (mark the test `postgres`)

Each has a `..._url` beside it for tests that open the database themselves; `empty_db_url` has no tables yet.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from settler.storage import migrate
from settler.storage.engine import Database
from tests.support.postgres import DURABLE, PostgresServer

TEMPLATE = "settler_template"
BOTH = [pytest.param("sqlite"), pytest.param("postgres", marks=pytest.mark.postgres)]
on_sqlite = pytest.mark.parametrize("db_url", ["sqlite"], indirect=True)
"""Of a single test that asks nothing that databases answer differently; for a module of them, see `sqlite_alone`."""
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One server a test process, with the migrated template."""
    server = PostgresServer()
    try:
        server.start()
        asyncio.run(migrate.upgrade(server.create_database(TEMPLATE)))
        yield server
    finally:
        server.remove()


@pytest.fixture
def durable_server() -> Iterator[PostgresServer]:
    """A server of this test alone, which keeps what was committed when it is killed; without a template."""
    made = PostgresServer(settings=DURABLE)
    try:
        made.start()
        yield made
    finally:
        made.remove()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    asyncio.run(migrate.upgrade(f"sqlite:///{path}"))
    return path


@pytest.fixture
def sqlite_db_url(sqlite_template: Path, tmp_path: Path) -> str:
    path = tmp_path / "settler.db"
    shutil.copy(sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture
def postgres_db_url(postgres_server: PostgresServer) -> Iterator[str]:
    yield from _postgres_database(postgres_server, TEMPLATE)


@pytest.fixture
def sqlite_alone(sqlite_db_url: str) -> str:
    """`db_url = sqlite_alone` in a module whose tests ask nothing that databases answer differently: a database of
    PostgreSQL costs a tenth of a second."""
    return sqlite_db_url


@pytest.fixture(params=BOTH)
def db_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(f"{request.param}_db_url")
    return url


@pytest.fixture
def empty_sqlite_db_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'empty.db'}"


@pytest.fixture
def empty_postgres_db_url(postgres_server: PostgresServer) -> Iterator[str]:
    yield from _postgres_database(postgres_server, "template1")


@pytest.fixture(params=BOTH)
def empty_db_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(f"empty_{request.param}_db_url")
    return url


@pytest_asyncio.fixture
async def sqlite_db(sqlite_db_url: str) -> AsyncIterator[Database]:
    async for db in _opened(sqlite_db_url):
        yield db


@pytest_asyncio.fixture
async def postgres_db(postgres_db_url: str) -> AsyncIterator[Database]:
    async for db in _opened(postgres_db_url):
        yield db


@pytest_asyncio.fixture
async def db(db_url: str) -> AsyncIterator[Database]:
    async for opened in _opened(db_url):
        yield opened


async def _opened(url: str) -> AsyncIterator[Database]:
    db = await Database.open(url)
    try:
        yield db
    finally:
        await db.dispose()


def _postgres_database(server: PostgresServer, template: str) -> Iterator[str]:
    name = f"test_{next(_numbers)}"
    yield server.create_database(name, template=template)
    server.drop_database(name)
