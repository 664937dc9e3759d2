"""Defects of deciding: whose money it is, whether it is enough and in time, and how it is booked."""

from __future__ import annotations

from settler.domain.invoices import Match
from tests.simulation.defects_needs import (
    both,
    has_choice_of_chains,
    has_decision,
    has_habit,
    has_match,
    has_two_tokens,
    has_whole_lives,
)
from tests.simulation.defects_planting import Stage, defect, edit


@defect(Stage.MATCH, both(has_habit("another token"), has_two_tokens))
def takes_any_token() -> None:
    """What arrives at an invoice's address on its chain pays it, in whatever configured token."""
    edit(
        "settler.domain.matching:_is_same_asset",
        "return (option.chain_id, option.token_address) == (identity.chain_id, identity.token)",
        "return option.chain_id == identity.chain_id",
    )


@defect(Stage.MATCH, has_habit("twice"))
def pays_settled_invoices_again() -> None:
    """An invoice that is settled still takes money."""
    edit(
        "settler.domain.matching:_fits", "invoice.status in _OPEN", "invoice.status in {*_OPEN, InvoiceStatus.SETTLED}"
    )


@defect(Stage.MATCH, has_decision("cancel"))
def pays_canceled_invoices() -> None:
    """An invoice that its merchant took back still takes money."""
    edit(
        "settler.domain.matching:_fits", "invoice.status in _OPEN", "invoice.status in {*_OPEN, InvoiceStatus.CANCELED}"
    )


@defect(Stage.MATCH, has_match(Match.PAYER))
def takes_any_sender() -> None:
    """On a shared address the amount alone decides, also where a payer is expected."""
    edit("settler.domain.matching:_has_key", "return option.payer == identity.sender and off", "return off")


@defect(Stage.MATCH, has_match(Match.PAYER))
def takes_the_first_of_several() -> None:
    """A payment that may be for several invoices goes to the oldest, instead of to suspense."""
    edit("settler.domain.matching:match", "if len(fitting) == 1:", "if fitting:")


@defect(Stage.MATCH, both(has_habit("very late"), has_whole_lives))
def never_stops_monitoring() -> None:
    """Money pays an invoice however late it comes."""
    edit("settler.domain.matching:_fits", "and arrival.block_time <= invoice.monitoring_until", "and True")


@defect(Stage.MATCH, has_habit("zero value"))
def counts_what_moves_nothing() -> None:
    """Transfers of nothing are payments of nothing."""
    edit("settler.domain.matching:match", "identity.amount == 0 or identity.sender == identity.recipient", "False")


@defect(Stage.MATCH, both(has_match(Match.AMOUNT), has_whole_lives))
def gives_unique_amounts_out_again_too_soon() -> None:
    """A unique amount is free again when its invoice expires, not when its monitoring ends."""
    edit(
        "settler.storage.invoices:reserve_amounts",
        '"reserved_until": invoice.monitoring_until',
        '"reserved_until": invoice.expires_at',
    )


@defect(Stage.MATCH)
def overlooks_payments_below_the_head() -> None:
    """A new invoice takes nothing up to the newest block that was seen: a fork may put its payment below."""
    edit("settler.storage.invoicing:_from_block", "[] if is_new else", "[] if False else")


@defect(Stage.ASSESS)
def settles_what_is_only_seen() -> None:
    """Payments that are not final settle invoices."""
    edit("settler.domain.settlement:assess", "_as_it_came([t for t in counted if t.is_final])", "_as_it_came(counted)")


@defect(Stage.ASSESS, faults=("clock jump",))
def is_late_by_our_clock() -> None:
    """Whether a payment came in time is decided by when it was recorded, not by its block."""
    edit("settler.domain.settlement:is_late", "transfer.block_time", "transfer.recorded_at")


@defect(Stage.ASSESS)
def expires_by_our_clock() -> None:
    """An invoice expires when its chain was last heard of after its time, however far it was read."""
    edit("settler.stages.assessing:_scanned_to", "states[o.chain_id].scanned_time", "states[o.chain_id].updated_at")
    _looks_at_all_that_pend()


@defect(Stage.ASSESS, has_choice_of_chains)
def expires_when_one_chain_is_past() -> None:
    """Of several chains an invoice may be paid on, the fastest decides that its time is over."""
    edit(
        "settler.stages.assessing:_scanned_to",
        "return min(read) if len(read) == len(times) else None",
        "return max(read, default=None)",
    )
    _looks_at_all_that_pend()


