"""Money that belongs to no invoice yet, as who has to decide about it sees it: the queue, its sums, and whose it may
be.

In the queue is what is in the chain, moves money and was neither allocated nor dismissed. What does not belong here:
deciding (`settler.stages.operating`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from chains.model import Address, BaseUnits, ChainId
from settler.domain.ids import InvoiceId, TransferId
from settler.domain.invoices import (
    Allocation,
    Invoice,
    InvoiceStatus,
    TransferRecord,
    TransferStatus,
    UnmatchedReason,
)
from settler.storage import invoices, schema, transfers
from settler.storage.sums import added_up, total_of

_t, _i, _o = schema.transfers, schema.invoices, schema.invoice_options

SUMMED_MAX = 5_000
"""Rows whose amounts are added up, newest first: neither a page nor the gauges of every worker are to wait for a flood
of dust.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What waits of one token on one chain."""

    chain_id: ChainId
    token: Address
    decimals: int
    count: int
    amount: BaseUnits
    is_at_least: bool
    """There is more than was added up: of the newest `SUMMED_MAX` transfers alone."""


async def find(
    conn: AsyncConnection,
    *,
    is_dismissed: bool = False,
    reason: UnmatchedReason | None = None,
    chain_id: ChainId | None = None,
    before: str | None = None,
    limit: int = 50,
) -> list[TransferRecord]:
    """The queue, newest first; or what was dismissed from it. `before`: id to go on below."""
    query = _in_queue(select(_t.c.id), is_dismissed=is_dismissed).order_by(_t.c.id.desc()).limit(limit)
    if reason is not None:
        query = query.where(_t.c.reason == reason.value)
    if chain_id is not None:
        query = query.where(_t.c.chain_id == chain_id)
    if before is not None:
        query = query.where(_t.c.id < before)
    ids = [TransferId(row.id) for row in await conn.execute(query)]
    found = await transfers.get_many(conn, ids)
    return [found[id_] for id_ in ids]


async def waiting(conn: AsyncConnection) -> list[Waiting]:
    """What the queue holds, by chain and token."""
    counted = _in_queue(select(_t.c.chain_id, _t.c.token, _t.c.decimals, func.count().label("count"))).group_by(
        _t.c.chain_id, _t.c.token, _t.c.decimals
    )
    counts = {
        (row.chain_id, row.token, row.decimals): int(row._mapping["count"]) for row in await conn.execute(counted)
    }
    newest = _in_queue(select(_t.c.chain_id, _t.c.token, _t.c.decimals, _t.c.amount))
    newest_of = newest.order_by(_t.c.id.desc()).limit(SUMMED_MAX).subquery().c
    parts = added_up(newest_of.amount, conn.dialect.name)
    added = select(newest_of.chain_id, newest_of.token, newest_of.decimals, *parts).group_by(
        newest_of.chain_id, newest_of.token, newest_of.decimals
    )
    amounts = dict.fromkeys(counts, 0)
    for chain_id, token, decimals, *sums in await conn.execute(added):
        amounts[chain_id, token, decimals] = total_of(sums)
    is_at_least = sum(counts.values()) > SUMMED_MAX
    return [
        Waiting(
            chain_id=ChainId(chain_id),
            token=Address(token),
            decimals=decimals,
            count=count,
            amount=BaseUnits(amounts[chain_id, token, decimals]),
            is_at_least=is_at_least,
        )
        for (chain_id, token, decimals), count in sorted(counts.items())
    ]


async def open_invoices_at(conn: AsyncConnection, address: Address, *, limit: int) -> list[Invoice]:
    """Invoices that may still take money and were to be paid at that address, newest first."""
    closed = (InvoiceStatus.SETTLED.value, InvoiceStatus.CANCELED.value)
    query = (
        select(_o.c.invoice_id)
        .join(_i, _i.c.id == _o.c.invoice_id)
        .where(_o.c.pay_to == address, _i.c.status.not_in(closed))
        .distinct()
        .order_by(_o.c.invoice_id.desc())
        .limit(limit)
    )
    return await in_order(conn, [InvoiceId(row.invoice_id) for row in await conn.execute(query)])


async def in_order(conn: AsyncConnection, ids: Sequence[InvoiceId]) -> list[Invoice]:
    """Those that are known, as `ids` has them."""
    found = await invoices.get_many(conn, ids)
    return [found[id_] for id_ in ids if id_ in found]


def _in_queue(query: Select[Any], *, is_dismissed: bool = False) -> Select[Any]:
    if is_dismissed:
        return query.where(_t.c.allocation == Allocation.DISMISSED.value, _t.c.status != TransferStatus.ORPHANED.value)
    return query.where(
        _t.c.allocation == Allocation.UNMATCHED.value,
        _t.c.reason != UnmatchedReason.IGNORED_ZERO.value,
        _t.c.status != TransferStatus.ORPHANED.value,
    )
