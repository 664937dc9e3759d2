"""State changes as spans: which, in which trace, and only what was committed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from settler.clock import FakeClock
from settler.domain.delivery import Answered, DeliveryId, Endpoint, EndpointId, NoAnswer
from settler.domain.events import Event, EventType, event
from settler.stages.payment_traces import NO_TRACES, PaymentTraces, story_of
from settler.storage import events
from settler.storage.engine import Database
from settler.storage.webhooks import Claim
from settler.tracing import LiveTracer, Span, derived_place
from tests.tracing.test_tracer import Sink, tracer

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
BLOCK = NOW - timedelta(seconds=3)
ROOT = derived_place("inv_1", ratio=1)


def transfer(type_: EventType, version: int, *, invoice: str | None = "inv_1", **data: Any) -> Event:
    shown = {
        "chain": "base",
        "token": "USDC",
        "amount": "12.5",
        "block_number": 7,
        "tx_hash": "0xfeed",
        "payer": "0xcafe",
        "pay_to": "0xbeef",
        "block_time": "2026-03-01T11:59:57Z",
        "recorded_at": "2026-03-01T11:59:59Z",
        "final_at": None,
        "invoice_id": invoice,
        "evidence": {"strategy": "address"},
        **data,
    }
    return event(type_, "trf_1", version, at=NOW, merchant="shop", data=shown)


def told(*of: Event) -> tuple[list[Span], list[dict[str, Any]]]:
    """The spans, and the log lines."""
    sink, clock = Sink(), FakeClock(NOW)
    live = tracer(sink, clock)
    with capture_logs() as said:
        PaymentTraces(live).told(of)
    return sink.spans, [dict(line) for line in said]


def test_told__invoice_created__is_the_root_of_its_trace() -> None:
    created = event(
        EventType.INVOICE_CREATED,
        "inv_1",
        1,
        at=NOW,
        merchant="shop",
        data={"id": "inv_1", "amount_requested": "5", "reference": "order-1", "metadata": {"customer": "Jane"}},
    )
    (span,), (line,) = told(created)
    assert (span.name, span.place, span.parent) == ("invoice.created", ROOT, None)
    assert span.attributes == {
        "settler.event_id": created.id, "settler.invoice_id": "inv_1", "settler.amount_requested": "5",
    }  # fmt: skip
    assert (line["event"], line["type"], line["trace_id"]) == ("event", "invoice.created", ROOT.trace_hex)


def test_told__payment_detected__is_recorded_since_its_block_and_matched() -> None:
    (recorded, matched), _ = told(transfer(EventType.PAYMENT_DETECTED, 1))
    assert (recorded.name, recorded.start, recorded.end) == ("transfer.recorded", BLOCK, NOW)
    assert (matched.name, matched.start, matched.end) == ("transfer.matched", NOW, NOW)
    for span in (recorded, matched):
        assert span.parent == ROOT
        assert span.place.trace_id == ROOT.trace_id
    assert recorded.place != matched.place
    assert recorded.attributes["settler.match"] == "address"
    shown = str(recorded.attributes)
    assert not [private for private in ("feed", "cafe", "beef", "shop") if private in shown]


@pytest.mark.parametrize(
    ("of", "names"),
    [
        (transfer(EventType.PAYMENT_FINAL, 2, final_at="2026-03-01T12:00:00Z"), ["transfer.final"]),
        (
            transfer(EventType.PAYMENT_FINAL, 1, final_at="2026-03-01T12:00:00Z"),
            ["transfer.recorded", "transfer.matched", "transfer.final"],
        ),
        # an operator assigned what had been final for a while
        (
            transfer(EventType.PAYMENT_FINAL, 3, final_at="2026-03-01T11:59:59.998Z"),
            ["transfer.matched", "transfer.final"],
        ),
        (transfer(EventType.PAYMENT_ORPHANED, 2), ["transfer.orphaned"]),
        (transfer(EventType.TRANSFER_UNMATCHED, 1, invoice=None), ["transfer.recorded", "transfer.unmatched"]),
        (transfer(EventType.TRANSFER_UNMATCHED, 2, invoice=None), ["transfer.unmatched"]),
    ],
)
def test_told__steps_of_a_transfer(of: Event, names: list[str]) -> None:
    spans, _ = told(of)
    assert [span.name for span in spans] == names
    assert {span.place.trace_id for span in spans} == {derived_place(story_of(of), ratio=1).trace_id}


def test_told__final__lasts_from_recorded_to_final() -> None:
    (span,), _ = told(transfer(EventType.PAYMENT_FINAL, 2, final_at="2026-03-01T12:00:00Z"))
    assert (span.start, span.end) == (NOW - timedelta(seconds=1), NOW)


def test_told__money_in_suspense__has_a_trace_of_its_own_that_the_assignment_points_to() -> None:
    own = derived_place("trf_1", ratio=1)
    (_, unmatched), _ = told(transfer(EventType.TRANSFER_UNMATCHED, 1, invoice=None, reason="no_invoice"))
    assert (unmatched.place, unmatched.parent) == (own, None)
    assert unmatched.attributes["settler.reason"] == "no_invoice"
    (_, matched), _ = told(transfer(EventType.PAYMENT_DETECTED, 2))
    assert matched.place.trace_id == ROOT.trace_id
    assert matched.links == (own,)


def test_told__settlement_and_reversal__are_in_the_invoices_trace() -> None:
    for type_ in (EventType.SETTLEMENT_CREATED, EventType.SETTLEMENT_REVERSED):
        (span,), _ = told(event(type_, "stl_1", 1, at=NOW, merchant="shop", data={"invoice_id": "inv_1"}))
        assert (span.name, span.parent) == (type_.value, ROOT)
        assert span.attributes["settler.settlement_id"] == "stl_1"


def test_told__twice__is_one_span_twice() -> None:
    once, _ = told(transfer(EventType.PAYMENT_DETECTED, 1))
    again, _ = told(transfer(EventType.PAYMENT_DETECTED, 1))
    assert [span.place for span in once] == [span.place for span in again]


def test_told__in_a_tick_that_found_nothing_to_say__keeps_and_links_it() -> None:
    sink, clock = Sink(), FakeClock(NOW)
    live = tracer(sink, clock)
    with live.work("stage.tick") as work:
        work.is_kept = False
        PaymentTraces(live).told([transfer(EventType.PAYMENT_ORPHANED, 2)])
    step, tick = sink.spans
    assert (tick.name, step.links) == ("stage.tick", (tick.place,))


# -- only what was committed -------------------------------------------------------------------------------------------


def plain(number: int) -> Event:
    return event(EventType.INVOICE_CREATED, f"inv_{number}", 1, at=NOW, merchant=None, data={})


async def test_on_told__committed__in_order_and_once(db: Database) -> None:
    heard: list[Sequence[Event]] = []
    db.on_told(heard.append)
    async with db.write() as conn:
        await events.append(conn, [plain(1)])
        await events.append(conn, [plain(2), plain(3)])
        assert heard == []
    async with db.write():
        pass
    assert [[e.object_id for e in batch] for batch in heard] == [["inv_1", "inv_2", "inv_3"]]


async def test_on_told__rolled_back__not_at_all(db: Database) -> None:
    heard: list[Sequence[Event]] = []
    db.on_told(heard.append)
    with pytest.raises(RuntimeError):
        async with db.write() as conn:
            await events.append(conn, [plain(1)])
            raise RuntimeError
    async with db.write() as conn:
        await events.append(conn, [plain(2)])
    assert [[e.object_id for e in batch] for batch in heard] == [["inv_2"]]


async def test_on_told__savepoints__those_rolled_back_are_forgotten_with_what_is_in_them(db: Database) -> None:
    heard: list[Sequence[Event]] = []
    db.on_told(heard.append)
    async with db.write() as conn:
        await events.append(conn, [plain(1)])
        async with conn.begin_nested():
            await events.append(conn, [plain(2)])
            with pytest.raises(RuntimeError):
                async with conn.begin_nested():
                    await events.append(conn, [plain(3)])
                    async with conn.begin_nested():
                        await events.append(conn, [plain(4)])
                    raise RuntimeError
            await events.append(conn, [plain(5)])
        await events.append(conn, [plain(6)])
    assert [e.object_id for batch in heard for e in batch] == ["inv_1", "inv_2", "inv_5", "inv_6"]


# -- webhooks ----------------------------------------------------------------------------------------------------------


def claim(attempts: int = 0) -> Claim:
    endpoint = Endpoint(
        id=EndpointId("whe_1"), url="https://shop.example/hooks/s3cret", secret="whsec_x", previous_secret=None,
        types=(), merchant=None, created_at=NOW,
    )  # fmt: skip
    return Claim(
        id=DeliveryId("dlv_1"),
        endpoint=endpoint,
        event=transfer(EventType.PAYMENT_FINAL, 2),
        attempts=attempts,
        lease_until=NOW,
    )


def attempted(live: LiveTracer, sink: Sink, reply: object, outcome: str, attempts: int = 0) -> Span:
    PaymentTraces(live).attempted(claim(attempts), reply, outcome=outcome, ended=NOW, took_s=0.25)
    return sink.spans[-1]


def test_headers__an_attempt__its_span_is_the_one_that_was_sent() -> None:
    sink = Sink()
    live = tracer(sink, FakeClock(NOW))
    sent = PaymentTraces(live).headers(claim())
    span = attempted(live, sink, Answered(status_code=200), "delivered")
    assert sent == {"traceparent": span.place.traceparent}
    assert (span.name, span.parent, span.kind, span.error) == ("webhook.deliver", ROOT, "client", None)
    assert (span.start, span.end) == (NOW - timedelta(seconds=0.25), NOW)
    assert span.attributes["http.response.status_code"] == 200
    assert span.attributes["settler.attempt"] == 1
    assert span.attributes["settler.endpoint_id"] == "whe_1"
    assert "s3cret" not in str(span) and "whsec" not in str(span)


def test_attempted__again__is_another_span() -> None:
    sink = Sink()
    live = tracer(sink, FakeClock(NOW))
    first = attempted(live, sink, NoAnswer(reason="no answer within 15 s"), "retried")
    second = attempted(live, sink, NoAnswer(reason="no answer within 15 s"), "dead", attempts=1)
    assert first.place != second.place
    assert (first.error, second.error) == ("retried", "dead")
    assert "http.response.status_code" not in first.attributes


def test_headers__without_traces__none() -> None:
    assert NO_TRACES.headers(claim()) == {}
    NO_TRACES.attempted(claim(), Answered(status_code=200), outcome="delivered", ended=NOW, took_s=0.1)
