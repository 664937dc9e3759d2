"""Objects that only the API shows, field by field; beside those of `settler.domain.shapes`, which events carry too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from typing_extensions import TypedDict

from settler.domain.delivery import DeliveryStatus
from settler.domain.events import EventType
from settler.domain.settlement import HoldReason

T = TypeVar("T")


class Page(TypedDict, Generic[T]):
    """Some rows of a list."""

    data: list[T]
    next_cursor: str | None
    """Give it as `cursor` to go on; `null`: this is the end."""


class FieldError(TypedDict):
    """What is wrong with one field, and what to do."""

    field: str
    """Its path, e.g. `options[0].pay_to`."""
    detail: str


class ProblemShape(TypedDict):
    """An error, as RFC 9457 has it."""

    type: str
    """`urn:settler:problem:` and a code that never changes its meaning; branch on it."""
    title: str
    status: int
    detail: str
    instance: str
    """The address that was asked."""
    errors: list[FieldError]
    """Each wrong field, at most 50 of them; empty where no single field is to blame."""


class ProviderShape(TypedDict):
    """An RPC provider as this process sees it now."""

    provider: str
    """Host of its URL; nothing of path or key."""
    up: bool
    state: str
    """`up`, or why it is left out; `unheard` before its first answer."""
    reason: str | None
    head: int | None
    latency_ms: int | None


class ChainShape(TypedDict):
    """How far a chain is read. Numbers and times are `null` until it was."""

    name: str
    chain_id: int
    caip2: str
    head: int | None
    head_time: str | None
    scanned: int | None
    """The newest block of the first, provisional reading."""
    scanned_time: str | None
    settled: int | None
    """The newest block of the second reading: all before it is decided."""
    settled_time: str | None
    final: int | None
    """The newest block that is final by this chain's policy."""
    final_time: str | None
    lag_s: int | None
    """Time of the head less time of the last scanned block."""
    halted: bool
    """Nothing settles on it until an operator resumes it."""
    halted_at: str | None
    halt_reason: str | None
    leader: str | None
    """The worker (`runtime.worker`) that reads the chain; `null` while none does. One that died stands here until
    another takes over."""
    providers: list[ProviderShape]
    """As the worker that answers sees them: one that does not lead the chain asks none of them."""


class PaymentEvidence(TypedDict):
    """What one payment of a settlement rests on."""

    transfer_id: str
    chain: str
    chain_id: int
    tx_hash: str
    log_index: int
    block_number: int
    block_hash: str
    token_address: str
    payer: str
    pay_to: str
    amount_base: str
    ordinal: int
    """Which of several equal logs of its transaction it is, counted from 0."""
    sources: list[str]
    """The providers that gave its log alike."""
    read_at: str | None
    proof: Mapping[str, Any] | None
    """Header, receipt and the path between them, 0x-hex; `null` where the chain is not proven."""
    proof_failure: str | None
    flags: Mapping[HoldReason, str]
    """What spoke against it, by reason."""
    is_transaction_proven: bool | None
    not_shown: list[str]
    """What rests on the word of the sources alone."""


class EvidenceShape(TypedDict):
    """Enough to check a settlement without us: `settler settlement verify`."""

    settlement_id: str
    invoice_id: str
    is_reversed: bool
    payments: list[PaymentEvidence]


class EndpointShape(TypedDict):
    """Where events are sent."""

    id: str
    url: str
    merchant: str | None
    """Only events about this merchant's invoices; `null`: all."""
    types: list[EventType]
    """Only these; empty: all."""
    created_at: str
    previous_secret_until: str | None
    """After a rotation, how long the secret before signs beside the present one; `null`: one secret signs."""
    disabled_at: str | None
    """`null` while events are sent there."""
    disabled_reason: str | None


class NewEndpointShape(EndpointShape):
    """An endpoint with its new secret: this answer alone shows it."""

    secret: str
    """`whsec_…`, as Standard Webhooks libraries take it."""


class DeliveryShape(TypedDict):
    """One event on its way to one endpoint."""

    id: str
    endpoint_id: str
    event_id: str
    event_type: str
    status: DeliveryStatus
    attempts: int
    """Made so far; a retry by hand counts afresh."""
    next_attempt_at: str | None
    """`null` unless it is pending."""
    last_attempt_at: str | None
    last_status_code: int | None
    """`null`: nobody answered yet."""
    last_error: str | None
    created_at: str
    delivered_at: str | None


class AttemptShape(TypedDict):
    """One attempt to deliver."""

    at: str
    """When it ended."""
    duration_ms: int
    status_code: int | None
    """`null`: nobody answered."""
    error: str | None
    """`null`: it was delivered."""


class LoggedDeliveryShape(DeliveryShape):
    """A delivery, with the newest of its attempts."""

    attempt_log: list[AttemptShape]
    """Newest first, at most 50, of the last 30 days; those before a retry by hand too."""


class ReplayShape(TypedDict):
    """What one piece of a replay did, and how to go on."""

    since: str | None
    until: str
    """The end that was taken: give it again with `next_cursor`."""
    dead_only: bool
    endpoint_id: str | None
    replayed: int
    """Deliveries that are due again."""
    created: int
    """Deliveries that were made: of events the endpoint had never been sent."""
    next_cursor: str | None
    """Send it as `cursor`, beside the rest as before and `until` as answered; `null`: that was all."""


class HealthShape(TypedDict):
    """How the process is."""

    status: str
    reasons: list[str]
    """Why not; empty where all is well."""
