from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chains.model import Address, BaseUnits, BlockHash, BlockNumber
from settler.domain.invoices import Invoice, InvoiceException, InvoiceStatus, Match, TransferRecord, TransferStatus
from settler.domain.money import FINEST_SCALE, rescale_exact
from settler.domain.settlement import (
    Expire,
    Hold,
    HoldReason,
    InvoicePolicy,
    LatePolicy,
    Outcome,
    Processing,
    Settle,
    Stop,
    Waiting,
    assess,
    at_stake,
    due,
    is_late,
    option_of,
    received,
    settled_amount,
)
from tests.domain.samples import (
    DAI,
    EXPIRES,
    OTHER_CHAIN,
    T0,
    a_transfer,
    an_invoice,
    an_option,
)

LATE = EXPIRES + timedelta(seconds=1)
LATE_STOP = Stop(reason=HoldReason.LATE)
MANUAL = frozenset({Stop(reason=HoldReason.MANUAL)})
USD = 10**6
"""In units of the default invoice."""
EXACT = InvoicePolicy()
ACCEPT = InvoicePolicy(late=LatePolicy.ACCEPT)


def tolerant(bps: int, usd: str) -> InvoicePolicy:
    whole, cents = usd.split(".")
    at_most = int(whole + cents) * 10 ** (FINEST_SCALE - len(cents))
    return InvoicePolicy(underpayment_tolerance_bps=bps, underpayment_tolerance_max=at_most)


def assessed(invoice: Invoice, *transfers: TransferRecord, **changes: Any) -> Outcome:
    given_: dict[str, Any] = {"scanned_to": T0, "policy": EXACT} | changes
    return assess(invoice, transfers, **given_)


def amounts(outcome: Outcome) -> list[tuple[int, int]]:
    assert isinstance(outcome, Settle), outcome
    return [(p.settled, p.surplus) for p in outcome.parts]


def test_assess__nothing_came__waits() -> None:
    assert assessed(an_invoice()) == Waiting(exceptions=frozenset())
    assert assessed(an_invoice(), scanned_to=None) == Waiting(exceptions=frozenset())


def test_assess__exact_and_final__settles() -> None:
    outcome = assessed(an_invoice(), a_transfer())
    assert amounts(outcome) == [(100 * USD, 0)]
    assert outcome.exceptions == frozenset()


def test_assess__exact_and_only_detected__is_processing() -> None:
    assert assessed(an_invoice(), a_transfer(status=TransferStatus.DETECTED)) == Processing(exceptions=frozenset())


def test_assess__orphaned__is_no_money() -> None:
    gone = a_transfer(status=TransferStatus.ORPHANED)
    assert assessed(an_invoice(), gone) == Waiting(exceptions=frozenset())
    assert assessed(an_invoice(), gone, scanned_to=LATE) == Expire(exceptions=frozenset())


def test_assess__one_unit_short__waits_then_expires_underpaid() -> None:
    short = a_transfer(100 * USD - 1)
    assert assessed(an_invoice(), short) == Waiting(exceptions=frozenset())
    assert assessed(an_invoice(), short, scanned_to=LATE) == Expire(exceptions=frozenset({InvoiceException.UNDERPAID}))


def test_assess__expiry__only_when_read_past_it() -> None:
    for scanned_to in (None, T0, EXPIRES):
        assert isinstance(assessed(an_invoice(), scanned_to=scanned_to), Waiting)
    assert assessed(an_invoice(), scanned_to=EXPIRES + timedelta(microseconds=1)) == Expire(exceptions=frozenset())


def test_assess__paid_and_not_final_at_expiry__is_processing() -> None:
    detected = a_transfer(status=TransferStatus.DETECTED)
    assert isinstance(assessed(an_invoice(), detected, scanned_to=LATE), Processing)


