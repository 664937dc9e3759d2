"""Prometheus' rules and promtool's test files, run as `promtool test rules` runs them, by `tests.support.promql`.

    rules(path)    the groups of a rule file
    Bench          series and rules, ticked on: records, and knows which alerts fire
    failures(path) what a test file says and is not so; [] where all of it holds

A key, a function of a template or a notation that is not known raises: nothing passes because it was not understood.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import promql_parser as ql
import yaml

from tests.support.promql import (
    NAME,
    Labels,
    Series,
    Unknown,
    Vector,
    evaluate,
    is_empty_without_data,
    labels_of,
    names_read,
)

Json = Mapping[str, Any]


# -- rules -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rule:
    """A recording rule, or an alert."""

    group: str
    name: str
    is_alert: bool
    expr: str
    for_s: float
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


@cache
def rules(path: Path) -> Sequence[Rule]:
    """All rules of a file, in its order."""
    found = []
    document = _checked(_load(path), {"groups"})
    for group in document["groups"]:
        _checked(group, {"name", "rules"})
        for rule in group["rules"]:
            _checked(rule, {"record", "alert", "expr", "for", "labels", "annotations"})
            found.append(
                Rule(
                    group=group["name"],
                    name=rule.get("alert") or rule["record"],
                    is_alert="alert" in rule,
                    expr=rule["expr"],
                    for_s=seconds(rule.get("for", "0s")),
                    labels=rule.get("labels", {}),
                    annotations=rule.get("annotations", {}),
                )
            )
    return found


def seconds(duration: str | int) -> float:
    # the parser takes no zero
    return 0.0 if re.fullmatch(r"0[smhd]?", str(duration)) else ql.parse_duration(str(duration)).total_seconds()


# -- alerts ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Firing:
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


@dataclass
class _Active:
    since: float
    value: float
    labels: Labels
    """Of the sample, without its name: what templates see."""
    is_firing: bool = False


@dataclass
class Bench:
    """Rules over series. `tick` evaluates all of them at one time, in their groups' order."""

    rules: Sequence[Rule]
    series: Series = field(default_factory=Series)
    _recorded: dict[int, set[Labels]] = field(default_factory=dict)
    _active: dict[int, dict[Labels, _Active]] = field(default_factory=dict)

    def tick(self, at: float) -> None:
        for number, rule in enumerate(self.rules):
            vector = self._evaluated(rule, at)
            if rule.is_alert:
                self._alert(number, rule, vector, at)
            else:
                self._record(number, rule, vector, at)

    def firing(self, alert: str) -> list[Firing]:
        known = [(number, rule) for number, rule in enumerate(self.rules) if rule.is_alert and rule.name == alert]
        if not known:
            raise Unknown(f"alert {alert}")
        return [
            Firing(dict(labels), {name: rendered(text, active) for name, text in rule.annotations.items()})
            for number, rule in known
            for labels, active in self._active.get(number, {}).items()
            if active.is_firing
        ]

    def _evaluated(self, rule: Rule, at: float) -> Mapping[Labels, float]:
        if is_empty_without_data(rule.expr) and not any(self.series.named(name) for name in names_read(rule.expr)):
            return {}
        value = evaluate(rule.expr, self.series, at)
        if not isinstance(value, dict):
            raise Unknown(f"{rule.name} is a scalar")
        return value

    def _record(self, number: int, rule: Rule, vector: Mapping[Labels, float], at: float) -> None:
        now = {labels_of({**dict(labels), **rule.labels, NAME: rule.name}): v for labels, v in vector.items()}
        assert len(now) == len(vector), f"{rule.name}: two elements with the same labels"
        for labels, value in now.items():
            self.series.of(labels).add(at, value)
        for labels in self._recorded.get(number, set()) - set(now):
            self.series.of(labels).add(at, None)
        self._recorded[number] = set(now)

    def _alert(self, number: int, rule: Rule, vector: Mapping[Labels, float], at: float) -> None:
        before, now = self._active.get(number, {}), {}
        for labels, value in vector.items():
            seen = labels_of({name: text for name, text in labels if name != NAME})
            of_alert = labels_of({**dict(seen), **rule.labels, "alertname": rule.name})
            assert of_alert not in now, f"{rule.name}: two elements with the same labels"
            active = before.get(of_alert) or _Active(since=at, value=value, labels=seen)
            active.value = value
            active.is_firing = active.is_firing or at - active.since >= rule.for_s
            now[of_alert] = active
        self._active[number] = now


