"""`/v1/chains`: how far each chain is read, and by whom."""

from __future__ import annotations

from aiohttp import web

from settler.api.answers import page
from settler.api.call import Call
from settler.api.queries import NoQuery
from settler.api.views import chain_view
from settler.storage import chains


async def list_chains(call: Call) -> web.StreamResponse:
    call.query(NoQuery)
    async with call.services.db.read() as conn:
        states = await chains.all_states(conn)
    providers = call.services.providers() if call.services.providers is not None else ()
    return page([chain_view(state, [p for p in providers if p["chain"] == state.name]) for state in states], None)
