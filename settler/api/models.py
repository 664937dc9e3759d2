"""The bodies that may be sent. The single source: the API checks by them, its description is made of them, and the CLI
uses them.

They check what can be checked by looking: shapes, bounds, checksums. What needs the configuration (chains, tokens,
decimals) is checked by `settler.domain.drafting`.
"""

from __future__ import annotations

import contextlib
import re
from datetime import UTC, datetime
from typing import Annotated, Final, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, model_validator

from chains.address import parse_address
from settler.api import cursor as cursors
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
from settler.domain.delivery import OVERLAP_MAX_S, OVERLAP_S, EndpointId
from settler.domain.drafting import MAX_EXPIRES_IN_S, MAX_OPTIONS, InvoiceRequest, OptionRequest, parse_reference
from settler.domain.events import EventType
from settler.domain.ids import looks_like_id
from settler.domain.invoices import DEFAULT_MERCHANT, InvoiceStatus, Match
from settler.storage.webhook_replays import Replay
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


def parse_time(text: str | None) -> datetime | None:
    """RFC 3339 as UTC. Raises `ValueError`."""
    if text is None:
        return None
    if _TIME.fullmatch(text):
        with contextlib.suppress(ValueError, OverflowError):  # a 13th month, a 61st second
            return datetime.fromisoformat(text.upper()).astimezone(UTC)
    raise ValueError(f"{text[:80]!r} is no time; write it like 2026-01-31T23:59:59Z")


def _time(text: str) -> str:
    parse_time(text)
    return text


def _endpoint_id(text: str) -> str:
    if not looks_like_id(text, "whe"):
        raise ValueError(f"{text!r} is no id of a webhook endpoint; they are whe_ and 26 characters")
    return text


_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,6})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
TimeText = Annotated[
    str,
    Field(max_length=40, examples=["2026-01-31T23:59:59Z"], json_schema_extra={"format": "date-time"}),
    AfterValidator(_time),
]
"""RFC 3339."""
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


INVOICE_EXAMPLE: Final[dict[str, JsonValue]] = {
    "amount": "100.00",
    "reference": "order-42",
    "options": [{"chain": "base", "token": "USDC", "pay_to": "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"}],
}


class InvoiceCreate(BaseModel):
    """`POST /v1/invoices`."""

    model_config = ConfigDict(**MODEL, json_schema_extra={"examples": [INVOICE_EXAMPLE]})

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


class EndpointRotate(BaseModel):
    """`POST /v1/webhook-endpoints/{id}/rotate-secret`."""

    model_config = MODEL

    overlap_s: Annotated[
        int,
        Field(
            ge=0,
            le=OVERLAP_MAX_S,
            description="How long the secret before still signs as well; 0: no longer, e.g. because it is known",
        ),
    ] = OVERLAP_S
    reason: Reason = ""


class EndpointEnable(BaseModel):
    """`POST /v1/webhook-endpoints/{id}/enable`."""

    model_config = MODEL

    reason: Reason = ""


class DeliveriesReplay(BaseModel):
    """`POST /v1/webhook-deliveries/replay`."""

    model_config = MODEL

    since: (
        Annotated[TimeText, Field(description="First moment of the events; left out: from the first event")] | None
    ) = None
    until: Annotated[TimeText, Field(description="End of the range, not in it; left out, or to come: now")] | None = (
        None
    )
    dead_only: Annotated[bool, Field(description="Only what was given up")] = False
    endpoint_id: (
        Annotated[
            Name,
            Field(description="Only to this endpoint; then also what it was never sent, unless `dead_only`"),
            AfterValidator(_endpoint_id),
        ]
        | None
    ) = None
    cursor: Annotated[str, Field(description="`next_cursor` of the answer before")] | None = None

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        since, until = parse_time(self.since), parse_time(self.until)
        if since is not None and until is not None and since >= until:
            raise ValueError("`since` is not before `until`; nothing lies between them")
        if self.cursor is not None:
            if until is None:
                raise ValueError("`cursor` goes on with a range; give the `until` of the answer before, too")
            cursors.decode(self.cursor, self._cursor_prefix)
        return self

    @property
    def beyond(self) -> str | None:
        """The id to go on after; `None`: from the start."""
        return None if self.cursor is None else cursors.decode(self.cursor, self._cursor_prefix)

    @property
    def _cursor_prefix(self) -> str:
        return "evt" if self.endpoint_id is not None and not self.dead_only else "dlv"

    def to_replay(self, now: datetime, merchant: str | None) -> Replay:
        """`merchant`: whose endpoints alone; `None`: anybody's."""
        # Whole milliseconds: it is told, and given again, as text that has no more.
        present = now.replace(microsecond=now.microsecond // 1000 * 1000)
        return Replay(
            since=parse_time(self.since),
            until=min(parse_time(self.until) or present, present),
            is_dead_only=self.dead_only,
            endpoint_id=None if self.endpoint_id is None else EndpointId(self.endpoint_id),
            merchant=merchant,
        )


class Nothing(BaseModel):
    """A POST that says all by its address: no body, or `{}`."""

    model_config = MODEL