# -- templates ---------------------------------------------------------------------------------------------------------


_HOLE = re.compile(r"\{\{\s*(.*?)\s*\}\}")


def rendered(template: str, active: _Active) -> str:
    return _HOLE.sub(lambda hole: _filled(hole[1], active), template)


def _filled(action: str, active: _Active) -> str:
    if label := re.fullmatch(r"\$labels\.(\w+)", action):
        return dict(active.labels).get(label[1], "")
    match action:
        case "$value":
            return _plain(active.value)
        case "$value | humanizeDuration":
            return humanized_duration(active.value)
        case "$value | humanizePercentage":
            return f"{active.value * 100:.4g}%"
        case 'printf "%.0f" $value':
            return f"{active.value:.0f}"
        case _:
            raise Unknown(f"template {{{{ {action} }}}}")


def _plain(value: float) -> str:
    """Go's %v."""
    if math.isfinite(value) and value == int(value) and abs(value) < 1e21:
        return str(int(value))
    shortest = repr(value)
    if "e" in shortest:
        raise Unknown(f"how Go would write {value!r}")
    return shortest


def humanized_duration(value: float) -> str:
    """template/template.go, humanizeDuration, from a second up."""
    if value == 0:
        return "0s"
    if not math.isfinite(value) or abs(value) < 1:
        raise Unknown(f"humanizeDuration of {value!r}")
    sign, value = ("-", -value) if value < 0 else ("", value)
    whole = int(value)
    days, hours, minutes, rest = whole // 86_400, whole // 3_600 % 24, whole // 60 % 60, whole % 60
    if days:
        return f"{sign}{days}d {hours}h {minutes}m {rest}s"
    if hours:
        return f"{sign}{hours}h {minutes}m {rest}s"
    if minutes:
        return f"{sign}{minutes}m {rest}s"
    return f"{sign}{value:.4g}s"


# -- test files --------------------------------------------------------------------------------------------------------


_TOKEN = re.compile(
    r"(?P<gap>_)(?:x(?P<gaps>\d+))?|(?P<stale>stale)|(?P<first>-?[\d.]+(?:e[+-]?\d+)?)(?P<step>[+-][\d.]+)?(?:x(?P<times>\d+))?"
)


def samples(notation: str) -> Iterator[float | str | None]:
    """promtool's `0+10x3 _ stale`: values, `None` for a marker, `_` for nothing."""
    for token in notation.split():
        found = _TOKEN.fullmatch(token)
        if found is None:
            raise Unknown(f"series notation {token!r}")
        if found["gap"]:
            yield from ["_"] * int(found["gaps"] or 1)
        elif found["stale"]:
            yield None
        elif found["times"] is None and found["step"] is not None:
            raise Unknown(f"series notation {token!r}")
        else:
            value, step = float(found["first"]), float(found["step"] or 0)
            for _ in range(int(found["times"] or 0) + 1):
                yield value
                value += step


@dataclass(frozen=True)
class Case:
    """One entry of a test file's `tests`."""

    file: Path
    name: str
    rules: Sequence[Rule]
    every_s: float
    """Between two evaluations."""
    document: Json

    def bench(self) -> Bench:
        """Its series, and no rule evaluated yet."""
        bench = Bench(self.rules)
        step = seconds(self.document["interval"])
        for given in self.document["input_series"]:
            series = bench.series.of(_labels(given["series"]))
            for number, value in enumerate(samples(str(given["values"]))):
                if value != "_":
                    assert not isinstance(value, str)
                    series.add(number * step, value)
        return bench

    @property
    def names(self) -> frozenset[str]:
        """The metrics it gives."""
        return frozenset(dict(_labels(given["series"]))[NAME] for given in self.document["input_series"])

    @property
    def alerts(self) -> Sequence[Json]:
        checks: Sequence[Json] = self.document.get("alert_rule_test", [])
        return checks

    def ticked(self, bench: Bench, until: float) -> Iterator[float]:
        """Evaluates all rules again and again; yields each time when that is done."""
        for number in range(math.floor(until / self.every_s) + 1):
            bench.tick(number * self.every_s)
            yield number * self.every_s


