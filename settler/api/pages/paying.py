"""What a payer is told of an invoice. Pure.

Told: the merchant's name for it (`reference`), what is owed and what came, where and how much to send, and the
payments, which everybody sees on the chain anyway. Never told: metadata, the merchant's account, ids that only the API
understands, who paid, how a payment was matched, and why something is held: that a payer is on a sanctions list, say,
is not for whoever has the address of a page.

    WAITING ─▶ PARTLY ─▶ SEEN ─▶ PAID          an address to pay to is shown in WAITING and PARTLY alone
        └──────┴─▶ OVER, CANCELED, REVIEW
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import assert_never

from typing_extensions import TypedDict

from chains.address import to_checksum
from chains.model import BaseUnits
from chains.registry import chain_by_id
from settler.domain.drafting import Catalog
from settler.domain.invoices import Invoice, InvoiceException, InvoiceStatus, Match, Option, TransferStatus
from settler.domain.money import format_amount, rescale_up, units_of
from settler.domain.shapes import InvoiceShape, PaymentShape
from settler.domain.views import Render, hex_text, payment_uri
from settler.logs import escape_controls

TOKEN_DECIMALS_MAX = 77
"""That the database takes (`tokens.decimals`)."""
_BY_PARTS = frozenset({Match.ADDRESS, Match.REFERENCE})
"""Ways to pay by which parts add up; by the others only a payment of the whole amount is this invoice's."""
MAX_PAYMENTS = 20
"""Told of at once: whoever likes can send an address a thousand grains of dust."""
_TO_WALLETS = Render(address=to_checksum, chain_names={}, tokens={}, heads={})


class Stage(StrEnum):
    """Where an invoice stands, in a payer's eyes."""

    WAITING = "waiting"
    """Nothing has come yet."""
    PARTLY = "partly"
    SEEN = "seen"
    """Paid in full, not final."""
    PAID = "paid"
    REVIEW = "review"
    """Somebody has to look at it; nothing is to be sent now."""
    OVER = "over"
    """Its time is over. What comes now is looked at by hand."""
    CANCELED = "canceled"

    @property
    def is_payable(self) -> bool:
        return self in {Stage.WAITING, Stage.PARTLY}


class PayerPayment(TypedDict):
    chain: str
    token: str
    amount: str
    tx_hash: str
    status: TransferStatus
    confirmations: int
    explorer_url: str | None
    """`null`: no web site that shows it is known."""


class PayerShape(TypedDict):
    """The data of `/pay/{token}/stream`."""

    reference: str
    stage: Stage
    currency: str
    amount_requested: str
    amount_received: str
    amount_missing: str
    expires_at: str
    settled_at: str | None
    is_overpaid: bool
    payments: list[PayerPayment]
    """The largest, in the order they came."""
    payments_left_out: int
    state: str
    """Equal as long as nothing but confirmations changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to pay, as the page shows it."""

    index: int
    """Among all options of the invoice."""
    chain: str
    """What people call the network."""
    is_testnet: bool
    token: str
    token_address: str
    pay_to: str
    amount: str
    """To be sent: what is still missing, exactly."""
    uri: str
    match: Match
    payer: str | None
    reference: str | None
    """What the payment has to carry, 0x-hex."""


NONE_CLOSED: frozenset[int] = frozenset()


def told(
    invoice: Invoice,
    shape: InvoiceShape,
    catalog: Catalog,
    *,
    now: datetime | None = None,
    closed: frozenset[int] = NONE_CLOSED,
) -> PayerShape:
    """`shape`: the invoice as the API shows it. `now`: `None` where it is told later; then only what the chain has seen
    makes it `OVER`. `closed`: options, by index, that nothing is to be paid by now (`closed_ways`).
    """
    payer_shape = PayerShape(
        # it is shown to others than who wrote it: it must not turn the direction in which a line is read
        reference=escape_controls(shape["reference"]),
        stage=_stage(invoice, shape, now, closed),
        currency=shape["currency"],
        amount_requested=shape["amount_requested"],
        amount_received=shape["amount_received"],
        amount_missing=format_amount(_missing(invoice, shape), invoice.scale),
        expires_at=shape["expires_at"],
        settled_at=shape["settled_at"],
        is_overpaid=InvoiceException.OVERPAID in invoice.exceptions,
        payments=[_payment(each, catalog) for each in _largest(shape["payments"])],
        payments_left_out=max(0, len(shape["payments"]) - MAX_PAYMENTS),
        state="",
    )
    payer_shape["state"] = _state({**payer_shape, "stage": _stage(invoice, shape, None, NONE_CLOSED)})
    return payer_shape


