"""What the rows of the catalogue are played on: a real node with every test contract, the real stages, one database.

A row is a `Row`: the invoices it asks for, what is done on chain, and what must come of it. `play` makes all invoices,
does what every row does, mines, lets the stages catch up, and so through the phases. `Seen` is what is there then.

    phase       0              1                   2
    time        in time        +700 s: `SHORT_S`   +2,000 s: no longer monitored
                               invoices expired
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any, cast

import sqlalchemy as sa
from eth_account.signers.local import LocalAccount

from chains.evm import EvmReader
from chains.holdings import Holdings
from chains.model import Address, BlockNumber, ChainId, LabelSources, Token, TxHash
from chains.rpc import RpcProvider
from chains.simulated_chain import START_TIME
from chains.spans import WindowedReader
from settler.anvil import Anvil, find_anvil
from settler.domain.drafting import InvoiceDefaults, InvoiceRequest, OptionRequest, draft
from settler.domain.ids import InvoiceId
from settler.domain.invoices import Invoice, Match, TransferRecord
from settler.domain.reconciling import Break
from settler.stages.opening import open_chain
from settler.stages.reconcile import Reconcile
from settler.stages.rereading import checked_range
from settler.stages.setup import ChainSetup, PriceFeed
from settler.storage import chains, invoices, invoicing, reading, schema
from settler.storage.engine import Database
from tests.anvil.contracts import GAS, TOKEN, Authorization, Contract, account, deploy, deploy_behind, impersonate
from tests.support import evm
from tests.support.daemon import new_address
from tests.support.world import CHAIN_ID, DEPTH_3, STRICT, World

GENESIS_S = int((START_TIME + timedelta(days=1)).timestamp())
"""Of the node: when the world's clock starts."""
SHORT_S = 600
"""An invoice that expires before phase 1."""
LONG_S = 10 * 86_400
MONITORING_S = 1_000
LATE_AFTER_S = 700
UNMONITORED_AFTER_S = 2_000
PURSE = "1000000"
"""What every payer has of every token it uses, in whole tokens."""
PLAIN = ("BatchPayout", "ERC20FeeProxy", "CommerceEscrow", "BundlerEntry", "SanctionsList")
"""Contracts that are no tokens and take nothing to be made."""
PROXIES = ("UpgradeableProxy", "CircleLikeProxy")

