"""PromQL as far as deploy/prometheus uses it, evaluated as Prometheus 2.42 does, where there is no Prometheus.

Reads the syntax tree of `promql_parser`. Whatever it does not know (a function, a modifier, an operator, labels that
match twice) raises `Unknown` or `Ambiguous`: a rule passes here only if it was evaluated. `make test-system` holds it
against the real promtool, value by value (tests/system/test_promtool.py).

    Series        samples in time, with stale markers
    evaluate      an expression at one time: a scalar or a vector

Not here: rules, alerts and promtool's test files (`tests.support.promql_rules`). Prometheus 3 leaves out the left edge
of a range; this, as 2.x, has it.
"""

from __future__ import annotations

import math
import operator
import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise

import promql_parser as ql

LOOKBACK_S = 300.0
"""How old a sample may be and still be the present one."""
NAME = "__name__"
_JUST_NAME = frozenset({NAME})

Labels = tuple[tuple[str, str], ...]
"""Sorted, without empty values."""
Vector = dict[Labels, float]
Value = float | Vector


class Unknown(Exception):
    """Something in an expression that is not evaluated here."""


class Ambiguous(Exception):
    """Two elements of a vector end up with the same labels, which Prometheus refuses."""


def labels_of(labels: Mapping[str, str]) -> Labels:
    return tuple(sorted((name, value) for name, value in labels.items() if value))


@dataclass
class Samples:
    """One series. Times in seconds, ascending; `None` is a stale marker: from there on it is gone."""

    times: list[float] = field(default_factory=list)
    values: list[float | None] = field(default_factory=list)

    def add(self, at: float, value: float | None) -> None:
        assert not self.times or at > self.times[-1], "samples come in order"
        self.times.append(at)
        self.values.append(value)

    def present(self, at: float) -> float | None:
        """The newest sample, unless it is a marker or older than `LOOKBACK_S`."""
        index = bisect_right(self.times, at) - 1
        if index < 0 or self.times[index] < at - LOOKBACK_S:
            return None
        return self.values[index]

    def within(self, since: float, until: float) -> list[tuple[float, float]]:
        """Both ends inclusive, without markers."""
        window = slice(bisect_left(self.times, since), bisect_right(self.times, until))
        pairs = zip(self.times[window], self.values[window], strict=True)
        return [(at, value) for at, value in pairs if value is not None]


class Series:
    """Everything that was scraped or recorded, by name and labels."""

    def __init__(self) -> None:
        self._by_name: defaultdict[str, dict[Labels, Samples]] = defaultdict(dict)

    def of(self, labels: Labels) -> Samples:
        """The series of these labels, made if it is new."""
        return self._by_name[dict(labels)[NAME]].setdefault(labels, Samples())

    def named(self, name: str) -> Mapping[Labels, Samples]:
        return self._by_name.get(name, {})


# -- what an expression reads ------------------------------------------------------------------------------------------


@cache
def parse(text: str) -> ql.Expr:
    return ql.parse(text)


@cache
def names_read(text: str) -> frozenset[str]:
    """Names of the metrics an expression selects."""
    return frozenset(selector.name or "" for selector in selectors(text))


@cache
def is_empty_without_data(text: str) -> bool:
    """Whether it is the empty vector where none of `names_read` has a series."""
    found: list[str] = []

    def look(expr: ql.Expr) -> None:
        if isinstance(expr, ql.Call):
            found.append(expr.func.name)

    ql.walk(parse(text), look)
    return bool(names_read(text)) and "absent" not in found


def selectors(text: str) -> list[ql.VectorSelector]:
    """Every selection of series in an expression."""
    found: list[ql.VectorSelector] = []

    def look(each: ql.Expr) -> None:
        if isinstance(each, ql.MatrixSelector):
            found.append(each.vector_selector)
        elif isinstance(each, ql.VectorSelector):
            found.append(each)

    ql.walk(parse(text), look)
    return found


# -- evaluation --------------------------------------------------------------------------------------------------------


Evaluated = Callable[[Series, float], Value]
"""An expression, ready to be evaluated at any time."""


