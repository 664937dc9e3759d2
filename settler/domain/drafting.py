"""From a request for an invoice to a draft that can be stored. Pure: all that is wrong is said at once.

Not here: whether a reference is taken, which unique amount and which deposit address are free; the database decides
those (`storage.invoicing`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
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
REFERENCE_BYTES_MIN, REFERENCE_BYTES_MAX = 8, 32
"""Of an on-chain reference. Request Network's have 8, nonces, memos and hashes 32."""
NEW_REFERENCE_BYTES = 32
"""Of one that is made here: as long as every way to carry one takes, and nobody guesses it."""
TAIL_FRACTION_DIGITS = 6
"""The unique tail stands in the digits after the point that wallets show: the last four of six."""
TAIL_CAPACITY = 9_999

_REFERENCE_DIGITS = f"{REFERENCE_BYTES_MIN} to {REFERENCE_BYTES_MAX} bytes in hex"
_HEX = re.compile(r"[0-9a-fA-F]*", re.ASCII)
_SHOWN_CHARS = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainOffer:
    """A configured chain as an invoice may name it."""

    name: str
    chain_id: ChainId
    tokens: Mapping[str, Token]
    """By symbol."""
    explorer: str | None = None
    """A web site that shows its transactions at `/tx/0x…`, for links; `None`: no links."""


Catalog = Mapping[str, ChainOffer]


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionRequest:
    chain: str
    token: str
    pay_to: Address | None
    """`None`: a deposit address of the invoice's own."""
    match: Match
    reference: bytes | None = None
    """On-chain reference; `None`: one is to be made, where the strategy takes one."""
    payer: Address | None = None


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
    pay_to: Address | None
    """`None`: the deposit address that the invoice is given, one for all its options."""
    match: Match
    amount_base: BaseUnits
    """Without a tail."""
    reference: bytes | None
    """Set exactly for `match = reference`."""
    payer: Address | None


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


def draft(
    request: InvoiceRequest,
    *,
    catalog: Catalog,
    defaults: InvoiceDefaults,
    now: datetime,
    new_reference: bytes | None = None,
) -> Draft:
    """The draft of a valid request. Raises `InvalidRequest` naming every field, value and remedy.

    `new_reference`: 32 random bytes, the reference of all options that are matched by one and leave it out; without
    it they must not.
    """
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
            options[index] = _option(request, option, f"options[{index}]", catalog, new_reference)
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


def parse_reference(text: str) -> bytes:
    """The bytes of an on-chain reference in 0x-hex. Raises `InvalidInput`."""
    field_ = "reference"
    if not text.startswith("0x"):
        raise InvalidInput(field_, f"{text[:_SHOWN_CHARS]!a} is not hex; write 0x and {_REFERENCE_DIGITS}")
    digits = text[2:]
    if _HEX.fullmatch(digits) is None:
        raise InvalidInput(
            field_, f"{text[:_SHOWN_CHARS]!a} has other than hex digits; write 0x and {_REFERENCE_DIGITS}"
        )
    if len(digits) % 2:
        raise InvalidInput(
            field_,
            f"{text[:_SHOWN_CHARS]} has {len(digits)} hex digits; a byte has two, write 0x and {_REFERENCE_DIGITS}",
        )
    return _sized(bytes.fromhex(digits), field_)


def reference_keys(reference: bytes, keccak: Callable[[bytes], bytes]) -> tuple[bytes, ...]:
    """What the logs of a payment may show of a reference: itself where it fills a word, and always its keccak-256,
    which is all that an indexed `bytes` leaves.
    """
    hashed = keccak(reference)
    return (reference, hashed) if len(reference) == REFERENCE_BYTES_MAX else (hashed,)


def _sized(reference: bytes, at: str) -> bytes:
    shown = "0x" + reference.hex()[:_SHOWN_CHARS]
    if not REFERENCE_BYTES_MIN <= len(reference) <= REFERENCE_BYTES_MAX:
        raise InvalidInput(at, f"{shown} has {len(reference)} bytes; give {_REFERENCE_DIGITS}, or leave it out")
    if not any(reference):
        raise InvalidInput(at, f"{shown} is all zeros, which is what payments without a reference carry; give another")
    return reference


def _labels(option: OptionRequest, at: str, new_reference: bytes | None) -> tuple[bytes | None, Address | None]:
    """The reference and the payer that the strategy goes by."""
    strategy = option.match
    if option.reference is not None and strategy is not Match.REFERENCE:
        raise InvalidInput(
            f"{at}.reference",
            f"0x{option.reference.hex()} is not looked at where match is {strategy.value!r}; "
            "leave it out, or match by 'reference'",
        )
    if option.payer is not None and strategy not in {Match.PAYER, Match.REFERENCE}:
        raise InvalidInput(
            f"{at}.payer",
            f"0x{option.payer.hex()} is not looked at where match is {strategy.value!r}; "
            "leave it out, or match by 'payer' or 'reference'",
        )
    if strategy is Match.PAYER and option.payer is None:
        raise InvalidInput(f"{at}.payer", "is missing; give the address that will pay, or match by another strategy")
    if option.payer is not None and option.payer == option.pay_to:
        raise InvalidInput(f"{at}.payer", "is pay_to itself: what an address sends to itself pays nothing")
    if strategy is not Match.REFERENCE:
        return None, option.payer
    reference = new_reference if option.reference is None else _sized(option.reference, f"{at}.reference")
    if reference is None:
        raise InvalidInput(f"{at}.reference", f"is missing; give {_REFERENCE_DIGITS}")
    return reference, option.payer


def _option(
    request: InvoiceRequest, option: OptionRequest, at: str, catalog: Catalog, new_reference: bytes | None
) -> DraftOption:
    offer = catalog.get(option.chain)
    if offer is None:
        raise InvalidInput(f"{at}.chain", f"{option.chain!r} is not configured; {_one_of(catalog)}")
    token = offer.tokens.get(option.token)
    if token is None:
        raise InvalidInput(
            f"{at}.token", f"{option.token!r} is not configured on {option.chain}; {_one_of(offer.tokens)}"
        )
    if option.pay_to is not None and (option.pay_to == token.address or not any(option.pay_to)):
        what = f"is the contract of {token.symbol} itself" if any(option.pay_to) else "is the zero address"
        raise InvalidInput(f"{at}.pay_to", f"{what}: what is sent there is lost; give the address to be paid")
    if option.match is Match.AMOUNT and tail_capacity(token.decimals) == 0:
        raise InvalidInput(
            f"{at}.match",
            f"'amount' needs a token with more than 2 decimals, {token.symbol} has {token.decimals}",
        )
    reference, payer = _labels(option, at, new_reference)
    return DraftOption(
        chain=option.chain,
        token=token,
        pay_to=option.pay_to,
        match=option.match,
        amount_base=parse_positive(request.amount, token.decimals, field="amount"),
        reference=reference,
        payer=payer,
    )


def _same_way_twice(options: Mapping[int, DraftOption]) -> list[InvalidInput]:
    """`options` by their place in the request."""
    seen: set[tuple[int, bytes, bytes | None]] = set()
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
