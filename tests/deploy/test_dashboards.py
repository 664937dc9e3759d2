"""The dashboards' files: what they are made from, and that each panel can be drawn, read and followed up.

That every query answers something is asked of a real Prometheus in `tests/system/test_dashboards.py`.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Dashboard
from prometheus_client.parser import text_string_to_metric_families

from deploy.grafana.generate.__main__ import RUNBOOK, generated
from deploy.grafana.generate.frame import TAG
from settler.clock import FakeClock
from settler.metrics import Metrics
from tests.deploy.dashboards import DIRECTORY, Board, Panel, boards, filled, names_used, panels, queries
from tests.docs.pages import ROOT, page
from tests.metrics.test_exposition import exercised

GRAFANA = ROOT / "deploy" / "grafana"
OF_PROMETHEUS = {
    "up": {"job", "instance"},
    "scrape_duration_seconds": {"job", "instance"},
    "ALERTS": {"alertname", "alertstate", "severity", "job", "chain"},
}
"""Series that Prometheus makes itself."""
ADDED_BY_SCRAPES = {"job", "instance"}
WIDTH = 24
UNITS = {value for name, value in vars(units).items() if not name.startswith("_") and isinstance(value, str)}
BUILT_IN = {"__rate_interval", "__range", "__all"}
EXAMPLE = {
    "datasource": "prometheus",
    "job": "settler",
    "instance": "a:8080|b:8080",
    "chain": "base|polygon",
    "provider": "one.example|two.example",
    "runbook": RUNBOOK,
    "__rate_interval": "1m",
    "__range": "6h",
}
each_board = pytest.mark.parametrize("board", boards(), ids=str)
each_panel = pytest.mark.parametrize("panel", panels(), ids=str)


def test_generated__now__equals_the_committed_files() -> None:
    """`python -m deploy.grafana.generate` writes them."""
    committed = {path.name: path.read_text() for path in DIRECTORY.iterdir()}
    assert committed == generated()


def test_generated__with_another_runbook__differs_in_its_address_alone() -> None:
    other = generated("https://wiki.example/settler")
    assert {name: text.replace("https://wiki.example/settler", RUNBOOK) for name, text in other.items()} == generated()
    assert other != generated()


@each_board
def test_board__read_by_grafanas_own_types__is_written_the_same(board: Board) -> None:
    """What the types do not know would be dropped on the way. They do not know these fields of Prometheus'."""
    register_default_plugins()
    known = json.loads(json.dumps(board.json))
    for annotation in known["annotations"]["list"]:
        for field in ("step", "tagKeys", "titleFormat", "textFormat"):
            del annotation[field]
    again = json.loads(JSONEncoder().encode(Dashboard.from_json(json.loads(json.dumps(known)))))
    assert again == known


@each_board
def test_board__ids__are_unique_and_panels_fill_lines_without_overlap(board: Board) -> None:
    ids = [p["id"] for p in board.json["panels"]]
    assert sorted(ids) == list(range(1, len(ids) + 1))
    cells = Counter(
        (x, y)
        for p in board.json["panels"]
        for at in [p["gridPos"]]
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    )
    assert max(cells.values()) == 1, "two panels in one place"
    height = 1 + max(y for _, y in cells)
    assert set(cells) == set(itertools.product(range(WIDTH), range(height))), "a hole"


@each_board
def test_board__variables__are_declared_and_used_and_asked_of_the_chosen_source(board: Board) -> None:
    text = json.dumps(board.json)
    assert names_used(text) - BUILT_IN == set(board.variables)
    for variable in board.variables.values():
        if variable["type"] == "query":
            assert variable["datasource"]["uid"] == "${datasource}"
            assert variable["refresh"] == 2, "anew when the time shown changes"


def test_boards__all__are_linked_by_their_tag_and_named_apart() -> None:
    found = boards()
    assert len({b.json["uid"] for b in found}) == len({b.json["title"] for b in found}) == len(found) == 3
    for board in found:
        assert board.json["tags"] == [TAG]
        dashboards, runbook = board.json["links"]
        assert (dashboards["type"], dashboards["tags"], dashboards["includeVars"]) == ("dashboards", [TAG], True)
        assert filled(runbook["url"], EXAMPLE) == RUNBOOK
        assert board.json["timezone"] == "browser"
        assert {a["name"] for a in board.annotations} == {"Reorgs", "Reversals"}


