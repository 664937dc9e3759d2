"""What a pool says of its providers, as operators see it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from chains.errors import Rejected, Timeout, WrongChain
from chains.standing import Standing
from settler.clock import FakeClock
from settler.health import Health
from settler.metrics import Metrics
from settler.runtime.providers import ProviderWatcher, provider_view
from tests.config.samples import BASE, RPC, read

TWO = BASE.replace(f'"{RPC}"', '["https://a.example/k3y", "https://b.example/k3y"]')


class Told:
    def __init__(self, folder: Path) -> None:
        clock = FakeClock(datetime(2026, 3, 1, tzinfo=UTC))
        self.metrics = Metrics(clock, version="0")
        self.health = Health(clock)
        self.health.expect_chain("base")
        self.health.progressed("base", lag_s=0.0)
        chain = read(folder, TWO).chains["base"]
        self.watcher = ProviderWatcher(chain, metrics=self.metrics, health=self.health)

    def up(self, provider: str) -> float | None:
        labels = {"chain": "base", "provider": provider}
        return self.metrics._on.registry.get_sample_value("settler_rpc_provider_up", labels)


@pytest.fixture
def told(tmp_path: Path) -> Told:
    return Told(tmp_path)


def test_one_of_two_away__its_gauge_falls_and_the_chain_is_ready(told: Told) -> None:
    a, b = Standing("a.example"), Standing("b.example")
    for standing in (a, b):
        standing.answered(0.1, 1.0)
        told.watcher.on_standing(standing)
    assert (told.up("a.example"), told.up("b.example")) == (1.0, 1.0)
    a.failed(Timeout("k3y"), 2.0)
    told.watcher.on_standing(a)
    assert (told.up("a.example"), told.up("b.example")) == (0.0, 1.0)
    assert told.health.ready() == (True, [])
    b.failed(Rejected("k3y is no key"), 2.0)
    told.watcher.on_standing(b)
    is_ready, reasons = told.health.ready()
    assert not is_ready
    assert reasons[0]["reason"] == (
        "no provider answers (a.example: no good answer (timeout); "
        "b.example: it refuses what it is asked (fatal); the log has its words)"
    )
    a.is_chain_known = True
    a.answered(0.1, 9.0)
    told.watcher.on_standing(a)
    assert told.health.ready() == (True, [])
    assert told.up("a.example") == 1.0


def test_removed__is_shown_with_its_reason(told: Told) -> None:
    standing = Standing("a.example")
    standing.failed(WrongChain("it serves chain id 1, configured is 8453"), 1.0)
    told.watcher.on_standing(standing)
    assert provider_view(standing, chain="base") == {
        "chain": "base",
        "provider": "a.example",
        "up": False,
        "state": "removed",
        "reason": "it serves chain id 1, configured is 8453",
        "head": None,
        "latency_ms": None,
    }


def test_disagreement__is_counted_by_provider(told: Told) -> None:
    told.watcher.on_disagreement("b.example", "blocks 1..2")
    registry = told.metrics._on.registry
    labels = {"chain": "base", "provider": "b.example"}
    assert registry.get_sample_value("settler_rpc_disagreements_total", labels) == 1.0
