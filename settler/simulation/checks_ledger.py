"""I4: every entry sums to zero, the ledger says of each transfer what its record, its settlement and its refunds say,
and in all what came is what was settled, is surplus, in suspense, or was sent back.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from settler.domain.invariants import Invariant, Violation
from settler.simulation.checks_rows import Changes, Mirror, Row
from settler.simulation.truth import Truth

ACCOUNTS = ("received", "suspense", "settled", "surplus", "refunded")
KINDS = ("receipt", "unreceipt", "settlement", "reversal", "refund")


class LedgerChecks:
    """Sums of what was seen so far: a line is looked at once."""

    def __init__(self, truth: Truth, mirror: Mirror) -> None:
        self._truth = truth
        self._mirror = mirror
        self._of_entry: dict[str, Counter[tuple[int, bytes]]] = defaultdict(Counter)
        """Debits less credits by entry, chain and token."""
        self._of_transfer: dict[str, Counter[str]] = defaultdict(Counter)
        """Debits less credits by transfer and account."""
        self._totals: Counter[tuple[int, bytes, str]] = Counter()

    def step(self, changes: Changes) -> list[Violation]:
        found: list[Violation] = []
        touched: dict[str, None] = {}
        entries: dict[str, None] = {entry.id: None for entry in changes.new("ledger_entries")}
        for line in changes.new("ledger_lines"):
            found += self._taken(line)
            touched[line.transfer_id] = entries[line.entry_id] = None
        for entry in entries:
            found += self._sums_to_zero(entry)
        touched |= dict.fromkeys(t.id for before, t in changes.of("transfers") if _is_booked_anew(before, t))
        touched |= dict.fromkeys(line.transfer_id for line in changes.new("settlement_lines"))
        touched |= dict.fromkeys(refund.transfer_id for refund in changes.new("refunds"))
        for reversal in changes.new("reversals"):
            touched |= dict.fromkeys(line.transfer_id for line in self._mirror.lines[reversal.settlement_id])
        for id_ in touched:
            found += self._says_the_same(id_)
        return found

    def rest(self, arrived: Mapping[tuple[int, bytes], int]) -> list[Violation]:
        """`arrived`: what came by the chains alone, per chain and token."""
        found = []
        for id_ in self._mirror.tables["transfers"]:
            found += self._says_the_same(id_)
        for c in self._truth.chains.values():
            for token in c.tokens:
                came = arrived.get((c.id, token.address), 0)
                of = {account: self._totals[c.id, token.address, account] for account in ACCOUNTS}
                spent = -sum(total for account, total in of.items() if account != "received")
                if not of["received"] == spent == came:
                    detail = (
                        f"{token.symbol}: {came} came by the chain, received are {of['received']}, kept are {spent}"
                    )
                    found.append(_i4(c.name, detail))
                if negative := [account for account in ACCOUNTS[1:] if of[account] > 0]:
                    found.append(_i4(c.name, f"{token.symbol}: {', '.join(negative)} is below zero"))
        return found

    def _taken(self, line: Row) -> Iterable[Violation]:
        signed = line.amount if line.side == "debit" else -line.amount
        self._of_entry[line.entry_id][line.chain_id, line.token] += signed
        self._of_transfer[line.transfer_id][line.account] += signed
        self._totals[line.chain_id, line.token, line.account] += signed
        transfer = self._mirror.tables["transfers"].get(line.transfer_id)
        entry = self._mirror.tables["ledger_entries"].get(line.entry_id)
        if line.account not in ACCOUNTS or line.amount <= 0:
            yield _i4(line.entry_id, f"has a line of {line.amount} on {line.account}")
        if transfer is None or (transfer.chain_id, transfer.token) != (line.chain_id, line.token):
            yield _i4(line.entry_id, f"books {line.transfer_id} in an asset it is not of")
        if entry is None or entry.kind not in KINDS:
            yield _i4(line.entry_id, "is a line of no entry")

    def _sums_to_zero(self, entry: str) -> list[Violation]:
        sums = self._of_entry.get(entry)
        if sums is None:
            return [_i4(entry, "has no lines")]
        return [
            _i4(entry, f"sums to {total} base units of 0x{token.hex()} on chain {chain_id}")
            for (chain_id, token), total in sums.items()
            if total
        ]

    def _says_the_same(self, id_: str) -> list[Violation]:
        t = self._mirror.tables["transfers"].get(id_)
        if t is None:
            return [_i4(id_, "is in the books, and not recorded")]
        resting = [
            line for line in self._mirror.resting_on.get(id_, ()) if line.settlement_id not in self._mirror.reversed
        ]
        refunds = self._mirror.refunds_of.get(id_, [])
        settled = sum(line.amount_settled for line in resting)
        surplus = sum(line.amount_surplus for line in resting)
        refunded = sum(r.amount for r in refunds)
        of_surplus = sum(r.amount for r in refunds if r.settlement_id is not None)
        expected = {
            "received": t.amount if t.status == "final" and moves_money(t) else 0,
            "settled": -settled,
            "surplus": of_surplus - surplus,
            "refunded": -refunded,
        }
        expected["suspense"] = -sum(expected.values())
        books = self._of_transfer.get(id_, Counter())
        return [
            _i4(id_, f"{account} of it is {books[account]} in the ledger, and should be {total}")
            for account, total in expected.items()
            if books[account] != total
        ]


def moves_money(t: Row) -> bool:
    return bool(t.amount > 0 and t.sender != t.recipient)


def _is_booked_anew(before: Row | None, t: Row) -> bool:
    was_final = before is not None and before.status == "final"
    return bool(was_final != (t.status == "final"))


def _i4(subject: str, detail: str) -> Violation:
    return Violation(invariant=Invariant.I4, subject=subject, detail=detail)
