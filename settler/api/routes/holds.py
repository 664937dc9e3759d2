"""`/v1/holds`: what stops settlements, and letting it go on."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncConnection

from settler.api import deciding
from settler.api.answers import Answer, ok, page, split
from settler.api.call import Call
from settler.api.idempotency import write_once
from settler.api.models import HoldCreate, HoldRelease
from settler.api.queries import HoldQuery, NoQuery
from settler.api.route import Route
from settler.api.shapes import Page
from settler.domain.ids import InvoiceId
from settler.domain.records import Hold, Settlement
from settler.domain.shapes import HoldShape
from settler.domain.views import Json
from settler.storage import holds, reading
from settler.storage.api_keys import Scope


async def list_holds(call: Call) -> web.StreamResponse:
    """Newest first; those that stop a settlement now, where nothing else is asked for."""
    return page(*await hold_rows(call, call.query(HoldQuery)))


async def hold_rows(call: Call, query: HoldQuery) -> tuple[list[HoldShape], str | None]:
    """Those the caller may see, and the next page's cursor."""
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
        return await reading.hold_views(conn, shown), next_cursor


async def show_hold(call: Call) -> web.StreamResponse:
    """Also one that was released, with who did and why."""
    call.query(NoQuery)
    async with call.services.db.read() as conn:
        return ok(await _view(conn, await deciding.seen_hold(call, conn)))


async def place_hold(call: Call) -> web.StreamResponse:
    """An operator's own hold: the invoice settles no more until it is released."""
    call.query(NoQuery)

    async def effect(conn: AsyncConnection, body: HoldCreate) -> Answer:
        placed = await deciding.place_hold(call, conn, body)
        return Answer(status=HTTPStatus.CREATED, body=await _view(conn, placed))

    return await write_once(call, HoldCreate, effect)


async def release_hold(call: Call) -> web.StreamResponse:
    """What it stopped goes on: with nothing else in the way, the invoice settles at once."""
    call.query(NoQuery)
    settled: list[Settlement] = []

    async def effect(conn: AsyncConnection, body: HoldRelease) -> Answer:
        released = await deciding.release_hold(call, conn, body)
        settled[:] = released.settled
        return Answer(body=await _view(conn, released.value))

    answer = await write_once(call, HoldRelease, effect)
    call.count_settled(settled)
    return answer


async def _view(conn: AsyncConnection, hold: Hold) -> Json:
    return (await reading.hold_views(conn, [hold]))[0]


ROUTES: Final = (
    Route(
        method="POST",
        path="/v1/holds",
        scope=Scope.OPERATE,
        handler=place_hold,
        summary="Hold an invoice",
        body=HoldCreate,
        answer=HoldShape,
        status=HTTPStatus.CREATED,
    ),
    Route(
        method="GET",
        path="/v1/holds",
        scope=Scope.READ,
        handler=list_holds,
        summary="List holds",
        query=HoldQuery,
        answer=Page[HoldShape],
    ),
    Route(
        method="GET",
        path="/v1/holds/{id}",
        scope=Scope.READ,
        handler=show_hold,
        summary="Show a hold",
        answer=HoldShape,
    ),
    Route(
        method="POST",
        path="/v1/holds/{id}/release",
        scope=Scope.OPERATE,
        handler=release_hold,
        summary="Release a hold",
        body=HoldRelease,
        answer=HoldShape,
    ),
)
