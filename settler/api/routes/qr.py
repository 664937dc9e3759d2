"""`/v1/invoices/{id}/qr.svg`: what a wallet scans to pay, for a checkout page to show."""

from __future__ import annotations

import io
import re
from functools import lru_cache
from typing import Annotated, Final

import segno
from aiohttp import web
from pydantic import BaseModel, BeforeValidator, Field

from settler.api.call import Call
from settler.api.errors import not_found
from settler.api.fields import MODEL
from settler.api.route import Route
from settler.domain.drafting import MAX_OPTIONS
from settler.domain.errors import InvalidInput
from settler.domain.ids import InvoiceId
from settler.domain.invoices import Invoice, Option
from settler.domain.views import payment_uri
from settler.storage import invoices, reading
from settler.storage.api_keys import Scope

SVG = "image/svg+xml"
CODES_KEPT = 512
"""Codes remembered, some 3 kB each: one takes 15 ms, in which the process does nothing else, and anybody with a payment
page may ask for it again and again.
"""

_INTEGER = re.compile(r"[0-9]{1,4}", re.ASCII)


def _plain_integer(value: object) -> object:
    """pydantic would also read ` 5`, `5.0` and `1_000`."""
    if not isinstance(value, str):
        return value
    if _INTEGER.fullmatch(value) is None:
        raise ValueError(f"{value[:80]!r} is not a whole number; give the place of an option, 0 for the first")
    return int(value)


class CodeQuery(BaseModel):
    model_config = MODEL

    option: Annotated[
        int,
        Field(ge=0, lt=MAX_OPTIONS),
        BeforeValidator(_plain_integer, json_schema_input_type=Annotated[int, Field(ge=0, lt=MAX_OPTIONS)]),
        Field(description="Which way to pay, counted from 0"),
    ] = 0


async def show_code(call: Call) -> web.StreamResponse:
    """The `uri` of an option as a QR code, in SVG of any size: black on white, with a quiet zone."""
    query = call.query(CodeQuery)
    id_ = InvoiceId(call.id("inv", "invoice"))
    async with call.services.db.read() as conn:
        invoice = await invoices.get(conn, id_)
        if invoice is None or not call.caller.sees(invoice.merchant):
            raise not_found(f"there is no invoice {id_}")
        uri = payment_uri(option_of(invoice, query.option), await reading.render(conn))
    return web.Response(body=svg(uri), content_type=SVG)


def option_of(invoice: Invoice, index: int) -> Option:
    """Raises `InvalidInput` where the invoice does not offer so many."""
    if not 0 <= index < len(invoice.options):
        last = len(invoice.options) - 1
        raise InvalidInput(
            "option",
            f"{index} is not offered; {invoice.id} has " + (f"options 0 to {last}" if last else "option 0 alone"),
        )
    return invoice.options[index]


def code(uri: str) -> segno.QRCode:
    return segno.make_qr(uri)


@lru_cache(maxsize=CODES_KEPT)
def svg(uri: str) -> bytes:
    """A document of its own, of any size: black on white, with the quiet zone that scanners want."""
    out = io.BytesIO()
    code(uri).save(out, kind="svg", dark="#000", light="#fff", omitsize=True, svgclass=None, lineclass=None)
    return out.getvalue()


def blocks(uri: str) -> str:
    """For a dark terminal: two modules a character, one above the other."""
    out = io.StringIO()
    code(uri).terminal(out, compact=True)
    return out.getvalue()


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/invoices/{id}/qr.svg",
        scope=Scope.READ,
        handler=show_code,
        summary="Show what a wallet scans",
        query=CodeQuery,
        media=SVG,
    ),
)