def test_assess__parts__fill_in_the_order_they_came() -> None:
    second = a_transfer(70 * USD, block_time=T0 + timedelta(minutes=3))
    first = a_transfer(60 * USD, block_time=T0 + timedelta(minutes=2))
    outcome = assessed(an_invoice(), second, first)
    assert isinstance(outcome, Settle)
    assert [p.transfer for p in outcome.parts] == [first, second]
    assert amounts(outcome) == [(60 * USD, 0), (40 * USD, 30 * USD)]
    assert outcome.exceptions == {InvoiceException.OVERPAID}


def test_assess__paid_twice_in_one_block__the_second_is_surplus_of_the_settlement() -> None:
    twice = [a_transfer(log_index=n) for n in (1, 2)]
    assert amounts(assessed(an_invoice(), *twice)) == [(100 * USD, 0), (0, 100 * USD)]


def test_assess__paid_again_in_a_later_block__rests_on_the_first_alone() -> None:
    """An outage must end as if there had been none (I5): watched live, the second payment finds a settled invoice."""
    first = a_transfer(block_time=T0 + timedelta(minutes=1))
    again = a_transfer(block_time=T0 + timedelta(minutes=2), block_hash=BlockHash(b"\x02" * 32))
    outcome = assessed(an_invoice(), again, first)
    assert isinstance(outcome, Settle)
    assert [p.transfer for p in outcome.parts] == [first]
    assert outcome.exceptions == frozenset()


@pytest.mark.parametrize(
    ("policy", "least"),
    [
        (tolerant(0, "5.00"), 100_000_000),
        (tolerant(100, "0.00"), 100_000_000),
        (tolerant(100, "5.00"), 99_000_000),
        (tolerant(1_000, "5.00"), 95_000_000),
        (tolerant(1, "5.00"), 99_990_000),
        (tolerant(1_000, "0.0000009"), 100_000_000),
        (tolerant(1_000, "0.0000019"), 99_999_999),
    ],
)
def test_assess__tolerance__the_smaller_of_share_and_cap_rounded_down(policy: InvoicePolicy, least: int) -> None:
    assert isinstance(assessed(an_invoice(), a_transfer(least), policy=policy), Settle)
    assert isinstance(assessed(an_invoice(), a_transfer(least - 1), policy=policy), Waiting)


def test_assess__within_the_tolerance__settles_what_came_and_no_more() -> None:
    outcome = assessed(an_invoice(), a_transfer(99_500_000), policy=tolerant(100, "1.00"))
    assert amounts(outcome) == [(99_500_000, 0)]


def test_assess__whole_amount_may_be_missing__still_nothing_is_not_paid() -> None:
    """Found by reading: with a tolerance of the whole amount an invoice nobody paid was `Settle` with no parts, and
    its ledger entry without lines stopped every tick that touched it."""
    outcome = assessed(an_invoice(), policy=tolerant(10_000, "1000.00"))
    assert outcome == Waiting(exceptions=frozenset())
    unseen = assessed(an_invoice(), a_transfer(1, status=TransferStatus.DETECTED), policy=tolerant(10_000, "1000.00"))
    assert isinstance(unseen, Processing)


@pytest.mark.parametrize(("seconds", "late"), [(-1, False), (0, False), (1, True)])
def test_is_late__by_block_time__the_very_second_is_in_time(seconds: int, late: bool) -> None:
    at = EXPIRES + timedelta(seconds=seconds)
    assert is_late(an_invoice(), a_transfer(block_time=at)) is late
    assert isinstance(assessed(an_invoice(), a_transfer(block_time=at)), Hold if late else Settle)


def test_assess__late_and_final__is_held_until_released_or_accepted() -> None:
    late = a_transfer(block_time=LATE)
    noted = frozenset({InvoiceException.LATE, InvoiceException.ON_HOLD})
    held = Hold(stops=(LATE_STOP,), is_paid=False, expire=False, exceptions=noted)
    assert assessed(an_invoice(), late) == held
    assert assessed(an_invoice(), late, scanned_to=LATE) == replace(held, expire=True)
    for settled in (
        assessed(an_invoice(), late, policy=ACCEPT),
        assessed(an_invoice(), late, released=frozenset({LATE_STOP})),
        assessed(an_invoice(), replace(late, evidence={"strategy": "assigned"})),
    ):
        assert amounts(settled) == [(100 * USD, 0)]
        assert settled.exceptions == {InvoiceException.LATE}


