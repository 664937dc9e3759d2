"""The checkers: a life of the real stages in which they find nothing, and the same with one thing wrong, which they
find. What is wrong is put into rows (or taken out of the truth), so it may be what no database of ours would hold.
"""

from __future__ import annotations

import asyncio
import copy
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio

from settler.domain.invariants import Invariant, Violation
from settler.domain.invoices import Invoice
from settler.simulation.checks import Checker, Rows, digest
from settler.simulation.life import Life as Process
from settler.simulation.store import SimStore
from settler.simulation.truth import Rules, Truth
from settler.storage.engine import Database
from tests.simulation.checked import BEFORE, ENDPOINT, Lived


@dataclass(frozen=True)
class Life:
    """What is left of a life: its rows, its truth, and its invoices by what became of them."""

    truth: Truth
    rows: Rows
    made: dict[str, Invoice]
    found: list[Violation]

    def copied(self) -> Life:
        truth = copy.copy(self.truth)
        truth.actions = list(truth.actions)
        truth.watched = dict(truth.watched)
        truth.invoices = dict(truth.invoices)
        truth.endpoints = copy.deepcopy(truth.endpoints)
        return replace(self, truth=truth, rows=copy.deepcopy(self.rows))

    def judge(self) -> list[Violation]:
        return Checker(self.truth).rest(self.rows)

    # -- rows by what they are about -----------------------------------------------------------------------------------

    def invoice(self, name: str) -> Any:
        return next(r for r in self.rows.invoices if r.id == self.made[name].id)

    def settlement(self, name: str) -> Any:
        return next(r for r in self.rows.settlements if r.invoice_id == self.made[name].id)

    def line(self, name: str) -> Any:
        id_ = self.settlement(name).id
        return next(r for r in self.rows.settlement_lines if r.settlement_id == id_)

    def payment(self, name: str) -> Any:
        """The one that moves money and is given to the invoice."""
        return next(r for r in self.rows.transfers if r.invoice_id == self.made[name].id)

    def surplus(self) -> Any:
        return next(r for r in self.rows.transfers if r.reason == "surplus")

    def zero(self) -> Any:
        return next(r for r in self.rows.transfers if r.reason == "ignored_zero")

    def chain(self, name: str = "anvil") -> Any:
        return next(r for r in self.rows.chains if r.name == name)

    def event(self, type_: str, object_id: str) -> Any:
        return next(e for e in self.rows.events if (e.type, e.object_id) == (type_, object_id))


@asynccontextmanager
async def memory() -> AsyncIterator[Database]:
    """One database of a process to which nothing happens, in memory."""
    store = await SimStore.create(None, random=random.Random(1))
    try:
        yield await store.open(Process("test"))
    finally:
        await store.close()


@pytest_asyncio.fixture
async def db() -> AsyncIterator[Database]:
    async with memory() as made:
        yield made


@pytest.fixture(scope="module")
def lived() -> Life:
    """A life in which nothing went wrong."""

    async def live() -> Life:
        async with memory() as db:
            lived = await Lived.on(db)
            made = await lived.one_of_each()
            return Life(truth=lived.truth, rows=lived.rows(), made=made, found=lived.found)

    return asyncio.run(live())


def test_rest__a_life_without_fault__nothing_is_wrong(lived: Life) -> None:
    assert lived.found == []
    assert lived.judge() == []
    became = {name: lived.invoice(name).status for name in lived.made}
    assert became == {
        "paid": "settled",
        "over": "settled",
        "short": "expired",
        "late": "expired",
        "waiting": "expired",
        "canceled": "canceled",
    }


# -- one thing wrong ---------------------------------------------------------------------------------------------------

Spoil = Callable[[Life], str]
"""Does one thing wrong, and says whose."""


def transfer_forgotten(it: Life) -> str:
    gone = it.surplus()
    it.rows.transfers.remove(gone)
    return f"chain 31337, 0x{gone.tx_hash.hex()[:16]}…:{gone.log_index}"


def transfer_left_detected(it: Life) -> str:
    it.surplus().status = "detected"
    return str(it.surplus().id)


