"""`settler bench webhooks`: how fast an outbox empties, and what a delivery costs this process.

The dispatch stage, the sender and the database are the daemon's own; the receiver is a process beside it that answers
200 at once. Each event goes to one endpoint: with ten of them, a tenth to each. The floor is the same number of posts
of the same bytes by a bare aiohttp session, as many under way at a time and each on a connection of its own, as
webhooks are (`settler.webhook.send`): nothing signed, nothing kept.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp

from settler.bench.companions import companion
from settler.bench.databases import opened
from settler.bench.measuring import Meter, Report, Unmeasurable
from settler.clock import SystemClock
from settler.domain.delivery import Endpoint, EndpointId
from settler.domain.events import Event, EventType, event
from settler.domain.ids import derived_id
from settler.stages.dispatch import PER_ENDPOINT, Dispatch
from settler.storage import events, webhooks
from settler.storage.engine import Database
from settler.storage.migrate import Current, state, upgrade_open
from settler.webhook import sign
from settler.webhook.send import HttpSender

EVENTS = 2_000
ENDPOINTS = (1, 10)
TIME = datetime(2026, 1, 1, tzinfo=UTC)
STANDSTILL_S = 60.0
"""An outbox of which nothing leaves for so long is not going to empty."""
_EVENTS_A_WRITE = 500


async def deliver(*, count: int = EVENTS, endpoints: Sequence[int] = ENDPOINTS, database: str | None = None) -> Report:
    """A row for each number of endpoints. `database`: PostgreSQL, migrated and without events; `None`: SQLite.

    Raises `Unmeasurable`, or `StorageError` where the database is not to be had.
    """
    rows = []
    kind = "sqlite"
    async with companion("webhook_receiver") as there:
        receiver = _Receiver(**await there.heard())
        for number in endpoints:
            async with _database(database) as db:
                kind = db.dialect
                rows.append(await _row(db, receiver, count=count, endpoints=number))
    return Report(benchmark="webhooks", inputs={"database": kind, "events": count}, rows=rows)


async def _row(db: Database, receiver: _Receiver, *, count: int, endpoints: int) -> dict[str, Any]:
    made = _events(count, endpoints)
    await _fill(db, receiver, made, endpoints)
    bodies = [sign.encode(each.body()) for each in made]
    with Meter() as floor:
        await _post_bare(receiver.url, bodies, at_once=min(PER_ENDPOINT * endpoints, len(bodies)))
    before = await receiver.taken()
    with Meter() as spent:
        ticks = await _emptied(db)
    after = await receiver.taken()
    if after["ids"] - before["ids"] != count:
        raise Unmeasurable(f"{after['ids'] - before['ids']} of {count} events arrived")
    return {
        "endpoints": endpoints,
        "deliveries": count,
        "posts": after["posts"] - before["posts"],
        "body_bytes": sum(map(len, bodies)) // len(bodies),
        "ticks": ticks,
        "wall_s": round(spent.wall_s, 3),
        "per_s": round(count / spent.wall_s),
        "cpu_us": _us(spent.cpu_s, count),
        "floor_cpu_us": _us(floor.cpu_s, count),
        "floor_per_s": round(count / floor.wall_s),
        "ratio": round(spent.cpu_s / floor.cpu_s, 2),
    }


async def _emptied(db: Database) -> int:
    """Ticks as the daemon does until nothing is left; how often."""
    clock = SystemClock()
    async with HttpSender(clock=clock, allow_private=True) as sender:
        dispatch = Dispatch(db, sender, clock, jitter=random.Random(1).random)  # noqa: S311 - spreads retries
        ticks, moved_at = 0, clock.monotonic()
        while True:
            progress = await dispatch.tick()
            ticks += 1
            if progress.facts.get("retried") or progress.facts.get("dead"):
                raise Unmeasurable("the receiver refused a webhook")
            if progress.facts["claimed"] or progress.facts.get("delivered"):
                moved_at = clock.monotonic()
            if clock.monotonic() - moved_at > STANDSTILL_S:
                raise Unmeasurable(f"nothing was delivered for {STANDSTILL_S:.0f} s")
            if not progress.has_more:
                return ticks
            await asyncio.sleep(0)


async def _post_bare(url: str, bodies: Sequence[bytes], *, at_once: int) -> None:
    left = iter(bodies)

    async def post_some(session: aiohttp.ClientSession) -> None:
        for body in left:
            async with session.post(url, data=body, headers={"content-type": "application/json"}) as response:
                await response.read()

    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as group:
        for number in range(at_once):
            group.create_task(post_some(session), name=f"posts {number}")


# -- what is delivered -------------------------------------------------------------------------------------------------


def _events(count: int, endpoints: int) -> list[Event]:
    """Invoices that were settled, in the order they were; each merchant has one endpoint."""
    made = []
    for number in range(count):
        at = TIME + timedelta(milliseconds=number)
        invoice = derived_id("inv", at, endpoints, number)
        merchant = _merchant(number % endpoints, endpoints)
        data = _invoice(invoice, number, at)
        made.append(event(EventType.INVOICE_SETTLED, invoice, 3, at=at, merchant=merchant, data=data))
    return made


def _merchant(number: int, endpoints: int) -> str:
    return f"shop-{number}-of-{endpoints}"


def _invoice(id_: str, number: int, at: datetime) -> dict[str, Any]:
    """About as large as one is."""
    address = f"0x{number:040x}"
    return {
        "id": id_,
        "status": "settled",
        "amount": "100.00",
        "currency": "USD",
        "reference": f"order-{number}",
        "metadata": {"cart": f"c-{number}", "customer": f"u-{number % 97}"},
        "created_at": at.isoformat(),
        "expires_at": (at + timedelta(minutes=30)).isoformat(),
        "options": [
            {"chain": chain, "token": "USDC", "amount": "100.00", "pay_to": address, "strategy": "address"}
            for chain in ("ethereum", "base", "arbitrum")
        ],
        "payments": [
            {
                "chain": "base",
                "token": "USDC",
                "amount": "100.00",
                "from": address,
                "to": address,
                "tx_hash": f"0x{number:064x}",
                "block_number": 20_000_000 + number,
                "block_hash": f"0x{number:064x}",
                "log_index": number % 300,
                "status": "final",
            }
        ],
        "settlement_id": derived_id("stl", at, number),
    }


async def _fill(db: Database, receiver: _Receiver, made: Sequence[Event], endpoints: int) -> None:
    async with db.write() as conn:
        for number in range(endpoints):
            await webhooks.add_endpoint(
                conn,
                Endpoint(
                    id=EndpointId(derived_id("whe", TIME, endpoints, number)),
                    url=f"{receiver.url}/{number}",
                    merchant=_merchant(number, endpoints),
                    types=(),
                    secret=sign.new_secret(number.to_bytes(sign.SECRET_BYTES, "big")),
                    previous_secret=None,
                    created_at=TIME,
                ),
            )
    for at in range(0, len(made), _EVENTS_A_WRITE):
        async with db.write() as conn:
            await events.append(conn, made[at : at + _EVENTS_A_WRITE])


# -- beside it ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Receiver:
    url: str

    async def taken(self) -> dict[str, int]:
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}/taken") as response:
            found: dict[str, int] = await response.json(content_type=None)
            return found


@asynccontextmanager
async def _database(url: str | None) -> AsyncIterator[Database]:
    with tempfile.TemporaryDirectory(prefix="settler-bench-") as folder:
        async with opened(url or f"sqlite:///{Path(folder) / 'settler.db'}") as db:
            if url is None:
                await upgrade_open(db)
            elif not isinstance(await state(db), Current):
                raise Unmeasurable("the database is not migrated: settler migrate")
            yield db


def _us(seconds: float, count: int) -> float:
    return round(1_000_000 * seconds / count, 1)
