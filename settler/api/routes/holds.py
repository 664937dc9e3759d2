"""`/v1/holds`: what stops settlements, and letting it go on."""

from __future__ import annotations

from http import HTTPStatus

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncConnection

from settler.api.answers import Answer, ok, page, split
from settler.api.call import Call
from settler.api.errors import not_found
from settler.api.idempotency import write_once
from settler.api.models import HoldCreate, HoldRelease
from settler.api.queries import HoldQuery, NoQuery
from settler.domain.ids import HoldId, InvoiceId
from settler.domain.records import Hold, Settlement
from settler.domain.views import Json
from settler.storage import holds, invoices, reading


async def list_holds(call: Call) -> web.StreamResponse:
    """Newest first; those that stop a settlement now, where nothing else is asked for."""
    query = call.query(HoldQuery)
    async with call.services.db.read() as conn:
        found = await holds.find(
            conn,
            stands=query.stands,
            reason=query.reason,
            invoice_id=None if query.invoice_id is None else InvoiceId(query.invoice_id),
            merchant=call.caller.merchant_seen(query.merchant),
            before=query.beyond,
            limit=query.limit + 1,
        )
        shown, next_cursor = split(found, query.limit)
        return page(await reading.hold_views(conn, shown), next_cursor)


async def show_hold(call: Call) -> web.StreamResponse:
    call.query(NoQuery)
    async with call.services.db.read() as conn:
        return ok(await _view(conn, await _seen(call, conn)))


async def place_hold(call: Call) -> web.StreamResponse:
    """An operator's own hold: the invoice settles no more until it is released."""
    call.query(NoQuery)

    async def effect(conn: AsyncConnection, body: HoldCreate) -> Answer:
        invoice_id = InvoiceId(body.invoice_id)
        await _refuse_unless_own(call, conn, invoice_id, f"there is no invoice {invoice_id}")
        placed = await call.services.operator.place_hold(conn, invoice_id, call.by(body.reason))
        return Answer(status=HTTPStatus.CREATED, body=await _view(conn, placed))

    return await write_once(call, HoldCreate, effect)


async def release_hold(call: Call) -> web.StreamResponse:
    """What it stopped goes on: with nothing else in the way, the invoice settles at once."""
    call.query(NoQuery)
    settled: list[Settlement] = []

    async def effect(conn: AsyncConnection, body: HoldRelease) -> Answer:
        hold = await _seen(call, conn)
        released = await call.services.operator.release_hold(conn, hold.id, call.by(body.reason))
        settled[:] = released.settled
        return Answer(body=await _view(conn, released.value))

    answer = await write_once(call, HoldRelease, effect)
    call.count_settled(settled)
    return answer


async def _seen(call: Call, conn: AsyncConnection) -> Hold:
    """The hold of the path. Raises `Problem` 404 if there is none that the caller may see."""
    id_ = HoldId(call.id("hld", "hold"))
    hold = await holds.get(conn, id_)
    if hold is None:
        raise not_found(f"there is no hold {id_}")
    await _refuse_unless_own(call, conn, hold.invoice_id, f"there is no hold {id_}")
    return hold


async def _refuse_unless_own(call: Call, conn: AsyncConnection, invoice_id: InvoiceId, what: str) -> None:
    owner = (await invoices.merchants(conn, [invoice_id])).get(invoice_id)
    if owner is None or not call.caller.sees(owner):
        raise not_found(what)


async def _view(conn: AsyncConnection, hold: Hold) -> Json:
    return (await reading.hold_views(conn, [hold]))[0]
