"""`/v1/chains`: how far each chain is read, and by whom."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from settler.api.answers import page
from settler.api.call import Call
from settler.api.chains import chain_views
from settler.api.queries import NoQuery
from settler.api.route import Route
from settler.api.shapes import ChainShape, Page
from settler.storage.api_keys import Scope


async def list_chains(call: Call) -> web.StreamResponse:
    """All of them; `providers` as the process that answers sees them."""
    call.query(NoQuery)
    providers = call.services.providers() if call.services.providers is not None else ()
    async with call.services.db.read() as conn:
        return page(await chain_views(conn, providers), None)


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/chains",
        scope=Scope.READ,
        handler=list_chains,
        summary="List chains",
        answer=Page[ChainShape],
    ),
)
