"""What every dashboard has: variables, annotations, links, and its panels in lines."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog import builder
from grafana_foundation_sdk.models import dashboard as model

from deploy.grafana.generate.panels import DATASOURCE, Panel
from deploy.grafana.generate.queries import CHAIN

TAG = "settler"
ANNOTATION_WINDOW = "2m"
"""More than two scrapes, as a rate needs; an event is marked this long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Panels under a heading; each line of them is 24 wide and of one height."""

    title: str
    panels: Sequence[Panel]


def framed(
    *, uid: str, title: str, about: str, sections: Sequence[Section], runbook: str, has_provider: bool = False
) -> model.Dashboard:
    """A dashboard. Ids count from 1, in the order in which panels stand."""
    made = build.Dashboard(title).uid(uid).description(about).tags([TAG])
    made.timezone("browser").time("now-6h", "now").refresh("30s").readonly().version(1)
    made.tooltip(model.DashboardCursorSync.CROSSHAIR)
    made.link(
        build.DashboardLink("settler")
        .type(model.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .as_dropdown(False)
        .include_vars(True)
        .keep_time(True)
    )
    made.link(
        build.DashboardLink("Runbook")
        .type(model.DashboardLinkType.LINK)
        .url("${runbook}")
        .icon("doc")
        .target_blank(True)
    )
    for variable in _variables(runbook, has_provider=has_provider):
        made.with_variable(variable)
    made.annotation(_events("Reorgs", "settler_reorgs_total", "orange", "a fork was followed"))
    made.annotation(_events("Reversals", "settler_reversals_total", "red", "settlements were undone by the chain"))
    ids = itertools.count(1)
    for section in sections:
        made.with_row(build.Row(section.title).id(next(ids)))
        for panel in section.panels:
            made.with_panel(panel.id(next(ids)))
    return made.build()


def _variables(runbook: str, *, has_provider: bool) -> list[builder.Builder[model.VariableModel]]:
    found: list[builder.Builder[model.VariableModel]] = [
        build.DatasourceVariable("datasource")
        .label("Data source")
        .type("prometheus")
        .current(model.VariableOption(text="Prometheus", value="prometheus")),
        _chosen("job", "Deployment", "label_values(settler_build_info, job)"),
        _several("instance", "Worker", 'label_values(settler_build_info{job="$job"}, instance)'),
        _several("chain", "Chain", 'label_values(settler_oldest_unsettled_seconds{job="$job"}, chain)'),
    ]
    if has_provider:
        where = '{job="$job",chain=~"$chain"}'
        found.append(_several("provider", "Provider", f"label_values(settler_rpc_rate_limits_total{where}, provider)"))
    found.append(build.ConstantVariable("runbook").value(runbook))
    return found


def _chosen(name: str, label: str, query: str) -> build.QueryVariable:
    """Values of a label, asked for anew with each change of the time shown: what is gone is still in the past."""
    return (
        build.QueryVariable(name)
        .label(label)
        .datasource(DATASOURCE)
        .query({"query": query, "refId": f"Variable-{name}"})
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
    )


def _several(name: str, label: str, query: str) -> build.QueryVariable:
    # no "all value" such as .*: all means those listed, of this deployment
    every = model.VariableOption(text="All", value="$__all")
    return _chosen(name, label, query).multi(True).include_all(True).current(every)


class _PrometheusAnnotation(model.AnnotationQuery):
    """The kit does not know these fields, which Grafana's Prometheus data source reads."""

    def to_json(self) -> dict[str, object]:
        return {
            **super().to_json(),
            "step": "30s",
            "tagKeys": "chain",
            "titleFormat": f"{self.name}: {{{{chain}}}}",
            "textFormat": self.text,
        }

    text = ""


class _Annotation(build.AnnotationQuery):
    def __init__(self, text: str) -> None:
        super().__init__()
        self._internal = _PrometheusAnnotation()
        self._internal.text = text


def _events(name: str, counter: str, colour: str, text: str) -> build.AnnotationQuery:
    """Marks where a counter grew."""
    expr = f"sum by (chain) (increase({counter}{{{CHAIN}}}[{ANNOTATION_WINDOW}])) > 0"
    made = _Annotation(f"{text} on {{{{chain}}}}").name(name).expr(expr)
    return made.datasource(DATASOURCE).enable(True).hide(False).icon_color(colour)
