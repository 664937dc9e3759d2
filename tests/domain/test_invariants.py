"""The judges of the invariants, each on facts that are right and on each way in which they may be wrong.

`tests/stages/test_invariants.py` breaks databases and has them judged whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from chains.model import BaseUnits, BlockHash, BlockNumber, BlockRef, Transfer
from settler.domain.delivery import Endpoint, EndpointId
from settler.domain.events import EventType
from settler.domain.ids import ReversalId, SettlementId
from settler.domain.invariants import (
    MARKED,
    OF_BREAK,
    Cursors,
    CursorWatch,
    Invariant,
    InvoiceFacts,
    Told,
    TransferBooks,
    Violation,
    arrived_is_accounted_for,
    backed_by_records,
    backs_one,
    books_agree,
    cursors_agree,
    delivered_once,
    entry_sums_to_zero,
    invoice_told_once,
    recorded_once,
    rests_on_records,
    settled_iff_paid,
    settlement_told_once,
    stands_on_chain,
    transfer_told_once,
)
from settler.domain.invoices import ASSIGNED, Allocation, Invoice, InvoiceStatus, Match, TransferRecord, TransferStatus
from settler.domain.ledger import Account
from settler.domain.money import FINEST_SCALE
from settler.domain.reconciling import BreakKind, compare
from settler.domain.records import Reversal, Settlement
from settler.domain.settlement import HoldReason, InvoicePolicy, LatePolicy, Stop
from tests.domain.samples import (
    CHAIN,
    EXPIRES,
    OTHER_CHAIN,
    PAYER,
    SHOP,
    T0,
    USDC,
    a_line,
    a_settlement,
    a_transfer,
    an_invoice,
    an_option,
)

I1, I2, I3, I4, I5, I6, I7, I8 = Invariant
EXACT = InvoicePolicy()
USD = 10**6
FORKED = BlockHash(b"\xbf" * 32)
REVERSAL = Reversal(id=ReversalId("rev_1"), reason="finality violation", reversed_at=EXPIRES)
SETTLED = {CHAIN: BlockNumber(1_000)}


def only(found: Sequence[Violation], invariant: Invariant, subject: str) -> str:
    """The detail of the one that was found."""
    assert [(v.invariant, v.subject) for v in found] == [(invariant, subject)]
    return found[0].detail


def test_violation__as_text__names_all_of_it() -> None:
    assert str(Violation(invariant=I4, subject="base", detail="is wrong")) == "I4 base: is wrong"


def test_breaks__each_breaks_an_invariant() -> None:
    assert set(OF_BREAK) == set(BreakKind)


# -- I1 ----------------------------------------------------------------------------------------------------------------


def test_recorded_once__each_difference_is_one() -> None:
    right, moved, altered, gone = (a_transfer() for _ in range(4))
    seen = [
        Transfer(identity=t.identity, block_number=t.block_number, block_hash=t.block_hash, log_index=t.log_index)
        for t in (right, moved, altered, a_transfer())
    ]
    seen[1] = replace(seen[1], block_hash=FORKED)
    seen[2] = replace(seen[2], identity=replace(seen[2].identity, amount=BaseUnits(1)))
    records = [right, moved, altered, gone]
    compared = compare(seen, records, {t.id for t in records})
    stray = seen[3]
    found = recorded_once(compared.unrecorded, compared)
    subjects = [f"0x{stray.identity.tx_hash.hex()}:{stray.log_index}", moved.id, altered.id, gone.id]
    assert [(v.invariant, v.subject) for v in found] == [(I1, subject) for subject in subjects]
    assert "not recorded" in found[0].detail
    assert f"(0x{FORKED.hex()})" in found[1].detail
    assert "another transfer" in found[2].detail
    assert "not on the chain" in found[3].detail
    assert recorded_once([], compare(seen[:1], [right], {right.id})) == []


# -- I2 ----------------------------------------------------------------------------------------------------------------


def settled(*paid: TransferRecord, invoice: Invoice | None = None, **changes: Any) -> tuple[InvoiceFacts, Settlement]:
    """A settled invoice with the settlement of these payments; `changes`: of the settlement."""
    open_ = invoice or an_invoice()
    settlement = a_settlement(open_, *[a_line(t) for t in paid], **changes)
    closed = replace(open_, status=InvoiceStatus.SETTLED, settlement_id=settlement.id)
    records = {t.id: t for t in paid}
    return InvoiceFacts(invoice=closed, allocated=paid, settlements=[settlement], records=records), settlement


def test_settled_iff_paid__settled_and_paid() -> None:
    for paid in ([a_transfer()], [a_transfer(60 * USD), a_transfer(40 * USD)], [a_transfer(500 * USD)]):
        facts, _ = settled(*paid)
        assert settled_iff_paid(facts, EXACT, is_quiescent=True) == []


@pytest.mark.parametrize(
    ("paid", "due"), [([], "100"), ([99 * USD], "100"), ([99_999_999], "100"), ([50 * USD, 49 * USD], "100")]
)
def test_settled_iff_paid__settled_and_not_paid(paid: list[int], due: str) -> None:
    facts, _ = settled(*[a_transfer(amount) for amount in paid])
    assert f"not the {due} due" in only(settled_iff_paid(facts, EXACT), I2, facts.invoice.id)


def test_settled_iff_paid__tail_of_the_amount__is_due_too() -> None:
    option = an_option(match=Match.AMOUNT, amount_base=BaseUnits(100_000_007), tail_base=BaseUnits(7))
    facts, _ = settled(a_transfer(100_000_007), invoice=an_invoice(option))
    assert settled_iff_paid(facts, EXACT) == []
    facts, _ = settled(a_transfer(100_000_006), invoice=an_invoice(option))
    detail = only(settled_iff_paid(facts, EXACT), I2, facts.invoice.id)
    assert detail == "is settled, and its payments make 100.000006, not the 100.000007 due"


@pytest.mark.parametrize(
    ("version", "amount", "is_right"),
    [
        (None, 99 * USD, True),
        (None, 99 * USD - 1, False),
        ("sha256:these", 99 * USD, True),
        ("sha256:these", 99 * USD - 1, False),
        ("sha256:others", 90 * USD, True),
        ("sha256:others", 90 * USD - 1, False),
    ],
)
def test_settled_iff_paid__tolerance__is_that_of_the_rules_it_was_made_under(
    version: str | None, amount: int, is_right: bool
) -> None:
    policy = InvoicePolicy(underpayment_tolerance_bps=100, underpayment_tolerance_max=10**FINEST_SCALE)
    facts, _ = settled(a_transfer(amount), policy={"version": "sha256:these"})
    assert (settled_iff_paid(facts, policy, version=version) == []) is is_right


def test_settled_iff_paid__tolerance__is_capped() -> None:
    policy = InvoicePolicy(underpayment_tolerance_bps=500, underpayment_tolerance_max=10**FINEST_SCALE)
    assert settled_iff_paid(settled(a_transfer(99 * USD))[0], policy) == []
    facts, _ = settled(a_transfer(98 * USD))
    assert "not the 99 due" in only(settled_iff_paid(facts, policy), I2, facts.invoice.id)


def test_settled_iff_paid__marked__only_with_the_audit_log() -> None:
    facts, _ = settled(policy={MARKED: "ada"})
    assert "audit log" in only(settled_iff_paid(facts, EXACT), I2, facts.invoice.id)
    assert settled_iff_paid(replace(facts, is_mark_audited=True), EXACT) == []


def test_settled_iff_paid__another_settlement_or_none_is_in_force() -> None:
    facts, settlement = settled(a_transfer())
    undone = replace(facts, settlements=[replace(settlement, reversal=REVERSAL)])
    assert "in force is none" in only(settled_iff_paid(undone, EXACT), I2, facts.invoice.id)
    other = replace(settlement, id=SettlementId("stl_other"), generation=2)
    two = replace(facts, settlements=[settlement, other])
    detail = only(settled_iff_paid(two, EXACT), I2, facts.invoice.id)
    assert detail.endswith(f"in force is {settlement.id}, stl_other")


def test_settled_iff_paid__not_settled__and_something_says_so() -> None:
    facts, settlement = settled(a_transfer())
    reversed_ = replace(facts, invoice=replace(facts.invoice, status=InvoiceStatus.REVERSED, settlement_id=None))
    assert "in force" in only(settled_iff_paid(reversed_, EXACT), I2, facts.invoice.id)
    named = replace(
        facts,
        invoice=replace(facts.invoice, status=InvoiceStatus.REVERSED),
        settlements=[replace(settlement, reversal=REVERSAL)],
    )
    assert f"names settlement {settlement.id}" in only(settled_iff_paid(named, EXACT), I2, facts.invoice.id)


PAID = a_transfer(id="trf_paid")
LATE = a_transfer(id="trf_late", block_time=EXPIRES + timedelta(seconds=1))
DEPEG = Stop(reason=HoldReason.DEPEG, transfer_id=PAID.id)


@pytest.mark.parametrize(
    ("allocated", "changes", "ought"),
    [
        ([PAID], {}, True),
        ([], {}, False),
        ([a_transfer(99 * USD)], {}, False),
        ([a_transfer(status=TransferStatus.DETECTED)], {}, False),
        ([replace(PAID, block_number=BlockNumber(1_001))], {}, False),
        ([PAID], {"settled": {}}, False),
        ([PAID], {"settled": {OTHER_CHAIN: BlockNumber(9_999)}}, False),
        ([PAID], {"halted": frozenset({CHAIN})}, False),
        ([PAID], {"halted": frozenset({OTHER_CHAIN})}, True),
        ([PAID], {"standing": frozenset({Stop(reason=HoldReason.MANUAL)})}, False),
        ([PAID], {"flagged": {PAID.id: [HoldReason.DEPEG]}}, False),
        ([PAID], {"flagged": {PAID.id: [HoldReason.DEPEG]}, "released": frozenset({DEPEG})}, True),
        (
            [PAID],
            {"flagged": {PAID.id: [HoldReason.DEPEG, HoldReason.SANCTIONS]}, "released": frozenset({DEPEG})},
            False,
        ),
        ([LATE], {}, False),
        ([LATE], {"released": frozenset({Stop(reason=HoldReason.LATE)})}, True),
        ([replace(LATE, evidence={"strategy": ASSIGNED})], {}, True),
    ],
)
def test_settled_iff_paid__quiescent__what_is_paid_is_settled(
    allocated: list[TransferRecord], changes: dict[str, Any], ought: bool
) -> None:
    invoice = an_invoice(status=InvoiceStatus.PROCESSING)
    told: dict[str, Any] = {"allocated": allocated, "settlements": [], "records": {}, "settled": SETTLED}
    facts = InvoiceFacts(invoice=invoice, **told | changes)
    assert settled_iff_paid(facts, EXACT) == [], "not asked while there is more to do"
    found = settled_iff_paid(facts, EXACT, is_quiescent=True)
    assert [(v.invariant, v.subject) for v in found] == [(I2, invoice.id)] * ought
    canceled = replace(facts, invoice=replace(invoice, status=InvoiceStatus.CANCELED))
    assert settled_iff_paid(canceled, EXACT, is_quiescent=True) == []


def test_settled_iff_paid__quiescent__late_counts_where_it_is_accepted() -> None:
    facts = InvoiceFacts(invoice=an_invoice(), allocated=[LATE], settlements=[], records={}, settled=SETTLED)
    accept = InvoicePolicy(late=LatePolicy.ACCEPT)
    assert "reach what is due" in only(settled_iff_paid(facts, accept, is_quiescent=True), I2, facts.invoice.id)


# -- I3, I8 ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        (None, "which is unknown"),
        ({"status": TransferStatus.DETECTED}, "which is detected"),
        ({"status": TransferStatus.ORPHANED}, "which is orphaned"),
        ({"block_hash": FORKED, "block_number": BlockNumber(1_002)}, f"of block 1002 (0x{FORKED.hex()})"),
        ({"log_index": 10**6}, "now it is log 1000000"),
    ],
)
def test_rests_on_records__payment_is_not_final_where_it_was(changes: dict[str, Any] | None, detail: str) -> None:
    paid = a_transfer()
    _, settlement = settled(paid)
    assert rests_on_records(settlement, {paid.id: paid}) == []
    records = {} if changes is None else {paid.id: replace(paid, **changes)}
    assert detail in only(rests_on_records(settlement, records), I3, settlement.id)
    assert rests_on_records(replace(settlement, reversal=REVERSAL), records) == []


@pytest.mark.parametrize(
    ("of_line", "of_record", "detail"),
    [
        ({"payer": SHOP}, {}, "states of"),
        ({"pay_to": PAYER}, {}, "states of"),
        ({"chain_id": OTHER_CHAIN}, {}, "states of"),
        ({}, {"invoice_id": None}, "not allocated to"),
    ],
)
def test_backed_by_records__says_else_than_the_record(
    of_line: dict[str, Any], of_record: dict[str, Any], detail: str
) -> None:
    invoice = an_invoice()
    paid = a_transfer(invoice_id=invoice.id)
    right = a_settlement(invoice, a_line(paid))
    assert backed_by_records(right, invoice, {paid.id: paid}, assigned=[]) == []
    wrong = a_settlement(invoice, a_line(paid, **of_line))
    records = {paid.id: replace(paid, **of_record)}
    assert detail in only(backed_by_records(wrong, invoice, records, assigned=[]), I8, wrong.id)
    assert backed_by_records(replace(wrong, reversal=REVERSAL), invoice, records, assigned=[]) == []
    assert backed_by_records(wrong, invoice, {}, assigned=[]) == [], "I3 tells of what is not recorded"


def test_backed_by_records__went_elsewhere__only_where_an_operator_assigned_it() -> None:
    invoice = an_invoice()
    paid = a_transfer(invoice_id=invoice.id, recipient=PAYER, sender=SHOP)
    settlement = a_settlement(invoice, a_line(paid))
    found = backed_by_records(settlement, invoice, {paid.id: paid}, assigned=[])
    assert "no operator assigned it" in only(found, I8, settlement.id)
    assert backed_by_records(settlement, invoice, {paid.id: paid}, assigned=[paid.id]) == []


def test_backed_by_records__sums() -> None:
    invoice = an_invoice()
    paid = a_transfer(101 * USD, invoice_id=invoice.id)
    line = a_line(paid, amount_settled=BaseUnits(100 * USD), amount_surplus=BaseUnits(USD))
    records = {paid.id: paid}
    right = a_settlement(invoice, line, amount_surplus=USD)
    assert backed_by_records(right, invoice, records, assigned=[]) == []
    for amounts in ({"amount_surplus": 0}, {"amount_surplus": USD, "amount_settled": 99 * USD}):
        wrong = a_settlement(invoice, line, **amounts)
        detail = only(backed_by_records(wrong, invoice, records, assigned=[]), I8, wrong.id)
        assert detail == "its payments make 100 and 1 beyond, it says else"


def test_backs_one() -> None:
    assert backs_one(PAID.id, []) == backs_one(PAID.id, ["stl_1"]) == []
    assert only(backs_one(PAID.id, ["stl_1", "stl_2"]), I8, PAID.id) == "backs 2 settlements: stl_1, stl_2"


def a_block(number: int = 1_000, hash_: BlockHash = PAID.block_hash, parent: BlockHash = FORKED) -> BlockRef:
    return BlockRef(number=BlockNumber(number), hash=hash_, parent_hash=parent, time=T0)


def _shown(**changes: Any) -> Transfer:
    of_identity = {name: changes.pop(name) for name in ("token", "recipient", "amount") if name in changes}
    made = Transfer(
        identity=replace(PAID.identity, **of_identity),
        block_number=PAID.block_number,
        block_hash=PAID.block_hash,
        log_index=PAID.log_index,
    )
    return replace(made, **changes)


@pytest.mark.parametrize(
    ("shown", "block", "broken", "detail"),
    [
        (_shown(), None, None, ""),
        (_shown(amount=BaseUnits(101 * USD)), None, None, ""),
        (_shown(amount=BaseUnits(100 * USD - 1)), a_block(), I8, "does not pay 100000000 base units"),
        (_shown(recipient=PAYER), a_block(), I8, "does not pay"),
        (_shown(token=PAYER), a_block(), I8, "does not pay"),
        (None, a_block(), I8, "does not pay"),
        (None, a_block(hash_=FORKED), I3, f"the chain has 0x{FORKED.hex()} there"),
        (_shown(block_hash=FORKED), a_block(hash_=FORKED), I3, f"the chain has 0x{FORKED.hex()} there"),
        (None, None, I3, "the chain has no block there"),
    ],
)
def test_stands_on_chain(shown: Transfer | None, block: BlockRef | None, broken: Invariant | None, detail: str) -> None:
    found = stands_on_chain("stl_1", a_line(PAID), shown, block)
    if broken is None:
        assert found == []
    else:
        assert detail in only(found, broken, "stl_1")


# -- I4 ----------------------------------------------------------------------------------------------------------------


def test_entry_sums_to_zero() -> None:
    assert entry_sums_to_zero("ent_1", USDC, 0) == []
    for total in (1, -1):
        assert f"sums to {total} base units" in only(entry_sums_to_zero("ent_1", USDC, total), I4, "ent_1")


@pytest.mark.parametrize(
    ("accounts", "final", "is_right"),
    [
        ({}, 0, True),
        ({}, 1, False),
        ({Account.RECEIVED: 10, Account.SUSPENSE: -10}, 10, True),
        ({Account.RECEIVED: 10, Account.SUSPENSE: -10}, 9, False),
        ({Account.RECEIVED: 10, Account.SUSPENSE: -9}, 10, False),
        ({Account.RECEIVED: 10, Account.SETTLED: -6, Account.SURPLUS: -3, Account.REFUNDED: -1}, 10, True),
        ({Account.RECEIVED: 9, Account.SETTLED: -10}, 10, False),
    ],
)
def test_arrived_is_accounted_for(accounts: Mapping[Account, int], final: int, is_right: bool) -> None:
    found = arrived_is_accounted_for("base", USDC, accounts, final)
    assert [(v.invariant, v.subject) for v in found] == [(I4, "base")] * (not is_right)


NONE = TransferBooks(accounts={}, settled=0, surplus=0, refunded=0, refunded_surplus=0)
IN_SUSPENSE = {Account.RECEIVED: 10, Account.SUSPENSE: -10}


@pytest.mark.parametrize(
    ("transfer", "books", "wrong"),
    [
        (a_transfer(10, status=TransferStatus.DETECTED), NONE, []),
        (a_transfer(0), NONE, []),
        (a_transfer(10), NONE, ["received", "suspense"]),
        (a_transfer(10), replace(NONE, accounts=IN_SUSPENSE), []),
        (a_transfer(10, sender=SHOP), replace(NONE, accounts=IN_SUSPENSE), ["received", "suspense"]),
        (a_transfer(10, status=TransferStatus.ORPHANED), replace(NONE, accounts=IN_SUSPENSE), ["received", "suspense"]),
        (a_transfer(10), replace(NONE, accounts=IN_SUSPENSE, settled=10), ["settled", "suspense"]),
        (a_transfer(10), replace(NONE, accounts=IN_SUSPENSE, refunded=4), ["refunded", "suspense"]),
        (
            a_transfer(10),
            TransferBooks(
                accounts={Account.RECEIVED: 10, Account.SETTLED: -7, Account.SURPLUS: -1, Account.REFUNDED: -2},
                settled=7,
                surplus=3,
                refunded=2,
                refunded_surplus=2,
            ),
            [],
        ),
        (
            a_transfer(10),
            TransferBooks(
                accounts={Account.RECEIVED: 10, Account.SETTLED: -7, Account.SURPLUS: -3},
                settled=7,
                surplus=3,
                refunded=2,
                refunded_surplus=2,
            ),
            ["surplus", "refunded"],
        ),
    ],
)
def test_books_agree(transfer: TransferRecord, books: TransferBooks, wrong: list[str]) -> None:
    found = books_agree(transfer, books)
    assert {(v.invariant, v.subject) for v in found} <= {(I4, transfer.id)}
    assert [v.detail.split()[0] for v in found] == wrong


# -- I6 ----------------------------------------------------------------------------------------------------------------

CREATED, PROCESSING, PENDING = EventType.INVOICE_CREATED, EventType.INVOICE_PROCESSING, EventType.INVOICE_PENDING
DONE, UNDONE, ON_HOLD = EventType.INVOICE_SETTLED, EventType.INVOICE_REVERSED, EventType.INVOICE_ON_HOLD


def told(*types: str) -> list[Told]:
    """Of a version each."""
    return [Told(type=type_, version=n) for n, type_ in enumerate(types, 1)]


@pytest.mark.parametrize(
    ("types", "status", "version", "made", "details"),
    [
        ([CREATED], InvoiceStatus.PENDING, 1, "", []),
        ([CREATED, PROCESSING, PENDING], InvoiceStatus.PENDING, 3, "", []),
        ([CREATED, PROCESSING, ON_HOLD, DONE], InvoiceStatus.SETTLED, 4, "s", []),
        ([CREATED, PROCESSING, DONE, UNDONE, DONE], InvoiceStatus.SETTLED, 5, "rs", []),
        ([CREATED, EventType.INVOICE_EXPIRED], InvoiceStatus.EXPIRED, 2, "", []),
        ([], InvoiceStatus.PENDING, 1, "", ["was told of as created 0 times", "is pending, the last told was nothing"]),
        ([CREATED], InvoiceStatus.CANCELED, 1, "", ["is canceled, the last told was pending"]),
        (
            [CREATED, CREATED],
            InvoiceStatus.PENDING,
            2,
            "",
            ["was told of as created 2 times", "was told twice in a row to be pending"],
        ),
        (
            [CREATED, PROCESSING],
            InvoiceStatus.PROCESSING,
            1,
            "",
            ["is at version 1; of a later one was told invoice.processing"],
        ),
        ([CREATED, DONE], InvoiceStatus.SETTLED, 2, "", ["invoice.settled was told 1 times, it happened 0 times"]),
        (
            [CREATED, DONE, UNDONE],
            InvoiceStatus.REVERSED,
            3,
            "s",
            ["invoice.reversed was told 1 times, it happened 0 times"],
        ),
        ([CREATED, DONE], InvoiceStatus.SETTLED, 2, "rs", [
            "invoice.settled was told 1 times, it happened 2 times",
            "invoice.reversed was told 0 times, it happened 1 times",
        ]),
    ],
)  # fmt: skip
def test_invoice_told_once(
    types: list[str], status: InvoiceStatus, version: int, made: str, details: list[str]
) -> None:
    """`made`: its settlements, (s)tanding or (r)eversed."""
    invoice = an_invoice(status=status, version=version)
    settlements = [a_settlement(invoice, reversal=REVERSAL if how == "r" else None) for how in made]
    found = invoice_told_once(invoice, settlements, reversed(told(*types)))
    assert {(v.invariant, v.subject) for v in found} <= {(I6, invoice.id)}
    assert [v.detail for v in found] == details


@pytest.mark.parametrize(
    ("types", "is_reversed", "wrong"),
    [
        ([EventType.SETTLEMENT_CREATED], False, []),
        ([EventType.SETTLEMENT_CREATED, EventType.SETTLEMENT_REVERSED], True, []),
        ([], False, ["settlement.created"]),
        ([EventType.SETTLEMENT_CREATED] * 2, False, ["settlement.created"]),
        ([EventType.SETTLEMENT_CREATED], True, ["settlement.reversed"]),
        ([EventType.SETTLEMENT_CREATED, EventType.SETTLEMENT_REVERSED], False, ["settlement.reversed"]),
    ],
)
def test_settlement_told_once(types: list[str], is_reversed: bool, wrong: list[str]) -> None:
    settlement = a_settlement(an_invoice(), reversal=REVERSAL if is_reversed else None)
    found = settlement_told_once(settlement, told(*types))
    assert {(v.invariant, v.subject) for v in found} <= {(I6, settlement.id)}
    assert [v.detail.split()[0] for v in found] == wrong


SEEN, FINAL = EventType.PAYMENT_DETECTED, EventType.PAYMENT_FINAL
PAYS = a_transfer(allocation=Allocation.INVOICE)


@pytest.mark.parametrize(
    ("transfer", "types", "detail"),
    [
        (PAYS, [SEEN, FINAL], None),
        (PAYS, [SEEN], "was not told of as one"),
        (PAYS, [], "was never told of"),
        (replace(PAYS, evidence={"strategy": ASSIGNED}), [EventType.TRANSFER_UNMATCHED], None),
        (replace(PAYS, status=TransferStatus.DETECTED), [SEEN], None),
        (a_transfer(), [EventType.TRANSFER_UNMATCHED], None),
        (a_transfer(0), [], None),
        (a_transfer(0), [SEEN], "moves no money, and was told of"),
        (a_transfer(sender=SHOP), [SEEN], "moves no money, and was told of"),
    ],
)
def test_transfer_told_once(transfer: TransferRecord, types: list[str], detail: str | None) -> None:
    found = transfer_told_once(transfer, told(*types))
    if detail is None:
        assert found == []
    else:
        assert detail in only(found, I6, transfer.id)


def _endpoint(name: str, merchant: str | None = None) -> Endpoint:
    return Endpoint(
        id=EndpointId(name),
        url="https://example.com",
        merchant=merchant,
        types=(),
        secret="whsec_new",
        previous_secret=None,
        created_at=T0,
    )


@pytest.mark.parametrize(
    ("delivered", "wrong"),
    [
        ({"whe_all": 1, "whe_acme": 1}, []),
        ({"whe_all": 1}, ["has 0 deliveries to endpoint whe_acme, and needs one"]),
        ({"whe_all": 2, "whe_acme": 1}, ["has 2 deliveries to endpoint whe_all, and needs one"]),
        (
            {},
            [
                "has 0 deliveries to endpoint whe_all, and needs one",
                "has 0 deliveries to endpoint whe_acme, and needs one",
            ],
        ),
    ],
)
def test_delivered_once__to_each_that_wants_it(delivered: dict[str, int], wrong: list[str]) -> None:
    endpoints = [_endpoint("whe_all"), _endpoint("whe_acme", "acme"), _endpoint("whe_other", "other")]
    counts = {EndpointId(name): count for name, count in delivered.items()}
    found = delivered_once("evt_1", DONE, "acme", endpoints, counts)
    assert {(v.invariant, v.subject) for v in found} <= {(I6, "evt_1")}
    assert [v.detail for v in found] == wrong


# -- I7 ----------------------------------------------------------------------------------------------------------------


def header(number: int, *, fork: int = 0, parent_fork: int | None = None) -> BlockRef:
    before = fork if parent_fork is None else parent_fork
    return a_block(number, _hash(number, fork), _hash(number - 1, before))


def _hash(number: int, fork: int = 0) -> BlockHash:
    return BlockHash(bytes([fork]) + number.to_bytes(31))


def at(settled_: int | None = 100, scanned: int | None = 104, **changes: Any) -> Cursors:
    made = Cursors(
        chain="base",
        scanned=None if scanned is None else BlockNumber(scanned),
        scanned_hash=None if scanned is None else _hash(scanned),
        settled=None if settled_ is None else BlockNumber(settled_),
        settled_hash=None if settled_ is None else _hash(settled_),
        final=BlockNumber(101),
        halts="",
    )
    return replace(made, **changes)


HELD = [header(n) for n in (90, 100, 101, 104)]


@pytest.mark.parametrize(
    ("cursors", "held", "details"),
    [
        (at(), HELD, []),
        (at(final=None), HELD, []),
        (at(settled_=None), [], []),
        (at(scanned=None), [], []),
        (at(settled_=104, scanned=104, final=BlockNumber(104)), HELD, []),
        (at(settled_=104, scanned=101, final=None), HELD, ["is settled up to 104, and scanned", "a header is kept"]),
        (at(settled_=101, final=BlockNumber(100)), HELD, ["is settled up to 101, above the final height 100"]),
        (at(), HELD[:3], ["the header kept at the scanned height 104"]),
        (at(), [HELD[0], *HELD[2:]], ["the header kept at the settled height 100"]),
        (at(settled_hash=FORKED), HELD, ["the header kept at the settled height 100"]),
        (at(), [*HELD, header(106)], ["a header is kept at 106, above the scanned height 104"]),
        (at(), [HELD[0], header(91, parent_fork=1), *HELD[1:]], ["the headers kept at 90 and 91 do not link"]),
        (at(), [HELD[0], HELD[1], header(101, parent_fork=1), HELD[3]], []),
    ],
)
def test_cursors_agree(cursors: Cursors, held: list[BlockRef], details: list[str]) -> None:
    found = cursors_agree(cursors, held)
    assert {(v.invariant, v.subject) for v in found} <= {(I7, "base")}
    assert len(found) == len(details)
    assert all(v.detail.startswith(detail) for v, detail in zip(found, details, strict=True))


@pytest.mark.parametrize(
    ("before", "after", "detail"),
    [
        (at(), at(), None),
        (at(), at(settled_=101), None),
        (at(settled_=None), at(settled_=50), None),
        (at(settled_=None), at(settled_=None), None),
        (at(), at(settled_=99), "moved back from 100 to 99"),
        (at(), at(settled_=None), "moved back from 100 to None"),
        (at(), at(settled_=99, halts="once"), None),
        (at(), at(settled_hash=FORKED), "block 100, which is settled, was replaced"),
        (at(), at(settled_hash=FORKED, halts="once"), None),
        (at(), at(settled_=101, settled_hash=FORKED), None),
    ],
)
def test_cursor_watch__moves_on_or_was_halted(before: Cursors, after: Cursors, detail: str | None) -> None:
    watch = CursorWatch()
    assert watch.see([before]) == []
    found = watch.see([replace(at(settled_=1), chain="other"), after])
    assert [v.detail for v in found] == ([] if detail is None else [detail])
    assert {(v.invariant, v.subject) for v in found} <= {(I7, "base")}
    assert watch.see([after]) == [], "told once"
