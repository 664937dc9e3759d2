"""What must hold whatever happens (RULES.md section 8), judged on facts that were read elsewhere. Pure.

I1  every final transfer of a configured token to a watched address is recorded exactly once
I2  an invoice is settled iff final payments allocated to it reach what is due, or an operator marked it
I3  no settlement rests on a block that is not canonical, unless a reversal stands beside it
I4  ledger lines sum to zero; what arrived = settled + surplus + suspense + refunded; and per transfer likewise
I5  a run killed at any point and restarted ends in the same state as one that was not
I6  each state change emits its event exactly once, and each endpoint gets each event
I7  cursors never skip a block and never move back past the settled height
I8  nothing outside the daemon can make it settle what was not paid

The judges compute anew what the program decided, in fractions of a currency unit, and share none of its deciding code.
Collecting the facts is `settler.stages.invariants`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from itertools import pairwise

from chains.model import Address, BlockHash, BlockNumber, BlockRef, ChainId, Transfer, TxHash
from settler.domain.delivery import Endpoint, EndpointId
from settler.domain.events import EventType
from settler.domain.ids import TransferId
from settler.domain.invoices import Allocation, Invoice, InvoiceStatus, Match, TransferRecord
from settler.domain.ledger import Account
from settler.domain.money import BPS, FINEST_SCALE
from settler.domain.reconciling import BreakKind, Compared
from settler.domain.records import Settlement, SettlementLine
from settler.domain.settlement import HoldReason, InvoicePolicy, LatePolicy, Stop, is_late, option_of

WIDEST_TOLERANCE = Fraction(1, 10)
"""The part of an invoice that any configuration may let be missing (`underpayment_tolerance_bps` of `[invoices]`)."""
MARKED = "marked"
"""The key under which the policy of a settlement says that an operator made it."""


class Invariant(StrEnum):
    I1 = "I1"
    I2 = "I2"
    I3 = "I3"
    I4 = "I4"
    I5 = "I5"
    I6 = "I6"
    I7 = "I7"
    I8 = "I8"


OF_BREAK: Mapping[BreakKind, Invariant] = {
    BreakKind.UNRECORDED: Invariant.I1,
    BreakKind.MOVED: Invariant.I3,
    BreakKind.ALTERED: Invariant.I8,
    BreakKind.GONE: Invariant.I8,
    BreakKind.FORK: Invariant.I3,
    BreakKind.LEDGER: Invariant.I4,
    BreakKind.BALANCE: Invariant.I1,
}
"""Which invariant a break of `settler.domain.reconciling` breaks. What settlements rest on is what is recorded
(`rests_on_records`, `backed_by_records`): records that the chain contradicts are settlements that it does.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One thing that must not be."""

    invariant: Invariant
    subject: str
    """The id of the object, or the name of the chain, or the place it is about."""
    detail: str

    def __str__(self) -> str:
        return f"{self.invariant} {self.subject}: {self.detail}"


# -- I1: records and chain ---------------------------------------------------------------------------------------------


def recorded_once(unrecorded: Iterable[Transfer], compared: Compared) -> list[Violation]:
    """I1, both ways. `unrecorded`: those of `compared` that were promised to be recorded."""
    found = [
        _i1(_place(t.identity.tx_hash, t.log_index), f"in block {t.block_number}, and not recorded as final")
        for t in unrecorded
    ]
    found += [
        _i1(held.id, f"is recorded as log {held.log_index} of block {held.block_number}, the chain shows it as log "
            f"{shown.log_index} of block {shown.block_number} (0x{shown.block_hash.hex()})")
        for held, shown in compared.moved
    ]  # fmt: skip
    found += [_i1(held.id, "is another transfer than the chain shows in its place") for held, _ in compared.altered]
    found += [_i1(held.id, "is recorded as final, and not on the chain") for held in compared.gone]
    return found


# -- I2: invoices and payments -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceFacts:
    """An invoice and all that decides about it."""

    invoice: Invoice
    allocated: Sequence[TransferRecord]
    settlements: Sequence[Settlement]
    """All generations."""
    records: Mapping[TransferId, TransferRecord]
    """At least those the settlements rest on."""
    is_mark_audited: bool = False
    """The audit log says that an operator marked it."""
    standing: frozenset[Stop] = frozenset()
    """An operator's own hold stands."""
    released: frozenset[Stop] = frozenset()
    flagged: Mapping[TransferId, Collection[HoldReason]] = field(default_factory=dict)
    settled: Mapping[ChainId, BlockNumber] = field(default_factory=dict)
    """Up to where each chain is decided: what a tier made final above it need not do yet."""
    halted: frozenset[ChainId] = frozenset()


