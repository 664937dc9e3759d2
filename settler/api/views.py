"""Objects that only the API shows: chains, webhook endpoints, deliveries. The rest is `settler.domain.views`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from settler.domain.delivery import Delivery, Endpoint
from settler.domain.views import Json, caip2, time_text
from settler.storage.chains import ChainState


def chain_view(state: ChainState, providers: Sequence[Mapping[str, Any]]) -> Json:
    """Numbers are `null` until the chain was read. `lag_s`: time of the head − time of the last scanned block."""
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
        "providers": [{name: value for name, value in p.items() if name != "chain"} for p in providers],
    }


def lag_s(state: ChainState) -> int | None:
    """Whole seconds, never below zero; `None` until there are both times."""
    if state.head_time is None or state.scanned_time is None:
        return None
    return max(0, int((state.head_time - state.scanned_time).total_seconds()))


def endpoint_view(endpoint: Endpoint) -> Json:
    """Never its secrets."""
    return {
        "id": endpoint.id,
        "url": endpoint.url,
        "merchant": endpoint.merchant,
        "types": [type_.value for type_ in endpoint.types],
        "created_at": time_text(endpoint.created_at),
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


def _time(time: datetime | None) -> str | None:
    return None if time is None else time_text(time)
