"""`/v1/transfers`: what arrived, matched or in suspense, and what is decided about it."""

from __future__ import annotations

import re

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncConnection

from chains.model import ChainId
from settler.api.answers import Answer, ok, page, split
from settler.api.call import Call
from settler.api.errors import not_found
from settler.api.idempotency import write_once
from settler.api.models import TransferAssign, TransferDismiss
from settler.api.queries import NoQuery, TransferQuery
from settler.domain.errors import InvalidInput
from settler.domain.ids import InvoiceId, TransferId
from settler.domain.invoices import TransferRecord
from settler.domain.records import Settlement
from settler.domain.views import Json
from settler.storage import chains, invoices, reading, transfers

_CAIP2 = re.compile(r"eip155:([1-9][0-9]{0,17})", re.ASCII)


async def list_transfers(call: Call) -> web.StreamResponse:
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
    call.query(NoQuery)
    async with call.services.db.read() as conn:
        return ok(await _view(conn, await _seen(call, conn)))


async def assign_transfer(call: Call) -> web.StreamResponse:
    """Money in suspense counts for an invoice from now on, which settles at once if that was all it lacked."""
    call.query(NoQuery)
    settled: list[Settlement] = []

    async def effect(conn: AsyncConnection, body: TransferAssign) -> Answer:
        transfer = await _seen(call, conn)
        assigned = await call.services.operator.assign(
            conn, transfer.id, InvoiceId(body.invoice_id), call.by(body.reason)
        )
        settled[:] = assigned.settled
        return Answer(body=await _view(conn, assigned.value))

    answer = await write_once(call, TransferAssign, effect)
    call.count_settled(settled)
    return answer


async def dismiss_transfer(call: Call) -> web.StreamResponse:
    """It waits for nobody any more; its money stays in suspense."""
    call.query(NoQuery)

    async def effect(conn: AsyncConnection, body: TransferDismiss) -> Answer:
        transfer = await _seen(call, conn)
        dismissed = await call.services.operator.dismiss(conn, transfer.id, call.by(body.reason))
        return Answer(body=await _view(conn, dismissed))

    return await write_once(call, TransferDismiss, effect)


async def _seen(call: Call, conn: AsyncConnection) -> TransferRecord:
    """The transfer of the path. Raises `Problem` 404 if there is none that the caller may see."""
    id_ = TransferId(call.id("trf", "transfer"))
    transfer = await transfers.get(conn, id_)
    if transfer is None or not call.caller.sees(await _merchant(conn, transfer)):
        raise not_found(f"there is no transfer {id_}")
    return transfer


async def _view(conn: AsyncConnection, transfer: TransferRecord) -> Json:
    return (await reading.transfer_views(conn, [transfer]))[0]


async def _merchant(conn: AsyncConnection, transfer: TransferRecord) -> str | None:
    """Whose invoice it pays; `None` for one in suspense, which no merchant sees."""
    if transfer.invoice_id is None:
        return None
    return (await invoices.merchants(conn, [transfer.invoice_id]))[transfer.invoice_id]


async def _chain_id(call: Call, conn: AsyncConnection, name: str) -> ChainId:
    """A chain by name or CAIP-2; also one that is no longer configured and has transfers."""
    if (found := _CAIP2.fullmatch(name)) is not None:
        return ChainId(int(found[1]))
    known = {state.name: state.chain_id for state in await chains.all_states(conn)}
    known |= {offer.name: offer.chain_id for offer in call.services.catalog.values()}
    if name not in known:
        raise InvalidInput("chain", f"{name!r} is not known; choose one of {', '.join(sorted(known)) or 'none'}")
    return known[name]