def transfer_orphaned_that_stands(it: Life) -> str:
    t = it.surplus()
    t.status = "orphaned"
    return f"chain 31337, 0x{t.tx_hash.hex()[:16]}…:{t.log_index}"


def transfer_invented(it: Life) -> str:
    made_up = copy.copy(it.surplus())
    made_up.id, made_up.ordinal = "trf_invented", 7
    it.rows.transfers.append(made_up)
    return "trf_invented"


def transfer_moved(it: Life) -> str:
    it.surplus().log_index += 1
    return str(it.surplus().id)


def transfer_of_another_fork(it: Life) -> str:
    it.surplus().block_hash = bytes(32)
    return str(it.surplus().id)


def transfer_antedated(it: Life) -> str:
    it.payment("late").block_time -= timedelta(days=90)
    return str(it.payment("late").id)


def transfer_of_a_worthless_token(it: Life) -> str:
    it.surplus().token = b"\xfa" * 20
    return str(it.surplus().id)


def transfer_to_nobody_watched(it: Life) -> str:
    made_up = copy.copy(it.surplus())
    made_up.id, made_up.recipient, made_up.status = "trf_elsewhere", b"\xfb" * 20, "orphaned"
    it.rows.transfers.append(made_up)
    return "trf_elsewhere"


def transfer_given_to_another(it: Life) -> str:
    t = it.payment("short")
    t.invoice_id = it.made["waiting"].id
    return str(t.id)


def transfer_given_to_nobody(it: Life) -> str:
    t = it.payment("short")
    t.invoice_id, t.allocation, t.reason = None, "unmatched", "no_invoice"
    return str(t.id)


def transfer_of_zero_matched(it: Life) -> str:
    t = it.zero()
    t.invoice_id, t.allocation, t.reason = it.made["short"].id, "invoice", None
    return str(t.id)


def transfer_of_money_ignored(it: Life) -> str:
    t = it.surplus()
    t.reason = "ignored_zero"
    return str(t.id)


def cursor_short_of_the_final_height(it: Life) -> str:
    it.truth.chains = {n: replace(c, final_height=c.final_height + (n == "base")) for n, c in it.truth.chains.items()}
    return "base"


def cursor_past_the_final_height(it: Life) -> str:
    chain = it.truth.chains["base"]
    block = chain.chain.block_at(chain.final_height + 1)
    assert block is not None
    it.chain("base").settled_number, it.chain("base").settled_hash = block.ref.number, block.ref.hash
    it.chain("base").settled_time = block.ref.time
    return "base"


def cursor_on_another_fork(it: Life) -> str:
    it.chain().settled_hash = bytes(32)
    return "anvil"


def cursor_ahead_of_the_first_reading(it: Life) -> str:
    it.chain().scanned_number = it.chain().settled_number - 1
    return "anvil"


def header_of_another_fork(it: Life) -> str:
    next(b for b in it.rows.blocks if b.chain_id == 31337).hash = bytes(32)
    return "anvil"


def chain_halted_for_nothing(it: Life) -> str:
    it.chain().halted_at, it.chain().halt_reason = BEFORE, "a provider said so"
    return "anvil"


def settled_without_a_settlement(it: Life) -> str:
    it.invoice("waiting").status = "settled"
    return str(it.made["waiting"].id)


def settled_and_called_expired(it: Life) -> str:
    it.invoice("paid").status = "expired"
    return str(it.made["paid"].id)


def paid_and_not_settled(it: Life) -> str:
    invoice, s = it.invoice("paid"), it.settlement("paid")
    it.rows.settlements.remove(s)
    it.rows.settlement_lines = [line for line in it.rows.settlement_lines if line.settlement_id != s.id]
    invoice.status, invoice.settlement_id, invoice.settled_at = "expired", None, None
    return str(invoice.id)


def settled_twice(it: Life) -> str:
    again = copy.copy(it.settlement("paid"))
    again.id, again.generation = "stl_again", 2
    line = copy.copy(it.line("paid"))
    line.settlement_id = "stl_again"
    it.rows.settlements.append(again)
    it.rows.settlement_lines.append(line)
    return "stl_again"


