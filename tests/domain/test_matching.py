from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chains.model import Address, BaseUnits, BlockNumber
from settler.domain.invoices import Invoice, InvoiceStatus, Match, Option, UnmatchedReason
from settler.domain.matching import Arrival, Candidates, Matched, Result, Unmatched, match
from settler.domain.settlement import InvoicePolicy
from tests.domain.samples import (
    CHAIN,
    DAI,
    EXPIRES,
    MONITORED,
    OTHER_CHAIN,
    PAYER,
    SHOP,
    T0,
    USDC,
    an_identity,
    an_invoice,
    an_option,
)

KEY = b"\x0e" * 32
EXACT = InvoicePolicy()
OPEN = [InvoiceStatus.PENDING, InvoiceStatus.PROCESSING, InvoiceStatus.EXPIRED, InvoiceStatus.REVERSED]
IN_TIME = T0 + timedelta(minutes=1)


def an_arrival(**changes: Any) -> Arrival:
    at = changes.pop("block_time", IN_TIME)
    number = changes.pop("block_number", 1_000)
    keys = frozenset(changes.pop("keys", ()))
    return Arrival(identity=an_identity(**changes), block_number=BlockNumber(number), block_time=at, keys=keys)


def by_amount(tail: int, **changes: Any) -> Option:
    return an_option(
        match=Match.AMOUNT, amount_base=BaseUnits(100_000_000 + tail), tail_base=BaseUnits(tail), **changes
    )


def matched(
    arrival: Arrival, *invoices: Invoice, policy: InvoicePolicy = EXACT, named: Sequence[Invoice] = (), **flags: bool
) -> Result:
    ids = frozenset(i.id for i in named)
    return match(arrival, Candidates(invoices=(*named, *invoices), named=ids, **flags), policy=policy)


def by_reference(**changes: Any) -> Option:
    return an_option(match=Match.REFERENCE, reference=KEY, **changes)


def by_payer(**changes: Any) -> Option:
    return an_option(**({"match": Match.PAYER, "payer": PAYER} | changes))


@pytest.mark.parametrize("status", OPEN)
def test_match__own_address__is_the_open_invoice(status: InvoiceStatus) -> None:
    invoice = an_invoice(status=status)
    assert matched(an_arrival(), invoice) == Matched(
        invoice_id=invoice.id, strategy=Match.ADDRESS, candidates=(invoice.id,)
    )


@pytest.mark.parametrize("amount", [1, 99_999_999, 100_000_001, 2**256 - 1])
def test_match__own_address__any_amount_is_a_payment(amount: int) -> None:
    assert isinstance(matched(an_arrival(amount=BaseUnits(amount)), an_invoice()), Matched)


@pytest.mark.parametrize("changes", [{"amount": BaseUnits(0)}, {"sender": SHOP}])
def test_match__moves_no_money__is_ignored(changes: dict[str, Any]) -> None:
    assert matched(an_arrival(**changes), an_invoice()) == Unmatched(reason=UnmatchedReason.IGNORED_ZERO)


def test_match__nobody_there__no_invoice() -> None:
    assert matched(an_arrival()) == Unmatched(reason=UnmatchedReason.NO_INVOICE)


def test_match__two_open_on_one_address__is_ambiguous() -> None:
    two = an_invoice(), an_invoice()
    assert matched(an_arrival(), *two) == Unmatched(
        reason=UnmatchedReason.AMBIGUOUS, candidates=tuple(i.id for i in two)
    )


def test_match__one_open_one_closed_on_one_address__is_the_open_one() -> None:
    closed = an_invoice(status=InvoiceStatus.SETTLED), an_invoice(status=InvoiceStatus.CANCELED)
    open_ = an_invoice()
    result = matched(an_arrival(), *closed, open_)
    assert isinstance(result, Matched)
    assert result.invoice_id == open_.id


def test_match__settled_invoice__is_surplus() -> None:
    settled = an_invoice(status=InvoiceStatus.SETTLED)
    assert matched(an_arrival(), settled) == Unmatched(reason=UnmatchedReason.SURPLUS, candidates=(settled.id,))


def test_match__canceled_invoice__no_invoice() -> None:
    assert matched(an_arrival(), an_invoice(status=InvoiceStatus.CANCELED)) == Unmatched(
        reason=UnmatchedReason.NO_INVOICE
    )


def test_match__monitoring_ends_with_the_block_at_its_very_end() -> None:
    invoice = an_invoice(status=InvoiceStatus.EXPIRED)
    assert isinstance(matched(an_arrival(block_time=EXPIRES + timedelta(seconds=1)), invoice), Matched)
    assert isinstance(matched(an_arrival(block_time=MONITORED), invoice), Matched)
    late = matched(an_arrival(block_time=MONITORED + timedelta(seconds=1)), invoice)
    assert late == Unmatched(reason=UnmatchedReason.LATE, candidates=(invoice.id,))


