"""What is decided over HTTP, the same from the API and from the operator's pages: what the caller may see, then the
verb.

Each in the transaction it is given; what came of it is counted (`Call.count_settled`) once that is committed. Raises
`Problem` 404 for what the caller may not see, and what the verbs raise. What does not belong here: how it is asked
for and answered.
"""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from settler.api.call import Call
from settler.api.errors import not_found
from settler.api.models import HoldCreate, HoldRelease, InvoiceCancel, InvoiceMark, TransferAssign, TransferDismiss
from settler.domain.delivery import Delivery, DeliveryId, EndpointId
from settler.domain.errors import NotFound
from settler.domain.ids import HoldId, InvoiceId, TransferId
from settler.domain.invoices import Invoice, TransferRecord
from settler.domain.operator import Decided
from settler.domain.records import Hold
from settler.storage import holds, invoices, transfers, webhooks

# What the path names


async def seen_invoice(call: Call, conn: AsyncConnection) -> Invoice:
    """The invoice of the path, if the caller may see it."""
    id_ = InvoiceId(call.id("inv", "invoice"))
    invoice = await invoices.get(conn, id_)
    if invoice is None or not call.caller.sees(invoice.merchant):
        raise not_found(f"there is no invoice {id_}")
    return invoice


async def seen_transfer(call: Call, conn: AsyncConnection) -> TransferRecord:
    """The transfer of the path, if the caller may see it: one in suspense is no merchant's."""
    id_ = TransferId(call.id("trf", "transfer"))
    transfer = await transfers.get(conn, id_)
    if transfer is None or not call.caller.sees(await _payee(conn, transfer)):
        raise not_found(f"there is no transfer {id_}")
    return transfer


async def seen_hold(call: Call, conn: AsyncConnection) -> Hold:
    """The hold of the path, if the caller may see its invoice."""
    id_ = HoldId(call.id("hld", "hold"))
    hold = await holds.get(conn, id_)
    if hold is None or not await _sees_invoice(call, conn, hold.invoice_id):
        raise not_found(f"there is no hold {id_}")
    return hold


# Decisions


async def assign(call: Call, conn: AsyncConnection, body: TransferAssign) -> Decided[TransferRecord]:
    """Money in suspense counts for an invoice from now on, which settles at once if that was all it lacked."""
    transfer = await seen_transfer(call, conn)
    invoice_id = InvoiceId(body.invoice_id)
    await _need_seen_invoice(call, conn, invoice_id)
    return await call.services.operator.assign(conn, transfer.id, invoice_id, call.by(body.reason))


async def dismiss(call: Call, conn: AsyncConnection, body: TransferDismiss) -> TransferRecord:
    """It waits for nobody any more; its money stays in suspense."""
    transfer = await seen_transfer(call, conn)
    return await call.services.operator.dismiss(conn, transfer.id, call.by(body.reason))


async def cancel(call: Call, conn: AsyncConnection, body: InvoiceCancel) -> Invoice:
    invoice = await seen_invoice(call, conn)
    return await call.services.operator.cancel(conn, invoice.id, call.by(body.reason))


async def mark(call: Call, conn: AsyncConnection, body: InvoiceMark) -> Decided[Invoice]:
    """An operator's word that it is paid, or as good as."""
    invoice = await seen_invoice(call, conn)
    return await call.services.operator.mark(conn, invoice.id, call.by(body.reason))


async def place_hold(call: Call, conn: AsyncConnection, body: HoldCreate) -> Hold:
    """An operator's own hold: the invoice settles no more until it is released."""
    invoice_id = InvoiceId(body.invoice_id)
    await _need_seen_invoice(call, conn, invoice_id)
    return await call.services.operator.place_hold(conn, invoice_id, call.by(body.reason))


async def release_hold(call: Call, conn: AsyncConnection, body: HoldRelease) -> Decided[Hold]:
    """What it stopped goes on: with nothing else in the way, the invoice settles at once."""
    hold = await seen_hold(call, conn)
    return await call.services.operator.release_hold(conn, hold.id, call.by(body.reason))


async def retry_delivery(call: Call, conn: AsyncConnection) -> Delivery:
    """The delivery of the path is sent again at once, with all its attempts before it."""
    id_ = DeliveryId(call.id("dlv", "delivery"))
    return await webhooks.retry_delivery(conn, id_, call.services.clock.now(), merchant=call.caller.merchant)


async def replay_dead(call: Call, conn: AsyncConnection, id_: EndpointId, *, limit: int) -> webhooks.Replayed:
    """The oldest dead letters of an endpoint are sent again, at most `limit` of them."""
    now = call.services.clock.now()
    wanted = webhooks.Replay(since=None, until=now, is_dead_only=True, endpoint_id=id_, merchant=call.caller.merchant)
    return await webhooks.replay(conn, wanted, now, after=None, limit=limit)


async def _payee(conn: AsyncConnection, transfer: TransferRecord) -> str | None:
    """Whose invoice it pays; `None` for one in suspense."""
    if transfer.invoice_id is None:
        return None
    return (await invoices.merchants(conn, [transfer.invoice_id]))[transfer.invoice_id]


async def _need_seen_invoice(call: Call, conn: AsyncConnection, invoice_id: InvoiceId) -> None:
    """Another merchant's is not there: that it exists is not told by a later refusal either."""
    if not await _sees_invoice(call, conn, invoice_id):
        raise NotFound(f"there is no invoice {invoice_id}")


async def _sees_invoice(call: Call, conn: AsyncConnection, invoice_id: InvoiceId) -> bool:
    owner = (await invoices.merchants(conn, [invoice_id])).get(invoice_id)
    return owner is not None and call.caller.sees(owner)