def settled_with_a_part(it: Life) -> str:
    s, line = it.settlement("paid"), it.line("paid")
    s.amount_settled -= 1
    line.amount_settled -= 1
    line.amount_surplus += 1
    s.amount_surplus += 1
    return str(s.id)


def settled_with_more_than_came(it: Life) -> str:
    line, s = it.line("over"), it.settlement("over")
    line.amount_surplus += 1
    s.amount_surplus += 1
    return str(s.id)


def settled_on_late_money(it: Life) -> str:
    it.truth.invoices = {
        id_: replace(t, invoice=replace(t.invoice, expires_at=BEFORE)) if id_ == it.made["paid"].id else t
        for id_, t in it.truth.invoices.items()
    }
    return str(it.settlement("paid").id)


def settled_on_the_wrong_payment(it: Life) -> str:
    line, t = it.line("paid"), it.payment("short")
    for name in ("tx_hash", "log_index", "block_number", "block_hash"):
        setattr(line, name, getattr(t, name))
    return str(it.settlement("paid").id)


def settled_under_other_terms(it: Life) -> str:
    it.invoice("paid").amount -= 1
    return str(it.made["paid"].id)


def reversed_for_nothing(it: Life) -> str:
    s = it.settlement("paid")
    it.rows.reversals.append(SimpleNamespace(id="rev_x", settlement_id=s.id, reason="", reversed_at=BEFORE))
    return str(s.id)


def entry_without_balance(it: Life) -> str:
    line = it.rows.ledger_lines[0]
    line.amount += 1
    return str(line.entry_id)


def receipt_booked_twice(it: Life) -> str:
    t = it.surplus()
    entry = next(line.entry_id for line in it.rows.ledger_lines if line.transfer_id == t.id)
    it.rows.ledger_entries.append(SimpleNamespace(id="lge_x", kind="receipt", ref="x", posted_at=BEFORE))
    for line in [line for line in it.rows.ledger_lines if line.entry_id == entry]:
        again = copy.copy(line)
        again.entry_id = "lge_x"
        it.rows.ledger_lines.append(again)
    return str(t.id)


def receipt_never_booked(it: Life) -> str:
    t = it.surplus()
    entry = next(line.entry_id for line in it.rows.ledger_lines if line.transfer_id == t.id)
    it.rows.ledger_lines = [line for line in it.rows.ledger_lines if line.entry_id != entry]
    return str(t.id)


def settlement_never_booked(it: Life) -> str:
    s = it.settlement("over")
    entry = next(line.entry_id for line in it.rows.ledger_lines if line.settlement_id == s.id)
    it.rows.ledger_lines = [line for line in it.rows.ledger_lines if line.entry_id != entry]
    return str(it.payment("over").id)


def canceled_by_nobody(it: Life) -> str:
    it.truth.actions.clear()
    return str(it.made["canceled"].id)


def canceled_and_not_done(it: Life) -> str:
    it.invoice("canceled").status = "expired"
    return str(it.made["canceled"].id)


def canceled_and_not_audited(it: Life) -> str:
    it.rows.operator_actions.clear()
    return str(it.made["canceled"].id)


def assigned_by_nobody(it: Life) -> str:
    t = it.surplus()
    t.invoice_id, t.allocation, t.reason = it.made["waiting"].id, "invoice", None
    t.evidence = {"strategy": "assigned"}
    return str(t.id)


def dismissed_by_nobody(it: Life) -> str:
    t = it.surplus()
    t.allocation, t.reason = "dismissed", None
    return str(t.id)


def marked_by_nobody(it: Life) -> str:
    it.settlement("paid").policy = {"marked": {"by": "eve"}}
    return str(it.settlement("paid").id)


def asked_for_by_nobody(it: Life) -> str:
    del it.truth.invoices[it.made["waiting"].id]
    return str(it.made["waiting"].id)


def invoice_lost(it: Life) -> str:
    row = it.invoice("waiting")
    it.rows.invoices.remove(row)
    return str(row.id)


def expired_and_left_pending(it: Life) -> str:
    it.invoice("waiting").status = "pending"
    return str(it.made["waiting"].id)


