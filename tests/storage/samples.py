"""Rows of any table, made from its columns: valid by type, the same each time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, Boolean, Column, Integer, LargeBinary, Table

from settler.storage.types import Uint256, UtcDateTime

_WORDS = {
    "invoices.status": "pending",
    "invoices.exceptions": "",
    "transfers.status": "detected",
    "transfers.allocation": "dismissed",
    "webhook_deliveries.status": "pending",
    "invoice_options.match": "address",
    "ledger_lines.side": "debit",
    "deposit_addresses.source": "pool",
}
"""Columns that hold one of a few words."""


def with_parents(table: Table) -> list[tuple[Table, dict[str, Any]]]:
    """A row of `table` after the rows its foreign keys need, each table once."""
    rows: dict[Table, dict[str, Any]] = {}

    def add(wanted: Table) -> None:
        if wanted in rows:
            return
        for key in wanted.foreign_keys:
            if not key.parent.nullable:
                add(key.column.table)
        rows[wanted] = row(wanted)

    add(table)
    return list(rows.items())


def row(table: Table) -> dict[str, Any]:
    columns = [column for column in table.columns if not column.nullable and column.autoincrement is not True]
    return {column.name: _value(table, column) for column in columns}


def _value(table: Table, column: Column[Any]) -> Any:
    match column.type:
        case Uint256():
            return 10**18 + 1
        case UtcDateTime():
            return datetime(2026, 1, 1, tzinfo=UTC)
        case LargeBinary(length=length):
            return bytes(length or 0)
        case JSON():
            return {}
        case Boolean():
            return False
        case Integer():
            return 1
        case _:
            return _WORDS.get(f"{table.name}.{column.name}", "x")
