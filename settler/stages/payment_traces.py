"""Which state change is which span. A payment's trace is that of its invoice; of money in suspense, that of its
transfer.

    invoice.created ── the root; its id is derived from the invoice's, so that every process finds it
      ├─ transfer.recorded    time of the block → written        ┐
      ├─ transfer.matched                                        │ the first reading
      ├─ invoice.processing                                      ┘
      ├─ transfer.final       recorded → final                   ┐
      ├─ settlement.created                                      │ the second
      ├─ invoice.settled                                         ┘
      └─ webhook.deliver      one an attempt; its id is in the `traceparent` that was sent

Told only of what was committed (`settler.storage.told`). Each span is derived from the event it tells of: told twice it
is one span. It is linked to the tick or the request that did it, which is kept for that.

What attributes may hold says `settler.tracing`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from settler.domain.delivery import Answered
from settler.domain.events import Event, EventType
from settler.logs import get_logger
from settler.storage.webhooks import Claim
from settler.tracing import SILENT, Place, Span, Tracer, Value, current_work

_TRANSFER_STEPS = {
    EventType.PAYMENT_DETECTED: "transfer.recorded",
    EventType.PAYMENT_FINAL: "transfer.final",
    EventType.PAYMENT_ORPHANED: "transfer.orphaned",
    EventType.TRANSFER_UNMATCHED: "transfer.unmatched",
}
_SHOWN = {
    "chain": "settler.chain",
    "token": "settler.token",
    "amount": "settler.amount",
    "amount_requested": "settler.amount_requested",
    "amount_received": "settler.amount_received",
    "amount_settled": "settler.amount_settled",
    "amount_surplus": "settler.amount_surplus",
    "currency": "settler.currency",
    "block_number": "settler.block_number",
    "status": "settler.status",
    "reason": "settler.reason",
    "version": "settler.version",
}
"""Of an event's object, what may be seen in a trace, and as what."""
_SHOWN_TO = timedelta(milliseconds=1)
"""Times of objects are shown to the millisecond."""

_log = get_logger(__name__)


def story_of(event: Event) -> str:
    """The name of the trace an event belongs to: its invoice's id, or its own object's."""
    return str(event.data.get("invoice_id") or event.object_id)


class PaymentTraces:
    """Tells a tracer of committed events and of webhooks sent."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def told(self, events: Sequence[Event]) -> None:
        """Of a transaction that was committed just now, by the work under way."""
        work = current_work()
        for event in events:
            place = self._tracer.derived(story_of(event), event.id)
            _log.info(
                "event",
                type=event.type.value,
                object=event.object_id,
                event_id=event.id,
                trace_id=place.trace_hex,
                span_id=place.span_hex,
            )
            links = () if work is None else (work.place,)
            for span in self._spans(event, links):
                self._tracer.tell(span)
        if work is not None and events:
            work.is_kept = True

    def attempt_place(self, claim: Claim) -> Place:
        """Where an attempt to deliver stands: the same before it is made and after."""
        return self._tracer.derived(story_of(claim.event), "webhook", claim.id, str(claim.attempts))

    def headers(self, claim: Claim) -> dict[str, str]:
        """What an attempt's request carries besides: the receiver's own trace goes on from ours."""
        return {"traceparent": self.attempt_place(claim).traceparent} if self._tracer.is_on else {}

    def attempted(self, claim: Claim, reply: object, *, outcome: str, ended: datetime, took_s: float) -> None:
        """An attempt was recorded. `reply`: of `settler.domain.delivery`; `outcome`: of `dispatch.OUTCOMES`."""
        if not self._tracer.is_on:
            return
        attributes: dict[str, Value] = {
            "settler.event_id": claim.event.id,
            "settler.event_type": claim.event.type.value,
            "settler.endpoint_id": claim.endpoint.id,
            "settler.delivery_id": claim.id,
            "settler.attempt": claim.attempts + 1,
            "settler.outcome": outcome,
        }
        if isinstance(reply, Answered):
            attributes["http.response.status_code"] = reply.status_code
        self._tracer.tell(
            Span(
                name="webhook.deliver",
                place=self.attempt_place(claim),
                parent=self._tracer.derived(story_of(claim.event)),
                start=ended - timedelta(seconds=took_s),
                end=ended,
                kind="client",
                attributes=attributes,
                error=None if outcome == "delivered" else outcome,
            )
        )

    def _spans(self, event: Event, links: tuple[Place, ...]) -> list[Span]:
        story, data = story_of(event), event.data
        root = self._tracer.derived(story)

        def span(name: str, *, start: datetime = event.created_at, links: tuple[Place, ...] = links) -> Span:
            is_root = name in {"invoice.created", "transfer.unmatched"} and event.version == 1
            return Span(
                name=name,
                place=root if is_root else self._tracer.derived(story, event.id, name),
                parent=None if is_root else root,
                start=min(start, event.created_at),
                end=event.created_at,
                attributes=_attributes(event),
                links=links,
            )

        step = _TRANSFER_STEPS.get(event.type)
        if step is None:
            return [span(event.type.value)]
        block_time, recorded_at = _time(data["block_time"]), _time(data["recorded_at"])
        spans: list[Span] = []
        if event.version == 1 or event.type is EventType.PAYMENT_DETECTED:
            spans.append(span("transfer.recorded", start=block_time))
        if _is_newly_matched(event):
            was_in_suspense = event.version > 1
            before = (self._tracer.derived(event.object_id),) if was_in_suspense else ()
            spans.append(span("transfer.matched", links=(*links, *before)))
        if step != "transfer.recorded":
            spans.append(span(step, start=recorded_at if event.type is EventType.PAYMENT_FINAL else event.created_at))
        return spans


NO_TRACES = PaymentTraces(SILENT)


def _is_newly_matched(event: Event) -> bool:
    """Whether it tells of a transfer's way to its invoice: when recorded, seen anew, or assigned after it was final."""
    if event.data["invoice_id"] is None:
        return False
    if event.version == 1 or event.type is EventType.PAYMENT_DETECTED:
        return True
    final_at = event.data["final_at"]
    return final_at is not None and event.created_at - _time(final_at) > _SHOWN_TO


def _attributes(event: Event) -> Mapping[str, Value]:
    kind = event.type.value.partition(".")[0]
    owner = {"payment": "transfer"}.get(kind, kind)
    attributes: dict[str, Value] = {"settler.event_id": event.id, f"settler.{owner}_id": event.object_id}
    if event.data.get("invoice_id") is not None:
        attributes["settler.invoice_id"] = str(event.data["invoice_id"])
    evidence: Any = event.data.get("evidence")
    if isinstance(evidence, Mapping) and "strategy" in evidence:
        attributes["settler.match"] = str(evidence["strategy"])
    for name, shown in _SHOWN.items():
        value = event.data.get(name)
        if isinstance(value, str | int):
            attributes[shown] = value
    return attributes


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
