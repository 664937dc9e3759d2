"""Objects as INTERFACE.md shows them: plain JSON values, amounts as strings, times RFC 3339 UTC, hashes 0x-hex.

In the core because events carry the object as the API shows it, and the stages write events. The one place that turns
bytes into text for users. Checksummed addresses need keccak, which `Render.address` is given.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from chains.model import Address, BlockNumber, ChainId, Token
from settler.domain.invoices import Invoice, Option, TransferRecord
from settler.domain.money import format_amount
from settler.domain.records import Hold, Refund, Settlement, SettlementLine
from settler.domain.settlement import received
from settler.domain.shapes import (
    HoldShape,
    HoldState,
    InvoiceShape,
    OptionShape,
    PaymentShape,
    PlaceShape,
    RefundShape,
    SettlementLineShape,
    SettlementShape,
    TransferShape,
)

Json = Mapping[str, Any]
SHOWN_KEPT = 4_096
"""Times whose text is remembered: what happens in one block is told many times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Render:
    """What rendering needs to know beside the objects."""

    address: Callable[[Address], str]
    """EIP-55."""
    chain_names: Mapping[ChainId, str]
    tokens: Mapping[tuple[ChainId, Address], Token]
    heads: Mapping[ChainId, BlockNumber]
    """Newest block read on each chain: confirmations count from it."""


@functools.lru_cache(maxsize=SHOWN_KEPT)
def time_text(time: datetime) -> str:
    """RFC 3339 UTC with `Z`, milliseconds where there are any."""
    at = time.astimezone(UTC)
    return at.isoformat(timespec="milliseconds" if at.microsecond else "seconds").replace("+00:00", "Z")


def _maybe_time(time: datetime | None) -> str | None:
    return None if time is None else time_text(time)


def hex_text(data: bytes) -> str:
    return "0x" + data.hex()


def caip2(chain_id: int) -> str:
    """https://chainagnostic.org/CAIPs/caip-2"""
    return f"eip155:{chain_id}"


def payment_uri(option: Option, render: Render) -> str:
    """EIP-681 (https://eips.ethereum.org/EIPS/eip-681): what a wallet scans. Plain integers, no exponent.

    A plain transfer: of an on-chain reference it cannot tell, and a payment without one is not matched by it.
    """
    token, to = render.address(option.token_address), render.address(option.pay_to)
    return f"ethereum:{token}@{option.chain_id}/transfer?address={to}&uint256={option.amount_base}"


def invoice_view(
    invoice: Invoice, transfers: Sequence[TransferRecord], settlement: Settlement | None, render: Render
) -> InvoiceShape:
    """`transfers`: all allocated to it, in order; orphaned ones are shown and not counted. `settlement`: the one
    in force.
    """
    canonical = [t for t in transfers if t.is_canonical]
    settled = settlement.amount_settled if settlement is not None else 0
    return {
        "id": invoice.id,
        "version": invoice.version,
        "merchant": invoice.merchant,
        "reference": invoice.reference,
        "status": invoice.status,
        "exceptions": sorted(invoice.exceptions),
        "currency": invoice.currency,
        "amount_requested": format_amount(invoice.amount, invoice.scale),
        "amount_received": format_amount(received(invoice, canonical), invoice.scale),
        "amount_settled": format_amount(settled, invoice.scale),
        "options": [_option_view(o, render) for o in invoice.options],
        "created_at": time_text(invoice.created_at),
        "expires_at": time_text(invoice.expires_at),
        "monitoring_until": time_text(invoice.monitoring_until),
        "settled_at": _maybe_time(invoice.settled_at),
        "settlement_id": invoice.settlement_id,
        "payments": [_payment_view(t, render) for t in transfers],
        "metadata": dict(invoice.metadata),
        "pay_path": f"/pay/{invoice.pay_token}",
    }


_OPERATORS_WORDS = frozenset({"by", "reason", "before"})
"""Of a decision: who, why and what was known before, which may name other merchants' invoices. The merchant who is paid
sees the transfer, in events too; who may know finds these in the audit log.
"""


def transfer_view(transfer: TransferRecord, render: Render) -> TransferShape:
    identity = transfer.identity
    return {
        **_place_view(transfer, render),
        "id": transfer.id,
        "version": transfer.version,
        "amount_base": str(identity.amount),
        "pay_to": render.address(identity.recipient),
        "block_time": time_text(transfer.block_time),
        "allocation": transfer.allocation,
        "reason": transfer.reason,
        "invoice_id": transfer.invoice_id,
        "evidence": {name: value for name, value in transfer.evidence.items() if name not in _OPERATORS_WORDS},
        "recorded_at": time_text(transfer.recorded_at),
        "final_at": _maybe_time(transfer.final_at),
    }