def test_assess__flagged_payment__is_held_for_each_reason_and_does_not_expire() -> None:
    paid = a_transfer()
    flags = {paid.id: {HoldReason.SANCTIONS: "on the list", HoldReason.DEPEG: "0.97"}}
    depeg = Stop(reason=HoldReason.DEPEG, transfer_id=paid.id)
    sanctions = Stop(reason=HoldReason.SANCTIONS, transfer_id=paid.id)
    on_hold = frozenset({InvoiceException.ON_HOLD})
    held = Hold(stops=(depeg, sanctions), is_paid=True, expire=False, exceptions=on_hold)
    assert assessed(an_invoice(), paid, flags=flags) == held
    assert assessed(an_invoice(), paid, flags=flags, scanned_to=LATE) == held
    assert [s.detail for s in held.stops] == ["", ""]
    outcome = assessed(an_invoice(), paid, flags=flags)
    assert isinstance(outcome, Hold)
    assert [s.detail for s in outcome.stops] == ["0.97", "on the list"]
    left = assessed(an_invoice(), paid, flags=flags, released=frozenset({depeg}))
    assert left == replace(held, stops=(sanctions,))
    assert isinstance(assessed(an_invoice(), paid, flags=flags, released=frozenset({depeg, sanctions})), Settle)


def test_assess__one_payment_let_pass__lets_no_other_pass() -> None:
    first, second = a_transfer(50 * USD), a_transfer(50 * USD)
    flags = {t.id: {HoldReason.SANCTIONS: "on the list"} for t in (first, second)}
    stops = [Stop(reason=HoldReason.SANCTIONS, transfer_id=t.id) for t in (first, second)]
    outcome = assessed(an_invoice(), first, second, flags=flags, released=frozenset(stops[:1]))
    assert isinstance(outcome, Hold)
    assert outcome.stops == (stops[1],)


def test_assess__flag_on_a_payment_it_does_not_rest_on__holds_nothing() -> None:
    paid, more = a_transfer(), a_transfer(1, block_hash=BlockHash(b"\xb1" * 32), block_number=BlockNumber(1_001))
    outcome = assessed(an_invoice(), paid, more, flags={more.id: {HoldReason.SANCTIONS: "on the list"}})
    assert isinstance(outcome, Settle)
    assert [p.transfer for p in outcome.parts] == [paid]


def test_assess__stopped_by_an_operator__is_noted_at_once_and_held_when_paid() -> None:
    on_hold = frozenset({InvoiceException.ON_HOLD})
    manual = Stop(reason=HoldReason.MANUAL)
    assert assessed(an_invoice(), standing=MANUAL) == Waiting(exceptions=on_hold)
    seen = a_transfer(status=TransferStatus.DETECTED)
    assert assessed(an_invoice(), seen, standing=MANUAL) == Processing(exceptions=on_hold)
    held = Hold(stops=(manual,), is_paid=True, expire=False, exceptions=on_hold)
    assert assessed(an_invoice(), a_transfer(), standing=MANUAL) == held
    assert isinstance(assessed(an_invoice(), a_transfer(), released=frozenset({manual})), Settle)


def test_assess__hold_that_nothing_speaks_for_any_more__stands_until_it_is_let_pass() -> None:
    """Found by review: a payment read again after the payer was taken off the list settled beside its hold."""
    paid, other = a_transfer(), a_transfer(1, status=TransferStatus.DETECTED)
    stop = Stop(reason=HoldReason.SANCTIONS, transfer_id=paid.id)
    outcome = assessed(an_invoice(), paid, standing=frozenset({stop}))
    assert isinstance(outcome, Hold)
    assert outcome.stops == (stop,)
    about_another = Stop(reason=HoldReason.SANCTIONS, transfer_id=other.id)
    assert isinstance(assessed(an_invoice(), paid, other, standing=frozenset({about_another, LATE_STOP})), Settle)


