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
    Reason,
    Reference,
    without_controls,
)
from settler.domain.drafting import MAX_EXPIRES_IN_S, MAX_OPTIONS, InvoiceRequest, OptionRequest
from settler.domain.events import EventType
from settler.domain.invoices import DEFAULT_MERCHANT, Match
from settler.webhook.guard import URL_CHARS


class OptionCreate(BaseModel):
    """One way to pay."""

    model_config = MODEL

    chain: Annotated[Name, Field(description="A configured chain's name", examples=["base"])]
    token: Annotated[Name, Field(description="Symbol of a token configured on it", examples=["USDC"])]
    pay_to: ChecksummedAddress | None = None
    match: Match = Match.ADDRESS

    def to_request(self) -> OptionRequest:
        return OptionRequest(
            chain=self.chain,
            token=self.token,
            pay_to=None if self.pay_to is None else parse_address(self.pay_to),
            match=self.match,
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