def evaluate(text: str, series: Series, at: float) -> Value:
    """The expression's value at that time. Raises `Unknown`, `Ambiguous`."""
    return _ready(text)(series, at)


@cache
def _ready(text: str) -> Evaluated:
    # the parser makes its objects anew whenever they are looked at
    return _made(parse(text))


def _made(expr: ql.Expr) -> Evaluated:
    match expr:
        case ql.ParenExpr():
            return _made(expr.expr)
        case ql.NumberLiteral():
            number = expr.val
            return lambda _series, _at: number
        case ql.UnaryExpr():
            negated = _made(expr.expr)
            return lambda series, at: _scaled("*", -1.0, negated(series, at))
        case ql.VectorSelector():
            return _instant(expr)
        case ql.Call():
            return _call(expr)
        case ql.AggregateExpr():
            return _aggregation(expr)
        case ql.BinaryExpr():
            return _operation(expr)
        case _:
            raise Unknown(f"{type(expr).__name__}: {expr.prettify()}")


def _instant(selector: ql.VectorSelector) -> Callable[[Series, float], Vector]:
    select, offset_s = _selecting(selector), _offset_s(selector)

    def instant(series: Series, at: float) -> Vector:
        found = ((labels, samples.present(at - offset_s)) for labels, samples in select(series))
        return {labels: value for labels, value in found if value is not None}

    return instant


def _selecting(selector: ql.VectorSelector) -> Callable[[Series], list[tuple[Labels, Samples]]]:
    """In the order of their labels, as Prometheus reads them."""
    name = selector.name
    if name is None or selector.at is not None or selector.matchers.or_matchers:
        raise Unknown(f"a selector without a name, with @, or with `or`: {selector.prettify()}")
    tests = [_matcher(m) for m in selector.matchers.matchers]

    def select(series: Series) -> list[tuple[Labels, Samples]]:
        known = series.named(name)
        return [(labels, known[labels]) for labels in sorted(known) if all(test(dict(labels)) for test in tests)]

    return select


def _matcher(matcher: ql.Matcher) -> Callable[[Mapping[str, str]], bool]:
    name, value = matcher.name, matcher.value
    if matcher.op in (ql.MatchOp.Equal, ql.MatchOp.NotEqual):
        wanted = matcher.op == ql.MatchOp.Equal
        return lambda labels: (labels.get(name, "") == value) == wanted
    if matcher.op in (ql.MatchOp.Re, ql.MatchOp.NotRe):
        pattern, wanted = re.compile(value), matcher.op == ql.MatchOp.Re
        return lambda labels: (pattern.fullmatch(labels.get(name, "")) is not None) == wanted
    raise Unknown(f"matcher {matcher}")


def _offset_s(selector: ql.VectorSelector) -> float:
    return 0.0 if selector.offset is None else selector.offset.total_seconds()


# -- functions ---------------------------------------------------------------------------------------------------------


def _call(call: ql.Call) -> Evaluated:
    name = call.func.name
    if name == "absent":
        return _absent(call.args[0])
    over = _OVER_RANGES.get(name)
    if over is None or len(call.args) != 1 or not isinstance(call.args[0], ql.MatrixSelector):
        raise Unknown(f"function: {call.prettify()}")
    matrix = call.args[0]
    select, offset_s = _selecting(matrix.vector_selector), _offset_s(matrix.vector_selector)
    range_s = matrix.range.total_seconds()

    def over_range(series: Series, at: float) -> Vector:
        since, until = at - offset_s - range_s, at - offset_s
        values = ((labels, over(samples.within(since, until), since, until)) for labels, samples in select(series))
        return _unique((_without_name(labels), value) for labels, value in values if value is not None)

    return over_range


def _absent(of: ql.Expr) -> Evaluated:
    if not isinstance(of, ql.VectorSelector) or of.matchers.matchers:
        raise Unknown(f"absent() of more than a name: {of.prettify()}")
    instant = _instant(of)
    return lambda series, at: {} if instant(series, at) else {(): 1.0}


Points = Sequence[tuple[float, float]]


