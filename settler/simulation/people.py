"""Merchants who ask for money, and payers who send it in every way we have seen.

An invoice is made as the API makes it; then its payer does one of `HABITS`, in transactions the chain may drop,
replace and move. What was meant is not told to anybody: the checkers go by the chains alone.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chains.model import Address, BaseUnits, Label, LabelKind, Token
from chains.simulated_chain import SimTransfer
from settler.domain.drafting import Catalog, InvoiceDefaults, InvoiceRequest, OptionRequest, draft
from settler.domain.ids import ENTROPY_BYTES, TOKEN_BYTES
from settler.domain.invoices import Invoice, Match, Option
from settler.simulation.client import Desk, Refused
from settler.simulation.driver import ChainDriver
from settler.simulation.truth import InvoiceTruth, Truth
from settler.storage import invoices, invoicing

HABITS = (
    "exact",
    "in parts",
    "at the last moment",
    "late",
    "very late",
    "twice",
    "twice in one transaction",
    "too much",
    "too little",
    "one unit and the rest",
    "zero value",
    "another token",
    "another chain",
    "worthless token",
    "in a batch with others",
    "by a relayer",
    "never",
)
COMMON = ("exact", "in parts", "late", "twice")
"""Every world has some of these, whatever else it draws."""

WORTHLESS = Address(b"\xfa" * 20)
"""Calls itself by the same symbol."""
STRANGERS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Customs:
    """How the people of one world behave: drawn once."""

    habits: Sequence[str]
    matches: Sequence[Match]
    expires_in_s: tuple[float, float]
    monitoring_s: int
    amounts: Sequence[str]
    several_options_rate: float
    shared_addresses: int


class People:
    """Merchants and payers of a world. `did` counts habits."""

    def __init__(
        self,
        desk: Desk,
        truth: Truth,
        drivers: Mapping[str, ChainDriver],
        *,
        catalog: Catalog,
        customs: Customs,
        random: random.Random,
    ) -> None:
        self._desk = desk
        self._truth = truth
        self._drivers = drivers
        self._catalog = catalog
        self._customs = customs
        self._random = random
        self._numbers = itertools.count(1)
        self._shared = [self._address() for _ in range(customs.shared_addresses)]
        self.did: Counter[str] = Counter()
        self._recent: list[Invoice] = []

    def _address(self) -> Address:
        return Address(next(self._numbers).to_bytes(4, "big") + self._random.randbytes(16))

    def _stranger(self) -> Address:
        return Address(b"\xaa" * 19 + bytes([self._random.randrange(STRANGERS)]))

    # -- asking --------------------------------------------------------------------------------------------------------

    async def order(self) -> Invoice | None:
        """A merchant asks for money, and the payer sends something, sooner or later. `None`: it was refused."""
        r = self._random
        request = self._request()
        made = await self._made(request)
        if isinstance(made, Refused):
            return None
        now = self._desk.now()
        self._truth.invoices[made.id] = InvoiceTruth(invoice=made, created_at=now)
        for option in made.options:
            self._truth.watched.setdefault(option.pay_to, now)
        self._recent = [*self._recent[-5:], made]
        self._pay(made, r.choice(self._customs.habits))
        return made

    def _request(self) -> InvoiceRequest:
        r, customs = self._random, self._customs
        match = r.choice(customs.matches)
        offers = [(name, symbol) for name, offer in self._catalog.items() for symbol in offer.tokens]
        count = r.randint(1, len(offers)) if r.random() < customs.several_options_rate else 1
        chosen = [offers[i] for i in sorted(r.sample(range(len(offers)), count))]
        pay_to = self._address() if match is Match.ADDRESS else r.choice(self._shared)
        payer = self._stranger() if match is Match.PAYER else None
        reference = r.randbytes(32) if match is Match.REFERENCE else None
        return InvoiceRequest(
            amount=r.choice(customs.amounts),
            reference=f"order-{next(self._numbers)}",
            options=tuple(
                OptionRequest(chain=chain, token=symbol, pay_to=pay_to, match=match, reference=reference, payer=payer)
                for chain, symbol in chosen
            ),
            expires_in_s=max(1, int(r.uniform(*customs.expires_in_s))),
            merchant=r.choice(("acme", "bakery")),
        )

    async def _made(self, request: InvoiceRequest) -> Invoice | Refused:
        desk = self._desk
        defaults = InvoiceDefaults(monitoring_s=self._customs.monitoring_s)

        async def insert(conn: object) -> Invoice:
            now = desk.now()
            drafted = draft(request, catalog=self._catalog, defaults=defaults, now=now)
            return await invoicing.insert(
                conn,  # type: ignore[arg-type] # the desk hands a connection
                drafted,
                now=now,
                entropy=desk.entropy(ENTROPY_BYTES),
                secret=desk.entropy(TOKEN_BYTES),
            )

        made = await desk.done(insert)
        if isinstance(made, Refused) and made.was_uncertain:
            known = await desk.seen(
                lambda conn: invoices.find(conn, reference=request.reference, merchant=request.merchant)
            )
            return known[0] if known else made
        return made

    # -- paying --------------------------------------------------------------------------------------------------------

    def _pay(self, invoice: Invoice, habit: str) -> None:
        """Schedules what the payer sends. A payer acts after the invoice was made, never before."""
        r = self._random
        self.did[habit] += 1
        option = r.choice(invoice.options)
        amount = option.amount_base
        left_s = (invoice.expires_at - self._desk.now()).total_seconds()
        soon = r.uniform(0.02, 0.7) * left_s
        match habit:
            case "exact":
                self._send(option, [amount], soon)
            case "in parts":
                first = r.randrange(1, amount) if amount > 1 else amount
                parts = [first, amount - first] if amount > first else [first]
                for part in parts:
                    self._send(option, [part], r.uniform(0.02, 0.8) * left_s)
            case "at the last moment":
                self._send(option, [amount], r.uniform(0.9, 1.02) * left_s)
            case "late":
                late = left_s + r.uniform(0.0, 0.9) * self._customs.monitoring_s
                self._send(option, [amount], late)
            case "very late":
                late = left_s + self._customs.monitoring_s + r.uniform(60, 7200)
                self._send(option, [amount], late)
            case "twice":
                self._send(option, [amount], soon)
                self._send(option, [amount], r.uniform(0.02, 1.2) * left_s)
            case "twice in one transaction":
                self._send(option, [amount, amount], soon)
            case "too much":
                self._send(option, [amount + r.randrange(1, amount + 1)], soon)
            case "too little":
                self._send(option, [r.randrange(1, amount)] if amount > 1 else [], soon)
            case "one unit and the rest":
                self._send(option, [1], soon)
                if amount > 1:
                    self._send(option, [amount - 1], r.uniform(0.02, 1.5) * left_s)
            case "zero value":
                self._send(option, [0], soon)
                self._send(option, [amount], r.uniform(0.02, 0.7) * left_s)
            case "another token":
                self._elsewhere(invoice, option, soon, same_chain=True)
            case "another chain":
                self._elsewhere(invoice, option, soon, same_chain=False)
            case "worthless token":
                self._send(option, [amount], soon, token=WORTHLESS)
            case "in a batch with others":
                self._send_batch(invoice, option, soon)
            case "by a relayer":
                self._send(option, [amount], soon, authorized=True)
            case "never":
                pass
            case _:
                raise AssertionError(f"unknown habit {habit}")

    def _send(
        self,
        option: Option,
        amounts: Sequence[int],
        after_s: float,
        *,
        token: Address | None = None,
        authorized: bool = False,
    ) -> None:
        if amounts:
            driver = self._drivers[option.chain]
            driver.send(
                *(self._transfer(option, a, token=token, authorized=authorized) for a in amounts),
                after_s=max(0.0, after_s),
            )

    def _transfer(
        self, option: Option, amount: int, *, token: Address | None = None, authorized: bool = False
    ) -> SimTransfer:
        labels: tuple[Label, ...] = ()
        if option.reference is not None:
            labels = (Label(kind=LabelKind.AUTHORIZATION, key=option.reference),)
        elif authorized:
            labels = (Label(kind=LabelKind.AUTHORIZATION, key=self._random.randbytes(32)),)
        sender = option.payer if option.payer is not None else self._stranger()
        return SimTransfer(
            token=token or option.token_address,
            sender=sender,
            recipient=option.pay_to,
            amount=BaseUnits(amount),
            labels=labels,
        )

    def _elsewhere(self, invoice: Invoice, option: Option, after_s: float, *, same_chain: bool) -> None:
        """The right address, and a token that was not asked for."""
        asked = {(o.chain, o.token) for o in invoice.options}
        others = [
            (name, token)
            for name, offer in self._catalog.items()
            for symbol, token in offer.tokens.items()
            if (name, symbol) not in asked and (name == option.chain) is same_chain
        ]
        if not others:
            self._send(option, [option.amount_base], after_s)
            return
        name, token = self._random.choice(others)
        amount = _rescaled(option.amount_base, option.decimals, token)
        one = SimTransfer(
            token=token.address, sender=self._stranger(), recipient=option.pay_to, amount=BaseUnits(amount)
        )
        self._drivers[name].send(one, after_s=max(0.0, after_s))

    def _send_batch(self, invoice: Invoice, option: Option, after_s: float) -> None:
        """An exchange pays several invoices, and strangers, in one transaction."""
        transfers = [self._transfer(option, option.amount_base)]
        for other in self._recent:
            for o in other.options:
                if other.id != invoice.id and o.chain == option.chain and o.pay_to != option.pay_to:
                    transfers.append(self._transfer(o, o.amount_base))
                    break
        stranger = self._transfer(option, 5)
        transfers.append(
            SimTransfer(
                token=stranger.token, sender=stranger.sender, recipient=self._stranger(), amount=stranger.amount
            )
        )
        self._random.shuffle(transfers)
        self._drivers[option.chain].send(*transfers, after_s=max(0.0, after_s))


def _rescaled(amount: int, decimals: int, token: Token) -> int:
    return max(1, amount * int(10**token.decimals) // int(10**decimals))
