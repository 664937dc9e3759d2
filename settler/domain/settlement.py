"""Whether an invoice is paid: the one place that decides it. Pure (RULES.md section 4).

    # created        expires_at          monitoring_until
    # |--- in time ---|------ late ------|--- suspense, never gets here ---
    #                                       by the block's time stamp

`assess` looks at everything allocated to one invoice and says where the invoice stands. It may be asked at any
moment, any
number of times; `lifecycle.advance` turns its answer into a transition.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from chains.model import BaseUnits
from settler.domain.ids import TransferId
from settler.domain.invoices import (
    Invoice,
    InvoiceException,
    InvoiceStatus,
    Match,
    Option,
    TransferRecord,
)
from settler.domain.money import rescale_down, rescale_exact, rescale_up, tolerance


class LatePolicy(StrEnum):
    ACCEPT = "accept"
    HOLD = "hold"


class HoldReason(StrEnum):
    LATE = "late"
    """Only money that came after the expiry makes it paid."""
    DEPEG = "depeg"
    """The token's price is below the floor, or its feed says nothing that can be relied on."""
    SANCTIONS = "sanctions"
    """The payer is on the oracle's list, or the oracle does not answer."""
    PROOF_FAILED = "proof_failed"
    """A payment could not be proven to be in its block, on a chain that is read with proofs."""
    TOKEN_PAUSED = "token_paused"  # noqa: S105  # a reason
    """The token was paused, deprecated or upgraded, or froze the address that was paid."""
    MANUAL = "manual"
    """An operator stopped it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """One thing that keeps an invoice from being settled until an operator lets it pass."""

    reason: HoldReason
    transfer_id: TransferId | None = None
    """The payment it is about; `None` where it is about the invoice. Letting one payment pass lets no other pass."""
    detail: str = field(default="", compare=False)
    """For people."""


Flags = Mapping[TransferId, Mapping[HoldReason, str]]
"""What policies found against payments when they became final, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoicePolicy:
    """How strictly an invoice is judged; the operator's configuration."""

    underpayment_tolerance_bps: int = 0
    """Basis points of the amount that may be missing."""
    underpayment_tolerance_max: int = 0
    """What may be missing at most, in units of 10**-`FINEST_SCALE` of the invoice's currency. The smaller of the
    two counts.
    """
    late: LatePolicy = LatePolicy.HOLD


@dataclass(frozen=True, slots=True, kw_only=True)
class SettledPart:
    """What one payment contributes: `settled + surplus` is its whole amount, in base units of its own token."""

    transfer: TransferRecord
    settled: BaseUnits
    surplus: BaseUnits


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Not paid in full; time is left, or the invoice is past waiting for and stays as it is."""

    exceptions: frozenset[InvoiceException]


@dataclass(frozen=True, slots=True, kw_only=True)
class Processing:
    """Paid in full on the current view of the chain; not by final payments."""

    exceptions: frozenset[InvoiceException]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expire:
    """Not paid in full, and every chain it could be paid on was scanned past its expiry."""

    exceptions: frozenset[InvoiceException]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Final payments would do, but a policy wants an operator to look first."""

    stops: tuple[Stop, ...]
    """At least one."""
    is_paid: bool
    """In time and in full: it is done but for the operator, and does not expire. Else only late money makes it paid."""
    expire: bool
    """It is past its expiry, and not paid in time."""
    exceptions: frozenset[InvoiceException]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settle:
    """Final payments reach what is due.

    It rests on the payments up to the block with which they did, whatever else is known by now: so the outcome is the
    same whether each block is judged as it becomes final or a whole outage at once. What came after is surplus.
    """

    parts: tuple[SettledPart, ...]
    """In the order the money came; the surplus stands on the last ones."""
    exceptions: frozenset[InvoiceException]
    """Of these payments alone."""


Outcome = Waiting | Processing | Expire | Hold | Settle


