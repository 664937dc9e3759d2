"""A random life of two chains, the real stages and a real SQLite store, checked against the simulator's truth.

Hypothesis draws what the chains do (payments, reorgs up to the finality depth), what goes wrong (nodes that lag, leave
out logs, fail; a process that dies inside or just after a commit, a restart) and when each stage ticks. After every
step the invariants (RULES.md section 8: I1 to I8) are computed anew from the tables and from `SimulatedChain`, using
nothing of the code under test. At the end all faults heal, both chains are mined on, and every invoice must be where
its money says.

`base` has one provider, which lies to the first reading only: nobody could tell if it did to the second. `anvil` has
three, of which two must agree, and one of them, now this and now that, lies to both: it leaves out, invents, alters,
antedates, or shows other blocks.

Left out on purpose: chains do not get shorter, and nothing final is replaced (`test_halt`).
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from chains.errors import ChainError
from chains.model import Address, ChainId, Transfer
from chains.simulated import SimFaults, SimTx, SimulatedReader
from chains.spans import WindowedReader
from settler.domain.errors import Conflict
from settler.domain.finality import Depth
from settler.domain.invariants import Violation
from settler.domain.invoices import Invoice, Match
from settler.domain.settlement import InvoicePolicy
from settler.stages.invariants import check
from settler.stages.omissions import SIGHTINGS as OMISSION_SIGHTINGS
from settler.stages.progress import Progress
from settler.storage import schema
from settler.storage.chains import CursorMoved
from settler.storage.engine import Database
from tests.support.lying import HEADER_LIES, LIES, LyingReader, honest, liar
from tests.support.world import ChainWorld, World, token

T = TypeVar("T")
CHAINS = ("anvil", "base")
BASE = ChainId(8453)
PROVIDERS = {"anvil": 3, "base": 1}
FINAL_DEPTH = {"anvil": 3, "base": 2}
STAGES = ("watch", "watch", "settle", "settle", "expire")
MAX_INVOICES = 6
PAYMENTS = ("exact", "exact", "half", "over", "twice in one", "one unit", "zero")
FAULTS = (
    SimFaults(),
    SimFaults(),
    SimFaults(empty_logs_rate=0.7),
    SimFaults(omitted_log_rate=0.5),
    SimFaults(transient_rate=0.4),
    SimFaults(missing_end_rate=0.5),
    SimFaults(stale_head_rate=0.5, stale_blocks=4),
    SimFaults(max_span=1),
)
PROFILE = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=25,
    stateful_step_count=30,
    suppress_health_check=list(HealthCheck),
)


Death = tuple[int | None, bool]
"""At which commit from now the process dies, `None` for not at all; and whether that commit is made before."""
deaths: st.SearchStrategy[Death] = st.just((None, False)) | st.tuples(st.integers(1, 4), st.booleans())


Work = list[tuple[str, str]]
"""Ticks: of which chain, of which stage."""
works = st.lists(st.tuples(st.sampled_from(CHAINS), st.sampled_from(STAGES)), max_size=8)


Lie = tuple[int, str]
"""Which provider of `anvil`, and what."""
lies: st.SearchStrategy[Lie] = st.tuples(st.sampled_from([0, 0, 1, 2]), st.sampled_from([*LIES, *HEADER_LIES]))


@dataclass(frozen=True)
class Fork:
    """Replaces the top `depth` blocks, at most those that are not final, by as many and `longer` more."""

    name: str
    depth: int
    shift: int
    longer: int
    drops: bool


forks = st.none() | st.builds(
    Fork,
    name=st.sampled_from(CHAINS),
    depth=st.integers(1, 3),
    shift=st.integers(0, 2),
    longer=st.integers(0, 2),
    drops=st.booleans(),
)


class Crash(BaseException):
    """The process dies: nothing of it catches this."""


class MortalDatabase(Database):
    """Dies at the n-th commit from when it is told to, just before it or just after."""

    commits_to_live: int | None = None
    is_committed_first = False

    @asynccontextmanager
    async def write(self, *, is_told: bool = True) -> AsyncIterator[AsyncConnection]:
        async with super().write(is_told=is_told) as conn:
            yield conn
            if self.commits_to_live is not None:
                self.commits_to_live -= 1
            if self.commits_to_live == 0 and not self.is_committed_first:
                raise Crash
        if self.commits_to_live == 0:
            raise Crash


class Store:
    """One in-memory database for all examples, put back to the migrated template before each."""

    def __init__(self, template: Path) -> None:
        self.runner = asyncio.Runner()
        image = bytearray(template.read_bytes())
        image[18] = image[19] = 1  # no write-ahead log: there is none in memory
        self._image = bytes(image)
        self.db = self.runner.run(MortalDatabase.open("sqlite://"))

    def reset(self) -> None:
        self.db.commits_to_live = None
        self.runner.run(self._reset())

    async def _reset(self) -> None:
        async with self.db._writer.connect() as conn:
            raw = await conn.get_raw_connection()
            driver = raw.driver_connection
            assert driver is not None
            await driver._execute(driver._conn.deserialize, self._image)

    def close(self) -> None:
        self.runner.run(self.db.dispose())
        self.runner.close()


@dataclass
class Rows:
    """Everything stored, as plain rows by table."""

    chains: list[Any] = field(default_factory=list)
    transfers: list[Any] = field(default_factory=list)
    invoices: list[Any] = field(default_factory=list)
    invoice_options: list[Any] = field(default_factory=list)
    settlements: list[Any] = field(default_factory=list)
    settlement_lines: list[Any] = field(default_factory=list)
    reversals: list[Any] = field(default_factory=list)
    ledger_entries: list[Any] = field(default_factory=list)
    ledger_lines: list[Any] = field(default_factory=list)
    events: list[Any] = field(default_factory=list)


class Life(RuleBasedStateMachine):
    store: Store

    def __init__(self) -> None:
        super().__init__()
        self.store.reset()
        self.world: World = self.wait(self._begin())
        self.made: list[Invoice] = []
        self.dropped: list[tuple[str, SimTx]] = []
        self.watched: set[Address] = set()
        self.begun = {name: self._cursor(name) for name in CHAINS}
        self.peak = dict(self.begun)
        self.settled_to = dict(self.begun)
        self.has_news = True
        self.shared = self.world.address()

    async def _begin(self) -> World:
        world = World(self.store.db, InvoicePolicy())
        await world.add_chain(
            "anvil",
            tokens=[token(), token("DAI", decimals=18)],
            finality=Depth(blocks=3),
            seed=1,
            providers=PROVIDERS["anvil"],
            quorum=2,
        )
        for at in range(PROVIDERS["anvil"]):
            liar(world, at, on="anvil")
        await world.add_chain("base", tokens=[token(chain_id=BASE)], finality=Depth(blocks=2), seed=2)
        return world

    def wait(self, work: Awaitable[T]) -> T:
        async def awaited() -> T:
            return await work

        return self.store.runner.run(awaited())

    def chain(self, name: str) -> ChainWorld:
        return self.world.chains[name]

    def _cursor(self, name: str) -> int:
        number = self.wait(self.world.state(name)).settled_number
        assert number is not None
        return number

    # -- what people do --------------------------------------------------------------------------------------------

    @initialize()
    def begin_with_a_customer(self) -> None:
        self._make_invoice("100", is_shared=False, is_short=False)
        self.world.pay(self.made[0])

    @rule(
        data=st.data(),
        amount=st.sampled_from(["1", "100"]),
        is_shared=st.booleans(),
        is_short=st.booleans(),
        kind=st.none() | st.sampled_from(PAYMENTS),
    )
    def customer(self, data: st.DataObject, amount: str, is_shared: bool, is_short: bool, kind: str | None) -> None:
        if len(self.made) < MAX_INVOICES:
            self._make_invoice(amount, is_shared=is_shared, is_short=is_short)
        if kind is not None:
            self._pay(self.made[-1], kind, data)

    @rule(data=st.data(), kind=st.sampled_from(PAYMENTS))
    def pay(self, data: st.DataObject, kind: str) -> None:
        self._pay(data.draw(st.sampled_from(self.made)), kind, data)

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        invoice = data.draw(st.sampled_from(self.made))
        self.world.clock.advance(1)

        async def cancel() -> None:
            async with self.world.db.write() as conn:
                await self.world.operating.cancel(conn, invoice.id, self.world.by("test"))

        self._living(cancel())

    def _make_invoice(self, amount: str, *, is_shared: bool, is_short: bool) -> None:
        newest = max(self.chain(name).chain.head.time for name in CHAINS)
        self.world.clock.advance(max(0.0, (newest - self.world.clock.now()).total_seconds()))
        made = self.world.invoice(
            amount,
            pay_to=self.shared if is_shared else None,
            match=Match.AMOUNT if is_shared else Match.ADDRESS,
            expires_in_s=3_600 if is_short else 100 * 86_400,
        )
        self.store.db.commits_to_live = None
        self.made.append(self.wait(made))
        self.watched |= {o.pay_to for o in self.made[-1].options}

    def _pay(self, invoice: Invoice, kind: str, data: st.DataObject) -> None:
        option = data.draw(st.sampled_from(invoice.options))
        amounts = {"half": option.amount_base // 2, "over": option.amount_base + 1, "one unit": 1, "zero": 0}
        times = 2 if kind == "twice in one" else 1
        self.world.pay(invoice, amounts.get(kind, option.amount_base), option=option.index, times=times)

    # -- what chains do --------------------------------------------------------------------------------------------

    @rule(
        name=st.sampled_from(CHAINS),
        empty_after=st.integers(0, 4),
        after_s=st.none() | st.sampled_from([7_200, 90_000, 200_000]),
    )
    def mine(self, name: str, empty_after: int, after_s: int | None) -> None:
        self.world.mine(empty_after, on=name, after_s=after_s)
        self._grown(name)

    @rule(fork=forks)
    def reorg(self, fork: Fork | None) -> None:
        if fork is not None:
            self._reorg(fork)

    def _reorg(self, fork: Fork) -> None:
        chain = self.chain(fork.name).chain
        depth = min(fork.depth, chain.head.number - self.peak[fork.name])
        if depth < 1:
            return
        replaced = [b for n in range(depth) if (b := chain.block_at(chain.head.number - n)) is not None]
        dropped = [tx for b in replaced for tx in b.txs] if fork.drops else []
        chain.reorg(depth, drop=[tx.hash for tx in dropped], shift=fork.shift, length=depth + fork.longer)
        self.dropped += [(fork.name, tx) for tx in dropped]
        self._grown(fork.name)

    @precondition(lambda self: self.dropped)
    @rule()
    def dropped_comes_back(self) -> None:
        name, tx = self.dropped.pop(0)
        self.chain(name).pool.append(tx)

    def _grown(self, name: str) -> None:
        """Blocks up to here are final by now, and stay."""
        self.peak[name] = max(self.peak[name], self.chain(name).chain.head.number - FINAL_DEPTH[name])

    # -- what goes wrong -------------------------------------------------------------------------------------------

    @rule(
        name=st.sampled_from(CHAINS),
        at=st.integers(0, 2),
        faults=st.sampled_from(FAULTS),
        lag=st.sampled_from([0, 0, 1, 4]),
    )
    def node_changes(self, name: str, at: int, faults: SimFaults, lag: int) -> None:
        """One provider of each chain may be in trouble at a time."""
        self._heal(name)
        reader = self.chain(name).readers[at % PROVIDERS[name]]
        reader.faults, reader.lag = faults, lag

    @rule(lie=lies)
    def provider_lies(self, lie: Lie) -> None:
        self._heal("anvil")
        at, what = lie
        reader = self.chain("anvil").readers[at]
        assert isinstance(reader, LyingReader)
        reader.lie_of_span, reader.lie_of_header = LIES.get(what), HEADER_LIES.get(what)

    @rule(lie=lies, kind=st.sampled_from(PAYMENTS), data=st.data())
    def lied_to_when_it_matters(self, lie: Lie, kind: str, data: st.DataObject) -> None:
        """A payment is final, and whoever is asked for it lies."""
        self._pay(data.draw(st.sampled_from(self.made)), kind, data)
        self.mine("anvil", FINAL_DEPTH["anvil"], None)
        self.provider_lies(lie)
        self.program([("anvil", "settle")] * 4, (None, False))

    @rule(at=st.integers(0, 2))
    def provider_is_down(self, at: int) -> None:
        self._heal("anvil")
        self.chain("anvil").readers[at].faults = SimFaults(is_down=True)

    @rule(seconds=st.sampled_from([1, 5, 60, 700]))
    def time_passes(self, seconds: int) -> None:
        """Rests and distrust end. Our own clock decides nothing else here."""
        self.world.clock.advance(seconds)

    def _heal(self, name: str) -> None:
        honest(self.chain(name))
        # what the last liar said must not be kept until the next one says it too: that would be two of them
        self.chain(name).settle._kept_for = None
        for reader in self.chain(name).readers:
            reader.faults = SimFaults()

    @rule()
    def restart(self) -> None:
        self.store.db.commits_to_live = None
        self.world.restart()

    # -- what the program does -------------------------------------------------------------------------------------

    @rule(work=works, death=deaths)
    def program(self, work: Work, death: Death) -> None:
        self.store.db.commits_to_live, self.store.db.is_committed_first = death
        for name, stage in work:
            self._tick(name, stage)

    @rule(
        lie=st.none() | lies,
        morning=works,
        empty_after=st.integers(0, 3),
        fork=forks,
        evening=works,
        death=deaths,
    )
    def day(
        self, lie: Lie | None, morning: Work, empty_after: int, fork: Fork | None, evening: Work, death: Death
    ) -> None:
        """What matters in one step, so that it is often drawn together: seen, undone, and read again in any order."""
        if lie is not None:
            self.provider_lies(lie)
        for name in CHAINS:
            self.world.mine(empty_after, on=name)
            self._grown(name)
        self.program(morning, death)
        if fork is not None:
            self._reorg(fork)
        self.program(evening, (None, False))

    @rule(death=deaths)
    def program_catches_up(self, death: Death) -> None:
        self.program([(name, stage) for name in CHAINS for stage in ("watch", "watch", "settle", "settle")], death)

    def _tick(self, name: str, stage: str) -> None:
        where = self.chain(name)
        faults = where.reader.faults
        match stage:
            case "watch":
                self._living(where.watch.tick())
            case "settle":
                if PROVIDERS[name] == 1:
                    where.reader.faults = replace(faults, empty_logs_rate=0.0, omitted_log_rate=0.0)
                self._living(where.settle.tick())
                where.reader.faults = faults
            case _:
                self._living(self.world.expire())

    def _living(self, work: Awaitable[Progress | None]) -> None:
        self.has_news = True
        try:
            self.wait(work)
        except (ChainError, CursorMoved, Conflict):
            pass
        except Crash:
            self.restart()

    # -- what must hold --------------------------------------------------------------------------------------------

    @invariant()
    def holds(self) -> None:
        if not self.has_news:
            return
        self.has_news = False
        rows = self.wait(self._rows())
        self._cursors_only_go_on(rows)
        self._final_transfers_are_those_of_the_chain(rows)
        self._settlements_rest_on_canonical_blocks(rows)
        self._settled_exactly_what_is_paid(rows)
        self._ledger_balances(rows)
        self._events_tell_each_change_once(rows)

    async def _rows(self) -> Rows:
        rows = Rows()
        async with self.world.db.read() as conn:
            for name in vars(rows):
                table = schema.metadata.tables[name]
                getattr(rows, name).extend(await conn.execute(sa.select(table).order_by(*table.primary_key.columns)))
        return rows

    def _cursors_only_go_on(self, rows: Rows) -> None:
        """I7, and no chain halts: nothing final was ever replaced."""
        for c in rows.chains:
            assert c.halted_at is None, c.halt_reason
            assert self.settled_to[c.name] <= c.settled_number <= c.scanned_number
            assert c.settled_number <= self.peak[c.name] or c.settled_number == self.begun[c.name]
            self.settled_to[c.name] = c.settled_number

    def _truth(self, name: str, upto: int) -> Iterator[Transfer]:
        """What the chain has for us in the blocks that were decided."""
        where = self.chain(name)
        for t in where.chain.transfers():
            if self.begun[name] < t.block_number <= upto and t.identity.recipient in self.watched:
                yield t

    def _final_transfers_are_those_of_the_chain(self, rows: Rows) -> None:
        """I1, both ways: none missing, none invented, each once, each where it is."""
        for name in CHAINS:
            chain_id = self.chain(name).setup.chain_id
            held = Counter(
                (t.tx_hash, t.token, t.sender, t.recipient, t.amount, t.ordinal, t.block_hash, t.log_index)
                for t in rows.transfers
                if t.chain_id == chain_id and t.status == "final"
            )
            true = Counter(
                (i.tx_hash, i.token, i.sender, i.recipient, i.amount, i.ordinal, t.block_hash, t.log_index)
                for t in self._truth(name, self.settled_to[name])
                for i in [t.identity]
            )
            assert held == true
            for t in rows.transfers:
                is_undecided = t.chain_id == chain_id and t.status == "detected"
                assert not is_undecided or t.block_number > self.settled_to[name]

    def _settlements_rest_on_canonical_blocks(self, rows: Rows) -> None:
        """I3; and a payment stands in one settlement, an invoice has one."""
        assert not rows.reversals
        names = {self.chain(n).setup.chain_id: n for n in CHAINS}
        for line in rows.settlement_lines:
            block = self.chain(names[line.chain_id]).chain.block_at(line.block_number)
            assert block is not None
            assert block.ref.hash == line.block_hash
            assert line.tx_hash in {tx.hash for tx in block.txs}
        assert max(Counter(line.transfer_id for line in rows.settlement_lines).values(), default=1) == 1
        assert max(Counter(s.invoice_id for s in rows.settlements).values(), default=1) == 1

    def _settled_exactly_what_is_paid(self, rows: Rows) -> None:
        """I2, and what is allocated to an invoice is of its assets and to its addresses."""
        allocated = defaultdict(list)
        for t in rows.transfers:
            assert (t.allocation == "invoice") == (t.invoice_id is not None)
            if t.invoice_id is not None and t.status != "orphaned":
                allocated[t.invoice_id].append(t)
        used = {line.transfer_id for line in rows.settlement_lines}
        options: dict[str, dict[tuple[Any, ...], Any]] = defaultdict(dict)
        for o in rows.invoice_options:
            options[o.invoice_id][o.chain_id, o.token_address, o.pay_to] = o
        for invoice in rows.invoices:
            paid = [(options[invoice.id][t.chain_id, t.token, t.recipient], t) for t in allocated[invoice.id]]
            final = [(o, t) for o, t in paid if t.status == "final" and t.block_time <= invoice.expires_at]
            is_paid = _sum(invoice, final) >= _due(invoice, final) > 0 and bool(final)
            assert (invoice.status == "settled") == (is_paid and invoice.status != "canceled"), invoice
            assert invoice.status != "canceled" or not paid
            if invoice.status == "settled":
                assert {t.id for _, t in paid} <= used
                lines = [x for x in rows.settlement_lines if x.transfer_id in {t.id for _, t in paid}]
                settled = sum(x.amount_settled * 10 ** (invoice.scale - x.decimals) for x in lines)
                # the last part is rounded up to a whole unit of its token
                assert 0 <= settled - _due(invoice, paid) < 10 ** (invoice.scale - min(x.decimals for x in lines))

    def _ledger_balances(self, rows: Rows) -> None:
        """I4."""
        by_entry: Counter[tuple[Any, ...]] = Counter()
        balances: Counter[tuple[Any, ...]] = Counter()
        for line in rows.ledger_lines:
            signed = line.amount if line.side == "debit" else -line.amount
            by_entry[line.entry_id, line.chain_id, line.token] += signed
            balances[line.account, line.chain_id, line.token] += signed
        assert not any(by_entry.values())
        for name in CHAINS:
            for t in self.chain(name).setup.tokens:
                asset = (t.chain_id, t.address)
                came = self._truth(name, self.settled_to[name])
                received = sum(d.identity.amount for d in came if _asset(d) == asset)
                lines = [x for x in rows.settlement_lines if (x.chain_id, x.token_address) == asset]
                settled = sum(x.amount_settled for x in lines)
                surplus = sum(x.amount_surplus for x in lines)
                assert balances["received", *asset] == received
                assert -balances["settled", *asset] == settled
                assert -balances["surplus", *asset] == surplus
                assert -balances["suspense", *asset] == received - settled - surplus >= 0

    def _events_tell_each_change_once(self, rows: Rows) -> None:
        """I6."""
        told = defaultdict(list)
        for e in sorted(rows.events, key=lambda e: e.seq):
            told[e.object_id].append(e)
        assert len({(e.type, e.object_id, e.version) for e in rows.events}) == len(rows.events)
        for invoice in rows.invoices:
            events = [e for e in told[invoice.id] if e.type != "invoice.on_hold"]
            states = ["pending" if e.type == "invoice.created" else e.type.removeprefix("invoice.") for e in events]
            assert states[-1] == invoice.status
            assert all(a != b for a, b in pairwise(states)), states
            assert states[:-1].count("settled") == 0
        for t in rows.transfers:
            if t.reason == "ignored_zero":
                assert not told[t.id]
                continue
            last = told[t.id][-1]
            assert (last.data["status"], last.data["allocation"]) == (t.status, t.allocation)
            versions = [e.version for e in told[t.id]]
            assert versions == list(range(1, t.version + 1))
        for s in rows.settlements:
            assert [e.type for e in told[s.id]] == ["settlement.created"]

    # -- how it ends -----------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        self.restart()
        for name in CHAINS:
            self._heal(name)
            self.world.mine(8, on=name)
            self._grown(name)
        # what somebody invented is given up when it was left out several times, by this process
        for _ in range(OMISSION_SIGHTINGS - 1):
            self._living(self.world.catch_up())
        self.wait(self.world.catch_up())
        self.wait(self.world.catch_up())
        self.has_news = True
        self.holds()
        rows = self.wait(self._rows())
        assert all(c.settled_number == self.peak[c.name] for c in rows.chains)
        status = {i.id: i.status for i in rows.invoices}
        asked = Counter((o.chain, o.token, o.pay_to, o.amount_base) for i in self.made for o in i.options)
        for invoice in self.made:
            is_paid, is_settled = self._is_paid(invoice), status[invoice.id] == "settled"
            assert is_paid or not is_settled, invoice
            # a unique amount that was given out again may have been paid for the one or the other
            is_unique = all(asked[o.chain, o.token, o.pay_to, o.amount_base] == 1 for o in invoice.options)
            assert is_settled or not is_paid or not is_unique or status[invoice.id] == "canceled", invoice
        generations = Counter(s.invoice_id for s in rows.settlements)
        assert generations == {id_: 1 for id_, s in status.items() if s == "settled"}
        assert self.wait(self._violations()) == []

    async def _violations(self) -> list[Violation]:
        """By the checkers that `settler reconcile` uses, and honest readers."""
        clock = self.world.clock.monotonic
        readers = {
            c.setup.chain_id: WindowedReader(SimulatedReader(c.chain, name="honest"), monotonic=clock)
            for c in self.world.chains.values()
        }
        return await check(self.world.db, readers, policy=InvoicePolicy(), is_quiescent=True)

    def _is_paid(self, invoice: Invoice) -> bool:
        """Whether its address (its unique amounts) got in time what is owed, by the chains alone."""
        found = []
        for option in invoice.options:
            where = self.chain(option.chain).chain
            for t in where.transfers():
                i = t.identity
                block = where.block_at(t.block_number)
                assert block is not None
                is_meant = (i.token, i.recipient) == (option.token_address, option.pay_to) and i.amount > 0
                is_asked = option.match is Match.ADDRESS or i.amount == option.amount_base
                is_newer = option.from_block is None or t.block_number > option.from_block
                if is_meant and is_asked and is_newer and block.ref.time <= invoice.expires_at:
                    found.append((option, i))
        return bool(found) and _sum(invoice, found) >= _due(invoice, found)


def _asset(t: Transfer) -> tuple[ChainId, Address]:
    return t.identity.chain_id, t.identity.token


def _sum(invoice: Any, paid: list[tuple[Any, Any]]) -> int:
    return sum(int(t.amount) * int(10 ** (invoice.scale - o.decimals)) for o, t in paid)


def _due(invoice: Any, paid: list[tuple[Any, Any]]) -> int:
    tails = {o.index: int(o.tail_base) * int(10 ** (invoice.scale - o.decimals)) for o, _ in paid}
    return int(invoice.amount) + sum(tails.values())


@pytest.mark.timeout(300)
def test_any_life__keeps_the_invariants(sqlite_template: Path) -> None:
    store = Store(sqlite_template)
    try:
        run_state_machine_as_test(type("Life", (Life,), {"store": store}), settings=PROFILE)
    finally:
        store.close()
