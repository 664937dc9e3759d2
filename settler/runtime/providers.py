"""The providers of a chain, built from its settings: one pool, and the loops' way to be woken by pushed heads."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

from chains.errors import ChainError
from chains.evm import EvmReader
from chains.heads import HeadsState, HeadWaker
from chains.pool import Pool, PoolObserver
from chains.post import HttpSession
from chains.proof import Profile, profile_of
from chains.rpc import ATTEMPTS, CallObserver, RpcProvider, SilentObserver
from chains.spans import WindowedReader
from chains.standing import Standing, State
from chains.transactions import Transactions
from chains.unknown import UnknownWords
from chains.url import is_socket
from settler.config import ChainSettings
from settler.health import NO_ANSWER, Health
from settler.logs import get_logger
from settler.metrics import Metrics

SILENT_BLOCKS = 10
"""Blocks that may fail to be pushed before a subscription counts as silent, at least `SILENT_AT_LEAST_S`."""
SILENT_AT_LEAST_S = 60.0

_log = get_logger(__name__)


def proof_profile(chain: ChainSettings) -> Profile | None:
    """How the chain's receipts are proven; `None` where they are not to be."""
    return profile_of(chain.chain_id) if chain.proof == "receipts" else None


def make_readers(
    chain: ChainSettings,
    *,
    monotonic: Callable[[], float],
    calls: Callable[[str], CallObserver] = lambda _: SilentObserver(),
    attempts: int = ATTEMPTS,
    session: HttpSession | None = None,
    jitter: random.Random | None = None,
) -> list[WindowedReader]:
    """One reader a provider, in order of preference. `calls`: by name, who is told of a provider's calls.

    `attempts`: of each call. `session`: for all over HTTP; `None`: each makes its own. `jitter`: of their retries.
    """
    profile = proof_profile(chain)
    # receipts that a node appends are in no bloom: payments in them would be taken for invented
    checks_bloom = profile is not None and not profile.appends_synthetic
    words = UnknownWords(lambda provider, text: _log.warning("rpc.unknown_words", provider=provider, text=text))
    return [
        WindowedReader(
            EvmReader(
                RpcProvider(
                    url.get_secret_value(),
                    session=session,
                    jitter=jitter,
                    name=name,
                    observer=calls(name),
                    unknown_words=words,
                    attempts=attempts,
                    max_rps=chain.rpc_max_rps,
                    max_in_flight=chain.rpc_max_in_flight,
                ),
                chain_id=chain.chain_id,
                check_bloom=checks_bloom,
            ),
            monotonic=monotonic,
        )
        for name, url in zip(chain.providers, chain.rpc, strict=True)
    ]


def make_pool(
    chain: ChainSettings,
    *,
    monotonic: Callable[[], float],
    calls: Callable[[str], CallObserver] = lambda _: SilentObserver(),
    observer: PoolObserver | None = None,
    session: HttpSession | None = None,
    jitter: random.Random | None = None,
) -> Pool:
    """The chain's providers as one. Where there are several, a call is tried once: the next provider is the retry."""
    attempts = ATTEMPTS if len(chain.rpc) == 1 else 1
    return Pool(
        make_readers(chain, monotonic=monotonic, calls=calls, attempts=attempts, session=session, jitter=jitter),
        chain_id=chain.chain_id,
        monotonic=monotonic,
        observer=observer,
        hedge_after_s=chain.rpc_hedge_after_s,
    )


def make_locators(chain: ChainSettings) -> list[Transactions]:
    """One a provider, in order of preference: who says in which block a transaction is. To be closed by the caller."""
    return [
        Transactions(RpcProvider(url.get_secret_value(), name=name))
        for name, url in zip(chain.providers, chain.rpc, strict=True)
    ]


def head_wakers(chain: ChainSettings, wake: asyncio.Event) -> Sequence[HeadWaker]:
    """One for each provider over a WebSocket; each sets `wake` when it is pushed a head."""
    block_time_s = 0.0 if chain.facts is None else chain.facts.block_time_s

    def told(name: str) -> Callable[[HeadsState, ChainError | None], None]:
        def on_change(state: HeadsState, error: ChainError | None) -> None:
            say = _log.info if state is HeadsState.LIVE else _log.warning
            say("rpc.heads", chain=chain.name, provider=name, state=state.value, error=str(error or ""))

        return on_change

    return [
        HeadWaker(
            url.get_secret_value(),
            name=name,
            on_head=wake.set,
            on_change=told(name),
            silent_after_s=max(SILENT_AT_LEAST_S, SILENT_BLOCKS * block_time_s),
        )
        for name, url in zip(chain.providers, chain.rpc, strict=True)
        if is_socket(url.get_secret_value())
    ]


def provider_view(standing: Standing, *, chain: str) -> dict[str, Any]:
    """As `GET /v1/chains` shows a provider."""
    return {
        "chain": chain,
        "provider": standing.name,
        "up": standing.is_up and standing.is_heard,
        "state": standing.state.value if standing.is_heard else "unheard",
        "reason": standing.reason or None,
        "head": standing.head,
        "latency_ms": None if standing.latency_s is None else round(standing.latency_s * 1000),
    }


class ProviderWatcher:
    """`chains.pool.PoolObserver` of one chain: logs, metrics and health follow what its pool says of providers."""

    def __init__(self, chain: ChainSettings, *, metrics: Metrics, health: Health) -> None:
        self._chain = chain.name
        self._metrics = metrics
        self._health = health
        self._down: dict[str, str] = {}
        self._names = chain.providers

    def on_standing(self, standing: Standing) -> None:
        self._metrics.provider_up(self._chain, standing.name, standing.is_up)
        line = {"chain": self._chain, "provider": standing.name, "state": standing.state.value}
        if standing.is_up:
            was_down = self._down.pop(standing.name, None) is not None
            if was_down:
                _log.info("rpc.provider_up", **line)
        else:
            self._down[standing.name] = standing.reason
            is_loud = standing.state in (State.REMOVED, State.DISTRUSTED)
            (_log.error if is_loud else _log.warning)("rpc.provider_down", **line, reason=standing.reason)
        if len(self._down) < len(self._names):
            self._health.provider_up(self._chain)
        else:
            told = "; ".join(f"{name}: {reason}" for name, reason in sorted(self._down.items()))
            self._health.provider_down(self._chain, f"{NO_ANSWER} ({told})")

    def on_disagreement(self, provider: str, what: str) -> None:
        self._metrics.disagreement(self._chain, provider)
        _log.warning("rpc.disagreement", chain=self._chain, provider=provider, what=what)
