"""What the operator's pages show, read in one transaction a page: objects as the API shows them, and what belongs
beside them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from sqlalchemy.ext.asyncio import AsyncConnection

from settler.api.answers import split
from settler.api.chains import chain_views
from settler.api.fields import Name
from settler.api.pages.ops_visit import Visit
from settler.api.queries import DeliveryQuery, ListQuery
from settler.api.views import delivery_view, endpoint_view
from settler.domain.delivery import Delivery, DeliveryStatus, EndpointId
from settler.domain.ids import InvoiceId, looks_like_id
from settler.domain.invoices import Allocation, Invoice, TransferRecord, UnmatchedReason
from settler.domain.money import format_amount
from settler.domain.records import Hold
from settler.domain.views import Json
from settler.storage import chains, holds, invoices, operator_actions, reading, settlements, suspense, webhooks
from settler.storage.api_keys import Scope

ACTIONS_SHOWN = 20
"""Of the audit log, beside an object."""
SETTLEMENTS_SHOWN = 20
CANDIDATES_SHOWN = 10

Rows = tuple[Sequence[Mapping[str, object]], str | None]
"""One page of a list, and the cursor of the next."""


class SuspenseQuery(ListQuery):
    id_prefix = "trf"
    show: Literal["waiting", "dismissed"] = "waiting"
    reason: UnmatchedReason | None = None
    chain: Name | None = None


class DeadLetterQuery(ListQuery):
    id_prefix = DeliveryQuery.id_prefix
    endpoint_id: Name | None = None


async def overview(visit: Visit) -> Json:
    """Counts of all, or of what the caller's merchant has; suspense and the outbox are no merchant's."""
    merchant, services = visit.caller.merchant, visit.services
    async with services.db.read() as conn:
        shown = await chain_views(conn, services.providers() if services.providers is not None else ())
        by_status = await invoices.count_by_status(conn, merchant=merchant)
        by_reason = await holds.count_by_reason(conn, merchant=merchant)
        waiting = None if visit.is_bound else await _waiting(conn)
        outbox = None if visit.is_bound else await webhooks.outbox_stats(conn, services.clock.now())
    is_ready, reasons = services.health.ready()
    return {
        "is_ready": is_ready,
        "reasons": list(reasons),
        "chains": shown,
        "invoices": {status.value: count for status, count in by_status.items()},
        "holds": {reason.value: count for reason, count in by_reason.items() if count},
        "suspense": waiting,
        "outbox": None
        if outbox is None
        else {"pending": outbox.pending, "oldest_s": outbox.oldest_s, "dead": outbox.dead_letters},
    }


async def _waiting(conn: AsyncConnection) -> list[Json]:
    names = chains.names(await chains.all_states(conn))
    tokens = {(t.chain_id, t.address): t for t in await chains.tokens_of(conn)}
    return [
        {
            "chain": names[each.chain_id],
            "token": tokens[each.chain_id, each.token].symbol,
            "count": each.count,
            "amount": format_amount(each.amount, each.decimals),
            "is_at_least": each.is_at_least,
        }
        for each in await suspense.waiting(conn)
    ]


# Lists


async def suspense_rows(visit: Visit, query: SuspenseQuery) -> Rows:
    """Of all merchants or of none: whose it is has to be found out."""
    if visit.is_bound:
        return [], None
    async with visit.services.db.read() as conn:
        ids = {name: chain_id for chain_id, name in chains.names(await chains.all_states(conn)).items()}
        if query.chain is not None and query.chain not in ids:
            return [], None
        found = await suspense.find(
            conn,
            is_dismissed=query.show == "dismissed",
            reason=query.reason,
            chain_id=None if query.chain is None else ids[query.chain],
            before=query.beyond,
            limit=query.limit + 1,
        )
        shown, next_cursor = split(found, query.limit)
        return await reading.transfer_views(conn, shown), next_cursor


async def dead_letter_rows(visit: Visit, query: DeadLetterQuery) -> Rows:
    """Each with its endpoint."""
    async with visit.services.db.read() as conn:
        found = await webhooks.find_deliveries(
            conn,
            status=DeliveryStatus.DEAD,
            endpoint_id=None if query.endpoint_id is None else EndpointId(query.endpoint_id),
            merchant=visit.caller.merchant,
            before=query.beyond,
            limit=query.limit + 1,
        )
        shown, next_cursor = split(found, query.limit)
        return await _with_endpoints(conn, shown), next_cursor


async def _with_endpoints(conn: AsyncConnection, deliveries: Sequence[Delivery]) -> list[Json]:
    endpoints: dict[EndpointId, Json] = {}
    for id_ in {delivery.endpoint_id for delivery in deliveries}:
        endpoint = await webhooks.get_endpoint(conn, id_)
        assert endpoint is not None, "endpoints are disabled, never deleted"
        endpoints[id_] = endpoint_view(endpoint)
    return [{**delivery_view(each), "endpoint": endpoints[each.endpoint_id]} for each in deliveries]


async def chain_names(visit: Visit) -> list[str]:
    async with visit.services.db.read() as conn:
        return sorted(chains.names(await chains.all_states(conn)).values())


# Single objects


async def invoice_detail(visit: Visit, conn: AsyncConnection, invoice: Invoice) -> Json:
    (view,) = await reading.invoice_views(conn, [invoice])
    of_it = await settlements.find(conn, invoice_id=invoice.id, limit=SETTLEMENTS_SHOWN)
    return {
        "invoice": view,
        "holds": await reading.hold_views(conn, await holds.of_invoice(conn, invoice.id)),
        "settlements": await reading.settlement_views(conn, of_it),
        "actions": await _actions(visit, conn, invoice.id),
    }


async def transfer_detail(visit: Visit, conn: AsyncConnection, transfer: TransferRecord) -> Json:
    (view,) = await reading.transfer_views(conn, [transfer])
    is_free = transfer.allocation is not Allocation.INVOICE and transfer.is_canonical and transfer.moves_money
    return {
        "transfer": view,
        "is_free": is_free,
        "candidates": await _candidates(conn, transfer) if is_free and visit.may(Scope.OPERATE) else [],
        "actions": await _actions(visit, conn, transfer.id),
    }


async def hold_detail(visit: Visit, conn: AsyncConnection, hold: Hold) -> Json:
    (view,) = await reading.hold_views(conn, [hold])
    invoice = await invoices.get(conn, hold.invoice_id)
    assert invoice is not None, "a hold is one of an invoice"
    (of_it,) = await reading.invoice_views(conn, [invoice])
    return {"hold": view, "invoice": of_it, "actions": await _actions(visit, conn, hold.id)}


async def _candidates(conn: AsyncConnection, transfer: TransferRecord) -> Sequence[Mapping[str, object]]:
    """Invoices the money may be meant for: those that matching could not choose between, and open ones at its
    address.
    """
    named = transfer.evidence.get("candidates", ())
    ids = [InvoiceId(id_) for id_ in named if isinstance(id_, str) and looks_like_id(id_, "inv")][:CANDIDATES_SHOWN]
    meant = await suspense.in_order(conn, ids)
    at_address = await suspense.open_invoices_at(conn, transfer.identity.recipient, limit=CANDIDATES_SHOWN)
    found = list({invoice.id: invoice for invoice in (*meant, *at_address)}.values())
    return await reading.invoice_views(conn, found[:CANDIDATES_SHOWN])


async def _actions(visit: Visit, conn: AsyncConnection, object_id: str) -> list[Json]:
    """What operators did about it, newest first. The audit log is not a merchant's to read."""
    if visit.is_bound:
        return []
    found = await operator_actions.find(conn, object_id=object_id, limit=ACTIONS_SHOWN)
    return [
        {
            "at": row.action.at.isoformat(),
            "who": row.action.who,
            "action": row.action.action,
            "reason": row.action.reason,
        }
        for row in found
    ]
