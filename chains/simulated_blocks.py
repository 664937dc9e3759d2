"""What stands in simulated blocks: transactions, the receipts of what they did, and the transfers among their logs.
Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from chains.labels import RawLog
from chains.model import BlockHash, BlockNumber, BlockRef, ChainId, LabelSources, Transfer, TransferIdentity
from chains.simulated_headers import LOG_GAS, TX_GAS, ReceiptBody, Roots, roots_of
from chains.simulated_txs import SimTransfer, SimTx, in_order, logs_of

FOREIGN_LOGS_MAX = 7
"""Log indices of a block begin at 0 .. 7, by its hash: as if others had logged before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimBlock:
    ref: BlockRef
    txs: tuple[SimTx, ...]
    transfers: tuple[Transfer, ...]
    """In log order, ordinals set."""


class SimReceipt(NamedTuple):
    """What one transaction did, wherever it stands."""

    tx: SimTx
    logs: tuple[RawLog, ...]
    counted: tuple[tuple[int, SimTransfer], ...]
    """Which of the logs are transfers that count."""
    gas_used: int
    cumulative_gas: int


class Content:
    """A block that is not empty."""

    __slots__ = ("_roots", "first_log", "number", "receipts", "rendered", "transfers", "txs")

    def __init__(
        self,
        number: BlockNumber,
        block_hash: BlockHash,
        *,
        chain_id: ChainId,
        txs: tuple[SimTx, ...],
        receipts: tuple[SimReceipt, ...],
        roots: Roots | None,
    ) -> None:
        """`txs`: what was sent; `receipts`: theirs, then those of what tokens announced. `roots`: if known."""
        self.number = number
        self.txs = txs
        self.receipts = receipts
        self.first_log = block_hash[0] % (FOREIGN_LOGS_MAX + 1)
        self.transfers = _transfers(self, block_hash, chain_id)
        self.rendered: object = None
        """Kept here for who writes it as JSON, so that the nodes of one chain do so once."""
        self._roots = roots

    def log_indices(self) -> list[int]:
        """Where the logs of each transaction begin."""
        return list(accumulate([len(receipt.logs) for receipt in self.receipts[:-1]], initial=self.first_log))

    @property
    def roots(self) -> Roots:
        if self._roots is None:
            self._roots = roots_of(bodies_of(self.receipts))
        return self._roots


def executed(txs: Sequence[SimTx], sources: LabelSources) -> tuple[SimReceipt, ...]:
    """The receipts of these transactions, in one block and in this order."""
    receipts: list[SimReceipt] = []
    cumulative = 0
    for tx in txs:
        logs = tuple(logs_of(tx, sources))
        gas = TX_GAS + LOG_GAS * len(logs)
        cumulative += gas
        counted = tuple([(at, sent) for at, (_, sent) in enumerate(logs) if sent is not None])
        receipts.append(SimReceipt(tx, tuple([log for log, _ in logs]), counted, gas, cumulative))
    return tuple(receipts)


def bodies_of(receipts: Sequence[SimReceipt]) -> list[ReceiptBody]:
    return [ReceiptBody(each.tx.hash, each.tx.has_failed, each.cumulative_gas, each.logs) for each in receipts]


def _transfers(content: Content, block_hash: BlockHash, chain_id: ChainId) -> tuple[Transfer, ...]:
    index = content.first_log
    found: list[Transfer] = []
    for receipt in content.receipts:
        counts: dict[tuple[object, ...], int] = {}
        for at, sent in receipt.counted:
            equal = (sent.token, sent.sender, sent.recipient, sent.amount)
            ordinal = counts.get(equal, 0)
            counts[equal] = ordinal + 1
            identity = TransferIdentity(
                chain_id=chain_id,
                tx_hash=receipt.tx.hash,
                token=sent.token,
                sender=sent.sender,
                recipient=sent.recipient,
                amount=sent.amount,
                ordinal=ordinal,
            )
            found.append(
                Transfer(
                    identity=identity,
                    block_number=content.number,
                    block_hash=block_hash,
                    log_index=index + at,
                    labels=in_order(sent.labels),
                )
            )
        index += len(receipt.logs)
    return tuple(found)
