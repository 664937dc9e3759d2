"""The invariants of RULES.md section 8, held against what the simulator itself knows (`truth`). None of the program's
deciding code is used: its words (statuses, ids) alone.

    checker = Checker(truth)
    checker.step(rows)      now and then: what must hold at any moment, whatever fails just now
    checker.rest(rows)      faults healed, chains mined on, everything quiet: then all is equal, and all is done

    I1 I3 I7 I8  checks_chains          cursors and transfers against the chains
    I2 I3 I8     checks_settlements     what settlements rest on
    I2 I5 I8     checks_invoices        whose money it is, and where invoices stand; by `checks_money`
    I4           checks_ledger
    I6           checks_events          and webhooks
    I8           checks_operators       what was decided by people

`step` may be given only the rows that are new or changed since the last look, all of one moment, of the tables in
`checks_rows.STEP_TABLES`; `rest` is given all rows of all tables. The closer the looks, the sooner a wrong is found and
the nearer to its cause; none is missed for good. Both answer with what is wrong, nothing else. A checker remembers what
it saw, so it serves one world.
"""

from __future__ import annotations

from collections import Counter

from settler.domain.invariants import Violation
from settler.simulation.checks_blocks import Blocks
from settler.simulation.checks_chains import ChainChecks
from settler.simulation.checks_events import EventChecks
from settler.simulation.checks_invoices import InvoiceChecks
from settler.simulation.checks_ledger import LedgerChecks, moves_money
from settler.simulation.checks_money import Meaning
from settler.simulation.checks_operators import OperatorChecks, kept
from settler.simulation.checks_rows import Mirror, Rows, digest
from settler.simulation.checks_settlements import SettlementChecks
from settler.simulation.truth import Truth

__all__ = ["Checker", "Rows", "Violation", "check_rest", "digest"]


class Checker:
    """Of one world, from its beginning: before anything was recorded."""

    def __init__(self, truth: Truth) -> None:
        self._truth = truth
        self._mirror = Mirror()
        meaning = Meaning(truth.rules)
        self._blocks = blocks = Blocks(truth, self._mirror)
        self._chains = ChainChecks(truth, self._mirror, blocks)
        self._settlements = SettlementChecks(truth.rules, self._mirror, blocks, self._chains, meaning)
        self._invoices = InvoiceChecks(truth, self._mirror, blocks, meaning)
        self._ledger = LedgerChecks(truth, self._mirror)
        self._events = EventChecks(truth, self._mirror)
        self._operators = OperatorChecks(truth, self._mirror, blocks)

    def step(self, rows: Rows) -> list[Violation]:
        """What is wrong at this moment, judged by what changed since the last look."""
        self._blocks.look()
        changes = self._mirror.take(rows)
        if not changes.by_table:
            return []
        self._invoices.learn(changes)
        found = [
            *self._chains.step(changes),
            *self._invoices.step(changes),
            *self._settlements.step(changes),
            *self._ledger.step(changes),
            *self._events.step(changes),
        ]
        self._chains.end_look(changes)
        return found

    def rest(self, rows: Rows) -> list[Violation]:
        """What is wrong now that nothing more is to happen. `rows`: all there are."""
        found = kept(self._mirror, rows)
        found += self.step(rows)
        found += self._chains.rest(rows.blocks)
        found += self._invoices.rest()
        found += self._settlements.rest()
        found += self._ledger.rest(self._arrived())
        found += self._events.rest(rows)
        found += self._operators.rest()
        return list(dict.fromkeys(found))

    @staticmethod
    def digest(rows: Rows) -> str:
        return digest(rows)

    def _arrived(self) -> Counter[tuple[int, bytes]]:
        """What came by the chains, of what is recorded; that all is recorded is I1's."""
        arrived: Counter[tuple[int, bytes]] = Counter()
        for t in self._mirror.tables["transfers"].values():
            payment = self._blocks.payment(t) if t.status == "final" and moves_money(t) else None
            if payment is not None:
                i = payment.transfer.identity
                arrived[i.chain_id, i.token] += i.amount
        return arrived


def check_rest(truth: Truth, rows: Rows) -> list[Violation]:
    """`Checker.rest` of a world that was not looked at before."""
    return Checker(truth).rest(rows)
