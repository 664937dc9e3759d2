"""Chains and their RPC providers: where each stands, what it does to us, what it costs."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.generate.frame import Section, framed
from deploy.grafana.generate.panels import BAD, GOOD, WARNING, Column, Panel, Query, Spec, graph, number, rows
from deploy.grafana.generate.queries import (
    BLIND_S,
    CHAIN,
    LATE_S,
    PROVIDER,
    STALLED_S,
    counted,
    ended,
    latest,
    not_ended,
    quantile,
    rate,
)

DURATION = "settler_rpc_request_duration_seconds"
REQUESTS = "settler_rpc_requests_total"
TICKS = "settler_stage_ticks_total"
AT_THE_LEADER = f"and on (chain, instance) settler_leader{{{CHAIN}}} == 1"
"""A worker that does not lead asks no provider; what it last knew is old."""


def dashboard(runbook: str) -> Dashboard:
    return framed(
        uid="settler-chains",
        title="settler / Chains & RPC",
        about="Where each chain stands, forks, and what each RPC provider does.",
        sections=[
            Section(title="Chains", panels=[_standing(), *_times(), *_events()]),
            Section(title="RPC providers", panels=[_providers(), *_traffic(), *_durations(), *_troubles()]),
        ],
        runbook=runbook,
        has_provider=True,
    )


def _standing() -> Panel:
    fencing = f"settler_lease_fencing{{{CHAIN}}}"
    return rows(
        Spec(
            title="Where each chain stands",
            about="Heights, how far apart they are in time, who leads. Settled trails final by a tick; final trails "
            "the head by what the chain's finality takes. No leader for more than 15 s is wrong, and two are.",
            unit="none",
            runbook="chain-lag",
            width=24,
            height=6,
        ),
        Column(name="Head", expr=latest("settler_head_block", "chain")),
        Column(name="Scanned", expr=latest("settler_scanned_block", "chain")),
        Column(name="Final", expr=latest("settler_final_block", "chain")),
        Column(name="Settled", expr=latest("settler_settled_block", "chain")),
        Column(
            name="Head age",
            expr=latest("settler_head_age_seconds", "chain"),
            unit="s",
            decimals=0,
            steps=((LATE_S, WARNING), (BLIND_S, BAD)),
        ),
        Column(
            name="Lag",
            expr=latest("settler_chain_lag_seconds", "chain"),
            unit="s",
            decimals=0,
            steps=((LATE_S, WARNING), (STALLED_S, BAD)),
        ),
        Column(name="Finality lag", expr=latest("settler_finality_lag_seconds", "chain"), unit="s", decimals=0),
        Column(
            name="State",
            expr=latest("settler_chain_halted", "chain"),
            texts={"0": ("running", GOOD), "1": ("HALTED", BAD)},
        ),
        Column(
            name="Leaders",
            expr=f"sum by (chain) (settler_leader{{{CHAIN}}})",
            texts={"0": ("none", BAD), "1": ("1", GOOD), "2": ("2", BAD)},
        ),
        Column(
            name="Takeovers",
            expr=f"max by (chain) (max_over_time({fencing}[$__range]) - min_over_time({fencing}[$__range]))",
        ),
        keys={"chain": "Chain"},
    )


def _times() -> list[Panel]:
    def seconds(title: str, about: str, runbook: str, name: str) -> Panel:
        return graph(
            Spec(title=title, about=about, unit="s", runbook=runbook, width=8),
            Query(expr=latest(name, "chain"), legend="{{chain}}"),
        )

    head = latest("settler_head_block", "chain")
    return [
        seconds(
            "Head age",
            "Now less the time of the newest block. About a block's time; what keeps rising is a chain, or its "
            "providers, that stand still.",
            "head-stale",
            "settler_head_age_seconds",
        ),
        seconds(
            "Chain lag",
            "Chain time between the head and the newest block read.",
            "chain-lag",
            "settler_chain_lag_seconds",
        ),
        seconds(
            "Finality lag",
            "Chain time between the head and the final block. It saws between a least and a most that belong to the "
            "chain; what keeps rising is a chain that does not finalise.",
            "finality-stalled",
            "settler_finality_lag_seconds",
        ),
        graph(
            Spec(
                title="Blocks behind the head",
                about="How many blocks the first reading (scanned), the final height and the second reading (settled) "
                "trail the head.",
                unit="short",
                runbook="chain-lag",
                width=12,
            ),
            *(
                Query(
                    expr=f"{head} - on (chain) {latest(f'settler_{height}_block', 'chain')}",
                    legend=f"{{{{chain}}}} {height}",
                )
                for height in ("scanned", "final", "settled")
            ),
            decimals=0,
        ),
        graph(
            Spec(
                title="Who leads",
                about="1 while the worker leads the chain. One worker at a time reads and settles a chain; a killed "
                "one is replaced within 15 s.",
                unit="short",
                width=12,
            ),
            Query(expr=f"max by (chain, instance) (settler_leader{{{CHAIN}}})", legend="{{chain}} {{instance}}"),
            is_stepped=True,
            decimals=0,
            max_value=2,
        ),
    ]


def _events() -> list[Panel]:
    def latency(title: str, about: str, runbook: str, name: str) -> Panel:
        return graph(
            Spec(title=title, about=about, unit="s", runbook=runbook, width=6),
            Query(expr=quantile(0.95, name, "chain"), legend="{{chain}}"),
        )

    return [
        latency(
            "Detection latency, p95",
            "From a payment's block to its being recorded.",
            "chain-lag",
            "settler_detection_latency_seconds",
        ),
        latency(
            "Settlement latency, p95",
            "From a payment's block being final to its settlement.",
            "nothing-settles",
            "settler_settlement_latency_seconds",
        ),
        graph(
            Spec(
                title="Reorgs and reversals",
                about="Forks followed, and settlements undone by their chain, per minute. A reorg of a block or two is "
                "daily life; a reversal never is.",
                unit="short",
                runbook="reorg",
                width=6,
            ),
            Query(expr=f"60 * {rate('settler_reorgs_total', 'chain')} > 0", legend="{{chain}} reorgs"),
            Query(expr=f"60 * {rate('settler_reversals_total', 'chain')} > 0", legend="{{chain}} reversals"),
            has_bars=True,
        ),
        number(
            Spec(
                title="Deepest reorg",
                about="Blocks replaced by the deepest fork of the time shown, rounded up to the bucket it was counted "
                "in. Finality by depth has to be deeper.",
                unit="short",
                runbook="reorg",
                width=6,
            ),
            Query(
                expr=f"histogram_quantile(1, {counted('settler_reorg_depth_blocks_bucket', 'chain', 'le')}) > 0",
                legend="{{chain}}",
            ),
            is_named=True,
            decimals=0,
            if_none="none",
        ),
        graph(
            Spec(
                title="Ticks per minute that went well",
                about="By chain and stage: `open` asks what the chain is, `watch` reads to the head, `settle` to the "
                "final block. What falls to zero stands still.",
                unit="short",
                runbook="process-stuck",
                width=12,
            ),
            Query(
                expr=f"60 * {rate(TICKS, 'chain', 'stage', where=ended('ok|conflict', CHAIN))} > 0",
                legend="{{chain}} {{stage}}",
            ),
        ),
        graph(
            Spec(
                title="Ticks per minute that failed",
                about="By chain, stage and why. A few `transient`, `timeout` or `rate_limited` are a provider's "
                "weather; they are tried again. `bug` never is normal.",
                unit="short",
                runbook="stage-failing",
                width=12,
            ),
            Query(
                expr=f"60 * {rate(TICKS, 'chain', 'stage', 'outcome', where=not_ended('ok|conflict', CHAIN))} > 0",
                legend="{{chain}} {{stage}}: {{outcome}}",
            ),
            has_bars=True,
            is_stacked=True,
        ),
    ]


def _providers() -> Panel:
    by = ("chain", "provider")
    failed = rate(REQUESTS, *by, where=not_ended("ok|block_not_found", PROVIDER))
    return rows(
        Spec(
            title="Each provider",
            about="Hosts of the RPC URLs. Up: it answers and serves the right chain, as the leading worker sees it. "
            "Rate limits and disagreements are of the time shown: a provider that disagrees lies or lags.",
            unit="none",
            runbook="provider-down",
            width=24,
            height=7,
        ),
        Column(
            name="Up",
            expr=f"min by (chain, provider) (settler_rpc_provider_up{{{PROVIDER}}} {AT_THE_LEADER})",
            texts={"0": ("DOWN", BAD), "1": ("up", GOOD)},
        ),
        Column(name="Calls", expr=rate(REQUESTS, *by, where=PROVIDER), unit="cps", decimals=1),
        Column(
            name="Failed",
            expr=f"{failed} / {rate(REQUESTS, *by, where=PROVIDER)} or 0 * {rate(REQUESTS, *by, where=PROVIDER)}",
            unit="percentunit",
            decimals=1,
            steps=((0.02, WARNING), (0.2, BAD)),
        ),
        Column(name="p50", expr=quantile(0.5, DURATION, *by, where=PROVIDER), unit="s", decimals=1),
        Column(
            name="p95",
            expr=quantile(0.95, DURATION, *by, where=PROVIDER),
            unit="s",
            decimals=1,
            steps=((1, WARNING), (5, BAD)),
        ),
        Column(
            name="Rate limited",
            expr=counted("settler_rpc_rate_limits_total", *by, where=PROVIDER),
            decimals=0,
            steps=((1, WARNING),),
        ),
        Column(
            name="Disagreed",
            expr=counted("settler_rpc_disagreements_total", *by, where=PROVIDER),
            decimals=0,
            steps=((1, WARNING),),
        ),
        keys={"chain": "Chain", "provider": "Provider"},
    )


def _traffic() -> list[Panel]:
    return [
        graph(
            Spec(
                title="Calls per second, by provider",
                about="JSON-RPC calls; those of a batch count one by one.",
                unit="cps",
                width=8,
            ),
            Query(expr=rate(REQUESTS, "chain", "provider", where=PROVIDER), legend="{{chain}} {{provider}}"),
        ),
        graph(
            Spec(
                title="Calls per second, by outcome",
                about="`block_not_found` is a node asked for a block that it has not yet: normal now and then.",
                unit="cps",
                runbook="provider-down",
                width=8,
            ),
            Query(expr=f"{rate(REQUESTS, 'outcome', where=PROVIDER)} > 0", legend="{{outcome}}"),
            is_stacked=True,
            colours={"ok": "green", "rate_limited": "orange", "timeout": "red", "transient": "yellow"},
        ),
        graph(
            Spec(
                title="Calls per minute, by method",
                about="What a plan is billed for.",
                unit="short",
                width=8,
            ),
            Query(expr=f"60 * {rate(REQUESTS, 'method', where=PROVIDER)} > 0", legend="{{method}}"),
            is_stacked=True,
        ),
    ]


def _durations() -> list[Panel]:
    return [
        graph(
            Spec(
                title="Call duration",
                about="Of the HTTP request a call was part of, over all providers chosen.",
                unit="s",
                runbook="provider-down",
                width=8,
            ),
            *(Query(expr=quantile(q, DURATION, where=PROVIDER), legend=f"p{q * 100:g}") for q in (0.5, 0.95, 0.99)),
        ),
        graph(
            Spec(
                title="Call duration, p95 by provider",
                about="The slow ones. Order in `rpc` is preference.",
                unit="s",
                runbook="provider-down",
                width=8,
            ),
            Query(
                expr=quantile(0.95, DURATION, "chain", "provider", where=PROVIDER),
                legend="{{chain}} {{provider}}",
            ),
        ),
        graph(
            Spec(
                title="Call duration, p95 by method",
                about="`eth_getLogs` over wide ranges and `eth_getBlockReceipts` are the heavy ones.",
                unit="s",
                runbook="chain-lag",
                width=8,
            ),
            Query(expr=quantile(0.95, DURATION, "method", where=PROVIDER), legend="{{method}}"),
        ),
    ]


def _troubles() -> list[Panel]:
    return [
        graph(
            Spec(
                title="Providers up",
                about="1 while the provider answers and serves the right chain, as the leading worker sees it.",
                unit="short",
                runbook="provider-down",
                width=8,
            ),
            Query(
                expr=f"min by (chain, provider) (settler_rpc_provider_up{{{PROVIDER}}} {AT_THE_LEADER})",
                legend="{{chain}} {{provider}}",
            ),
            is_stepped=True,
            decimals=0,
            max_value=2,
        ),
        graph(
            Spec(
                title="Rate limits per minute",
                about="Calls a provider refused for their rate; they are tried again, slower.",
                unit="short",
                runbook="rate-limited",
                width=8,
            ),
            Query(
                expr=f"60 * {rate('settler_rpc_rate_limits_total', 'chain', 'provider', where=PROVIDER)}",
                legend="{{chain}} {{provider}}",
            ),
        ),
        graph(
            Spec(
                title="Disagreements per minute",
                about="Answers that differed from those of the other providers. Nothing settles on a minority's word.",
                unit="short",
                runbook="provider-disagreement",
                width=8,
            ),
            Query(
                expr=f"60 * {rate('settler_rpc_disagreements_total', 'chain', 'provider', where=PROVIDER)}",
                legend="{{chain}} {{provider}}",
            ),
        ),
    ]
