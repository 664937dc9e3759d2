"""The alert rules: each fires when it should and not when it should not, by the same files that promtool runs in `make
test-system`; each leads to a section of the runbook that says what to do.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.deploy.rules import TEST_FILES, alerts, every_case, sources
from tests.support.promql_rules import Rule, cases, failures

RUNBOOK = Path(__file__).parents[2] / "docs" / "runbook.md"
PARTS = ("Means", "Impact", "Look at", "Do")


@pytest.mark.slow
@pytest.mark.parametrize("file", TEST_FILES, ids=lambda file: file.stem)
def test_alerts__test_file__holds(file: Path) -> None:
    found = [failure for case in cases(file) for failure in failures(case)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.name)
def test_alert__has_cases__that_fire_and_that_do_not(alert: Rule) -> None:
    """Not firing for want of data would be no case: the series it reads have to be there."""
    fires, rests = 0, 0
    for case in every_case():
        for check in case.alerts:
            if check["alertname"] == alert.name:
                assert sources(alert.expr) & case.names or alert.expr.startswith("absent("), case.name
                fires += bool(check["exp_alerts"])
                rests += not check["exp_alerts"]
    assert fires and rests, f"{alert.name}: {fires} cases fire, {rests} do not"


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.name)
def test_alert__says__how_urgent_it_is_and_what_is_wrong(alert: Rule) -> None:
    assert re.fullmatch(r"Settler[A-Z]\w+", alert.name)
    assert set(alert.labels) == {"severity"}
    assert alert.labels["severity"] in {"page", "ticket"}
    assert set(alert.annotations) == {"summary", "description", "runbook_url"}
    assert len(alert.annotations["summary"]) <= 100
    assert alert.annotations["description"].endswith((".", "}}"))


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.name)
def test_alert__runbook__has_its_section_with_meaning_impact_checks_and_remedy(alert: Rule) -> None:
    page, _, anchor = alert.annotations["runbook_url"].partition("#")
    assert page == "docs/runbook.md"
    section = sections()[anchor]
    assert f"`{alert.name}`" in section, "the section names its alerts"
    for part in PARTS:
        assert f"**{part}**" in section, f"{anchor} has no {part}"


def test_runbook__alerts_it_names__are_those_there_are() -> None:
    named = set(re.findall(r"`(Settler[A-Z]\w+)`", RUNBOOK.read_text()))
    assert named == {alert.name for alert in alerts()}


def sections() -> dict[str, str]:
    """The runbook's sections by anchor, each with its subsections."""
    found = {}
    text = RUNBOOK.read_text()
    headings = list(re.finditer(r"^(#{2,3}) (.+)$", text, re.MULTILINE))
    for heading in headings:
        rest = [h.start() for h in headings if h.start() > heading.start() and len(h[1]) <= len(heading[1])]
        anchor = re.sub(r"[^\w -]", "", heading[2].lower()).replace(" ", "-")
        found[anchor] = text[heading.end() : min(rest, default=len(text))]
    return found
