"""The query strings that may be sent: filters, and `limit` and `cursor` on every list."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, ClassVar, Self

from pydantic import BaseModel, BeforeValidator, Field, field_validator, model_validator

from settler.api import cursor as cursors
from settler.api.fields import MODEL, Merchant, Name, Reference
from settler.domain.delivery import DeliveryStatus
from settler.domain.events import EventType
from settler.domain.ids import looks_like_id
from settler.domain.invoices import (
    Allocation,
    InvoiceException,
    InvoiceStatus,
    TransferStatus,
    UnmatchedReason,
)
from settler.domain.settlement import HoldReason

MAX_LIMIT = 200
DEFAULT_LIMIT = 50

_INTEGER = re.compile(r"[0-9]{1,9}", re.ASCII)


def _plain_integer(value: object) -> object:
    """pydantic would also read ` 5`, `5.0` and `1_000`."""
    if not isinstance(value, str):
        return value
    if _INTEGER.fullmatch(value) is None:
        raise ValueError(f"{value[:80]!r} is not a whole number; give 1 to {MAX_LIMIT}")
    return int(value)


class ListQuery(BaseModel):
    """What every list takes."""

    model_config = MODEL
    id_prefix: ClassVar[str]
    """Kind of the ids that a cursor of this list holds."""

    limit: Annotated[
        int,
        Field(ge=1, le=MAX_LIMIT),
        BeforeValidator(_plain_integer, json_schema_input_type=Annotated[int, Field(ge=1, le=MAX_LIMIT)]),
        Field(description="Rows in one answer"),
    ] = DEFAULT_LIMIT
    cursor: Annotated[str, Field(description="`next_cursor` of the answer before")] | None = None

    @field_validator("cursor")
    @classmethod
    def _is_ours(cls, value: str | None) -> str | None:
        return value if value is None else cursors.encode(cursors.decode(value, cls.id_prefix))

    @property
    def beyond(self) -> str | None:
        """The id to go on after; `None`: from the start."""
        return None if self.cursor is None else cursors.decode(self.cursor, self.id_prefix)


class InvoiceQuery(ListQuery):
    id_prefix = "inv"
    status: InvoiceStatus | None = None
    reference: Reference | None = None
    merchant: Merchant | None = None
    exception: InvoiceException | None = None


class TransferQuery(ListQuery):
    id_prefix = "trf"
    status: TransferStatus | None = None
    allocation: Allocation | None = None
    reason: UnmatchedReason | None = None
    chain: Annotated[Name, Field(description="Name or CAIP-2 id", examples=["base", "eip155:8453"])] | None = None
    merchant: Merchant | None = None


class SettlementQuery(ListQuery):
    id_prefix = "stl"
    invoice_id: Name | None = None
    merchant: Merchant | None = None


class HoldStatus(StrEnum):
    """Which holds are listed."""

    HELD = "held"
    """Those that stop a settlement now."""
    RELEASED = "released"
    ALL = "all"


class HoldQuery(ListQuery):
    id_prefix = "hld"
    status: HoldStatus = HoldStatus.HELD
    reason: HoldReason | None = None
    invoice_id: Name | None = None
    merchant: Merchant | None = None

    @property
    def stands(self) -> bool | None:
        """As `storage.holds.find` takes it."""
        return None if self.status is HoldStatus.ALL else self.status is HoldStatus.HELD


class EventQuery(ListQuery):
    id_prefix = "evt"
    after: Annotated[str, Field(description="Id of the last event you have", examples=["evt_…"])] | None = None

    @field_validator("after")
    @classmethod
    def _is_event(cls, value: str | None) -> str | None:
        if value is not None and not looks_like_id(value, cls.id_prefix):
            raise ValueError(f"{value[:80]!r} is no event id; they are evt_ and 26 characters")
        return value

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        if self.after is not None and self.cursor is not None:
            raise ValueError("`after` and `cursor` both say where to go on; give one of them")
        return self


class EndpointStatus(StrEnum):
    """Which endpoints are listed."""

    LIVE = "live"
    DISABLED = "disabled"
    """Those that were removed, or answered 410 Gone."""
    ALL = "all"


class EndpointQuery(ListQuery):
    id_prefix = "whe"
    status: EndpointStatus = EndpointStatus.LIVE

    @property
    def is_live(self) -> bool | None:
        """As `storage.webhooks.find_endpoints` takes it."""
        return None if self.status is EndpointStatus.ALL else self.status is EndpointStatus.LIVE


class DeliveryQuery(ListQuery):
    id_prefix = "dlv"
    status: DeliveryStatus | None = None
    endpoint_id: Annotated[Name, Field(examples=["whe_…"])] | None = None
    event_id: Annotated[Name, Field(examples=["evt_…"])] | None = None
    event_type: EventType | None = None


class NoQuery(BaseModel):
    """An address that takes no parameters."""

    model_config = MODEL
