"""A payment's way from the chain's log to the merchant's webhook is one trace, in the collector, in the webhook and in
the log."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from typing import Any

import standardwebhooks

from tests.e2e.conftest import Market
from tests.support.daemon import WITHIN_S, Process, cli_json, until
from tests.tracing.collector import Seen, collecting
from tests.webhook.receiver import receiving

# Not `invoice.processing`: on a slow machine the second reading may come first.
STEPS = {
    "invoice.created",
    "transfer.recorded",
    "transfer.matched",
    "transfer.final",
    "settlement.created",
    "invoice.settled",
    "webhook.deliver",
}


async def test_payment__from_log_to_webhook__is_one_trace_also_across_a_restart(market: Market) -> None:
    async with collecting() as collector, receiving() as merchant:
        market.config.write_text(
            market.config.read_text()
            + "[webhooks]\nallow_private_addresses = true\n"
            + f'[telemetry]\notlp_endpoint = "{collector.url}"\nservice_name = "till"\n'
        )
        endpoint = await cli_json("webhook", "endpoint", "add", f"{merchant.base}/hooks/s3cret", config=market.config)
        async with Process(market.config) as first:
            async with first.api.session.post(
                first.api.address + "/v1/invoices",
                json=_body(market),
                headers={"traceparent": "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01", "X-Request-Id": "checkout-7"},
            ) as response:
                assert response.status == 201
                invoice = await response.json()
            assert await first.signal(signal.SIGTERM) == 0
        created = collector.named("invoice.created")
        assert len(created) == 1, "the last spans are sent before the daemon ends"

        async with Process(market.config) as second:
            await market.pay(invoice)
            await second.api.reaches(invoice, "settled")

            async def steps() -> set[str]:
                return set(collector.of_trace(created[0].trace_id))

            await until(steps, lambda seen: seen >= STEPS, what="all steps of the payment to be seen")

            async def told() -> dict[str, str]:
                return {json.loads(got.body)["type"]: got.headers["traceparent"] for got in merchant.got}

            webhooks = await until(told, lambda got: "invoice.settled" in got, what="the webhook")
            assert await second.signal(signal.SIGTERM) == 0
        trace_id = created[0].trace_id
        assert {header.split("-")[1] for header in webhooks.values()} == {trace_id}
        for got in merchant.got:
            standardwebhooks.Webhook(endpoint["secret"]).verify(got.body, got.headers)
        sent = {f"00-{s.trace_id}-{s.span_id}-01" for s in collector.named("webhook.deliver")}
        assert webhooks["invoice.settled"] in sent, "the receiver's own spans stand below the attempt's"
        logged = {(line["type"], line["trace_id"]) for line in (*first.log, *second.log) if line["event"] == "event"}
        assert {("invoice.created", trace_id), ("payment.final", trace_id), ("invoice.settled", trace_id)} <= logged

        _check_tree(collector.spans, created[0])
        _check_request(collector.named("POST /v1/invoices"), created[0])
        _check_nothing_private(collector.spans, market, invoice)


def _body(market: Market) -> dict[str, Any]:
    return {
        "amount": "12.50",
        "reference": "order-of-a-customer",
        "options": [{"chain": "anvil", "token": "USDC", "pay_to": "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"}],
        "metadata": {"customer": "jane@example.com"},
    }


def _check_tree(spans: list[Seen], root: Seen) -> None:
    """All below one root, in order of time, each linked to a tick or request that was told of as well."""
    trace = {s.name: s for s in sorted(spans, key=lambda s: s.end_ns) if s.trace_id == root.trace_id}
    assert root.parent_id == ""
    assert {s.parent_id for s in trace.values() if s is not root} == {root.span_id}
    assert {s.service for s in spans} == {"till"}
    in_order = ["invoice.created", "transfer.matched", "transfer.final", "invoice.settled", "webhook.deliver"]
    ends = [trace[name].end_ns for name in in_order]
    assert ends == sorted(ends)
    assert trace["transfer.recorded"].start_ns <= trace["transfer.recorded"].end_ns
    known = {(s.trace_id, s.span_id): s for s in spans}
    for name in ("transfer.recorded", "invoice.settled"):
        (link,) = trace[name].links
        tick = known[link]
        assert (tick.name, tick.trace_id == root.trace_id) == ("stage.tick", False)
        assert tick.attributes["settler.stage"] in {"watch", "settle"}
        calls = [s for s in spans if s.parent_id == tick.span_id]
        assert calls, "a tick that read blocks made calls"
        assert {s.attributes["server.address"] for s in calls} == {"127.0.0.1"}
    assert trace["webhook.deliver"].attributes["http.response.status_code"] == 200
    assert trace["webhook.deliver"].attributes["settler.attempt"] == 1
    assert trace["transfer.final"].attributes["settler.amount"] == "12.50"


def _check_request(requests: list[Seen], created: Seen) -> None:
    (request,) = requests
    assert (request.trace_id, request.parent_id) == ("ab" * 16, "cd" * 8), "it goes on in the caller's trace"
    assert request.attributes["http.route"] == "/v1/invoices"
    assert request.attributes["http.response.status_code"] == 201
    assert request.attributes["settler.request_id"] == "checkout-7"
    assert created.links == ((request.trace_id, request.span_id),)


def _check_nothing_private(spans: list[Seen], market: Market, invoice: dict[str, Any]) -> None:
    shown = " ".join(str(value).lower() for s in spans for value in (s.name, *s.attributes.values()))
    for secret in ("order-of-a-customer", "jane@", "s3cret", "/hooks", invoice["pay_path"].split("/")[-1]):
        assert secret.lower() not in shown
    assert market.token.address.hex() not in shown
    # no address and no hash; an id of ours may hold these two characters by chance
    assert re.search(r"\b0x[0-9a-f]", shown) is None


async def test_payment__while_the_collector_hangs__settles_and_the_daemon_stops(market: Market) -> None:
    async with collecting(hangs=True) as collector:
        market.config.write_text(
            market.config.read_text() + f'[telemetry]\notlp_endpoint = "{collector.url}"\nsample_ratio = 1\n'
        )
        async with Process(market.config) as daemon:
            invoice = await daemon.api.create("10.00")
            async with asyncio.timeout(WITHIN_S):
                await collector.came.wait()
            await market.pay(invoice)
            await daemon.api.reaches(invoice, "settled")
            assert await daemon.signal(signal.SIGTERM) == 0
        assert collector.spans == []
        assert [line["event"] for line in daemon.log][-2:] == ["daemon.stopped", "telemetry.lost"]
