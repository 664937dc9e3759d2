"""A shop that never closes, for the demo of deploy/compose.yaml: invoices, customers, a webhook receiver, an operator.

It stands outside of settler, as a merchant's backend and its customers do: it speaks to the API of any worker that
answers, and to the node. Two things it does as who runs settler: it deploys the test token, and makes its own API key
in the database. Whatever is away is waited for; what was under way then is lost, as with a real shop's checkout.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import aiohttp
from aiohttp import web

from chains.address import to_checksum
from chains.model import Address, TxHash
from settler import devchain
from settler.anvil import AnvilError
from settler.clock import SystemClock
from settler.config import Settings
from settler.demo.attached import AttachedAnvil
from settler.demo.customers import TURNS, UNIT, Customer, expires_in_s, parts
from settler.domain.ids import ENTROPY_BYTES
from settler.storage import api_keys
from settler.storage.engine import Database, StorageUnavailable

CHAIN, TOKEN, DECIMALS = "anvil", "TUSD", 6
"""As deploy/compose/settler.toml names them."""
PURSE_BASE = 10**9 * UNIT
"""What each customer has; it lasts for years."""
REORG_EVERY, REORG_DEPTH = 40, 2
"""Payments between two reorgs. Shallower than the demo's finality, so that nothing settled is undone."""
REFUSED_EVERY = 20
"""Every so many webhooks the receiver is out of order; they are sent again."""
OPERATOR_LOOKS_EVERY_S = 30.0
OPERATOR_AFTER = timedelta(minutes=5)
"""So long money stays in suspense before somebody looks after it."""
RETRY_S = 2.0
CALL_TIMEOUT = aiohttp.ClientTimeout(total=10)
KEY_NAME = "demo"

AWAY = (aiohttp.ClientError, OSError, TimeoutError, AnvilError, StorageUnavailable)
"""Something is not there just now: start anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Where it plays."""

    settings: Settings
    workers: Sequence[str]
    """Addresses of settler's API; any of them will do."""
    node: str
    receiver: str
    """The URL under which settler reaches our webhook receiver."""
    receiver_port: int
    every_s: float
    """Between two invoices."""


class Refused(RuntimeError):
    """settler says no to something that the demo asks rightly: a fault. Ends the demo with the reason."""


async def play(stage: Stage) -> None:
    """Until it is cancelled. Raises `Refused`, alone in a group."""
    async with _receiver(stage.receiver_port):
        while True:
            try:
                await _day(stage)
            except* AWAY as errors:
                first = errors.exceptions[0]
                print(f"away: {first!s} ({type(first).__name__}); again in {RETRY_S:.0f} s", flush=True)
            await asyncio.sleep(RETRY_S)


async def _day(stage: Stage) -> None:
    """Opens the shop, and keeps it open until something is away."""
    async with AttachedAnvil(stage.node) as node, aiohttp.ClientSession(timeout=CALL_TIMEOUT) as session:
        token = await _deployed(node, stage.settings)
        backend = Backend(session, stage.workers, await _key(stage.settings))
        await _subscribe(backend, stage.receiver)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_operate(backend), name="demo operator")
            tasks.create_task(Shop(node, token, backend).trade(stage.every_s), name="demo shop")


