"""Which invoice a transfer pays. Pure; at most one, or the reason why none (RULES.md section 3).

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """What matching may know of a transfer."""

    identity: TransferIdentity
    block_number: BlockNumber
    block_time: datetime


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
    """What the store found for one recipient.

    `invoices`: all that name the recipient as an `address` option on any chain, and those whose `amount` option on
    this very
    asset asks for exactly this amount. The flags say whether other open invoices share the address by amount.
    """

    invoices: Sequence[Invoice]
    shares_address_same_asset: bool = False
    shares_address_other_asset: bool = False


def match(arrival: Arrival, candidates: Candidates) -> Result:
    """The one invoice a transfer pays, or why there is none.

    Strategies are tried in order; the first that gives exactly one invoice wins. A transfer that moves no
    money matches nothing.
    """
    identity = arrival.identity
    if identity.amount == 0 or identity.sender == identity.recipient:
        return Unmatched(reason=UnmatchedReason.IGNORED_ZERO)
    several: tuple[InvoiceId, ...] = ()
    for strategy in (Match.ADDRESS, Match.AMOUNT):
        fitting = tuple(i.id for i in candidates.invoices if _fits(arrival, i, strategy))
        if len(fitting) == 1:
            return Matched(invoice_id=fitting[0], strategy=strategy, candidates=fitting)
        several = several or fitting
    if several:
        return Unmatched(reason=UnmatchedReason.AMBIGUOUS, candidates=several)
    return _why_none(arrival, candidates)


def _fits(arrival: Arrival, invoice: Invoice, strategy: Match) -> bool:
    return (
        invoice.status in _OPEN
        and arrival.block_time <= invoice.monitoring_until
        and any(option.match is strategy and _is_meant(arrival, option) for option in invoice.options)
    )


def _is_meant(arrival: Arrival, option: Option) -> bool:
    """The transfer is of the option's asset, to its address, after the invoice was made, and of its amount if that
    is the key.
    """
    identity = arrival.identity
    return (
        _is_same_asset(arrival, option)
        and option.pay_to == identity.recipient
        and (option.from_block is None or arrival.block_number > option.from_block)
        and (option.match is not Match.AMOUNT or option.amount_base == identity.amount)
    )


def _is_same_asset(arrival: Arrival, option: Option) -> bool:
    identity = arrival.identity
    return (option.chain_id, option.token_address) == (identity.chain_id, identity.token)


def _why_none(arrival: Arrival, candidates: Candidates) -> Unmatched:
    meant = [i for i in candidates.invoices if any(_is_meant(arrival, o) for o in i.options)]
    settled = tuple(i.id for i in meant if i.status is InvoiceStatus.SETTLED)
    if settled:
        return Unmatched(reason=UnmatchedReason.SURPLUS, candidates=settled)
    late = tuple(i.id for i in meant if i.status in _OPEN and arrival.block_time > i.monitoring_until)
    if late:
        return Unmatched(reason=UnmatchedReason.LATE, candidates=late)
    if candidates.shares_address_same_asset:
        return Unmatched(reason=UnmatchedReason.WRONG_AMOUNT)
    other_asset = tuple(
        i.id
        for i in candidates.invoices
        if i.status in _OPEN
        and arrival.block_time <= i.monitoring_until
        and any(o.pay_to == arrival.identity.recipient and not _is_same_asset(arrival, o) for o in i.options)
        and not any(_is_same_asset(arrival, o) and o.pay_to == arrival.identity.recipient for o in i.options)
    )
    if other_asset or candidates.shares_address_other_asset:
        return Unmatched(reason=UnmatchedReason.WRONG_ASSET, candidates=other_asset)
    return Unmatched(reason=UnmatchedReason.NO_INVOICE)