def test_assess__assigned_in_a_finer_token__counts_exactly() -> None:
    """An operator may assign what came in a token of more decimals, as long as it is whole in the invoice's scale."""
    fine = a_transfer(101 * 10**18, decimals=18, token=DAI, evidence={"strategy": "assigned"})
    assert amounts(assessed(an_invoice(), fine)) == [(100 * 10**18, 10**18)]


def test_assess__late_and_not_final__is_not_held_yet() -> None:
    late = a_transfer(block_time=LATE, status=TransferStatus.DETECTED)
    assert isinstance(assessed(an_invoice(), late), Waiting)
    assert isinstance(assessed(an_invoice(), late, scanned_to=LATE), Expire)
    assert isinstance(assessed(an_invoice(), late, scanned_to=LATE, policy=ACCEPT), Processing)


def test_assess__part_in_time_part_late__is_held_as_a_whole() -> None:
    parts = a_transfer(60 * USD), a_transfer(40 * USD, block_time=LATE)
    assert isinstance(assessed(an_invoice(), *parts), Hold)
    assert amounts(assessed(an_invoice(), *parts, policy=ACCEPT)) == [(60 * USD, 0), (40 * USD, 0)]


def test_assess__paid_in_time_and_again_late__the_late_one_is_left_out() -> None:
    in_time, late = a_transfer(), a_transfer(block_time=LATE)
    outcome = assessed(an_invoice(), in_time, late)
    assert isinstance(outcome, Settle)
    assert [p.transfer for p in outcome.parts] == [in_time]
    assert outcome.exceptions == frozenset()


@pytest.mark.parametrize("status", [InvoiceStatus.SETTLED, InvoiceStatus.CANCELED])
def test_assess__closed_invoice__is_a_bug(status: InvoiceStatus) -> None:
    with pytest.raises(AssertionError, match="nothing left to assess"):
        assessed(an_invoice(status=status), a_transfer())


# Several ways to pay


def two_ways(**changes: Any) -> Invoice:
    """100 USD in USDC (6 decimals) on one chain, or in DAI (18) on another."""
    dai = an_option(
        index=1,
        chain="eth",
        chain_id=OTHER_CHAIN,
        token="DAI",
        token_address=DAI,
        decimals=18,
        amount_base=BaseUnits(100 * 10**18),
    )
    return an_invoice(an_option(), dai, amount=100 * 10**18, scale=18, **changes)


def in_dai(amount: int, **changes: Any) -> TransferRecord:
    return a_transfer(amount, **({"chain_id": OTHER_CHAIN, "token": DAI} | changes))


def test_assess__6_and_18_decimals__add_up_at_par() -> None:
    usdc, dai = a_transfer(40 * USD), in_dai(60 * 10**18, block_time=T0 + timedelta(minutes=2))
    outcome = assessed(two_ways(), usdc, dai)
    assert amounts(outcome) == [(40 * USD, 0), (60 * 10**18, 0)]
    assert isinstance(outcome, Settle)
    assert settled_amount(two_ways(), outcome.parts) == 100 * 10**18


def test_assess__one_wei_short_over_two_tokens__waits() -> None:
    assert isinstance(assessed(two_ways(), a_transfer(40 * USD), in_dai(60 * 10**18 - 1)), Waiting)


def test_assess__the_last_token_is_coarser__its_part_is_rounded_up_to_a_whole_unit() -> None:
    dai = in_dai(99 * 10**18 + 1)
    usdc = a_transfer(2 * USD, block_time=T0 + timedelta(minutes=2))
    assert amounts(assessed(two_ways(), dai, usdc)) == [(99 * 10**18 + 1, 0), (USD, USD)]


def test_option_of__assigned_to_an_address_of_no_option__is_none() -> None:
    invoice = an_invoice()
    assert option_of(invoice, a_transfer()) == invoice.options[0]
    strange = a_transfer(recipient=Address(b"\x77" * 20))
    assert option_of(invoice, strange) is None
    assert isinstance(assessed(invoice, strange), Settle)


