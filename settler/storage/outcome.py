"""What came of a database's life, in a form that two runs over the same chain share: no ids, no times of our own clock.

    tables     what must be equal: chains, invoices, canonical transfers, settlements, holds, ledger, lasting events
    passing    how it came about: what was told of while money was on its way; depends on when anybody looked

Reads whole tables: for tests and simulations, not for a database in service.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Table, select
from sqlalchemy.ext.asyncio import AsyncConnection

from settler.storage import schema

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    tables: Mapping[str, Sequence[Any]]
    """Sorted plain values by table."""
    passing: Counter[tuple[str, str]]
    """(type, object) of what was told in between."""


async def outcome(conn: AsyncConnection) -> Outcome:
    """Everything, in one reading."""
    names = await _Names.read(conn)
    told = [(str(e["type"]), names.of(e["object_id"]), e["data"]) for e in await rows_of(conn, schema.events)]
    passing = [(type_, name) for type_, name, data in told if _is_passing(type_, data)]
    lasting = [(type_, name) for type_, name, data in told if not _is_passing(type_, data)]
    return Outcome(
        tables={
            "chains": sorted(
                (c["name"], c["settled_number"], c["settled_hash"], c["halted_at"] is not None)
                for c in await rows_of(conn, schema.chains)
            ),
            "invoices": sorted(
                (names.of(i["id"]), i["status"], i["exceptions"], i["amount"], names.of(i["settlement_id"]))
                for i in await rows_of(conn, schema.invoices)
            ),
            "transfers": sorted(
                (
                    names.of(t["id"]), t["status"], t["block_number"], t["block_hash"], t["log_index"],
                    t["allocation"], t["reason"] or "", names.of(t["invoice_id"]),
                )
                for t in await rows_of(conn, schema.transfers)
                if t["status"] != "orphaned"
            ),
            "settlements": sorted(
                (names.of(s["id"]), s["amount_requested"], s["amount_settled"], s["amount_surplus"], repr(s["policy"]))
                for s in await rows_of(conn, schema.settlements)
            ),
            "settlement_lines": sorted(
                (
                    names.of(line["settlement_id"]), line["index"], names.of(line["transfer_id"]),
                    line["amount_settled"], line["amount_surplus"],
                    line["tx_hash"], line["log_index"], line["block_number"], line["block_hash"],
                )
                for line in await rows_of(conn, schema.settlement_lines)
            ),
            "reversals": sorted(names.of(r["settlement_id"]) for r in await rows_of(conn, schema.reversals)),
            "holds": sorted((names.of(h["invoice_id"]), h["reason"]) for h in await rows_of(conn, schema.holds)),
            "ledger": sorted(await _ledger(conn, names)),
            # the how-many-eth of its kind about its object: one told twice differs, as does one not told
            "events": sorted((type_, name, count) for (type_, name), count in Counter(lasting).items()),
        },
        passing=Counter(passing),
    )  # fmt: skip


async def rows_of(conn: AsyncConnection, table: Table) -> list[Row]:
    """The whole table."""
    return [dict(row._mapping) for row in await conn.execute(select(table))]


def _is_passing(type_: str, data: Row) -> bool:
    """Whether it tells of a view that was not final yet: who looks later sees the final one only."""
    if type_ == "transfer.unmatched":
        return bool(data["status"] != "final")
    return type_ in {"payment.detected", "payment.orphaned", "invoice.processing", "invoice.pending"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Names:
    """Names of objects that do not depend on when they were made."""

    by_id: Mapping[str, str]

    def of(self, id_: str | None) -> str:
        return "" if id_ is None else self.by_id[id_]

    @classmethod
    async def read(cls, conn: AsyncConnection) -> _Names:
        by_id = {i["id"]: f"{i['merchant']}/{i['reference']}" for i in await rows_of(conn, schema.invoices)}
        for t in await rows_of(conn, schema.transfers):
            parts = (t["tx_hash"], t["token"], t["sender"], t["recipient"])
            by_id[t["id"]] = ":".join(
                (str(t["chain_id"]), *(p.hex() for p in parts), str(t["amount"]), str(t["ordinal"]))
            )
        for s in await rows_of(conn, schema.settlements):
            by_id[s["id"]] = f"{by_id[s['invoice_id']]}#{s['generation']}"
        return cls(by_id=by_id)


async def _ledger(conn: AsyncConnection, names: _Names) -> list[tuple[Any, ...]]:
    """Sums by kind of entry, account, side, asset and what they are about."""
    entry, line = schema.ledger_entries, schema.ledger_lines
    sums: dict[tuple[Any, ...], int] = defaultdict(int)
    for row in await conn.execute(select(entry.c.kind, line).join(entry, entry.c.id == line.c.entry_id)):
        about = (names.of(row.transfer_id), names.of(row.invoice_id), names.of(row.settlement_id))
        sums[row.kind, row.account, row.side, row.chain_id, row.token, *about] += row.amount
    return [(*key, total) for key, total in sums.items()]
