"""`/v1/settlements`: the final records."""

from __future__ import annotations

from typing import Final

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncConnection

from settler.api.answers import ok, page, split
from settler.api.call import Call
from settler.api.errors import not_found
from settler.api.queries import NoQuery, SettlementQuery
from settler.api.route import Route
from settler.api.shapes import EvidenceShape, Page
from settler.api.views import evidence_view
from settler.domain.ids import InvoiceId, SettlementId
from settler.domain.records import Settlement
from settler.domain.shapes import SettlementShape
from settler.storage import evidence, reading, settlements
from settler.storage.api_keys import Scope


async def list_settlements(call: Call) -> web.StreamResponse:
    """Newest first, reversed ones too."""
    query = call.query(SettlementQuery)
    async with call.services.db.read() as conn:
        found = await settlements.find(
            conn,
            invoice_id=None if query.invoice_id is None else InvoiceId(query.invoice_id),
            merchant=call.caller.merchant_seen(query.merchant),
            before=query.beyond,
            limit=query.limit + 1,
        )
        shown, next_cursor = split(found, query.limit)
        return page(await reading.settlement_views(conn, shown), next_cursor)


async def show_settlement(call: Call) -> web.StreamResponse:
    """With its payments, the rules it was settled by, and its reversal if the chain undid it."""
    call.query(NoQuery)
    async with call.services.db.read() as conn:
        settlement = await _seen(call, conn)
        return ok((await reading.settlement_views(conn, [settlement]))[0])


async def show_evidence(call: Call) -> web.StreamResponse:
    """Who gave each payment's log, and the proof of it where the chain is proven; to be checked without us by
    `settler settlement verify`.
    """
    call.query(NoQuery)
    async with call.services.db.read() as conn:
        settlement = await _seen(call, conn)
        payments = await evidence.of_settlement(conn, settlement)
        return ok(evidence_view(settlement, payments, await reading.render(conn)))


async def _seen(call: Call, conn: AsyncConnection) -> Settlement:
    """The settlement of the path. Raises `Problem` 404 if there is none that the caller may see."""
    id_ = SettlementId(call.id("stl", "settlement"))
    settlement = await settlements.get(conn, id_)
    if settlement is None or not call.caller.sees(settlement.merchant):
        raise not_found(f"there is no settlement {id_}")
    return settlement


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/settlements",
        scope=Scope.READ,
        handler=list_settlements,
        summary="List settlements",
        query=SettlementQuery,
        answer=Page[SettlementShape],
    ),
    Route(
        method="GET",
        path="/v1/settlements/{id}",
        scope=Scope.READ,
        handler=show_settlement,
        summary="Show a settlement",
        answer=SettlementShape,
    ),
    Route(
        method="GET",
        path="/v1/settlements/{id}/evidence",
        scope=Scope.READ,
        handler=show_evidence,
        summary="Show what a settlement rests on",
        answer=EvidenceShape,
    ),
)