def short_and_not_said(it: Life) -> str:
    it.invoice("short").exceptions = " "
    return str(it.made["short"].id)


def settled_in_time_and_called_late(it: Life) -> str:
    it.invoice("paid").exceptions = " late "
    return str(it.made["paid"].id)


def overpaid_and_not_said(it: Life) -> str:
    it.invoice("over").exceptions = " "
    return str(it.made["over"].id)


def change_never_told(it: Life) -> str:
    id_ = it.made["paid"].id
    it.rows.events.remove(it.event("invoice.settled", id_))
    return str(id_)


def change_told_twice(it: Life) -> str:
    id_ = it.made["paid"].id
    again = copy.copy(it.event("invoice.settled", id_))
    again.id, again.seq, again.version = "evt_again", 10_000, again.version + 1
    again.data = {**again.data, "version": again.version}
    it.rows.events.append(again)
    return str(id_)


def payment_never_told_final(it: Life) -> str:
    id_ = it.payment("paid").id
    it.rows.events.remove(it.event("payment.final", id_))
    return str(id_)


def zero_told(it: Life) -> str:
    told = copy.copy(it.event("payment.final", it.payment("paid").id))
    told.id, told.seq, told.object_id = "evt_zero", 10_001, it.zero().id
    told.data = {**told.data, "id": told.object_id}
    it.rows.events.append(told)
    return str(it.zero().id)


def settlement_told_twice(it: Life) -> str:
    s = it.settlement("paid")
    again = copy.copy(it.event("settlement.created", s.id))
    again.id, again.seq = "evt_again", 10_000
    it.rows.events.append(again)
    return str(s.id)


def event_shows_another_state(it: Life) -> str:
    e = it.event("invoice.settled", it.made["paid"].id)
    e.data = {**e.data, "status": "processing"}
    return str(e.id)


def event_without_a_place(it: Life) -> str:
    it.rows.events[3].position = None
    return str(it.rows.events[3].id)


def event_left_in_the_outbox(it: Life) -> str:
    it.rows.events[3].is_fanned_out = False
    return str(it.rows.events[3].id)


def webhook_never_made(it: Life) -> str:
    it.rows.webhook_deliveries.pop()
    return ENDPOINT


def webhook_left_pending(it: Life) -> str:
    d = it.rows.webhook_deliveries[0]
    d.status, d.claimed_until = "pending", BEFORE
    return str(d.id)


def webhook_never_arrived(it: Life) -> str:
    d = it.rows.webhook_deliveries[0]
    del it.truth.endpoints[ENDPOINT].processed[d.event_id]
    return str(d.id)


def webhook_given_up_too_soon(it: Life) -> str:
    d = it.rows.webhook_deliveries[0]
    d.status, d.attempts = "dead", 3
    it.truth.endpoints[ENDPOINT].refused[d.event_id] = 3
    return str(d.id)


def webhook_of_no_event(it: Life) -> str:
    it.truth.endpoints[ENDPOINT].processed["evt_unheard"] = 1  # type: ignore[index] # of no event
    return ENDPOINT


