"""PromQL that several panels use.

Several workers may share a database. What each reads from it (heights, ages, queues) is the same everywhere, give or
take a tick: `max` of the workers. What each counts of its own work is added: `sum`.
"""

from __future__ import annotations

SCOPE = 'job="$job",instance=~"$instance"'
"""One deployment, and the workers chosen of it: two deployments on one Prometheus are never mixed."""
CHAIN = f'chain=~"$chain",{SCOPE}'
PROVIDER = f'provider=~"$provider",{CHAIN}'
OF_NO_CHAIN = f'chain="",{SCOPE}'
"""Stages that belong to none."""
LATE_S = 60
"""A payment this long past finality is late: the promise is 30 s."""
STALLED_S = 300
UNFINAL_S = 120
"""What finality may lag beyond three times the usual: fast chains need a moment's grace."""
BLIND_S = 300
"""Nothing newer of a chain was read: its blocks come every 15 s at most."""


def latest(name: str, *by: str, where: str = CHAIN) -> str:
    """A gauge that all workers show of one thing."""
    return f"max{_by(by)} ({name}{{{where}}})"


def rate(name: str, *by: str, where: str = CHAIN) -> str:
    """Of a counter, per second, of all workers together."""
    return f"sum{_by(by)} (rate({name}{{{where}}}[$__rate_interval]))"


def counted(name: str, *by: str, where: str = CHAIN) -> str:
    """By how much a counter grew over the time shown, of all workers together; not whole, where it is extrapolated."""
    return f"sum{_by(by)} (increase({name}{{{where}}}[$__range]))"


def share_in_time(what: str, *by: str) -> str:
    """Of detections or settlements, over half an hour; from counters that the recording rules make."""
    in_time, all_ = (f"sum{_by(by)} (rate(settler:{what}{kind}:total{{{CHAIN}}}[30m]))" for kind in ("_in_time", ""))
    return f"{in_time} / {all_}"


def quantile(q: float, name: str, *by: str, where: str = CHAIN) -> str:
    """Of a histogram. It is interpolated within a bucket: 2.5 s may stand for anything between its neighbours."""
    return f"histogram_quantile({q}, {rate(f'{name}_bucket', *by, 'le', where=where)})"


def in_tokens(base: str) -> str:
    """An amount in base units by chain and token, in tokens. A float, to look at: books are in the settlements."""
    return f"{base} / on (chain, token) (10 ^ {latest('settler_token_decimals', 'chain', 'token')})"


def overdue() -> str:
    """By chain: how long the oldest payment waits beyond what finality takes anyway; 0 where none does."""
    oldest = latest("settler_oldest_unsettled_seconds", "chain")
    return f"clamp_min({oldest} - on (chain) {latest('settler_finality_lag_seconds', 'chain')}, 0)"


def blindness() -> str:
    """By chain: how old the newest block is that was read."""
    return f"({latest('settler_head_age_seconds', 'chain')} + {latest('settler_chain_lag_seconds', 'chain')})"


def ended(outcomes: str, where: str) -> str:
    """What ended in one of `outcomes`, a regular expression."""
    return f'outcome=~"{outcomes}",{where}'


def not_ended(outcomes: str, where: str) -> str:
    return f'outcome!~"{outcomes}",{where}'


def unfinal() -> str:
    """By chain: by how much its finality lags more than two minutes and three times what is usual for it; none for
    chains that nothing is known of.
    """
    lag, usual = latest("settler_finality_lag_seconds", "chain"), latest("settler_usual_finality_seconds", "chain")
    return f"({lag} - on (chain) 3 * {usual} - {UNFINAL_S})"


def _by(labels: tuple[str, ...]) -> str:
    return f" by ({', '.join(labels)})" if labels else ""
