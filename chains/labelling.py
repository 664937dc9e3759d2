"""Receipts of the transactions that hold wanted transfers, to the same transfers with their labels. Pure.

Every transfer must be found in its receipt, at its place: a receipt of another fork, or of a node that leaves logs out
of one answer and not of the other, raises `NodeInconsistent`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from chains.errors import NodeInconsistent
from chains.hex import read_bytes, read_hash, read_quantity
from chains.labels import RawLog, labels
from chains.model import Label, LogQuery, Transfer, TxHash
from chains.wire import WireLog, WireLogReceipt
from contracts_abi import TRANSFER_TOPIC

_FAILED = 0
_PADDING = bytes(12)
_MAX_DATA_BYTES = 1 << 20


def transactions_to_label(found: Sequence[Transfer], query: LogQuery) -> tuple[TxHash, ...]:
    """The transactions whose receipts are needed, each once, in order."""
    return tuple(dict.fromkeys(t.identity.tx_hash for t in found if query.wants_labels(t.identity)))


def with_labels(
    found: Sequence[Transfer], receipts: Mapping[TxHash, WireLogReceipt], query: LogQuery
) -> tuple[Transfer, ...]:
    """`found`, those that the query wants labelled with their labels. `receipts`: of all of their transactions."""
    labelled = {tx_hash: _labels(receipts[tx_hash], tx_hash, query) for tx_hash in transactions_to_label(found, query)}
    return tuple(
        replace(t, labels=_of(t, *labelled[t.identity.tx_hash], receipts[t.identity.tx_hash]))
        if query.wants_labels(t.identity)
        else t
        for t in found
    )


def _labels(
    receipt: WireLogReceipt, tx_hash: TxHash, query: LogQuery
) -> tuple[Mapping[int, RawLog], Mapping[int, tuple[Label, ...]]]:
    """(logs, labels) by log index."""
    if read_hash(receipt.transaction_hash, "receipt transactionHash") != tx_hash:
        raise NodeInconsistent("a receipt of another transaction than asked")
    if receipt.status is not None and read_quantity(receipt.status, "receipt status") == _FAILED:
        raise NodeInconsistent("logs of a transaction whose receipt says that it failed")
    logs = {read_quantity(log.log_index, "log logIndex"): _raw(log) for log in receipt.logs}
    order = sorted(logs)
    found = labels([logs[index] for index in order], query.sources, query.tokens)
    return logs, {order[at]: some for at, some in found.items()}


def _of(
    transfer: Transfer,
    logs: Mapping[int, RawLog],
    labelled: Mapping[int, tuple[Label, ...]],
    receipt: WireLogReceipt,
) -> tuple[Label, ...]:
    if read_hash(receipt.block_hash, "receipt blockHash") != transfer.block_hash:
        raise NodeInconsistent("a receipt of another block than the transfer's: the chain changed meanwhile")
    identity = transfer.identity
    expected = RawLog(
        address=identity.token,
        topics=(TRANSFER_TOPIC, _PADDING + identity.sender, _PADDING + identity.recipient),
        data=identity.amount.to_bytes(32),
    )
    if logs.get(transfer.log_index) != expected:
        raise NodeInconsistent(f"the receipt has no such transfer at log {transfer.log_index}")
    return labelled.get(transfer.log_index, ())


def _raw(log: WireLog) -> RawLog:
    size = max(0, len(log.data) - len("0x")) // 2
    if size > _MAX_DATA_BYTES:
        return RawLog(address=read_bytes(log.address, "log address", 20), topics=(), data=b"")
    return RawLog(
        address=read_bytes(log.address, "log address", 20),
        topics=tuple([read_hash(topic, "log topic") for topic in log.topics]),
        data=read_bytes(log.data, "log data", size),
    )