WRONGS: dict[Invariant, tuple[Spoil, ...]] = {
    Invariant.I1: (
        transfer_forgotten,
        transfer_left_detected,
        transfer_orphaned_that_stands,
        transfer_invented,
    ),
    Invariant.I2: (
        transfer_given_to_nobody,
        settled_without_a_settlement,
        settled_and_called_expired,
        paid_and_not_settled,
        settled_twice,
        settled_with_a_part,
        settled_on_late_money,
        canceled_by_nobody,
        canceled_and_not_done,
        expired_and_left_pending,
        short_and_not_said,
        settled_in_time_and_called_late,
        overpaid_and_not_said,
    ),
    Invariant.I3: (
        transfer_of_another_fork,
        reversed_for_nothing,
    ),
    Invariant.I4: (
        entry_without_balance,
        receipt_booked_twice,
        receipt_never_booked,
        settlement_never_booked,
    ),
    Invariant.I6: (
        change_never_told,
        change_told_twice,
        payment_never_told_final,
        zero_told,
        settlement_told_twice,
        event_shows_another_state,
        event_without_a_place,
        event_left_in_the_outbox,
        webhook_never_made,
        webhook_left_pending,
        webhook_never_arrived,
        webhook_given_up_too_soon,
        webhook_of_no_event,
    ),
    Invariant.I7: (
        cursor_short_of_the_final_height,
        cursor_past_the_final_height,
        cursor_on_another_fork,
        cursor_ahead_of_the_first_reading,
        header_of_another_fork,
        chain_halted_for_nothing,
    ),
    Invariant.I8: (
        transfer_moved,
        transfer_antedated,
        transfer_of_a_worthless_token,
        transfer_to_nobody_watched,
        transfer_given_to_another,
        transfer_of_zero_matched,
        transfer_of_money_ignored,
        settled_with_more_than_came,
        settled_on_the_wrong_payment,
        settled_under_other_terms,
        canceled_and_not_audited,
        assigned_by_nobody,
        dismissed_by_nobody,
        marked_by_nobody,
        asked_for_by_nobody,
        invoice_lost,
    ),
}


@pytest.mark.parametrize(
    ("invariant", "spoil"),
    [pytest.param(i, spoil, id=f"{i}: {spoil.__name__}") for i, spoils in WRONGS.items() for spoil in spoils],
)
def test_rest__one_thing_wrong__is_found(lived: Life, invariant: Invariant, spoil: Spoil) -> None:
    it = lived.copied()
    subject = spoil(it)
    found = it.judge()
    assert (invariant, subject) in {(v.invariant, v.subject) for v in found}, "\n".join(map(str, found))


def test_digest__rows_in_another_order__is_equal_and_of_other_rows_is_not(lived: Life) -> None:
    it = lived.copied()
    it.rows.transfers.reverse()
    assert digest(it.rows) == digest(lived.rows)
    it.surplus().log_index += 1
    assert digest(it.rows) != digest(lived.rows)


# -- looks one after the other -----------------------------------------------------------------------------------------


def looked_at(it: Life) -> Checker:
    """A checker that has seen all rows, and found nothing."""
    checker = Checker(it.truth)
    assert checker.step(it.rows) == []
    return checker


def test_step__only_what_changed_is_shown__is_judged_with_what_was_seen(lived: Life) -> None:
    it = lived.copied()
    checker = looked_at(it)
    line = copy.copy(it.line("paid"))
    line.settlement_id = "stl_again"
    again = copy.copy(it.settlement("paid"))
    again.id, again.generation = "stl_again", 2
    found = checker.step(Rows(settlements=[again], settlement_lines=[line]))
    assert (Invariant.I2, "stl_again") in {(v.invariant, v.subject) for v in found}


def test_step__cursor_moves_back_without_a_violation__is_found(lived: Life) -> None:
    it = lived.copied()
    checker = looked_at(it)
    chain = it.truth.chains["anvil"].chain
    before = chain.block_at(it.chain().settled_number - 1)
    assert before is not None
    row = copy.copy(it.chain())
    row.settled_number, row.settled_hash, row.settled_time = before.ref.number, before.ref.hash, before.ref.time
    (found,) = [v for v in checker.step(Rows(chains=[row])) if "moved back" in v.detail]
    assert (found.invariant, found.subject) == (Invariant.I7, "anvil")


def test_step__cursor_goes_on_and_what_it_passed_is_not_recorded__is_found(lived: Life) -> None:
    """The cursor committed before the facts."""
    it = lived.copied()
    late = it.surplus()
    row = copy.copy(it.chain())
    block = it.truth.chains["anvil"].chain.block_at(late.block_number - 1)
    assert block is not None
    it.rows.transfers = [t for t in it.rows.transfers if t.block_number < late.block_number or t.chain_id != 31337]
    for name in ("settled", "scanned"):
        for what in ("number", "hash", "time"):
            setattr(it.chain(), f"{name}_{what}", getattr(block.ref, what))
    checker = Checker(it.truth)
    checker.step(it.rows)
    found = checker.step(Rows(chains=[row]))
    assert [v.invariant for v in found] == [Invariant.I1] * len(found)
    assert f"chain 31337, 0x{late.tx_hash.hex()[:16]}…:{late.log_index}" in {v.subject for v in found}


