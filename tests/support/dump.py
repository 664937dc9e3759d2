"""What a database holds, in a form that two runs over the same chain share (`settler.storage.outcome`), and `audit`:
the invariants of RULES.md section 8 that one database can show by itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from settler.domain.settlement import InvoicePolicy
from settler.stages.invariants import check_records, ledger_balances
from settler.storage import schema
from settler.storage.engine import Database
from settler.storage.outcome import Row, outcome, rows_of


@dataclass(frozen=True, kw_only=True)
class Dump:
    outcome: Mapping[str, Sequence[Any]]
    """Sorted plain values by table."""
    passing: Counter[tuple[str, str]]
    """(type, object) of what was told in between."""

    def assert_same_outcome(self, other: Dump) -> None:
        """Fails with the rows that only one of the two has."""
        for table, rows in self.outcome.items():
            here, there = Counter(map(repr, rows)), Counter(map(repr, other.outcome[table]))
            assert here == there, (
                f"{table} differ; only here: {list((here - there).elements())[:5]}; "
                f"only there: {list((there - here).elements())[:5]}"
            )


async def dump(url: str) -> Dump:
    """Everything of the database at `url`, in one reading."""
    db = await Database.open(url, pool_size=1)
    try:
        async with db.read() as conn:
            found = await outcome(conn)
        return Dump(outcome=found.tables, passing=found.passing)
    finally:
        await db.dispose()


async def _all(conn: AsyncConnection, table: sa.Table) -> list[Row]:
    return await rows_of(conn, table)


# -- invariants --------------------------------------------------------------------------------------------------------


async def audit(url: str) -> None:
    """Fails where the database contradicts itself: I2, I3, I4, I6 as far as it can tell without the chain."""
    db = await Database.open(url, pool_size=1)
    try:
        async with db.read() as conn:
            await _check_ledger(conn)
            await _check_settled(conn)
        assert [*await check_records(db, policy=InvoicePolicy()), *await ledger_balances(db)] == []
    finally:
        await db.dispose()


async def _check_ledger(conn: AsyncConnection) -> None:
    """Entries sum to zero; Σ final transfers = Σ settled + Σ surplus + Σ suspense + Σ refunded, by asset."""
    by_entry: Counter[tuple[Any, ...]] = Counter()
    by_account: Counter[tuple[Any, ...]] = Counter()
    for line in await _all(conn, schema.ledger_lines):
        signed = line["amount"] if line["side"] == "debit" else -line["amount"]
        asset = (line["chain_id"], line["token"])
        by_entry[line["entry_id"], *asset] += signed
        by_account[line["account"], *asset] += signed
    assert not any(by_entry.values()), "an entry that does not sum to zero"
    final: Counter[tuple[Any, ...]] = Counter()
    for t in await _all(conn, schema.transfers):
        if t["status"] == "final" and t["reason"] != "ignored_zero":
            final["received", t["chain_id"], t["token"]] += t["amount"]
    received = {key: total for key, total in by_account.items() if key[0] == "received" and total}
    assert received == {key: total for key, total in final.items() if total}, "the ledger lacks what is final"
    sent_back = await _all(conn, schema.refunds)
    refunded: Counter[tuple[Any, ...]] = Counter()
    for r in sent_back:
        refunded["refunded", r["chain_id"], r["token"]] += r["amount"]
    assert {key: -total for key, total in by_account.items() if key[0] == "refunded"} == refunded
    in_force = await _in_force(conn)
    for account in ("settled", "surplus"):
        lines: Counter[tuple[Any, ...]] = Counter()
        for line in await _all(conn, schema.settlement_lines):
            if line["settlement_id"] in in_force:
                lines[account, line["chain_id"], line["token_address"]] += line[f"amount_{account}"]
        for r in sent_back:
            if account == "surplus" and r["settlement_id"] is not None:
                lines[account, r["chain_id"], r["token"]] -= r["amount"]
        booked = {key: -total for key, total in by_account.items() if key[0] == account and total}
        assert booked == {key: total for key, total in lines.items() if total}, f"{account} is not what settlements say"


async def _check_settled(conn: AsyncConnection) -> None:
    """An invoice is settled iff a settlement in force names it; no settlement rests on a payment that is not final."""
    in_force = await _in_force(conn)
    settled = {i["id"]: i["settlement_id"] for i in await _all(conn, schema.invoices) if i["status"] == "settled"}
    assert {s["invoice_id"]: id_ for id_, s in in_force.items()} == settled
    statuses = {t["id"]: t["status"] for t in await _all(conn, schema.transfers)}
    used = [
        line["transfer_id"] for line in await _all(conn, schema.settlement_lines) if line["settlement_id"] in in_force
    ]
    assert len(used) == len(set(used)), "a transfer that two settlements use"
    assert {statuses[id_] for id_ in used} <= {"final"}


async def _in_force(conn: AsyncConnection) -> dict[str, Row]:
    undone = {r["settlement_id"] for r in await _all(conn, schema.reversals)}
    return {s["id"]: s for s in await _all(conn, schema.settlements) if s["id"] not in undone}
