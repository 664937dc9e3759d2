"""What objects look like to the outside, field by field: the types of `settler.domain.views`, and the source of the
API's description.

Amounts are decimal strings in units of the token or currency (`"100.00"`), with the suffix `_base` integers of the
token's smallest unit as strings. Times are RFC 3339 UTC. Addresses are EIP-55, hashes 0x-hex. `null` stands where a
docstring says so and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

# pydantic reads typing's own from Python 3.12 on
from typing_extensions import TypedDict

from settler.domain.events import EventType
from settler.domain.invoices import (
    Allocation,
    InvoiceException,
    InvoiceStatus,
    Match,
    TransferStatus,
    UnmatchedReason,
)
from settler.domain.settlement import HoldReason


class OptionShape(TypedDict):
    """One way to pay an invoice."""

    chain: str
    """The chain's name in this settler's configuration."""
    chain_id: int
    """EIP-155 chain id."""
    token: str
    """Symbol."""
    token_address: str
    pay_to: str
    """The address to be paid."""
    match: Match
    """How a payment is known to be this invoice's."""
    amount: str
    """What is to be sent, in units of the token; with `match` = `amount` its last digits are this invoice's own."""
    amount_base: str
    reference: str | None
    """What the payment has to carry on chain, 0x-hex; `null` unless `match` is `reference`."""
    payer: str | None
    """Who has to send it; `null`: anybody."""
    uri: str
    """EIP-681, for wallets. It cannot carry a `reference`."""


class PlaceShape(TypedDict):
    """A token transfer, and where it stands in the chain now."""

    chain: str
    chain_id: int
    token: str
    token_address: str
    amount: str
    """In units of the token."""
    tx_hash: str
    log_index: int
    block_number: int
    block_hash: str
    payer: str
    """The sender in the token's own log; not the account that signed the transaction."""
    status: TransferStatus
    confirmations: int
    """Blocks from its own to the newest one read, both counted; 0 once it is orphaned."""


class PaymentShape(PlaceShape):
    """A transfer that counts for an invoice."""

    transfer_id: str


class InvoiceShape(TypedDict):
    """What is owed, and what came."""

    id: str
    version: int
    """Grows by one with each change: of two states, the one with the larger version is the later."""
    merchant: str
    reference: str
    """The merchant's own name for it."""
    status: InvoiceStatus
    exceptions: list[InvoiceException]
    """Sorted; empty where nothing is out of the ordinary."""
    currency: str
    amount_requested: str
    amount_received: str
    """Of all payments that stand in the chain, final or not."""
    amount_settled: str
    options: list[OptionShape]
    created_at: str
    expires_at: str
    """Payments in a block of a later time are late."""
    monitoring_until: str
    """Until then late payments are still attached to it."""
    settled_at: str | None
    """`null` unless it is settled."""
    settlement_id: str | None
    """`null` unless it is settled."""
    payments: list[PaymentShape]
    """Orphaned ones are shown, and counted in no amount."""
    metadata: Mapping[str, Any]
    """As it was given."""
    pay_path: str
    """The page on which its payer sees what to send and what came: no key is needed, its name is not guessable."""


class TransferShape(PlaceShape):
    """A token transfer to a watched address, whether it pays an invoice or not."""

    id: str
    version: int
    amount_base: str
    pay_to: str
    block_time: str
    allocation: Allocation
    reason: UnmatchedReason | None
    """Why it is unmatched; `null` otherwise."""
    invoice_id: str | None
    """The invoice it pays; `null` unless `allocation` is `invoice`."""
    evidence: Mapping[str, Any]
    """How its invoice was found: the strategy and the candidates. Who decided and why stands in the audit log."""
    recorded_at: str
    final_at: str | None
    """`null` until it is final."""


class ReversalShape(TypedDict):
    """The contra record of a settlement that the chain undid."""

    id: str
    reason: str
    reversed_at: str


class SettlementLineShape(TypedDict):
    """One payment of a settlement, with the share that was owed and the rest."""

    transfer_id: str
    chain: str
    chain_id: int
    token: str
    token_address: str
    amount_settled: str
    amount_settled_base: str
    amount_surplus: str
    amount_surplus_base: str
    tx_hash: str
    log_index: int
    block_number: int
    block_hash: str
    payer: str
    pay_to: str


class SettlementShape(TypedDict):
    """The final record that an invoice was paid. Never changed; undone only by a reversal beside it."""

    id: str
    version: int
    invoice_id: str
    generation: int
    """1, and one more each time the invoice is settled again after a reversal."""
    merchant: str
    reference: str
    currency: str
    amount_requested: str
    amount_settled: str
    amount_surplus: str
    policy: Mapping[str, Any]
    """The rules it was settled by; `version` is equal where they are."""
    settled_at: str
    payments: list[SettlementLineShape]
    reversal: ReversalShape | None
    """`null` while it is in force."""


class HoldState(StrEnum):
    HELD = "held"
    RELEASED = "released"


class HoldShape(TypedDict):
    """What stops the settlement of an invoice that is paid."""

    id: str
    invoice_id: str
    merchant: str
    status: HoldState
    reason: HoldReason
    detail: str
    transfer_id: str | None
    """The payment it is about; `null`: the invoice as a whole."""
    held_at: str
    held_by: str | None
    """The operator who placed it; `null` where a policy did."""
    released_at: str | None
    released_by: str | None
    release_reason: str | None


class RefundShape(TypedDict):
    """Money sent back, found on chain."""

    id: str
    transfer_id: str
    settlement_id: str | None
    """Set where it is the surplus of a settled invoice."""
    chain: str
    chain_id: int
    token: str
    token_address: str
    amount: str
    amount_base: str
    tx_hash: str
    log_index: int
    block_number: int
    block_hash: str
    sender: str
    recipient: str
    refunded_at: str
    refunded_by: str
    reason: str


class EventShape(TypedDict):
    """One state change: the body of a webhook, and an item of `GET /v1/events`."""

    id: str
    """The same at every attempt, in every replay and in the feed."""
    type: EventType
    created_at: str
    api_version: str
    data: InvoiceShape | TransferShape | SettlementShape
    """The object as it was after the change: that of the type's first word, a transfer for `payment`."""
