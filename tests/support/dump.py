"""What a database holds, in a form that two runs over the same chain share: no ids and times of our own clock.

    outcome    what must be equal: invoices, canonical transfers, settlements, ledger, lasting events
    passing    how it came about: what was told of while money was on its way; depends on when anybody looked

Also `audit`: the invariants of RULES.md section 8 that one database can show by itself.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from settler.storage import schema
from settler.storage.engine import Database

Row = Mapping[str, Any]


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
            return await _dump(conn)
    finally:
        await db.dispose()


async def _dump(conn: AsyncConnection) -> Dump:
    names = await _Names.read(conn)
    told = [(str(e["type"]), names.of(e["object_id"]), e["data"]) for e in await _all(conn, schema.events)]
    passing = [(type_, name) for type_, name, data in told if _is_passing(type_, data)]
    lasting = [(type_, name) for type_, name, data in told if not _is_passing(type_, data)]
    return Dump(
        outcome={
            "chains": sorted(
                (c["name"], c["settled_number"], c["settled_hash"], c["halted_at"] is not None)
                for c in await _all(conn, schema.chains)
            ),
            "invoices": sorted(
                (names.of(i["id"]), i["status"], i["exceptions"], i["amount"], names.of(i["settlement_id"]))
                for i in await _all(conn, schema.invoices)
            ),
            "transfers": sorted(
                (
                    names.of(t["id"]), t["status"], t["block_number"], t["block_hash"], t["log_index"],
                    t["allocation"], t["reason"] or "", names.of(t["invoice_id"]),
                )
                for t in await _all(conn, schema.transfers)
                if t["status"] != "orphaned"
            ),
            "settlements": sorted(
                (names.of(s["id"]), s["amount_requested"], s["amount_settled"], s["amount_surplus"], repr(s["policy"]))
                for s in await _all(conn, schema.settlements)
            ),
            "settlement_lines": sorted(
                (
                    names.of(line["settlement_id"]), line["index"], names.of(line["transfer_id"]),
                    line["amount_settled"], line["amount_surplus"],
                    line["tx_hash"], line["log_index"], line["block_number"], line["block_hash"],
                )
                for line in await _all(conn, schema.settlement_lines)
            ),
            "reversals": sorted(names.of(r["settlement_id"]) for r in await _all(conn, schema.reversals)),
            "holds": sorted((names.of(h["invoice_id"]), h["reason"]) for h in await _all(conn, schema.holds)),
            "ledger": sorted(await _ledger(conn, names)),
            # the how-many-eth of its kind about its object: one told twice differs, as does one not told
            "events": sorted((type_, name, count) for (type_, name), count in Counter(lasting).items()),
        },
        passing=Counter(passing),
    )  # fmt: skip


def _is_passing(type_: str, data: Row) -> bool:
    """Whether it tells of a view that was not final yet: who looks later sees the final one only."""
    if type_ == "transfer.unmatched":
        return bool(data["status"] != "final")
    return type_ in ("payment.detected", "payment.orphaned", "invoice.processing", "invoice.pending")


@dataclass(frozen=True, kw_only=True)
class _Names:
    """Names of objects that do not depend on when they were made."""

    by_id: Mapping[str, str]

    def of(self, id_: str | None) -> str:
        return "" if id_ is None else self.by_id[id_]

    @classmethod
    async def read(cls, conn: AsyncConnection) -> _Names:
        by_id = {i["id"]: f"{i['merchant']}/{i['reference']}" for i in await _all(conn, schema.invoices)}
        for t in await _all(conn, schema.transfers):
            parts = (t["tx_hash"], t["token"], t["sender"], t["recipient"])
            by_id[t["id"]] = ":".join(
                (str(t["chain_id"]), *(p.hex() for p in parts), str(t["amount"]), str(t["ordinal"]))
            )
        for s in await _all(conn, schema.settlements):
            by_id[s["id"]] = f"{by_id[s['invoice_id']]}#{s['generation']}"
        return cls(by_id=by_id)


async def _ledger(conn: AsyncConnection, names: _Names) -> list[tuple[Any, ...]]:
    """Sums by kind of entry, account, side, asset and what they are about."""
    entry, line = schema.ledger_entries, schema.ledger_lines
    sums: dict[tuple[Any, ...], int] = defaultdict(int)
    for row in await conn.execute(sa.select(entry.c.kind, line).join(entry, entry.c.id == line.c.entry_id)):
        about = (names.of(row.transfer_id), names.of(row.invoice_id), names.of(row.settlement_id))
        sums[row.kind, row.account, row.side, row.chain_id, row.token, *about] += row.amount
    return [(*key, total) for key, total in sums.items()]


async def _all(conn: AsyncConnection, table: sa.Table) -> list[Row]:
    return [dict(row._mapping) for row in await conn.execute(sa.select(table))]


# -- invariants --------------------------------------------------------------------------------------------------------


async def audit(url: str) -> None:
    """Fails where the database contradicts itself: I2, I3, I4, I6 as far as it can tell without the chain."""
    db = await Database.open(url, pool_size=1)
    try:
        async with db.read() as conn:
            await _check_ledger(conn)
            await _check_settled(conn)
    finally:
        await db.dispose()


async def _check_ledger(conn: AsyncConnection) -> None:
    """Entries sum to zero; Σ final transfers = Σ settled + Σ surplus + Σ suspense, by asset."""
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
    in_force = await _in_force(conn)
    for account in ("settled", "surplus"):
        lines: Counter[tuple[Any, ...]] = Counter()
        for line in await _all(conn, schema.settlement_lines):
            if line["settlement_id"] in in_force:
                lines[account, line["chain_id"], line["token_address"]] += line[f"amount_{account}"]
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
