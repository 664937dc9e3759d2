"""`/v1/events`: what the webhooks tell, to pull, in order."""

from __future__ import annotations

from aiohttp import web

from settler.api.answers import page, split
from settler.api.call import Call
from settler.api.queries import EventQuery
from settler.storage import events as feed


async def list_events(call: Call) -> web.StreamResponse:
    query = call.query(EventQuery)
    async with call.services.db.read() as conn:
        found = await feed.find_after(
            conn,
            query.after or query.beyond,
            merchant=call.caller.merchant,
            limit=query.limit + 1,
        )
    shown, next_cursor = split(found, query.limit)
    return page([event.body() for event in shown], next_cursor)
