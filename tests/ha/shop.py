"""A shop that stays open whatever happens to the daemons behind it: customers order and pay, blocks come and fork,
webhooks are received. At the end the books are held against the chain, and against a daemon that nobody disturbed.

    async with open_shop(tmp_path) as shop:
        async with Process(shop.config("a", database)) as worker:
            shop.doors.open = [worker]                 # customers come
            ...                                        # whatever is to be survived
            show(await shop.reckon([worker], database))
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from settler.anvil import Anvil, find_anvil
from tests.e2e.aftermath import Calm, compare, let_leases_run_out, settled, told_once
from tests.e2e.traffic import Pace, Traffic, flowing
from tests.e2e.verdict import judge
from tests.support import evm
from tests.support.daemon import Api, ChainTable, Process, TokenTable, cli_json, until, write_config
from tests.support.dump import audit
from tests.webhook.receiver import Receiver, receiving, verify

FINALITY = 4
POLL_S = 0.1
PACE = Pace(at_most=100_000, pause_s=0.5, walk_away=0.1)
SEED = 7
ANSWER_S = 5.0
"""So long a customer waits for an answer; then he asks again, maybe another worker. A stopped one answers later."""
EXTRA = """[webhooks]
allow_private_addresses = true
[runtime]
worker = "{worker}"
"""


class Doors(Api):
    """Several workers as one API, as behind a load balancer that knows nothing: each request goes to any of them."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session
        self.open: list[Process] = []
        """Those that are asked. Asked while none is: the request fails."""
        self._random = random.Random(SEED)

    @property
    def address(self) -> str:  # type: ignore[override]  # drawn anew for each request; nobody sets it
        if not self.open:
            raise aiohttp.ClientConnectionError("no worker is up")
        return self._random.choice(self.open).api.address


@dataclass(kw_only=True)
class Shop:
    node: Anvil
    merchant: Receiver
    traffic: Traffic
    chain: ChainTable
    doors: Doors
    folder: Path
    secrets: list[str] = field(default_factory=list)
    """Of the webhook endpoint."""

    def config(self, worker: str, database: str) -> Path:
        """Of a worker of that name."""
        folder = self.folder / worker
        folder.mkdir(exist_ok=True)
        return write_config(folder, self.chain, database=database, extra=EXTRA.format(worker=worker))

    async def open(self, *workers: Process) -> None:
        """The webhook endpoint is there, and customers come: to these workers, which listen."""
        made = await cli_json("webhook", "endpoint", "add", f"{self.merchant.base}/hooks", config=workers[0].config)
        self.secrets.append(made["secret"])
        self.doors.open = list(workers)
        self.traffic.api = self.doors

    async def goes_on(self, api: Api, *, within_s: float) -> float:
        """Returns once that API shows a block read that is mined from now on; the seconds it took."""
        started, head = time.monotonic(), (await evm.head(self.node)).number

        async def scanned() -> int:
            try:
                return int((await api.chain())["scanned"] or 0)
            except (aiohttp.ClientError, OSError, AssertionError):
                return -1

        await until(scanned, lambda n: n > head, what=f"block {head + 1} to be read", within_s=within_s, every_s=0.05)
        return time.monotonic() - started

    async def reckon(self, workers: Sequence[Process], database: str, *, is_compared: bool = True) -> str:
        """Closes the shop, waits for all to be settled, ends the workers in order and checks what they leave behind:
        against the chain, and if it `is_compared` against a daemon that nobody disturbed. Figures.
        """
        traffic, api = self.traffic, workers[0].api
        await traffic.close_doors(self.doors)
        traffic.stop_mining()
        await self.node.rpc("evm_setTime", int(time.time()) + 60)  # those who left last have run out of it
        final = await traffic.mine(FINALITY) - FINALITY
        await settled(api, traffic, final)
        verdict = await judge(api, traffic, traffic.left)
        verdict.check()
        await let_leases_run_out(database)  # of webhooks that a killed worker was sending
        told = await told_once(api, self.merchant)
        verify(self.merchant.got[-1], self.secrets[0])
        for worker in workers:
            assert await worker.signal(signal.SIGTERM) == 0
            assert "Traceback" not in "".join(worker.errors)
        if is_compared:
            await self._compare(database, final)
        else:
            await audit(database)
        return (
            f"{len(traffic.paid)} invoices paid by {verdict.payments} transfers, {len(traffic.left)} left; "
            f"{final + FINALITY} blocks, {traffic.forks} forks; {traffic.refused} requests failed and were repeated, "
            f"{traffic.hits} answered again; {told} events, {len(self.merchant.got)} webhooks: "
            f"nothing lost, nothing doubled{', the same as undisturbed' if is_compared else ''}"
        )

    async def _compare(self, database: str, final: int) -> None:
        calm = self.folder / "calm"
        calm.mkdir()
        url = f"sqlite:///{calm / 'settler.db'}"
        await compare(
            database,
            Calm(config=write_config(calm, self.chain, database=url, extra=EXTRA.format(worker="calm")), database=url),
            self.traffic,
            final,
        )


@asynccontextmanager
async def open_shop(folder: Path, *, pace: Pace = PACE) -> AsyncIterator[Shop]:
    """A chain with its tokens and customers, who come once `Shop.open` says to whom."""
    async with (
        Anvil(find_anvil(), no_mining=True, prune_history=1024) as node,
        receiving() as merchant,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_S)) as session,
    ):
        tokens = [TokenTable(address=await evm.deploy_token(node, s), symbol=s) for s in ("USDC", "USDT")]
        async with flowing(node, tokens[0].address, tokens[1].address, seed=SEED, pace=pace) as traffic:
            yield Shop(
                node=node,
                merchant=merchant,
                traffic=traffic,
                chain=ChainTable(rpc=node.url, tokens=tokens, finality=FINALITY, poll_interval_s=POLL_S),
                doors=Doors(session),
                folder=folder,
            )
