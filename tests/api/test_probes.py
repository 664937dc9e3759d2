"""The machine room's view: alive, ready, metrics; without a key."""

from __future__ import annotations

import pytest

from chains.errors import ChainError, HistoryPruned, MethodUnsupported, Rejected
from settler.metrics import Metrics
from settler.runtime.loop import Ticked
from settler.runtime.watching import TickWatcher
from tests.api.conftest import BASE, Api
from tests.support.db import sqlite_alone

db_url = sqlite_alone


async def test_readyz__a_chain_not_read_yet__is_503_with_the_reason(api: Api) -> None:
    api.health.expect_chain("base")
    async with api.client.get("/readyz") as response:
        body = await response.json()
        assert response.status == 503
        assert body["status"] == "not ready"
        assert body["reasons"][0]["chain"] == "base"
        assert body["reasons"][0]["reason"]
    api.health.progressed("base", lag_s=0.0)
    async with api.client.get("/readyz") as response:
        assert (response.status, await response.json()) == (200, {"status": "ready", "reasons": []})


async def test_livez__a_loop_that_is_stuck__is_503(api: Api) -> None:
    api.health.expect_loop("watch:base")
    async with api.client.get("/livez") as response:
        assert (response.status, (await response.json())["status"]) == (200, "alive")
    api.clock.advance(10_000)
    async with api.client.get("/livez") as response:
        body = await response.json()
        assert (response.status, body["status"]) == (503, "stuck")
        assert "watch:base" in body["reasons"][0]


async def test_probes__while_the_database_is_gone__still_answer(api: Api) -> None:
    await api.db.dispose()
    for path in ("/livez", "/readyz", "/metrics"):
        async with api.client.get(path) as response:
            assert response.status == 200


async def test_metrics__is_prometheus_text(api: Api) -> None:
    async with api.client.get("/metrics") as response:
        assert response.status == 200
        assert response.headers["Content-Type"].startswith("text/plain; version=")
        assert "settler_build_info" in await response.text()


@pytest.fixture
def watcher(api: Api) -> TickWatcher:
    api.health.expect_chain("base")
    known = {"base": BASE}
    return TickWatcher(db=api.db, metrics=Metrics(api.clock, version="0"), health=api.health, chains=known)


@pytest.mark.parametrize("stage", ["open", "watch"])
@pytest.mark.parametrize("error", [Rejected("key 3f9a is no key"), MethodUnsupported("no"), HistoryPruned("gone")])
async def test_readyz__a_provider_that_refuses_us__is_503_at_once(
    api: Api, watcher: TickWatcher, stage: str, error: ChainError
) -> None:
    """A key revoked under a running daemon left it ready, with its provider up, for two and a half minutes; at start it
    was `starting`, for ever. What the node says stays in the log: it may hold the key, and the probe asks for none."""
    api.health.progressed("base", lag_s=0.0)
    await watcher.after_tick(Ticked(stage=stage, chain="base", outcome=error.label, error=error))
    reasons = (await api.get("/readyz", status=503))["reasons"]
    assert [r["chain"] for r in reasons] == ["base"]
    assert f"the provider refuses what it is asked ({error.label})" in reasons[0]["reason"]
    assert "3f9a" not in reasons[0]["reason"]
    assert not api.health.chain("base").is_provider_up