# Unique amounts


def by_amounts(*tails: int) -> Invoice:
    """One `amount` option a tail, each in a token of its own, of one decimals."""
    return an_invoice(
        *(
            an_option(
                index=n,
                token_address=Address(bytes([n + 1]) * 20),
                match=Match.AMOUNT,
                amount_base=BaseUnits(100 * USD + tail),
                tail_base=BaseUnits(tail),
            )
            for n, tail in enumerate(tails)
        )
    )


def by_option(invoice: Invoice, index: int, **changes: Any) -> TransferRecord:
    o = invoice.options[index]
    return a_transfer(o.amount_base, **({"token": o.token_address} | changes))


def test_due__only_the_tails_that_were_used_are_owed() -> None:
    invoice = by_amounts(7, 11)
    assert due(invoice, []) == 100 * USD
    assert due(invoice, [by_option(invoice, 1)]) == 100 * USD + 11
    assert due(invoice, [by_option(invoice, 1)] * 2) == 100 * USD + 11
    assert due(invoice, [by_option(invoice, 0), by_option(invoice, 1)]) == 100 * USD + 18


def test_assess__unique_amount__is_settled_to_the_last_unit() -> None:
    invoice = by_amounts(7)
    outcome = assessed(invoice, by_option(invoice, 0))
    assert amounts(outcome) == [(100 * USD + 7, 0)]
    assert outcome.exceptions == frozenset()


def test_assess__paid_by_one_amount_and_seen_by_another__settles_from_what_is_final() -> None:
    """Found by reading: what was due was counted with the tail of a payment that is not final yet, so an invoice
    whose final money was exactly enough waited for the second payment, for good if that one's chain was halted."""
    invoice = by_amounts(7, 11)
    final = by_option(invoice, 0)
    seen = by_option(invoice, 1, status=TransferStatus.DETECTED)
    assert amounts(assessed(invoice, final)) == [(100 * USD + 7, 0)]
    assert amounts(assessed(invoice, final, seen)) == [(100 * USD + 7, 0)]


# Properties

TIMES = [T0, T0 + timedelta(minutes=1), EXPIRES, LATE]
INVOICES = [an_invoice(), two_ways(), by_amounts(7), by_amounts(7, 11)]


