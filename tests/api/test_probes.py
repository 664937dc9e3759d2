"""The machine room's view: alive, ready, metrics; without a key."""

from __future__ import annotations

from tests.api.conftest import Api


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
