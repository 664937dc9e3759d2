"""The rules that are shipped, for the tests of them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from tests.support.promql import names_read
from tests.support.promql_rules import Case, Rule, cases, rules

PROMETHEUS = Path(__file__).parents[2] / "deploy" / "prometheus"
TEST_FILES = sorted((PROMETHEUS / "tests").glob("*.yaml"))


@cache
def every_rule() -> tuple[Rule, ...]:
    return tuple(rule for file in sorted((PROMETHEUS / "rules").glob("*.yaml")) for rule in rules(file))


def alerts() -> list[Rule]:
    return [rule for rule in every_rule() if rule.is_alert]


@cache
def every_case() -> tuple[Case, ...]:
    return tuple(case for file in TEST_FILES for case in cases(file))


@cache
def sources(expr: str) -> frozenset[str]:
    """The metrics an expression reads, through what is recorded of them."""
    recorded = {rule.name: rule.expr for rule in every_rule() if not rule.is_alert}
    found: set[str] = set()
    for name in names_read(expr):
        found |= sources(recorded[name]) if name in recorded else {name}
    return frozenset(found)
