"""The kinds of panel, as this project wants them: each says what it shows, in which unit, and where to read on.

`Spec` is what all have in common; a dashboard is made of these four functions and nothing else.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from grafana_foundation_sdk.builders import bargauge, common, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

DATASOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
NEUTRAL = "text"
GOOD, WARNING, BAD = "green", "orange", "red"
FILL_OPACITY = 10
STACK_OPACITY = 40

Panel: TypeAlias = timeseries.Panel | stat.Panel | bargauge.Panel | table.Panel
Made = TypeVar("Made", timeseries.Panel, stat.Panel, bargauge.Panel, table.Panel)
Steps: TypeAlias = Sequence[tuple[float, str]]
"""From each value on, a colour; below the first, `GOOD`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    expr: str
    legend: str = ""
    """With `{{label}}`s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    title: str
    about: str
    """What it shows, what is normal, what to make of it; the panel's description."""
    unit: str
    """An id of Grafana's units."""
    runbook: str | None = None
    """The heading's anchor in docs/runbook.md."""
    width: int
    """Of 24."""
    height: int = 8


def graph(
    spec: Spec,
    *queries: Query,
    steps: Steps = (),
    is_stacked: bool = False,
    is_stepped: bool = False,
    has_bars: bool = False,
    decimals: int | None = None,
    least: float | None = None,
    max_value: float | None = None,
    colours: Mapping[str, str] | None = None,
) -> timeseries.Panel:
    """Lines over time, from zero, or from `least` while no value is below it. `steps` are drawn as dashed lines;
    `colours` by the name a legend gives.
    """
    made = _common(timeseries.Panel(), spec, queries)
    if least is None:
        made.min(0)
    else:
        made.axis_soft_min(least)
    # steps overlap for most of the time: their areas would only be mixed
    is_bare = is_stepped and not is_stacked
    made.line_width(2 if is_bare else 1).show_points(looks.VisibilityMode.NEVER).span_nulls(False)
    made.fill_opacity(0 if is_bare else STACK_OPACITY if is_stacked else FILL_OPACITY)
    made.legend(
        common.VizLegendOptions()
        .display_mode(looks.LegendDisplayMode.LIST)
        .placement(looks.LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs([])
    )
    made.tooltip(common.VizTooltipOptions().mode(looks.TooltipDisplayMode.MULTI).sort(looks.SortOrder.DESCENDING))
    if is_stacked:
        made.stacking(common.StackingConfig().mode(looks.StackingMode.NORMAL).group("A"))
    if is_stepped:
        made.line_interpolation(looks.LineInterpolation.STEP_AFTER)
    if has_bars:
        made.draw_style(looks.GraphDrawStyle.BARS)
    if decimals is not None:
        made.decimals(decimals)
    if max_value is not None:
        made.max(max_value)
    if steps:
        made.thresholds(_thresholds(steps, below="transparent"))
        made.thresholds_style(common.GraphThresholdsStyleConfig().mode(looks.GraphTresholdsStyleMode.DASHED))
    for name, colour in (colours or {}).items():
        fixed = {"mode": "fixed", "fixedColor": colour}
        made.override_by_name(name, [model.DynamicConfigValue(id_val="color", value=fixed)])
    return made


def number(
    spec: Spec,
    *queries: Query,
    steps: Steps | None = None,
    texts: Mapping[tuple[float, float], tuple[str, str]] | None = None,
    is_loud: bool = False,
    has_line: bool = False,
    decimals: int | None = None,
    is_named: bool = False,
    if_none: str | None = None,
    other_steps: Mapping[str, Steps] | None = None,
) -> stat.Panel:
    """The value now. `steps`: coloured by it; `texts`: words and a colour instead of numbers from .. to; `is_loud`:
    the colour fills the panel; `is_named`: beside each value stands its legend; `if_none`: shown where the
    query answers nothing; `other_steps`: for those named by their legend.
    """
    made = _common(stat.Panel(), spec, queries, is_instant=not has_line)
    made.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False).fields(""))
    made.graph_mode(looks.BigValueGraphMode.AREA if has_line else looks.BigValueGraphMode.NONE)
    made.color_mode(looks.BigValueColorMode.BACKGROUND_SOLID if is_loud else looks.BigValueColorMode.VALUE)
    made.text_mode(looks.BigValueTextMode.VALUE_AND_NAME if is_named else looks.BigValueTextMode.VALUE)
    made.orientation(looks.VizOrientation.AUTO).justify_mode(looks.BigValueJustifyMode.AUTO)
    made.thresholds(_thresholds(steps) if steps is not None else _thresholds((), below=NEUTRAL))
    made.color_scheme(build.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
    if decimals is not None:
        made.decimals(decimals)
    if if_none is not None:
        made.no_value(if_none)
    for name, other in (other_steps or {}).items():
        made.override_by_name(name, [model.DynamicConfigValue(id_val="thresholds", value=_thresholds(other).build())])
    if texts:
        made.mappings(
            [
                model.RangeMap(
                    model.DashboardRangeMapOptions(
                        from_val=low, to=high, result=model.ValueMappingResult(text=text, color=colour, index=index)
                    )
                )
                for index, ((low, high), (text, colour)) in enumerate(texts.items())
            ]
        )
    return made


def bars(spec: Spec, *queries: Query, colours: Mapping[str, str]) -> bargauge.Panel:
    """One bar a series, with its value now."""
    made = _common(bargauge.Panel(), spec, queries, is_instant=True)
    made.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False).fields(""))
    made.orientation(looks.VizOrientation.HORIZONTAL).display_mode(looks.BarGaugeDisplayMode.BASIC)
    made.show_unfilled(True).min(0).decimals(0)
    made.thresholds(_thresholds((), below=NEUTRAL))
    for name, colour in colours.items():
        fixed = {"mode": "fixed", "fixedColor": colour}
        made.override_by_name(name, [model.DynamicConfigValue(id_val="color", value=fixed)])
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    name: str
    """As it is headed."""
    expr: str
    """One value for each row."""
    unit: str = "none"
    decimals: int | None = None
    steps: Steps | None = None
    """Its cells are coloured."""
    texts: Mapping[str, tuple[str, str]] | None = None
    """Words and a colour instead of a value."""
    width_px: int = 110


