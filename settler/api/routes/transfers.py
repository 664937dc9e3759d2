"""`/v1/transfers`: what arrived, matched or in suspense, and what is decided about it."""

from __future__ import annotations

import re
from typing import Final

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncConnection

from chains.model import ChainId
from settler.api import deciding
from settler.api.answers import Answer, ok, page, split
from settler.api.call import Call
from settler.api.idempotency import write_once
from settler.api.models import TransferAssign, TransferDismiss
from settler.api.queries import NoQuery, TransferQuery
from settler.api.route import Route
from settler.api.shapes import Page
from settler.domain.errors import InvalidInput
from settler.domain.invoices import TransferRecord
from settler.domain.records import Settlement
from settler.domain.shapes import TransferShape
from settler.domain.views import Json
from settler.storage import chains, reading, transfers
from settler.storage.api_keys import Scope

_CAIP2 = re.compile(r"eip155:([1-9][0-9]{0,17})", re.ASCII)


async def list_transfers(call: Call) -> web.StreamResponse:
    """Newest first. `allocation=unmatched` is the suspense queue."""
    query = call.query(TransferQuery)
    merchant = call.caller.merchant_seen(query.merchant)
    async with call.services.db.read() as conn:
        found = await transfers.find(
            conn,
            status=query.status,
            allocation=query.allocation,
            reason=query.reason,
            chain_id=None if query.chain is None else await _chain_id(call, conn, query.chain),
            merchant=merchant,
            before=query.beyond,
            limit=query.limit + 1,
        )
        shown, next_cursor = split(found, query.limit)
        return page(await reading.transfer_views(conn, shown), next_cursor)


async def show_transfer(call: Call) -> web.StreamResponse:
    """Where it stands in the chain, what it pays, and how that was found."""
    call.query(NoQuery)
    async with call.services.db.read() as conn:
        return ok(await _view(conn, await deciding.seen_transfer(call, conn)))


async def assign_transfer(call: Call) -> web.StreamResponse:
    """Money in suspense counts for an invoice from now on, which settles at once if that was all it lacked."""
    call.query(NoQuery)
    settled: list[Settlement] = []

    async def effect(conn: AsyncConnection, body: TransferAssign) -> Answer:
        assigned = await deciding.assign(call, conn, body)
        settled[:] = assigned.settled
        return Answer(body=await _view(conn, assigned.value))

    answer = await write_once(call, TransferAssign, effect)
    call.count_settled(settled)
    return answer


async def dismiss_transfer(call: Call) -> web.StreamResponse:
    """It waits for nobody any more; its money stays in suspense."""
    call.query(NoQuery)

    async def effect(conn: AsyncConnection, body: TransferDismiss) -> Answer:
        return Answer(body=await _view(conn, await deciding.dismiss(call, conn, body)))

    return await write_once(call, TransferDismiss, effect)


async def _view(conn: AsyncConnection, transfer: TransferRecord) -> Json:
    return (await reading.transfer_views(conn, [transfer]))[0]


async def _chain_id(call: Call, conn: AsyncConnection, name: str) -> ChainId:
    """A chain by name or CAIP-2; also one that is no longer configured and has transfers."""
    if (found := _CAIP2.fullmatch(name)) is not None:
        return ChainId(int(found[1]))
    known = {state.name: state.chain_id for state in await chains.all_states(conn)}
    known |= {offer.name: offer.chain_id for offer in call.services.catalog.values()}
    if name not in known:
        raise InvalidInput("chain", f"{name!r} is not known; choose one of {', '.join(sorted(known)) or 'none'}")
    return known[name]


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/transfers",
        scope=Scope.READ,
        handler=list_transfers,
        summary="List transfers",
        query=TransferQuery,
        answer=Page[TransferShape],
    ),
    Route(
        method="GET",
        path="/v1/transfers/{id}",
        scope=Scope.READ,
        handler=show_transfer,
        summary="Show a transfer",
        answer=TransferShape,
    ),
    Route(
        method="POST",
        path="/v1/transfers/{id}/assign",
        scope=Scope.OPERATE,
        handler=assign_transfer,
        summary="Let money in suspense pay an invoice",
        body=TransferAssign,
        answer=TransferShape,
    ),
    Route(
        method="POST",
        path="/v1/transfers/{id}/dismiss",
        scope=Scope.OPERATE,
        handler=dismiss_transfer,
        summary="Take a transfer off the queue",
        body=TransferDismiss,
        answer=TransferShape,
    ),
)