@each_panel
def test_panel__has_what_its_reader_needs(panel: Panel) -> None:
    assert 2 < len(panel.title) <= 40
    assert panel.json["description"].endswith((".", "times"))
    assert len(panel.json["description"]) <= 600
    assert panel.json["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    defaults = panel.json["fieldConfig"]["defaults"]
    assert defaults["unit"] in UNITS
    refs = [target["refId"] for target in panel.targets]
    assert refs and len(set(refs)) == len(refs)
    for target in panel.targets:
        assert target["datasource"] == panel.json["datasource"]
        assert target.get("instant", False) != target.get("range", False)


@each_panel
def test_panel__links__lead_to_headings_of_the_runbook(panel: Panel) -> None:
    anchors = page("runbook.md").anchors
    for link in panel.json.get("links", []):
        address, _, anchor = filled(link["url"], EXAMPLE).partition("#")
        assert (address, anchor in anchors) == (RUNBOOK, True), link["url"]


def test_panels__nearly_all__link_to_the_runbook() -> None:
    without = [panel.title for panel in panels() if not panel.json.get("links")]
    assert len(without) <= 10, without


@pytest.fixture(scope="module")
def labels_of() -> dict[str, set[str]]:
    """By the names of series: the labels that they have when scraped."""
    metrics = Metrics(FakeClock(datetime(2026, 1, 1, tzinfo=UTC)), version="0")
    metrics.add_chain("base", providers=["node.example"], tokens={"USDC": 6}, stages=["watch"])
    metrics.disagreement("base", "node.example")
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(exercised(metrics).exposition().decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels, ADDED_BY_SCRAPES)
    recorded = {
        rule["record"]: {"job", "instance", "chain"}
        for group in _yaml(ROOT / "deploy" / "prometheus" / "rules" / "recording.yaml")["groups"]
        for rule in group["rules"]
        if rule["record"].startswith("settler:")  # the others are of no single worker
    }
    return {**found, **recorded, **OF_PROMETHEUS}


@pytest.mark.parametrize("expr", sorted(set(queries())))
def test_query__parses__and_names_metrics_and_labels_that_there_are(expr: str, labels_of: dict[str, set[str]]) -> None:
    parsed = promql_parser.parse(filled(expr, EXAMPLE))
    selectors = list(_selectors(parsed))
    assert selectors
    for selector in selectors:
        assert selector.name in labels_of, f"no such metric: {selector.name}"
        matched = {matcher.name for matcher in selector.matchers.matchers}
        assert matched <= labels_of[selector.name], f"{selector.name} has no {matched - labels_of[selector.name]}"
    known = set().union(*(labels_of[s.name] for s in selectors if s.name is not None))
    for grouped in re.findall(r"\b(?:by|on) \(([^)]*)\)", expr):
        assert {label.strip() for label in grouped.split(",")} <= known, grouped


@pytest.mark.parametrize("expr", sorted(set(queries())))
def test_query__of_a_worker__is_of_the_chosen_deployment_and_workers(expr: str) -> None:
    for selector in _selectors(promql_parser.parse(filled(expr, EXAMPLE))):
        if selector.name == "ALERTS":
            continue
        chosen = {matcher.name: matcher.value for matcher in selector.matchers.matchers}
        assert chosen["job"] == EXAMPLE["job"]
        assert chosen["instance"] == EXAMPLE["instance"]


@each_panel
def test_panel__legends_and_overrides__name_labels_that_the_query_keeps(panel: Panel) -> None:
    for target in panel.targets:
        for label in re.findall(r"{{(\w+)}}", target.get("legendFormat", "")):
            assert re.search(rf"by \([^)]*\b{label}\b[^)]*\)", target["expr"]), f"{label} is summed away"


def test_variables__query__is_of_metrics_that_there_are(labels_of: dict[str, set[str]]) -> None:
    for board in boards():
        for variable in board.variables.values():
            if variable["type"] == "query":
                asked = re.fullmatch(r"label_values\((.*), (\w+)\)", filled(variable["query"]["query"], EXAMPLE))
                assert asked is not None
                (selector,) = _selectors(promql_parser.parse(asked[1]))
                assert asked[2] in labels_of[str(selector.name)]


def test_provisioning__points_at_the_dashboards_and_the_source_they_name() -> None:
    (source,) = _yaml(GRAFANA / "provisioning" / "datasources" / "prometheus.yaml")["datasources"]
    (provider,) = _yaml(GRAFANA / "provisioning" / "dashboards" / "settler.yaml")["providers"]
    for board in boards():
        assert board.variables["datasource"]["current"]["value"] == source["uid"] == "prometheus"
        assert board.variables["datasource"]["query"] == source["type"] == "prometheus"
    assert source["url"] == "http://prometheus:9090"
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards"


@pytest.mark.parametrize("picture", sorted((ROOT / "docs" / "images").glob("dashboard-*.png")), ids=lambda p: p.stem)
def test_picture__is_small_and_shown(picture: Path) -> None:
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size < 300_000
    assert f"images/{picture.name}" in page("dashboards.md").links


def _yaml(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text())
    return found


def _selectors(node: Any) -> Iterator[promql_parser.VectorSelector]:
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    for name in ("lhs", "rhs", "expr", "args", "vector_selector"):
        below = getattr(node, name, None)
        for each in below if isinstance(below, list) else [below]:
            if each is not None:
                yield from _selectors(each)
