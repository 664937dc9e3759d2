"""Payers do on the chain what their habit says, and operators are put down for what they did and nothing else."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from chains.model import Address, ChainId, Label, TxHash
from chains.simulated_chain import SimulatedChain
from settler.domain.invoices import Invoice, InvoiceStatus, Match
from settler.runtime.setups import judgement_of
from settler.simulation.client import Desk
from settler.simulation.clock import EPOCH, SimClock
from settler.simulation.driver import ChainDriver
from settler.simulation.operators import DECISIONS, Operators
from settler.simulation.people import HABITS, WORTHLESS, Customs, People
from settler.simulation.plan import ChainPlan, Plan, draw
from settler.simulation.setting import settings_of
from settler.simulation.store import SimStore
from settler.simulation.truth import ChainTruth, Truth
from settler.stages.operating import Operating
from settler.storage import invoices
from tests.simulation.virtual import virtual

ASKED_S = 1_000
MONITORED_S = 500
WHOLE_S = 20_000
"""All that was to be sent is sent by then."""


def a_plan() -> Plan:
    """Of a drawn one, with two chains of which each has a token of its own."""
    for seed in range(1_000):
        plan = draw(seed)
        if len(plan.chains) == 2 and len(plan.chains[0].tokens) == 2:
            return plan
    raise AssertionError("no plan has two chains")


@dataclass(frozen=True, kw_only=True)
class Came:
    """What came to an address."""

    chain_id: ChainId
    tx_hash: TxHash
    token: Address
    amount: int
    labels: tuple[Label, ...]
    at_s: int
    """Of its block, since 1970."""


@dataclass
class Town:
    """People and operators before a database and two chains, with nobody in between."""

    store: SimStore
    truth: Truth
    drivers: dict[str, ChainDriver]
    people: People
    operators: Operators
    desk: Desk

    @classmethod
    async def of(cls, *habits: str, match: Match = Match.ADDRESS) -> Town:
        plan = a_plan()
        settings = settings_of(plan)
        store = await SimStore.create(None, random=random.Random(1))
        truth = Truth()
        drivers = {chain.name: _driver(chain, truth) for chain in plan.chains}
        desk = Desk(store.open, clock=SimClock(asyncio.get_running_loop()), random=random.Random(2))
        customs = Customs(
            habits=habits,
            matches=(match,),
            expires_in_s=(ASKED_S, ASKED_S),
            monitoring_s=MONITORED_S,
            amounts=("100",),
            several_options_rate=0.0,
            shared_addresses=1,
        )
        people = People(desk, truth, drivers, catalog=settings.catalog(), customs=customs, random=random.Random(3))
        operating = Operating(judgement_of(settings))
        operators = Operators(desk=desk, truth=truth, operating=operating, random=random.Random(4), did=Counter())
        return cls(store, truth, drivers, people, operators, desk)

    async def paid(self) -> tuple[Invoice, list[Came]]:
        """An invoice, and what its address ever receives, in order of time."""
        invoice = await self.people.order()
        assert invoice is not None
        await asyncio.sleep(WHOLE_S)
        return invoice, self.received(invoice)

    def received(self, invoice: Invoice) -> list[Came]:
        found: list[Came] = []
        for driver in self.drivers.values():
            driver.catch_up()
            for number in range(driver.chain.height + 1):
                content = driver.chain.content_at(number)
                for tx in () if content is None else content.txs:
                    found += (
                        Came(
                            chain_id=driver.chain.id,
                            tx_hash=tx.hash,
                            token=sent.token,
                            amount=sent.amount,
                            labels=sent.labels,
                            at_s=driver.chain.time_s_at(number),
                        )
                        for sent in tx.transfers
                        if sent.recipient == invoice.options[0].pay_to
                    )
        return found

    async def now(self, invoice: Invoice) -> Invoice:
        found = await self.desk.seen(lambda conn: invoices.find(conn, limit=50))
        return next(each for each in found if each.id == invoice.id)


def _driver(plan: ChainPlan, truth: Truth) -> ChainDriver:
    chain = SimulatedChain(seed=1, chain_id=ChainId(plan.chain_id), start_time=EPOCH, block_time_s=10)
    truth.chains[plan.name] = ChainTruth(name=plan.name, chain=chain, tokens=(), final_height=0)
    return ChainDriver(
        truth.chains[plan.name],
        block_s=10,
        finality=plan.finality,
        random=random.Random(5),
        on_event=lambda _what: None,
    )


# -- payers ------------------------------------------------------------------------------------------------------------


@dataclass
class Seen:
    """What an address received, beside what was asked for."""

    invoice: Invoice
    transfers: list[Came]

    @property
    def asked(self) -> int:
        return self.invoice.options[0].amount_base

    @property
    def amounts(self) -> list[int]:
        return [t.amount for t in self.transfers if self._is_asked(t)]

    def _is_asked(self, transfer: Came) -> bool:
        option = self.invoice.options[0]
        return (transfer.chain_id, transfer.token) == (option.chain_id, option.token_address)

    @property
    def after_s(self) -> list[float]:
        """Seconds from expiry to each block."""
        return [t.at_s - self.invoice.expires_at.timestamp() for t in self.transfers]

    @property
    def given_s(self) -> float:
        """Seconds there were to pay."""
        return (self.invoice.expires_at - self.invoice.created_at).total_seconds()

    @property
    def is_in_time(self) -> bool:
        return all(after_s < 0 for after_s in self.after_s)


SEEN: dict[str, Callable[[Seen], bool]] = {
    "exact": lambda s: s.amounts == [s.asked] and s.is_in_time,
    "in parts": lambda s: len(s.amounts) == 2 and sum(s.amounts) == s.asked and s.is_in_time,
    "at the last moment": lambda s: s.amounts == [s.asked] and abs(s.after_s[0]) <= 0.15 * s.given_s,
    "late": lambda s: s.amounts == [s.asked] and 0 <= s.after_s[0] <= MONITORED_S,
    "very late": lambda s: s.amounts == [s.asked] and s.after_s[0] > MONITORED_S,
    "twice": lambda s: s.amounts == [s.asked] * 2 and len({t.tx_hash for t in s.transfers}) == 2,
    "twice in one transaction": lambda s: s.amounts == [s.asked] * 2 and len({t.tx_hash for t in s.transfers}) == 1,
    "too much": lambda s: s.asked < sum(s.amounts) <= 2 * s.asked and s.is_in_time,
    "too little": lambda s: 0 < sum(s.amounts) < s.asked and s.is_in_time,
    "one unit and the rest": lambda s: sorted(s.amounts) == [1, s.asked - 1],
    "zero value": lambda s: sorted(s.amounts) == [0, s.asked] and s.is_in_time,
    "another token": lambda s: s.amounts == [] and [t.chain_id for t in s.transfers] == [s.invoice.options[0].chain_id],
    "another chain": lambda s: s.amounts == [] and s.transfers[0].chain_id != s.invoice.options[0].chain_id,
    "worthless token": lambda s: s.amounts == [] and [t.token for t in s.transfers] == [WORTHLESS],
    "in a batch with others": lambda s: s.amounts == [s.asked] and s.is_in_time,
    "by a relayer": lambda s: s.amounts == [s.asked] and len(s.transfers[0].labels) == 1,
    "never": lambda s: s.transfers == [],
}


@pytest.mark.parametrize("habit", HABITS)
@virtual
async def test_habit__puts_on_the_chain_what_it_says(habit: str) -> None:
    town = await Town.of(habit)
    if habit == "another token":
        town.people._catalog = {name: offer for name, offer in town.people._catalog.items() if len(offer.tokens) == 2}
    invoice, transfers = await town.paid()
    assert SEEN[habit](Seen(invoice, transfers)), transfers
    assert town.people.did == {habit: 1}
    await town.store.close()


@virtual
async def test_order__is_told_to_the_truth_as_it_was_answered() -> None:
    town = await Town.of("never")
    invoice = await town.people.order()
    assert invoice is not None
    assert town.truth.invoices[invoice.id].invoice == invoice
    assert set(town.truth.watched) == {invoice.options[0].pay_to}
    await town.store.close()


@virtual
async def test_order__whose_answer_is_lost__is_found_and_not_made_twice() -> None:
    town = await Town.of("never")
    town.store.inject("commit unknown, done", 1.0)
    asyncio.get_running_loop().call_later(0.1, town.store.heal)
    invoice = await town.people.order()
    assert invoice is not None
    kept = await town.desk.seen(lambda conn: invoices.find(conn, limit=50))
    assert [each.id for each in kept] == [invoice.id] == list(town.truth.invoices)
    assert town.store.struck["commit unknown, done"] > 0
    await town.store.close()


@virtual
async def test_order__on_a_shared_address__is_told_apart_by_its_amount() -> None:
    town = await Town.of("exact", match=Match.AMOUNT)
    first, second = await town.people.order(), await town.people.order()
    assert first is not None
    assert second is not None
    (one,), (other,) = first.options, second.options
    assert one.pay_to == other.pay_to
    assert (one.chain, one.token, one.amount_base) != (other.chain, other.token, other.amount_base)
    await town.store.close()


@virtual
async def test_order__by_reference__carries_it_on_the_chain() -> None:
    town = await Town.of("exact", match=Match.REFERENCE)
    invoice, (came,) = await town.paid()
    assert [label.key for label in came.labels] == [invoice.options[0].reference]
    await town.store.close()


# -- operators ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decision", DECISIONS)
@virtual
async def test_decision__about_nothing__does_nothing(decision: str) -> None:
    town = await Town.of("never")
    await town.operators.decide(decision)
    assert (town.truth.actions, town.operators.did.total()) == ([], 0)
    await town.store.close()


@virtual
async def test_cancel__is_done_and_put_down() -> None:
    town = await Town.of("never")
    invoice = await town.people.order()
    assert invoice is not None
    await town.operators.decide("cancel")
    (action,) = town.truth.actions
    assert (action.kind, action.object_id, action.is_certain) == ("cancel", invoice.id, True)
    assert (await town.now(invoice)).status is InvoiceStatus.CANCELED
    await town.store.close()


@virtual
async def test_cancel__whose_answer_is_lost__is_put_down_as_uncertain() -> None:
    """Asked again it is refused, for it had worked: the truth must hold that it may have."""
    town = await Town.of("never")
    invoice = await town.people.order()
    town.store.inject("commit unknown, done", 1.0)
    asyncio.get_running_loop().call_later(0.1, town.store.heal)
    await town.operators.decide("cancel")
    assert invoice is not None
    (action,) = town.truth.actions
    assert (action.object_id, action.is_certain) == (invoice.id, False)
    assert (await town.now(invoice)).status is InvoiceStatus.CANCELED
    await town.store.close()


@virtual
async def test_refused__is_not_put_down() -> None:
    town = await Town.of("never")
    invoice = await town.people.order()
    assert invoice is not None
    for _ in range(2):
        await town.operators._act(
            "cancel",
            invoice.id,
            lambda conn: town.operators.operating.cancel(conn, invoice.id, town.desk.by("ada")),
        )
    assert [action.kind for action in town.truth.actions] == ["cancel"]
    assert town.operators.did == {"cancel": 1}
    await town.store.close()


@virtual
async def test_desk__whose_process_dies__asks_the_next_one() -> None:
    town = await Town.of("never")
    town.store.inject("crash before a write", 1.0)
    asyncio.get_running_loop().call_later(0.1, town.store.heal)
    invoice = await town.people.order()
    assert invoice is not None
    assert town.store.struck["crash before a write"] > 0
    assert list(town.truth.invoices) == [invoice.id]
    await town.store.close()
