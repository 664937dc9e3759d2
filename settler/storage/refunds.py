"""Refunds: money sent back, appended, never changed (the database refuses)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Row, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from chains.model import Address, BaseUnits, BlockHash, BlockNumber, ChainId, TxHash
from settler.domain.ids import RefundId, SettlementId, TransferId
from settler.domain.records import Refund
from settler.storage import schema
from settler.storage.sql import chunks, is_one_of

_t = schema.refunds


async def add(conn: AsyncConnection, refund: Refund) -> None:
    """The log it rests on may stand for no other refund: the caller looks first, under the chain's lock."""
    await conn.execute(insert(_t).values({column.name: getattr(refund, column.name) for column in _t.columns}))


async def of_transfers(conn: AsyncConnection, ids: Iterable[TransferId]) -> dict[TransferId, list[Refund]]:
    """All refunds of each, the oldest first; those without any are left out."""
    found: dict[TransferId, list[Refund]] = {}
    for chunk in chunks(ids):
        query = select(_t).where(is_one_of(conn, _t.c.transfer_id, chunk)).order_by(_t.c.refunded_at, _t.c.id)
        for row in await conn.execute(query):
            refund = _refund(row)
            found.setdefault(refund.transfer_id, []).append(refund)
    return found


async def at(conn: AsyncConnection, chain_id: ChainId, tx_hash: TxHash, log_index: int) -> Refund | None:
    """The refund that rests on this log."""
    query = select(_t).where(_t.c.chain_id == chain_id, _t.c.tx_hash == tx_hash, _t.c.log_index == log_index)
    row = (await conn.execute(query)).one_or_none()
    return None if row is None else _refund(row)


async def ours(conn: AsyncConnection, addresses: Iterable[Address]) -> frozenset[Address]:
    """Those of the addresses that we were ever paid at, or will give out: what moves among them is not sent back."""
    found: set[Address] = set()
    for chunk in chunks(sorted(set(addresses))):
        for t in (schema.watched_addresses, schema.deposit_addresses):
            rows = await conn.execute(select(t.c.address).where(is_one_of(conn, t.c.address, chunk)))
            found |= {Address(row.address) for row in rows}
    return frozenset(found)


def _refund(row: Row[Any]) -> Refund:
    return Refund(
        id=RefundId(row.id),
        transfer_id=TransferId(row.transfer_id),
        settlement_id=None if row.settlement_id is None else SettlementId(row.settlement_id),
        chain_id=ChainId(row.chain_id),
        token=Address(row.token),
        tx_hash=TxHash(row.tx_hash),
        log_index=row.log_index,
        block_number=BlockNumber(row.block_number),
        block_hash=BlockHash(row.block_hash),
        sender=Address(row.sender),
        recipient=Address(row.recipient),
        amount=BaseUnits(row.amount),
        refunded_at=row.refunded_at,
        refunded_by=row.refunded_by,
        reason=row.reason,
    )