def test_rest__row_of_an_append_only_table_changed_or_gone__is_found(lived: Life) -> None:
    it = lived.copied()
    checker = looked_at(it)
    changed, gone = it.rows.ledger_entries[0], it.rows.ledger_entries[1]
    it.rows.ledger_entries = [*it.rows.ledger_entries[2:], copy.copy(changed)]
    it.rows.ledger_entries[-1].ref = "something else"
    found = {(v.invariant, v.subject, v.detail) for v in checker.rest(it.rows)}
    assert (Invariant.I8, f"ledger_entries {changed.id}", "was changed") in found
    assert (Invariant.I8, f"ledger_entries {gone.id}", "is gone") in found


# -- a chain that breaks its finality ----------------------------------------------------------------------------------


async def broken(db: Database, *, drop_all: bool) -> tuple[Lived, Invoice]:
    """A settled invoice, and the chain that replaced the block it was paid in, halted."""
    lived = await Lived.on(db)
    invoice = await lived.ask()
    lived.world.pay(invoice)
    lived.mine()
    await lived.catch_up()
    lived.break_finality(4, drop_all=drop_all)
    await lived.look()
    await lived.look_until_halted()
    return lived, invoice


@pytest.mark.parametrize("drop_all", [True, False])
async def test_violation_of_finality__dealt_with_as_promised__nothing_is_wrong(db: Database, drop_all: bool) -> None:
    lived, invoice = await broken(db, drop_all=drop_all)
    await lived.resume()
    lived.mine()
    await lived.catch_up()
    assert await lived.world.status(invoice) == ("reversed" if drop_all else "settled")
    assert lived.found == []
    assert lived.checker.rest(lived.rows()) == []


@pytest.fixture(scope="module")
def halted() -> Life:
    """What is left where the settled payment of a broken chain is gone, before an operator resumed it."""

    async def live() -> Life:
        async with memory() as db:
            lived, invoice = await broken(db, drop_all=True)
            return Life(truth=lived.truth, rows=lived.rows(), made={"paid": invoice}, found=lived.found)

    return asyncio.run(live())


def test_violation_of_finality__no_reversal__is_found(halted: Life) -> None:
    it = halted.copied()
    it.rows.reversals.clear()
    found = {(v.invariant, v.subject) for v in it.judge()}
    assert (Invariant.I3, it.settlement("paid").id) in found


def test_violation_of_finality__records_left_final__is_found(halted: Life) -> None:
    it = halted.copied()
    (transfer,) = it.rows.transfers
    transfer.status = "final"
    assert (Invariant.I3, transfer.id) in {(v.invariant, v.subject) for v in it.judge()}


def test_violation_of_finality__halted_at_rest__is_found(halted: Life) -> None:
    found = [v for v in halted.copied().judge() if "is halted at rest" in v.detail]
    assert [v.subject for v in found] == ["anvil"]


async def test_violation_of_finality__went_on_without_an_operator__is_found(db: Database) -> None:
    lived, _ = await broken(db, drop_all=True)
    await lived.resume()
    lived.truth.actions.clear()
    lived.mine()
    await lived.catch_up()
    found = [v for v in lived.checker.rest(lived.rows()) if v.subject == "anvil"]
    assert [v.detail for v in found] == ["went on 1 times after a violation, was resumed 0 times"]


# -- late money and tolerance ------------------------------------------------------------------------------------------


async def test_late_money_accepted_by_the_rules__settled__nothing_is_wrong_but_by_stricter_rules(
    db: Database,
) -> None:
    lived = await Lived.on(db, late="accept")
    made = await lived.one_of_each()
    assert await lived.world.status(made["late"]) == "settled"
    assert lived.found == []
    assert lived.judge() == []
    lived.truth.rules = Rules(accepts_late=False)
    (settlement,) = [s for s in lived.rows().settlements if s.invoice_id == made["late"].id]
    assert (Invariant.I2, settlement.id) in {(v.invariant, v.subject) for v in lived.judge()}