MAX_AGE = timedelta(hours=1)
"""Of a price."""
DEPEG_FLOOR = 985 * 10**15
"""98.5 cents, in 10**-18."""


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """What a chain is to have, beside the contracts that are no tokens."""

    tokens: Mapping[str, tuple[str, int]]
    """Configured ones, by symbol: contract and decimals."""
    reconciled: tuple[str, ...]
    """Symbols of those that are held against the node's balances at the end: a call for each address and token."""
    priced: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Symbols that have a price feed: its decimals and its answer; the answer is always fresh."""
    screens_payers: bool = False
    """Whether the sanctions list is asked."""


@dataclass(frozen=True, kw_only=True)
class Ask:
    """An invoice a row wants."""

    amount: str = "100"
    tokens: tuple[str, ...] = ("USDC",)
    match: Match = Match.ADDRESS
    to: str = ""
    """A name: asks of one row with one name share the address. None: an address of its own."""
    expires_in_s: int = LONG_S
    more: Callable[[Case, Address], Mapping[str, object]] = lambda _case, _to: {}
    """What else the request for each option says, by the address: `reference`, `payer`."""


@dataclass(frozen=True, kw_only=True)
class Owed:
    """What must have become of an invoice."""

    status: str
    received: str = "0.00"
    settled: str = "0.00"
    exceptions: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Came:
    """A transfer that must be recorded, final."""

    amount: str
    where: str = "invoice"
    """Else why it pays none: the reason."""
    token: str = "USDC"


Act = Callable[["Case"], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Row:
    name: str
    source: str
    """The hazard's number in the catalogue (`C1`), the matcher's rule (`E1`), or the section of RULES.md (`R3`)."""
    does: tuple[Act | None, ...]
    """On chain, phase by phase."""
    owed: tuple[Owed, ...]
    """What became of each of `asks`."""
    came: tuple[Came, ...] = ()
    asks: tuple[Ask, ...] = (Ask(),)
    surplus: str = "0"
    """In the ledger, of all its transfers."""
    holds: tuple[str, ...] = ()
    """Reasons, sorted, for which its invoices are held."""
    breaks: tuple[str, ...] = ()
    """Kinds of breaks that reconciliation finds at its addresses."""


@dataclass
class Case:
    """A row as it is played."""

    row: Row
    market: Market
    payer: LocalAccount
    invoices: list[Invoice] = field(default_factory=list)
    payers: set[Address] = field(default_factory=set)
    """Whom the records must name; the payer alone where nobody was added."""
    sent: dict[TxHash, bool] = field(default_factory=dict)
    """Transactions of this row, and whether they must succeed."""

    @property
    def me(self) -> Address:
        return evm.address_of(self.payer)

    def to(self, ask: int = 0) -> Address:
        """Where the invoice wants its money."""
        return self.invoices[ask].options[0].pay_to

    def due(self, ask: int = 0) -> int:
        return self.invoices[ask].options[0].amount_base

    def units(self, amount: str, token: str = "USDC") -> int:
        return int(Decimal(amount) * 10 ** self.market.tokens[token].decimals)

    def contract(self, name: str) -> Contract:
        return self.market.contracts[name]

    async def send(
        self,
        contract: Contract,
        function: str,
        *args: object,
        by: Address | None = None,
        gas: int = GAS,
        succeeds: bool = True,
    ) -> None:
        """A transaction of the row; the row fails where it does not end as it says here."""
        self.sent[await contract.send(function, *args, by=by or self.me, gas=gas)] = succeeds

    async def fill(self, token: str = "USDC", *, who: Address | None = None) -> Contract:
        """Gives the payer, or `who`, plenty of a token. The token."""
        contract = self.contract(token)
        await self.send(contract, "mint", who or self.me, self.units(PURSE, token), by=who)
        return contract

    async def pay(
        self, amount: str | int, *, token: str = "USDC", to: Address | None = None, by: Address | None = None
    ) -> None:
        """A plain transfer from the payer's own, or from `by`'s; `amount` in tokens, or in base units."""
        units = amount if isinstance(amount, int) else self.units(amount, token)
        contract = await self.fill(token, who=by)
        await self.send(contract, "transfer", to or self.to(), units, by=by)

    async def stranger(self) -> Address:
        """Somebody with ether, who is neither payer nor payee."""
        who = new_address()
        await impersonate(self.market.node, who)
        return who

    def signed(self, amount: str, nonce: bytes, *, token: str = "USDC") -> Authorization:
        """By the payer: `amount` to the first invoice's address."""
        return Authorization(payer=self.payer, to=self.to(), value=self.units(amount, token), nonce=nonce)

    async def mine(self) -> None:
        """For acts of which one must be in an earlier block than the next."""
        await evm.mine(self.market.node)


