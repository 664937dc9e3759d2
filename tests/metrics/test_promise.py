"""What is promised of the metrics: those of INTERFACE.md and the few beside them; what each means; and that nothing
from outside makes a series of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from settler.clock import FakeClock
from settler.metrics import ChainCalls, Metrics
from tests.docs.pages import PAGES, Page

HERE = Path(__file__).parent
PROMISED = """
settler_head_block gauge chain
settler_scanned_block gauge chain
settler_final_block gauge chain
settler_settled_block gauge chain
settler_chain_lag_seconds gauge chain
settler_head_age_seconds gauge chain
settler_finality_lag_seconds gauge chain
settler_rpc_requests_total counter chain provider method outcome
settler_rpc_request_duration_seconds histogram chain provider method
settler_rpc_provider_up gauge chain provider
settler_rpc_disagreements_total counter chain provider
settler_rpc_rate_limits_total counter chain provider
settler_transfers_total counter chain token allocation
settler_invoices gauge status
settler_oldest_unsettled_seconds gauge chain
settler_unmatched_transfers gauge chain token reason
settler_settlements_total counter chain token
settler_settled_amount_base_total counter chain token
settler_reversals_total counter chain
settler_reorgs_total counter chain
settler_reorg_depth_blocks histogram chain
settler_detection_latency_seconds histogram chain
settler_settlement_latency_seconds histogram chain
settler_holds gauge reason
settler_webhook_deliveries_total counter outcome
settler_outbox_pending gauge
settler_outbox_oldest_seconds gauge
settler_webhook_dead_letters gauge
settler_stage_ticks_total counter stage chain outcome
settler_leader gauge chain
settler_reconciliation_breaks gauge chain
settler_build_info gauge version python
"""
"""INTERFACE.md's table, line by line."""
OF_HISTOGRAM = ("_bucket", "_sum", "_count")
NO_METRICS = {"settler_migrator"}
"""Other words of this form in the documents: a role of the database."""
BESIDE = {
    "settler_chain_halted": "an alert for as long as it lasts, which no counter of reversals gives",
    "settler_lease_fencing": "leaders that change, whichever worker crashed",
    "settler_reconciliation_age_seconds": "that nobody reconciled",
    "settler_token_decimals": "base units shown as tokens",
    "settler_unmatched_amount_base": "the value in suspense",
    "settler_usual_block_seconds": "what is late for a chain, whatever its name in the configuration",
    "settler_usual_finality_seconds": "what is late for a chain's finality policy",
}
"""Why there is more than INTERFACE.md names. Dashboards and alerts need them; nothing else is added."""


def golden() -> dict[str, tuple[str, frozenset[str]]]:
    """Type and labels by name."""
    lines = [line.split() for line in (HERE / "golden.txt").read_text().splitlines()]
    return {name: (kind, frozenset(labels)) for name, kind, *labels in lines}


def test_metrics__every_one_promised__has_its_name_type_and_labels() -> None:
    for line in PROMISED.strip().splitlines():
        name, kind, *labels = line.split()
        assert golden()[name] == (kind, frozenset(labels))


def test_metrics__beside_those_promised__are_only_those_with_a_reason() -> None:
    promised = {line.split()[0] for line in PROMISED.strip().splitlines()}
    assert set(golden()) == promised | set(BESIDE)


@pytest.mark.parametrize("shown", PAGES, ids=str)
def test_metrics__those_that_documents_name__exist(shown: Page) -> None:
    known = set(golden())
    known |= {f"{name}{part}" for name, (kind, _) in golden().items() if kind == "histogram" for part in OF_HISTOGRAM}
    named = set(re.findall(r"\bsettler_[a-z_]+[a-z]\b(?=[`{}\[ )|,\n])", shown.text)) - NO_METRICS
    assert named <= known


def test_metrics__each__says_what_it_means_as_it_always_did() -> None:
    """Changed on purpose: renew tests/metrics/help.txt with what this shows."""
    exposition = Metrics(FakeClock(START), version="0").exposition().decode()
    said = [line.removeprefix("# HELP ") for line in exposition.splitlines() if line.startswith("# HELP ")]
    assert sorted(said) == (HERE / "help.txt").read_text().splitlines()
    for line in said:
        name, _, help_ = line.partition(" ")
        assert name in golden()
        assert help_.endswith("."), "a sentence"


START = datetime(2026, 1, 1, tzinfo=UTC)
FOREIGN: dict[str, Callable[[Metrics, str], object]] = {
    "method of a call": lambda m, text: ChainCalls(m, chain="base", provider="a.example").on_call(text, "ok", 0.1),
    "outcome of a call": lambda m, text: ChainCalls(m, chain="base", provider="a.example").on_call("eth_call", text, 1),
    "outcome of a tick": lambda m, text: m.tick("watch", "base", text),
    "allocation": lambda m, text: m.transfer("base", "USDC", text),
    "reason of suspense": lambda m, text: m.unmatched({("base", "USDC", text): 1}),
    "outcome of a delivery": lambda m, text: m.delivery(text),
    "status of an invoice": lambda m, text: m.invoices({text: 1}),
    "reason of a hold": lambda m, text: m.holds({text: 1}),
}
"""What nodes, receivers and the database could bring in."""


@pytest.mark.parametrize("what", FOREIGN)
def test_metrics__foreign_text__makes_no_series_but_other(what: str) -> None:
    metrics = Metrics(FakeClock(START), version="0")
    metrics.add_chain("base", providers=["a.example"], tokens={"USDC": 6}, stages=["watch"])
    FOREIGN[what](metrics, "made known")
    before = series(metrics)
    for number in range(10):
        FOREIGN[what](metrics, f'0x{number:040x} {{le="\n"}}')
    assert series(metrics) == before
    assert not any("0x0" in value for labels in before for value in labels)


def series(metrics: Metrics) -> set[tuple[str, ...]]:
    families = text_string_to_metric_families(metrics.exposition().decode())
    return {(s.name, *s.labels.values()) for family in families for s in family.samples}
