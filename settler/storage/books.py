"""What `settler reconcile` asks the database: what it promised to see, and whether its books agree. Reads only.

Rows are streamed: a ledger is longer than memory. Amounts are summed here and not by SQLite, whose numbers are rounded.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from chains.model import Address, BlockNumber, ChainId, Transfer
from settler.domain.invoices import TransferStatus, UnmatchedReason
from settler.domain.ledger import Account, Side
from settler.storage import schema

_t, _o, _w, _l = schema.transfers, schema.invoice_options, schema.watched_addresses, schema.ledger_lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Promised:
    """From when on payments to an address are to be recorded, on one chain."""

    after_block: Mapping[Address, BlockNumber]
    """Addresses that invoices offer on this chain: what was settled when the first of them was made."""
    since: Mapping[Address, datetime]
    """Every watched address: when it began to be watched, by our clock."""

    def covers(self, transfer: Transfer, block_time: datetime) -> bool:
        """By the block where an invoice names the chain; else by time, as exact as blocks tell it."""
        to = transfer.identity.recipient
        if to in self.after_block:
            return transfer.block_number > self.after_block[to]
        return to in self.since and block_time >= self.since[to].replace(microsecond=0)


@dataclass(slots=True)
class Books:
    """One chain's, by token."""

    lopsided: dict[tuple[str, Address], int] = field(default_factory=dict)
    """Entries whose lines do not sum to zero, and by how much."""
    accounts: dict[tuple[Address, Account], int] = field(default_factory=lambda: defaultdict(int))
    """Debits less credits."""
    final: dict[Address, int] = field(default_factory=lambda: defaultdict(int))
    """Final transfers that move money."""
    settled: dict[Address, int] = field(default_factory=lambda: defaultdict(int))
    surplus: dict[Address, int] = field(default_factory=lambda: defaultdict(int))
    """What settlements in force say."""
    refunded: dict[Address, int] = field(default_factory=lambda: defaultdict(int))
    """What was sent back, of all."""
    refunded_surplus: dict[Address, int] = field(default_factory=lambda: defaultdict(int))
    """Of it, what was surplus. A settlement that is reversed takes its surplus back, not what was sent out of it."""

    @property
    def tokens(self) -> set[Address]:
        return {token for token, _ in self.accounts} | set(self.final) | set(self.settled) | set(self.refunded)


async def promised(conn: AsyncConnection, chain_id: ChainId) -> Promised:
    after: dict[Address, BlockNumber] = {}
    query = select(_o.c.pay_to, func.min(func.coalesce(_o.c.from_block, -1)))
    for address, block in await conn.execute(query.where(_o.c.chain_id == chain_id).group_by(_o.c.pay_to)):
        after[Address(address)] = BlockNumber(block)
    watched = select(_w.c.address, _w.c.watched_since).where(_w.c.retired_at.is_(None))
    return Promised(after_block=after, since={Address(a): since for a, since in await conn.execute(watched)})


async def first_block(conn: AsyncConnection, chain_id: ChainId) -> BlockNumber | None:
    """The lowest of which the database says anything; `None` if it knows none."""
    b = schema.blocks
    lowest = [
        select(func.min(_t.c.block_number)).where(_t.c.chain_id == chain_id),
        select(func.min(func.coalesce(_o.c.from_block, -1)) + 1).where(_o.c.chain_id == chain_id),
        select(func.min(b.c.number)).where(b.c.chain_id == chain_id),
    ]
    found = [(await conn.execute(query)).scalar_one() for query in lowest]
    return min((BlockNumber(number) for number in found if number is not None), default=None)


async def books(conn: AsyncConnection, chain_id: ChainId) -> Books:
    """In one pass over each of the tables."""
    found = Books()
    await _read_lines(conn, chain_id, found)
    received = select(_t.c.token, _t.c.amount).where(
        _t.c.chain_id == chain_id,
        _t.c.status == TransferStatus.FINAL.value,
        func.coalesce(_t.c.reason, "") != UnmatchedReason.IGNORED_ZERO.value,
    )
    async for token, amount in await conn.stream(received):
        found.final[Address(token)] += amount
    s, r = schema.settlement_lines, schema.reversals
    in_force = (
        select(s.c.token_address, s.c.amount_settled, s.c.amount_surplus)
        .outerjoin(r, r.c.settlement_id == s.c.settlement_id)
        .where(s.c.chain_id == chain_id, r.c.id.is_(None))
    )
    async for token, settled, surplus in await conn.stream(in_force):
        found.settled[Address(token)] += settled
        found.surplus[Address(token)] += surplus
    b = schema.refunds
    sent_back = select(b.c.token, b.c.amount, b.c.settlement_id).where(b.c.chain_id == chain_id)
    async for token, amount, settlement_id in await conn.stream(sent_back):
        found.refunded[Address(token)] += amount
        if settlement_id is not None:
            found.refunded_surplus[Address(token)] += amount
    return found


async def _read_lines(conn: AsyncConnection, chain_id: ChainId, found: Books) -> None:
    query = select(_l.c.entry_id, _l.c.token, _l.c.account, _l.c.side, _l.c.amount).where(_l.c.chain_id == chain_id)
    entry: str | None = None
    sums: dict[Address, int] = defaultdict(int)

    def close() -> None:
        found.lopsided.update({(entry or "", token): total for token, total in sums.items() if total})
        sums.clear()

    async for entry_id, token, account, side, amount in await conn.stream(query.order_by(_l.c.entry_id)):
        if entry_id != entry:
            close()
            entry = entry_id
        signed = amount if side == Side.DEBIT else -amount
        sums[Address(token)] += signed
        found.accounts[Address(token), Account(account)] += signed
    close()
