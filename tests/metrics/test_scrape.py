"""`/metrics` of a running daemon that took a payment and money that is nobody's, read as Prometheus reads it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parsed_open
from prometheus_client.parser import text_string_to_metric_families as parsed_plain

from tests.anvil.shop import UNIT, open_shop
from tests.metrics.test_promise import golden
from tests.support.daemon import Metrics, cli, until

pytestmark = [pytest.mark.slow, pytest.mark.anvil]

Found = dict[str, tuple[str, frozenset[str]]]
UNTIL_RECONCILED = {"settler_reconciliation_breaks", "settler_reconciliation_age_seconds"}
"""Not there before the first `settler reconcile`: no run is not no breaks."""


async def test_scrape__a_daemon_at_work__shows_what_is_promised(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        invoice = await shop.api.create(amount="100.00")
        await shop.pay(invoice)
        stray = await shop.api.create(amount="5.00")
        await shop.api.post(f"/v1/invoices/{stray['id']}/cancel", {})
        await shop.pay(stray, 5 * UNIT)
        await shop.finish()
        await shop.api.reaches(invoice, "settled")

        # counted every few seconds, not at each change
        (plain, kind) = await until(
            lambda: scraped(shop.api.address, accept="text/plain"),
            lambda answer: "settler_lease_fencing{" in answer[0],
            what="the gauges of a chain that is led",
        )
        assert kind.startswith("text/plain")
        found = names_and_labels(plain, is_open=False)
        assert found.items() <= golden().items()
        assert golden().keys() - found.keys() == UNTIL_RECONCILED
        body, kind = await scraped(shop.api.address, accept="application/openmetrics-text;version=1.0.0")
        assert kind.startswith("application/openmetrics-text")
        assert names_and_labels(body, is_open=True) == found

        def shown(seen: Metrics) -> bool:
            return seen.total("settler_unmatched_amount_base", chain="anvil", token="USDC") == 5 * UNIT

        metrics = await until(shop.api.metrics, shown, what="the suspense queue's value")
        assert metrics.one("settler_leader", chain="anvil") == 1
        assert metrics.one("settler_lease_fencing", chain="anvil") == 1
        assert metrics.one("settler_chain_halted", chain="anvil") == 0
        assert metrics.one("settler_token_decimals", chain="anvil", token="USDC") == 6
        assert metrics.one("settler_usual_block_seconds", chain="anvil") == 0
        assert metrics.one("settler_usual_finality_seconds", chain="anvil") == 0
        assert metrics.one("settler_settlements_total", chain="anvil", token="USDC") == 1
        assert metrics.one("settler_detection_latency_seconds_count", chain="anvil") == 2

        done = await asyncio.to_thread(cli, "reconcile", config=shop.config)
        assert done.returncode == 0, done.stdout + done.stderr

        def reconciled(seen: Metrics) -> bool:
            return seen.total("settler_reconciliation_age_seconds", chain="anvil") > 0

        metrics = await until(shop.api.metrics, reconciled, what="the reconciliation")
        assert metrics.one("settler_reconciliation_breaks", chain="anvil") == 0
        plain, _ = await scraped(shop.api.address, accept="text/plain")
        assert names_and_labels(plain, is_open=False) == golden()


async def scraped(address: str, *, accept: str) -> tuple[str, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{address}/metrics", headers={"Accept": accept}) as response,
    ):
        assert response.status == 200
        return await response.text(), response.headers["Content-Type"]


def names_and_labels(text: str, *, is_open: bool) -> Found:
    """Each family: its type, and the labels its samples have."""
    found = {}
    for family in (parsed_open if is_open else parsed_plain)(text):
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        if family.samples:
            found[family.name + "_total" * (family.type == "counter")] = (str(family.type), frozenset(labels))
    return found
