"""The rules and their tests by the real promtool and amtool; and the small evaluator that stands in for it elsewhere
(`tests.support.promql`) held against it: each rule's expression over each test's series, value by value.
"""

from __future__ import annotations

import math
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.rules import PROMETHEUS, TEST_FILES, every_rule
from tests.support.promql import NAME, Labels, Value, evaluate, names_read
from tests.support.promql_rules import Case, cases, seconds

pytestmark = pytest.mark.system

MOMENTS = 4
"""Times at which the values of a case are compared, spread over it."""


def ran(*command: str | Path) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_promtool__rules__are_sound() -> None:
    said = ran("promtool", "check", "rules", *sorted((PROMETHEUS / "rules").glob("*.yaml")))
    assert said.count("SUCCESS") == 2
    assert "WARNING" not in said.upper()


def test_promtool__configuration__is_sound_and_loads_the_rules() -> None:
    assert "2 rule files found" in ran("promtool", "check", "config", PROMETHEUS / "prometheus.yml")


@pytest.mark.parametrize("file", TEST_FILES, ids=lambda file: file.stem)
def test_promtool__test_file__holds(file: Path) -> None:
    assert "SUCCESS" in ran("promtool", "test", "rules", file)


def test_amtool__alertmanager_example__is_sound() -> None:
    config = PROMETHEUS.parent / "alertmanager" / "alertmanager.yml"
    said = ran("amtool", "check-config", config)
    assert "SUCCESS" in said
    assert "2 receivers" in said
    for severity, receiver in (("page", "pager"), ("ticket", "tickets")):
        given = [f"severity={severity}", "alertname=SettlerChainLag", "job=settler", "chain=base"]
        assert ran("amtool", "config", "routes", "test", f"--config.file={config}", *given).splitlines()[0] == receiver


@pytest.mark.parametrize("file", TEST_FILES, ids=lambda file: file.stem)
def test_evaluator__each_expression_over_each_case__has_promtools_values(file: Path, tmp_path: Path) -> None:
    asked = [compared(case) for case in cases(file)]
    assert sum(len(test["promql_expr_test"]) for test in asked) >= 10, "there is something to compare"
    document = yaml.safe_load(file.read_text()) | {"tests": asked}
    document["rule_files"] = [str((file.parent / name).resolve()) for name in document["rule_files"]]
    path = tmp_path / file.name
    path.write_text(yaml.safe_dump(document, width=10_000))
    assert "SUCCESS" in ran("promtool", "test", "rules", path)


def test_evaluator__a_wrong_value__is_seen_by_promtool(tmp_path: Path) -> None:
    """The comparison can fail."""
    test = compared(cases(TEST_FILES[0])[0])
    sample = next(each for each in test["promql_expr_test"] if each["exp_samples"])["exp_samples"][0]
    sample["value"] = float(sample["value"]) + 1
    document = yaml.safe_load(TEST_FILES[0].read_text()) | {"tests": [test]}
    document["rule_files"] = [str((TEST_FILES[0].parent / name).resolve()) for name in document["rule_files"]]
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(document, width=10_000))
    with pytest.raises(AssertionError, match="FAILED"):
        ran("promtool", "test", "rules", path)


def compared(case: Case) -> dict[str, Any]:
    """The case's series, and as promtool's expectations what the evaluator makes of every rule that finds any."""
    last = max(seconds(check["eval_time"]) for check in [*case.alerts, *case.document.get("promql_expr_test", [])])
    bench = case.bench()
    times = list(case.ticked(bench, last))
    moments = sorted({times[round(part * (len(times) - 1) / (MOMENTS - 1))] for part in range(MOMENTS)})
    asked = [
        check
        for rule in every_rule()
        if any(bench.series.named(name) for name in names_read(rule.expr))
        for moment in moments
        for check in checks(rule.expr, evaluate(rule.expr, bench.series, moment), moment)
    ]
    keep = {key: case.document[key] for key in ("name", "interval", "input_series")}
    return keep | {"promql_expr_test": asked}


def checks(expr: str, value: Value, moment: float) -> list[dict[str, Any]]:
    """promtool takes no NaN for another: what is none is told from what is by comparing the expression with itself."""
    assert isinstance(value, dict)
    time = f"{moment:.0f}s"
    sound = [{"labels": written(labels), "value": number} for labels, number in value.items() if not math.isnan(number)]
    if len(sound) == len(value):
        return [{"expr": expr, "eval_time": time, "exp_samples": sound}]
    none = [{"labels": "{}", "value": len(value) - len(sound)}]
    return [
        {"expr": f"({expr}) == ({expr})", "eval_time": time, "exp_samples": sound},
        {"expr": f"count(({expr}) != ({expr}))", "eval_time": time, "exp_samples": none},
    ]


def written(labels: Labels) -> str:
    inner = ", ".join(f'{name}="{text}"' for name, text in labels if name != NAME)
    return f"{dict(labels).get(NAME, '')}{{{inner}}}"