def _extrapolated(
    points: Points, since: float, until: float, *, is_counter: bool, is_rate: bool = False
) -> float | None:
    """promql/functions.go, extrapolatedRate: in its order, so that not even the last digit differs."""
    if len(points) < 2:
        return None
    (first_at, first), (last_at, last) = points[0], points[-1]
    grown = last - first
    if is_counter:
        grown += sum(before for (_, before), (_, after) in pairwise(points) if after < before)
    sampled = last_at - first_at
    average = sampled / (len(points) - 1)
    to_start, to_end = first_at - since, until - last_at
    if is_counter and grown > 0 and first >= 0:
        to_start = min(to_start, sampled * (first / grown))  # not beyond where the counter was zero
    threshold = average * 1.1
    covered = sampled
    covered += to_start if to_start < threshold else average / 2
    covered += to_end if to_end < threshold else average / 2
    factor = covered / sampled
    return grown * (factor / (until - since) if is_rate else factor)


def _increase(points: Points, since: float, until: float) -> float | None:
    return _extrapolated(points, since, until, is_counter=True)


def _rate(points: Points, since: float, until: float) -> float | None:
    return _extrapolated(points, since, until, is_counter=True, is_rate=True)


def _delta(points: Points, since: float, until: float) -> float | None:
    return _extrapolated(points, since, until, is_counter=False)


def _most(points: Points, _since: float, _until: float) -> float | None:
    return max((value for _, value in points), default=None)


def _least(points: Points, _since: float, _until: float) -> float | None:
    return min((value for _, value in points), default=None)


_OVER_RANGES: Mapping[str, Callable[[Points, float, float], float | None]] = {
    "rate": _rate,
    "increase": _increase,
    "delta": _delta,
    "max_over_time": _most,
    "min_over_time": _least,
}


# -- aggregations ------------------------------------------------------------------------------------------------------


_AGGREGATIONS: Mapping[str, Callable[[list[float]], float]] = {
    "sum": lambda values: float(sum(values)),
    "max": lambda values: max((v for v in values if not math.isnan(v)), default=math.nan),
    "min": lambda values: min((v for v in values if not math.isnan(v)), default=math.nan),
    "count": lambda values: float(len(values)),
}


def _aggregation(expr: ql.AggregateExpr) -> Evaluated:
    aggregate = _AGGREGATIONS.get(str(expr.op))
    if aggregate is None or expr.param is not None:
        raise Unknown(f"aggregation: {expr.prettify()}")
    of, group = _made(expr.expr), _grouping(expr.modifier)

    def aggregated(series: Series, at: float) -> Vector:
        groups: defaultdict[Labels, list[float]] = defaultdict(list)
        for labels, value in _as_vector(of(series, at)).items():
            groups[group(labels)].append(value)
        return {labels: aggregate(values) for labels, values in groups.items()}

    return aggregated


def _as_vector(value: Value) -> Vector:
    if not isinstance(value, dict):
        raise Unknown("a scalar where a vector is wanted")
    return value


def _grouping(modifier: ql.AggModifier | None) -> Callable[[Labels], Labels]:
    if modifier is None:
        return lambda _labels: ()
    names = frozenset(modifier.labels)
    if modifier.type == ql.AggModifierType.By:
        return lambda labels: _only(labels, names)
    return lambda labels: _but(labels, names | {NAME})


# -- operators ---------------------------------------------------------------------------------------------------------


_ARITHMETIC: Mapping[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": lambda a, b: a / b if b else (math.nan if a == 0 or math.isnan(a) else math.copysign(math.inf, a)),
    "^": math.pow,
}
_COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}


