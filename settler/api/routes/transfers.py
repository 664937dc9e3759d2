"""`/v1/transfers`: what arrived, matched or in suspense."""

from __future__ import annotations

import re

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncConnection

from chains.model import ChainId
from settler.api.answers import ok, page, split
from settler.api.call import Call
from settler.api.errors import not_found
from settler.api.queries import NoQuery, TransferQuery
from settler.domain.errors import InvalidInput
from settler.domain.ids import TransferId
from settler.domain.invoices import TransferRecord
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
    id_ = TransferId(call.id("trf", "transfer"))
    async with call.services.db.read() as conn:
        transfer = await transfers.get(conn, id_)
        if transfer is None or not call.caller.sees(await _merchant(conn, transfer)):
            raise not_found(f"there is no transfer {id_}")
        return ok((await reading.transfer_views(conn, [transfer]))[0])


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
