"""`/v1/webhook-endpoints` and `/v1/webhook-deliveries`: where events are sent, and how that went."""

from __future__ import annotations

from http import HTTPStatus

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncConnection

from settler.api.answers import Answer, ok, page, split
from settler.api.call import Call
from settler.api.errors import not_found
from settler.api.idempotency import write_once
from settler.api.models import EndpointCreate, Nothing
from settler.api.queries import DeliveryQuery, EndpointQuery, NoQuery
from settler.api.views import delivery_view, endpoint_view
from settler.domain.delivery import DeliveryId, Endpoint, EndpointId
from settler.domain.errors import Conflict
from settler.domain.ids import ENTROPY_BYTES, make_id
from settler.storage import webhooks
from settler.webhook.guard import check_url
from settler.webhook.sign import SECRET_BYTES, new_secret

MAX_ENDPOINTS = 100
"""Live ones, in all: each event makes a row for each that wants it."""


async def create_endpoint(call: Call) -> web.StreamResponse:
    """The one answer that shows the secret."""
    call.query(NoQuery)
    services = call.services

    async def effect(conn: AsyncConnection, body: EndpointCreate) -> Answer:
        check_url(body.url, allow_private=services.allow_private_webhooks)
        if len(await webhooks.find_endpoints(conn, limit=MAX_ENDPOINTS)) == MAX_ENDPOINTS:
            raise Conflict("url", f"there are {MAX_ENDPOINTS} endpoints already; remove one first")
        now = services.clock.now()
        endpoint = Endpoint(
            id=EndpointId(make_id("whe", now, services.entropy(ENTROPY_BYTES))),
            url=body.url,
            merchant=call.caller.merchant_seen(body.merchant),
            types=tuple(dict.fromkeys(body.types)),
            secret=new_secret(services.entropy(SECRET_BYTES)),
            previous_secret=None,
            created_at=now,
        )
        await webhooks.add_endpoint(conn, endpoint)
        return Answer(status=HTTPStatus.CREATED, body={**endpoint_view(endpoint), "secret": endpoint.secret})

    return await write_once(call, EndpointCreate, effect)


async def list_endpoints(call: Call) -> web.StreamResponse:
    query = call.query(EndpointQuery)
    async with call.services.db.read() as conn:
        found = await webhooks.find_endpoints(
            conn, merchant=call.caller.merchant, before=query.beyond, limit=query.limit + 1
        )
    shown, next_cursor = split(found, query.limit)
    return page([endpoint_view(endpoint) for endpoint in shown], next_cursor)


async def show_endpoint(call: Call) -> web.StreamResponse:
    """Also one that is disabled, with the reason."""
    call.query(NoQuery)
    async with call.services.db.read() as conn:
        return ok(endpoint_view(await _own(call, conn)))


async def delete_endpoint(call: Call) -> web.StreamResponse:
    """Nothing more is sent there. Deleting it again is no error."""
    call.query(NoQuery)
    async with call.services.db.write() as conn:
        endpoint = await _own(call, conn)
        await webhooks.disable_endpoint(
            conn, endpoint.id, call.services.clock.now(), reason=f"removed by {call.caller.name}"
        )
    return web.Response(status=HTTPStatus.NO_CONTENT)


async def list_deliveries(call: Call) -> web.StreamResponse:
    query = call.query(DeliveryQuery)
    async with call.services.db.read() as conn:
        found = await webhooks.find_deliveries(
            conn,
            status=query.status,
            merchant=call.caller.merchant,
            before=query.beyond,
            limit=query.limit + 1,
        )
    shown, next_cursor = split(found, query.limit)
    return page([delivery_view(delivery) for delivery in shown], next_cursor)


async def retry_delivery(call: Call) -> web.StreamResponse:
    """Sent again at once, with all its attempts before it."""
    call.query(NoQuery)

    async def effect(conn: AsyncConnection, _body: Nothing) -> Answer:
        id_ = DeliveryId(call.id("dlv", "delivery"))
        now = call.services.clock.now()
        delivery = await webhooks.retry_delivery(conn, id_, now, merchant=call.caller.merchant)
        return Answer(body=delivery_view(delivery))

    return await write_once(call, Nothing, effect)


async def _own(call: Call, conn: AsyncConnection) -> Endpoint:
    """The endpoint the path names, if the caller may see it; else 404."""
    id_ = EndpointId(call.id("whe", "webhook endpoint"))
    endpoint = await webhooks.get_endpoint(conn, id_, merchant=call.caller.merchant)
    if endpoint is None:
        raise not_found(f"there is no webhook endpoint {id_}")
    return endpoint
