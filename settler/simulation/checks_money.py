"""What payments an invoice may and must be given, and what they come to: from what chains hold and what was asked for.

    may    the transfer pays the invoice by one of its options, or an operator said so
    must   and no other invoice could have got it, and it was surely mined after this one was made

Between the two lies what depends on the moment a transfer was seen in: whether another invoice at the same address was
open then. There both are right, and nothing is demanded.

Sums are fractions of the currency: nothing of the program's rescaling is used.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

from chains.model import Transfer
from chains.proof.keccak import keccak
from settler.domain.invoices import Invoice, Match, Option
from settler.simulation.truth import InvoiceTruth, Rules

BPS = 10_000
FINEST = 10**18


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """A transfer that stands in a final block."""

    transfer: Transfer
    decimals: int
    time: datetime
    """Of its block."""

    @property
    def amount(self) -> Fraction:
        return Fraction(self.transfer.identity.amount, 10**self.decimals)

    @property
    def moves_money(self) -> bool:
        i = self.transfer.identity
        return i.amount > 0 and i.sender != i.recipient


def may_miss(invoice: Invoice, rules: Rules) -> Fraction:
    part = Fraction(invoice.amount * rules.tolerance_bps, BPS * 10**invoice.scale)
    return min(part, Fraction(rules.tolerance_max, FINEST))


def due(invoice: Invoice, paid: Iterable[Payment]) -> Fraction:
    """The amount, and the unique tail of each `amount` option that was used."""
    used = {o.index: o for p in paid if (o := option_of(invoice, p.transfer)) is not None and o.match is Match.AMOUNT}
    tails = sum((Fraction(o.tail_base, 10**o.decimals) for o in used.values()), Fraction(0))
    return Fraction(invoice.amount, 10**invoice.scale) + tails


def came(paid: Iterable[Payment]) -> Fraction:
    return sum((p.amount for p in paid), Fraction(0))


def is_enough(invoice: Invoice, paid: list[Payment], rules: Rules) -> bool:
    return bool(paid) and came(paid) >= due(invoice, paid) - may_miss(invoice, rules)


def option_of(invoice: Invoice, t: Transfer) -> Option | None:
    """The option whose asset and address a transfer has."""
    i = t.identity
    way = (i.chain_id, i.token, i.recipient)
    return next((o for o in invoice.options if (o.chain_id, o.token_address, o.pay_to) == way), None)


class Meaning:
    """Which invoices a transfer may be meant for, of all that were made so far."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self.asked: dict[str, InvoiceTruth] = {}
        """Invoices by id."""
        self._at: dict[bytes, list[tuple[InvoiceTruth, Option]]] = defaultdict(list)
        """Options by the address to be paid."""
        self._keys: dict[tuple[bytes, bytes], list[InvoiceTruth]] = defaultdict(list)
        """Invoices by what a log shows of their reference, and the address."""

    def add(self, it: InvoiceTruth) -> None:
        self.asked[it.invoice.id] = it
        for option in it.invoice.options:
            self._at[option.pay_to].append((it, option))
            if option.reference is not None:
                for key in (option.reference, keccak(option.reference)):
                    named = self._keys[key, option.pay_to]
                    if it not in named:
                        named.append(it)

    def rivals(self, option: Option, it: InvoiceTruth) -> list[InvoiceTruth]:
        """Other invoices that ask for the same amount in the same way."""
        way = (option.match, option.chain_id, option.token_address, option.amount_base)
        return [
            other
            for other, o in self._at.get(option.pay_to, ())
            if other.invoice.id != it.invoice.id and (o.match, o.chain_id, o.token_address, o.amount_base) == way
        ]

    def is_shared(self, address: bytes) -> bool:
        """Whether several invoices are, or were, to be paid there as their own."""
        own = [it.invoice.id for it, o in self._at.get(address, ()) if o.match is Match.ADDRESS]
        return len(own) > 1

    def may(self, p: Payment) -> list[InvoiceTruth]:
        """Invoices that may rightly have been given this payment by some rule, at some moment."""
        return list({it.invoice.id: it for its in self.by_strategy(p).values() for it in its}.values())

    def by_strategy(self, p: Payment) -> dict[Match, list[InvoiceTruth]]:
        """They, by how the payment finds them, the strongest way first."""
        if not p.moves_money:
            return {}
        named = self._named(p)
        # who names an invoice means that one; no weaker strategy overrides it
        strategies = (Match.REFERENCE,) if named else (Match.ADDRESS, Match.AMOUNT, Match.PAYER)
        found: dict[Match, list[InvoiceTruth]] = {strategy: [] for strategy in strategies}
        for it, option in self._at.get(p.transfer.identity.recipient, ()):
            fitting = found.get(option.match)
            if fitting is None or it in fitting or (named and it not in named):
                continue
            if self._fits(it, option, p):
                fitting.append(it)
        return found

    def must(self, p: Payment) -> InvoiceTruth | None:
        """The invoice that has to get this payment as long as it can take any."""
        found = self.may(p)
        if len(found) != 1:
            return None
        (it,) = found
        named = self._named(p)
        if named and (len(named) > 1 or self._is_contested(it, p)):
            return None
        if p.time <= it.created_at:
            return None  # it may have been seen before the invoice was there
        return it

    def _named(self, p: Payment) -> list[InvoiceTruth]:
        """Invoices whose reference another log of the transaction shows, and that do not expect another sender."""
        i = p.transfer.identity
        return [
            it
            for label in p.transfer.labels
            for it in self._keys.get((label.key, i.recipient), ())
            if any(
                o.match is Match.REFERENCE and o.pay_to == i.recipient and o.payer in (None, i.sender)
                for o in it.invoice.options
            )
        ]

    def _is_contested(self, it: InvoiceTruth, p: Payment) -> bool:
        """Another merchant's invoice could have it without the reference: then nobody may."""
        return any(
            other.invoice.merchant != it.invoice.merchant
            and option.match is not Match.REFERENCE
            and self._fits(other, option, p)
            for other, option in self._at.get(p.transfer.identity.recipient, ())
        )

    def _fits(self, it: InvoiceTruth, option: Option, p: Payment) -> bool:
        i = p.transfer.identity
        if (option.chain_id, option.token_address) != (i.chain_id, i.token) or p.time > it.invoice.monitoring_until:
            return False
        if option.from_block is not None and p.transfer.block_number <= option.from_block:
            return False
        match option.match:
            case Match.AMOUNT:
                return i.amount == option.amount_base
            case Match.PAYER:
                off = abs(Fraction(i.amount - option.amount_base, 10**option.decimals))
                return option.payer == i.sender and off <= may_miss(it.invoice, self._rules)
            case Match.REFERENCE:
                return option.payer in (None, i.sender)
            case Match.ADDRESS:
                return True
