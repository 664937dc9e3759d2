"""Whose money a payment may be, and must be, by what was asked for alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

from chains.model import (
    Address,
    BaseUnits,
    BlockHash,
    BlockNumber,
    ChainId,
    Label,
    LabelKind,
    Transfer,
    TransferIdentity,
    TxHash,
)
from chains.proof.keccak import keccak
from settler.domain.ids import InvoiceId
from settler.domain.invoices import Invoice, InvoiceStatus, Match, Option
from settler.simulation.checks_money import Meaning, Payment, due, is_enough, may_miss
from settler.simulation.truth import InvoiceTruth, Rules

CREATED = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
USDC, DAI = Address(b"\x01" * 20), Address(b"\x02" * 20)
SHOP, ALICE, BOB = Address(b"\x0a" * 20), Address(b"\xaa" * 20), Address(b"\xbb" * 20)
REFERENCE = b"\x42" * 32


def option(**changed: Any) -> Option:
    plain = Option(
        index=0,
        chain="base",
        chain_id=ChainId(8453),
        token="USDC",
        token_address=USDC,
        decimals=6,
        pay_to=SHOP,
        match=Match.ADDRESS,
        amount_base=BaseUnits(100_000_000),
        tail_base=BaseUnits(0),
        from_block=BlockNumber(5),
    )
    return replace(plain, **changed)


def asked(name: str = "a", *options: Option, merchant: str = "acme", **changed: Any) -> InvoiceTruth:
    invoice = Invoice(
        id=InvoiceId(f"inv_{name}"),
        merchant=merchant,
        reference=name,
        status=InvoiceStatus.PENDING,
        exceptions=frozenset(),
        currency="USD",
        amount=100_000_000,
        scale=6,
        options=options or (option(),),
        created_at=CREATED,
        expires_at=CREATED + HOUR,
        monitoring_until=CREATED + 2 * HOUR,
        settled_at=None,
        settlement_id=None,
        metadata={},
        version=1,
        pay_token=name,
    )
    return InvoiceTruth(invoice=replace(invoice, **changed), created_at=CREATED)


def payment(amount: int = 100_000_000, *, after: timedelta = HOUR / 2, **changed: Any) -> Payment:
    labels = changed.pop("labels", ())
    number = changed.pop("number", 10)
    plain = TransferIdentity(
        chain_id=ChainId(8453),
        tx_hash=TxHash(b"\x07" * 32),
        token=USDC,
        sender=ALICE,
        recipient=SHOP,
        amount=BaseUnits(amount),
        ordinal=0,
    )
    transfer = Transfer(
        identity=replace(plain, **changed),
        block_number=BlockNumber(number),
        block_hash=BlockHash(bytes(32)),
        log_index=0,
        labels=labels,
    )
    return Payment(transfer=transfer, decimals=6, time=CREATED + after)


def names(key: bytes = REFERENCE) -> tuple[Label, ...]:
    return (Label(kind=LabelKind.AUTHORIZATION, key=key),)


def meaning(*them: InvoiceTruth, rules: Rules | None = None) -> Meaning:
    made = Meaning(rules or Rules())
    for it in them:
        made.add(it)
    return made


def may(found: Meaning, p: Payment) -> list[str]:
    return [it.invoice.reference for it in found.may(p)]


def must(found: Meaning, p: Payment) -> str | None:
    it = found.must(p)
    return None if it is None else it.invoice.reference


def test_address__same_asset_and_address__must_be_its_own() -> None:
    assert must(meaning(asked()), payment(1)) == "a"


def test_address__another_token_chain_or_address__is_nobodys() -> None:
    known = meaning(asked())
    assert may(known, payment(token=DAI)) == []
    assert may(known, payment(chain_id=ChainId(1))) == []
    assert may(known, payment(recipient=BOB)) == []


def test_address__no_money_or_to_itself__is_nobodys() -> None:
    known = meaning(asked())
    assert may(known, payment(0)) == []
    assert may(known, payment(sender=SHOP)) == []


def test_address__late__may_until_monitoring_ends() -> None:
    known = meaning(asked())
    assert must(known, payment(after=2 * HOUR)) == "a"
    assert may(known, payment(after=2 * HOUR + timedelta(seconds=1))) == []


def test_address__mined_before_it_was_made__may_and_need_not() -> None:
    known = meaning(asked())
    assert may(known, payment(after=timedelta(0))) == ["a"]
    assert must(known, payment(after=timedelta(0))) is None
    assert may(known, payment(number=5)) == []


def test_address__of_two_invoices__may_be_either_and_must_be_none() -> None:
    known = meaning(asked("a"), asked("b"))
    assert may(known, payment()) == ["a", "b"]
    assert must(known, payment()) is None


def test_amount__to_the_unit() -> None:
    shared = option(match=Match.AMOUNT, amount_base=BaseUnits(100_000_003), tail_base=BaseUnits(3))
    known = meaning(asked("a", shared), asked("b", replace(shared, amount_base=BaseUnits(100_000_004))))
    assert must(known, payment(100_000_003)) == "a"
    assert must(known, payment(100_000_004)) == "b"
    assert may(known, payment(100_000_005)) == []


def test_payer__expected_sender_and_amount_within_the_tolerance() -> None:
    rules = Rules(tolerance_bps=100, tolerance_max=10**18)
    known = meaning(asked("a", option(match=Match.PAYER, payer=ALICE)), rules=rules)
    assert must(known, payment(99_000_000)) == "a"
    assert must(known, payment(101_000_000)) == "a"
    assert may(known, payment(98_999_999)) == []
    assert may(known, payment(sender=BOB)) == []


def test_reference__named__wins_over_every_other_way() -> None:
    by_reference = asked("named", option(match=Match.REFERENCE, reference=REFERENCE))
    known = meaning(asked("other"), by_reference)
    assert must(known, payment(1, labels=names())) == "named"
    assert must(known, payment(1, labels=names(keccak(REFERENCE)))) == "named"
    assert must(known, payment(1)) == "other"


def test_reference__another_merchant_could_have_it__nobody_must() -> None:
    by_reference = asked("named", option(match=Match.REFERENCE, reference=REFERENCE))
    known = meaning(asked("other", merchant="bakery"), by_reference)
    assert must(known, payment(1, labels=names())) is None


def test_reference__another_asset__is_nobodys_not_even_by_address() -> None:
    by_reference = asked("named", option(match=Match.REFERENCE, reference=REFERENCE, token_address=DAI))
    known = meaning(asked("other"), by_reference)
    assert may(known, payment(labels=names())) == []


def test_reference__another_sender_than_expected__is_as_if_it_named_nobody() -> None:
    by_reference = asked("named", option(match=Match.REFERENCE, reference=REFERENCE, payer=BOB))
    assert may(meaning(by_reference), payment(labels=names())) == []
    assert may(meaning(asked("other"), by_reference), payment(labels=names())) == ["other"]


def test_due__amount_options_that_were_used__add_their_tails() -> None:
    tailed = option(match=Match.AMOUNT, amount_base=BaseUnits(100_000_003), tail_base=BaseUnits(3))
    invoice = asked("a", tailed, option(index=1, token_address=DAI, decimals=6)).invoice
    assert due(invoice, [payment(100_000_003)]) == Fraction(100_000_003, 10**6)
    assert due(invoice, [payment(token=DAI)]) == 100
    assert due(invoice, []) == 100


def test_may_miss__the_smaller_of_share_and_cap() -> None:
    invoice = asked().invoice
    assert may_miss(invoice, Rules(tolerance_bps=50, tolerance_max=10**18)) == Fraction(1, 2)
    assert may_miss(invoice, Rules(tolerance_bps=500, tolerance_max=10**18)) == 1
    assert may_miss(invoice, Rules()) == 0


def test_is_enough__parts_add_up_and_one_unit_short_is_not() -> None:
    invoice = asked().invoice
    assert is_enough(invoice, [payment(40_000_000), payment(60_000_000)], Rules())
    assert not is_enough(invoice, [payment(40_000_000), payment(59_999_999)], Rules())
    assert not is_enough(invoice, [], Rules(tolerance_bps=10_000, tolerance_max=10**21))