@dataclass(kw_only=True)
class Market:
    """The chain: its node, its contracts by name, and which of them are configured tokens."""

    node: Anvil
    contracts: dict[str, Contract]
    tokens: dict[str, Token]
    feeds: dict[str, Contract]
    """By symbol of the token."""

    @classmethod
    async def open(cls, node: Anvil, shelf: Shelf) -> Market:
        contracts = {name: await deploy(node, name) for name in PLAIN}
        contracts["code"] = await deploy(node, "CircleLikeToken", "code", "CODE", 6)
        contracts["new code"] = await deploy(node, "PaxosLikeToken", "code", "CODE", 6)
        for symbol, (name, decimals) in shelf.tokens.items():
            contracts[symbol] = await _deployed(node, contracts["code"], name, symbol, decimals)
        contracts["counterfeit"] = await deploy(node, "CircleLikeToken", *TOKEN)
        contracts["forger"] = await deploy(node, "OddToken", *TOKEN)
        contracts["successor"] = await deploy(node, "BackingToken", "Tether", "USDT", 6)
        for name in ("ERC20FeeProxy", "CommerceEscrow"):
            contracts[f"unknown {name}"] = await deploy(node, name)
        tokens = {
            symbol: Token(
                chain_id=CHAIN_ID,
                symbol=symbol,
                address=contracts[symbol].address,
                decimals=decimals,
                currency="USD",
            )
            for symbol, (_, decimals) in shelf.tokens.items()
        }
        feeds = {
            symbol: await deploy(node, "PriceFeed", f"{symbol} / USD", decimals, answer)
            for symbol, (decimals, answer) in shelf.priced.items()
        }
        return cls(node=node, contracts=contracts, tokens=tokens, feeds=feeds)

    def setup(self, shelf: Shelf) -> ChainSetup:
        """The chain as it is configured."""
        return ChainSetup(
            name="anvil",
            chain_id=CHAIN_ID,
            tokens=tuple(self.tokens.values()),
            finality=DEPTH_3,
            start_block="latest",
            label_sources=LabelSources(
                proxies=frozenset([self.contracts["ERC20FeeProxy"].address]),
                escrows=frozenset([self.contracts["CommerceEscrow"].address]),
            ),
            price_feeds={
                self.tokens[symbol].address: PriceFeed(address=feed.address, max_age=MAX_AGE)
                for symbol, feed in self.feeds.items()
            },
            depeg_floor=DEPEG_FLOOR,
            sanctions_oracle=self.contracts["SanctionsList"].address if shelf.screens_payers else None,
        )

    async def mine_all(self) -> None:
        """Until nothing waits, and as many blocks more as finality wants."""
        for _ in range(50):
            await evm.mine(self.node)
            if int((await self.node.rpc("txpool_status"))["pending"], 16) == 0:
                await evm.mine(self.node, DEPTH_3.blocks)
                return
        raise AssertionError("transactions that no block takes")


async def _deployed(node: Anvil, code: Contract, name: str, symbol: str, decimals: int) -> Contract:
    if name in PROXIES:
        return await deploy_behind(node, name, code, TOKEN[0], symbol, decimals)
    if name == "NonFungible":
        return await deploy(node, name, symbol)
    return await deploy(node, name, TOKEN[0], symbol, decimals)


class AnvilWorld(World):
    """`World` on a real node: of the simulated chain it has only the stages and the store."""

    def __init__(self, db: Database) -> None:
        super().__init__(db, STRICT)
        self.providers: dict[str, RpcProvider] = {}

    async def add_node(self, setup: ChainSetup, node: Anvil) -> None:
        provider = RpcProvider(node.url)
        self.providers[setup.name] = provider
        reader = EvmReader(provider, chain_id=setup.chain_id)
        async with self.db.write() as conn:
            await chains.register(
                conn, chain_id=setup.chain_id, name=setup.name, tokens=setup.tokens, now=self.clock.now()
            )
        # the stages ask a reader for no more than `ProviderReader` promises; the simulated one is named for its faults
        made = self._made(setup, cast("Any", None), [cast("Any", reader)])
        await open_chain(setup, pool=made.providers, db=self.db, clock=self.clock)
        self.chains[setup.name] = made

    async def close(self) -> None:
        for provider in self.providers.values():
            await provider.close()

    async def ask(self, requests: Sequence[InvoiceRequest]) -> list[Invoice]:
        """Invoices, made in one transaction."""
        defaults, now = InvoiceDefaults(monitoring_s=MONITORING_S), self.clock.now()
        drafts = [draft(request, catalog=self.catalog(), defaults=defaults, now=now) for request in requests]
        async with self.db.write() as conn:
            return [
                await invoicing.insert(conn, made, now=now, entropy=number.to_bytes(10), secret=number.to_bytes(16))
                for made, number in zip(drafts, self._addresses, strict=False)
            ]

    async def views(self, ids: Iterable[InvoiceId]) -> dict[InvoiceId, Mapping[str, Any]]:
        async with self.db.read() as conn:
            found = list((await invoices.get_many(conn, ids)).values())
            shown = await reading.invoice_views(conn, found)
        return {InvoiceId(view["id"]): view for view in shown}

    async def holds(self) -> dict[InvoiceId, list[str]]:
        """Why invoices are held: reasons of what stands, by invoice."""
        held: defaultdict[InvoiceId, list[str]] = defaultdict(list)
        async with self.db.read() as conn:
            for row in await conn.execute(sa.select(schema.holds).where(schema.holds.c.released_at.is_(None))):
                held[row.invoice_id].append(row.reason)
        return held

    async def reconcile(self, name: str, symbols: Container[str]) -> list[Break]:
        """All that is settled of these tokens, against the node's logs and balances."""
        state = await self.state(name)
        assert state.settled_number is not None
        configured, provider, monotonic = self.chains[name].setup, self.providers[name], self.clock.monotonic
        setup = replace(configured, tokens=tuple(t for t in configured.tokens if t.symbol in symbols))
        reader = WindowedReader(EvmReader(provider, chain_id=setup.chain_id), monotonic=monotonic)
        check = Reconcile(
            chain=setup,
            provider=reader,
            holdings=Holdings(provider, chain_id=setup.chain_id, monotonic=monotonic),
            db=self.db,
            rescan="rescan {block}",
            sleep=_never,
        )
        found = await check.run(checked_range(state, name, BlockNumber(0), state.settled_number), state)
        assert not found.notes, found.notes
        return found.breaks


