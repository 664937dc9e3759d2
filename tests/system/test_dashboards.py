"""Every query of the dashboards, asked of a real Prometheus that scraped real daemons through a busy time."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.deploy.dashboards import Panel, boards, filled
from tests.support.daemon import show
from tests.system.busy import PROVIDERS, RULES, WORKERS, Busy, busy_time
from tests.system.prometheus import JOB, Series

pytestmark = pytest.mark.system

STEP_S = 2
RATE_WINDOW = "15s"
"""As Grafana would choose it for scrapes every second, with room for a busy machine."""
AT_ZERO = {"Bugs per hour", "Is money flowing?"}
"""What nothing here may cause, and what is well in the end. All other panels show more than zeros."""
WELL, STALLED = 0, 8


@pytest.mark.timeout(400)
async def test_panels_annotations_and_variables__after_a_busy_time__all_show_something(tmp_path: Path) -> None:
    async with busy_time(tmp_path, rules=RULES) as busy:
        await busy.play()
        missing = [fault for board in boards() for panel in board.panels for fault in await _faults(busy, panel)]
        missing += await _faults_of_variables(busy)
        missing += await _faults_of_annotations(busy)
        verdicts = await _verdicts(busy)
        asked = sum(len(panel.targets) for board in boards() for panel in board.panels)
        show(
            f"{asked} queries of {sum(len(b.panels) for b in boards())} panels; {busy.ended_at - busy.started_at:.0f} s"
        )
        assert not missing, "\n".join(missing)
        assert {WELL, STALLED} <= verdicts, "beta was halted for a while"


async def _faults(busy: Busy, panel: Panel) -> list[str]:
    """What is wrong with the answers to the panel's queries."""
    found = []
    values: list[float] = []
    for target in panel.targets:
        expr = filled(target["expr"], _values(busy))
        if target.get("instant"):
            series = await busy.prometheus.now(expr)
        else:
            series = await busy.prometheus.over(expr, start=busy.started_at, end=busy.ended_at, step_s=STEP_S)
        if not any(one.values for one in series):
            found.append(f"{panel}: {target['refId']} answers nothing: {expr}")
        named = re.findall(r"{{(\w+)}}", target.get("legendFormat", ""))
        found += [
            f"{panel}: {target['refId']} has series without {label}"
            for label in named
            if not all(one.labels.get(label) for one in series)
        ]
        values += [value for one in series for value in one.values]
    if values and not any(values) and panel.title not in AT_ZERO:
        found.append(f"{panel}: nothing but zeros")
    return found


async def _verdicts(busy: Busy) -> set[float]:
    """What the first panel said in the course of time."""
    (panel,) = (p for board in boards() for p in board.panels if p.title == "Is money flowing?")
    (target,) = panel.targets
    (series,) = await busy.prometheus.over(
        filled(target["expr"], _values(busy)), start=busy.started_at, end=busy.ended_at, step_s=STEP_S
    )
    return set(series.values)


async def _faults_of_variables(busy: Busy) -> list[str]:
    expected = {
        "job": [JOB],
        "instance": list(WORKERS),
        "chain": ["anvil", "beta"],
        "provider": sorted({*PROVIDERS.values()}),
    }
    found = []
    for board in boards():
        for name, variable in board.variables.items():
            if variable["type"] != "query":
                continue
            asked = re.fullmatch(r"label_values\((.*), (\w+)\)", filled(variable["query"]["query"], _values(busy)))
            assert asked is not None
            answer = await busy.prometheus.label_values(asked[2], asked[1], start=busy.started_at, end=busy.ended_at)
            if sorted(answer) != expected[name]:
                found.append(f"{board}: ${name} offers {answer}")
    return found


async def _faults_of_annotations(busy: Busy) -> list[str]:
    found = []
    for board in boards():
        for annotation in board.annotations:
            step_s = int(annotation["step"].removesuffix("s"))
            series: list[Series] = await busy.prometheus.over(
                filled(annotation["expr"], _values(busy)), start=busy.started_at, end=busy.ended_at, step_s=step_s
            )
            if not any(one.values for one in series) or not all(one.labels.get("chain") for one in series):
                found.append(f"{board}: {annotation['name']} marks nothing")
    return found


def _values(busy: Busy) -> dict[str, str]:
    """As Grafana fills them in where all is chosen, over the time of the load."""
    return {
        "job": JOB,
        "instance": "|".join(WORKERS),
        "chain": "anvil|beta",
        "provider": "|".join(re.escape(name) for name in PROVIDERS.values()).replace("\\", "\\\\"),
        "__rate_interval": RATE_WINDOW,
        "__range": f"{int(busy.ended_at - busy.started_at)}s",
    }
