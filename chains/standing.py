"""How one provider of a pool stands: may it be asked now, is it counted as up, what has it shown. No clock of its own.

    up ──a failure──▶ resting (1, 2, 4 … 60 s, or as long as it asked for) ──asked again, answers──▶ up
    up ──differs from the majority again and again──▶ distrusted (10 min) ──agrees, or answers after it──▶ up
    up ──another chain's id──▶ removed (5 min, then its id is asked again)

What does not belong here: which provider is asked (`chains.pool`), and what an answer means.
"""

from __future__ import annotations

from enum import StrEnum

from chains.errors import BlockNotFound, ChainError, HistoryPruned, RangeTooWide, RateLimited, Rejected, WrongChain
from chains.errors import MethodUnsupported as Unsupported
from chains.model import BlockNumber
from chains.proof import Unprovable

FIRST_REST_S = 1.0
MAX_REST_S = 60.0
"""The longest rest after passing failures: a provider that comes back is used again within it."""
MAX_ASKED_REST_S = 300.0
"""The longest `Retry-After` that is honoured: one asked for a day would be a provider lost by a typing error."""
REJECTED_REST_S = 60.0
"""A key that is refused stays refused until a person acts."""
REMOVED_REST_S = 300.0
DISTRUSTED_REST_S = 600.0

DIFFERED_WEIGHT = 3
DISTRUST_AT = 9
"""Three differences running, or more of them than one in four answers: then it is not an accident."""

HEAD_FRESH_S = 2.0
"""As long a provider is held to the head it showed: until then it is not asked for a block above it. Quick chains are
eight blocks on by then, and one asked once a minute would be missed as the third voice of a dispute.
"""
IN_NEED_EVERY_S = 2.0
"""How often a resting one is tried while nothing can settle without it."""
LATENCY_SHARE = 0.2
"""Weight of the newest answer in the running mean."""


class State(StrEnum):
    UP = "up"
    RESTING = "resting"
    """It failed, or asked for a pause."""
    DISTRUSTED = "distrusted"
    """It differs from the majority."""
    REMOVED = "removed"
    """It serves another chain."""


class Standing:
    """Mutable, told of everything one provider does. `now` is seconds of a clock that never goes back."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.state = State.UP
        self.reason = ""
        """Why it is not up, in our words: a node's own may hold a key."""
        self.is_chain_known = False
        """Its chain id was seen to be right since it was last away."""
        self.head: BlockNumber | None = None
        """The highest block it showed when last asked."""
        self.latency_s: float | None = None
        """Running mean of the time an answer took."""
        self.heard_at = float("-inf")
        self._head_at = float("-inf")
        self._rests_until = float("-inf")
        self._asked_to_rest = False
        self._failures = 0
        self._differences = 0

    @property
    def is_heard(self) -> bool:
        """It answered or failed at least once."""
        return self.heard_at > float("-inf")

    @property
    def is_up(self) -> bool:
        return self.state is State.UP

    def is_resting(self, now: float) -> bool:
        """Not to be asked now, unless nobody else is left."""
        return now < self._rests_until

    def may_help(self, now: float) -> bool:
        """It may be asked although it rests, where too few others are left: unless it asked for that rest itself."""
        return not self._asked_to_rest and now - self.heard_at >= IN_NEED_EVERY_S

    def rest_left_s(self, now: float) -> float:
        return max(0.0, self._rests_until - now)

    def lacks(self, number: BlockNumber, now: float) -> bool:
        """It showed lately that it is not that far."""
        return self.head is not None and now - self._head_at < HEAD_FRESH_S and self.head < number

    # -- told ----------------------------------------------------------------------------------------------------------

    def reached(self, number: BlockNumber) -> None:
        """It has this block, and maybe others above it."""
        if self.head is None or number > self.head:
            self.head, self._head_at = number, float("-inf")

    def shows(self, head: BlockNumber, now: float) -> None:
        """It calls this its newest block; lower than before when it is several nodes, or fell back."""
        self.head, self._head_at = head, now

    def answered(self, seconds: float, now: float) -> None:
        """A question it was asked before it went away says nothing: since then its chain is not known."""
        self.heard_at = now
        before = self.latency_s
        self.latency_s = seconds if before is None else before + LATENCY_SHARE * (seconds - before)
        if not self.is_chain_known:
            return
        self._failures = 0
        # its differences are kept: the next one takes its trust again
        is_serving_time = self.state is State.DISTRUSTED and self.is_resting(now)
        if not self.is_up and not is_serving_time:
            self._turn(State.UP, "", now, rest_s=0.0)

    def failed(self, error: ChainError, now: float) -> None:
        """An error that is about the request leaves its standing as it is."""
        self.heard_at = now
        match error:
            case BlockNotFound() | RangeTooWide() | HistoryPruned() | Unsupported() | Unprovable():
                return
            case WrongChain():
                self._turn(State.REMOVED, str(error), now, rest_s=REMOVED_REST_S)
            case RateLimited():
                self._failures += 1
                asked_s = min(MAX_ASKED_REST_S, error.retry_after_s or 0.0)
                self._turn(State.RESTING, "it asks to be asked less", now, rest_s=max(asked_s, self._growing_s()))
                self._asked_to_rest = True
            case Rejected():
                self._turn(
                    State.RESTING,
                    f"it refuses what it is asked ({error.label}); the log has its words",
                    now,
                    rest_s=REJECTED_REST_S,
                )
            case _:
                self._failures += 1
                self._turn(State.RESTING, f"no good answer ({error.label})", now, rest_s=self._growing_s())

    def agreed(self, now: float) -> None:
        """It was of those that agreed."""
        self._differences = max(0, self._differences - 1)
        if self.state is State.DISTRUSTED:
            self._turn(State.UP, "", now, rest_s=0.0)

    def differed(self, now: float) -> None:
        """It was of the minority."""
        self._differences = min(DISTRUST_AT, self._differences + DIFFERED_WEIGHT)
        if self._differences >= DISTRUST_AT:
            self._turn(State.DISTRUSTED, "it keeps differing from the majority", now, rest_s=DISTRUSTED_REST_S)

    def _growing_s(self) -> float:
        return min(MAX_REST_S, FIRST_REST_S * 2.0 ** min(self._failures - 1, 16))

    def _turn(self, state: State, reason: str, now: float, *, rest_s: float) -> None:
        if self.state in (State.DISTRUSTED, State.REMOVED) and state is State.RESTING:
            # failing does not earn its trust back
            state, reason = self.state, self.reason
        self.state, self.reason = state, reason
        if state is State.UP:
            self._asked_to_rest = False
            self._rests_until = now
            return
        # several questions may fail at once: the longest rest counts, a `Retry-After` among them
        self._rests_until = max(self._rests_until, now + rest_s)
        self.is_chain_known = False
