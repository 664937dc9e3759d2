"""Which invoice a transfer pays. Pure; at most one, or the reason why none (RULES.md section 3).

    1. reference   another log of its transaction names the invoice. Who pays said so: no weaker strategy overrides it,
                   also where that invoice can take no money any more
    2. address     the recipient is the invoice's own
    3. amount      shared address, an amount that no other open invoice asks for
    4. payer       shared address, the sender is the one expected, the amount is right within the tolerance

The first that gives exactly one open invoice wins.

Not decided here: whether the invoice is thereby paid (`settlement.assess`), nor anything about transfers already
allocated: a match, once made, stands until the chain or an operator undoes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from chains.model import BlockNumber, TransferIdentity
from settler.domain.ids import InvoiceId
from settler.domain.invoices import Invoice, InvoiceStatus, Match, Option, UnmatchedReason
from settler.domain.money import rescale_exact
from settler.domain.settlement import InvoicePolicy, may_miss


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """What matching may know of a transfer."""

    identity: TransferIdentity
    block_number: BlockNumber
    block_time: datetime
    keys: frozenset[bytes] = frozenset()
    """What other logs of its transaction say it is for (`chains.model.Label.key`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    invoice_id: InvoiceId
    strategy: Match
    candidates: tuple[InvoiceId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmatched:
    reason: UnmatchedReason
    candidates: tuple[InvoiceId, ...] = ()
    """Invoices that came near: what an operator will want to see first."""


Result = Matched | Unmatched

_OPEN = frozenset({InvoiceStatus.PENDING, InvoiceStatus.PROCESSING, InvoiceStatus.EXPIRED, InvoiceStatus.REVERSED})
"""Statuses that can still take money; an expired one only while it is monitored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """What the store found for one arrival.

    `invoices`: those whose reference at this recipient is among its keys; all that name the recipient as an `address`
    option on any chain; those whose `amount` option there asks for exactly this amount; and those that expect its
    sender there. The flags say whether other open invoices share the address by amount.
    """

    invoices: Sequence[Invoice]
    named: frozenset[InvoiceId] = frozenset()
    """Of them: those that a key names."""
    shares_address_same_asset: bool = False
    shares_address_other_asset: bool = False


def match(arrival: Arrival, candidates: Candidates, *, policy: InvoicePolicy) -> Result:
    """The one invoice a transfer pays, or why there is none. A transfer that moves no money matches nothing."""
    identity = arrival.identity
    if identity.amount == 0 or identity.sender == identity.recipient:
        return Unmatched(reason=UnmatchedReason.IGNORED_ZERO)
    named = _named(arrival, candidates)
    if named:
        return _unless_contested(_by_reference(arrival, named), arrival, candidates, policy)
    several: tuple[InvoiceId, ...] = ()
    for strategy in (Match.ADDRESS, Match.AMOUNT, Match.PAYER):
        fitting = tuple(i.id for i in candidates.invoices if _fits(arrival, i, strategy, policy))
        if len(fitting) == 1:
            return Matched(invoice_id=fitting[0], strategy=strategy, candidates=fitting)
        several = several or fitting
    if several:
        return Unmatched(reason=UnmatchedReason.AMBIGUOUS, candidates=several)
    return _why_none(arrival, candidates, policy)


# -- by reference ------------------------------------------------------------------------------------------------------


def _named(arrival: Arrival, candidates: Candidates) -> list[Invoice]:
    """Invoices that the transfer's references name. Not one that expects another sender: nonces are the payer's own,
    and two payers may use the same.
    """
    return [
        i for i in candidates.invoices if i.id in candidates.named and any(_is_named(arrival, o) for o in i.options)
    ]


def _is_named(arrival: Arrival, option: Option) -> bool:
    identity = arrival.identity
    return (
        option.match is Match.REFERENCE
        and option.pay_to == identity.recipient
        and option.payer in (None, identity.sender)
    )


def _by_reference(arrival: Arrival, named: Sequence[Invoice]) -> Result:
    ids = tuple(i.id for i in named)
    if len(named) > 1:
        return Unmatched(reason=UnmatchedReason.AMBIGUOUS, candidates=ids)
    invoice = named[0]
    meant = [o for o in invoice.options if _is_named(arrival, o) and _is_same_asset(arrival, o)]
    if not meant:
        return Unmatched(reason=UnmatchedReason.WRONG_ASSET, candidates=ids)
    if invoice.status is InvoiceStatus.SETTLED:
        return Unmatched(reason=UnmatchedReason.SURPLUS, candidates=ids)
    if invoice.status not in _OPEN or not any(_is_since(arrival, o) for o in meant):
        return Unmatched(reason=UnmatchedReason.NO_INVOICE, candidates=ids)
    if arrival.block_time > invoice.monitoring_until:
        return Unmatched(reason=UnmatchedReason.LATE, candidates=ids)
    return Matched(invoice_id=invoice.id, strategy=Match.REFERENCE, candidates=ids)


def _unless_contested(found: Result, arrival: Arrival, candidates: Candidates, policy: InvoicePolicy) -> Result:
    """References are public: one merchant's must not take what another merchant's invoice would get without it."""
    if isinstance(found, Unmatched):
        return found
    (owner,) = (i.merchant for i in candidates.invoices if i.id == found.invoice_id)
    others = tuple(
        i.id
        for i in candidates.invoices
        if i.merchant != owner and any(_fits(arrival, i, s, policy) for s in (Match.ADDRESS, Match.AMOUNT, Match.PAYER))
    )
    if others:
        return Unmatched(reason=UnmatchedReason.AMBIGUOUS, candidates=(found.invoice_id, *others))
    return found


# -- by address, amount, payer -----------------------------------------------------------------------------------------


def _fits(arrival: Arrival, invoice: Invoice, strategy: Match, policy: InvoicePolicy) -> bool:
    return (
        invoice.status in _OPEN
        and arrival.block_time <= invoice.monitoring_until
        and any(o.match is strategy and _is_meant(arrival, invoice, o, policy) for o in invoice.options)
    )


def _is_meant(arrival: Arrival, invoice: Invoice, option: Option, policy: InvoicePolicy) -> bool:
    """The transfer is of the option's asset, to its address, after the invoice was made, and has its key."""
    return (
        _is_same_asset(arrival, option)
        and option.pay_to == arrival.identity.recipient
        and _is_since(arrival, option)
        and _has_key(arrival, invoice, option, policy)
    )


def _has_key(arrival: Arrival, invoice: Invoice, option: Option, policy: InvoicePolicy) -> bool:
    identity = arrival.identity
    if option.match is Match.AMOUNT:
        return option.amount_base == identity.amount
    if option.match is Match.PAYER:
        off = abs(rescale_exact(identity.amount - option.amount_base, option.decimals, invoice.scale))
        return option.payer == identity.sender and off <= may_miss(invoice, policy)
    return option.match is Match.ADDRESS


def _is_since(arrival: Arrival, option: Option) -> bool:
    return option.from_block is None or arrival.block_number > option.from_block


def _is_same_asset(arrival: Arrival, option: Option) -> bool:
    identity = arrival.identity
    return (option.chain_id, option.token_address) == (identity.chain_id, identity.token)


# -- why none ----------------------------------------------------------------------------------------------------------


def _why_none(arrival: Arrival, candidates: Candidates, policy: InvoicePolicy) -> Unmatched:
    meant = [i for i in candidates.invoices if any(_is_meant(arrival, i, o, policy) for o in i.options)]
    settled = tuple(i.id for i in meant if i.status is InvoiceStatus.SETTLED)
    if settled:
        return Unmatched(reason=UnmatchedReason.SURPLUS, candidates=settled)
    late = tuple(i.id for i in meant if i.status in _OPEN and arrival.block_time > i.monitoring_until)
    if late:
        return Unmatched(reason=UnmatchedReason.LATE, candidates=late)
    open_ = [i for i in candidates.invoices if i.status in _OPEN and arrival.block_time <= i.monitoring_until]
    expecting = tuple(
        i.id for i in open_ if any(_expects(arrival, o) and _is_same_asset(arrival, o) for o in i.options)
    )
    if expecting or candidates.shares_address_same_asset:
        return Unmatched(reason=UnmatchedReason.WRONG_AMOUNT, candidates=expecting)
    here = [(i, [o for o in i.options if o.pay_to == arrival.identity.recipient]) for i in open_]
    other_asset = tuple(
        i.id
        for i, options in here
        if any(o.match is not Match.REFERENCE for o in options) and not any(_is_same_asset(arrival, o) for o in options)
    )
    if other_asset or candidates.shares_address_other_asset:
        return Unmatched(reason=UnmatchedReason.WRONG_ASSET, candidates=other_asset)
    return Unmatched(reason=UnmatchedReason.NO_INVOICE)


def _expects(arrival: Arrival, option: Option) -> bool:
    """A sender that is expected at this address, whatever the amount."""
    identity = arrival.identity
    return (
        option.match is Match.PAYER
        and option.pay_to == identity.recipient
        and option.payer == identity.sender
        and _is_since(arrival, option)
    )
