"""I2 and I5 of invoices: what was asked stands as it was asked, money is given to whom it was meant for, and at rest
every invoice is where the chains and the operators' decisions alone put it.

    #  every one of an invoice's payments `must` be its own    its status follows exactly
    #  some `may` be another's, or somebody decided            what is sure is demanded, the rest accepted

What a record says that an operator did is believed here and held against what operators did in `checks_operators`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from settler.domain.invariants import Invariant, Violation
from settler.domain.invoices import Invoice, InvoiceStatus, Match, Option
from settler.simulation.checks_blocks import Blocks
from settler.simulation.checks_ledger import moves_money
from settler.simulation.checks_money import Meaning, Payment, came, due, is_enough
from settler.simulation.checks_rows import Changes, Mirror, Row
from settler.simulation.checks_settlements import is_assigned
from settler.simulation.truth import InvoiceTruth, Truth

TERMS = ("merchant", "reference", "currency", "amount", "scale", "expires_at", "monitoring_until")


class InvoiceChecks:
    def __init__(self, truth: Truth, mirror: Mirror, blocks: Blocks, meaning: Meaning) -> None:
        self._truth = truth
        self._mirror = mirror
        self._blocks = blocks
        self._meaning = meaning

    # -- at any moment -------------------------------------------------------------------------------------------------

    def learn(self, changes: Changes) -> None:
        """Takes in what was asked for: before any other check, whose money it may be depends on it."""
        for row in changes.new("invoices"):
            # one whose maker was not answered yet is as it is stored; `rest` holds it against the answer
            stored = InvoiceTruth(
                invoice=_invoice(row, self._mirror.options[row.id]), created_at=self._truth.now or row.created_at
            )
            self._meaning.add(self._truth.invoices.get(row.id, stored))

    def step(self, changes: Changes) -> list[Violation]:
        found: list[Violation] = []
        for before, row in changes.of("invoices"):
            found += self._became(before, row)
        for row in changes.new("invoice_options"):
            found += self._begins(row)
        for before, t in changes.of("transfers"):
            if before is None or (before.invoice_id, before.status) != (t.invoice_id, t.status):
                found += self._given(t)
        return found

    def _became(self, before: Row | None, row: Row) -> list[Violation]:
        found = []
        was = "" if before is None else before.status
        if before is not None and row.version <= before.version:
            found.append(_i2(row.id, f"changed, and is at version {row.version} as before"))
        changed = [name for name in TERMS if before is not None and getattr(before, name) != getattr(row, name)]
        if changed:
            found.append(_violation(Invariant.I8, row.id, f"its {', '.join(changed)} changed"))
        if row.status == "expired" and row.status != was:
            for option in self._mirror.options[row.id]:
                newest = self._blocks.newest_time(option.chain_id)
                if newest is None or newest <= row.expires_at:
                    detail = f"expired at {row.expires_at}, {option.chain} has no block later than {newest}"
                    found.append(_i2(row.id, detail))
        return found

    def _begins(self, option: Row) -> list[Violation]:
        """An invoice does not overlook blocks that may hold a payment made since: what was not final when it was made
        may be replaced by such. At an address that others had, it may: what is there may be theirs."""
        it = self._blocks.chains.get(option.chain_id)
        if it is None:
            return [_violation(Invariant.I8, option.invoice_id, f"is to be paid on chain {option.chain_id}")]
        found = self._is_unique(option)
        if option.from_block is None or self._meaning.is_shared(option.pay_to) or option.from_block <= it.final_height:
            return found
        detail = f"takes nothing up to block {option.from_block} of {option.chain}, final is {it.final_height}"
        return [*found, _violation(Invariant.I1, option.invoice_id, detail)]

    def _is_unique(self, option: Row) -> list[Violation]:
        """A unique amount is nobody else's before that one's monitoring has ended. Invoices are made by clocks that are
        right; where those of other processes jump, an amount may be let go of too soon.
        """
        asked = self._meaning.asked.get(option.invoice_id)
        if asked is None or option.match != Match.AMOUNT or not self._truth.rules.clocks_are_right:
            return []
        own = next(o for o in asked.invoice.options if o.index == option.index)
        return [
            _violation(Invariant.I8, option.invoice_id, f"asks for {own.amount_base}, as {other.invoice.id} does")
            for other in self._meaning.rivals(own, asked)
            if other.invoice.monitoring_until >= asked.invoice.created_at
            and other.invoice.created_at <= asked.invoice.monitoring_until
        ]

    def _given(self, t: Row) -> list[Violation]:
        """A final payment is for its invoice; one that is only seen may be a lie, and is judged once it is final."""
        if (t.allocation == "invoice") != (t.invoice_id is not None):
            return [_violation(Invariant.I8, t.id, f"is allocated to {t.allocation}, of invoice {t.invoice_id}")]
        if t.status != "final":
            return []
        if not moves_money(t):
            is_ignored = (t.allocation, t.reason) == ("unmatched", "ignored_zero")
            return [] if is_ignored else [_violation(Invariant.I8, t.id, f"moves no money, and is {t.allocation}")]
        if t.reason == "ignored_zero":
            return [_violation(Invariant.I8, t.id, f"moves {t.amount}, and is ignored as if it were nothing")]
        if t.invoice_id is None or is_assigned(t):
            return []
        payment = self._blocks.payment(t)
        if payment is None:
            return []  # told of by the chain's checks
        meant = [it.invoice.id for it in self._meaning.may(payment)]
        if t.invoice_id in meant:
            return []
        return [
            _violation(Invariant.I8, t.id, f"is given to {t.invoice_id}, and meant for {', '.join(meant) or 'nobody'}")
        ]

    # -- at rest -------------------------------------------------------------------------------------------------------

    def rest(self) -> list[Violation]:
        found: list[Violation] = []
        for id_, it in self._truth.invoices.items():
            if id_ in self._meaning.asked:
                self._meaning.asked[id_].created_at = min(it.created_at, self._meaning.asked[id_].created_at)
        given: dict[str, list[tuple[Row, Payment]]] = defaultdict(list)
        for t in self._mirror.tables["transfers"].values():
            payment = self._blocks.payment(t) if t.status == "final" else None
            if payment is None or not payment.moves_money:
                continue
            found += self._given(t) + self._got_its_due(t, payment) + self._is_plain(t, payment)
            if t.invoice_id is not None:
                given[t.invoice_id].append((t, payment))
        for id_, it in self._truth.invoices.items():
            row = self._mirror.tables["invoices"].get(id_)
            if row is None:
                found.append(_violation(Invariant.I8, id_, "was made, and is gone"))
                continue
            found += self._as_asked(row, it.invoice)
            found += self._where_it_is(row, it.invoice, given[id_])
        for id_ in self._mirror.tables["invoices"]:
            if id_ not in self._truth.invoices:
                found.append(_violation(Invariant.I8, id_, "was asked for by nobody"))
        return found

    def _as_asked(self, row: Row, invoice: Invoice) -> list[Violation]:
        stored = _invoice(row, self._mirror.options[row.id])
        changed = [name for name in (*TERMS, "options") if getattr(stored, name) != getattr(invoice, name)]
        return [_violation(Invariant.I8, row.id, f"its {', '.join(changed)} is not as it was asked")] if changed else []

    def _got_its_due(self, t: Row, payment: Payment) -> list[Violation]:
        """A payment that only one invoice may have had, and that could take it all the time, is that invoice's."""
        it = self._meaning.must(payment)
        if it is None or t.invoice_id is not None:
            return []
        row = self._mirror.tables["invoices"].get(it.invoice.id)
        # what was settled once, or canceled, took no money then; what somebody decided about is where he put it
        was_closed = row is None or row.status == "canceled" or self._mirror.settlements_of.get(row.id)
        if was_closed or self._is_decided(t.id):
            return []
        return [_i2(t.id, f"pays nobody ({t.allocation}, {t.reason}), and can be meant for {it.invoice.id} alone")]

    def _is_plain(self, t: Row, payment: Payment) -> list[Violation]:
        """More than one invoice that it could be for is ambiguous: then no rule gives it to one of them. As far as it
        is sure that both could take it when it was first seen.
        """
        if t.invoice_id is None or is_assigned(t):
            return []
        for fitting in self._meaning.by_strategy(payment).values():
            ids = [it.invoice.id for it in fitting]
            if len(ids) > 1 and t.invoice_id in ids:
                others = [id_ for id_ in ids if id_ != t.invoice_id and self._was_open(id_, t, payment)]
                if others:
                    return [_violation(Invariant.I8, t.id, f"is given to {t.invoice_id}, and may be for {others[0]}")]
            if len(ids) == 1:
                return []
        return []

    def _was_open(self, invoice_id: str, t: Row, payment: Payment) -> bool:
        """It was there before the payment was mined and seen, and never closed until now."""
        row = self._mirror.tables["invoices"].get(invoice_id)
        seen, made = self._mirror.told.get(t.id), self._mirror.told.get(invoice_id)
        if row is None or not seen or not made or row.status not in ("pending", "processing", "expired"):
            return False
        is_before = self._meaning.asked[invoice_id].created_at < payment.time and made[0].seq < seen[0].seq
        return is_before and not self._mirror.settlements_of.get(invoice_id)

    def _is_decided(self, transfer_id: str) -> bool:
        """An operator did, or may have done, something about it."""
        return any(a.object_id == transfer_id for a in self._truth.actions)

    def _where_it_is(self, row: Row, invoice: Invoice, given: list[tuple[Row, Payment]]) -> list[Violation]:
        """I2 and I5: its status by what was given to it; that it was given all of its own is `_got_its_due`'s."""
        expected = self._expected(row, invoice, given)
        found = [_i2(row.id, f"is canceled, and {t.id} pays it") for t, _ in given if row.status == "canceled"]
        if row.status not in expected:
            amounts = ", ".join(f"{p.transfer.identity.amount} at {p.time}" for _, p in given) or "nothing"
            found.append(_i2(row.id, f"is {row.status}, and should be {' or '.join(expected)}: it got {amounts}"))
        if row.status != "settled":
            return found + self._noted(row, invoice, given)
        lines = {line.transfer_id for s in self._mirror.in_force(row.id) for line in self._mirror.lines[s.id]}
        found += [
            _i2(row.id, f"is settled, and {t.id} of it is in no settlement") for t, _ in given if t.id not in lines
        ]
        return found + self._noted_of_settled(row, invoice, [p for t, p in given if t.id in lines])

    def _expected(self, row: Row, invoice: Invoice, given: list[tuple[Row, Payment]]) -> tuple[str, ...]:
        own = self._mirror.settlements_of.get(row.id, [])
        decided = {a.kind: a for a in self._truth.actions if a.object_id == row.id}
        # nothing leads away from it; where the answer was lost it may not have happened
        if "cancel" in decided and (decided["cancel"].is_certain or row.status == "canceled"):
            return ("canceled",)
        in_force = self._mirror.in_force(row.id)
        if any("marked" in s.policy for s in in_force) and "mark" in decided:
            return ("settled",)
        if "mark" in decided and decided["mark"].is_certain and not own:
            return ("settled",)
        if self._is_paid(row, invoice, given):
            return ("settled",)
        if own:
            return ("reversed",)
        is_past = all(self._blocks.chains[o.chain_id].chain.head.time > invoice.expires_at for o in invoice.options)
        if self._is_paid(row, invoice, given, despite_holds=True):
            return ("processing",)
        return ("expired",) if is_past else ("pending",)

    def _is_paid(
        self, row: Row, invoice: Invoice, given: list[tuple[Row, Payment]], *, despite_holds: bool = False
    ) -> bool:
        holds = self._mirror.holds_of.get(row.id, {}).values()
        accepts_late = self._truth.rules.accepts_late or any(h.reason == "late" and h.released_at for h in holds)
        counted = [p for t, p in given if accepts_late or is_assigned(t) or p.time <= invoice.expires_at]
        is_stopped = any(h.reason == "manual" and h.released_at is None for h in holds)
        return is_enough(invoice, counted, self._truth.rules) and (despite_holds or not is_stopped)

    def _noted_of_settled(self, row: Row, invoice: Invoice, paid: list[Payment]) -> list[Violation]:
        """What stands beside `settled` is of the payments that the settlement rests on, by their blocks."""
        truly = {"late": any(p.time > invoice.expires_at for p in paid), "overpaid": came(paid) > due(invoice, paid)}
        return _told_truly(row, truly)

    def _noted(self, row: Row, invoice: Invoice, given: list[tuple[Row, Payment]]) -> list[Violation]:
        """What stands beside the status of one that is not settled."""
        if row.status in ("canceled", "reversed"):
            return []
        noted = row.exceptions.split()
        truly = {"late": any(p.time > invoice.expires_at for _, p in given)}
        if "on_hold" not in noted:  # one that is held is not called short: what is late may do
            truly["underpaid"] = row.status == "expired" and bool(given)
        return _told_truly(row, truly)


