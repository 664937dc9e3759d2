"""Objects as INTERFACE.md promises them. The golden values are spelled out: a changed key is a changed contract."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from chains.address import to_checksum
from chains.model import BaseUnits, BlockHash, BlockNumber, TxHash
from settler.domain.ids import HoldId, InvoiceId, RefundId, ReversalId, SettlementId, TransferId
from settler.domain.invoices import (
    Allocation,
    InvoiceException,
    InvoiceStatus,
    Match,
    TransferStatus,
    UnmatchedReason,
)
from settler.domain.records import Hold, Refund, Reversal, Settlement, SettlementLine
from settler.domain.settlement import HoldReason, Stop
from settler.domain.views import (
    Render,
    caip2,
    hex_text,
    hold_view,
    invoice_view,
    payment_uri,
    refund_view,
    settlement_view,
    time_text,
    transfer_view,
)
from tests.domain.samples import CHAIN, EXPIRES, PAYER, SHOP, T0, USDC, a_token, a_transfer, an_invoice, an_option

INVOICE = InvoiceId("inv_" + "1" * 26)
TRANSFER = TransferId("trf_" + "2" * 26)
SETTLEMENT = SettlementId("stl_" + "3" * 26)
USDC_TEXT = "0x0C0c0C0c0c0c0c0c0c0c0C0C0C0c0c0C0c0c0c0c"
SHOP_TEXT = "0x0505050505050505050505050505050505050505"
PAYER_TEXT = "0xaAaAaAaaAaAaAaaAaAAAAAAAAaaaAaAaAaaAaaAa"
RENDER = Render(
    address=to_checksum,
    chain_names={CHAIN: "base"},
    tokens={(CHAIN, USDC): a_token()},
    heads={CHAIN: BlockNumber(1_004)},
)
PAYMENT = a_transfer(
    101_000_000,
    id=TRANSFER,
    tx_hash=TxHash(b"\x77" * 32),
    log_index=7,
    allocation=Allocation.INVOICE,
    invoice_id=INVOICE,
    evidence={"strategy": "address", "candidates": [INVOICE]},
)
PAYMENT_JSON = {
    "transfer_id": TRANSFER,
    "chain": "base",
    "chain_id": 8453,
    "token": "USDC",
    "token_address": USDC_TEXT,
    "amount": "101.00",
    "tx_hash": "0x" + "77" * 32,
    "log_index": 7,
    "block_number": 1_000,
    "block_hash": "0x" + "b0" * 32,
    "payer": PAYER_TEXT,
    "status": "final",
    "confirmations": 5,
}


def test_option__by_reference_and_payer__shows_both() -> None:
    option = an_option(match=Match.REFERENCE, reference=bytes.fromhex("a0098add01acc736"), payer=PAYER)
    (shown,) = invoice_view(an_invoice(option), [], None, RENDER)["options"]
    assert (shown["reference"], shown["payer"]) == ("0xa0098add01acc736", PAYER_TEXT)


@pytest.mark.parametrize("amount", [1, 10**6, 100_000_000, 10**30, 2**256 - 1])
def test_payment_uri__follows_the_grammar_of_eip_681(amount: int) -> None:
    """https://eips.ethereum.org/EIPS/eip-681: schema, target, @chain, /function, and the parameters in order. A
    scientific notation would be allowed; a plain integer is what every wallet reads."""
    uri = payment_uri(an_option(amount_base=BaseUnits(amount)), RENDER)
    address = "0x[0-9a-fA-F]{40}"
    found = re.fullmatch(
        rf"ethereum:({address})@([1-9][0-9]*)/transfer\?address=({address})&uint256=([1-9][0-9]*)", uri, re.ASCII
    )
    assert found is not None
    assert found.groups() == (USDC_TEXT, str(CHAIN), SHOP_TEXT, str(amount))


def test_invoice_view() -> None:
    invoice = an_invoice(
        an_option(match=Match.AMOUNT, amount_base=BaseUnits(100_000_007), tail_base=BaseUnits(7)),
        id=INVOICE,
        status=InvoiceStatus.PROCESSING,
        exceptions=frozenset({InvoiceException.OVERPAID, InvoiceException.LATE}),
        metadata={"cart": 7},
        version=3,
        pay_token="0123456789abcdefghjkmnpqrs",
    )
    shown = invoice_view(invoice, [PAYMENT], None, RENDER)
    assert shown == {
        "id": INVOICE,
        "version": 3,
        "merchant": "default",
        "reference": "order-42",
        "status": "processing",
        "exceptions": ["late", "overpaid"],
        "currency": "USD",
        "amount_requested": "100.00",
        "amount_received": "101.00",
        "amount_settled": "0.00",
        "options": [
            {
                "chain": "base",
                "chain_id": 8453,
                "token": "USDC",
                "token_address": USDC_TEXT,
                "pay_to": SHOP_TEXT,
                "match": "amount",
                "amount": "100.000007",
                "amount_base": "100000007",
                "reference": None,
                "payer": None,
                "uri": f"ethereum:{USDC_TEXT}@8453/transfer?address={SHOP_TEXT}&uint256=100000007",
            }
        ],
        "created_at": "2026-03-01T12:00:00Z",
        "expires_at": "2026-03-01T13:00:00Z",
        "monitoring_until": "2026-03-02T13:00:00Z",
        "settled_at": None,
        "settlement_id": None,
        "payments": [PAYMENT_JSON],
        "metadata": {"cart": 7},
        "pay_path": "/pay/0123456789abcdefghjkmnpqrs",
    }
    assert json.loads(json.dumps(shown)) == shown


def test_invoice_view__orphaned_payment__is_shown_and_not_counted() -> None:
    gone = replace(PAYMENT, status=TransferStatus.ORPHANED)
    shown = invoice_view(an_invoice(), [gone], None, RENDER)
    assert shown["amount_received"] == "0.00"
    assert [(p["status"], p["confirmations"]) for p in shown["payments"]] == [("orphaned", 0)]


def test_invoice_view__settled() -> None:
    invoice = an_invoice(status=InvoiceStatus.SETTLED, settled_at=EXPIRES, settlement_id=SETTLEMENT)
    shown = invoice_view(invoice, [PAYMENT], a_settlement(), RENDER)
    assert (shown["amount_settled"], shown["settled_at"], shown["settlement_id"]) == (
        "100.00",
        "2026-03-01T13:00:00Z",
        SETTLEMENT,
    )


@pytest.mark.parametrize(("head", "confirmations"), [(None, 0), (999, 1), (1_000, 1), (1_001, 2)])
def test_confirmations__count_from_the_newest_block_read(head: int | None, confirmations: int) -> None:
    render = replace(RENDER, heads={} if head is None else {CHAIN: BlockNumber(head)})
    shown = invoice_view(an_invoice(), [PAYMENT], None, render)
    assert shown["payments"][0]["confirmations"] == confirmations


def test_transfer_view__payment() -> None:
    assert transfer_view(PAYMENT, RENDER) == {
        **{key: value for key, value in PAYMENT_JSON.items() if key != "transfer_id"},
        "id": TRANSFER,
        "version": 1,
        "token_address": USDC_TEXT,
        "amount_base": "101000000",
        "pay_to": SHOP_TEXT,
        "block_time": "2026-03-01T12:01:00Z",
        "allocation": "invoice",
        "reason": None,
        "invoice_id": INVOICE,
        "evidence": {"strategy": "address", "candidates": [INVOICE]},
        "recorded_at": "2026-03-01T12:01:00Z",
        "final_at": "2026-03-01T12:02:00Z",
    }


def test_transfer_view__in_suspense() -> None:
    stray = a_transfer(2**256 - 1, reason=UnmatchedReason.WRONG_ASSET, status=TransferStatus.DETECTED, final_at=None)
    shown = transfer_view(stray, RENDER)
    assert (shown["allocation"], shown["reason"], shown["invoice_id"], shown["final_at"]) == (
        "unmatched",
        "wrong_asset",
        None,
        None,
    )
    assert shown["amount_base"] == str(2**256 - 1)


def a_settlement(reversal: Reversal | None = None) -> Settlement:
    return Settlement(
        id=SETTLEMENT,
        invoice_id=INVOICE,
        generation=1,
        merchant="default",
        reference="order-42",
        currency="USD",
        scale=6,
        amount_requested=100_000_000,
        amount_settled=100_000_000,
        amount_surplus=1_000_000,
        policy={"finality": {"base": "finalized"}},
        settled_at=EXPIRES,
        lines=(
            SettlementLine(
                transfer_id=TRANSFER,
                chain="base",
                chain_id=CHAIN,
                token="USDC",
                token_address=USDC,
                decimals=6,
                amount_settled=BaseUnits(100_000_000),
                amount_surplus=BaseUnits(1_000_000),
                tx_hash=TxHash(b"\x77" * 32),
                log_index=7,
                block_number=BlockNumber(1_000),
                block_hash=BlockHash(b"\xb0" * 32),
                payer=PAYER,
                pay_to=SHOP,
            ),
        ),
        reversal=reversal,
    )


def test_settlement_view() -> None:
    assert settlement_view(a_settlement(), RENDER) == {
        "id": SETTLEMENT,
        "version": 1,
        "invoice_id": INVOICE,
        "generation": 1,
        "merchant": "default",
        "reference": "order-42",
        "currency": "USD",
        "amount_requested": "100.00",
        "amount_settled": "100.00",
        "amount_surplus": "1.00",
        "policy": {"finality": {"base": "finalized"}},
        "settled_at": "2026-03-01T13:00:00Z",
        "payments": [
            {
                "transfer_id": TRANSFER,
                "chain": "base",
                "chain_id": 8453,
                "token": "USDC",
                "token_address": USDC_TEXT,
                "amount_settled": "100.00",
                "amount_settled_base": "100000000",
                "amount_surplus": "1.00",
                "amount_surplus_base": "1000000",
                "tx_hash": "0x" + "77" * 32,
                "log_index": 7,
                "block_number": 1_000,
                "block_hash": "0x" + "b0" * 32,
                "payer": PAYER_TEXT,
                "pay_to": SHOP_TEXT,
            }
        ],
        "reversal": None,
    }


def test_settlement_view__reversed() -> None:
    reversal = Reversal(id=ReversalId("rev_" + "4" * 26), reason="finality violation", reversed_at=EXPIRES)
    shown = settlement_view(a_settlement(reversal), RENDER)
    assert shown["version"] == 2
    assert shown["reversal"] == {
        "id": "rev_" + "4" * 26,
        "reason": "finality violation",
        "reversed_at": "2026-03-01T13:00:00Z",
    }


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (T0, "2026-03-01T12:00:00Z"),
        (T0 + timedelta(microseconds=1_999), "2026-03-01T12:00:00.001Z"),
        (datetime(2026, 3, 1, 14, tzinfo=timezone(timedelta(hours=2))), "2026-03-01T12:00:00Z"),
    ],
)
def test_time_text(time: datetime, text: str) -> None:
    assert time_text(time) == text


def test_small_texts() -> None:
    assert hex_text(b"\x00\xff") == "0x00ff"
    assert caip2(8453) == "eip155:8453"


HOLD = Hold(
    id=HoldId("hld_" + "5" * 26),
    invoice_id=INVOICE,
    stop=Stop(reason=HoldReason.SANCTIONS, transfer_id=TRANSFER, detail="the payer is on the sanctions list"),
    held_at=T0,
    held_by=None,
    released_at=None,
    released_by=None,
    release_reason=None,
)


def test_hold_view__stands_until_it_is_released() -> None:
    shown = hold_view(HOLD, "default")
    assert shown == {
        "id": HOLD.id,
        "invoice_id": INVOICE,
        "merchant": "default",
        "status": "held",
        "reason": "sanctions",
        "detail": "the payer is on the sanctions list",
        "transfer_id": TRANSFER,
        "held_at": "2026-03-01T12:00:00Z",
        "held_by": None,
        "released_at": None,
        "released_by": None,
        "release_reason": None,
    }
    released = replace(HOLD, released_at=EXPIRES, released_by="cli:ada", release_reason="another payer")
    changed = {
        "status": "released",
        "released_at": "2026-03-01T13:00:00Z",
        "released_by": "cli:ada",
        "release_reason": "another payer",
    }
    assert hold_view(released, "default") == shown | changed


def test_refund_view() -> None:
    refund = Refund(
        id=RefundId("rfd_" + "6" * 26),
        transfer_id=TRANSFER,
        settlement_id=None,
        chain_id=CHAIN,
        token=USDC,
        tx_hash=TxHash(b"\x88" * 32),
        log_index=9,
        block_number=BlockNumber(1_003),
        block_hash=BlockHash(b"\xb3" * 32),
        sender=SHOP,
        recipient=PAYER,
        amount=BaseUnits(1_000_001),
        refunded_at=EXPIRES,
        refunded_by="cli:ada",
        reason="paid too much",
    )
    assert refund_view(refund, RENDER) == {
        "id": refund.id,
        "transfer_id": TRANSFER,
        "settlement_id": None,
        "chain": "base",
        "chain_id": 8453,
        "token": "USDC",
        "token_address": USDC_TEXT,
        "amount": "1.000001",
        "amount_base": "1000001",
        "tx_hash": "0x" + "88" * 32,
        "log_index": 9,
        "block_number": 1_003,
        "block_hash": "0x" + "b3" * 32,
        "sender": SHOP_TEXT,
        "recipient": PAYER_TEXT,
        "refunded_at": "2026-03-01T13:00:00Z",
        "refunded_by": "cli:ada",
        "reason": "paid too much",
    }
