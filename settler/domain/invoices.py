"""What is owed and what came: invoices, their options, transfers as recorded, and the words for their states.

The words are those of INTERFACE.md; they are stored and shown as they stand here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from chains.model import Address, BaseUnits, BlockHash, BlockNumber, ChainId, TransferIdentity
from settler.domain.ids import InvoiceId, SettlementId, TransferId

DEFAULT_MERCHANT = "default"
ASSIGNED = "assigned"
"""What the evidence of a payment names as its strategy where an operator assigned it."""


class InvoiceStatus(StrEnum):
    """`pending → processing → settled`; see `settler.domain.lifecycle` for the arrows."""

    PENDING = "pending"
    PROCESSING = "processing"
    """Paid in full on the current chain view, not final."""
    SETTLED = "settled"
    EXPIRED = "expired"
    CANCELED = "canceled"
    REVERSED = "reversed"
    """Settled, then undone by the chain."""


class InvoiceException(StrEnum):
    """A set beside the status."""

    UNDERPAID = "underpaid"
    OVERPAID = "overpaid"
    LATE = "late"
    ON_HOLD = "on_hold"
    MARKED = "marked"


class Match(StrEnum):
    """How a transfer finds its invoice (RULES.md section 3)."""

    ADDRESS = "address"
    AMOUNT = "amount"
    REFERENCE = "reference"
    PAYER = "payer"


class TransferStatus(StrEnum):
    DETECTED = "detected"
    """Seen by the first reading: provisional."""
    FINAL = "final"
    """Confirmed by the second reading at or below the final height."""
    ORPHANED = "orphaned"
    """Not in the chain any more, or never was."""


class Allocation(StrEnum):
    INVOICE = "invoice"
    UNMATCHED = "unmatched"
    DISMISSED = "dismissed"


class UnmatchedReason(StrEnum):
    NO_INVOICE = "no_invoice"
    AMBIGUOUS = "ambiguous"
    WRONG_ASSET = "wrong_asset"
    WRONG_AMOUNT = "wrong_amount"
    LATE = "late"
    SURPLUS = "surplus"
    IGNORED_ZERO = "ignored_zero"
    """Moves no money: value zero, or from an address to itself. Recorded, in no queue and no sum."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One way to pay an invoice: a token on a chain to an address."""

    index: int
    chain: str
    """The chain's key in the configuration when the invoice was made."""
    chain_id: ChainId
    token: str
    """Symbol."""
    token_address: Address
    decimals: int
    pay_to: Address
    match: Match
    amount_base: BaseUnits
    """What this option asks for, in the token's base units; for `match = amount` the unique tail is in it."""
    tail_base: BaseUnits
    """The part of `amount_base` that only makes it unique; 0 for other strategies."""
    from_block: BlockNumber | None
    """Transfers at or below this height were mined before the invoice existed and cannot be meant for it.

    The settled height when the invoice was made; `None` when the chain had not been read yet. At an address that an
    invoice before it had, the newest block that was known then. Elsewhere not the head: a node may have made it up, and
    a block that replaces it may hold a payment made since. Not a time: a node that lags or a clock that is off must not
    lose a payment.
    """
    reference: bytes | None = None
    """On-chain reference, 8 to 32 bytes, for `match = reference`: a nonce, a memo, a payment reference or hash."""
    payer: Address | None = None
    """The sender that is expected: needed for `match = payer`, optional for `reference`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoice:
    id: InvoiceId
    merchant: str
    reference: str
    """The merchant's own name for it; unique per merchant."""
    status: InvoiceStatus
    exceptions: frozenset[InvoiceException]
    currency: str
    amount: int
    """What is owed, in units of 10**-scale of the currency."""
    scale: int
    """The most decimals any option's token has: fine enough to add every payment exactly."""
    options: tuple[Option, ...]
    created_at: datetime
    expires_at: datetime
    monitoring_until: datetime
    settled_at: datetime | None
    settlement_id: SettlementId | None
    """The settlement in force; `None` again once it was reversed."""
    metadata: Mapping[str, Any]
    version: int
    """Grows by one with every change of the row; orders the events about it."""
    pay_token: str
    """Names its payment page, `/pay/{pay_token}`: not guessable, and opens nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferRecord:
    """A transfer as we hold it: what it is, where it stands now, and to whom it was allocated."""

    id: TransferId
    identity: TransferIdentity
    decimals: int
    """Of its token on its chain."""
    status: TransferStatus
    block_number: BlockNumber
    block_hash: BlockHash
    block_time: datetime
    log_index: int
    allocation: Allocation
    reason: UnmatchedReason | None
    """Why it is unmatched; `None` otherwise."""
    invoice_id: InvoiceId | None
    """Set exactly when `allocation` is `invoice`."""
    evidence: Mapping[str, Any]
    """How the allocation was found: strategy and candidates."""
    recorded_at: datetime
    final_at: datetime | None
    version: int

    @property
    def is_canonical(self) -> bool:
        return self.status is not TransferStatus.ORPHANED

    @property
    def is_final(self) -> bool:
        return self.status is TransferStatus.FINAL

    @property
    def moves_money(self) -> bool:
        """Not of value zero, and not from an address to itself."""
        return self.identity.amount > 0 and self.identity.sender != self.identity.recipient

    @property
    def is_assigned(self) -> bool:
        """An operator said which invoice it pays; no rule did."""
        return self.evidence.get("strategy") == ASSIGNED
