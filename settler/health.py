"""Whether the process lives and is ready for traffic, and why not. Told by the loops, asked by `/livez` and
`/readyz`.

Promises: no waiting, no I/O; a chain is ready once it was read and its scan trails its head by no more than a
bound, has a provider that answers, and is neither halted nor refused. Blocks not coming is no reason (a quiet
chain is ready), a head that has not been asked for too long is. What does not belong here: metrics, and
mending anything."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypedDict

from settler.clock import Clock

MAX_LAG_S = 60.0
"""The head's time minus that of the last scanned block, in chain time. Beyond it payments show too late to
call the chain up to date.
"""
MAX_HEAD_SILENCE_S = 150.0
"""A head not asked anew for so long is not known any more: two of the longest poll intervals, and a call's
retries.
"""
MAX_TICK_SILENCE_S = 600.0
"""A loop that has not ended a tick for so long counts as stuck: twice the longest pause of any loop, and a tick that
is slow because its node is.
"""


NO_ANSWER = "no provider answers"


class Reason(TypedDict):
    """One reason not to be ready. `chain` is empty for what concerns them all."""

    chain: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainHealth:
    """What is known of a chain, from its loops."""

    is_started: bool = False
    """It was read at least once since this process started."""
    is_provider_up: bool = True
    down_reason: str = NO_ANSWER
    """Why the provider is not up, where it is not."""
    lag_s: float = 0.0
    """Time of the head minus time of the last scanned block, in seconds of chain time."""
    halt_reason: str | None = None
    """Why it halted; `None` while it is not halted."""
    refusal: str | None = None
    """Why it cannot be read at all (wrong chain id, wrong decimals, missing tag); `None` while it can."""
    seen_at: float | None = None
    """When a provider last told the head, on the monotonic clock."""


class Health:
    """The state of the chains and loops of this process."""

    def __init__(
        self, clock: Clock, *, max_lag_s: float = MAX_LAG_S, max_head_silence_s: float = MAX_HEAD_SILENCE_S
    ) -> None:
        self._clock = clock
        self._max_lag_s = max_lag_s
        self._max_head_silence_s = max_head_silence_s
        self._chains: dict[str, ChainHealth] = {}
        self._ticked_at: dict[str, float] = {}
        self._silence_s: dict[str, float] = {}
        self._is_draining = False

    # -- told --------------------------------------------------------------------------------

    def expect_chain(self, chain: str) -> None:
        """A configured chain: not ready until it reports."""
        self._chains.setdefault(chain, ChainHealth())

    def expect_loop(self, loop: str, *, max_silence_s: float = MAX_TICK_SILENCE_S) -> None:
        """A loop that should tick from now on, at least every `max_silence_s`."""
        self._ticked_at[loop] = self._clock.monotonic()
        self._silence_s[loop] = max_silence_s

    def forget_loop(self, loop: str) -> None:
        """A loop that ended on purpose."""
        self._ticked_at.pop(loop, None)

    def ticked(self, loop: str) -> None:
        """The loop ended a tick, well or not: it is not stuck. Says nothing of a loop that is not expected."""
        if loop in self._ticked_at:
            self._ticked_at[loop] = self._clock.monotonic()

    def progressed(self, chain: str, *, lag_s: float) -> None:
        """A tick read the chain: a provider told the head, and the scan trails it by `lag_s` of chain
        time.
        """
        self._update(
            chain,
            is_started=True,
            is_provider_up=True,
            lag_s=lag_s,
            refusal=None,
            seen_at=self._clock.monotonic(),
        )

    def provider_down(self, chain: str, reason: str = NO_ANSWER) -> None:
        """No provider of the chain answers, or none is of use. `reason` is shown to whoever asks: nothing of a
        node's words, which may hold a key.
        """
        self._update(chain, is_provider_up=False, down_reason=reason)

    def provider_up(self, chain: str) -> None:
        """A provider of the chain answers, whatever it said."""
        self._update(chain, is_provider_up=True)

    def halted(self, chain: str, reason: str) -> None:
        self._update(chain, halt_reason=reason)

    def resumed(self, chain: str) -> None:
        self._update(chain, halt_reason=None)

    def refused(self, chain: str, reason: str) -> None:
        """The chain cannot be read as configured; lifted by the next `progressed`."""
        self._update(chain, refusal=reason)

    def draining(self) -> None:
        """The process is stopping: send it no more traffic."""
        self._is_draining = True

    # -- asked --------------------------------------------------------------------------------

    def chain(self, chain: str) -> ChainHealth:
        return self._chains.get(chain, ChainHealth())

    def ready(self) -> tuple[bool, list[Reason]]:
        """Whether every chain is up to date, and each reason why not."""
        reasons = [
            Reason(chain=chain, reason=reason)
            for chain, health in sorted(self._chains.items())
            for reason in self._reasons(health)
        ]
        if self._is_draining:
            reasons.insert(0, Reason(chain="", reason="the process is stopping"))
        return not reasons, reasons

    def alive(self) -> tuple[bool, list[str]]:
        """Whether every loop has ticked lately, and which have not; if not, only a new process helps."""
        now = self._clock.monotonic()
        stuck = [
            f"{loop} has not ticked for {now - at:.0f} s"
            for loop, at in sorted(self._ticked_at.items())
            if now - at > self._silence_s[loop]
        ]
        return not stuck, stuck

    def _reasons(self, health: ChainHealth) -> list[str]:
        if health.refusal is not None:
            return [f"refused: {health.refusal}"]
        reasons = []
        if health.halt_reason is not None:
            reasons.append(f"halted: {health.halt_reason}")
        if not health.is_provider_up:
            reasons.append(health.down_reason)
        if not health.is_started:
            return reasons or ["starting: not read yet"]
        if health.lag_s > self._max_lag_s:
            reasons.append(f"the scan trails the head by {health.lag_s:.0f} s of chain time")
        silence_s = self._clock.monotonic() - (health.seen_at or 0.0)
        if health.is_provider_up and silence_s > self._max_head_silence_s:
            reasons.append(f"the head was not asked for {silence_s:.0f} s")
        return reasons

    def _update(self, chain: str, **changes: object) -> None:
        self._chains[chain] = replace(self.chain(chain), **changes)  # type: ignore[arg-type]  # fields of ChainHealth
