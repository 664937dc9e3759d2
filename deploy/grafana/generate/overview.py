"""Is money flowing? The first line answers; the rest says where it stands if it does not."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.generate.frame import Section, framed
from deploy.grafana.generate.panels import BAD, GOOD, WARNING, Column, Panel, Query, Spec, bars, graph, number, rows
from deploy.grafana.generate.queries import (
    BLIND_S,
    CHAIN,
    LATE_S,
    SCOPE,
    STALLED_S,
    blindness,
    counted,
    in_tokens,
    latest,
    overdue,
    quantile,
    rate,
    share_in_time,
    unfinal,
)

AMOUNT = "settler_settled_amount_base_total"
LATENESS = ((LATE_S, WARNING), (STALLED_S, BAD))
OBJECTIVE = 0.99
DAY_S = 86_400
ALERTS = 'job=~"$job|",alertname=~"Settler.+"'
"""Of this deployment, and those that name none: that nobody answers, say."""
ALERT_KEYS = {"alertname": "Alert", "severity": "Severity", "alertstate": "State", "chain": "Chain"}
INVOICE_COLOURS = {
    "pending": "blue",
    "processing": "yellow",
    "settled": "green",
    "expired": "text",
    "canceled": "text",
    "reversed": "red",
}


def dashboard(runbook: str) -> Dashboard:
    return framed(
        uid="settler-overview",
        title="settler / Overview",
        about="Whether money flows: what was settled, how fast, and what waits.",
        sections=[
            Section(title="Is money flowing?", panels=[*_verdict(), *_worries()]),
            Section(title="Flow", panels=_flow()),
            Section(title="What waits, and for whom", panels=_waiting()),
        ],
        runbook=runbook,
    )


def _verdict() -> list[Panel]:
    worst = f"max({overdue()})"
    verdict = (
        f"clamp_max(8 * ({worst} > bool {STALLED_S}) + 8 * max({latest('settler_chain_halted', 'chain')})"
        f" + 4 * (max({blindness()}) > bool {BLIND_S})"
        f" + 2 * ((max({unfinal()}) or vector(-1)) > bool 0) + ({worst} > bool {LATE_S}), 8)"
    )
    return [
        number(
            Spec(
                title="Is money flowing?",
                about="Worst chain of those chosen. **Nothing late**: every final payment is settled within a minute, "
                "and blocks are read as they come. **Late**: a payment waits a minute or more beyond finality. "
                "**Blind**: nothing newer than five minutes was read of a chain, so payments are not seen. "
                "**No finality**: a chain takes three times as long as usual to make blocks final. "
                "**Stalled**: a payment waits five minutes beyond finality, or a chain is halted. Holds and suspense "
                "wait for people and are counted below.",
                unit="none",
                runbook="nothing-settles",
                width=6,
                height=4,
            ),
            Query(expr=verdict, legend="verdict"),
            texts={
                (0, 0): ("Nothing late", GOOD),
                (1, 1): ("Late", WARNING),
                (2, 3): ("No finality", WARNING),
                (4, 7): ("Blind", BAD),
                (8, 8): ("Stalled", BAD),
            },
            is_loud=True,
        ),
        number(
            Spec(
                title="Settlements",
                about="Settlement lines written in the time shown: one for each chain and token of an invoice.",
                unit="short",
                width=4,
                height=4,
            ),
            Query(expr=f"round({counted('settler_settlements_total')})", legend="settlements"),
        ),
        number(
            Spec(
                title="Settled, in tokens",
                about="By token, over all chains chosen, in the time shown. Base units divided by the token's "
                "decimals: a float, to look at. Books are made of settlements (`settler export settlements`).",
                unit="short",
                width=6,
                height=4,
            ),
            Query(expr=f"sum by (token) ({in_tokens(counted(AMOUNT, 'chain', 'token'))})", legend="{{token}}"),
            is_named=True,
        ),
        number(
            Spec(
                title="Oldest past finality",
                about="How long the oldest unsettled payment waits beyond the chain's usual wait for finality (its "
                f"finality lag now). Orange from {LATE_S} s, red from {STALLED_S} s.",
                unit="s",
                runbook="nothing-settles",
                width=4,
                height=4,
            ),
            Query(expr=worst, legend="overdue"),
            steps=LATENESS,
            has_line=True,
            decimals=0,
        ),
        number(
            Spec(
                title="Alerts",
                about="Alerts of settler that fire, and those that are about to. 0 also where Prometheus has no rules "
                "loaded: see deploy/prometheus.",
                unit="none",
                width=4,
                height=4,
            ),
            Query(expr=f'count(ALERTS{{{ALERTS},alertstate="firing"}}) or vector(0)', legend="firing"),
            Query(expr=f'count(ALERTS{{{ALERTS},alertstate="pending"}}) or vector(0)', legend="pending"),
            steps=((1, BAD),),
            other_steps={"pending": ((1, WARNING),)},
            is_named=True,
        ),
    ]


def _worries() -> list[Panel]:
    def count(title: str, about: str, runbook: str, expr: str, *, is_bad: bool = False) -> Panel:
        return number(
            Spec(title=title, about=about, unit="short", runbook=runbook, width=4, height=4),
            Query(expr=expr, legend=title),
            steps=((1, BAD if is_bad else WARNING),),
            has_line=True,
            decimals=0,
        )

    down = "settler_rpc_provider_up"
    return [
        number(
            Spec(
                title="Chain lag, worst",
                about="Chain time between the head and the newest block read. Seconds are normal; minutes while a gap "
                "is read after an outage.",
                unit="s",
                runbook="chain-lag",
                width=4,
                height=4,
            ),
            Query(expr=f"max({latest('settler_chain_lag_seconds', 'chain')})", legend="lag"),
            steps=((LATE_S, WARNING), (STALLED_S, BAD)),
            has_line=True,
            decimals=0,
        ),
        count(
            "RPC providers down",
            "Of the chains chosen, as the worker sees it that leads the chain.",
            "provider-down",
            f"count(({down}{{{CHAIN}}} and on (chain, instance) settler_leader{{{CHAIN}}} == 1) == 0) or vector(0)",
        ),
        count(
            "In suspense",
            "Transfers that belong to no invoice yet; a person decides.",
            "suspense",
            f"sum({latest('settler_unmatched_transfers', 'chain', 'token', 'reason')})",
        ),
        count(
            "On hold",
            "Settlements stopped by a policy, of all chains; a person decides.",
            "holds",
            f"sum({latest('settler_holds', 'reason', where=SCOPE)})",
        ),
        count(
            "Webhook dead letters",
            "Deliveries given up after about three days, of all chains: a merchant does not know of something.",
            "dead-letters",
            latest("settler_webhook_dead_letters", where=SCOPE),
        ),
        count(
            "Reversals",
            "Settlements undone by their chain in the time shown. Stop shipping for them.",
            "reversal",
            f"round({counted('settler_reversals_total')})",
            is_bad=True,
        ),
    ]


def _flow() -> list[Panel]:
    def latency(title: str, about: str, runbook: str, name: str) -> Panel:
        return graph(
            Spec(title=title, about=about, unit="s", runbook=runbook, width=8),
            *(Query(expr=quantile(q, name), legend=f"p{q * 100:g}") for q in (0.5, 0.95, 0.99)),
        )

    def share(title: str, about: str, runbook: str, what: str) -> Panel:
        return graph(
            Spec(title=title, about=about, unit="percentunit", runbook=runbook, width=12, height=6),
            Query(expr=share_in_time(what, "chain"), legend="{{chain}}"),
            steps=((OBJECTIVE, GOOD),),
            least=0.95,
            max_value=1,
        )

    return [
        graph(
            Spec(
                title="Settlements per hour",
                about="Settlement lines written, by chain and token.",
                unit="short",
                runbook="nothing-settles",
                width=12,
            ),
            Query(
                expr=f"3600 * {rate('settler_settlements_total', 'chain', 'token')}",
                legend="{{chain}} {{token}}",
            ),
            is_stacked=True,
        ),
        graph(
            Spec(
                title="Settled per hour, in tokens",
                about="By chain and token. A float, to look at: books are made of settlements.",
                unit="short",
                runbook="nothing-settles",
                width=12,
            ),
            Query(
                expr=f"3600 * {in_tokens(rate(AMOUNT, 'chain', 'token'))}",
                legend="{{chain}} {{token}}",
            ),
            is_stacked=True,
        ),
        latency(
            "Detection latency",
            "From the time of a payment's block to its being recorded. Two block times are the aim. Interpolated "
            "within the histogram's buckets.",
            "chain-lag",
            "settler_detection_latency_seconds",
        ),
        latency(
            "Settlement latency",
            "From a payment's block being final to its settlement. 30 s are the aim. Interpolated within the "
            "histogram's buckets.",
            "nothing-settles",
            "settler_settlement_latency_seconds",
        ),
        graph(
            Spec(
                title="Transfers per minute",
                about="Recorded for the first time, by what they were allocated to then.",
                unit="short",
                runbook="suspense",
                width=8,
            ),
            Query(expr=f"60 * {rate('settler_transfers_total', 'allocation')}", legend="{{allocation}}"),
            is_stacked=True,
            colours={"invoice": "green", "unmatched": "orange", "dismissed": "text"},
        ),
        share(
            "Detected in time",
            "Payments recorded within two block times, of all in the last half hour; 99 % are the objective. Made of "
            "recording rules (deploy/prometheus/rules/recording.yaml).",
            "detection-slow",
            "detections",
        ),
        share(
            "Settled in time",
            "Payments settled within 30 s of finality, of all in the last half hour; 99 % are the objective. Made of "
            "recording rules (deploy/prometheus/rules/recording.yaml).",
            "settlement-slow",
            "settlements",
        ),
    ]


def _waiting() -> list[Panel]:
    return [
        graph(
            Spec(
                title="Oldest unsettled payment",
                about="Its age, by chain. It rises to the chain's time to finality and falls again with each "
                "settlement; what keeps rising is stuck.",
                unit="s",
                runbook="nothing-settles",
                width=8,
            ),
            Query(expr=latest("settler_oldest_unsettled_seconds", "chain"), legend="{{chain}}"),
        ),
        graph(
            Spec(
                title="Chain lag",
                about="Chain time between the head and the newest block read.",
                unit="s",
                runbook="chain-lag",
                width=8,
            ),
            Query(expr=latest("settler_chain_lag_seconds", "chain"), legend="{{chain}}"),
        ),
        bars(
            Spec(
                title="Invoices by status",
                about="All there are, of all chains. `reversed`: settled, then undone by the chain.",
                unit="short",
                width=8,
            ),
            Query(expr=latest("settler_invoices", "status", where=SCOPE), legend="{{status}}"),
            colours=INVOICE_COLOURS,
        ),
        graph(
            Spec(
                title="Suspense by reason",
                about="Transfers that belong to no invoice yet.",
                unit="short",
                runbook="suspense",
                width=6,
            ),
            Query(
                expr=f"sum by (reason) ({latest('settler_unmatched_transfers', 'chain', 'token', 'reason')}) > 0",
                legend="{{reason}}",
            ),
            is_stacked=True,
            is_stepped=True,
            decimals=0,
        ),
        graph(
            Spec(
                title="Suspense, in tokens",
                about="Money that arrived and belongs to no invoice yet. A float, to look at.",
                unit="short",
                runbook="suspense",
                width=6,
            ),
            Query(
                expr=in_tokens(latest("settler_unmatched_amount_base", "chain", "token")),
                legend="{{chain}} {{token}}",
            ),
            is_stacked=True,
            is_stepped=True,
        ),
        graph(
            Spec(
                title="Holds by reason",
                about="Settlements stopped by a policy until a person decides, of all chains.",
                unit="short",
                runbook="holds",
                width=6,
            ),
            Query(expr=f"{latest('settler_holds', 'reason', where=SCOPE)} > 0", legend="{{reason}}"),
            is_stacked=True,
            is_stepped=True,
            decimals=0,
        ),
        rows(
            Spec(
                title="Last reconciliation",
                about="By chain: what the newest `settler reconcile` found, and how long ago. Any break is worth a "
                "person; run it each day.",
                unit="none",
                runbook="reconciliation-breaks",
                width=6,
            ),
            Column(
                name="Breaks", expr=latest("settler_reconciliation_breaks", "chain"), steps=((1, BAD),), width_px=90
            ),
            Column(
                name="Ago",
                expr=latest("settler_reconciliation_age_seconds", "chain"),
                unit="s",
                decimals=0,
                steps=((2 * DAY_S, WARNING),),
                width_px=90,
            ),
            keys={"chain": "Chain"},
        ),
        rows(
            Spec(
                title="Alerts that fire, or are about to",
                about="Of settler; each has a section in the runbook. Empty where Prometheus has no rules loaded: see "
                "deploy/prometheus.",
                unit="none",
                runbook="from-the-symptom-to-the-section",
                width=24,
                height=8,
            ),
            Column(name="Series", expr=f"count by ({', '.join(ALERT_KEYS)}) (ALERTS{{{ALERTS}}})"),
            keys=ALERT_KEYS,
            sorted_by="State",  # those that fire come first
            if_none="–",
        ),
    ]