def settled_iff_paid(
    facts: InvoiceFacts, policy: InvoicePolicy, *, version: str | None = None, is_quiescent: bool = False
) -> list[Violation]:
    """I2. `is_quiescent`: every stage has done all it can, so what is paid must be settled by now.

    `version`: of the rules `policy` is of. A settlement that was made under others is only judged by the widest
    tolerance there may be; `None`: all were made under these.
    """
    invoice = facts.invoice
    in_force = [s for s in facts.settlements if s.reversal is None]
    if invoice.status is not InvoiceStatus.SETTLED:
        found = [_i2(invoice, f"is {invoice.status}, and settlement {s.id} is in force") for s in in_force]
        if invoice.settlement_id is not None:
            found.append(_i2(invoice, f"is {invoice.status}, and names settlement {invoice.settlement_id}"))
        if is_quiescent and not found and _ought_to_settle(facts, policy):
            found.append(_i2(invoice, f"is {invoice.status}, although final payments reach what is due"))
        return found
    if [s.id for s in in_force] != [invoice.settlement_id]:
        named = ", ".join(s.id for s in in_force) or "none"
        return [_i2(invoice, f"is settled by {invoice.settlement_id}; in force is {named}")]
    (settlement,) = in_force
    if MARKED in settlement.policy:
        return [] if facts.is_mark_audited else [_i2(invoice, "is marked as settled, which is not in the audit log")]
    paid = [facts.records[line.transfer_id] for line in settlement.lines if line.transfer_id in facts.records]
    is_under_these = version is None or settlement.policy.get("version") == version
    may_miss = (
        _may_miss(invoice, policy) if is_under_these else Fraction(invoice.amount, 10**invoice.scale) * WIDEST_TOLERANCE
    )
    least = _due(invoice, paid) - may_miss
    if not paid or _sum(paid) < least:
        return [_i2(invoice, f"is settled, and its payments make {_shown(_sum(paid))}, not the {_shown(least)} due")]
    return []


def _ought_to_settle(facts: InvoiceFacts, policy: InvoicePolicy) -> bool:
    invoice = facts.invoice
    if invoice.status is InvoiceStatus.CANCELED or facts.standing:
        return False
    accepts_late = policy.late is LatePolicy.ACCEPT or Stop(reason=HoldReason.LATE) in facts.released
    paid = [
        t
        for t in facts.allocated
        if t.is_final
        and t.block_number <= facts.settled.get(t.identity.chain_id, -1)
        and (accepts_late or t.is_assigned or not is_late(invoice, t))
    ]
    is_held = any(
        Stop(reason=reason, transfer_id=t.id) not in facts.released
        for t in paid
        for reason in facts.flagged.get(t.id, ())
    )
    is_halted = any(t.identity.chain_id in facts.halted for t in paid)
    is_enough = bool(paid) and _sum(paid) >= _due(invoice, paid) - _may_miss(invoice, policy)
    return is_enough and not is_held and not is_halted


def _sum(paid: Iterable[TransferRecord]) -> Fraction:
    return sum((Fraction(t.identity.amount, 10**t.decimals) for t in paid), Fraction(0))


def _due(invoice: Invoice, paid: Iterable[TransferRecord]) -> Fraction:
    used = {option.index: option for t in paid if (option := option_of(invoice, t)) is not None}
    tails = (Fraction(o.tail_base, 10**o.decimals) for o in used.values() if o.match is Match.AMOUNT)
    return Fraction(invoice.amount, 10**invoice.scale) + sum(tails, Fraction(0))


def _may_miss(invoice: Invoice, policy: InvoicePolicy) -> Fraction:
    part = Fraction(invoice.amount * policy.underpayment_tolerance_bps, BPS * 10**invoice.scale)
    return min(part, Fraction(policy.underpayment_tolerance_max, 10**FINEST_SCALE))


def _shown(amount: Fraction) -> str:
    """Exact: amounts of money have a power of ten below the line, a tolerance at most a few digits more."""
    scale = next(n for n in range(200) if 10**n % amount.denominator == 0)
    digits = f"{abs(amount.numerator) * (10**scale // amount.denominator):0{scale + 1}d}"
    whole, rest = (digits[:-scale], digits[-scale:]) if scale else (digits, "")
    return ("-" if amount < 0 else "") + whole + (f".{rest}" if rest else "")


# -- I3, I8: settlements, records and chain ----------------------------------------------------------------------------


