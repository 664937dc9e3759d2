"""`/v1/events`: what the webhooks tell, to pull, in order."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from settler.api.answers import page, split
from settler.api.call import Call
from settler.api.queries import EventQuery
from settler.api.route import Route
from settler.api.shapes import Page
from settler.domain.shapes import EventShape
from settler.storage import feed
from settler.storage.api_keys import Scope


async def list_events(call: Call) -> web.StreamResponse:
    """What comes after the last event you have is all that was committed since: nothing is passed over, however many
    write at once.
    """
    query = call.query(EventQuery)
    await feed.catch_up(call.services.db)
    async with call.services.db.read() as conn:
        found = await feed.find_after(
            conn,
            query.after or query.beyond,
            merchant=call.caller.merchant,
            limit=query.limit + 1,
        )
    shown, next_cursor = split(found, query.limit)
    return page([event.body() for event in shown], next_cursor)


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/events",
        scope=Scope.READ,
        handler=list_events,
        summary="List events, oldest first",
        query=EventQuery,
        answer=Page[EventShape],
    ),
)