def settlement_view(settlement: Settlement, render: Render) -> SettlementShape:
    scale = settlement.scale
    reversal = settlement.reversal
    return {
        "id": settlement.id,
        "version": settlement.version,
        "invoice_id": settlement.invoice_id,
        "generation": settlement.generation,
        "merchant": settlement.merchant,
        "reference": settlement.reference,
        "currency": settlement.currency,
        "amount_requested": format_amount(settlement.amount_requested, scale),
        "amount_settled": format_amount(settlement.amount_settled, scale),
        "amount_surplus": format_amount(settlement.amount_surplus, scale),
        "policy": dict(settlement.policy),
        "settled_at": time_text(settlement.settled_at),
        "payments": [_line_view(line, render) for line in settlement.lines],
        "reversal": None
        if reversal is None
        else {"id": reversal.id, "reason": reversal.reason, "reversed_at": time_text(reversal.reversed_at)},
    }


def hold_view(hold: Hold, merchant: str) -> HoldShape:
    """`merchant`: whose invoice it stops."""
    return {
        "id": hold.id,
        "invoice_id": hold.invoice_id,
        "merchant": merchant,
        "status": HoldState.HELD if hold.stands else HoldState.RELEASED,
        "reason": hold.stop.reason,
        "detail": hold.stop.detail,
        "transfer_id": hold.stop.transfer_id,
        "held_at": time_text(hold.held_at),
        "held_by": hold.held_by,
        "released_at": _maybe_time(hold.released_at),
        "released_by": hold.released_by,
        "release_reason": hold.release_reason,
    }


def refund_view(refund: Refund, render: Render) -> RefundShape:
    token = render.tokens[refund.chain_id, refund.token]
    return {
        "id": refund.id,
        "transfer_id": refund.transfer_id,
        "settlement_id": refund.settlement_id,
        "chain": render.chain_names[refund.chain_id],
        "chain_id": refund.chain_id,
        "token": token.symbol,
        "token_address": render.address(refund.token),
        "amount": format_amount(refund.amount, token.decimals),
        "amount_base": str(refund.amount),
        "tx_hash": hex_text(refund.tx_hash),
        "log_index": refund.log_index,
        "block_number": refund.block_number,
        "block_hash": hex_text(refund.block_hash),
        "sender": render.address(refund.sender),
        "recipient": render.address(refund.recipient),
        "refunded_at": time_text(refund.refunded_at),
        "refunded_by": refund.refunded_by,
        "reason": refund.reason,
    }


def _option_view(option: Option, render: Render) -> OptionShape:
    return {
        "chain": option.chain,
        "chain_id": option.chain_id,
        "token": option.token,
        "token_address": render.address(option.token_address),
        "pay_to": render.address(option.pay_to),
        "match": option.match,
        "amount": format_amount(option.amount_base, option.decimals),
        "amount_base": str(option.amount_base),
        "reference": None if option.reference is None else hex_text(option.reference),
        "payer": None if option.payer is None else render.address(option.payer),
        "uri": payment_uri(option, render),
    }


def _payment_view(transfer: TransferRecord, render: Render) -> PaymentShape:
    return {"transfer_id": transfer.id, **_place_view(transfer, render)}


def _place_view(transfer: TransferRecord, render: Render) -> PlaceShape:
    """What a transfer is and where it stands: shared by payments and transfers."""
    identity = transfer.identity
    token = render.tokens[identity.chain_id, identity.token]
    head = render.heads.get(identity.chain_id)
    confirmations = 0
    if transfer.is_canonical and head is not None:
        confirmations = max(1, head - transfer.block_number + 1)
    return {
        "chain": render.chain_names[identity.chain_id],
        "chain_id": identity.chain_id,
        "token": token.symbol,
        "token_address": render.address(identity.token),
        "amount": format_amount(identity.amount, token.decimals),
        "tx_hash": hex_text(identity.tx_hash),
        "log_index": transfer.log_index,
        "block_number": transfer.block_number,
        "block_hash": hex_text(transfer.block_hash),
        "payer": render.address(identity.sender),
        "status": transfer.status,
        "confirmations": confirmations,
    }


def _line_view(line: SettlementLine, render: Render) -> SettlementLineShape:
    return {
        "transfer_id": line.transfer_id,
        "chain": line.chain,
        "chain_id": line.chain_id,
        "token": line.token,
        "token_address": render.address(line.token_address),
        "amount_settled": format_amount(line.amount_settled, line.decimals),
        "amount_settled_base": str(line.amount_settled),
        "amount_surplus": format_amount(line.amount_surplus, line.decimals),
        "amount_surplus_base": str(line.amount_surplus),
        "tx_hash": hex_text(line.tx_hash),
        "log_index": line.log_index,
        "block_number": line.block_number,
        "block_hash": hex_text(line.block_hash),
        "payer": render.address(line.payer),
        "pay_to": render.address(line.pay_to),
    }
