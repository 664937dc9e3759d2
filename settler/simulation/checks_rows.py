"""The database's rows as the checkers see them: what is new since the last look, and all that was seen so far.

    rows of one look ──▶ Mirror.take ──▶ Changes, and the mirror holds the newest of each row

A look during a run may bring only the rows that changed; a look at rest brings all. Nothing is judged here.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, TypeAlias

Row: TypeAlias = Any
"""A row of a table, with its columns as attributes: SQLAlchemy's own, which no type checker can know."""
Identity: TypeAlias = tuple[int, bytes, bytes, bytes, bytes, int, int]
"""Chain id, transaction, token, sender, recipient, amount, ordinal: what a transfer is, wherever it is mined."""


@dataclass(slots=True)
class Rows:
    """Rows by table."""

    chains: list[Row] = field(default_factory=list)
    transfers: list[Row] = field(default_factory=list)
    invoices: list[Row] = field(default_factory=list)
    invoice_options: list[Row] = field(default_factory=list)
    settlements: list[Row] = field(default_factory=list)
    settlement_lines: list[Row] = field(default_factory=list)
    reversals: list[Row] = field(default_factory=list)
    holds: list[Row] = field(default_factory=list)
    refunds: list[Row] = field(default_factory=list)
    ledger_entries: list[Row] = field(default_factory=list)
    ledger_lines: list[Row] = field(default_factory=list)
    events: list[Row] = field(default_factory=list)
    operator_actions: list[Row] = field(default_factory=list)
    blocks: list[Row] = field(default_factory=list)
    """At rest only, as those below."""
    webhook_endpoints: list[Row] = field(default_factory=list)
    webhook_deliveries: list[Row] = field(default_factory=list)


STEP_TABLES: Mapping[str, Callable[[Row], Any]] = {
    "chains": lambda r: r.chain_id,
    "invoice_options": lambda r: (r.invoice_id, r.index),
    "invoices": lambda r: r.id,
    "transfers": lambda r: r.id,
    "settlements": lambda r: r.id,
    "settlement_lines": lambda r: (r.settlement_id, r.index),
    "reversals": lambda r: r.id,
    "holds": lambda r: r.id,
    "refunds": lambda r: r.id,
    "ledger_entries": lambda r: r.id,
    "ledger_lines": lambda r: (r.entry_id, r.index),
    "events": lambda r: r.seq,
    "operator_actions": lambda r: r.seq,
}
"""What a step is judged by, and the key of each: these may be shown in part."""
APPEND_ONLY = (
    "settlements",
    "settlement_lines",
    "reversals",
    "refunds",
    "ledger_entries",
    "ledger_lines",
    "operator_actions",
)
KEPT = (*APPEND_ONLY, "invoices", "invoice_options", "transfers", "events")
"""Tables no row of which may go."""

Change: TypeAlias = tuple[Row | None, Row]
"""A row as it was seen last, `None` if it was not, and as it is."""


@dataclass(slots=True)
class Changes:
    """What one look brought, by table."""

    by_table: dict[str, list[Change]]

    def of(self, table: str) -> list[Change]:
        return self.by_table.get(table, [])

    def new(self, table: str) -> list[Row]:
        """Rows not seen before."""
        return [after for before, after in self.of(table) if before is None]


