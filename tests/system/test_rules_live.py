"""The shipped rules in a real Prometheus that scrapes a real daemon: each is evaluated, and nothing is wrong until
something is.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.anvil.shop import open_shop
from tests.deploy.rules import PROMETHEUS, every_rule
from tests.support.daemon import until
from tests.system.prometheus import Prometheus, Series

pytestmark = [pytest.mark.system, pytest.mark.anvil]

RULES = sorted((PROMETHEUS / "rules").glob("*.yaml"))
FROM_THE_START = {"SettlerReconciliationOld"}
"""Nobody reconciles here: it waits for its twelve hours."""


async def alerts(prometheus: Prometheus) -> set[str]:
    """Those that fire, or will once they have lasted."""
    return {series.labels["alertname"] for series in await prometheus.now("ALERTS")}


async def test_rules__a_daemon_at_work_then_gone__are_all_evaluated_and_speak_in_time(tmp_path: Path) -> None:
    async with (
        open_shop(tmp_path) as shop,
        Prometheus(tmp_path, {"settler-a:8080": shop.api.address.removeprefix("http://")}, rules=RULES) as prometheus,
    ):
        invoice = await shop.api.create(amount="100.00")
        await shop.pay(invoice)
        await shop.finish()
        await shop.api.reaches(invoice, "settled")
        assert await recorded(prometheus, "settler:settlements_in_time:total", 1.0) == {"anvil"}
        assert await recorded(prometheus, "settler:detections:total", 1.0) == {"anvil"}
        assert await recorded(prometheus, "job_chain:settler_chain_lag:seconds", 0.0) == {"anvil"}

        evaluated = [rule for group in (await prometheus._get("rules"))["groups"] for rule in group["rules"]]
        assert {rule["name"] for rule in evaluated} == {rule.name for rule in every_rule()}
        assert {rule["name"]: rule.get("lastError") for rule in evaluated if rule["health"] != "ok"} == {}
        # before the first scrape nobody was there
        await until(lambda: alerts(prometheus), FROM_THE_START.issuperset, what="alerts to be quiet")

        shop.running.stop.set()
        gone = {"SettlerDown", "SettlerWorkerDown"}
        await until(lambda: alerts(prometheus), gone.issubset, what="alerts of a settler that is gone")


async def recorded(prometheus: Prometheus, name: str, value: float) -> set[str]:
    """The chains for which a rule's series comes to that value."""

    async def seen() -> list[Series]:
        return [series for series in await prometheus.now(name) if series.values == [value]]

    return {series.labels["chain"] for series in await until(seen, bool, what=f"{name} to be {value}")}
