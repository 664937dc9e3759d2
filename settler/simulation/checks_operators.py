"""I8 of decisions: what records say that an operator did, an operator did; and what one was told had worked, has.

`truth.actions` holds what people in the simulation asked for and were not refused; where their answer was lost, either
outcome is right.
"""

from __future__ import annotations

from settler.domain.invariants import Invariant, Violation
from settler.simulation.checks_blocks import Blocks
from settler.simulation.checks_rows import APPEND_ONLY, KEPT, STEP_TABLES, Mirror, Row, Rows
from settler.simulation.checks_settlements import is_assigned
from settler.simulation.truth import Truth

AUDITED_AS = {
    "cancel": "invoice.cancel",
    "mark": "invoice.mark",
    "assign": "transfer.assign",
    "dismiss": "transfer.dismiss",
    "refund": "transfer.refund",
    "release": "hold.release",
}
"""Kinds of actions whose object is that of their line in the audit log."""


class OperatorChecks:
    def __init__(self, truth: Truth, mirror: Mirror, blocks: Blocks) -> None:
        self._truth = truth
        self._mirror = mirror
        self._blocks = blocks

    def rest(self) -> list[Violation]:
        done = {(a.kind, a.object_id) for a in self._truth.actions}
        assigned = {(a.object_id, a.details.get("invoice_id")) for a in self._truth.actions if a.kind == "assign"}
        found: list[Violation] = []
        for t in self._mirror.tables["transfers"].values():
            if is_assigned(t) and (t.id, t.invoice_id) not in assigned:
                found.append(_i8(t.id, f"is assigned to {t.invoice_id}, and nobody did that"))
            if t.allocation == "dismissed" and not {("dismiss", t.id), ("refund", t.id)} & done:
                found.append(_i8(t.id, "is dismissed, and nobody did that"))
        found += [
            _i8(s.id, f"says that {s.invoice_id} was marked, and nobody did that")
            for s in self._mirror.tables["settlements"].values()
            if "marked" in s.policy and ("mark", s.invoice_id) not in done
        ]
        for h in self._mirror.tables["holds"].values():
            if h.reason == "manual" and ("hold", h.invoice_id) not in done:
                found.append(_i8(h.id, f"holds {h.invoice_id}, and nobody did that"))
            if h.released_at is not None and not {("release", h.id), ("refund", h.subject)} & done:
                found.append(_i8(h.id, "is released, and nobody did that"))
        for r in self._mirror.tables["refunds"].values():
            found += self._sent_back(r, is_asked=("refund", r.transfer_id) in done)
        return found + self._audited() + self._chained()

    def _sent_back(self, r: Row, *, is_asked: bool) -> list[Violation]:
        if not is_asked:
            return [_i8(r.id, f"sends {r.transfer_id} back, and nobody said so")]
        sent = self._blocks.payment(r)
        if sent is None:
            return [_i8(r.id, f"rests on log {r.log_index} of block {r.block_number}, which is not in the chain")]
        i = sent.transfer.identity
        if (i.token, i.sender, i.recipient, i.amount) != (r.token, r.sender, r.recipient, r.amount):
            return [_i8(r.id, f"says of 0x{r.tx_hash.hex()[:16]}… what it is not")]
        return []

    def _audited(self) -> list[Violation]:
        """What somebody was told had worked stands in the audit log."""
        told = {(row.action, row.object_id) for row in self._mirror.tables["operator_actions"].values()}
        return [
            _i8(a.object_id, f"{a.kind} at {a.at} worked, and is not in the audit log")
            for a in self._truth.actions
            if a.is_certain and a.kind in AUDITED_AS and (AUDITED_AS[a.kind], a.object_id) not in told
        ]

    def _chained(self) -> list[Violation]:
        found = []
        before, seq = bytes(32), 0
        rows = self._mirror.tables["operator_actions"]
        for at in sorted(rows):
            row = rows[at]
            if row.seq != seq + 1 or row.previous_hash != before:
                found.append(_i8(row.id, f"does not follow row {seq} of the audit log"))
            before, seq = row.hash, row.seq
        return found


def kept(mirror: Mirror, rows: Rows) -> list[Violation]:
    """What is only ever appended to was not changed, and no row is gone. `mirror`: before it took `rows`, all of
    them."""
    found = []
    for table in KEPT:
        now = {STEP_TABLES[table](row): row for row in getattr(rows, table)}
        for key, row in mirror.tables[table].items():
            if key not in now:
                found.append(_i8(f"{table} {key}", "is gone"))
            elif table in APPEND_ONLY and now[key] != row:
                found.append(_i8(f"{table} {key}", "was changed"))
    return found


def _i8(subject: str, detail: str) -> Violation:
    return Violation(invariant=Invariant.I8, subject=subject, detail=detail)