class Mirror:
    """The newest of every row that was shown, by table and key, with what the checkers look up often."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[Any, Row]] = {name: {} for name in STEP_TABLES}
        self.by_identity: dict[Identity, Row] = {}
        self.options: dict[str, list[Row]] = defaultdict(list)
        """By invoice."""
        self.pay_to: set[bytes] = set()
        self.lines: dict[str, list[Row]] = defaultdict(list)
        """By settlement."""
        self.settlements_of: dict[str, list[Row]] = defaultdict(list)
        """By invoice, in the order of their generations."""
        self.resting_on: dict[str, list[Row]] = defaultdict(list)
        """Settlement lines by transfer."""
        self.reversed: dict[str, Row] = {}
        """Reversals by settlement."""
        self.holds_of: dict[str, dict[str, Row]] = defaultdict(dict)
        """By invoice and id."""
        self.refunds_of: dict[str, list[Row]] = defaultdict(list)
        """By transfer."""
        self.transfers_of: dict[int, dict[str, Row]] = defaultdict(dict)
        """By chain and id."""
        self.detected: dict[int, dict[str, Row]] = defaultdict(dict)
        """Provisional transfers, by chain and id."""
        self.told: dict[str, list[Row]] = defaultdict(list)
        """Events by object, in the order they were written."""

    def take(self, rows: Rows) -> Changes:
        found: dict[str, list[Change]] = {}
        for name, key_of in STEP_TABLES.items():
            held = self.tables[name]
            changes: list[Change] = []
            for row in getattr(rows, name):
                key = key_of(row)
                before = held.get(key)
                if before is row or (before is not None and before == row):
                    continue
                held[key] = row
                changes.append((before, row))
            if changes:
                found[name] = changes
                if (index := _INDEXES.get(name)) is not None:
                    for change in changes:
                        index(self, *change)
        return Changes(found)

    def in_force(self, invoice_id: str) -> list[Row]:
        """Settlements of an invoice that no reversal stands beside."""
        return [s for s in self.settlements_of.get(invoice_id, ()) if s.id not in self.reversed]


def identity_of(row: Row) -> Identity:
    return row.chain_id, row.tx_hash, row.token, row.sender, row.recipient, row.amount, row.ordinal


def _index_transfer(m: Mirror, _before: Row | None, row: Row) -> None:
    m.by_identity[identity_of(row)] = row
    m.transfers_of[row.chain_id][row.id] = row
    if row.status == "detected":
        m.detected[row.chain_id][row.id] = row
    else:
        m.detected[row.chain_id].pop(row.id, None)


def _index_option(m: Mirror, before: Row | None, row: Row) -> None:
    options = m.options[row.invoice_id]
    if before is not None:
        options[:] = [o for o in options if o.index != row.index]
    options.append(row)
    options.sort(key=lambda o: o.index)
    m.pay_to.add(row.pay_to)


def _index_line(m: Mirror, before: Row | None, row: Row) -> None:
    if before is None:
        m.lines[row.settlement_id].append(row)
        m.resting_on[row.transfer_id].append(row)


def _index_settlement(m: Mirror, before: Row | None, row: Row) -> None:
    if before is None:
        m.settlements_of[row.invoice_id].append(row)
        m.settlements_of[row.invoice_id].sort(key=lambda s: s.generation)


def _index_reversal(m: Mirror, _before: Row | None, row: Row) -> None:
    m.reversed[row.settlement_id] = row


def _index_hold(m: Mirror, _before: Row | None, row: Row) -> None:
    m.holds_of[row.invoice_id][row.id] = row


def _index_refund(m: Mirror, before: Row | None, row: Row) -> None:
    if before is None:
        m.refunds_of[row.transfer_id].append(row)


def _index_event(m: Mirror, before: Row | None, row: Row) -> None:
    told = m.told[row.object_id]
    if before is not None:
        told[:] = [e for e in told if e.seq != row.seq]
    told.append(row)
    if len(told) > 1 and told[-2].seq > row.seq:
        told.sort(key=lambda e: e.seq)


_INDEXES: Mapping[str, Callable[[Mirror, Row | None, Row], None]] = {
    "transfers": _index_transfer,
    "invoice_options": _index_option,
    "settlement_lines": _index_line,
    "settlements": _index_settlement,
    "reversals": _index_reversal,
    "holds": _index_hold,
    "refunds": _index_refund,
    "events": _index_event,
}


# -- the whole in one number -------------------------------------------------------------------------------------------


def digest(rows: Rows) -> str:
    """SHA-256 of every row of every table: equal for equal worlds, in whichever order the rows were read."""
    hashed = hashlib.sha256()
    for name in Rows.__dataclass_fields__:
        hashed.update(f"\n# {name}\n".encode())
        for line in sorted(_line(row) for row in getattr(rows, name)):
            hashed.update(line.encode() + b"\n")
    return hashed.hexdigest()


def _line(row: Row) -> str:
    fields: Mapping[str, object] = row._mapping if hasattr(row, "_mapping") else vars(row)
    return json.dumps({str(k): fields[k] for k in fields}, sort_keys=True, default=_plain, ensure_ascii=False)


def _plain(value: object) -> object:
    match value:
        case bytes() | bytearray() | memoryview():
            return bytes(value).hex()
        case datetime():
            return value.isoformat()
        case Enum():
            return value.value
        case Iterable():
            return sorted(map(str, value))
        case _:
            raise TypeError(f"a row holds {type(value).__name__}, which has no place in a digest")