def assess(
    invoice: Invoice,
    transfers: Sequence[TransferRecord],
    *,
    scanned_to: datetime | None,
    policy: InvoicePolicy,
    flags: Flags = MappingProxyType({}),
    standing: frozenset[Stop] = frozenset(),
    released: frozenset[Stop] = frozenset(),
) -> Outcome:
    """Where an open invoice stands, given every transfer allocated to it.

    `scanned_to`: the least block time up to which all chains of its options are read; `None` if one is not read at
    all yet.
    `flags`: what speaks against payments; they are counted, and hold the settlement that would rest on them.
    `standing`: what stops it by now, and stays until an operator lets it pass; what is about a payment counts while it
    rests on that one. `released`: what an operator has let pass.
    """
    assert invoice.status not in (InvoiceStatus.SETTLED, InvoiceStatus.CANCELED), (
        f"{invoice.id} is {invoice.status}: nothing left to assess"
    )
    canonical = sorted((t for t in transfers if t.is_canonical), key=_arrival_order)
    accepts_late = policy.late is LatePolicy.ACCEPT or (released and Stop(reason=HoldReason.LATE) in released)
    # who assigns a late payment has decided about it
    counted = [t for t in canonical if accepts_late or t.is_assigned or not is_late(invoice, t)]
    missable = may_miss(invoice, policy)

    def is_enough(paid: Sequence[TransferRecord]) -> bool:
        # what is due depends on the options used: by these payments, not by others that may never be final
        return bool(paid) and received(invoice, paid) >= due(invoice, paid) - missable

    is_stopped = standing and Stop(reason=HoldReason.MANUAL) in standing
    is_past = scanned_to is not None and scanned_to > invoice.expires_at

    for paid in _as_it_came([t for t in counted if t.is_final]):
        if is_enough(paid):
            stops = _stops(paid, flags, standing) - released
            if stops:
                held = _noted(invoice, canonical) | _HELD
                return Hold(stops=_in_order(stops), is_paid=True, expire=False, exceptions=held)
            return Settle(parts=_parts(invoice, paid), exceptions=_noted(invoice, paid))
    noted = _noted(invoice, canonical) | (_HELD if is_stopped else frozenset())
    if is_enough(counted):
        return Processing(exceptions=noted)
    if is_enough([t for t in canonical if t.is_final]):
        late = (Stop(reason=HoldReason.LATE),)
        return Hold(stops=late, is_paid=False, expire=is_past, exceptions=noted | _HELD)
    if is_past:
        short = {InvoiceException.UNDERPAID} if canonical else set()
        return Expire(exceptions=noted | frozenset(short))
    return Waiting(exceptions=noted)


def settle_as_it_is(invoice: Invoice, final: Sequence[TransferRecord], policy: InvoicePolicy) -> Settle:
    """What an operator settles by hand: with the final payments there are, in whatever time they came; maybe none."""
    paid = sorted(final, key=_arrival_order)
    is_short = received(invoice, paid) < due(invoice, paid) - may_miss(invoice, policy)
    short = {InvoiceException.UNDERPAID} if is_short else set()
    return Settle(
        parts=_parts(invoice, paid), exceptions=_noted(invoice, paid) | {InvoiceException.MARKED} | frozenset(short)
    )


def may_miss(invoice: Invoice, policy: InvoicePolicy) -> int:
    """What may be missing from the amount, in the invoice's scale."""
    return tolerance(
        invoice.amount,
        bps=policy.underpayment_tolerance_bps,
        at_most=rescale_down(policy.underpayment_tolerance_max, invoice.scale),
    )


def _as_it_came(arrived: Sequence[TransferRecord]) -> Iterator[Sequence[TransferRecord]]:
    """What had come with each block, block by block. `arrived`: in order of arrival."""
    for at, t in enumerate(arrived, start=1):
        if at == len(arrived) or arrived[at].block_hash != t.block_hash:
            yield arrived[:at]


_HELD = frozenset({InvoiceException.ON_HOLD})