@pytest.mark.parametrize(("number", "is_matched"), [(999, False), (1_000, False), (1_001, True)])
def test_match__money_older_than_the_invoice__is_not_meant_for_it(number: int, is_matched: bool) -> None:
    result = matched(an_arrival(block_number=number), an_invoice(an_option(from_block=BlockNumber(1_000))))
    assert isinstance(result, Matched) is is_matched
    if isinstance(result, Unmatched):
        assert result.reason is UnmatchedReason.NO_INVOICE


@pytest.mark.parametrize("changes", [{"token": DAI}, {"chain_id": OTHER_CHAIN}])
def test_match__other_token_or_chain__is_wrong_asset(changes: dict[str, Any]) -> None:
    invoice = an_invoice()
    assert matched(an_arrival(**changes), invoice) == Unmatched(
        reason=UnmatchedReason.WRONG_ASSET, candidates=(invoice.id,)
    )


@pytest.mark.parametrize("status", [InvoiceStatus.SETTLED, InvoiceStatus.CANCELED])
def test_match__other_token_and_nobody_waiting__no_invoice(status: InvoiceStatus) -> None:
    assert matched(an_arrival(token=DAI), an_invoice(status=status)) == Unmatched(reason=UnmatchedReason.NO_INVOICE)


def test_match__unique_amount__exact_only() -> None:
    invoice = an_invoice(by_amount(7))
    exact = matched(an_arrival(amount=BaseUnits(100_000_007)), invoice)
    assert exact == Matched(invoice_id=invoice.id, strategy=Match.AMOUNT, candidates=(invoice.id,))
    for amount in (100_000_000, 100_000_006, 100_000_008):
        wrong = matched(an_arrival(amount=BaseUnits(amount)), shares_address_same_asset=True)
        assert wrong == Unmatched(reason=UnmatchedReason.WRONG_AMOUNT)


def test_match__unique_amount_of_a_settled_invoice__is_surplus() -> None:
    settled = an_invoice(by_amount(7), status=InvoiceStatus.SETTLED)
    result = matched(an_arrival(amount=BaseUnits(100_000_007)), settled, shares_address_same_asset=True)
    assert result == Unmatched(reason=UnmatchedReason.SURPLUS, candidates=(settled.id,))


def test_match__shared_address_in_another_token__is_wrong_asset() -> None:
    assert matched(an_arrival(token=DAI), shares_address_other_asset=True) == Unmatched(
        reason=UnmatchedReason.WRONG_ASSET
    )


def test_match__address_comes_before_amount() -> None:
    own, shared = an_invoice(), an_invoice(by_amount(7))
    result = matched(an_arrival(amount=BaseUnits(100_000_007)), shared, own)
    assert isinstance(result, Matched)
    assert (result.invoice_id, result.strategy) == (own.id, Match.ADDRESS)


def test_match__ambiguous_by_address__the_amount_may_still_decide() -> None:
    shared = an_invoice(by_amount(7))
    result = matched(an_arrival(amount=BaseUnits(100_000_007)), an_invoice(), an_invoice(), shared)
    assert isinstance(result, Matched)
    assert (result.invoice_id, result.strategy) == (shared.id, Match.AMOUNT)


@pytest.mark.parametrize("status", OPEN)
def test_match__named_by_reference__is_the_open_invoice_whatever_else_would_fit(status: InvoiceStatus) -> None:
    invoice = an_invoice(by_reference(), status=status)
    result = matched(an_arrival(keys=[KEY]), an_invoice(), an_invoice(by_payer()), named=[invoice])
    assert result == Matched(invoice_id=invoice.id, strategy=Match.REFERENCE, candidates=(invoice.id,))


def test_match__named_by_reference__any_amount_is_a_payment() -> None:
    assert isinstance(matched(an_arrival(amount=BaseUnits(1)), named=[an_invoice(by_reference())]), Matched)


@pytest.mark.parametrize(
    ("status", "reason"),
    [(InvoiceStatus.SETTLED, UnmatchedReason.SURPLUS), (InvoiceStatus.CANCELED, UnmatchedReason.NO_INVOICE)],
)
def test_match__reference_of_a_closed_invoice__is_not_given_to_another(
    status: InvoiceStatus, reason: UnmatchedReason
) -> None:
    """Who pays with a reference said what for: the amount being another invoice's does not make it that one's."""
    closed = an_invoice(by_reference(), status=status)
    result = matched(an_arrival(), an_invoice(), named=[closed])
    assert result == Unmatched(reason=reason, candidates=(closed.id,))


