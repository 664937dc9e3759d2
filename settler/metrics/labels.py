"""The closed sets that labels are taken from. A test compares them with the enums they mirror: this module
may not import the layers above it."""

from __future__ import annotations

OTHER = "other"
RPC_METHODS = (
    "eth_blockNumber",
    "eth_call",
    "eth_chainId",
    "eth_getBlockByHash",
    "eth_getBlockByNumber",
    "eth_getBlockReceipts",
    "eth_getCode",
    "eth_getLogs",
    "eth_getTransactionReceipt",
)
RPC_OUTCOMES = (
    "ok",
    "error",
    "transient",
    "unknown",
    "timeout",
    "rate_limited",
    "block_not_found",
    "range_too_wide",
    "result_too_large",
    "history_pruned",
    "method_unsupported",
    "fatal",
    "inconsistent",
    "reverted",
    "wrong_chain",
    "quorum_lost",
    "disagreement",
)
"""`ok` and the labels of `chains.errors`."""
TICK_OUTCOMES = (
    "ok",
    "conflict",
    "storage",
    "bug",
    "transient",
    "timeout",
    "rate_limited",
    "block_not_found",
    "range_too_wide",
    "result_too_large",
    "history_pruned",
    "method_unsupported",
    "inconsistent",
    "tag_unusable",
    "refused",
    "wrong_chain",
    "quorum_lost",
    "disagreement",
    "unprovable",
    "proof_failed",
    "fatal",
    "unknown",
)
"""`ok`; another worker was faster; the database or ourselves at fault; else the label of the error
(`chains.errors`).
"""
ALLOCATIONS = ("invoice", "unmatched", "dismissed")
INVOICE_STATUSES = ("pending", "processing", "settled", "expired", "canceled", "reversed")
UNMATCHED_REASONS = (
    "no_invoice",
    "ambiguous",
    "wrong_asset",
    "wrong_amount",
    "late",
    "surplus",
    "ignored_zero",
)
HOLD_REASONS = ("late", "depeg", "sanctions", "proof_failed", "token_paused", "manual")
DELIVERY_OUTCOMES = ("delivered", "retried", "dead", "disabled")


def known(value: str, words: tuple[str, ...]) -> str:
    """The value if it is of the closed set, else `other`: a label must not grow with what nodes answer."""
    return value if value in words else OTHER
