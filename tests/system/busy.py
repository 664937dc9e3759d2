"""Two minutes in which everything happens that the dashboards show: two workers on PostgreSQL, two chains, three
providers of one, customers, merchants' endpoints; and what goes wrong in years.

    async with busy_time(tmp_path) as busy:
        await busy.play()
        await busy.prometheus.now("…")

    # s     0        15        30        45        60        75        90       105
    # pool  |     rate limits ····  lies ······  silence ···
    # anvil | customers, a fork every few blocks, late and lost payments ··················
    # beta  | a customer, forks ······ deep fork, halted, resumed, the customer again ···········
    # rest  | endpoints: one answers, one fails, one is gone     PostgreSQL crashes    leader killed, reconciled
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import psycopg

from chains.faults import FAULTS
from chains.model import Address
from settler.anvil import Anvil, find_anvil
from settler.storage import migrate
from tests.docs.pages import ROOT
from tests.e2e.traffic import Pace, Traffic, flowing
from tests.ha.shop import Doors
from tests.support import evm
from tests.support.daemon import (
    Api,
    ChainTable,
    Json,
    Process,
    TokenTable,
    cli,
    due,
    option,
    pay_to,
    until,
    write_config,
)
from tests.support.postgres import DURABLE, PostgresServer
from tests.support.rpc_proxy import RpcProxy
from tests.system.prometheus import Prometheus, free_port
from tests.webhook.receiver import Receiver, receiving

RULES = tuple(sorted((ROOT / "deploy" / "prometheus" / "rules").glob("*.yaml")))
WORKERS = ("settler-a", "settler-b")
PROVIDERS = {"127.0.0.1": "one.example", "127.0.0.1#2": "two.example", "127.0.0.1#3": "three.example"}
"""All nodes are on this machine, where they have one name."""
FINALITY = 4
POLL_S = 0.5
PACE = Pace(at_most=100_000, pause_s=2.0, block_every_s=1.0)
BETA_BLOCK_S = 1.0
DAI = 10**18
UNIT = 10**6
SEED = 11
WITHIN_S = 150.0
"""A payment may meet the liar, the crash and the kill, one after the other."""
EXTRA = """[webhooks]
allow_private_addresses = true
[runtime]
worker = "{worker}"
"""


@dataclass(kw_only=True)
class Busy:
    prometheus: Prometheus
    workers: list[Process]
    server: PostgresServer
    database: str
    alpha: Anvil
    beta: Anvil
    pool: Sequence[RpcProxy]
    """Of alpha."""
    traffic: Traffic
    doors: Doors
    usdc_on_beta: Address
    dai: Address
    merchant: Receiver
    started_at: float = field(default_factory=time.time)
    """Unix seconds."""
    ended_at: float = 0.0

    @property
    def api(self) -> Api:
        return self.doors

    async def play(self) -> None:
        """All of it, once."""
        await self._open()
        async with asyncio.TaskGroup() as acts:
            lasting = [
                acts.create_task(self._large_payments(), name="large payments"),
                acts.create_task(self._lost_payments(), name="lost payments"),
            ]
            for act in (self._providers(), self._database(), self._lead(), self._deep_fork()):
                acts.create_task(act)
            await asyncio.sleep(105)
            for task in lasting:
                task.cancel()
        await self._reconcile()
        await until(
            lambda: self.prometheus.now("max by (chain) (settler_reconciliation_breaks)"),
            lambda series: len(series) == 2,
            what="the reconciliation to be shown",
            every_s=0.5,
        )
        await asyncio.sleep(2)  # who asks in whole seconds finds it too
        self.ended_at = time.time()

    async def _open(self) -> None:
        """Endpoints, and customers from now on."""
        self.merchant.codes["/fails"] = [500] * 100_000
        self.merchant.codes["/gone"] = [410]
        wanted: dict[str, list[str]] = {"hooks": [], "fails": ["invoice.settled"], "gone": []}
        for path, types in wanted.items():
            body = {"url": f"{self.merchant.base}/{path}", "types": types}
            await self.workers[0].api.post("/v1/webhook-endpoints", body, status=201)
        self.doors.open = list(self.workers)
        self.traffic.api = self.doors

    async def _providers(self) -> None:
        one, two, _ = self.pool
        await asyncio.sleep(12)
        two.inject(FAULTS["429"], probability=0.3)
        await asyncio.sleep(15)
        two.be_honest()
        one.inject(FAULTS["tampered amount"])
        await asyncio.sleep(15)
        one.be_honest()
        two.be_silent()
        await asyncio.sleep(12)
        two.be_honest()

    async def _database(self) -> None:
        """Crashes once; and gives up a delivery, which takes three days otherwise."""
        await asyncio.sleep(30)
        await until(self._last_attempts, bool, what="deliveries that fail", every_s=0.5)
        await asyncio.sleep(28)
        self.server.crash()
        await asyncio.sleep(3)
        self.server.start()

    async def _last_attempts(self) -> int:
        """The next attempt of what waits at the failing endpoint is its last, and now. How many those are."""
        sql = (
            "UPDATE webhook_deliveries SET attempts = 9, next_attempt_at = %s WHERE id IN (SELECT d.id"
            " FROM webhook_deliveries d JOIN webhook_endpoints e ON e.id = d.endpoint_id"
            " WHERE d.status = 'pending' AND d.attempts > 0 AND e.url LIKE '%%/fails' LIMIT 5)"
        )
        async with await psycopg.AsyncConnection.connect(self.database) as connection:
            now = await connection.execute(
                "SELECT min(next_attempt_at) FROM webhook_deliveries WHERE status = 'pending'"
            )
            (earliest,) = (await now.fetchone()) or (None,)
            return (await connection.execute(sql, [earliest])).rowcount

    async def _lead(self) -> None:
        """Who leads alpha is killed, and comes back."""
        await asyncio.sleep(70)
        leads = [w for w in self.workers if (await w.api.metrics()).total("settler_leader", chain="anvil")]
        (leader,) = leads
        self.doors.open = [w for w in self.workers if w is not leader]
        await leader.kill()
        await asyncio.sleep(14)
        await leader.start()
        await leader.listening()
        self.doors.open = list(self.workers)

    async def _deep_fork(self) -> None:
        """A customer of beta; forks between his payments, and one that undoes the last after it was final."""
        for number in range(4):
            paid = await self._paid_on_beta(number)
            if number % 2:
                await self._fork_beta()
        paid = await self._paid_on_beta(4)
        await self._fork_beta(since=(await self._get(paid))["payments"][0]["block_number"])
        await self._reaches(paid, "reversed")
        await asyncio.sleep(8)
        config = self.workers[0].config
        resumed = await asyncio.to_thread(
            cli, "chain", "resume", "beta", "--reason", "two explorers agree", config=config
        )
        assert resumed.returncode == 0, resumed.stderr
        for number in range(5, 8):
            await self._paid_on_beta(number)

    async def _paid_on_beta(self, number: int) -> Json:
        """An invoice, settled."""
        made = await self._create(f"{20 + number}.00", option(chain="beta"))
        await evm.transfer(self.beta, self.beta.accounts[1], self.usdc_on_beta, pay_to(made), due(made))
        await self._reaches(made, "settled")
        return made

    async def _fork_beta(self, *, since: int | None = None) -> None:
        """Replaces blocks that were read: those from `since` on, else the newest that are not final."""
        read = (await evm.head(self.beta)).number
        await until(
            lambda: self._chain("beta"), lambda c: (c["scanned"] or 0) >= read, what="beta to be read", every_s=0.1
        )
        head = (await evm.head(self.beta)).number  # meanwhile others came
        await evm.reorg(self.beta, FINALITY - 1 if since is None else head - since + 1)
        await self.beta.rpc("evm_setTime", int(time.time()))  # its clock loses a second by each

    async def _create(self, amount: str, *ways: Json, expires_in_s: int = 3600) -> Json:
        return await self._answered(lambda: self.api.create(amount, *ways, expires_in_s=expires_in_s))

    async def _get(self, made: Json) -> Json:
        return await self._answered(lambda: self.api.invoice(made))

    async def _chain(self, name: str) -> Json:
        return await self._answered(lambda: self.api.chain(name))

    async def _answered(self, ask: Callable[[], Awaitable[Json]]) -> Json:
        """Asks until it is answered: workers and the database come and go."""
        while True:
            try:
                return await ask()
            except (OSError, AssertionError, aiohttp.ClientError, TimeoutError):
                await asyncio.sleep(0.3)

    async def _reaches(self, made: Json, status: str) -> None:
        await until(
            lambda: self._get(made),
            lambda i: i["status"] == status,
            what=f"it to be {status}",
            within_s=WITHIN_S,
            every_s=0.3,
        )

    async def _large_payments(self) -> None:
        """In a token of 18 decimals."""
        while True:
            made = await self._create("1234.50", option(token="DAI"))
            await evm.transfer(self.alpha, self.alpha.accounts[6], self.dai, pay_to(made), due(made))
            await asyncio.sleep(3)

    async def _lost_payments(self) -> None:
        """Too late, twice, nothing; never what was asked for. Some invoices are canceled."""
        payer, usdc = self.alpha.accounts[7], self.traffic.token
        while True:
            late = await self._create("70.00", option(), expires_in_s=2)
            twice = await self._create("30.00", option())
            given_up = await self._create("1.00", option())
            await evm.transfer(self.alpha, payer, usdc, pay_to(twice), due(twice))
            await self._reaches(twice, "settled")
            await evm.transfer(self.alpha, payer, usdc, pay_to(twice), due(twice))
            await self._reaches(late, "expired")
            await evm.transfer(self.alpha, payer, usdc, pay_to(late), due(late))
            await self.api.post(f"/v1/invoices/{given_up['id']}/cancel", {})
            await asyncio.sleep(4)

    async def _reconcile(self) -> None:
        done = await asyncio.to_thread(cli, "reconcile", config=self.workers[0].config)
        assert done.returncode == 0, done.stdout


@asynccontextmanager
async def busy_time(folder: Path, *, rules: Sequence[Path] = ()) -> AsyncIterator[Busy]:
    """Everything started; nobody has come yet."""
    async with AsyncExitStack() as stack:
        alpha = await stack.enter_async_context(Anvil(find_anvil(), no_mining=True, prune_history=1024))
        beta = await stack.enter_async_context(
            Anvil(find_anvil(), chain_id=31338, block_time_s=BETA_BLOCK_S, prune_history=1024)
        )
        pool = [await stack.enter_async_context(RpcProxy(alpha.url, seed=SEED + n)) for n in range(len(PROVIDERS))]
        usdc, usdt, dai = [
            TokenTable(address=await evm.deploy_token(alpha, symbol, decimals), symbol=symbol, decimals=decimals)
            for symbol, decimals in (("USDC", 6), ("USDT", 6), ("DAI", 18))
        ]
        on_beta = TokenTable(address=await evm.deploy_token(beta, "USDC"), symbol="USDC")
        await evm.mint(alpha, dai.address, evm.address_of(alpha.accounts[6]), 10**9 * DAI)
        await evm.mint(alpha, usdc.address, evm.address_of(alpha.accounts[7]), 10**9 * UNIT)
        await evm.mint(beta, on_beta.address, evm.address_of(beta.accounts[1]), 10**9 * UNIT)
        server = PostgresServer(settings=DURABLE)  # it crashes
        stack.callback(server.remove)
        server.start()
        database = server.create_database("busy")
        await migrate.upgrade(database)
        tables = (
            ChainTable(
                name="anvil",
                rpc=[p.url for p in pool],
                tokens=(usdc, usdt, dai),
                finality=FINALITY,
                poll_interval_s=POLL_S,
            ),
            ChainTable(
                name="beta",
                chain_id=31338,
                rpc=beta.url,
                tokens=(on_beta,),
                finality=FINALITY,
                poll_interval_s=POLL_S,
            ),
        )
        workers = []
        for name in WORKERS:
            (folder / name).mkdir()
            config = write_config(folder / name, *tables, database=database, extra=EXTRA.format(worker=name))
            # the same when it comes back
            config.write_text(config.read_text().replace("127.0.0.1:0", f"127.0.0.1:{free_port()}"))
            worker = Process(config)
            stack.push_async_callback(worker.kill)
            await worker.start()
            await (await worker.listening()).is_ready()
            workers.append(worker)
        merchant = await stack.enter_async_context(receiving())
        targets = {name: w.api.address.removeprefix("http://") for name, w in zip(WORKERS, workers, strict=True)}
        prometheus = await stack.enter_async_context(
            Prometheus(folder, targets, rules=rules, relabelled={"provider": PROVIDERS})
        )
        session = await stack.enter_async_context(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)))
        traffic = await stack.enter_async_context(flowing(alpha, usdc.address, usdt.address, seed=SEED, pace=PACE))
        stack.callback(_keep_logs, folder, workers)
        yield Busy(
            prometheus=prometheus,
            workers=workers,
            server=server,
            database=database,
            alpha=alpha,
            beta=beta,
            pool=pool,
            traffic=traffic,
            doors=Doors(session),
            usdc_on_beta=on_beta.address,
            dai=dai.address,
            merchant=merchant,
        )


def _keep_logs(folder: Path, workers: Sequence[Process]) -> None:
    """For whoever wants to know why something failed."""
    for name, worker in zip(WORKERS, workers, strict=True):
        (folder / name / "log").write_text("".join(worker.errors))
