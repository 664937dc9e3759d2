"""`/v1/settlements`: the final records."""

from __future__ import annotations

from aiohttp import web

from settler.api.answers import ok, page, split
from settler.api.call import Call
from settler.api.errors import not_found
from settler.api.queries import NoQuery, SettlementQuery
from settler.domain.ids import InvoiceId, SettlementId
from settler.storage import reading, settlements


async def list_settlements(call: Call) -> web.StreamResponse:
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
    call.query(NoQuery)
    id_ = SettlementId(call.id("stl", "settlement"))
    async with call.services.db.read() as conn:
        settlement = await settlements.get(conn, id_)
        if settlement is None or not call.caller.sees(settlement.merchant):
            raise not_found(f"there is no settlement {id_}")
        return ok((await reading.settlement_views(conn, [settlement]))[0])
