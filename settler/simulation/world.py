"""One simulated world, from its plan to its verdict.

begin     chains with a past, providers, receivers, a database, a worker that opens its chains
live      step by step: people pay, operators decide, something breaks or heals; checked after each
heal      nothing fails any more; all that is due has to settle within a bound
verdict   everything is checked exactly, by the simulator's truth and by the program's own `check`
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

from chains.faults import FAULTS
from chains.faults.model import Json
from chains.model import ChainId
from chains.post import HttpSession
from chains.simulated import SimulatedReader
from chains.simulated_chain import SimulatedChain
from chains.simulated_net import SimulatedProvider, SimulatedSession
from chains.simulated_node import SimulatedNode
from chains.spans import WindowedReader
from settler.domain.delivery import Endpoint, EndpointId
from settler.domain.ids import ENTROPY_BYTES, make_id
from settler.domain.invariants import Invariant, Violation
from settler.runtime.outside import Outside
from settler.runtime.setups import judgement_of
from settler.simulation.checks import Checker
from settler.simulation.checks_rows import Rows
from settler.simulation.client import Desk
from settler.simulation.clock import EPOCH, SimClock
from settler.simulation.driver import CHAIN_FAULTS, ChainDriver
from settler.simulation.life import Life
from settler.simulation.looking import Looker
from settler.simulation.operators import WHO, Operators
from settler.simulation.people import People
from settler.simulation.plan import FAULT_GROUPS, ChainPlan, Plan, is_lie
from settler.simulation.process import RESTART_S, Worker
from settler.simulation.receiver_faults import FAULTS as RECEIVER_FAULTS
from settler.simulation.receiver_records import Receiver
from settler.simulation.receivers import Receivers
from settler.simulation.setting import provider_hosts, settings_for, settings_of
from settler.simulation.store import SimStore
from settler.simulation.store_faults import STORE_FAULTS
from settler.simulation.trace import Trace
from settler.simulation.truth import ChainTruth, EndpointTruth, Rules, Truth
from settler.simulation.verdict import Verdict
from settler.stages.invariants import check, delivered_once
from settler.stages.operating import Operating
from settler.storage import schema, webhook_admin
from settler.storage.outcome import Row

PAST_BLOCKS = 300
"""Blocks a chain has before the world begins: above any lag of its tags."""
OPEN_WITHIN_S = 4 * 3_600.0
"""Faults of the first hours may hold up the opening; they are withdrawn after that."""
LOOK_EVERY_S = 5.0
REST_WITHIN_S = 3_600.0
REST_WITHIN_POLLS = 60
"""Once nothing fails any more, all has come to rest within the longer of the two: the bound of liveness. Distrust of a
provider that lied lasts ten minutes."""
TOLERANCE_MAX = 10**18
"""One unit of the currency, as `setting` configures it."""
LAST_BLOCKS = 20
"""Mined after the last payment, beside what it takes to be final."""
LATENCY_S = (0.005, 0.4)


class _Enough(Exception):
    """Something is wrong already: the rest of the world would only blur it."""


@dataclass(slots=True, kw_only=True)
class _ChainHere:
    """All that belongs to one chain of the world."""

    plan: ChainPlan
    driver: ChainDriver
    providers: list[SimulatedProvider]


class World:
    """`await World.of(plan, database=None)`, then `await world.run()`. To be run on a `VirtualLoop` of its own."""

    def __init__(self, plan: Plan, *, store: SimStore, trace: Trace) -> None:
        self.plan = plan
        self.store = store
        self.trace = trace
        rules = Rules(
            tolerance_bps=plan.tolerance_bps,
            tolerance_max=TOLERANCE_MAX,
            accepts_late=plan.late == "accept",
            clocks_are_right="clock jump" not in plan.faults,
        )
        self.truth = Truth(rules=rules)
        self.settings = settings_of(plan)
        self._loop = asyncio.get_running_loop()
        self._random = random.Random(f"world {plan.seed}")
        self._clocks: dict[str, SimClock] = {}
        self._struck: Counter[str] = Counter()
        self._verdict = Verdict(seed=plan.seed, steps=plan.steps, chains=len(plan.chains))
        self._begun_s = self._loop.time()
        self._chains: dict[str, _ChainHere] = {}
        self._is_over = False
        for chain in plan.chains:
            self._chains[chain.name] = self._chain(chain)
        self._hosts = {
            host: provider
            for here in self._chains.values()
            for host, provider in zip(provider_hosts(here.plan), here.providers, strict=True)
        }
        self._receivers = Receivers(
            self._drawn("receivers"),
            SimClock(self._loop),
            on_trace=self.trace.note,
            timestamps_may_be_off=bool({"clock jump", "a worker stands still", "lost lease"} & plan.faults.keys()),
        )
        self._kinds = [kind for group in FAULT_GROUPS if (kind := [name for name in group if name in plan.faults])]
        self._shops: dict[EndpointId, Receiver] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._last_digest = ""
        self._workers: list[Worker] = []
        self._keepers: list[asyncio.Task[None]] = []
        self._checker = Checker(self.truth)
        self._looker = Looker(store, on_chain=self._moved)
        self._cursors: dict[str, tuple[int | None, int | None]] = {}

    @classmethod
    async def of(cls, plan: Plan, *, database: str | None = None) -> World:
        """`database`: of PostgreSQL; `None`: SQLite in memory."""
        trace = Trace()
        trace.listen_to_logs()
        store = await SimStore.create(
            database,
            random=random.Random(f"store {plan.seed}"),
            on_trace=lambda who, what: trace.note(f"db {who}: {what}"),
        )
        return cls(plan, store=store, trace=trace)

    async def run(self) -> Verdict:
        verdict = self._verdict
        try:
            await self._begin()
            await self._live()
            await self._heal()
            await self._judge()
        except _Enough:
            pass
        finally:
            self._is_over = True
            await self._end()
        verdict.problems += self.trace.bugs
        verdict.problems += [f"process ended: {error!r}" for worker in self._workers for error in worker.failures]
        verdict.digest = self.trace.digest
        verdict.simulated_s = self._loop.time() - self._begun_s
        verdict.blocks = sum(here.driver.chain.head.number for here in self._chains.values())
        verdict.faults = self._all_struck()
        verdict.did = self._people.did + self._operators.did
        if not verdict.is_good:
            verdict.lines = list(self.trace.lines)
        return verdict

    # -- begin ---------------------------------------------------------------------------------------------------------

    def _drawn(self, name: str) -> random.Random:
        return random.Random(f"{name} {self.plan.seed}")

    def _chain(self, plan: ChainPlan) -> _ChainHere:
        tokens = self.settings.chains[plan.name].tokens
        chain = SimulatedChain(
            seed=self.plan.seed * 10_000_000 + plan.chain_id,
            chain_id=ChainId(plan.chain_id),
            start_time=EPOCH - timedelta(seconds=PAST_BLOCKS * plan.block_s),
            block_time_s=plan.block_s,
            safe_lag=plan.tag_lag // 2,
            finalized_lag=plan.tag_lag,
            has_real_headers=plan.proves,
        )
        for token in tokens:
            chain.add_token(token)
        chain.mine_empty(PAST_BLOCKS, until=EPOCH)
        truth = ChainTruth(name=plan.name, chain=chain, tokens=tokens, final_height=0)
        self.truth.chains[plan.name] = truth
        driver = ChainDriver(
            truth,
            block_s=plan.block_s,
            finality=plan.finality,
            random=self._drawn(f"chain {plan.name}"),
            on_event=self.trace.note,
        )
        node = SimulatedNode(chain)

        def reply(call: Json) -> Json:
            driver.catch_up()
            return node.reply(call)

        providers = [
            SimulatedProvider(reply, name=host, drawn=self._drawn(host), latency_s=LATENCY_S, on_exchange=self._heard)
            for host in provider_hosts(plan)
        ]
        return _ChainHere(plan=plan, driver=driver, providers=providers)

    def _heard(self, provider: SimulatedProvider, methods: tuple[str, ...], outcome: str) -> None:
        self.trace.note(f"rpc {provider.name} {' '.join(methods)}: {outcome}")

    async def _begin(self) -> None:
        plan = self.plan
        desk = self._desk = Desk(self.store.open, clock=SimClock(self._loop), random=self._drawn("desk"))
        self._operators = Operators(
            desk=desk,
            truth=self.truth,
            operating=Operating(judgement_of(self.settings)),
            random=self._drawn("operators"),
            did=Counter(),
        )
        self._people = People(
            desk,
            self.truth,
            {name: here.driver for name, here in self._chains.items()},
            catalog=self.settings.catalog(),
            customs=plan.customs,
            random=self._drawn("people"),
        )
        for number in range(plan.receivers):
            await self._add_endpoint(number)
        self._hire("one")
        await self._until(self._have_all_begun, within_s=OPEN_WITHIN_S, what="every chain is open")

    async def _add_endpoint(self, number: int) -> None:
        receiver = self._receivers.add(f"shop-{number}.sim.example")
        by = self._desk.by(WHO)
        endpoint = Endpoint(
            id=EndpointId(make_id("whe", by.now, self._desk.entropy(ENTROPY_BYTES))),
            url=receiver.url,
            merchant=None if number == 0 else ("acme", "bakery")[number % 2],
            types=(),
            secret=receiver.secrets[0],
            previous_secret=None,
            created_at=by.now,
        )
        await self._desk.done(lambda conn: webhook_admin.add(conn, endpoint, by))
        self.truth.endpoints[endpoint.id] = EndpointTruth(
            id=endpoint.id, merchant=endpoint.merchant, processed=receiver.times, refused=receiver.failed
        )
        self._shops[endpoint.id] = receiver

    def _hire(self, name: str) -> Worker:
        r = self._drawn(f"worker {name}")
        worker = Worker(
            name,
            settings=settings_for(self.settings, name),
            outside_of=lambda life: self._outside(life, name, r),
            restart_after_s=lambda: r.uniform(*RESTART_S),
        )
        self._workers.append(worker)
        self._keepers.append(asyncio.create_task(worker.keep_alive(), name=f"keeper {name}"))
        return worker

    def _outside(self, life: Life, name: str, r: random.Random) -> Outside:
        self.trace.note(f"process {life.name} starts")
        life.on_kill(lambda: self.trace.note(f"process {life.name} ends"))
        clock = self._clocks.setdefault(name, SimClock(self._loop))
        session: HttpSession = SimulatedSession(self._hosts, gate=life.gate)
        return Outside(
            clock=clock,
            open_database=lambda _url: self.store.open(life),
            make_sender=lambda clock, *, allow_private: self._receivers.sender(
                clock, life, allow_private=allow_private
            ),
            rpc_session=session,
            jitter=random.Random(r.random()),
            entropy=random.Random(r.random()).randbytes,
            give_back=lambda: None,
            cadence=self.plan.cadence,
            serves_api=False,
        )

    async def _have_all_begun(self) -> bool:
        for row in await self.store.rows(schema.chains):
            truth = self.truth.chains[row["name"]]
            if truth.begun is None and row["settled_number"] is not None:
                truth.begun = row["settled_number"]
        return all(truth.begun is not None for truth in self.truth.chains.values())

    async def _until(self, holds: Callable[[], Awaitable[bool]], *, within_s: float, what: str) -> None:
        ends_s = self._loop.time() + within_s
        while not await holds():
            if self._loop.time() >= ends_s:
                self._verdict.problems.append(f"not within {within_s:g} s: {what}")
                raise _Enough
            await asyncio.sleep(LOOK_EVERY_S)

    # -- live ----------------------------------------------------------------------------------------------------------

    async def _live(self) -> None:
        r = self._random
        for step in range(self.plan.steps):
            await asyncio.sleep(r.expovariate(1 / self.plan.gap_s))
            self.trace.note(f"step {step}")
            if r.random() < self.plan.trouble_rate and self.plan.faults:
                name = r.choice(r.choice(self._kinds))
                self._trouble(name, self.plan.faults[name])
            drawn = r.random()
            if drawn < 0.5:
                self._go("order", self._people.order())
            elif drawn < 0.65:
                decision = r.choice(self.plan.decisions)
                self._go(decision, self._operators.decide(decision))
            elif drawn < 0.7:
                self._go("resume", self._operators.resume_all())
            await self._look()

    def _go(self, what: str, work: Awaitable[object]) -> None:
        """People do not wait for one another."""

        async def go() -> None:
            await work

        task = asyncio.create_task(go(), name=what)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _look(self) -> None:
        """The invariants that hold at any moment."""
        for here in self._chains.values():
            here.driver.catch_up()
        self._know()
        found = self._checker.step(await self._looker.changed())
        if found:
            self._verdict.violations += found
            raise _Enough

    def _moved(self, life: Life, row: Row, holder: str | None) -> None:
        """At every commit. I7: settled blocks stay settled, unless the chain itself took them back. And of all workers
        only the one that leads a chain moves its cursors.
        """
        name, number = row["name"], row["settled_number"]
        before = self._cursors.get(name, (None, None))
        self._cursors[name] = (row["scanned_number"], number)
        if before == self._cursors[name]:
            return
        settled_before = before[1]
        if settled_before is not None and number < settled_before and not self.truth.chains[name].violations:
            detail = f"was settled up to block {settled_before}, and is up to {number} now"
            self._verdict.violations.append(Violation(invariant=Invariant.I7, subject=name, detail=detail))
        worker = life.name.rpartition(".")[0]
        if worker in self._clocks and worker != holder:
            self._verdict.problems.append(f"{life.name} moved cursors of {name}, which {holder} leads")

    def _know(self) -> None:
        """Brings the truth up to now."""
        if not self._verdict.is_good:
            raise _Enough
        self.truth.now = self._desk.now()
        for id_, receiver in self._shops.items():
            if receiver.answered[410]:
                self.truth.endpoints[id_].was_disabled = True
        if self._receivers.violations:
            self._verdict.problems += [
                f"{seen.host} at {seen.at:%H:%M:%S}: {seen.what}" for seen in self._receivers.violations
            ]
            raise _Enough

    # -- what goes wrong -----------------------------------------------------------------------------------------------

    def _trouble(self, name: str, rate: float) -> None:
        """One kind begins to strike, and stops a while later."""
        r = self._random
        for_s = r.uniform(0.5, 6) * self.plan.gap_s
        here = self._chains[r.choice(sorted(self._chains))]
        self.trace.note(f"trouble: {name} at {rate} for {for_s:.0f} s on {here.plan.name}")
        if name in FAULTS:
            self._provider_trouble(here, name, rate, for_s)
        elif name == "provider down":
            provider = r.choice(here.providers)
            provider.be_down()
            self._struck[name] += 1
            self._later(for_s, provider.be_up)
        elif name in CHAIN_FAULTS:
            self._chain_trouble(here.driver, name, for_s)
        elif name in STORE_FAULTS:
            self.store.inject(name, rate)
            self._later(for_s, lambda: self.store.withdraw(name))
        elif name in RECEIVER_FAULTS:
            self._receivers.inject(name, rate)
            self._later(for_s, lambda: self._receivers.withdraw(name))
        else:
            self._process_trouble(name, for_s)

    def _provider_trouble(self, here: _ChainHere, name: str, rate: float, for_s: float) -> None:
        fault, liar = FAULTS[name], here.plan.liar
        if is_lie(name, self.plan.faults):
            if liar is None:
                return
            provider = here.providers[liar]
        else:
            provider = self._random.choice(here.providers)
        provider.inject(fault, probability=rate)
        self._later(for_s, lambda: provider.withdraw(fault))

    def _chain_trouble(self, driver: ChainDriver, name: str, for_s: float) -> None:
        r = self._random
        match name:
            case "finality stall":
                driver.stall(for_s)
            case "halt, then a burst":
                driver.halt(for_s)
            case "reorg past finality":
                if r.random() < 0.3:
                    driver.fork_past_finality(depth=r.randint(1, 8), drop_rate=r.choice((0.2, 0.9)))
            case _:
                driver.fork(
                    depth=r.randint(1, 40),
                    drop_rate=r.choice((0.0, 0.3, 1.0)) if name == "transaction dropped" else 0.1,
                    replace_rate=0.5 if name == "transaction replaced" else 0.05,
                    delay_rate=0.5 if name == "transaction included elsewhere" else 0.2,
                    lengthen=r.choice((0, 0, 1, 2)),
                )

    def _process_trouble(self, name: str, for_s: float) -> None:
        r = self._random
        worker = r.choice([w for w in self._workers if w.is_wanted])
        match name:
            case "kill -9":
                worker.life.kill()
            case "restart":
                worker.ask_to_stop()
            case "a worker stands still":
                self._hold_still(worker, for_s)
            case "clock jump":
                clock = self._clocks[worker.name]
                clock.skew_s = r.choice((-86_400.0, -3_600.0, -5.0, 5.0, 3_600.0, 86_400.0))
                self._later(for_s, lambda: setattr(clock, "skew_s", 0.0))
            case "two workers":
                if not self._hire_second(for_s):
                    return
            case "lost lease":  # it stands still, another one takes over, and it wakes up in the middle of something
                if not self._hire_second(2 * for_s):
                    return
                self._hold_still(worker, for_s)
            case _:
                raise AssertionError(f"unknown fault {name}")
        self._struck[name] += 1

    def _hold_still(self, worker: Worker, for_s: float) -> None:
        """The process that runs now; the worker may have another one by the time it wakes."""
        life = worker.life
        life.freeze()
        self._later(for_s, life.thaw)

    def _hire_second(self, for_s: float) -> bool:
        if sum(w.is_wanted for w in self._workers) > 1:
            return False
        second = self._hire(f"extra{len(self._workers)}")
        self._later(for_s, second.retire)
        return True

    def _later(self, after_s: float, what: Callable[[], object]) -> None:
        self._loop.call_later(after_s, lambda: None if self._is_over else what())

    # -- heal and judge ------------------------------------------------------------------------------------------------

    async def _heal(self) -> None:
        """Nothing fails any more, and time goes on until nothing changes."""
        self.trace.note("all heals")
        self.store.heal()
        self._receivers.heal()
        for here in self._chains.values():
            for provider in here.providers:
                provider.be_honest()
                provider.be_up()
            here.driver.heal()
        for clock in self._clocks.values():
            clock.skew_s = 0.0
        for worker in self._workers:
            worker.life.thaw()
        for worker in self._workers[1:]:
            worker.retire()
        await self._until(self._is_nobody_asking, within_s=REST_WITHIN_S, what="everybody was answered")
        for here in self._chains.values():
            here.driver.end_after(LAST_BLOCKS + max(here.plan.tag_lag + 4, 30))
        poll_s = max(chain.poll_s for chain in self.plan.chains)
        last_s = max(
            here.driver.block_s * (LAST_BLOCKS + max(here.plan.tag_lag + 4, 30)) for here in self._chains.values()
        )
        ends_s = self._loop.time() + last_s + max(REST_WITHIN_S, REST_WITHIN_POLLS * poll_s)
        await asyncio.sleep(last_s)
        while self._loop.time() < ends_s:
            await asyncio.sleep(max(60.0, 3 * poll_s))
            self.trace.remark(f"at rest? {self._waits(await self._looker.all())}")
            await self._operators.resume_all()
            await self._operators.release_all()
            await self._operators.retry_all()
            if await self._is_at_rest():
                return
        why = self._waits(await self._looker.all()) or ["its state changes without end"]
        self._verdict.problems.append("it never came to rest: " + "; ".join(why))
        raise _Enough

    async def _is_nobody_asking(self) -> bool:
        return not self._tasks

    async def _is_at_rest(self) -> bool:
        """Twice in a row the same state, in which nothing waits for anything."""
        rows = await self._looker.all()
        now = self._checker.digest(rows)
        was, self._last_digest = self._last_digest, now
        return now == was and not self._waits(rows)

    def _waits(self, rows: Rows) -> list[str]:
        found = []
        for row in rows.chains:
            final = self.truth.chains[row.name].final_height
            if row.halted_at is not None or row.settled_number != final:
                found.append(f"{row.name} is settled to {row.settled_number}, final is {final}")
        live = {e.id for e in rows.webhook_endpoints if e.disabled_at is None}
        waiting = [d for d in rows.webhook_deliveries if d.status == "pending" and d.endpoint_id in live]
        if waiting:
            found.append(f"{len(waiting)} deliveries wait")
        left = [e for e in rows.events if not e.is_fanned_out]
        if left:
            found.append(f"{len(left)} events wait in the outbox")
        return found

    async def _judge(self) -> None:
        self._know()
        rows = await self._looker.all()
        for id_, shop in self._shops.items():
            self.truth.endpoints[id_].was_disabled = bool(shop.answered[410])
        self._verdict.problems += [f"receiver {v.host} at {v.at}: {v.what}" for v in self._receivers.violations]
        self._verdict.violations += self._checker.rest(rows)
        readers = {
            here.driver.chain.id: WindowedReader(
                SimulatedReader(here.driver.chain, name="honest"), monotonic=self._loop.time
            )
            for here in self._chains.values()
        }
        found = await check(self.store.checker, readers, policy=self.settings.invoice_policy(), is_quiescent=True)
        if self._struck["clock jump"]:
            # Which events an endpoint is owed that was disabled for a while, the program's own check tells by clocks.
            by_clocks = await delivered_once(self.store.checker)
            found = [violation for violation in found if violation not in by_clocks]
        self._verdict.violations += found
        self._verdict.counts = {name: len(getattr(rows, name)) for name in ("invoices", "transfers", "settlements")}
        self.trace.note(f"state {self._checker.digest(rows)}")

    async def _end(self) -> None:
        for worker in self._workers:
            worker.retire()
            worker.life.thaw()
        if self._keepers:
            await asyncio.wait(self._keepers)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.store.close()

    def _all_struck(self) -> Counter[str]:
        struck = self._struck + self.store.struck + self._receivers.struck
        for here in self._chains.values():
            struck += here.driver.struck
            for provider in here.providers:
                struck.update({name: count for name, count in provider.told.items() if name in FAULTS})
        return struck