def _operation(expr: ql.BinaryExpr) -> Evaluated:
    sign, modifier, shown = str(expr.op), expr.modifier, expr.prettify()
    if modifier is not None and (modifier.return_bool or modifier.group_labels):
        raise Unknown(f"bool or group_left: {shown}")
    left, right = _made(expr.lhs), _made(expr.rhs)
    key, kept = _signature(modifier), _kept(modifier)
    is_set = sign in ("and", "unless", "or")
    if not is_set and modifier is not None and modifier.card != ql.VectorMatchCardinality.OneToOne:
        raise Unknown(f"many-to-one matching: {shown}")
    if not is_set and sign not in _ARITHMETIC and sign not in _COMPARISONS:
        raise Unknown(f"operator {sign}: {shown}")

    def operated(series: Series, at: float) -> Value:
        a, b = left(series, at), right(series, at)
        if not isinstance(a, dict) or not isinstance(b, dict):
            return _scaled(sign, a, b)
        return _set(sign, a, b, key) if is_set else _matched(sign, a, b, key, kept)

    return operated


def _scaled(sign: str, left: Value, right: Value) -> Value:
    """At least one side is a scalar."""
    if sign in _ARITHMETIC:
        apply = _ARITHMETIC[sign]
        if isinstance(left, dict):
            assert not isinstance(right, dict)
            return _unique((_without_name(labels), apply(value, right)) for labels, value in left.items())
        if isinstance(right, dict):
            return _unique((_without_name(labels), apply(left, value)) for labels, value in right.items())
        return apply(left, right)
    holds = _COMPARISONS[sign]
    if isinstance(left, dict):
        assert not isinstance(right, dict)
        return {labels: value for labels, value in left.items() if holds(value, right)}
    if isinstance(right, dict):
        return {labels: value for labels, value in right.items() if holds(left, value)}
    raise Unknown(f"{sign} between two scalars")


def _set(sign: str, left: Vector, right: Vector, key: Callable[[Labels], Labels]) -> Vector:
    if sign == "or":
        has = {key(labels) for labels in left}
        return left | {labels: value for labels, value in right.items() if key(labels) not in has}
    has, wanted = {key(labels) for labels in right}, sign == "and"
    return {labels: value for labels, value in left.items() if (key(labels) in has) == wanted}


def _matched(
    sign: str, left: Vector, right: Vector, key: Callable[[Labels], Labels], kept: Callable[[Labels], Labels]
) -> Vector:
    """One to one: arithmetic, or a comparison that keeps what it holds for."""
    others = _unique((key(labels), value) for labels, value in right.items())
    pairs = ((labels, value, others[key(labels)]) for labels, value in left.items() if key(labels) in others)
    if sign in _ARITHMETIC:
        apply = _ARITHMETIC[sign]
        return _unique((kept(_without_name(labels)), apply(value, other)) for labels, value, other in pairs)
    holds = _COMPARISONS[sign]
    return _unique((kept(labels), value) for labels, value, other in pairs if holds(value, other))


def _signature(modifier: ql.BinModifier | None) -> Callable[[Labels], Labels]:
    """By which labels two elements belong together."""
    matching = None if modifier is None else modifier.matching
    if matching is None:
        return _without_name
    names = frozenset(matching.labels)
    if matching.type == ql.LabelModifierType.Include:
        return lambda labels: _only(labels, names)
    return lambda labels: _but(labels, names | {NAME})


def _kept(modifier: ql.BinModifier | None) -> Callable[[Labels], Labels]:
    """The labels of what comes of two elements."""
    matching = None if modifier is None else modifier.matching
    if matching is None:
        return lambda labels: labels
    names = frozenset(matching.labels)
    if matching.type == ql.LabelModifierType.Include:
        return lambda labels: _only(labels, names)
    return lambda labels: _but(labels, names)


# -- labels ------------------------------------------------------------------------------------------------------------


def _without_name(labels: Labels) -> Labels:
    return _but(labels, _JUST_NAME)


def _only(labels: Labels, names: Set[str]) -> Labels:
    return tuple(pair for pair in labels if pair[0] in names)


def _but(labels: Labels, names: Set[str]) -> Labels:
    return tuple(pair for pair in labels if pair[0] not in names)


def _unique(pairs: Iterable[tuple[Labels, float]]) -> Vector:
    result: Vector = {}
    for labels, value in pairs:
        if labels in result:
            raise Ambiguous(f"two elements with the labels {dict(labels)}")
        result[labels] = value
    return result
