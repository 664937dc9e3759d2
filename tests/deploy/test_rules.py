"""What the rules read exists: metrics, labels, outcomes, buckets; and the objectives measure what they promise."""

from __future__ import annotations

import re
from pathlib import Path

import promql_parser as ql
import pytest
import yaml

from chains import registry
from settler.metrics.instruments import LATENCY_BUCKETS_S
from settler.metrics.labels import DELIVERY_OUTCOMES, TICK_OUTCOMES
from tests.deploy.rules import PROMETHEUS, every_rule, sources
from tests.support.promql import NAME, Series, evaluate, labels_of, selectors
from tests.support.promql_rules import Rule

GOLDEN = Path(__file__).parents[1] / "metrics" / "golden.txt"
OF_EXPORTERS = {
    "up": {"job", "instance"},
    "node_filesystem_avail_bytes": {"mountpoint", "fstype"},
    "node_filesystem_size_bytes": {"mountpoint", "fstype"},
    "pg_up": set[str](),
}
LEAST_OBJECTIVE_S = 2.0
"""Of detection: times of blocks are whole seconds, and a head is looked for every half second at most."""


def promised() -> dict[str, set[str]]:
    """Labels by metric; histograms as they are scraped."""
    found = dict(OF_EXPORTERS)
    for line in GOLDEN.read_text().splitlines():
        name, kind, *labels = line.split()
        if kind == "histogram":
            found |= {f"{name}_bucket": {*labels, "le"}, f"{name}_sum": set(labels), f"{name}_count": set(labels)}
        else:
            found[name] = set(labels)
    return found


@pytest.mark.parametrize("rule", every_rule(), ids=lambda rule: rule.name)
def test_rule__metrics_and_labels_it_reads__exist(rule: Rule) -> None:
    known = promised()
    assert sources(rule.expr) <= set(known)
    for selector in selectors(rule.expr):
        assert selector.name is not None
        if selector.name in known:
            for matcher in selector.matchers.matchers:
                assert matcher.name in known[selector.name]
                check_values(selector.name, matcher)
    every_label = {label for labels in known.values() for label in labels} | {"job", "instance", "version"}
    for group in re.findall(r"\b(?:by|on|without) \(([^)]*)\)", rule.expr):
        assert set(group.replace(" ", "").split(",")) <= every_label


def check_values(metric: str, matcher: ql.Matcher) -> None:
    """A word that no series has would never match, or always."""
    words = set(matcher.value.split("|"))
    if matcher.name == "le":
        assert words <= {str(float(bound)) for bound in LATENCY_BUCKETS_S}
    elif metric == "settler_stage_ticks_total":
        assert matcher.name == "outcome"
        assert words <= set(TICK_OUTCOMES)
    elif metric == "settler_webhook_deliveries_total":
        assert words <= set(DELIVERY_OUTCOMES)


@pytest.mark.parametrize("chain", registry.all_chains(), ids=lambda chain: chain.key)
def test_detections_in_time__each_known_chain__by_the_bucket_next_to_two_blocks(chain: registry.ChainFacts) -> None:
    two_blocks = max(LEAST_OBJECTIVE_S, 2 * chain.block_time_s)
    bound = min(bound for bound in LATENCY_BUCKETS_S if bound >= two_blocks)
    assert bound < two_blocks + 1, "finer than the whole seconds of blocks"
    series, labels = Series(), {"job": "settler", "instance": "a", "chain": chain.key}
    series.of(labels_of({NAME: "settler_usual_block_seconds", **labels})).add(0, chain.block_time_s)
    for each in LATENCY_BUCKETS_S:
        name = {NAME: "settler_detection_latency_seconds_bucket", "le": str(float(each))}
        series.of(labels_of({**name, **labels})).add(0, each)
    (rule,) = [rule for rule in every_rule() if rule.name == "settler:detections_in_time:total"]
    assert evaluate(rule.expr, series, 0) == {labels_of(labels): bound}


def test_prometheus__configuration__loads_every_rule_file_and_scrapes_settler() -> None:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    (pattern,) = config["rule_files"]
    assert {file.name for file in PROMETHEUS.glob(pattern)} == {"recording.yaml", "alerts.yaml"}
    (scrape,) = config["scrape_configs"]
    assert scrape["job_name"] == "settler"
    assert "metrics_path" not in scrape, "the default, /metrics"
    (managers,) = config["alerting"]["alertmanagers"]
    assert managers["static_configs"]


def test_rules__names__are_each_of_one_rule() -> None:
    names = [rule.name for rule in every_rule()]
    assert len(names) == len(set(names))