@st.composite
def situations(draw: st.DrawFn) -> tuple[Invoice, list[TransferRecord]]:
    invoice = draw(st.sampled_from(INVOICES))
    found = []
    for _ in range(draw(st.integers(0, 5))):
        option = draw(st.sampled_from(invoice.options))
        whole = option.amount_base
        amount = draw(st.sampled_from([1, whole // 3, whole // 2, whole - 1, whole, whole + 1, 2 * whole]))
        found.append(
            a_transfer(
                whole if option.match is Match.AMOUNT else amount,
                chain_id=option.chain_id,
                token=option.token_address,
                decimals=option.decimals,
                status=draw(st.sampled_from(TransferStatus)),
                block_time=draw(st.sampled_from(TIMES)),
            )
        )
    return invoice, found


policies = st.builds(
    InvoicePolicy,
    underpayment_tolerance_bps=st.sampled_from([0, 50, 1_000]),
    underpayment_tolerance_max=st.sampled_from([0, 10**17, 10**20]),
    late=st.sampled_from(LatePolicy),
)
scans = st.sampled_from([None, T0, EXPIRES, LATE])
releases = st.sampled_from([frozenset[Stop](), frozenset({LATE_STOP})])


@given(situation=situations(), policy=policies, scanned_to=scans, released=releases)
def test_assess__settle__conserves_every_unit(
    situation: tuple[Invoice, list[TransferRecord]], policy: InvoicePolicy, scanned_to: Any, released: Any
) -> None:
    invoice, found = situation
    outcome = assess(invoice, found, scanned_to=scanned_to, policy=policy, released=released)
    if not isinstance(outcome, Settle):
        return
    paid = [p.transfer for p in outcome.parts]
    for part in outcome.parts:
        assert part.settled >= 0
        assert part.surplus >= 0
        assert part.settled + part.surplus == part.transfer.identity.amount
        assert part.transfer.is_final
    assert len({t.id for t in paid}) == len(paid) > 0
    settled = settled_amount(invoice, outcome.parts)
    owed = due(invoice, paid)
    allowed = min(invoice.amount * policy.underpayment_tolerance_bps // 10_000, _cap(invoice, policy))
    assert settled >= owed - allowed
    coarsest = min(o.decimals for o in invoice.options)
    assert settled < owed + 10 ** (invoice.scale - coarsest)
    assert settled + received(invoice, paid) - settled == sum(
        rescale_exact(t.identity.amount, t.decimals, invoice.scale) for t in paid
    )


def _cap(invoice: Invoice, policy: InvoicePolicy) -> int:
    return int(policy.underpayment_tolerance_max * 10**invoice.scale // 10**FINEST_SCALE)


@given(
    situation=situations(),
    policy=policies,
    scanned_to=scans,
    released=releases,
    shuffled=st.randoms(use_true_random=False),
)
def test_assess__order_of_transfers__is_of_no_matter(
    situation: tuple[Invoice, list[TransferRecord]],
    policy: InvoicePolicy,
    scanned_to: Any,
    released: Any,
    shuffled: Any,
) -> None:
    invoice, found = situation
    again = list(found)
    shuffled.shuffle(again)
    first, second = (
        assess(invoice, some, scanned_to=scanned_to, policy=policy, released=released) for some in (found, again)
    )
    assert first == second


@given(situation=situations(), policy=policies, scanned_to=scans, more=situations())
def test_assess__more_money__never_takes_a_settlement_away(
    situation: tuple[Invoice, list[TransferRecord]], policy: InvoicePolicy, scanned_to: Any, more: Any
) -> None:
    invoice, found = situation
    _, others = more
    tokens = {(o.chain_id, o.token_address): o for o in invoice.options}
    added = [t for t in others if _is_by_option(t, tokens)]
    before = assess(invoice, found, scanned_to=scanned_to, policy=policy)
    after = assess(invoice, [*found, *added], scanned_to=scanned_to, policy=policy)
    assert _rank(after) >= _rank(before)


def _is_by_option(t: TransferRecord, options: Any) -> bool:
    option = options.get((t.identity.chain_id, t.identity.token))
    return option is not None and (option.match is not Match.AMOUNT or t.identity.amount == option.amount_base)


def _rank(outcome: Outcome) -> int:
    return {Waiting: 0, Expire: 0, Hold: 1, Processing: 1, Settle: 2}[type(outcome)]


@given(situation=situations(), policy=policies, scanned_to=scans)
def test_assess__becoming_final__never_takes_a_settlement_away(
    situation: tuple[Invoice, list[TransferRecord]], policy: InvoicePolicy, scanned_to: Any
) -> None:
    invoice, found = situation
    all_final: Sequence[TransferRecord] = [
        replace(t, status=TransferStatus.FINAL) if t.is_canonical else t for t in found
    ]
    before = assess(invoice, found, scanned_to=scanned_to, policy=policy)
    after = assess(invoice, all_final, scanned_to=scanned_to, policy=policy)
    assert not isinstance(before, Settle | Processing) or isinstance(after, Settle)


@pytest.mark.parametrize(
    ("amounts", "stake"), [([], 100), ([1], 100), ([100], 100), ([60, 60], 120), ([99, 1, 1], 101), ([1_000], 1_000)]
)
def test_at_stake__the_amount_or_all_that_came(amounts: list[int], stake: int) -> None:
    came = [a_transfer(amount * USD) for amount in amounts]
    orphaned = a_transfer(5_000 * USD, status=TransferStatus.ORPHANED)
    seen = a_transfer(500 * USD, status=TransferStatus.DETECTED)
    assert at_stake(an_invoice(), [*came, orphaned]) == stake * USD
    assert at_stake(an_invoice(), [*came, seen]) == max(100, 500 + sum(amounts)) * USD
