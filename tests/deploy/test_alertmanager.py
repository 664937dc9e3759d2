"""The Alertmanager example: who is told of which alert, and which alert keeps which other quiet."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.rules import alerts

CONFIG = yaml.safe_load(
    (Path(__file__).parents[2] / "deploy" / "alertmanager" / "alertmanager.yml").read_text(),
)
NEVER_QUIET = {"SettlerChainHalted", "SettlerSettlementReversed", "SettlerReconciliationBreaks", "SettlerSuspenseValue"}
"""Money is lost or stuck: only a settler that is gone altogether hides them."""


def matches(matchers: Sequence[str], labels: Mapping[str, str]) -> bool:
    """As Alertmanager reads `name = value`, `!=`, `=~`, `!~`."""
    for matcher in matchers:
        found = re.fullmatch(r'(\w+) (=~|!~|!=|=) "?(.*?)"?', matcher)
        assert found is not None, matcher
        name, sign, value = found.groups()
        has = labels.get(name, "")
        holds = re.fullmatch(value, has) is not None if sign.endswith("~") else has == value
        if holds == sign.startswith("!"):
            return False
    return True


def receiver(labels: Mapping[str, str]) -> str:
    """The first route that takes it, as there is no `continue`."""
    taking: list[dict[str, Any]] = [route for route in CONFIG["route"]["routes"] if matches(route["matchers"], labels)]
    return str(taking[0]["receiver"] if taking else CONFIG["route"]["receiver"])


def quieted_by(source: str) -> set[str]:
    """The alerts that one keeps quiet."""
    found = set()
    for rule in CONFIG["inhibit_rules"]:
        if matches(rule["source_matchers"], {"alertname": source}):
            names = {alert.name for alert in alerts()}
            found |= {name for name in names if matches(rule["target_matchers"], {"alertname": name})}
    return found


@pytest.mark.parametrize(("severity", "expected"), [("page", "pager"), ("ticket", "tickets"), ("other", "tickets")])
def test_route__by_severity(severity: str, expected: str) -> None:
    assert receiver({"severity": severity, "alertname": "SettlerBug"}) == expected
    assert expected in {each["name"] for each in CONFIG["receivers"]}


def test_route__groups__by_settler_and_chain() -> None:
    assert CONFIG["route"]["group_by"] == ["job", "chain"]


def test_inhibition__a_settler_that_is_down__speaks_alone() -> None:
    assert quieted_by("SettlerDown") == {alert.name for alert in alerts()} - {"SettlerDown"}


def test_inhibition__alerts_of_lost_money__are_kept_quiet_by_nothing_else() -> None:
    for alert in alerts():
        if alert.name != "SettlerDown":
            assert not quieted_by(alert.name) & NEVER_QUIET, alert.name


def test_inhibition__a_halted_chain__keeps_its_consequences_quiet() -> None:
    quiet = quieted_by("SettlerChainHalted")
    assert {"SettlerSettlementsStalled", "SettlerSettlementBudgetBurnsFast"} <= quiet
    assert not quiet & {"SettlerChainLag", "SettlerHeadStale", "SettlerDatabaseAway"}, "it is still read"


def test_inhibition__every_name__is_of_an_alert() -> None:
    names = [alert.name for alert in alerts()]
    for rule in CONFIG["inhibit_rules"]:
        for matcher in (*rule["source_matchers"], *rule["target_matchers"]):
            name, _, pattern = matcher.partition(" ")
            assert name == "alertname"
            for word in words(pattern.lstrip("!=~ ").strip('"')):
                assert any(re.fullmatch(word, each) for each in names), f"{word} is no alert"


def words(pattern: str) -> list[str]:
    """`Settler(A|B.*)` is `SettlerA` and `SettlerB.*`."""
    found = re.fullmatch(r"(\w+)\((.*)\)", pattern)
    return [pattern] if found is None else [found[1] + part for part in found[2].split("|")]


def test_inhibition__none_is_of_another_chain() -> None:
    for rule in CONFIG["inhibit_rules"]:
        down = rule["source_matchers"] == ["alertname = SettlerDown"]
        assert down or "job" in rule["equal"], rule
