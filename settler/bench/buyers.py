"""The other side of `settler bench create`, as a process of its own: shops that order invoices as fast as they are
answered, each on a connection that it keeps.

    python -m settler.bench.buyers '{"host": "127.0.0.1", "port": 8080, "key": "sk_…", "count": 10000, "at_once": 64}'
    > {"wall_s": 6.1, "latencies_ms": [3.1, …]}          once all are answered

It writes and reads HTTP itself, since a client library costs more than the server it asks: what is to be measured
shares the machine with it.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from chains.address import to_checksum
from chains.model import Address
from settler.bench.companions import answer, argument

CHAIN, SYMBOL = "bench", "TUSD"
ADDRESSES = 0xC4EA7E << 128
"""Invoices' addresses count up from here; nobody has their keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What is to be ordered."""

    host: str
    port: int
    key: str
    count: int
    at_once: int
    """Connections, each with one request under way."""
    first: int = 0
    """The number of the first invoice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """How that went."""

    wall_s: float
    latencies_ms: list[float]
    """From a request's first byte sent to its answer's last byte read."""


async def order(orders: Orders) -> Served:
    """Raises `RuntimeError` for the first request that makes no invoice."""
    requests = iter([_request(orders, number) for number in range(orders.first, orders.first + orders.count)])
    latencies: list[float] = []
    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for shop in range(orders.at_once):
            group.create_task(_shop(orders, requests, latencies), name=f"shop {shop}")
    return Served(wall_s=time.perf_counter() - started, latencies_ms=latencies)


async def _shop(orders: Orders, requests: Iterator[bytes], latencies: list[float]) -> None:
    reader, writer = await asyncio.open_connection(orders.host, orders.port)
    for request in requests:
        sent = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        body = await reader.readexactly(length)
        latencies.append(1_000 * (time.perf_counter() - sent))
        if not head.startswith(b"HTTP/1.1 201"):
            raise RuntimeError(f"no invoice was made: {body.decode()[:500]}")
    writer.close()
    await writer.wait_closed()


def address_of(number: int) -> Address:
    """Where the invoice of that number is to be paid."""
    return Address((ADDRESSES + number).to_bytes(20))


def _request(orders: Orders, number: int) -> bytes:
    """An invoice with an address of its own."""
    pay_to = to_checksum(address_of(number))
    body = json.dumps(
        {
            "amount": f"{10 + number % 90}.{number % 100:02}",
            "reference": f"order-{number}",
            "options": [{"chain": CHAIN, "token": SYMBOL, "pay_to": pay_to}],
            "metadata": {"cart": number},
        }
    ).encode()
    head = (
        f"POST /v1/invoices HTTP/1.1\r\nHost: {orders.host}:{orders.port}\r\nAuthorization: Bearer {orders.key}\r\n"
        f"Idempotency-Key: bench-{number:012}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


if __name__ == "__main__":
    answer(asdict(asyncio.run(order(Orders(**argument())))))
