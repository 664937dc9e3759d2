"""Settlements, reversals, holds and refunds as they are kept, each with what it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from chains.model import Address, BaseUnits, BlockHash, BlockNumber, ChainId, TxHash
from settler.domain.ids import HoldId, InvoiceId, RefundId, ReversalId, SettlementId, TransferId
from settler.domain.settlement import Stop


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlementLine:
    """One payment of a settlement, with its place at the moment of settling."""

    transfer_id: TransferId
    chain: str
    chain_id: ChainId
    token: str
    token_address: Address
    decimals: int
    amount_settled: BaseUnits
    amount_surplus: BaseUnits
    tx_hash: TxHash
    log_index: int
    block_number: BlockNumber
    block_hash: BlockHash
    payer: Address
    pay_to: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Reversal:
    id: ReversalId
    reason: str
    reversed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    id: SettlementId
    invoice_id: InvoiceId
    generation: int
    """1 for the first settlement of an invoice; grows only after a reversal."""
    merchant: str
    reference: str
    currency: str
    scale: int
    amount_requested: int
    amount_settled: int
    amount_surplus: int
    """Amounts of the whole settlement in units of 10**-scale of the currency."""
    policy: Mapping[str, Any]
    """Finality policy per chain that was applied."""
    settled_at: datetime
    lines: tuple[SettlementLine, ...]
    reversal: Reversal | None

    @property
    def version(self) -> int:
        """1 as it was made, 2 once a reversal stands beside it; orders the events about it."""
        return 1 if self.reversal is None else 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """One thing that stops the settlement of an invoice, until an operator lets it pass."""

    id: HoldId
    invoice_id: InvoiceId
    stop: Stop
    held_at: datetime
    held_by: str | None
    """The operator who placed it; `None` where a policy did."""
    released_at: datetime | None
    released_by: str | None
    release_reason: str | None

    @property
    def stands(self) -> bool:
        return self.released_at is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refund:
    """Money of one payment that was sent back, as the chain shows it."""

    id: RefundId
    transfer_id: TransferId
    settlement_id: SettlementId | None
    """Set where it is the surplus of a settled invoice."""
    chain_id: ChainId
    token: Address
    tx_hash: TxHash
    log_index: int
    block_number: BlockNumber
    block_hash: BlockHash
    sender: Address
    recipient: Address
    amount: BaseUnits
    refunded_at: datetime
    refunded_by: str
    reason: str
