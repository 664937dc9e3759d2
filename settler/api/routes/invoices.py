"""`/v1/invoices`: make, show, list, cancel, mark."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final, assert_never

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncConnection

from settler.api import deciding
from settler.api.answers import Answer, ok, page, split
from settler.api.body import canonical, read_json
from settler.api.call import Call
from settler.api.creating import Made, Order
from settler.api.errors import Problem
from settler.api.idempotency import claim_of, send_again, send_stored, write_once
from settler.api.invalid import validate
from settler.api.models import InvoiceCancel, InvoiceCreate, InvoiceMark
from settler.api.queries import InvoiceQuery, NoQuery
from settler.api.route import Route
from settler.api.shapes import Page
from settler.domain.drafting import InvoiceRequest
from settler.domain.errors import InvalidInput
from settler.domain.invoices import Invoice
from settler.domain.records import Settlement
from settler.domain.shapes import InvoiceShape
from settler.domain.views import Json
from settler.storage import invoices, reading
from settler.storage.api_keys import Scope
from settler.storage.idempotency import First


async def create_invoice(call: Call) -> web.StreamResponse:
    """Each option is one way to pay it; what arrives on any of them counts. The addresses are watched from now on."""
    call.query(NoQuery)
    sent = canonical(await read_json(call.request))
    claim = claim_of(call, sent)
    outcome = await call.services.creating.create(
        Order(request=_wanted(call, sent), claim=claim, path=call.request.rel_url.raw_path)
    )
    match outcome:
        case Made(answer=answer):
            return send_stored(call, answer)
        case First():
            assert claim is not None, "without a key there was none before"
            return send_again(call, claim, outcome)
        case _:
            assert_never(outcome)


def _wanted(call: Call, sent: str) -> InvoiceRequest | Problem | InvalidInput:
    """What is asked for, or what is wrong with it: an answer to be kept where there is a key."""
    assert call.route.body is InvoiceCreate, "it says that it takes another body than it reads"
    try:
        body = validate(InvoiceCreate, sent)
        return body.to_request(call.caller.merchant_of_new(body.merchant))
    except (InvalidInput, Problem) as refusal:
        return refusal


async def list_invoices(call: Call) -> web.StreamResponse:
    """Newest first."""
    return page(*await invoice_rows(call, call.query(InvoiceQuery)))


async def invoice_rows(call: Call, query: InvoiceQuery) -> tuple[list[InvoiceShape], str | None]:
    """Those the caller may see, and the next page's cursor."""
    async with call.services.db.read() as conn:
        found = await invoices.find(
            conn,
            status=query.status,
            reference=query.reference,
            merchant=call.caller.merchant_seen(query.merchant),
            exception=query.exception,
            before=query.beyond,
            limit=query.limit + 1,
        )
        shown, next_cursor = split(found, query.limit)
        return await reading.invoice_views(conn, shown), next_cursor


async def show_invoice(call: Call) -> web.StreamResponse:
    """As it stands now, with its payments. To be told of changes, follow it or add an endpoint."""
    call.query(NoQuery)
    async with call.services.db.read() as conn:
        return ok(await _view(conn, await deciding.seen_invoice(call, conn)))


async def cancel_invoice(call: Call) -> web.StreamResponse:
    """Only while it is pending. What is paid to it from then on goes to suspense."""
    call.query(NoQuery)

    async def effect(conn: AsyncConnection, body: InvoiceCancel) -> Answer:
        return Answer(body=await _view(conn, await deciding.cancel(call, conn, body)))

    return await write_once(call, InvoiceCancel, effect)


async def mark_invoice(call: Call) -> web.StreamResponse:
    """An operator's word that it is paid, or as good as, with whatever came. The audit log keeps who and why."""
    call.query(NoQuery)
    settled: list[Settlement] = []

    async def effect(conn: AsyncConnection, body: InvoiceMark) -> Answer:
        marked = await deciding.mark(call, conn, body)
        settled[:] = marked.settled
        return Answer(body=await _view(conn, marked.value))

    answer = await write_once(call, InvoiceMark, effect)
    call.count_settled(settled)
    return answer


async def _view(conn: AsyncConnection, invoice: Invoice) -> Json:
    return (await reading.invoice_views(conn, [invoice]))[0]


ROUTES: Final = (
    Route(
        method="POST",
        path="/v1/invoices",
        scope=Scope.WRITE,
        handler=create_invoice,
        summary="Make an invoice",
        body=InvoiceCreate,
        answer=InvoiceShape,
        status=HTTPStatus.CREATED,
    ),
    Route(
        method="GET",
        path="/v1/invoices",
        scope=Scope.READ,
        handler=list_invoices,
        summary="List invoices",
        query=InvoiceQuery,
        answer=Page[InvoiceShape],
    ),
    Route(
        method="GET",
        path="/v1/invoices/{id}",
        scope=Scope.READ,
        handler=show_invoice,
        summary="Show an invoice",
        answer=InvoiceShape,
    ),
    Route(
        method="POST",
        path="/v1/invoices/{id}/cancel",
        scope=Scope.WRITE,
        handler=cancel_invoice,
        summary="Cancel an invoice",
        body=InvoiceCancel,
        answer=InvoiceShape,
    ),
    Route(
        method="POST",
        path="/v1/invoices/{id}/mark",
        scope=Scope.OPERATE,
        handler=mark_invoice,
        summary="Settle an invoice by hand",
        body=InvoiceMark,
        answer=InvoiceShape,
    ),
)
