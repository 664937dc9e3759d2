"""The small evaluator of PromQL that the rules are tested with: what it promises, and what it refuses.

`make test-system` holds it against the real promtool as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.promql import NAME, Ambiguous, Series, Unknown, Value, evaluate, labels_of
from tests.support.promql_rules import Bench, Rule, cases, failures, humanized_duration, rules, samples

MINUTE = 60.0


def given(**values: str) -> Series:
    """Series by name, `__` before each label's value: `up__a="0+1x3"` is `up{l="a"}`, a sample a minute."""
    series = Series()
    for written, notation in values.items():
        name, _, label = written.partition("__")
        target = series.of(labels_of({NAME: name, "l": label}))
        for number, value in enumerate(samples(notation)):
            if value != "_":
                assert not isinstance(value, str)
                target.add(number * MINUTE, value)
    return series


def values(value: Value) -> dict[str, float]:
    """By label `l`."""
    assert isinstance(value, dict)
    return {dict(labels).get("l", ""): number for labels, number in value.items()}


def test_selector__a_gap__is_bridged_for_five_minutes_and_no_longer() -> None:
    series = given(a__x="1 _x9")
    assert values(evaluate("a", series, 5 * MINUTE)) == {"x": 1}
    assert values(evaluate("a", series, 5 * MINUTE + 1)) == {}


def test_selector__a_stale_marker__ends_it_at_once() -> None:
    series = given(a__x="1 stale")
    assert values(evaluate("a", series, 59)) == {"x": 1}
    assert values(evaluate("a", series, 60)) == {}


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        ('a{l="x"}', {"x": 1}),
        ('a{l!="x"}', {"y": 2, "": 3}),
        ('a{l=~"x|z"}', {"x": 1}),
        ('a{l!~"x|y"}', {"": 3}),
        ('a{l=""}', {"": 3}),
        ("a > 1", {"y": 2, "": 3}),
        ("2 < a", {"": 3}),
        ("a * 2 - 1", {"x": 1, "y": 3, "": 5}),
        ("-a", {"x": -1, "y": -2, "": -3}),
        ("a and b", {"y": 2}),
        ("a unless b", {"x": 1, "": 3}),
        ("b or a", {"y": 5, "z": 6, "x": 1, "": 3}),
        ("a and on () b", {"x": 1, "y": 2, "": 3}),
        ("a / b", {"y": 0.4}),
        ("b > a", {"y": 5}),
        ("sum(a)", {"": 6}),
        ("max by (l) (a)", {"x": 1, "y": 2, "": 3}),
        ("min without (l) (b)", {"": 5}),
        ("count(a > 1)", {"": 2}),
        ("10 ^ (b - 5)", {"y": 1, "z": 10}),
        ("a or b > 5 and b < 6", {"x": 1, "y": 2, "": 3}),
        ("absent(a)", {}),
        ("absent(c)", {"": 1}),
        ("a / 0", {"x": math.inf, "y": math.inf, "": math.inf}),
    ],
)
def test_evaluate__operators__are_those_of_prometheus(expr: str, expected: Mapping[str, float]) -> None:
    series = given(a__x="1", a__y="2", a="3", b__y="5", b__z="6")
    assert values(evaluate(expr, series, 0)) == expected


@pytest.mark.parametrize(
    ("expr", "at", "expected"),
    [
        ("increase(a[5m])", 10, 5.0),
        ("rate(a[5m])", 10, 5 / 300),
        ("increase(a[5m])", 2, 2.0),  # not below zero, where the counter began
        ("increase(c[5m])", 6, 5.0),  # a counter that began anew: 3 to 4, then 0 to 4
        ("delta(g[10m])", 10, -5.0),
        ("max_over_time(g[10m])", 10, 9.0),
        ("min_over_time(g[2m])", 10, 2.0),
        ("increase(a[5m] offset 5m)", 10, 5.0),
    ],
)
def test_evaluate__ranges__are_extrapolated_as_prometheus_does(expr: str, at: int, expected: float) -> None:
    series = given(a__x="0+1x10", c__x="2 3 4 0 1 2 4", g__x="7 9 8 7 6 5 4 3 2 2 2")
    ((_, found),) = values(evaluate(expr, series, at * MINUTE)).items()
    assert found == pytest.approx(expected)


def test_evaluate__a_single_sample__has_no_rate() -> None:
    assert values(evaluate("rate(a[5m])", given(a__x="7"), 0)) == {}


@pytest.mark.parametrize(
    "expr",
    [
        "histogram_quantile(0.9, a)",
        "a > bool 1",
        "a * on (l) group_left (m) b",
        "a * on () group_left () b",
        "a[5m:1m]",
        "a @ 5",
        '{__name__="a"}',
        "topk(3, a)",
        "quantile(0.5, a)",
        "changes(a[5m])",
        "rate(a[5m:1m])",
        'absent(a{l="x"})',
        "a % 2",
        "sum(1)",
        "1 > 2",
    ],
)
def test_evaluate__what_it_does_not_know__raises(expr: str) -> None:
    with pytest.raises((Unknown, ValueError)):
        evaluate(expr, given(a__x="1", b__x="2"), 0)


@pytest.mark.parametrize("expr", ["a + on () a", "a + on () b", "-{a}"])
def test_evaluate__labels_that_match_twice__raise(expr: str) -> None:
    with pytest.raises((Ambiguous, ValueError)):
        evaluate(expr, given(a__x="1", a__y="2", b__x="1", b__y="2"), 0)


