"""The API over a real store, asked over real HTTP."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp.test_utils import TestClient, TestServer

from chains.address import to_checksum
from chains.model import Address, ChainId, Token
from settler.api.app import make_app
from settler.clock import FakeClock
from settler.domain.drafting import ChainOffer, InvoiceDefaults
from settler.domain.settlement import InvoicePolicy
from settler.health import Health
from settler.metrics import Metrics
from settler.stages.operating import Operating
from settler.stages.setup import Judgement
from settler.storage import api_keys, chains
from settler.storage.api_keys import Scope
from settler.storage.engine import Database

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
BASE = ChainId(8453)
USDC = Token(chain_id=BASE, symbol="USDC", address=Address(b"\xc0" * 20), decimals=6, currency="USD")
EURC = Token(chain_id=BASE, symbol="EURC", address=Address(b"\xe0" * 20), decimals=6, currency="EUR")
CATALOG = {"base": ChainOffer(name="base", chain_id=BASE, tokens={"USDC": USDC, "EURC": EURC})}
ALL_SCOPES = frozenset(Scope)

_numbers = itertools.count(1)


def address(number: int | None = None) -> str:
    """An address of its own, checksummed."""
    return to_checksum(Address((0xAA00 + (next(_numbers) if number is None else number)).to_bytes(20)))


def invoice(**changes: Any) -> dict[str, Any]:
    """The body of a good request for an invoice, with a reference and an address of its own."""
    number = next(_numbers)
    return {
        "amount": "100.00",
        "reference": f"order-{number}",
        "options": [{"chain": "base", "token": "USDC", "pay_to": address(number)}],
        **changes,
    }


def entropy(size: int) -> bytes:
    return next(_numbers).to_bytes(size)


@dataclass(slots=True)
class Api:
    """A running API with what stands behind it, and a key that may do everything."""

    client: TestClient[Any, Any]
    db: Database
    clock: FakeClock
    health: Health
    key: str = ""
    providers: list[dict[str, Any]] = field(default_factory=list)

    async def key_for(self, *scopes: Scope, merchant: str | None = None) -> str:
        """The text of a new key."""
        async with self.db.write() as conn:
            _, text = await api_keys.create(
                conn,
                name=f"key {next(_numbers)}",
                scopes=scopes,
                merchant=merchant,
                now=self.clock.now(),
                who="test",
                secret=entropy(32),
                entropy=entropy(10),
            )
        return text

    async def ask(
        self, method: str, path: str, *, key: str | None = None, headers: dict[str, str] | None = None, **how: Any
    ) -> tuple[aiohttp.ClientResponse, Any]:
        """The answer and its JSON (`None` without a body). `key`: that one instead of the one that may do all."""
        sent = {"Authorization": f"Bearer {self.key if key is None else key}", **(headers or {})}
        async with self.client.request(method, path, headers=sent, **how) as response:
            text = await response.text()
            return response, await response.json(content_type=None) if text else None

    async def get(self, path: str, *, status: int = 200, **how: Any) -> Any:
        response, body = await self.ask("GET", path, **how)
        assert response.status == status, body
        return body

    async def post(self, path: str, body: Any = None, *, status: int = 201, **how: Any) -> Any:
        response, answer = await self.ask("POST", path, json=body, **how)
        assert response.status == status, answer
        return answer

    async def refused(self, method: str, path: str, status: int, **how: Any) -> Any:
        """The problem that a request is answered; checked to be RFC 9457."""
        response, body = await self.ask(method, path, **how)
        assert response.status == status, body
        assert response.content_type == "application/problem+json"
        assert {"type", "title", "status", "detail", "instance", "errors"} <= set(body)
        assert body["status"] == status
        assert body["type"].startswith("urn:settler:problem:")
        return body


Start = Callable[..., Awaitable[Api]]


@pytest_asyncio.fixture
async def start(db: Database) -> AsyncIterator[Start]:
    """Starts an API over `db`; keywords are those of `make_app`."""
    clients: list[TestClient[Any, Any]] = []

    async def started(**changes: Any) -> Api:
        clock = FakeClock(NOW)
        health = Health(clock)
        providers: list[dict[str, Any]] = []
        async with db.write() as conn:
            await chains.register(conn, chain_id=BASE, name="base", tokens=[USDC, EURC], now=NOW)
        app = make_app(
            **{
                "db": db,
                "clock": clock,
                "catalog": CATALOG,
                "defaults": InvoiceDefaults(),
                "auth": "keys",
                "metrics": Metrics(clock, version="0"),
                "health": health,
                "providers": lambda: providers,
                "entropy": entropy,
                "operator": Operating(Judgement(policy=InvoicePolicy())),
                "allow_private_webhooks": False,
                **changes,
            }
        )
        client = TestClient(TestServer(app))
        clients.append(client)
        await client.start_server()
        api = Api(client=client, db=db, clock=clock, health=health, providers=providers)
        api.key = await api.key_for(*ALL_SCOPES)
        return api

    yield started
    for client in clients:
        await client.close()


@pytest_asyncio.fixture
async def api(start: Start) -> Api:
    return await start()


@pytest.fixture
def invoice_body() -> dict[str, Any]:
    return invoice()