def cases(path: Path) -> list[Case]:
    document = _checked(_load(path), {"rule_files", "evaluation_interval", "group_eval_order", "tests"})
    found = [rule for name in document["rule_files"] for rule in rules((path.parent / name).resolve())]
    order = document["group_eval_order"]
    if unordered := {rule.group for rule in found} - set(order):
        # promtool would evaluate them beside the first group, in any order
        raise Unknown(f"{path.name}: group_eval_order leaves out {sorted(unordered)}")
    found.sort(key=lambda rule: order.index(rule.group))
    every_s = seconds(document["evaluation_interval"])
    return [Case(path, _checked(test, _OF_TEST)["name"], found, every_s, test) for test in document["tests"]]


_OF_TEST = {"name", "interval", "input_series", "alert_rule_test", "promql_expr_test"}


def failures(case: Case) -> list[str]:
    """What the case expects and is not so."""
    bench = case.bench()
    alerts = [
        (seconds(each["eval_time"]), _checked(each, {"eval_time", "alertname", "exp_alerts"})) for each in case.alerts
    ]
    exprs = [
        (seconds(each["eval_time"]), _checked(each, {"eval_time", "expr", "exp_samples"}))
        for each in case.document.get("promql_expr_test", [])
    ]
    found: list[str] = []
    for at in case.ticked(bench, max(time for time, _ in [*alerts, *exprs])):
        for time, check in alerts:
            if at <= time < at + case.every_s:
                found += _alert_failures(case, bench, time, check)
    for time, check in exprs:
        found += _expr_failures(case, bench, time, check)
    return found


def _alert_failures(case: Case, bench: Bench, time: float, check: Json) -> list[str]:
    name = check["alertname"]
    expected = [
        Firing(
            {**_checked(e, {"exp_labels", "exp_annotations"}).get("exp_labels", {}), "alertname": name},
            e.get("exp_annotations", {}),
        )
        for e in check.get("exp_alerts") or []
    ]
    fired = bench.firing(name)
    if _sorted(fired) == _sorted(expected):
        return []
    return [
        f"{case.file.name}: {case.name}: {name} at {time:.0f} s\n"
        f"  expected {_sorted(expected)}\n  fires    {_sorted(fired)}"
    ]


def _expr_failures(case: Case, bench: Bench, time: float, check: Json) -> list[str]:
    value = evaluate(check["expr"], bench.series, time)
    found: Vector = value if isinstance(value, dict) else {(): value}
    expected = {_labels(e["labels"]): float(e["value"]) for e in check.get("exp_samples") or []}
    if found.keys() == expected.keys() and all(_is_equal(found[key], expected[key]) for key in found):
        return []
    return [
        f"{case.file.name}: {case.name}: {check['expr']} at {time:.0f} s\n  expected {expected}\n  found    {found}"
    ]


def _is_equal(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=1e-12)


def _sorted(firing: Sequence[Firing]) -> list[tuple[list[tuple[str, str]], list[tuple[str, str]]]]:
    return sorted((sorted(each.labels.items()), sorted(each.annotations.items())) for each in firing)


def _labels(selector: str) -> Labels:
    """Of a series as it is written: `name{label="value"}`, or `{label="value"}`."""
    if selector == "{}":
        return ()
    parsed = ql.parse(selector)
    if not isinstance(parsed, ql.VectorSelector) or any(m.op != ql.MatchOp.Equal for m in parsed.matchers.matchers):
        raise Unknown(f"series {selector}")
    name = {} if parsed.name is None else {NAME: parsed.name}
    return labels_of(name | {m.name: m.value for m in parsed.matchers.matchers})


def _load(path: Path) -> Any:
    # libyaml where PyYAML has it: ten times as fast
    return yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _checked(document: Json, known: set[str]) -> Any:
    if unknown := set(document) - known:
        raise Unknown(f"keys {sorted(unknown)}")
    return document