async def _never(_seconds: float) -> None:
    raise AssertionError("the node answers at once")


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What became of a row."""

    owed: tuple[Owed, ...]
    came: tuple[Came, ...]
    """In the order of the chain."""
    statuses: frozenset[str]
    """Of its transfers."""
    payers: frozenset[Address]
    booked: Mapping[str, Decimal]
    """Balance of each account of the ledger, in tokens at par: debit positive."""
    breaks: tuple[str, ...]
    holds: tuple[str, ...]
    failures: tuple[str, ...]
    """Transactions that did not end as the row says."""


async def play(rows: Sequence[Row], shelf: Shelf, db: Database) -> dict[str, tuple[Case, Seen]]:
    """All rows, side by side, on a node of their own. By name."""
    async with _opened(db, shelf) as (world, market):
        return await _played(rows, shelf, world, market)


async def _played(rows: Sequence[Row], shelf: Shelf, world: AnvilWorld, market: Market) -> dict[str, tuple[Case, Seen]]:
    cases = [Case(row=row, market=market, payer=account(row.name)) for row in rows]
    await impersonate(market.node, *(case.me for case in cases))
    requests = [request for case in cases for request in _requests(case)]
    made = iter(await world.ask(requests))
    for case in cases:
        case.invoices += [next(made) for _ in case.row.asks]
    for phase, after_s in enumerate((0, LATE_AFTER_S, UNMONITORED_AFTER_S)):
        if after_s:
            await evm.increase_time(market.node, after_s)
        world.clock.advance(after_s)
        for case in cases:
            act = case.row.does[phase] if phase < len(case.row.does) else None
            if act is not None:
                await act(case)
        await market.mine_all()
        await world.catch_up()
    found = _Found(
        views=await world.views(invoice.id for case in cases for invoice in case.invoices),
        records=await world.transfers(),
        booked=await _booked(world),
        holds=await world.holds(),
        breaks=await world.reconcile("anvil", shelf.reconciled),
    )
    return {case.row.name: (case, await _seen(case, found)) for case in cases}


def _requests(case: Case) -> Iterator[InvoiceRequest]:
    shared: dict[str, Address] = {}
    for number, ask in enumerate(case.row.asks):
        to = shared.setdefault(ask.to or str(number), new_address())
        yield InvoiceRequest(
            amount=ask.amount,
            reference=f"{case.row.name} {number}",
            options=tuple(
                OptionRequest(chain="anvil", token=token, pay_to=to, match=ask.match, **cast("Any", ask.more(case, to)))
                for token in ask.tokens
            ),
            expires_in_s=ask.expires_in_s,
        )


@dataclass(frozen=True, kw_only=True)
class _Found:
    """Of all rows together."""

    views: Mapping[InvoiceId, Mapping[str, Any]]
    records: Sequence[TransferRecord]
    booked: Mapping[tuple[str, str], int]
    """Debit less credit in base units, by transfer and account."""
    holds: Mapping[InvoiceId, Sequence[str]]
    breaks: Sequence[Break]


async def _seen(case: Case, found: _Found) -> Seen:
    market, own = case.market, {case.to(n) for n in range(len(case.invoices))}
    symbols = {token.address: token for token in market.tokens.values()}
    records = [t for t in found.records if t.identity.recipient in own]
    views = [found.views[invoice.id] for invoice in case.invoices]
    receipts = await market.node.batch([("eth_getTransactionReceipt", ["0x" + tx.hex()]) for tx in case.sent])
    return Seen(
        owed=tuple(
            Owed(
                status=view["status"],
                received=view["amount_received"],
                settled=view["amount_settled"],
                exceptions=tuple(view["exceptions"]),
            )
            for view in views
        ),
        came=tuple(
            Came(
                amount=f"{_tokens(t.identity.amount, symbols[t.identity.token]).normalize():f}",
                where=t.allocation.value if t.reason is None else t.reason.value,
                token=symbols[t.identity.token].symbol,
            )
            for t in records
        ),
        statuses=frozenset(t.status.value for t in records),
        payers=frozenset(t.identity.sender for t in records),
        booked=_balances(found, {t.id: symbols[t.identity.token] for t in records}),
        breaks=tuple(b.kind.value for b in found.breaks if b.address in own),
        holds=tuple(sorted(reason for invoice in case.invoices for reason in found.holds.get(invoice.id, ()))),
        failures=tuple(
            f"0x{tx.hex()} {receipt['status'] if receipt else 'not mined'}"
            for (tx, succeeds), receipt in zip(case.sent.items(), receipts, strict=True)
            if receipt is None or (receipt["status"] == "0x1") != succeeds
        ),
    )


async def _booked(world: AnvilWorld) -> Mapping[tuple[str, str], int]:
    line = schema.ledger_lines
    sums: Counter[tuple[str, str]] = Counter()
    async with world.db.read() as conn:
        for row in await conn.execute(sa.select(line)):
            sums[row.transfer_id, row.account] += row.amount if row.side == "debit" else -row.amount
    return sums


def _balances(found: _Found, tokens: Mapping[str, Token]) -> Mapping[str, Decimal]:
    """`tokens`: of the row's transfers, by id."""
    sums: defaultdict[str, Decimal] = defaultdict(Decimal)
    for (transfer_id, account_), units in found.booked.items():
        if transfer_id in tokens:
            sums[account_] += _tokens(units, tokens[transfer_id])
    return {name: total for name, total in sums.items() if total}


