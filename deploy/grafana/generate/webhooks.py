"""Webhooks, the database and the workers: what goes out, and what it all runs on."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.generate.frame import Section, framed
from deploy.grafana.generate.panels import BAD, WARNING, Panel, Query, Spec, graph, number
from deploy.grafana.generate.queries import OF_NO_CHAIN, SCOPE, counted, ended, latest, rate

DELIVERIES = "settler_webhook_deliveries_total"
TICKS = "settler_stage_ticks_total"
OUTCOME_COLOURS = {"delivered": "green", "retried": "orange", "dead": "red", "disabled": "text"}


def dashboard(runbook: str) -> Dashboard:
    return framed(
        uid="settler-webhooks",
        title="settler / Webhooks & database",
        about="Deliveries to merchants, the database's failures, and the workers themselves. All chains together.",
        sections=[
            Section(title="Webhooks", panels=[*_now(), *_deliveries(), *_outbox()]),
            Section(title="Database", panels=_database()),
            Section(title="Workers", panels=_workers()),
        ],
        runbook=runbook,
    )


def _now() -> list[Panel]:
    delivered = counted(DELIVERIES, where=ended("delivered", SCOPE))
    attempts = counted(DELIVERIES, where=ended("delivered|retried|dead", SCOPE))

    def spec(title: str, about: str, unit: str, runbook: str) -> Spec:
        return Spec(title=title, about=about, unit=unit, runbook=runbook, width=4, height=4)

    return [
        number(
            spec("Delivered", "Attempts answered with 2xx in the time shown.", "short", "outbox-growing"),
            Query(expr=f"round({delivered})", legend="delivered"),
        ),
        number(
            spec(
                "Attempts that succeed",
                "Of all attempts in the time shown. Retries are daily life; a low share is an endpoint that is down.",
                "percentunit",
                "dead-letters",
            ),
            Query(expr=f"{delivered} / {attempts}", legend="share"),
            decimals=1,
        ),
        number(
            spec(
                "Deliveries waiting",
                "Due now or later. Those that are tried again wait here for hours: look at the oldest as well.",
                "short",
                "outbox-growing",
            ),
            Query(expr=latest("settler_outbox_pending", where=SCOPE), legend="waiting"),
            has_line=True,
        ),
        number(
            spec(
                "Oldest delivery waiting",
                "Its age. Above minutes: an endpoint that fails (three days until it is given up), or no worker "
                "that delivers.",
                "s",
                "outbox-growing",
            ),
            Query(expr=latest("settler_outbox_oldest_seconds", where=SCOPE), legend="oldest"),
            steps=((900, WARNING), (86_400, BAD)),
            has_line=True,
            decimals=0,
        ),
        number(
            spec(
                "Dead letters",
                "Deliveries given up: a merchant does not know of something until they are sent again.",
                "short",
                "dead-letters",
            ),
            Query(expr=latest("settler_webhook_dead_letters", where=SCOPE), legend="dead"),
            steps=((1, WARNING),),
            has_line=True,
            decimals=0,
        ),
        number(
            spec(
                "Storage failures",
                "Ticks of all stages that the database failed in the time shown; they are tried again.",
                "short",
                "database-away",
            ),
            Query(expr=f"round({counted(TICKS, where=ended('storage', SCOPE))})", legend="failures"),
            steps=((1, WARNING),),
            decimals=0,
        ),
    ]


def _deliveries() -> list[Panel]:
    return [
        graph(
            Spec(
                title="Attempts per minute, by outcome",
                about="`delivered`: answered with 2xx. `retried`: failed, to be tried again. `dead`: given up. "
                "`disabled`: the endpoint answered 410 Gone, and gets nothing any more.",
                unit="short",
                runbook="dead-letters",
                width=12,
            ),
            Query(expr=f"60 * {rate(DELIVERIES, 'outcome', where=SCOPE)}", legend="{{outcome}}"),
            is_stacked=True,
            colours=OUTCOME_COLOURS,
        ),
        graph(
            Spec(
                title="Attempts that succeed",
                about="Share of all attempts.",
                unit="percentunit",
                runbook="dead-letters",
                width=12,
            ),
            Query(
                expr=f"{rate(DELIVERIES, where=ended('delivered', SCOPE))} / "
                f"{rate(DELIVERIES, where=ended('delivered|retried|dead', SCOPE))}",
                legend="delivered",
            ),
            max_value=1,
            colours={"delivered": "green"},
        ),
    ]


def _outbox() -> list[Panel]:
    def gauge(title: str, about: str, unit: str, runbook: str, name: str) -> Panel:
        return graph(
            Spec(title=title, about=about, unit=unit, runbook=runbook, width=8),
            Query(expr=latest(name, where=SCOPE), legend=title.lower()),
        )

    return [
        gauge(
            "Deliveries waiting",
            "Due now or later. It should fall to what failing endpoints hold up.",
            "short",
            "outbox-growing",
            "settler_outbox_pending",
        ),
        gauge(
            "Oldest delivery waiting",
            "Its age.",
            "s",
            "outbox-growing",
            "settler_outbox_oldest_seconds",
        ),
        gauge(
            "Dead letters",
            "Deliveries given up and not sent again.",
            "short",
            "dead-letters",
            "settler_webhook_dead_letters",
        ),
    ]


def _database() -> list[Panel]:
    return [
        graph(
            Spec(
                title="Storage failures per minute",
                about="Ticks that the database failed, by stage: it was away, or locked. Nothing is lost; the tick is "
                "done again.",
                unit="short",
                runbook="database-away",
                width=8,
            ),
            Query(
                expr=f"60 * {rate(TICKS, 'stage', where=ended('storage', SCOPE))}",
                legend="{{stage}}",
            ),
            is_stacked=True,
        ),
        graph(
            Spec(
                title="Conflicts per minute",
                about="Ticks that found another worker had been faster, by stage; they begin again. A worker that lost "
                "its lease shows here too.",
                unit="short",
                runbook="stage-failing",
                width=8,
            ),
            Query(expr=f"60 * {rate(TICKS, 'stage', where=ended('conflict', SCOPE))}", legend="{{stage}}"),
            is_stacked=True,
        ),
        graph(
            Spec(
                title="Bugs per hour",
                about="Ticks that raised what nobody expected, by stage; the log has the traceback. Any is "
                "worth a report.",
                unit="short",
                runbook="stage-failing",
                width=8,
            ),
            Query(expr=f"3600 * {rate(TICKS, 'stage', where=ended('bug', SCOPE))}", legend="{{stage}}"),
            is_stacked=True,
        ),
    ]


def _workers() -> list[Panel]:
    return [
        number(
            Spec(
                title="Versions running",
                about="How many workers run each. Two at once only while an upgrade rolls.",
                unit="none",
                runbook="upgrade",
                width=6,
            ),
            Query(
                expr=f"count by (version, python) (settler_build_info{{{SCOPE}}})",
                legend="{{version}} on Python {{python}}",
            ),
            is_named=True,
            decimals=0,
        ),
        graph(
            Spec(
                title="Workers that answer",
                about="1 while Prometheus can read the worker's `/metrics`.",
                unit="short",
                runbook="process-stuck",
                width=6,
            ),
            Query(expr=f"max by (instance) (up{{{SCOPE}}})", legend="{{instance}}"),
            is_stepped=True,
            decimals=0,
            max_value=2,
        ),
        graph(
            Spec(
                title="Time to read /metrics",
                about="A worker's event loop answers it between its other work: what rises here is a worker that is "
                "busy or starved.",
                unit="s",
                runbook="process-stuck",
                width=6,
            ),
            Query(expr=f"max by (instance) (scrape_duration_seconds{{{SCOPE}}})", legend="{{instance}}"),
        ),
        graph(
            Spec(
                title="Ticks per minute of common stages",
                about="Of the stages that belong to no chain: `dispatch` sends webhooks, `expire` ends invoices, "
                "`gauges` counts what these panels show, `leases` keeps the lead. Conflicts count as well.",
                unit="short",
                runbook="process-stuck",
                width=6,
            ),
            Query(
                expr=f"60 * {rate(TICKS, 'stage', where=ended('ok|conflict', OF_NO_CHAIN))} > 0",
                legend="{{stage}}",
            ),
        ),
    ]
