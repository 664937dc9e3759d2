"""The bodies that may be sent. The single source: the API checks by them, its description is made of them, and the CLI
uses them.

They check what can be checked by looking: shapes, bounds, checksums. What needs the configuration (chains, tokens,
decimals) is checked by `settler.domain.drafting`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field

from chains.address import parse_address
from settler.api.fields import (
    MODEL,
    Amount,
    ChecksummedAddress,
    Merchant,
    Metadata,
    Name,
    OnchainReference,
    Reason,
    Reference,
    without_controls,
)
from settler.domain.drafting import MAX_EXPIRES_IN_S, MAX_OPTIONS, InvoiceRequest, OptionRequest, parse_reference
from settler.domain.events import EventType
from settler.domain.ids import looks_like_id
from settler.domain.invoices import DEFAULT_MERCHANT, InvoiceStatus, Match
from settler.webhook.guard import URL_CHARS


def _said(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty; say why, it is kept in the audit log")
    return text


def _invoice_id(text: str) -> str:
    if not looks_like_id(text, "inv"):
        raise ValueError(f"{text!r} is no invoice id; they are inv_ and 26 characters")
    return text


def _settled(text: str) -> str:
    if text == InvoiceStatus.CANCELED.value:
        raise ValueError(f"{text!r} is not marked; use POST /v1/invoices/{{id}}/cancel, or settler invoice cancel")
    if text != InvoiceStatus.SETTLED.value:
        raise ValueError(f'{text!r} cannot be marked; only "settled" can, every other status follows from payments')
    return text


Why = Annotated[Reason, AfterValidator(_said)]
"""A reason that has to be given."""
InvoiceIdText = Annotated[Name, Field(description="Id of an invoice", examples=["inv_…"]), AfterValidator(_invoice_id)]


class OptionCreate(BaseModel):
    """One way to pay."""

    model_config = MODEL

    chain: Annotated[Name, Field(description="A configured chain's name", examples=["base"])]
    token: Annotated[Name, Field(description="Symbol of a token configured on it", examples=["USDC"])]
    pay_to: Annotated[
        ChecksummedAddress | None,
        Field(description="Address to be paid; left out: a deposit address of the invoice's own"),
    ] = None
    match: Match = Match.ADDRESS
    reference: OnchainReference | None = None
    payer: Annotated[
        ChecksummedAddress | None, Field(description="Who will pay, where match is payer (or reference)")
    ] = None

    def to_request(self) -> OptionRequest:
        return OptionRequest(
            chain=self.chain,
            token=self.token,
            pay_to=None if self.pay_to is None else parse_address(self.pay_to),
            match=self.match,
            reference=None if self.reference is None else parse_reference(self.reference),
            payer=None if self.payer is None else parse_address(self.payer),
        )


class InvoiceCreate(BaseModel):
    """`POST /v1/invoices`."""

    model_config = MODEL

    amount: Amount
    reference: Reference
    options: Annotated[list[OptionCreate], Field(min_length=1, max_length=MAX_OPTIONS)]
    currency: Annotated[Name, Field(description="That of the options' tokens", examples=["USD"])] | None = None
    expires_in_s: Annotated[int, Field(ge=1, le=MAX_EXPIRES_IN_S, description="Seconds from now")] | None = None
    metadata: Metadata = Field(default_factory=dict)
    merchant: Merchant | None = None

    def to_request(self, merchant: str | None = None) -> InvoiceRequest:
        """What `drafting.draft` takes. `merchant`: whose it is to be, whatever the body says."""
        return InvoiceRequest(
            amount=self.amount,
            reference=self.reference,
            options=tuple(option.to_request() for option in self.options),
            currency=self.currency,
            expires_in_s=self.expires_in_s,
            metadata=self.metadata,
            merchant=merchant or self.merchant or DEFAULT_MERCHANT,
        )


class InvoiceCancel(BaseModel):
    """`POST /v1/invoices/{id}/cancel`."""

    model_config = MODEL

    reason: Reason = ""


class InvoiceMark(BaseModel):
    """`POST /v1/invoices/{id}/mark`."""

    model_config = MODEL

    status: Annotated[
        Name,
        Field(description="What it counts as; only `settled`", examples=["settled"]),
        AfterValidator(_settled),
    ]
    reason: Why


class TransferAssign(BaseModel):
    """`POST /v1/transfers/{id}/assign`."""

    model_config = MODEL

    invoice_id: InvoiceIdText
    reason: Why


class TransferDismiss(BaseModel):
    """`POST /v1/transfers/{id}/dismiss`."""

    model_config = MODEL

    reason: Why


class HoldCreate(BaseModel):
    """`POST /v1/holds`: a hold of the operator's own."""

    model_config = MODEL

    invoice_id: InvoiceIdText
    reason: Why


class HoldRelease(BaseModel):
    """`POST /v1/holds/{id}/release`."""

    model_config = MODEL

    reason: Why


class EndpointCreate(BaseModel):
    """`POST /v1/webhook-endpoints`."""

    model_config = MODEL

    url: Annotated[
        str,
        Field(max_length=URL_CHARS, description="Where events are sent", examples=["https://shop.example/hooks"]),
        AfterValidator(without_controls),
    ]
    types: Annotated[list[EventType], Field(max_length=len(EventType), description="Only these events; empty: all")] = (
        Field(default_factory=list)
    )
    merchant: Merchant | None = None


class Nothing(BaseModel):
    """A POST that says all by its address: no body, or `{}`."""

    model_config = MODEL