def _tokens(units: int, token: Token) -> Decimal:
    return Decimal(units) / Decimal(10) ** token.decimals


@asynccontextmanager
async def _opened(db: Database, shelf: Shelf) -> AsyncIterator[tuple[AnvilWorld, Market]]:
    """A node with the market on it, and a world that has read it so far."""
    async with Anvil(find_anvil(), no_mining=True, timestamp=GENESIS_S) as node:
        market = await Market.open(node, shelf)
        world = AnvilWorld(db)
        await evm.mine(node, DEPTH_3.blocks)
        await world.add_node(market.setup(shelf), node)
        try:
            yield world, market
        finally:
            await world.close()


@asynccontextmanager
async def opened_on(db: Database, nodes: Mapping[str, Anvil]) -> AsyncIterator[tuple[AnvilWorld, dict[str, Contract]]]:
    """Chains by name with nothing but one USDC each; those tokens."""
    world, tokens = AnvilWorld(db), {}
    for name, node in nodes.items():
        tokens[name] = usdc = await deploy(node, "CircleLikeToken", *TOKEN)
        chain_id = ChainId(node.chain_id)
        token = Token(chain_id=chain_id, symbol="USDC", address=usdc.address, decimals=6, currency="USD")
        await evm.mine(node, DEPTH_3.blocks)
        setup = ChainSetup(name=name, chain_id=chain_id, tokens=(token,), finality=DEPTH_3, start_block="latest")
        await world.add_node(setup, node)
    try:
        yield world, tokens
    finally:
        await world.close()
