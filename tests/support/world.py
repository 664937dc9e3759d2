"""A small world for the stages: a simulated chain, its reader, a database, invoices, and the stages themselves.

world = await World.on(db)
invoice = await world.invoice("100")
world.pay(invoice, "100"); world.mine(); await world.catch_up()
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from chains.model import Address, BlockNumber, ChainId, Token
from chains.pool import Pool
from chains.simulated import SimulatedReader
from chains.simulated_chain import START_TIME, SimTransfer, SimTx, SimulatedChain
from chains.spans import WindowedReader
from chains.standing import Standing
from settler.clock import FakeClock
from settler.domain.drafting import ChainOffer, InvoiceDefaults, InvoiceRequest, OptionRequest, draft
from settler.domain.finality import Depth, FinalityPolicy
from settler.domain.ids import InvoiceId
from settler.domain.invoices import Invoice, Match, TransferRecord
from settler.domain.money import parse_amount
from settler.domain.operator import By
from settler.domain.settlement import InvoicePolicy
from settler.stages.early import Early
from settler.stages.effects import Reporter
from settler.stages.expire import Expire
from settler.stages.opening import open_chain
from settler.stages.operating import Operating
from settler.stages.settle import Settle
from settler.stages.setup import ChainSetup, Judgement
from settler.stages.watch import Watch
from settler.storage import chains, invoices, invoicing, reading, schema, transfers
from settler.storage.chains import ChainState
from settler.storage.engine import Database
from settler.storage.watched import WatchedAddresses

PAYER = Address(b"\xaa" * 20)
CHAIN_ID = ChainId(31337)
DEPTH_3 = Depth(blocks=3)
STRICT = InvoicePolicy()


def token(symbol: str = "USDC", *, chain_id: ChainId = CHAIN_ID, decimals: int = 6, currency: str = "USD") -> Token:
    address = Address((symbol.encode() + b"\x01" * 20)[:20])
    return Token(chain_id=chain_id, symbol=symbol, address=address, decimals=decimals, currency=currency)


class Counted:
    """`settler.stages.effects.Effects` and `chains.pool.PoolObserver` that remember."""

    def __init__(self) -> None:
        self.transfers: list[tuple[str, str, str]] = []
        self.settled_amounts: list[tuple[str, str, int]] = []
        self.reversals = 0
        self.reorgs: list[int] = []
        self.disagreements: Counter[str] = Counter()
        """By provider."""

    def transfer(self, chain: str, token: str, allocation: str) -> None:
        self.transfers.append((chain, token, allocation))

    def detection(self, chain: str, seconds: float, *, trace_id: str | None = None) -> None:
        assert seconds >= 0, chain

    def settled(self, chain: str, token: str, amount_base: int) -> None:
        self.settled_amounts.append((chain, token, amount_base))

    def settlement_latency(self, chain: str, seconds: float, *, trace_id: str | None = None) -> None:
        assert seconds >= 0, chain

    def reversal(self, chain: str) -> None:
        assert chain
        self.reversals += 1

    def reorg(self, chain: str, depth_blocks: int) -> None:
        assert chain
        self.reorgs.append(depth_blocks)

    def on_standing(self, standing: Standing) -> None:
        assert standing.is_up or standing.reason

    def on_disagreement(self, provider: str, what: str) -> None:
        assert what
        self.disagreements[provider] += 1


@dataclass
class ChainWorld:
    """One chain of the world with its stages."""

    setup: ChainSetup
    chain: SimulatedChain
    readers: list[SimulatedReader]
    """One a provider, in order of preference."""
    providers: Pool
    watch: Watch
    settle: Settle
    pool: list[SimTx] = field(default_factory=list)
    """Transactions not mined yet."""

    @property
    def reader(self) -> SimulatedReader:
        """The only provider's, or the first's."""
        return self.readers[0]


class World:
    def __init__(self, db: Database, policy: InvoicePolicy) -> None:
        self.db = db
        self.clock = FakeClock(START_TIME + timedelta(days=1))
        self.policy = policy
        self.watched = WatchedAddresses(db, monotonic=self.clock.monotonic)
        self.counted = Counted()
        self.chains: dict[str, ChainWorld] = {}
        self._addresses = itertools.count(1)
        self._references = itertools.count(1)

    @classmethod
    async def on(
        cls,
        db: Database,
        *,
        tokens: Sequence[Token] = (token(),),
        finality: FinalityPolicy = DEPTH_3,
        policy: InvoicePolicy = STRICT,
        start_at: int = 5,
        seed: int = 1,
        providers: int = 1,
        quorum: int = 1,
        **rules: Any,
    ) -> World:
        """`rules`: further fields of the chain's `ChainSetup`."""
        world = cls(db, policy)
        await world.add_chain(
            "anvil",
            tokens=tokens,
            finality=finality,
            start_at=start_at,
            seed=seed,
            providers=providers,
            quorum=quorum,
            **rules,
        )
        return world

    async def add_chain(
        self,
        name: str,
        *,
        tokens: Sequence[Token],
        finality: FinalityPolicy = DEPTH_3,
        start_at: int = 5,
        seed: int = 1,
        providers: int = 1,
        quorum: int = 1,
        **rules: Any,
    ) -> ChainWorld:
        chain_id = tokens[0].chain_id
        chain = SimulatedChain(seed=seed, chain_id=chain_id)
        chain.mine_empty(start_at)
        setup = ChainSetup(
            name=name,
            chain_id=chain_id,
            tokens=tuple(tokens),
            finality=finality,
            start_block="latest",
            quorum=quorum,
            **rules,
        )
        for t in tokens:
            chain.add_token(t)
        readers = [SimulatedReader(chain, name=f"node-{n}", seed=n) for n in range(providers)]
        async with self.db.write() as conn:
            await chains.register(conn, chain_id=chain_id, name=name, tokens=tokens, now=self.clock.now())
        made = self._made(setup, chain, readers)
        await open_chain(setup, pool=made.providers, db=self.db, clock=self.clock)
        self.chains[name] = made
        return made

    def restart(self) -> None:
        """A new process: nothing in memory survives but the database."""
        self.watched = WatchedAddresses(self.db, monotonic=self.clock.monotonic)
        for name, c in self.chains.items():
            remade = self._made(c.setup, c.chain, c.readers)
            remade.pool = c.pool
            self.chains[name] = remade

    def _made(self, setup: ChainSetup, chain: SimulatedChain, readers: list[SimulatedReader]) -> ChainWorld:
        judgement = self._judgement({**{n: c.setup for n, c in self.chains.items()}, setup.name: setup})
        reporter = Reporter(self.counted, chain=setup.name, tokens=setup.tokens)
        monotonic = self.clock.monotonic
        pool = Pool(
            [WindowedReader(reader, monotonic=monotonic) for reader in readers],
            chain_id=setup.chain_id,
            monotonic=monotonic,
            observer=self.counted,
        )
        watch = Watch(
            chain=setup,
            pool=pool,
            db=self.db,
            watched=self.watched,
            clock=self.clock,
            judgement=judgement,
            reporter=reporter,
        )
        settle = Settle(
            chain=setup,
            pool=pool,
            db=self.db,
            watched=self.watched,
            clock=self.clock,
            judgement=judgement,
            reporter=reporter,
        )
        return ChainWorld(setup=setup, chain=chain, readers=readers, providers=pool, watch=watch, settle=settle)

    def _judgement(self, setups: Mapping[str, ChainSetup]) -> Judgement:
        return Judgement(
            policy=self.policy,
            reading={name: {"finality": str(setup.finality)} for name, setup in setups.items()},
            tiers={name: setup.tiers for name, setup in setups.items() if setup.tiers},
            version="sha256:test",
        )

    @property
    def it(self) -> ChainWorld:
        """The only chain, or the first."""
        return next(iter(self.chains.values()))

    # -- money -----------------------------------------------------------------------------------------------------

    async def invoice(
        self,
        amount: str = "100",
        *,
        options: Sequence[OptionRequest] | None = None,
        match: Match = Match.ADDRESS,
        pay_to: Address | None = None,
        expires_in_s: int = 10 * 86_400,
        reference: str | None = None,
    ) -> Invoice:
        """A new invoice. Its time runs on our clock, which starts a day after genesis; chains tick on their own."""
        to = pay_to or self.address()
        request = InvoiceRequest(
            amount=amount,
            reference=reference or f"order-{next(self._references)}",
            options=tuple(
                options
                or [
                    OptionRequest(chain=c.setup.name, token=t.symbol, pay_to=to, match=match)
                    for c in self.chains.values()
                    for t in c.setup.tokens
                ]
            ),
            expires_in_s=expires_in_s,
        )
        made = draft(request, catalog=self.catalog(), defaults=InvoiceDefaults(), now=self.clock.now())
        async with self.db.write() as conn:
            number = next(self._addresses)
            return await invoicing.insert(
                conn, made, now=self.clock.now(), entropy=number.to_bytes(10), secret=number.to_bytes(16)
            )

    def catalog(self) -> Mapping[str, ChainOffer]:
        return {
            name: ChainOffer(name=name, chain_id=c.setup.chain_id, tokens={t.symbol: t for t in c.setup.tokens})
            for name, c in self.chains.items()
        }

    def address(self) -> Address:
        return Address(next(self._addresses).to_bytes(20, "big"))

    def sim_transfer(
        self, to: Address, amount: str | int, *, token: Token | None = None, sender: Address = PAYER
    ) -> SimTransfer:
        t = token or self.it.setup.tokens[0]
        units = amount if isinstance(amount, int) else parse_amount(amount, t.decimals, field="amount")
        return SimTransfer(token=t.address, sender=sender, recipient=to, amount=units)  # type: ignore[arg-type]

    def pay(
        self,
        invoice: Invoice,
        amount: str | int | None = None,
        *,
        option: int = 0,
        times: int = 1,
        on: str | None = None,
    ) -> SimTx:
        """Puts a payment into the pool of the chain; `times` equal transfers in one transaction."""
        o = invoice.options[option]
        where = self.chains[on or o.chain]
        t = next(t for t in where.setup.tokens if t.address == o.token_address)
        one = self.sim_transfer(o.pay_to, o.amount_base if amount is None else amount, token=t)
        tx = where.chain.tx(*[one] * times)
        where.pool.append(tx)
        return tx

    def send(self, *transfers_: SimTransfer, on: str | None = None) -> SimTx:
        where = self.chains[on] if on else self.it
        tx = where.chain.tx(*transfers_)
        where.pool.append(tx)
        return tx

    def mine(self, empty_after: int = 0, *, on: str | None = None, after_s: int | None = None) -> None:
        """One block with all of the pool, then `empty_after` empty ones."""
        where = self.chains[on] if on else self.it
        where.chain.mine(where.pool, after_s=after_s)
        where.pool = []
        where.chain.mine_empty(empty_after)

    # -- time ------------------------------------------------------------------------------------------------------

    async def watch(self, on: str | None = None) -> None:
        """Ticks the first reading until it has nothing more to do."""
        await _until_idle(self.chains[on].watch if on else self.it.watch)

    async def settle(self, on: str | None = None) -> None:
        await _until_idle(self.chains[on].settle if on else self.it.settle)

    @property
    def judgement(self) -> Judgement:
        reading = {n: {"finality": str(c.setup.finality)} for n, c in self.chains.items()}
        return Judgement(policy=self.policy, reading=reading)

    @property
    def operating(self) -> Operating:
        """What an operator may decide."""
        return Operating(self.judgement)

    def by(self, reason: str = "looked at it", *, who: str = "ada") -> By:
        return By(who=who, reason=reason, now=self.clock.now())

    async def early(self, on: str | None = None) -> None:
        """Ticks the stage of amount tiers until it has nothing more to do."""
        c = self.chains[on] if on else self.it
        stage = Early(
            chain=c.setup,
            pool=c.providers,
            db=self.db,
            watched=self.watched,
            clock=self.clock,
            judgement=self._judgement({n: each.setup for n, each in self.chains.items()}),
            reporter=Reporter(self.counted, chain=c.setup.name, tokens=c.setup.tokens),
        )
        await _until_idle(stage)

    async def expire(self) -> None:
        every = tuple(t for c in self.chains.values() for t in c.setup.tokens)
        stage = Expire(
            db=self.db,
            clock=self.clock,
            judgement=self.judgement,
            reporter=Reporter(self.counted, chain="", tokens=every),
        )
        await _until_idle(stage)

    async def catch_up(self) -> None:
        """Every stage, until nothing changes any more."""
        for name in self.chains:
            await self.watch(name)
            await self.settle(name)
        await self.expire()

    # -- what is there ---------------------------------------------------------------------------------------------

    async def state(self, on: str | None = None) -> ChainState:
        async with self.db.read() as conn:
            state = await chains.get(conn, (self.chains[on] if on else self.it).setup.chain_id)
        assert state is not None
        return state

    async def view(self, id_: InvoiceId) -> dict[str, Any]:
        async with self.db.read() as conn:
            found = await invoices.get(conn, id_)
            assert found is not None
            return dict((await reading.invoice_views(conn, [found]))[0])

    async def status(self, invoice: Invoice) -> str:
        return str((await self.view(invoice.id))["status"])

    async def transfers(self) -> list[TransferRecord]:
        async with self.db.read() as conn:
            found = await transfers.find(conn, limit=10_000)
        return sorted(found, key=lambda t: (t.block_number, t.log_index))

    async def events(self, object_id: str | None = None) -> list[str]:
        """Types of events told, in order (of one object)."""
        e = schema.events
        query = sa.select(e.c.type).order_by(e.c.seq)
        if object_id is not None:
            query = query.where(e.c.object_id == object_id)
        async with self.db.read() as conn:
            return [row.type for row in await conn.execute(query)]

    async def count(self, table: sa.Table) -> int:
        async with self.db.read() as conn:
            return int((await conn.execute(sa.select(sa.func.count()).select_from(table))).scalar_one())


async def _until_idle(stage: Watch | Settle | Early | Expire) -> None:
    for _ in range(500):
        if not (await stage.tick()).has_more:
            return
    raise AssertionError("the stage always says there is more to do")


def number(value: int) -> BlockNumber:
    return BlockNumber(value)
