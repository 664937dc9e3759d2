"""`/v1/webhook-endpoints`: where events are sent. How that went is `settler.api.routes.deliveries`, whose calls stand
with these.

A secret is in two answers, that which makes it and none after. With an `Idempotency-Key` the same request gets the same
answer again, secret included, for as long as keys are kept: who lost the first answer would otherwise have an endpoint
whose secret nobody knows.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncConnection

from settler.api.answers import Answer, ok, page, split
from settler.api.call import Call
from settler.api.errors import not_found
from settler.api.idempotency import write_once
from settler.api.models import EndpointCreate, EndpointEnable, EndpointRotate
from settler.api.queries import EndpointQuery, NoQuery
from settler.api.route import Route
from settler.api.routes import deliveries
from settler.api.shapes import EndpointShape, NewEndpointShape, Page
from settler.api.views import endpoint_view
from settler.domain.delivery import Endpoint, EndpointId
from settler.domain.ids import ENTROPY_BYTES, make_id
from settler.storage import webhook_admin, webhooks
from settler.storage.api_keys import Scope
from settler.webhook.guard import check_url
from settler.webhook.sign import SECRET_BYTES, new_secret


async def create_endpoint(call: Call) -> web.StreamResponse:
    """It gets the events from now on; for earlier ones see the replay of deliveries. The answer shows its secret, which
    no later one does: keep it."""
    call.query(NoQuery)
    services = call.services

    async def effect(conn: AsyncConnection, body: EndpointCreate) -> Answer:
        check_url(body.url, allow_private=services.allow_private_webhooks)
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
        await webhook_admin.add(conn, endpoint, call.by(""))
        return Answer(status=HTTPStatus.CREATED, body={**endpoint_view(endpoint), "secret": endpoint.secret})

    return await write_once(call, EndpointCreate, effect)


async def list_endpoints(call: Call) -> web.StreamResponse:
    """Newest first; never their secrets."""
    query = call.query(EndpointQuery)
    async with call.services.db.read() as conn:
        found = await webhooks.find_endpoints(
            conn,
            merchant=call.caller.merchant,
            is_live=query.is_live,
            before=query.beyond,
            limit=query.limit + 1,
        )
    shown, next_cursor = split(found, query.limit)
    return page([endpoint_view(endpoint) for endpoint in shown], next_cursor)


async def show_endpoint(call: Call) -> web.StreamResponse:
    """Also one that is disabled, with the reason."""
    call.query(NoQuery)
    id_ = _id(call)
    async with call.services.db.read() as conn:
        endpoint = await webhooks.get_endpoint(conn, id_, merchant=call.caller.merchant)
    if endpoint is None:
        raise not_found(f"there is no webhook endpoint {id_}")
    return ok(endpoint_view(endpoint))


async def delete_endpoint(call: Call) -> web.StreamResponse:
    """Nothing more is sent there, and what waits becomes dead letters. Deleting it again is no error."""
    call.query(NoQuery)
    async with call.services.db.write() as conn:
        await webhook_admin.remove(conn, _id(call), call.by(""), merchant=call.caller.merchant)
    return web.Response(status=HTTPStatus.NO_CONTENT)


async def enable_endpoint(call: Call) -> web.StreamResponse:
    """Takes up again one that was removed, or that answered 410 Gone: it gets the events from now on. Its dead letters,
    and what it missed, come by a replay of deliveries."""
    call.query(NoQuery)
    services = call.services

    async def effect(conn: AsyncConnection, body: EndpointEnable) -> Answer:
        id_, by = _id(call), call.by(body.reason)
        endpoint = await webhook_admin.enable(conn, id_, by, merchant=call.caller.merchant)
        check_url(endpoint.url, allow_private=services.allow_private_webhooks)
        return Answer(body=endpoint_view(endpoint))

    return await write_once(call, EndpointEnable, effect)


async def rotate_secret(call: Call) -> web.StreamResponse:
    """The answer shows the new secret, which no later one does. Until `previous_secret_until` each webhook is signed
    with both, so that receivers can change over one by one; then with the new one alone. Rotated again before that,
    the oldest of the three is gone at once: two sign at most."""
    call.query(NoQuery)
    services = call.services

    async def effect(conn: AsyncConnection, body: EndpointRotate) -> Answer:
        endpoint = await webhook_admin.rotate(
            conn,
            _id(call),
            call.by(body.reason),
            new_secret=new_secret(services.entropy(SECRET_BYTES)),
            overlap_s=body.overlap_s,
            merchant=call.caller.merchant,
        )
        return Answer(body={**endpoint_view(endpoint), "secret": endpoint.secret})

    return await write_once(call, EndpointRotate, effect)


def _id(call: Call) -> EndpointId:
    return EndpointId(call.id("whe", "webhook endpoint"))


ROUTES: Final = (
    Route(
        method="POST",
        path="/v1/webhook-endpoints",
        scope=Scope.WRITE,
        handler=create_endpoint,
        summary="Add an endpoint",
        body=EndpointCreate,
        answer=NewEndpointShape,
        status=HTTPStatus.CREATED,
    ),
    Route(
        method="GET",
        path="/v1/webhook-endpoints",
        scope=Scope.READ,
        handler=list_endpoints,
        summary="List endpoints",
        query=EndpointQuery,
        answer=Page[EndpointShape],
    ),
    Route(
        method="GET",
        path="/v1/webhook-endpoints/{id}",
        scope=Scope.READ,
        handler=show_endpoint,
        summary="Show an endpoint",
        answer=EndpointShape,
    ),
    Route(
        method="DELETE",
        path="/v1/webhook-endpoints/{id}",
        scope=Scope.WRITE,
        handler=delete_endpoint,
        summary="Remove an endpoint",
        status=HTTPStatus.NO_CONTENT,
    ),
    Route(
        method="POST",
        path="/v1/webhook-endpoints/{id}/enable",
        scope=Scope.WRITE,
        handler=enable_endpoint,
        summary="Enable a disabled endpoint",
        body=EndpointEnable,
        answer=EndpointShape,
    ),
    Route(
        method="POST",
        path="/v1/webhook-endpoints/{id}/rotate-secret",
        scope=Scope.WRITE,
        handler=rotate_secret,
        summary="Give an endpoint a new secret",
        body=EndpointRotate,
        answer=NewEndpointShape,
    ),
    *deliveries.ROUTES,
)