def _stops(paid: Sequence[TransferRecord], flags: Flags, standing: frozenset[Stop]) -> frozenset[Stop]:
    if not flags and not standing:
        return frozenset()
    ids = {t.id for t in paid}
    kept = {stop for stop in standing if stop.transfer_id in ids or stop.reason is HoldReason.MANUAL}
    flagged = {
        Stop(reason=reason, transfer_id=t.id, detail=detail)
        for t in paid
        for reason, detail in flags.get(t.id, {}).items()
    }
    return frozenset(flagged | kept)


def _in_order(stops: frozenset[Stop]) -> tuple[Stop, ...]:
    return tuple(sorted(stops, key=lambda stop: (stop.reason, stop.transfer_id or "")))


def _noted(invoice: Invoice, paid: Sequence[TransferRecord]) -> frozenset[InvoiceException]:
    late = {InvoiceException.LATE} if any(is_late(invoice, t) for t in paid) else set()
    over = {InvoiceException.OVERPAID} if received(invoice, paid) > due(invoice, paid) else set()
    return frozenset(late | over)


def is_late(invoice: Invoice, transfer: TransferRecord) -> bool:
    """Decided by the block's time stamp; a block exactly at the expiry is in time."""
    return transfer.block_time > invoice.expires_at


def option_of(invoice: Invoice, transfer: TransferRecord) -> Option | None:
    """The option a transfer came by: same asset and address; `None` for one an operator assigned."""
    identity = transfer.identity
    for option in invoice.options:
        if (option.chain_id, option.token_address, option.pay_to) == (
            identity.chain_id,
            identity.token,
            identity.recipient,
        ):
            return option
    return None


def received(invoice: Invoice, transfers: Sequence[TransferRecord]) -> int:
    """Sum of the transfers at par, in the invoice's scale."""
    scale = invoice.scale
    return sum(
        t.identity.amount if t.decimals == scale else rescale_exact(t.identity.amount, t.decimals, scale)
        for t in transfers
    )


def at_stake(invoice: Invoice, transfers: Sequence[TransferRecord]) -> int:
    """What an amount tier is judged by, in the invoice's scale: the invoice's amount, or all that came where that is
    more. Never a single payment: parts of a large sum are no small sums.
    """
    return max(invoice.amount, received(invoice, [t for t in transfers if t.is_canonical]))


def due(invoice: Invoice, transfers: Sequence[TransferRecord]) -> int:
    """What must come, in the invoice's scale: the amount, and the unique tail of the `amount` options that were
    used.
    """
    if not any(option.tail_base for option in invoice.options):
        return invoice.amount
    tails = {
        option.index: rescale_exact(option.tail_base, option.decimals, invoice.scale)
        for t in transfers
        if (option := option_of(invoice, t)) is not None and option.match is Match.AMOUNT
    }
    return invoice.amount + sum(tails.values())


def settled_amount(invoice: Invoice, parts: Sequence[SettledPart]) -> int:
    """Sum of what was settled, in the invoice's scale."""
    return sum(rescale_exact(p.settled, p.transfer.decimals, invoice.scale) for p in parts)


def _parts(invoice: Invoice, transfers: Sequence[TransferRecord]) -> tuple[SettledPart, ...]:
    """Fills what is due in the order the money came; what is beyond is surplus.

    Where the last payment's token is coarser than the invoice's scale, its settled part is rounded up to a whole
    base unit.
    """
    missing = due(invoice, transfers)
    parts: list[SettledPart] = []
    for t in transfers:
        settled = min(t.identity.amount, rescale_up(missing, invoice.scale, t.decimals))
        missing = max(0, missing - rescale_exact(settled, t.decimals, invoice.scale))
        parts.append(
            SettledPart(
                transfer=t,
                settled=BaseUnits(settled),
                surplus=BaseUnits(t.identity.amount - settled),
            )
        )
    return tuple(parts)


def _arrival_order(t: TransferRecord) -> tuple[datetime, int, int, int, TransferId]:
    return (t.block_time, t.identity.chain_id, t.block_number, t.log_index, t.id)