def ways(invoice: Invoice, shape: InvoiceShape, closed: frozenset[int] = NONE_CLOSED) -> Sequence[Way]:
    """By which what is missing can be paid."""
    missing = _missing(invoice, shape)
    is_untouched = missing == invoice.amount
    return [
        _way(o, missing, invoice.scale)
        for o in invoice.options
        if o.index not in closed and (is_untouched or o.match in _BY_PARTS)
    ]


def closed_ways(invoice: Invoice, catalog: Catalog, halted: Collection[int]) -> frozenset[int]:
    """Options by which what is sent would not be seen, or would wait for an operator: the chain or the token is not
    configured any more, or the chain is halted.
    """
    return frozenset(o.index for o in invoice.options if o.chain_id in halted or not _is_configured(o, catalog))


def _is_configured(option: Option, catalog: Catalog) -> bool:
    tokens = (t for offer in catalog.values() if offer.chain_id == option.chain_id for t in offer.tokens.values())
    return any(t.address == option.token_address for t in tokens)


def chain_title(name: str, chain_id: int) -> str:
    """What people call the chain; its name in the configuration where it is not well known."""
    facts = chain_by_id(chain_id)
    return name if facts is None else facts.name


def _stage(invoice: Invoice, shape: InvoiceShape, now: datetime | None, closed: frozenset[int]) -> Stage:
    match invoice.status:
        case InvoiceStatus.SETTLED:
            return Stage.PAID
        case InvoiceStatus.CANCELED:
            return Stage.CANCELED
        case InvoiceStatus.REVERSED:
            return Stage.REVIEW
        case InvoiceStatus.PENDING | InvoiceStatus.PROCESSING | InvoiceStatus.EXPIRED as open_:
            if InvoiceException.ON_HOLD in invoice.exceptions:
                return Stage.REVIEW
            if open_ is InvoiceStatus.PROCESSING:
                return Stage.SEEN
            if open_ is InvoiceStatus.EXPIRED or (now is not None and now > invoice.expires_at):
                return Stage.OVER
            missing = _missing(invoice, shape)
            if missing == 0 or not ways(invoice, shape, closed):
                return Stage.REVIEW
            return Stage.WAITING if missing == invoice.amount else Stage.PARTLY
        case never:
            assert_never(never)


def _missing(invoice: Invoice, shape: InvoiceShape) -> int:
    """In the invoice's scale."""
    return max(0, invoice.amount - units_of(shape["amount_received"], invoice.scale))


def _way(option: Option, missing: int, scale: int) -> Way:
    """A unique amount stays as it is: it is offered as a whole alone. What a coarse token cannot tell is rounded up."""
    owed = option.amount_base - option.tail_base
    rest = BaseUnits(min(owed, rescale_up(missing, scale, option.decimals)) + option.tail_base)
    facts = chain_by_id(option.chain_id)
    return Way(
        index=option.index,
        chain=chain_title(option.chain, option.chain_id),
        is_testnet=facts is not None and facts.is_testnet,
        token=option.token,
        token_address=to_checksum(option.token_address),
        pay_to=to_checksum(option.pay_to),
        amount=format_amount(rest, option.decimals),
        uri=payment_uri(replace(option, amount_base=rest), _TO_WALLETS),
        match=option.match,
        payer=None if option.payer is None else to_checksum(option.payer),
        reference=None if option.reference is None else hex_text(option.reference),
    )


def _largest(payments: Sequence[PaymentShape]) -> Sequence[PaymentShape]:
    """The `MAX_PAYMENTS` largest, at par: what was sent to pay is not hidden by grains of dust."""

    def amount(index: int) -> int:
        return units_of(payments[index]["amount"], TOKEN_DECIMALS_MAX)

    kept = sorted(range(len(payments)), key=amount, reverse=True)[:MAX_PAYMENTS]
    return [payments[index] for index in sorted(kept)]


def _payment(payment: PaymentShape, catalog: Catalog) -> PayerPayment:
    offer = catalog.get(payment["chain"])
    explorer = None if offer is None or offer.chain_id != payment["chain_id"] else offer.explorer
    return PayerPayment(
        chain=chain_title(payment["chain"], payment["chain_id"]),
        token=payment["token"],
        amount=payment["amount"],
        tx_hash=payment["tx_hash"],
        status=payment["status"],
        confirmations=payment["confirmations"],
        explorer_url=None if explorer is None else f"{explorer}/tx/{payment['tx_hash']}",
    )


def _state(shape: PayerShape) -> str:
    seen = {**shape, "payments": [{**p, "confirmations": 0} for p in shape["payments"]]}
    return hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()[:16]