def test_match__reference_of_another_asset__is_wrong_asset() -> None:
    invoice = an_invoice(by_reference())
    for changes in ({"token": DAI}, {"chain_id": OTHER_CHAIN}):
        result = matched(an_arrival(**changes), an_invoice(), named=[invoice])
        assert result == Unmatched(reason=UnmatchedReason.WRONG_ASSET, candidates=(invoice.id,))


def test_match__two_references_of_two_invoices__is_ambiguous() -> None:
    two = [an_invoice(by_reference()), an_invoice(by_reference())]
    result = matched(an_arrival(), an_invoice(), named=two)
    assert result == Unmatched(reason=UnmatchedReason.AMBIGUOUS, candidates=tuple(i.id for i in two))


def test_match__same_nonce_from_another_payer__is_not_named_by_it() -> None:
    expects_other = an_invoice(by_reference(payer=SHOP))
    own = an_invoice()
    result = matched(an_arrival(sender=PAYER), own, named=[expects_other])
    assert result == Matched(invoice_id=own.id, strategy=Match.ADDRESS, candidates=(own.id,))
    assert matched(an_arrival(), named=[expects_other]) == Unmatched(reason=UnmatchedReason.NO_INVOICE)
    expects_this = an_invoice(by_reference(payer=PAYER))
    assert isinstance(matched(an_arrival(sender=PAYER), named=[expects_this]), Matched)


def test_match__reference_at_another_address__names_nothing() -> None:
    elsewhere = an_invoice(by_reference(pay_to=DAI))
    assert matched(an_arrival(), named=[elsewhere]) == Unmatched(reason=UnmatchedReason.NO_INVOICE)


def test_match__reference_after_monitoring__is_late_and_before_it_was_made__none() -> None:
    invoice = an_invoice(by_reference(from_block=BlockNumber(1_000)))
    late = matched(an_arrival(block_time=MONITORED + timedelta(seconds=1), block_number=1_001), named=[invoice])
    assert late == Unmatched(reason=UnmatchedReason.LATE, candidates=(invoice.id,))
    assert isinstance(matched(an_arrival(block_time=MONITORED, block_number=1_001), named=[invoice]), Matched)
    older = matched(an_arrival(block_number=1_000), named=[invoice])
    assert older == Unmatched(reason=UnmatchedReason.NO_INVOICE, candidates=(invoice.id,))


def test_match__no_reference_where_one_is_expected__no_invoice() -> None:
    assert matched(an_arrival(), an_invoice(by_reference())) == Unmatched(reason=UnmatchedReason.NO_INVOICE)
    other = matched(an_arrival(token=DAI), an_invoice(by_reference()))
    assert other == Unmatched(reason=UnmatchedReason.NO_INVOICE)


def test_match__expected_payer__with_the_amount_asked() -> None:
    invoice, others = an_invoice(by_payer()), an_invoice(by_payer(payer=SHOP))
    result = matched(an_arrival(), others, invoice)
    assert result == Matched(invoice_id=invoice.id, strategy=Match.PAYER, candidates=(invoice.id,))
    assert matched(an_arrival(sender=USDC), others, invoice) == Unmatched(reason=UnmatchedReason.NO_INVOICE)


@pytest.mark.parametrize(
    ("amount", "is_matched"),
    [(98_999_999, False), (99_000_000, True), (101_000_000, True), (101_000_001, False)],
)
def test_match__expected_payer__within_the_tolerance_to_both_sides(amount: int, is_matched: bool) -> None:
    policy = InvoicePolicy(underpayment_tolerance_bps=100, underpayment_tolerance_max=10**20)
    invoice = an_invoice(by_payer())
    result = matched(an_arrival(amount=BaseUnits(amount)), invoice, policy=policy)
    expected = Unmatched(reason=UnmatchedReason.WRONG_AMOUNT, candidates=(invoice.id,))
    assert isinstance(result, Matched) if is_matched else result == expected


def test_match__expected_payer_in_another_asset__is_wrong_asset() -> None:
    invoice = an_invoice(by_payer())
    assert matched(an_arrival(token=DAI), invoice) == Unmatched(
        reason=UnmatchedReason.WRONG_ASSET, candidates=(invoice.id,)
    )


def test_match__expected_payer__before_the_invoice_was_made__no_invoice() -> None:
    invoice = an_invoice(by_payer(from_block=BlockNumber(1_000)))
    for amount in (100_000_000, 5):
        result = matched(an_arrival(block_number=1_000, amount=BaseUnits(amount)), invoice)
        assert result == Unmatched(reason=UnmatchedReason.NO_INVOICE)


def test_match__amount_comes_before_payer__and_two_by_payer_are_ambiguous() -> None:
    shared = an_invoice(by_amount(0))
    result = matched(an_arrival(), an_invoice(by_payer()), shared)
    assert isinstance(result, Matched)
    assert (result.invoice_id, result.strategy) == (shared.id, Match.AMOUNT)
    two = an_invoice(by_payer()), an_invoice(by_payer())
    assert matched(an_arrival(), *two) == Unmatched(
        reason=UnmatchedReason.AMBIGUOUS, candidates=tuple(i.id for i in two)
    )