def _invoice(row: Row, options: list[Row]) -> Invoice:
    """A stored invoice as it was asked for: its state left out."""
    return Invoice(
        id=row.id,
        merchant=row.merchant,
        reference=row.reference,
        status=InvoiceStatus.PENDING,
        exceptions=frozenset(),
        currency=row.currency,
        amount=row.amount,
        scale=row.scale,
        options=tuple(_option(o) for o in options),
        created_at=row.created_at,
        expires_at=row.expires_at,
        monitoring_until=row.monitoring_until,
        settled_at=None,
        settlement_id=None,
        metadata={},
        version=1,
        pay_token=row.pay_token,
    )


def _option(o: Row) -> Option:
    return Option(
        index=o.index,
        chain=o.chain,
        chain_id=o.chain_id,
        token=o.token,
        token_address=o.token_address,
        decimals=o.decimals,
        pay_to=o.pay_to,
        match=Match(o.match),
        amount_base=o.amount_base,
        tail_base=o.tail_base,
        from_block=o.from_block,
        reference=o.reference,
        payer=o.payer,
    )


def _told_truly(row: Row, truly: Mapping[str, bool]) -> list[Violation]:
    noted = row.exceptions.split()
    return [
        _i2(row.id, f"{name} is {is_so}, and noted is {', '.join(noted) or 'nothing'}")
        for name, is_so in truly.items()
        if (name in noted) != is_so
    ]


def _violation(invariant: Invariant, subject: str, detail: str) -> Violation:
    return Violation(invariant=invariant, subject=subject, detail=detail)


def _i2(subject: str, detail: str) -> Violation:
    return _violation(Invariant.I2, subject, detail)