@dataclass(eq=False)
class Backend:
    """A merchant's: asks the worker that answered last, and the next one if it does not."""

    session: aiohttp.ClientSession
    workers: Sequence[str]
    key: str
    _asked: int = 0

    async def call(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:
        """The answer's JSON. The same `Idempotency-Key` at each worker: asking twice makes nothing twice."""
        headers = {"Authorization": f"Bearer {self.key}"}
        if method == "POST":
            headers["Idempotency-Key"] = os.urandom(16).hex()
        last: Exception | None = None
        for _ in self.workers:
            address = self.workers[self._asked % len(self.workers)]
            try:
                async with self.session.request(method, address + path, json=body, headers=headers) as response:
                    if response.status < 500:
                        answer = await response.json()
                        if response.status >= 400:
                            raise Refused(f"{method} {path}: {response.status} {answer}")
                        return answer
                    last = aiohttp.ClientError(f"{address} answers {response.status}")
            except (aiohttp.ClientConnectionError, TimeoutError) as error:
                last = error
            self._asked += 1
        assert last is not None, "there is at least one worker"
        raise last


@dataclass(eq=False)
class Shop:
    """Sells to one customer after another. One task, so that no two transactions of an account share a nonce."""

    node: AttachedAnvil
    token: Address
    backend: Backend
    _due: list[tuple[float, int, Address, int]] = field(default_factory=list)
    """Payments to come: when, in which order, to whom, how much."""
    _order: itertools.count[int] = field(default_factory=itertools.count)
    _day: str = field(default_factory=lambda: os.urandom(3).hex())
    """In references, which are never used twice: the shop may have been open before."""
    _sent: int = 0

    async def trade(self, every_s: float) -> None:
        clock = SystemClock()
        customers = itertools.cycle(TURNS)
        for number in itertools.count(1):
            next_at = clock.monotonic() + every_s
            await self._sell(number, next(customers), clock.monotonic())
            while self._due and self._due[0][0] <= clock.monotonic():
                _, _, to, amount_base = heapq.heappop(self._due)
                await self._pay(to, amount_base)
            await asyncio.sleep(max(0.0, next_at - clock.monotonic()))

    async def _sell(self, number: int, customer: Customer, now: float) -> None:
        to = Address(os.urandom(20))
        invoice = await self.backend.call(
            "POST",
            "/v1/invoices",
            {
                "amount": f"{10 + number * 7 % 90}.00",
                "reference": f"order-{self._day}-{number} ({customer})",
                "options": [{"chain": CHAIN, "token": TOKEN, "pay_to": to_checksum(to)}],
                "expires_in_s": expires_in_s(customer),
            },
        )
        due_base = int(invoice["options"][0]["amount_base"])
        for part in parts(customer, due_base):
            heapq.heappush(self._due, (now + part.after_s, next(self._order), to, part.amount_base))
        print(f"{invoice['reference']}: {invoice['amount_requested']} {TOKEN}", flush=True)

    async def _pay(self, to: Address, amount_base: int) -> None:
        self._sent += 1
        customers = self.node.accounts[1:]
        sent = await devchain.transfer(self.node, customers[self._sent % len(customers)], self.token, to, amount_base)
        if self._sent % REORG_EVERY == 0:
            await self._reorg(sent)

    async def _reorg(self, sent: TxHash) -> None:
        """The newest blocks are replaced, the payment's among them; what was in them is in the last of the new ones."""
        await devchain.wait_mined(self.node, sent)
        head = (await devchain.head(self.node)).number
        raws: list[bytes] = []
        for number in range(head - REORG_DEPTH + 1, head + 1):
            block = await self.node.rpc("eth_getBlockByNumber", hex(number), False)
            hashes = [TxHash(bytes.fromhex(text[2:])) for text in block["transactions"]]
            raws += [await devchain.raw_transaction(self.node, tx_hash) for tx_hash in hashes]
        await devchain.reorg(self.node, REORG_DEPTH, [(raw, REORG_DEPTH - 1) for raw in raws])
        print(f"a reorg replaced {REORG_DEPTH} blocks with {len(raws)} transactions", flush=True)


async def _operate(backend: Backend) -> None:
    """Looks after suspense, late and with a reason, as an operator would."""
    while True:
        answer = await backend.call("GET", "/v1/transfers?allocation=unmatched&limit=200")
        for transfer in answer["data"]:
            age = SystemClock().now() - datetime.fromisoformat(transfer["recorded_at"])
            if transfer["status"] == "final" and age > OPERATOR_AFTER:
                reason = {"reason": "the demo's operator: paid back by hand"}
                await backend.call("POST", f"/v1/transfers/{transfer['id']}/dismiss", reason)
        await asyncio.sleep(OPERATOR_LOOKS_EVERY_S)


async def _deployed(node: AttachedAnvil, settings: Settings) -> Address:
    """The test token, at the address that the configuration names; customers have money. Once a chain."""
    (configured,) = (t for t in settings.chains[CHAIN].tokens if t.symbol == TOKEN)
    if await node.rpc("eth_getCode", to_checksum(configured.address), "latest") == "0x":
        deployed = await devchain.deploy_token(node, TOKEN, DECIMALS)
        if deployed != configured.address:
            raise Refused(
                f"the token came to {to_checksum(deployed)}, not to {to_checksum(configured.address)} as configured: "
                "the chain was used before; start it anew"
            )
        print(f"deployed {TOKEN} at {to_checksum(deployed)}", flush=True)
    for customer in node.accounts[1:]:
        if await devchain.balance_of(node, configured.address, devchain.address_of(customer)) < PURSE_BASE // 2:
            await devchain.mint(node, configured.address, devchain.address_of(customer), PURSE_BASE)
    return configured.address


async def _key(settings: Settings) -> str:
    """An API key of our own, as `settler api-key create` makes it; at each later start, a new text for it."""
    now, secret = SystemClock().now(), os.urandom(api_keys.SECRET_BYTES)
    db = await Database.open(settings.database_url, pool_size=1)
    try:
        async with db.write() as conn:
            for known in await api_keys.list_all(conn):
                if known.is_live and known.name == KEY_NAME:
                    _, text = await api_keys.rotate(
                        conn, known.id, now=now, overlap=timedelta(0), who=KEY_NAME, secret=secret
                    )
                    return text
            _, text = await api_keys.create(
                conn,
                name=KEY_NAME,
                scopes=list(api_keys.Scope),
                merchant=None,
                now=now,
                who=KEY_NAME,
                secret=secret,
                entropy=os.urandom(ENTROPY_BYTES),
            )
            return text
    finally:
        await db.dispose()


async def _subscribe(backend: Backend, url: str) -> None:
    known = await backend.call("GET", "/v1/webhook-endpoints")
    if url not in {endpoint["url"] for endpoint in known["data"]}:
        await backend.call("POST", "/v1/webhook-endpoints", {"url": url})


@asynccontextmanager
async def _receiver(port: int) -> AsyncIterator[None]:
    """Takes webhooks, and is out of order now and then. It believes them: it ships nothing."""
    received = itertools.count(1)

    async def take(_request: web.Request) -> web.Response:
        return web.Response(status=503 if next(received) % REFUSED_EVERY == 0 else 204)

    app = web.Application()
    app.router.add_post("/", take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, port=port).start()
        yield
    finally:
        await runner.cleanup()