@pytest.mark.parametrize(
    ("notation", "expected"),
    [
        ("1 2 3", [1, 2, 3]),
        ("0+10x3", [0, 10, 20, 30]),
        ("5-1x2 _ stale", [5, 4, 3, "_", None]),
        ("7x2 _x2 1", [7, 7, 7, "_", "_", 1]),
        ("12e9x1", [12e9, 12e9]),
    ],
)
def test_samples__promtools_notation__is_read(notation: str, expected: list[float | str | None]) -> None:
    assert list(samples(notation)) == expected


@pytest.mark.parametrize("notation", ["1+2", "x3", "a", "1x-1", "{{schema:1}}"])
def test_samples__another_notation__raises(notation: str) -> None:
    with pytest.raises(Unknown):
        list(samples(notation))


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0s"), (1.5, "1.5s"), (59.99, "59.99s"), (60, "1m 0s"), (3660, "1h 1m 0s"), (90061, "1d 1h 1m 1s")],
)
def test_humanized_duration__as_templates_write_it(value: float, expected: str) -> None:
    assert humanized_duration(value) == expected


def alert(expr: str, *, for_s: float = 0.0, **annotations: str) -> Rule:
    return Rule("g", "A", is_alert=True, expr=expr, for_s=for_s, labels={"severity": "page"}, annotations=annotations)


def fires_at(rule: Rule, series: Series, minutes: int) -> list[int]:
    bench = Bench([rule], series)
    found = []
    for minute in range(minutes):
        bench.tick(minute * MINUTE)
        found += [minute] if bench.firing("A") else []
    return found


def test_alert__for__counts_from_when_it_began_to_hold() -> None:
    assert fires_at(alert("a > 0", for_s=120), given(a__x="0 1 1 1 1 0 1 1 1 1"), 10) == [3, 4, 8, 9]


def test_alert__fires__with_its_labels_and_what_its_templates_say() -> None:
    rule = alert("a > 0", text='{{ $labels.l }} {{$labels.none}}| {{ $value }} {{ printf "%.0f" $value }}')
    bench = Bench([rule], given(a__x="2.5"))
    bench.tick(0)
    (fired,) = bench.firing("A")
    assert fired.labels == {"alertname": "A", "severity": "page", "l": "x"}
    assert fired.annotations == {"text": "x | 2.5 2"}


@pytest.mark.parametrize("text", ["{{ $value | humanize }}", "{{ query `up` }}", "{{ if true }}x{{ end }}"])
def test_alert__a_template_it_does_not_know__raises(text: str) -> None:
    bench = Bench([alert("a > 0", text=text)], given(a__x="1"))
    bench.tick(0)
    with pytest.raises(Unknown):
        bench.firing("A")


def test_record__a_result_that_ends__is_stale_at_once() -> None:
    rule = Rule("g", "a:b", is_alert=False, expr="a > 0", for_s=0, labels={}, annotations={})
    bench = Bench([rule], given(a__x="1 1 0"))
    seen = []
    for minute in range(3):
        bench.tick(minute * MINUTE)
        seen.append(values(evaluate("a:b", bench.series, minute * MINUTE)))
    assert seen == [{"x": 1}, {"x": 1}, {}]


RULES = """
groups:
  - name: g
    rules:
      - alert: A
        expr: a > 1
        annotations: {summary: high}
"""
TESTS = """
rule_files: [rules.yaml]
evaluation_interval: 1m
group_eval_order: [g]
tests:
  - name: one
    interval: 1m
    input_series:
      - series: 'a{l="x"}'
        values: '1 2'
    alert_rule_test:
      - eval_time: EVAL
        alertname: NAME
        exp_alerts:
          - exp_labels: {l: x}
            exp_annotations: {summary: high}
    promql_expr_test:
      - eval_time: 1m
        expr: a
        exp_samples:
          - labels: 'a{l="x"}'
            value: VALUE
"""


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"EVAL": "0m"}, ["A at 0 s"]),
        ({"VALUE": "3"}, ["a at 60 s"]),
        ({"high": "low"}, ["A at 60 s"]),
    ],
    ids=["right", "too early", "another value", "another text"],
)
def test_failures__test_file__is_told_what_is_not_so(
    tmp_path: Path, changes: Mapping[str, str], expected: list[str]
) -> None:
    (case,) = cases(written(tmp_path, TESTS, changes))
    found = failures(case)
    assert len(found) == len(expected)
    assert all(text in failure for text, failure in zip(expected, found, strict=True))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("group_eval_order: [g]", "group_eval_order: []"),
        ("NAME", "B"),
        ("interval: 1m\n    input", "interval: 1m\n    external_labels: {a: b}\n    input"),
        ("exp_labels", "labels"),
        ("eval_time: EVAL", "eval_time: EVAL\n        for: 5m"),
    ],
)
def test_failures__what_a_test_file_may_not_say__raises(tmp_path: Path, before: str, after: str) -> None:
    assert before in TESTS
    with pytest.raises(Unknown):
        [failures(case) for case in cases(written(tmp_path, TESTS.replace(before, after), {}))]


def test_rules__a_key_that_is_not_known__raises(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(RULES.replace("expr: a > 1", "expr: a > 1\n        keep_firing_for: 5m"))
    with pytest.raises(Unknown):
        rules(path)


def written(folder: Path, tests: str, changes: Mapping[str, str]) -> Path:
    (folder / "rules.yaml").write_text(RULES)
    for name, value in {"EVAL": "1m", "NAME": "A", "VALUE": "2", **changes}.items():
        tests = tests.replace(name, value)
    path = folder / "tests.yaml"
    path.write_text(tests)
    return path
