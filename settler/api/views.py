"""Objects that only the API shows: chains, evidence, webhooks and deliveries. The rest is `settler.domain.views`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from settler.domain.delivery import Delivery, Endpoint, LoggedAttempt
from settler.domain.records import Settlement
from settler.domain.views import Json, Render, caip2, hex_text, time_text
from settler.storage.chains import ChainState
from settler.storage.evidence import SettledPayment


def chain_view(state: ChainState, providers: Sequence[Mapping[str, Any]], *, leader: str | None) -> Json:
    """Numbers are `null` until the chain was read. `lag_s`: time of the head − time of the last scanned block.
    `leader`: the worker that leads it, by the lease.
    """
    return {
        "name": state.name,
        "chain_id": state.chain_id,
        "caip2": caip2(state.chain_id),
        "head": state.head_number,
        "head_time": _time(state.head_time),
        "scanned": state.scanned_number,
        "scanned_time": _time(state.scanned_time),
        "settled": state.settled_number,
        "settled_time": _time(state.settled_time),
        "final": state.final_number,
        "final_time": _time(state.final_time),
        "lag_s": lag_s(state),
        "halted": state.is_halted,
        "halted_at": _time(state.halted_at),
        "halt_reason": state.halt_reason,
        "leader": leader,
        "providers": [{name: value for name, value in p.items() if name != "chain"} for p in providers],
    }


def lag_s(state: ChainState) -> int | None:
    """Whole seconds, never below zero; `None` until there are both times."""
    if state.head_time is None or state.scanned_time is None:
        return None
    return max(0, int((state.head_time - state.scanned_time).total_seconds()))


def evidence_view(settlement: Settlement, payments: Sequence[SettledPayment], render: Render) -> Json:
    """What a settlement rests on: enough to check it without us (`chains.proof.verify`)."""
    return {
        "settlement_id": settlement.id,
        "invoice_id": settlement.invoice_id,
        "is_reversed": settlement.reversal is not None,
        "payments": [_evidence_of(payment, render) for payment in payments],
    }


def _evidence_of(payment: SettledPayment, render: Render) -> Json:
    line, stored = payment.line, payment.stored
    given = None if stored is None else stored.evidence
    proof = None if given is None or given.proof is None else dict(given.proof)
    return {
        "transfer_id": line.transfer_id,
        "chain": line.chain,
        "chain_id": line.chain_id,
        "tx_hash": hex_text(line.tx_hash),
        "log_index": line.log_index,
        "block_number": line.block_number,
        "block_hash": hex_text(line.block_hash),
        "token_address": render.address(line.token_address),
        "payer": render.address(line.payer),
        "pay_to": render.address(line.pay_to),
        "amount_base": str(line.amount_settled + line.amount_surplus),
        "ordinal": payment.transfer.identity.ordinal,
        "sources": [] if given is None else list(given.sources),
        "read_at": None if stored is None else time_text(stored.read_at),
        "proof": proof,
        "proof_failure": None if given is None else given.failure,
        "flags": {} if given is None else {reason.value: why for reason, why in given.flags.items()},
        "is_transaction_proven": None if proof is None else proof.get("transaction_path") is not None,
        "not_shown": _not_shown(proof),
    }


def _not_shown(proof: Mapping[str, Any] | None) -> list[str]:
    """What rests on the word of the sources; see `chains.proof.evidence`."""
    if proof is None:
        return ["payment", "tx_hash", "log_index", "block_is_canonical"]
    return [*([] if proof.get("transaction_path") is not None else ["tx_hash"]), "log_index", "block_is_canonical"]


def endpoint_view(endpoint: Endpoint) -> Json:
    """Never its secrets."""
    return {
        "id": endpoint.id,
        "url": endpoint.url,
        "merchant": endpoint.merchant,
        "types": [type_.value for type_ in endpoint.types],
        "created_at": time_text(endpoint.created_at),
        "previous_secret_until": _time(endpoint.previous_secret_until),
        "disabled_at": _time(endpoint.disabled_at),
        "disabled_reason": endpoint.disabled_reason,
    }


def delivery_view(delivery: Delivery) -> Json:
    return {
        "id": delivery.id,
        "endpoint_id": delivery.endpoint_id,
        "event_id": delivery.event_id,
        "event_type": delivery.event_type,
        "status": delivery.status.value,
        "attempts": delivery.attempts,
        "next_attempt_at": _time(delivery.next_attempt_at),
        "last_attempt_at": _time(delivery.last_attempt_at),
        "last_status_code": delivery.last_status_code,
        "last_error": delivery.last_error,
        "created_at": time_text(delivery.created_at),
        "delivered_at": _time(delivery.delivered_at),
    }


def logged_delivery_view(delivery: Delivery, attempts: Sequence[LoggedAttempt]) -> Json:
    """`attempts`: newest first."""
    return {**delivery_view(delivery), "attempt_log": [_attempt_view(attempt) for attempt in attempts]}


def _attempt_view(attempt: LoggedAttempt) -> Json:
    return {
        "at": time_text(attempt.at),
        "duration_ms": attempt.duration_ms,
        "status_code": attempt.status_code,
        "error": attempt.error,
    }


def _time(time: datetime | None) -> str | None:
    return None if time is None else time_text(time)
