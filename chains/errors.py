"""What goes wrong when a chain is read. Each class says its verb and who catches it (STYLE 14).

transient  retried in the adapter, then the tick fails, nothing is written, and the loop backs off
halt       the chain stops, by name and reason; other chains go on
"""

from __future__ import annotations


class ChainError(Exception):
    """Anything a reader may raise. Caught by `settler.runtime.loop`."""

    label = "error"
    """The outcome as metrics name it: a small closed set."""


class Transient(ChainError):
    """The same request may work later. Retried inside `chains.rpc`, then the tick fails."""

    label = "transient"


class Unknown(Transient):
    """A refusal in words nobody has collected yet. Treated as passing; counted apart so that somebody looks."""

    label = "unknown"


class Timeout(Transient):
    """No whole answer within the call's time-out."""

    label = "timeout"


class RateLimited(Transient):
    """The provider asks to be asked less. `retry_after_s`: what it said, if it said."""

    label = "rate_limited"

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class BlockNotFound(Transient):
    """The node does not have that block yet: it lags. Not retried at once: the next tick asks again."""

    label = "block_not_found"


class RangeTooWide(ChainError):
    """The span has more blocks than this provider takes. Caught by the log window, which narrows.

    `max_span`: blocks per request the message suggests (already lowered by one where the wording leaves open
    whether the end counts), `None` if it says nothing.
    """

    label = "range_too_wide"

    def __init__(self, message: str, *, max_span: int | None = None) -> None:
        super().__init__(message)
        self.max_span = max_span


class ResultTooLarge(RangeTooWide):
    """The span holds more logs or bytes than this provider answers with. Caught by the log window."""

    label = "result_too_large"


class FilterTooLong(ResultTooLarge):
    """The filter names more addresses or topics than this provider takes. Caught by `chains.evm`, which asks with
    less in it and matches here."""


class HistoryPruned(ChainError):
    """The node no longer has that far back. The tick fails; another provider is needed."""

    label = "history_pruned"


class MethodUnsupported(ChainError):
    """The provider does not offer the method or tag. The tick fails; the operator must choose another policy or
    node."""

    label = "method_unsupported"


class Rejected(ChainError):
    """The request is refused for good: key, billing, malformed. The tick fails and says why."""

    label = "fatal"


class NodeInconsistent(ChainError):
    """An answer that contradicts what was asked or itself (null block, foreign log, missing field, non-hex).

    The tick fails, nothing is written, it is counted, and asked again.
    """

    label = "inconsistent"


class Reverted(ChainError):
    """The contract refused an `eth_call`: an answer about the contract, not about the node. Caught by
    `chains.tokens`."""

    label = "reverted"


class WrongChain(ChainError):
    """`eth_chainId` is not the configured one. Halts reading from that provider until it is right."""

    label = "wrong_chain"


class QuorumLost(ChainError):
    """Fewer providers can be asked than must agree. The tick fails, nothing settles, and it is tried again."""

    label = "quorum_lost"


class Disagreement(ChainError):
    """Providers answered differently, and too few of them alike. The tick fails, nothing of that span settles, and
    it is read anew."""

    label = "disagreement"