options = st.builds(
    an_option,
    chain_id=st.sampled_from([CHAIN, OTHER_CHAIN]),
    token_address=st.sampled_from([USDC, DAI]),
    pay_to=st.sampled_from([SHOP, PAYER]),
    match=st.sampled_from([Match.ADDRESS, Match.AMOUNT]),
    amount_base=st.sampled_from([BaseUnits(99), BaseUnits(100)]),
    from_block=st.sampled_from([None, BlockNumber(10), BlockNumber(11)]),
)
invoices = st.builds(
    lambda options, **changes: an_invoice(*options, **changes),
    options=st.lists(options, min_size=1, max_size=3),
    status=st.sampled_from(InvoiceStatus),
    monitoring_until=st.sampled_from([IN_TIME - timedelta(seconds=1), IN_TIME, MONITORED]),
)
arrivals = st.builds(
    an_arrival,
    chain_id=st.sampled_from([CHAIN, OTHER_CHAIN]),
    token=st.sampled_from([USDC, DAI]),
    recipient=st.sampled_from([SHOP, PAYER]),
    sender=st.sampled_from([SHOP, PAYER]),
    amount=st.sampled_from([BaseUnits(0), BaseUnits(99), BaseUnits(100)]),
    block_number=st.sampled_from([10, 11, 12]),
)


@given(
    arrival=arrivals,
    found=st.lists(invoices, max_size=5),
    same=st.booleans(),
    other=st.booleans(),
    shuffled=st.randoms(use_true_random=False),
)
def test_match__any_candidates__one_that_may_take_it_or_none(
    arrival: Arrival, found: list[Invoice], same: bool, other: bool, shuffled: Any
) -> None:
    flags: dict[str, Any] = {"shares_address_same_asset": same, "shares_address_other_asset": other}
    result = matched(arrival, *found, **flags)
    again = list(found)
    shuffled.shuffle(again)
    assert _without_order(matched(arrival, *again, **flags)) == _without_order(result)

    moves = arrival.identity.amount > 0 and arrival.identity.sender != arrival.identity.recipient
    fits = {
        strategy: [i.id for i in found if moves and _may_take(arrival, i, strategy)]
        for strategy in (Match.ADDRESS, Match.AMOUNT)
    }
    sole = next((s for s, ids in fits.items() if len(ids) == 1), None)
    match_ = result if isinstance(result, Matched) else None
    assert (match_.strategy if match_ else None) == sole
    if match_ is not None and sole is not None:
        assert [match_.invoice_id] == fits[sole]
    elif isinstance(result, Unmatched):
        assert (result.reason is UnmatchedReason.AMBIGUOUS) == any(len(ids) > 1 for ids in fits.values())
        assert (result.reason is UnmatchedReason.IGNORED_ZERO) == (not moves)


def _without_order(result: Result) -> Result:
    return replace(result, candidates=tuple(sorted(result.candidates)))


def _may_take(arrival: Arrival, invoice: Invoice, strategy: Match) -> bool:
    """RULES.md section 3, said again in one piece."""
    i = arrival.identity
    asked: Sequence[Option] = [o for o in invoice.options if o.match is strategy]
    return (
        invoice.status not in (InvoiceStatus.SETTLED, InvoiceStatus.CANCELED)
        and arrival.block_time <= invoice.monitoring_until
        and any(
            (o.chain_id, o.token_address, o.pay_to) == (i.chain_id, i.token, Address(i.recipient))
            and arrival.block_number > (-1 if o.from_block is None else o.from_block)
            and (strategy is Match.ADDRESS or o.amount_base == i.amount)
            for o in asked
        )
    )


def test_match__reference_of_one_merchant__takes_nothing_that_is_anothers_without_it() -> None:
    """A reference is public as soon as a payment is sent: who names it may not have been meant."""
    thief = an_invoice(by_reference(), merchant="thief")
    for option in (an_option(), by_amount(0), an_option(match=Match.PAYER, payer=PAYER)):
        shop = an_invoice(option)
        contested = matched(an_arrival(), shop, named=[thief])
        assert contested == Unmatched(reason=UnmatchedReason.AMBIGUOUS, candidates=(thief.id, shop.id))
        own = matched(an_arrival(), replace(shop, merchant="thief"), named=[thief])
        assert isinstance(own, Matched)
        assert (own.invoice_id, own.strategy) == (thief.id, Match.REFERENCE)
    for cannot_take_it in (by_amount(7), an_option(pay_to=PAYER), an_option(match=Match.PAYER, payer=SHOP)):
        assert isinstance(matched(an_arrival(), an_invoice(cannot_take_it), named=[thief]), Matched)