def rests_on_records(settlement: Settlement, records: Mapping[TransferId, TransferRecord]) -> list[Violation]:
    """I3, as far as the database tells: in force, it rests on payments that are final where it found them."""
    found = []
    for line in settlement.lines if settlement.reversal is None else ():
        held = records.get(line.transfer_id)
        if held is None or not held.is_final:
            status = "unknown" if held is None else held.status
            found.append(_i3(settlement, f"rests on {line.transfer_id}, which is {status}"))
        elif (held.block_hash, held.log_index) != (line.block_hash, line.log_index):
            where = f"log {held.log_index} of block {held.block_number} (0x{held.block_hash.hex()})"
            found.append(
                _i3(settlement, f"rests on {line.transfer_id} in block {line.block_number}, now it is {where}")
            )
    return found


def backed_by_records(
    settlement: Settlement,
    invoice: Invoice,
    records: Mapping[TransferId, TransferRecord],
    *,
    assigned: Collection[TransferId],
) -> list[Violation]:
    """I8, as far as the database tells: it says of each payment what the record says, and sums them up right.

    `assigned`: transfers of which the audit log says that an operator assigned them.
    """
    found = []
    for line in settlement.lines if settlement.reversal is None else ():
        held = records.get(line.transfer_id)
        if held is None:
            continue  # told by I3
        i = held.identity
        recorded = (i.chain_id, i.tx_hash, i.token, i.sender, i.recipient, i.amount)
        amount = line.amount_settled + line.amount_surplus
        stated = (line.chain_id, line.tx_hash, line.token_address, line.payer, line.pay_to, amount)
        if recorded != stated:
            found.append(_i8(settlement, f"states of {held.id} what is not recorded of it"))
        if held.invoice_id != settlement.invoice_id:
            found.append(_i8(settlement, f"rests on {held.id}, which is not allocated to {settlement.invoice_id}"))
        offered = {(o.chain_id, o.token_address, o.pay_to) for o in invoice.options}
        if (i.chain_id, i.token, i.recipient) not in offered and held.id not in assigned:
            found.append(_i8(settlement, f"rests on {held.id}, which went elsewhere, and no operator assigned it"))
    settled = sum((Fraction(line.amount_settled, 10**line.decimals) for line in settlement.lines), Fraction(0))
    surplus = sum((Fraction(line.amount_surplus, 10**line.decimals) for line in settlement.lines), Fraction(0))
    unit = 10**settlement.scale
    if (settled, surplus) != (Fraction(settlement.amount_settled, unit), Fraction(settlement.amount_surplus, unit)):
        found.append(_i8(settlement, f"its payments make {_shown(settled)} and {_shown(surplus)} beyond, it says else"))
    return found


def backs_one(transfer_id: TransferId, settlements: Sequence[str]) -> list[Violation]:
    """I8: of settlements in force that rest on a transfer there is one."""
    if len(settlements) < 2:
        return []
    return [_violation(Invariant.I8, transfer_id, f"backs {len(settlements)} settlements: {', '.join(settlements)}")]


def stands_on_chain(
    settlement_id: str, line: SettlementLine, shown: Transfer | None, block: BlockRef | None
) -> list[Violation]:
    """I3 and I8, by the chain. `shown`: what the reader shows at the line's transaction and log; `block`: its block at
    the line's height (needed only where nothing is shown that agrees).
    """
    i = None if shown is None else shown.identity
    is_there = shown is not None and shown.block_hash == line.block_hash
    paid = line.amount_settled + line.amount_surplus
    if is_there and i is not None and (i.token, i.recipient) == (line.token_address, line.pay_to) and i.amount >= paid:
        return []
    where = f"block {line.block_number} (0x{line.block_hash.hex()})"
    if block is None or block.hash != line.block_hash:
        seen = "no block" if block is None else f"0x{block.hash.hex()}"
        return [_violation(Invariant.I3, settlement_id, f"rests on {where}; the chain has {seen} there")]
    detail = f"log {line.log_index} of 0x{line.tx_hash.hex()} in {where} does not pay {paid} base units"
    return [_violation(Invariant.I8, settlement_id, detail)]


# -- I4: the ledger ----------------------------------------------------------------------------------------------------


def entry_sums_to_zero(entry: str, token: Address, total: int) -> list[Violation]:
    """`total`: debits less credits of the entry's lines in that token."""
    if total == 0:
        return []
    return [_violation(Invariant.I4, entry, f"sums to {total} base units of 0x{token.hex()}, not to zero")]