def rows(
    spec: Spec,
    *columns: Column,
    keys: Mapping[str, str],
    sorted_by: str | None = None,
    if_none: str | None = None,
) -> table.Panel:
    """A table: one query a column, merged on the labels `keys`, which are headed as they say. `sorted_by`: a heading;
    `if_none`: shown in the place of what is not there.
    """
    made = _common(table.Panel(), spec, [Query(expr=c.expr) for c in columns], is_instant=True, is_table=True)
    refs = string.ascii_uppercase[: len(columns)]
    # Grafana numbers values only where there are several queries
    values = [f"Value #{ref}" for ref in refs] if len(refs) > 1 else ["Value"]
    names = {value: column.name for value, column in zip(values, columns, strict=True)}
    order = {name: index for index, name in enumerate([*keys, *names])}
    made.with_transformation(model.DataTransformerConfig(id_val="merge", options={}))
    made.with_transformation(
        model.DataTransformerConfig(
            id_val="organize",
            options={"excludeByName": {"Time": True}, "indexByName": order, "renameByName": {**keys, **names}},
        )
    )
    made.thresholds(_thresholds((), below=NEUTRAL)).cell_height(looks.TableCellHeight.SM)
    if sorted_by is not None:
        made.sort_by([common.TableSortByFieldState().display_name(sorted_by).desc(False)])
    if if_none is not None:
        made.no_value(if_none)
    for column in columns:
        made.override_by_name(column.name, _properties(column))
    return made


# -- helpers -----------------------------------------------------------------------------------------------------------


def _common(
    made: Made, spec: Spec, queries: Sequence[Query], *, is_instant: bool = False, is_table: bool = False
) -> Made:
    made.title(spec.title).description(spec.about).unit(spec.unit).datasource(DATASOURCE)
    made.span(spec.width).height(spec.height)
    if spec.runbook is not None:
        made.links([build.DashboardLink("Runbook").url(f"${{runbook}}#{spec.runbook}").target_blank(True)])
    for ref, query in zip(string.ascii_uppercase, queries, strict=False):
        target = prometheus.Dataquery().expr(query.expr).ref_id(ref).datasource(DATASOURCE)
        target.legend_format(query.legend or "__auto")
        target.format(PromQueryFormat.TABLE if is_table else PromQueryFormat.TIME_SERIES)
        made.with_target(target.instant() if is_instant else target.range())
    return made


def _thresholds(steps: Steps, *, below: str = GOOD) -> build.ThresholdsConfig:
    made = [model.Threshold(value=None, color=below), *(model.Threshold(value=v, color=c) for v, c in steps)]
    return build.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(made)


def _properties(column: Column) -> list[model.DynamicConfigValue]:
    found: list[tuple[str, object]] = [("unit", column.unit), ("custom.width", column.width_px)]
    if column.decimals is not None:
        found.append(("decimals", column.decimals))
    if column.steps is not None:
        found.append(("thresholds", _thresholds(column.steps).build()))
    if column.texts is not None:
        words = {
            value: model.ValueMappingResult(text=text, color=colour, index=index)
            for index, (value, (text, colour)) in enumerate(column.texts.items())
        }
        found.append(("mappings", [model.ValueMap(words)]))
    if column.steps is not None or column.texts is not None:
        found.append(("custom.cellOptions", {"type": "color-text"}))
    return [model.DynamicConfigValue(id_val=name, value=value) for name, value in found]
