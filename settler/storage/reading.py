"""Objects put together as the API shows them, and the events that carry them.

One read of what rendering needs (chain names, tokens, heads), then as few queries as there are kinds of rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from sqlalchemy.ext.asyncio import AsyncConnection

from chains.address import to_checksum
from chains.model import Address, ChainId, Token
from settler.domain import views
from settler.domain.events import Event, EventType, event
from settler.domain.ids import InvoiceId
from settler.domain.invoices import Invoice, TransferRecord
from settler.domain.records import Hold, Refund, Settlement
from settler.domain.shapes import HoldShape, InvoiceShape, RefundShape, SettlementShape, TransferShape
from settler.domain.views import Render
from settler.storage import chains, events, invoices, settlements, transfers
from settler.storage.chains import ChainState
from settler.storage.sql import chunks

TOLD_AT_ONCE = 200
"""Events put together before they are written: other tasks have a turn in between."""

Tokens = Mapping[tuple[ChainId, Address], Token]
"""Every one ever configured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Chains and tokens as a transaction sees them: read once, shown many times.

    For who decides about invoices, to be read when those are locked: a chain that was halted before then is seen so.
    """

    states: Mapping[ChainId, ChainState]
    tokens: Tokens
    render: Render


async def all_tokens(conn: AsyncConnection) -> Tokens:
    return {(t.chain_id, t.address): t for t in await chains.tokens_of(conn)}


async def surroundings(conn: AsyncConnection, tokens: Tokens | None = None) -> Surroundings:
    """`tokens`: all of them, where they are read already."""
    if tokens is None:
        tokens = await all_tokens(conn)
    states = await chains.all_states(conn)
    heads = {
        s.chain_id: max(n for n in (s.scanned_number, s.settled_number) if n is not None)
        for s in states
        if s.is_started
    }
    return Surroundings(
        states={s.chain_id: s for s in states},
        tokens=tokens,
        render=Render(address=to_checksum, chain_names=chains.names(states), tokens=tokens, heads=heads),
    )


async def render(conn: AsyncConnection) -> Render:
    return (await surroundings(conn)).render


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
    await _told_of_invoices(conn, told, await invoice_views(conn, [i for i, _ in told]), now)


async def tell_of_new(conn: AsyncConnection, made: Sequence[Invoice], *, now: datetime) -> list[Event]:
    """Writes `invoice.created` for each invoice made in this transaction, which no payment can have found yet."""
    with_ = await render(conn)
    shown = [views.invoice_view(i, (), None, with_) for i in made]
    return await _told_of_invoices(conn, [(i, EventType.INVOICE_CREATED) for i in made], shown, now)


async def _told_of_invoices(
    conn: AsyncConnection, told: Sequence[tuple[Invoice, EventType]], shown: Sequence[InvoiceShape], now: datetime
) -> list[Event]:
    written = [
        event(type_, i.id, i.version, at=now, merchant=i.merchant, data=data)
        for (i, type_), data in zip(told, shown, strict=True)
    ]
    await events.append(conn, written)
    return written


async def tell_of_invoices_at_hand(
    conn: AsyncConnection,
    told: Sequence[tuple[Invoice, EventType]],
    *,
    paid: Mapping[InvoiceId, Sequence[TransferRecord]],
    settled: Mapping[InvoiceId, Settlement],
    around: Surroundings,
    now: datetime,
) -> None:
    """As `tell_of_invoices`, of those whose payments, as they stand now, and whose settlement, if they have one in
    force, need not be read again.
    """
    for some in chunks(told, TOLD_AT_ONCE):
        await events.append(
            conn,
            [
                event(
                    type_,
                    i.id,
                    i.version,
                    at=now,
                    merchant=i.merchant,
                    data=views.invoice_view(
                        i, paid[i.id], None if i.settlement_id is None else settled[i.id], around.render
                    ),
                )
                for i, type_ in some
            ],
        )


async def tell_of_transfers(
    conn: AsyncConnection,
    told: Sequence[tuple[TransferRecord, EventType]],
    *,
    now: datetime,
    around: Surroundings | None = None,
    known: Mapping[InvoiceId, Invoice] = MappingProxyType({}),
) -> None:
    """Writes an event for each transfer; the merchant is that of the invoice it pays.

    `around` and `known` (some of those invoices) need not be read again.
    """
    if not told:
        return
    with_ = await render(conn) if around is None else around.render
    payees = {t.invoice_id for t, _ in told if t.invoice_id is not None}
    owners = {id_: known[id_].merchant for id_ in payees if id_ in known}
    owners |= await invoices.merchants(conn, payees - owners.keys())
    for some in chunks(told, TOLD_AT_ONCE):
        await events.append(
            conn,
            [
                event(
                    type_,
                    t.id,
                    t.version,
                    at=now,
                    merchant=None if t.invoice_id is None else owners[t.invoice_id],
                    data=views.transfer_view(t, with_),
                )
                for t, type_ in some
            ],
        )


async def tell_of_settlements(
    conn: AsyncConnection,
    told: Sequence[tuple[Settlement, EventType]],
    *,
    now: datetime,
    around: Surroundings | None = None,
) -> None:
    """Writes an event for each settlement, of it as made or of its reversal."""
    if not told:
        return
    with_ = await render(conn) if around is None else around.render
    for some in chunks(told, TOLD_AT_ONCE):
        await events.append(
            conn,
            [
                event(type_, s.id, s.version, at=now, merchant=s.merchant, data=views.settlement_view(s, with_))
                for s, type_ in some
            ],
        )
