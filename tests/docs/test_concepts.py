"""The state diagrams of docs/concepts.md have the arrows of the code, and no others."""

from __future__ import annotations

import itertools
import re
from datetime import timedelta

import pytest

from chains.model import BlockHash, BlockNumber, BlockRef, Transfer
from settler.domain.delivery import (
    MAX_ATTEMPTS,
    Answered,
    Delivered,
    DeliveryStatus,
    GiveUp,
    next_attempt,
    verdict,
)
from settler.domain.invoices import InvoiceStatus, TransferRecord, TransferStatus
from settler.domain.lifecycle import advance
from settler.domain.settlement import Expire, Hold, HoldReason, Outcome, Processing, Settle, Stop, Waiting
from settler.stages import recording
from settler.storage.webhook_replays import afresh
from tests.docs.pages import page
from tests.domain.samples import T0, a_transfer, an_invoice

_ARROW = re.compile(r"^ *(\S+) --> (\w+)(?:: .+)?$")
START = "[*]"


def drawn(name: str) -> set[tuple[str, str]]:
    """The arrows of one diagram."""
    (fence,) = [f for f in page("concepts.md").fences("mermaid") if f.note == f"states: {name}"]
    head, *lines = fence.text.splitlines()
    assert head == "stateDiagram-v2"
    arrows = [match.groups() for line in lines if (match := _ARROW.match(line))]
    assert len(arrows) == len(lines) == len(set(arrows)), "every line is an arrow, each stands once"
    return {(a, b) for a, b in arrows}


def _outcomes() -> list[Outcome]:
    stop = (Stop(reason=HoldReason.LATE),)
    holds = [
        Hold(stops=stop, is_paid=is_paid, expire=expire, exceptions=frozenset())
        for is_paid, expire in itertools.product((True, False), repeat=2)
        if not (is_paid and expire)  # "in time and in full … does not expire"
    ]
    return [
        Waiting(exceptions=frozenset()),
        Processing(exceptions=frozenset()),
        Expire(exceptions=frozenset()),
        Settle(parts=(), exceptions=frozenset()),
        *holds,
    ]


def test_invoice_diagram__has_the_arrows_of_the_lifecycle() -> None:
    """Beside what `advance` gives: only a pending invoice can be canceled (`Operating.cancel`), and only a settled one
    be reversed (`stages.undoing.reverse`); tests/stages/test_operating.py and test_halt.py see to both.
    """
    open_ = set(InvoiceStatus) - {InvoiceStatus.SETTLED, InvoiceStatus.CANCELED}
    arrows = {
        (before.value, after.value)
        for before, outcome in itertools.product(open_, _outcomes())
        if (after := advance(an_invoice(status=before), outcome).status) is not before
    }
    assert drawn("invoice") == arrows | {(START, "pending"), ("pending", "canceled"), ("settled", "reversed")}


def test_invoice_diagram__names_every_status() -> None:
    assert {state for arrow in drawn("invoice") for state in arrow} == {START, *map(str, InvoiceStatus)}


def _seen_again(held: TransferRecord, status: TransferStatus) -> TransferStatus:
    """What a reading makes of a transfer that it finds where it is recorded."""
    found = Transfer(
        identity=held.identity,
        block_number=held.block_number,
        block_hash=held.block_hash,
        log_index=held.log_index,
    )
    block = BlockRef(
        number=BlockNumber(held.block_number),
        hash=BlockHash(held.block_hash),
        parent_hash=BlockHash(bytes(32)),
        time=held.block_time,
    )
    placed = recording._placed(held, found, block, status, T0)
    return held.status if placed is None else placed.status


def test_transfer_diagram__has_the_arrows_of_the_readings() -> None:
    """Beside them: what a tier made final early and the chain undid is detected anew before it is judged again
    (`stages.undoing.take_back`).
    """
    readings = (TransferStatus.DETECTED, TransferStatus.FINAL)
    arrows = {(START, status.value) for status in readings}
    for before in TransferStatus:
        held = a_transfer(status=before)
        arrows |= {(before.value, _seen_again(held, status).value) for status in readings}
        if held.is_canonical:
            arrows.add((before.value, recording._orphaned(held).status.value))
    arrows = {(a, b) for a, b in arrows if a != b} | {("final", "detected")}
    assert drawn("transfer") == arrows


def test_settlement_diagram__is_append_only() -> None:
    assert drawn("settlement") == {(START, "in_force"), ("in_force", "reversed")}


def test_delivery_diagram__has_the_arrows_of_the_sender_and_of_replays() -> None:
    pending, ended = DeliveryStatus.PENDING, set(DeliveryStatus) - {DeliveryStatus.PENDING}
    arrows = {(START, pending.value)}
    if isinstance(verdict(Answered(status_code=200)), Delivered):
        arrows.add((pending.value, DeliveryStatus.DELIVERED.value))
    last = next_attempt(MAX_ATTEMPTS, T0 + timedelta(days=3), jitter=0.5, retry_after_s=None)
    if isinstance(last, GiveUp):
        arrows.add((pending.value, DeliveryStatus.DEAD.value))
    arrows |= {(status.value, str(afresh(T0)["status"])) for status in ended}
    assert drawn("delivery") == arrows


@pytest.mark.parametrize("name", ["invoice", "transfer", "settlement", "delivery"])
def test_diagram__every_state_is_reached(name: str) -> None:
    arrows = drawn(name)
    assert {a for a, _ in arrows} - {START} <= {b for _, b in arrows}
