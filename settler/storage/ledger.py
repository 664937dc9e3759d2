"""The ledger: entries of lines that sum to zero, appended only."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from chains.model import Address, BaseUnits, ChainId
from settler.domain.ids import InvoiceId, SettlementId, TransferId, derived_id
from settler.domain.ledger import Account, EntryKind, Line, Side, imbalance
from settler.storage import schema
from settler.storage.bulk import insert

_e, _l = schema.ledger_entries, schema.ledger_lines


async def post(
    conn: AsyncConnection, entries: Sequence[tuple[EntryKind, str, Sequence[Line]]], *, now: datetime
) -> None:
    """Appends entries, each `(kind, ref, lines)`; the same kind and ref twice is an error, for it would count
    money twice.
    """
    if not entries:
        return
    for kind, ref, lines in entries:
        assert not imbalance(lines), f"{kind} {ref} does not sum to zero"
    ids = [derived_id("led", now, kind.value, ref) for kind, ref, _ in entries]
    await insert(
        conn,
        _e,
        [
            {"id": id_, "kind": kind.value, "ref": ref, "posted_at": now}
            for id_, (kind, ref, _) in zip(ids, entries, strict=True)
        ],
    )
    await insert(
        conn,
        _l,
        [
            {
                "entry_id": id_,
                "index": index,
                "account": line.account.value,
                "side": line.side.value,
                "chain_id": line.chain_id,
                "token": line.token,
                "amount": line.amount,
                "transfer_id": line.transfer_id,
                "invoice_id": line.invoice_id,
                "settlement_id": line.settlement_id,
            }
            for id_, (_, _, lines) in zip(ids, entries, strict=True)
            for index, line in enumerate(lines)
        ],
    )


async def entry_lines(conn: AsyncConnection, kind: EntryKind, ref: str) -> list[Line]:
    """The lines of one entry; empty if there is none."""
    query = (
        select(_l)
        .join(_e, _e.c.id == _l.c.entry_id)
        .where(_e.c.kind == kind.value, _e.c.ref == ref)
        .order_by(_l.c.index)
    )
    return [line_of(row) for row in await conn.execute(query)]


def line_of(row: Row[Any]) -> Line:
    """Of a row that holds all columns of `ledger_lines`."""
    return Line(
        account=Account(row.account),
        side=Side(row.side),
        chain_id=ChainId(row.chain_id),
        token=Address(row.token),
        amount=BaseUnits(row.amount),
        transfer_id=TransferId(row.transfer_id),
        invoice_id=None if row.invoice_id is None else InvoiceId(row.invoice_id),
        settlement_id=None if row.settlement_id is None else SettlementId(row.settlement_id),
    )


async def balances(conn: AsyncConnection, at: datetime | None = None) -> dict[tuple[ChainId, Address, Account], int]:
    """Debits less credits per chain, token and account. `at`: of what was posted before then; `None`: of everything.

    Streamed, for a ledger is longer than memory; summed here and not by SQLite, whose numbers are rounded.
    """
    sums: dict[tuple[ChainId, Address, Account], int] = {}
    query = select(_l.c.chain_id, _l.c.token, _l.c.account, _l.c.side, _l.c.amount)
    if at is not None:
        query = query.join(_e, _e.c.id == _l.c.entry_id).where(_e.c.posted_at < at)
    async for chain_id, token, account, side, amount in await conn.stream(query):
        key = (ChainId(chain_id), Address(token), Account(account))
        sums[key] = sums.get(key, 0) + (amount if side == Side.DEBIT else -amount)
    return sums
