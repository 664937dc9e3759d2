"""A small life of the real stages with its truth beside it, for tests of the checkers: rows that tests may spoil.

lived = await Lived.on(db)
await lived.one_of_each()
lived.rows()                 all rows, as values of their own that may be changed
"""

from __future__ import annotations

import copy
from contextlib import suppress
from dataclasses import fields
from datetime import UTC, datetime
from types import SimpleNamespace

import sqlalchemy as sa

from chains.errors import NodeInconsistent
from chains.model import BlockNumber, ChainId
from settler.domain.delivery import Endpoint, EndpointId
from settler.domain.ids import EventId
from settler.domain.invariants import Violation
from settler.domain.invoices import Invoice
from settler.domain.settlement import InvoicePolicy, LatePolicy
from settler.simulation.checks import Checker, Rows
from settler.simulation.truth import Action, ChainTruth, EndpointTruth, InvoiceTruth, Rules, Truth
from settler.stages.settle import VIOLATION_SIGHTINGS
from settler.storage import chains, feed, schema, webhooks
from settler.storage.engine import Database
from tests.support.world import World, token

BEFORE = datetime(2000, 1, 1, tzinfo=UTC)
"""Chains of a test world tick on their own: what was made before every block was made in time."""
ENDPOINT = EndpointId("whe_01arz3ndektsv4rrffq69g5fav")
DEPTH = 3
LATE_S = 216_000
"""After an invoice of a day has expired, and while it is still monitored; the clock of `World` is a day ahead."""


class Lived:
    """What happened, and what the checkers say of it look by look."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.truth = Truth(now=BEFORE, rules=Rules(accepts_late=world.policy.late is LatePolicy.ACCEPT))
        for name, c in world.chains.items():
            final = c.chain.head.number - DEPTH
            self.truth.chains[name] = ChainTruth(name=name, chain=c.chain, tokens=c.setup.tokens, final_height=final)
        self.checker = Checker(self.truth)
        self.found: list[Violation] = []
        self._rows = Rows()

    @classmethod
    async def on(cls, db: Database, *, late: str = "hold") -> Lived:
        world = await World.on(db, policy=InvoicePolicy(late=LatePolicy(late)))
        await world.add_chain("base", tokens=[token(chain_id=ChainId(8453))], seed=2)
        lived = cls(world)
        lived.truth.endpoints[ENDPOINT] = EndpointTruth(id=ENDPOINT)
        endpoint = Endpoint(
            id=ENDPOINT,
            url="https://shop.example/hook",
            merchant=None,
            types=(),
            secret="whsec_" + "A" * 32,
            previous_secret=None,
            created_at=world.clock.now(),
        )
        async with world.db.write() as conn:
            await webhooks.add_endpoint(conn, endpoint)
        await lived.look()
        return lived

    # -- what happens --------------------------------------------------------------------------------------------------

    async def one_of_each(self) -> dict[str, Invoice]:
        """Invoices by what becomes of them."""
        made = {name: await self.ask() for name in ("paid", "late", "short", "over", "waiting", "canceled")}
        for name in ("paid", "over"):
            self.world.pay(made[name], None if name == "paid" else made[name].options[0].amount_base + 5)
        self.world.pay(made["short"], 7)
        self.world.pay(made["short"], 0)
        self.mine()
        await self.catch_up()
        async with self.world.db.write() as conn:
            await self.world.operating.cancel(conn, made["canceled"].id, self.world.by())
        self.did("cancel", made["canceled"].id)
        await self.look()
        self.world.pay(made["paid"])  # once more: surplus, to suspense
        self.world.pay(made["canceled"])
        self.mine(after_s=LATE_S)
        self.world.pay(made["late"], on="anvil")
        self.mine()
        await self.catch_up()
        return made

    async def ask(self) -> Invoice:
        invoice = await self.world.invoice(expires_in_s=86_400)
        self.truth.invoices[invoice.id] = InvoiceTruth(invoice=invoice, created_at=BEFORE)
        for option in invoice.options:
            self.truth.watched[option.pay_to] = BEFORE
        await self.look()
        return invoice

    def did(self, kind: str, object_id: str, **details: object) -> None:
        self.truth.actions.append(Action(at=BEFORE, kind=kind, object_id=object_id, details=details))

    def mine(self, *, after_s: int | None = None) -> None:
        """All that waits, and on every chain as many blocks more as make it final."""
        for name in self.world.chains:
            self.world.mine(DEPTH, on=name, after_s=after_s)
            self.grown(name)

    def grown(self, name: str) -> None:
        chain = self.truth.chains[name]
        chain.final_height = max(chain.final_height, chain.chain.head.number - DEPTH)

    def break_finality(self, depth: int, *, drop_all: bool) -> None:
        """Replaces the top `depth` blocks of `anvil`, final ones among them."""
        chain = self.truth.chains["anvil"]
        ancestor = BlockNumber(chain.chain.head.number - depth)
        replaced = [b for n in range(depth) if (b := chain.chain.block_at(ancestor + 1 + n)) is not None]
        chain.break_finality(BEFORE, ancestor)
        drop = [tx.hash for b in replaced for tx in b.txs] if drop_all else []
        chain.chain.reorg(depth, drop=drop)

    async def look_until_halted(self) -> None:
        """A quorum has to show it several times running."""
        for _ in range(VIOLATION_SIGHTINGS):
            with suppress(NodeInconsistent):
                await self.world.chains["anvil"].settle.tick()
            await self.look()
        assert (await self.world.state("anvil")).is_halted

    async def resume(self, name: str = "anvil") -> None:
        self.world.clock.advance(1)
        async with self.world.db.write() as conn:
            id_ = self.truth.chains[name].id
            await chains.resume(conn, id_, now=self.world.clock.now(), who="ada", reason="looked into it")
        self.did("resume", name)
        await self.look()

    async def catch_up(self) -> None:
        """Every stage, until nothing changes; a look after each."""
        for name in self.world.chains:
            await self.world.watch(name)
            await self.look()
            await self.world.settle(name)
            await self.look()
        await self.world.expire()
        await feed.catch_up(self.world.db)
        await self._deliver()
        await self.look()

    async def _deliver(self) -> None:
        endpoint = self.truth.endpoints[ENDPOINT]
        now = self.world.clock.now()
        async with self.world.db.write() as conn:
            await webhooks.fan_out(conn, now, 10_000)
            for claim in await webhooks.claim_due(conn, now, per_endpoint=1_000, limit=1_000, lease_s=60):
                endpoint.processed[EventId(claim.event.id)] += 1
                await webhooks.record_delivered(conn, claim, now, status_code=200)

    # -- what is seen --------------------------------------------------------------------------------------------------

    async def look(self) -> None:
        self._rows = await self._read()
        self.found += self.checker.step(self._rows)

    async def _read(self) -> Rows:
        rows = Rows()
        async with self.world.db.read() as conn:
            for field in fields(Rows):
                table = schema.metadata.tables[field.name]
                found = await conn.execute(sa.select(table).order_by(*table.primary_key.columns))
                getattr(rows, field.name).extend(SimpleNamespace(**row._mapping) for row in found)
        return rows

    def rows(self) -> Rows:
        """As they were at the last look."""
        return copy.deepcopy(self._rows)

    def judge(self, rows: Rows | None = None) -> list[Violation]:
        """At rest, by a checker that sees all for the first time."""
        return Checker(self.truth).rest(rows or self.rows())