@defect(Stage.ASSESS, both(has_habit("late"), lambda plan: plan.late == "hold"))
def accepts_all_late_money() -> None:
    """What came late settles, also where an operator is to decide about it."""
    edit("settler.domain.settlement:assess", "policy.late is LatePolicy.ACCEPT", "True")


@defect(Stage.ASSESS, both(has_habit("too little", "in parts"), lambda plan: plan.tolerance_bps > 0))
def allows_the_tolerance_for_each_part() -> None:
    """What may be missing from an invoice may be missing from each of its payments."""
    edit(
        "settler.domain.settlement:assess",
        "due(invoice, paid) - missable",
        "due(invoice, paid) - missable * 2 * len(paid)",
    )


@defect(Stage.ASSESS, has_decision("hold"))
def ignores_holds() -> None:
    """What an operator stopped settles all the same."""
    edit("settler.domain.settlement:_stops", "kept = {stop for stop in standing if", "kept = {stop for stop in () if")


@defect(Stage.ASSESS, has_two_tokens)
def takes_every_token_for_one_of_six_decimals() -> None:
    """Amounts are rescaled as if each token had the decimals of the most common one."""
    edit(
        "settler.domain.settlement:received",
        "t.identity.amount if t.decimals == scale else rescale_exact(t.identity.amount, t.decimals, scale)",
        "rescale_exact(t.identity.amount, 6, scale)",
    )


@defect(Stage.ASSESS, has_habit("twice", "in parts"))
def leaves_what_came_after_the_settlement() -> None:
    """Payments a settlement does not rest on stay with its invoice, instead of going to suspense."""
    edit("settler.stages.assessing:_left_over", "if t.is_canonical and t.id not in used", "if False")


@defect(Stage.ASSESS, has_habit("twice", "too much", "in parts"))
def settles_with_all_that_is_known() -> None:
    """A settlement rests on every final payment there is, not on those that made it due."""
    edit(
        "settler.domain.settlement:assess",
        "_as_it_came([t for t in counted if t.is_final])",
        "[[t for t in counted if t.is_final]]",
    )


@defect(Stage.BOOK, has_habit("too much"))
def settles_the_surplus_too() -> None:
    """What was paid too much is booked as owed."""
    edit(
        "settler.domain.settlement:_parts",
        "settled = min(t.identity.amount, rescale_up(missing, invoice.scale, t.decimals))",
        "settled = t.identity.amount",
    )


@defect(Stage.BOOK)
def books_only_what_pays_an_invoice() -> None:
    """Money in suspense is in no book."""
    edit("settler.stages.recording:post_receipts", "if moves_money(t)", "if t.invoice_id is not None")


@defect(Stage.BOOK, faults=("reorg past finality",))
def undoes_no_booking() -> None:
    """A payment that a violation of finality took back stays in the books."""
    edit("settler.stages.halt:_orphan", "    await unbook(conn, vanished, now=now)\n", "")


@defect(Stage.BOOK, faults=("reorg past finality",))
def reverses_without_booking() -> None:
    """A settlement is reversed, and the ledger still says it is settled."""
    edit("settler.stages.undoing:reverse", "    await ledger_store.post(conn, entries, now=now)\n", "")


@defect(Stage.OPERATE, has_decision("dismiss"))
def dismisses_without_a_word_in_the_log() -> None:
    """Who took money out of the queue is in no audit log."""
    edit("settler.stages.operating:Operating.dismiss", '        await _audit(conn, "transfer.dismiss", id_, by)\n', "")


@defect(Stage.OPERATE, has_decision("cancel"))
def cancels_and_keeps_the_money() -> None:
    """What was paid on an invoice stays with it when it is canceled."""
    edit("settler.stages.operating:Operating.cancel", "for t in locked.payments", "for t in ()")


def _looks_at_all_that_pend() -> None:
    """Expiry is asked of every pending invoice, not only of those that the database finds due."""
    edit(
        "settler.stages.expire:Expire.tick",
        "            due: list[InvoiceId] = await invoices.due_for_expiry(conn, BATCH)\n",
        "            from settler.domain.invoices import InvoiceStatus\n"
        "            due = [i.id for i in await invoices.find(conn, status=InvoiceStatus.PENDING, limit=BATCH)]\n",
    )
