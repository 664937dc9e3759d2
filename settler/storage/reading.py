"""Objects put together as the API shows them, and the events that carry them.

One read of what rendering needs (chain names, tokens, heads), then as few queries as there are kinds of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from chains.address import to_checksum
from settler.domain import views
from settler.domain.events import EventType, event
from settler.domain.invoices import Invoice, TransferRecord
from settler.domain.records import Hold, Refund, Settlement
from settler.domain.shapes import HoldShape, InvoiceShape, RefundShape, SettlementShape, TransferShape
from settler.domain.views import Render
from settler.storage import chains, events, invoices, settlements, transfers


async def render(conn: AsyncConnection) -> Render:
    states = await chains.all_states(conn)
    return Render(
        address=to_checksum,
        chain_names=chains.names(states),
        tokens={(t.chain_id, t.address): t for t in await chains.tokens_of(conn)},
        heads={
            s.chain_id: max(n for n in (s.scanned_number, s.settled_number) if n is not None)
            for s in states
            if s.is_started
        },
    )


async def invoice_views(conn: AsyncConnection, found: Sequence[Invoice]) -> list[InvoiceShape]:
    """In the order given."""
    if not found:
        return []
    with_ = await render(conn)
    paid = await transfers.of_invoices(conn, [i.id for i in found])
    in_force = await settlements.get_many(conn, [i.settlement_id for i in found if i.settlement_id is not None])
    return [
        views.invoice_view(i, paid[i.id], None if i.settlement_id is None else in_force[i.settlement_id], with_)
        for i in found
    ]


async def transfer_views(conn: AsyncConnection, found: Sequence[TransferRecord]) -> list[TransferShape]:
    with_ = await render(conn)
    return [views.transfer_view(t, with_) for t in found]


async def settlement_views(conn: AsyncConnection, found: Sequence[Settlement]) -> list[SettlementShape]:
    with_ = await render(conn)
    return [views.settlement_view(s, with_) for s in found]


async def hold_views(conn: AsyncConnection, found: Sequence[Hold]) -> list[HoldShape]:
    owners = await invoices.merchants(conn, [hold.invoice_id for hold in found])
    return [views.hold_view(hold, owners[hold.invoice_id]) for hold in found]


async def refund_views(conn: AsyncConnection, found: Sequence[Refund]) -> list[RefundShape]:
    with_ = await render(conn)
    return [views.refund_view(refund, with_) for refund in found]


async def tell_of_invoices(conn: AsyncConnection, told: Sequence[tuple[Invoice, EventType]], *, now: datetime) -> None:
    """Writes an event for each invoice, carrying it as it stands now in this transaction."""
    shown = await invoice_views(conn, [i for i, _ in told])
    await events.append(
        conn,
        [
            event(type_, i.id, i.version, at=now, merchant=i.merchant, data=data)
            for (i, type_), data in zip(told, shown, strict=True)
        ],
    )


async def tell_of_transfers(
    conn: AsyncConnection, told: Sequence[tuple[TransferRecord, EventType]], *, now: datetime
) -> None:
    """Writes an event for each transfer; the merchant is that of the invoice it pays."""
    if not told:
        return
    shown = await transfer_views(conn, [t for t, _ in told])
    owners = await invoices.merchants(conn, [t.invoice_id for t, _ in told if t.invoice_id is not None])
    await events.append(
        conn,
        [
            event(
                type_,
                t.id,
                t.version,
                at=now,
                merchant=None if t.invoice_id is None else owners[t.invoice_id],
                data=data,
            )
            for (t, type_), data in zip(told, shown, strict=True)
        ],
    )


async def tell_of_settlements(
    conn: AsyncConnection, told: Sequence[tuple[Settlement, EventType]], *, now: datetime
) -> None:
    """Writes an event for each settlement, of it as made or of its reversal."""
    if not told:
        return
    shown = await settlement_views(conn, [s for s, _ in told])
    await events.append(
        conn,
        [
            event(type_, s.id, s.version, at=now, merchant=s.merchant, data=data)
            for (s, type_), data in zip(told, shown, strict=True)
        ],
    )
