"""What is done to invoices from outside: they are made from drafts and taken back. Each tells of itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from chains.model import BaseUnits
from settler.domain.drafting import Draft, tail_capacity, tail_unit
from settler.domain.errors import Conflict, NotFound
from settler.domain.events import EventType
from settler.domain.ids import InvoiceId, make_id
from settler.domain.invoices import Allocation, Invoice, InvoiceStatus, Match, Option, UnmatchedReason
from settler.storage import chains, invoices, operator_actions, reading, transfers


async def insert(conn: AsyncConnection, draft: Draft, *, now: datetime, entropy: bytes) -> Invoice:
    """Stores a new invoice, watches its addresses, reserves its unique amounts and tells of it.

    `entropy`: 10 random bytes for the id. Raises `Conflict` if the merchant has the reference already, or if no unique
    amount is left on a shared address; nothing is stored then (the caller's transaction is to be rolled back).
    """
    id_ = InvoiceId(make_id("inv", now, entropy))
    invoice = Invoice(
        id=id_,
        merchant=draft.merchant,
        reference=draft.reference,
        status=InvoiceStatus.PENDING,
        exceptions=frozenset(),
        currency=draft.currency,
        amount=draft.amount,
        scale=draft.scale,
        options=(),
        created_at=draft.created_at,
        expires_at=draft.expires_at,
        monitoring_until=draft.monitoring_until,
        settled_at=None,
        settlement_id=None,
        metadata=draft.metadata,
        version=1,
    )
    if not await invoices.add(conn, invoice):
        raise Conflict(
            "reference",
            f"{draft.reference!r} is taken by another invoice of merchant {draft.merchant!r}; "
            "use a new reference, or look that invoice up",
        )
    settled = {s.chain_id: s.settled_number for s in await chains.all_states(conn)}
    options = []
    for index, o in enumerate(draft.options):
        option = Option(
            index=index,
            chain=o.chain,
            chain_id=o.token.chain_id,
            token=o.token.symbol,
            token_address=o.token.address,
            decimals=o.token.decimals,
            pay_to=o.pay_to,
            match=o.match,
            amount_base=o.amount_base,
            tail_base=BaseUnits(0),
            from_block=settled.get(o.token.chain_id),
        )
        options.append(await _with_tail(conn, invoice, option, now) if o.match is Match.AMOUNT else option)
    await invoices.add_options(conn, id_, options)
    await chains.watch_addresses(conn, (o.pay_to for o in options), now=now)
    invoice = replace(invoice, options=tuple(options))
    await reading.tell_of_invoices(conn, [(invoice, EventType.INVOICE_CREATED)], now=now)
    return invoice


async def _with_tail(conn: AsyncConnection, invoice: Invoice, option: Option, now: datetime) -> Option:
    """The option with the smallest tail that makes its amount unique on that address and token, reserved for it."""
    unit, capacity = tail_unit(option.decimals), tail_capacity(option.decimals)
    taken = await invoices.reserved_amounts(conn, option, option.amount_base + capacity * unit, now=now)
    for step in range(1, capacity + 1):
        tail = step * unit
        if option.amount_base + tail in taken:
            continue
        unique = replace(option, amount_base=BaseUnits(option.amount_base + tail), tail_base=BaseUnits(tail))
        if await invoices.reserve_amount(conn, invoice, unique):
            return unique
    raise Conflict(
        f"options[{option.index}].match",
        f"all {capacity} unique amounts above this one are taken on that address; use another address",
    )


async def cancel(conn: AsyncConnection, id_: InvoiceId, *, now: datetime, who: str, reason: str) -> Invoice:
    """Takes an invoice back. What was paid on it goes to suspense, where an operator sees it.

    Its unique amounts stay reserved until its monitoring would have ended: its customer may still have them on screen.

    Only while it is pending: raises `Conflict` otherwise, `NotFound` if there is none. One that is canceled stays as
    it is, and nothing is told again.
    """
    invoice = (await invoices.get_many(conn, [id_], lock=True)).get(id_)
    if invoice is None:
        raise NotFound(f"there is no invoice {id_}")
    if invoice.status is InvoiceStatus.CANCELED:
        return invoice
    if invoice.status is not InvoiceStatus.PENDING:
        raise Conflict("status", f"{id_} is {invoice.status}; only a pending invoice can be canceled")
    allocated = (await transfers.of_invoices(conn, [id_]))[id_]
    released = [
        replace(
            t,
            allocation=Allocation.UNMATCHED,
            reason=UnmatchedReason.NO_INVOICE,
            invoice_id=None,
            evidence={"released_by_cancel_of": id_},
            version=t.version + 1,
        )
        for t in allocated
    ]
    await transfers.save(conn, released)
    canceled = replace(invoice, status=InvoiceStatus.CANCELED, exceptions=frozenset(), version=invoice.version + 1)
    await invoices.save(conn, [canceled])
    await operator_actions.add(conn, action="invoice.cancel", object_id=id_, who=who, reason=reason, now=now)
    live = [t for t in released if t.is_canonical]
    await reading.tell_of_transfers(conn, [(t, EventType.TRANSFER_UNMATCHED) for t in live], now=now)
    await reading.tell_of_invoices(conn, [(canceled, EventType.INVOICE_CANCELED)], now=now)
    return canceled