def arrived_is_accounted_for(
    chain: str, token: Address, accounts: Mapping[Account, int], final: int
) -> list[Violation]:
    """`accounts`: debits less credits. `final`: the sum of final transfers that move money."""
    spent = -sum(total for account, total in accounts.items() if account is not Account.RECEIVED)
    received = accounts.get(Account.RECEIVED, 0)
    if received == spent == final:
        return []
    detail = f"0x{token.hex()}: final transfers make {final}, received are {received}, accounted for are {spent}"
    return [_violation(Invariant.I4, chain, detail)]


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferBooks:
    """What is kept of one transfer beside its record."""

    accounts: Mapping[Account, int]
    """Debits less credits of the ledger's lines about it."""
    settled: int
    surplus: int
    """By the settlement in force that rests on it; 0 where there is none."""
    refunded: int
    refunded_surplus: int
    """What was sent back of it, in all and out of a settlement's surplus."""


def books_agree(transfer: TransferRecord, books: TransferBooks) -> list[Violation]:
    """I4 for one transfer: the ledger says of it what its record, its settlement and its refunds say."""
    arrived = transfer.identity.amount if transfer.is_final and transfer.moves_money else 0
    expected = {
        Account.RECEIVED: arrived,
        Account.SETTLED: -books.settled,
        Account.SURPLUS: -(books.surplus - books.refunded_surplus),
        Account.REFUNDED: -books.refunded,
    }
    expected[Account.SUSPENSE] = -sum(expected.values())
    return [
        _violation(
            Invariant.I4,
            transfer.id,
            f"{account.value} of it is {books.accounts.get(account, 0)} in the ledger, and should be {total}",
        )
        for account, total in expected.items()
        if books.accounts.get(account, 0) != total
    ]


# -- I6: events and deliveries -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """An event, as far as it matters here."""

    type: str
    version: int


_STATUS_TOLD = {
    EventType.INVOICE_CREATED.value: InvoiceStatus.PENDING,
    EventType.INVOICE_PENDING.value: InvoiceStatus.PENDING,
    EventType.INVOICE_PROCESSING.value: InvoiceStatus.PROCESSING,
    EventType.INVOICE_SETTLED.value: InvoiceStatus.SETTLED,
    EventType.INVOICE_EXPIRED.value: InvoiceStatus.EXPIRED,
    EventType.INVOICE_CANCELED.value: InvoiceStatus.CANCELED,
    EventType.INVOICE_REVERSED.value: InvoiceStatus.REVERSED,
}


def invoice_told_once(invoice: Invoice, settlements: Sequence[Settlement], told: Iterable[Told]) -> list[Violation]:
    """I6: its events tell of each status it went through, in order, once, and end where it is."""
    events = sorted((e for e in told if e.type in _STATUS_TOLD), key=lambda e: e.version)
    path = [_STATUS_TOLD[e.type] for e in events]
    counts = Counter(e.type for e in events)
    found = []
    if counts[EventType.INVOICE_CREATED] != 1:
        found.append(f"was told of as created {counts[EventType.INVOICE_CREATED]} times")
    if not path or path[-1] is not invoice.status:
        found.append(f"is {invoice.status}, the last told was {path[-1].value if path else 'nothing'}")
    if repeated := [a.value for a, b in pairwise(path) if a is b]:
        found.append(f"was told twice in a row to be {', '.join(repeated)}")
    if beyond := [e.type for e in events if e.version > invoice.version]:
        found.append(f"is at version {invoice.version}; of a later one was told {', '.join(beyond)}")
    undone = [s for s in settlements if s.reversal is not None]
    for type_, happened in ((EventType.INVOICE_SETTLED, settlements), (EventType.INVOICE_REVERSED, undone)):
        if counts[type_] != len(happened):
            found.append(f"{type_} was told {counts[type_]} times, it happened {len(happened)} times")
    return [_violation(Invariant.I6, invoice.id, detail) for detail in found]


def settlement_told_once(settlement: Settlement, told: Iterable[Told]) -> list[Violation]:
    """I6: of its making once, of its reversal once if there is one."""
    counts = Counter(e.type for e in told)
    wanted = {EventType.SETTLEMENT_CREATED: 1, EventType.SETTLEMENT_REVERSED: int(settlement.reversal is not None)}
    return [
        _violation(Invariant.I6, settlement.id, f"{type_} was told {counts[type_]} times, it happened {count} times")
        for type_, count in wanted.items()
        if counts[type_] != count
    ]


