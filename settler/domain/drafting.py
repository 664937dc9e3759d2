"""From a request for an invoice to a draft that can be stored. Pure: all that is wrong is said at once.

Not here: whether the reference is taken and which unique amount is free; the database decides those
(`storage.invoices`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from chains.model import Address, BaseUnits, ChainId, Token
from settler.domain.errors import InvalidInput
from settler.domain.invoices import DEFAULT_MERCHANT, Match
from settler.domain.money import parse_positive

MAX_OPTIONS = 50
"""Options an invoice may offer; a bound on the work one transfer can cause."""
MAX_EXPIRES_IN_S = 366 * 86_400
"""A year: an amount on a shared address stays reserved that long."""
AVAILABLE_STRATEGIES = (Match.ADDRESS, Match.AMOUNT)
TAIL_FRACTION_DIGITS = 6
"""The unique tail stands in the digits after the point that wallets show: the last four of six."""
TAIL_CAPACITY = 9_999


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainOffer:
    """A configured chain as an invoice may name it."""

    name: str
    chain_id: ChainId
    tokens: Mapping[str, Token]
    """By symbol."""


Catalog = Mapping[str, ChainOffer]


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionRequest:
    chain: str
    token: str
    pay_to: Address | None
    match: Match


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceRequest:
    amount: str
    reference: str
    options: tuple[OptionRequest, ...]
    currency: str | None = None
    expires_in_s: int | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    merchant: str = DEFAULT_MERCHANT


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceDefaults:
    expires_in_s: int = 3_600
    monitoring_s: int = 86_400
    """After expiry, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftOption:
    chain: str
    token: Token
    pay_to: Address
    match: Match
    amount_base: BaseUnits
    """Without a tail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    merchant: str
    reference: str
    currency: str
    amount: int
    scale: int
    options: tuple[DraftOption, ...]
    created_at: datetime
    expires_at: datetime
    monitoring_until: datetime
    metadata: Mapping[str, Any]


class InvalidRequest(InvalidInput):
    """One or several things are wrong with a request; `problems` has each with its field."""

    def __init__(self, problems: tuple[InvalidInput, ...]) -> None:
        super().__init__(problems[0].field, "; ".join(str(p) for p in problems)[len(problems[0].field) + 2 :])
        self.problems = problems


def draft(request: InvoiceRequest, *, catalog: Catalog, defaults: InvoiceDefaults, now: datetime) -> Draft:
    """The draft of a valid request. Raises `InvalidRequest` naming every field, value and remedy."""
    problems: list[InvalidInput] = []
    if not request.reference.strip():
        problems.append(InvalidInput("reference", "is empty; give your own name for the invoice, e.g. an order number"))
    expires_in_s = defaults.expires_in_s if request.expires_in_s is None else request.expires_in_s
    if not 0 < expires_in_s <= MAX_EXPIRES_IN_S:
        problems.append(
            InvalidInput(
                "expires_in_s",
                f"{expires_in_s} is not in the future within a year; give seconds from now, 1 to {MAX_EXPIRES_IN_S}",
            )
        )
    if not 1 <= len(request.options) <= MAX_OPTIONS:
        problems.append(
            InvalidInput("options", f"has {len(request.options)} entries; give 1 to {MAX_OPTIONS} ways to pay")
        )
    options: dict[int, DraftOption] = {}
    for index, option in enumerate(request.options[:MAX_OPTIONS]):
        try:
            options[index] = _option(request, option, f"options[{index}]", catalog)
        except InvalidInput as problem:
            if all(str(problem) != str(known) for known in problems):
                problems.append(problem)
    problems += _same_way_twice(options)
    currencies = sorted({o.token.currency for o in options.values()})
    currency = request.currency or (currencies[0] if currencies else "")
    if len(currencies) > 1 or (currencies and currencies != [currency]):
        problems.append(
            InvalidInput(
                "currency",
                f"{currency!r} is not what all options stand for ({', '.join(currencies)}); "
                "an invoice has one currency, that of its options' tokens",
            )
        )
    if problems:
        raise InvalidRequest(tuple(problems))
    finest = max(options.values(), key=lambda o: o.token.decimals)
    scale = finest.token.decimals
    return Draft(
        merchant=request.merchant,
        reference=request.reference,
        currency=currency,
        amount=finest.amount_base,
        scale=scale,
        options=tuple(options.values()),
        created_at=now,
        expires_at=now + timedelta(seconds=expires_in_s),
        monitoring_until=now + timedelta(seconds=expires_in_s + defaults.monitoring_s),
        metadata=dict(request.metadata),
    )


def tail_unit(decimals: int) -> int:
    """Base units by which unique amounts differ: one in the sixth digit after the point, or the smallest unit."""
    return int(10 ** max(0, decimals - TAIL_FRACTION_DIGITS))


def tail_capacity(decimals: int) -> int:
    """How many unique amounts there are above one asked amount: at most 9,999, and never as much as a hundredth (a
    cent).
    """
    return min(TAIL_CAPACITY, int(10 ** max(0, min(decimals, TAIL_FRACTION_DIGITS) - 2)) - 1)


def _option(request: InvoiceRequest, option: OptionRequest, at: str, catalog: Catalog) -> DraftOption:
    offer = catalog.get(option.chain)
    if offer is None:
        raise InvalidInput(f"{at}.chain", f"{option.chain!r} is not configured; {_one_of(catalog)}")
    token = offer.tokens.get(option.token)
    if token is None:
        raise InvalidInput(
            f"{at}.token", f"{option.token!r} is not configured on {option.chain}; {_one_of(offer.tokens)}"
        )
    if option.match not in AVAILABLE_STRATEGIES:
        raise InvalidInput(
            f"{at}.match",
            f"{option.match.value!r} is not available in this version; "
            + _one_of(m.value for m in AVAILABLE_STRATEGIES),
        )
    if option.pay_to is None:
        raise InvalidInput(
            f"{at}.pay_to",
            "is missing; give the address to be paid (no address pool or extended public key is configured)",
        )
    if option.pay_to == token.address or not any(option.pay_to):
        what = f"is the contract of {token.symbol} itself" if any(option.pay_to) else "is the zero address"
        raise InvalidInput(f"{at}.pay_to", f"{what}: what is sent there is lost; give the address to be paid")
    if option.match is Match.AMOUNT and tail_capacity(token.decimals) == 0:
        raise InvalidInput(
            f"{at}.match",
            f"'amount' needs a token with more than 2 decimals, {token.symbol} has {token.decimals}",
        )
    return DraftOption(
        chain=option.chain,
        token=token,
        pay_to=option.pay_to,
        match=option.match,
        amount_base=parse_positive(request.amount, token.decimals, field="amount"),
    )


def _same_way_twice(options: Mapping[int, DraftOption]) -> list[InvalidInput]:
    """`options` by their place in the request."""
    seen: set[tuple[int, bytes, bytes]] = set()
    problems = []
    for index, o in options.items():
        way = (o.token.chain_id, o.token.address, o.pay_to)
        if way in seen:
            problems.append(
                InvalidInput(f"options[{index}]", f"{o.token.symbol} on {o.chain} to this address is offered already")
            )
        seen.add(way)
    return problems


def _one_of(names: Iterable[str]) -> str:
    known = sorted(names)
    return "choose one of " + ", ".join(known) if known else "nothing is configured there"
