"""`/v1/invoices/{id}/stream`: each change of an invoice, as it happens."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from settler.api.call import Call
from settler.api.errors import not_found
from settler.api.queries import NoQuery
from settler.api.route import Route
from settler.api.stream import EVENT_STREAM, STREAMS, whole
from settler.domain.ids import InvoiceId
from settler.storage import invoices
from settler.storage.api_keys import Scope


async def stream_invoice(call: Call) -> web.StreamResponse:
    """Server-sent events: `event: invoice`, the invoice as JSON in `data`. The present state comes first, then each
    later one; growing confirmations of a payment that is not final count as one. Give the last `id` you have as
    `Last-Event-ID`, and that state is not sent again. A comment comes every 15 s. The stream ends after an hour, and
    when the key is revoked: connect again, after the time that `retry` says.
    """
    call.query(NoQuery)
    id_ = InvoiceId(call.id("inv", "invoice"))
    async with call.services.db.read() as conn:
        owner = (await invoices.merchants(conn, [id_])).get(id_)
    if owner is None or not call.caller.sees(owner):
        raise not_found(f"there is no invoice {id_}")
    return await call.request.app[STREAMS].open(
        call.request, id_, shown=whole, holder=call.caller.idempotency_scope, has_key=True
    )


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/invoices/{id}/stream",
        scope=Scope.READ,
        handler=stream_invoice,
        summary="Follow an invoice",
        headers=(("Last-Event-ID", "`id` of the last event you have"),),
        media=EVENT_STREAM,
    ),
)