def transfer_told_once(transfer: TransferRecord, told: Iterable[Told]) -> list[Violation]:
    """I6: what moves money is told of; a final payment as one. What moves none is not."""
    types = {e.type for e in told}
    if not transfer.moves_money:
        return [_violation(Invariant.I6, transfer.id, "moves no money, and was told of")] if types else []
    if not types:
        return [_violation(Invariant.I6, transfer.id, "was never told of")]
    pays = transfer.is_final and transfer.allocation is Allocation.INVOICE and not transfer.is_assigned
    if pays and EventType.PAYMENT_FINAL not in types:
        return [_violation(Invariant.I6, transfer.id, "is a final payment, and was not told of as one")]
    return []


def delivered_once(
    event_id: str,
    type_: str,
    merchant: str | None,
    endpoints: Iterable[Endpoint],
    delivered: Mapping[EndpointId, int],
) -> list[Violation]:
    """I6. `endpoints`: those that are live and were there before the event; `delivered`: its deliveries, of any status,
    by endpoint.
    """
    return [
        _violation(Invariant.I6, event_id, f"has {delivered.get(e.id, 0)} deliveries to endpoint {e.id}, and needs one")
        for e in endpoints
        if e.wants(type_, merchant) and delivered.get(e.id, 0) != 1
    ]


# -- I7: cursors -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursors:
    """A chain's row, as far as it says where the two readings are. `None`: not read yet."""

    chain: str
    scanned: BlockNumber | None
    scanned_hash: BlockHash | None
    settled: BlockNumber | None
    settled_hash: BlockHash | None
    final: BlockNumber | None
    halts: str
    """Differs once the chain was halted (again)."""


def cursors_agree(at: Cursors, held: Sequence[BlockRef]) -> list[Violation]:
    """I7, of one moment. `held`: the headers that are kept, lowest first.

    Headers are kept of the ends of spans and of blocks with payments: between them are gaps, and neighbours have to
    link. Across the settled height they need not: for a moment the second reading may be ahead of the first on a fork.
    """
    if at.settled is None or at.scanned is None:
        return []
    found = []
    if at.settled > at.scanned:
        found.append(f"is settled up to {at.settled}, and scanned up to {at.scanned} only")
    if at.final is not None and at.settled > at.final:
        found.append(f"is settled up to {at.settled}, above the final height {at.final}")
    kept = {b.number: b.hash for b in held}
    for name, number, hash_ in (("scanned", at.scanned, at.scanned_hash), ("settled", at.settled, at.settled_hash)):
        if kept.get(number) != hash_:
            found.append(f"the header kept at the {name} height {number} is not the one that was {name}")
    if above := [n for n in kept if n > at.scanned]:
        found.append(f"a header is kept at {above[0]}, above the scanned height {at.scanned}")
    found += [
        f"the headers kept at {a.number} and {b.number} do not link"
        for a, b in pairwise(held)
        if b.number == a.number + 1 and a.number != at.settled and b.parent_hash != a.hash
    ]
    return [_violation(Invariant.I7, at.chain, detail) for detail in found]


class CursorWatch:
    """I7 over time: shown the cursors again and again, it says when the settled height moved back or was replaced by
    anything but a halt. One an observation, for all chains.
    """

    def __init__(self) -> None:
        self._last: dict[str, Cursors] = {}

    def see(self, now: Iterable[Cursors]) -> list[Violation]:
        found = []
        for at in now:
            before = self._last.get(at.chain)
            self._last[at.chain] = at
            if before is None or before.settled is None or before.halts != at.halts:
                continue
            if at.settled is None or at.settled < before.settled:
                found.append(_violation(Invariant.I7, at.chain, f"moved back from {before.settled} to {at.settled}"))
            elif at.settled == before.settled and at.settled_hash != before.settled_hash:
                found.append(_violation(Invariant.I7, at.chain, f"block {at.settled}, which is settled, was replaced"))
        return found


# -- words -------------------------------------------------------------------------------------------------------------


def _violation(invariant: Invariant, subject: str, detail: str) -> Violation:
    return Violation(invariant=invariant, subject=subject, detail=detail)


def _i1(subject: str, detail: str) -> Violation:
    return _violation(Invariant.I1, subject, detail)


def _i2(invoice: Invoice, detail: str) -> Violation:
    return _violation(Invariant.I2, invoice.id, detail)


def _i3(settlement: Settlement, detail: str) -> Violation:
    return _violation(Invariant.I3, settlement.id, detail)


def _i8(settlement: Settlement, detail: str) -> Violation:
    return _violation(Invariant.I8, settlement.id, detail)


def _place(tx_hash: TxHash, log_index: int) -> str:
    return f"0x{tx_hash.hex()}:{log_index}"
