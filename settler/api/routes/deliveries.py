"""`/v1/webhook-deliveries`: how each event got to each endpoint, and sending it again."""

from __future__ import annotations

from typing import Final

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncConnection

from settler.api import cursor, deciding
from settler.api.answers import Answer, ok, page, split
from settler.api.call import Call
from settler.api.errors import not_found
from settler.api.idempotency import write_once
from settler.api.models import DeliveriesReplay, Nothing
from settler.api.queries import DeliveryQuery, NoQuery
from settler.api.route import Route
from settler.api.shapes import DeliveryShape, LoggedDeliveryShape, Page, ReplayShape
from settler.api.views import delivery_view, logged_delivery_view
from settler.domain.delivery import DeliveryId, EndpointId
from settler.domain.ids import EventId
from settler.domain.views import time_text
from settler.storage import webhooks
from settler.storage.api_keys import Scope

PIECE = 1_000
"""Of a replay in one request: a transaction of a tenth of a second or so."""
ATTEMPTS_SHOWN = 50
"""Five times what one delivery is tried before it is given up."""


async def list_deliveries(call: Call) -> web.StreamResponse:
    """Newest events first."""
    query = call.query(DeliveryQuery)
    async with call.services.db.read() as conn:
        found = await webhooks.find_deliveries(
            conn,
            status=query.status,
            endpoint_id=None if query.endpoint_id is None else EndpointId(query.endpoint_id),
            event_id=None if query.event_id is None else EventId(query.event_id),
            event_type=query.event_type,
            merchant=call.caller.merchant,
            before=query.beyond,
            limit=query.limit + 1,
        )
    shown, next_cursor = split(found, query.limit)
    return page([delivery_view(delivery) for delivery in shown], next_cursor)


async def show_delivery(call: Call) -> web.StreamResponse:
    """With the log of its attempts: when, how long, and what came back."""
    call.query(NoQuery)
    id_ = _id(call)
    async with call.services.db.read() as conn:
        delivery = await webhooks.get_delivery(conn, id_, merchant=call.caller.merchant)
        attempts = await webhooks.attempts_of(conn, id_, limit=ATTEMPTS_SHOWN)
    if delivery is None:
        raise not_found(f"there is no delivery {id_}")
    return ok(logged_delivery_view(delivery, attempts))


async def retry_delivery(call: Call) -> web.StreamResponse:
    """Sent again at once, with all its attempts before it."""
    call.query(NoQuery)

    async def effect(conn: AsyncConnection, _body: Nothing) -> Answer:
        return Answer(body=delivery_view(await deciding.retry_delivery(call, conn)))

    return await write_once(call, Nothing, effect)


async def replay_deliveries(call: Call) -> web.StreamResponse:
    """Sends the events of a range again, oldest first, under the ids they had: what was delivered or given up is due
    again, what is pending comes anyway. With `endpoint_id` (and without `dead_only`) the endpoint also gets what it was
    never sent, because it was added later or was disabled.

    One call does at most 1,000. While `next_cursor` is not `null`, repeat it with that as `cursor` and `until` as
    answered; each with an `Idempotency-Key` of its own, if any."""
    call.query(NoQuery)

    async def effect(conn: AsyncConnection, body: DeliveriesReplay) -> Answer:
        now = call.services.clock.now()
        wanted = body.to_replay(now, call.caller.merchant)
        done = await webhooks.replay(conn, wanted, now, after=body.beyond, limit=PIECE)
        return Answer(
            body={
                "since": None if wanted.since is None else time_text(wanted.since),
                "until": time_text(wanted.until),
                "dead_only": wanted.is_dead_only,
                "endpoint_id": wanted.endpoint_id,
                "replayed": done.replayed,
                "created": done.created,
                "next_cursor": None if done.after is None else cursor.encode(done.after),
            }
        )

    return await write_once(call, DeliveriesReplay, effect)


def _id(call: Call) -> DeliveryId:
    return DeliveryId(call.id("dlv", "delivery"))


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/webhook-deliveries",
        scope=Scope.READ,
        handler=list_deliveries,
        summary="List deliveries",
        query=DeliveryQuery,
        answer=Page[DeliveryShape],
    ),
    Route(
        method="GET",
        path="/v1/webhook-deliveries/{id}",
        scope=Scope.READ,
        handler=show_delivery,
        summary="Show a delivery",
        answer=LoggedDeliveryShape,
    ),
    Route(
        method="POST",
        path="/v1/webhook-deliveries/{id}/retry",
        scope=Scope.WRITE,
        handler=retry_delivery,
        summary="Send a delivery again",
        body=Nothing,
        answer=DeliveryShape,
    ),
    Route(
        method="POST",
        path="/v1/webhook-deliveries/replay",
        scope=Scope.WRITE,
        handler=replay_deliveries,
        summary="Send a range again",
        body=DeliveriesReplay,
        answer=ReplayShape,
    ),
)
