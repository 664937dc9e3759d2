"""I2, I3 and I8 of settlements: each rests on final blocks, on money that was meant for its invoice and in time, on
enough of it and not more, and is undone exactly where the chain took that away.

Judged when they are first seen. What a settlement says that an operator did
is believed here and held against what operators did in `checks_operators`.
"""

from __future__ import annotations

from fractions import Fraction

from settler.domain.invariants import Invariant, Violation
from settler.domain.invoices import Invoice
from settler.simulation.checks_blocks import Blocks
from settler.simulation.checks_chains import ChainChecks
from settler.simulation.checks_money import Meaning, Payment, came, due, is_enough
from settler.simulation.checks_rows import Changes, Mirror, Row
from settler.simulation.truth import Rules


class SettlementChecks:
    def __init__(self, rules: Rules, mirror: Mirror, blocks: Blocks, chains: ChainChecks, meaning: Meaning) -> None:
        self._rules = rules
        self._mirror = mirror
        self._blocks = blocks
        self._chains = chains
        self._meaning = meaning
        self._standing: set[str] = set()
        """Ids of holds that stood at the look before."""

    def step(self, changes: Changes) -> list[Violation]:
        found: list[Violation] = []
        self._standing -= {h.id for _, h in changes.of("holds")}
        for row in changes.new("settlements"):
            found += self._made(row)
        for row in changes.new("reversals"):
            found += self._undone(row)
        for _, row in changes.of("chains"):
            found += self._still_stand(row)
        for table in ("settlements", "invoices", "reversals"):
            for _, row in changes.of(table):
                found += self._agrees(row.id if table == "invoices" else self._invoice_id(table, row))
        self._standing |= {h.id for _, h in changes.of("holds") if h.released_at is None}
        return found

    def rest(self) -> list[Violation]:
        found = []
        for settlement in self._mirror.tables["settlements"].values():
            if settlement.id not in self._mirror.reversed:
                found += [
                    _i3(settlement, f"rests on block {line.block_number} of {line.chain}, which is not in the chain")
                    for line in self._mirror.lines[settlement.id]
                    if self._blocks.is_replaced(line) or self._blocks.payment(line) is None
                ]
        for id_ in self._mirror.tables["invoices"]:
            found += self._agrees(id_)
        return found

    # -- one that is made ----------------------------------------------------------------------------------------------

    def _made(self, s: Row) -> list[Violation]:
        asked = self._meaning.asked.get(s.invoice_id)
        if asked is None:
            return [_violation(Invariant.I8, s.id, f"settles {s.invoice_id}, which nobody asked for")]
        invoice = asked.invoice
        lines = sorted(self._mirror.lines[s.id], key=lambda line: line.index)
        found = self._follows(s)
        paid: list[Payment] = []
        for line in lines:
            payment = self._blocks.payment(line)
            found += self._stands_on(s, line, payment)
            if payment is not None:
                paid.append(payment)
        if len(paid) < len(lines):
            return found  # without them nothing of its sums can be said
        is_marked = "marked" in s.policy
        found += self._adds_up(s, invoice, lines, paid)
        if not is_marked:
            found += self._is_due(s, invoice, lines, paid)
        found += self._is_free(s, lines, is_marked=is_marked)
        return found

    def _follows(self, s: Row) -> list[Violation]:
        """One settlement a generation; another only once the one before was undone."""
        own = self._mirror.settlements_of[s.invoice_id]
        found = []
        if [each.generation for each in own] != list(range(1, len(own) + 1)):
            found.append(_i2(s, f"its generations are {[each.generation for each in own]}"))
        return found + [
            _i2(s, f"settles {s.invoice_id} again, and {each.id} is in force")
            for each in own
            if each.generation < s.generation and each.id not in self._mirror.reversed
        ]

    def _stands_on(self, s: Row, line: Row, payment: Payment | None) -> list[Violation]:
        where = f"log {line.log_index} of 0x{line.tx_hash.hex()[:16]}… in block {line.block_number} of {line.chain}"
        if payment is None:
            return [_violation(Invariant.I8, s.id, f"rests on {where}, and there is no such payment")]
        found = []
        i = payment.transfer.identity
        stated = (line.token_address, line.payer, line.pay_to, line.amount_settled + line.amount_surplus, line.decimals)
        if stated != (i.token, i.sender, i.recipient, i.amount, payment.decimals):
            found.append(_violation(Invariant.I8, s.id, f"says of {where} what it is not"))
        if s.id in self._mirror.reversed:
            return found
        held = self._mirror.tables["transfers"].get(line.transfer_id)
        if held is None or held.status != "final":
            status = "unknown" if held is None else held.status
            found.append(_i3(s, f"rests on {line.transfer_id}, which is {status}"))
            return found
        if (held.block_hash, held.log_index, held.tx_hash) != (line.block_hash, line.log_index, line.tx_hash):
            found.append(_i3(s, f"rests on {line.transfer_id}, which is recorded elsewhere"))
        if held.invoice_id != s.invoice_id:
            found.append(
                _violation(Invariant.I8, s.id, f"rests on {held.id}, which pays {held.invoice_id or 'nobody'}")
            )
        others = [
            each.settlement_id
            for each in self._mirror.resting_on[line.transfer_id]
            if each.settlement_id not in self._mirror.reversed and each is not line
        ]
        if others:
            found.append(_violation(Invariant.I8, s.id, f"rests on {held.id}, as {', '.join(others)} does"))
        if not is_assigned(held):
            meant = [it.invoice.id for it in self._meaning.may(payment)]
            if s.invoice_id not in meant:
                found.append(
                    _violation(Invariant.I8, s.id, f"rests on {where}, which is meant for {meant or 'nobody'}")
                )
        if any(r.settlement_id is None for r in self._mirror.refunds_of.get(held.id, ())):
            found.append(_violation(Invariant.I8, s.id, f"rests on {held.id}, which was sent back"))
        return found

    def _adds_up(self, s: Row, invoice: Invoice, lines: list[Row], paid: list[Payment]) -> list[Violation]:
        """What is owed is filled, the rest is surplus."""
        unit = 10**invoice.scale
        settled = sum((Fraction(line.amount_settled, 10**line.decimals) for line in lines), Fraction(0))
        surplus = came(paid) - settled
        found = []
        if (s.amount_requested, s.scale, s.currency) != (invoice.amount, invoice.scale, invoice.currency):
            found.append(_violation(Invariant.I8, s.id, f"is of {s.amount_requested}, asked was {invoice.amount}"))
        if (Fraction(s.amount_settled, unit), Fraction(s.amount_surplus, unit)) != (settled, surplus):
            found.append(
                _violation(Invariant.I8, s.id, f"says {s.amount_settled} and {s.amount_surplus}, its lines say else")
            )
        owed = min(due(invoice, paid), came(paid))
        # the last part is rounded up to a whole unit of its token
        coarsest = max((Fraction(1, 10**line.decimals) for line in lines), default=Fraction(0))
        is_exact = all(invoice.scale == line.decimals for line in lines)
        if settled != owed if is_exact else not 0 <= settled - owed < coarsest:
            found.append(_i2(s, f"settles {settled}, owed and paid were {owed}"))
        return found

    def _is_due(self, s: Row, invoice: Invoice, lines: list[Row], paid: list[Payment]) -> list[Violation]:
        """Nobody marked it: then final money in time, or accepted, reached what is due; and no block more than that."""
        found = []
        released = {h.reason for h in self._mirror.holds_of.get(invoice.id, {}).values() if h.released_at is not None}
        accepts_late = self._rules.accepts_late or "late" in released
        for line, p in zip(lines, paid, strict=True):
            is_let = accepts_late or is_assigned(self._mirror.tables["transfers"].get(line.transfer_id))
            if p.time > invoice.expires_at and not is_let:
                found.append(_i2(s, f"counts {line.transfer_id} of {p.time}, late since {invoice.expires_at}"))
        if not is_enough(invoice, paid, self._rules):
            found.append(_i2(s, f"rests on {came(paid)} of {due(invoice, paid)} due"))
            return found
        newest = max(paid, key=lambda p: (p.time, p.transfer.identity.chain_id, p.transfer.block_number))
        before = [p for p in paid if p.transfer.block_hash != newest.transfer.block_hash]
        if is_enough(invoice, before, self._rules):
            found.append(_i2(s, f"rests on block {newest.transfer.block_number}, and was paid before it"))
        return found

    def _is_free(self, s: Row, lines: list[Row], *, is_marked: bool) -> list[Violation]:
        """Nothing stopped it: no halted chain, no hold that stood at the look before and does now."""
        found = [
            _i3(s, f"was made on {line.chain}, which is halted")
            for line in lines
            if self._chains.is_halted_since(line.chain_id)
        ]
        ids = {line.transfer_id for line in lines}
        found += [
            _i2(s, f"was made while {h.id} ({h.reason}) stands")
            for h in self._mirror.holds_of.get(s.invoice_id, {}).values()
            if h.id in self._standing and (h.reason == "manual" or h.subject in ids or is_marked)
        ]
        return found

    # -- one that is undone --------------------------------------------------------------------------------------------

    def _undone(self, r: Row) -> list[Violation]:
        lines = self._mirror.lines.get(r.settlement_id, [])
        if any(self._blocks.is_replaced(line) for line in lines):
            return []
        return [_violation(Invariant.I3, r.settlement_id, "was reversed, and all it rests on is in the chain")]

    def _still_stand(self, chain: Row) -> list[Violation]:
        """Once the chain's own cursor stands on blocks that are there, nothing in force rests on others."""
        if not self._blocks.has_dealt_with_violations(chain):
            return []
        return [
            _violation(
                Invariant.I3, line.settlement_id, f"rests on block {line.block_number}, which {chain.name} undid"
            )
            for lines in self._mirror.lines.values()
            for line in lines
            if line.chain_id == chain.chain_id
            and line.settlement_id not in self._mirror.reversed
            and self._blocks.is_replaced(line)
        ]

    # -- invoice and settlement ----------------------------------------------------------------------------------------

    def _invoice_id(self, table: str, row: Row) -> str:
        if table == "settlements":
            return str(row.invoice_id)
        settlement = self._mirror.tables["settlements"].get(row.settlement_id)
        return "" if settlement is None else str(settlement.invoice_id)

    def _agrees(self, invoice_id: str) -> list[Violation]:
        """I2: settled means one settlement in force, the one that is named."""
        invoice = self._mirror.tables["invoices"].get(invoice_id)
        if invoice is None:
            return [_violation(Invariant.I8, invoice_id, "has a settlement, and is no invoice")]
        in_force = [s.id for s in self._mirror.in_force(invoice_id)]
        wanted = [invoice.settlement_id] if invoice.status == "settled" else []
        if in_force == wanted and (invoice.settlement_id is None or invoice.status == "settled"):
            return []
        detail = f"is {invoice.status} by {invoice.settlement_id}, in force is {in_force or 'nothing'}"
        return [_violation(Invariant.I2, invoice_id, detail)]


def is_assigned(held: Row | None) -> bool:
    """The record says that an operator gave it to its invoice."""
    return held is not None and held.evidence.get("strategy") == "assigned"


def _violation(invariant: Invariant, subject: str, detail: str) -> Violation:
    return Violation(invariant=invariant, subject=subject, detail=detail)


def _i2(s: Row, detail: str) -> Violation:
    return _violation(Invariant.I2, s.id, detail)


def _i3(s: Row, detail: str) -> Violation:
    return _violation(Invariant.I3, s.id, detail)
