"""What one endpoint that hangs costs the others: `python -m tests.webhook.isolation [--endpoints 50] [--events 100]`.

Runs the real dispatch stage and sender, ticking as the daemon does, over SQLite in a temporary folder against receivers
on 127.0.0.1: first with all endpoints well, then with one that accepts and never answers. Latency: from the event's
commit to the arrival of its webhook, of the endpoints that are well. Figures of this machine, not a test: whether
anything waits at all is asserted, by the order of happenings, in tests/stages/test_dispatch.py.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from settler.clock import SystemClock
from settler.runtime.outside import Cadence
from settler.stages.dispatch import Dispatch
from settler.storage import migrate
from settler.storage.engine import Database
from settler.webhook.send import HttpSender
from tests.webhook.samples import added, an_endpoint, an_event

HANG = "hang"


@dataclass
class Receivers:
    """All endpoints, told apart by their path."""

    arrived: dict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))
    """Per path, when which event first came."""
    hanging: int = 0
    awaited: int = 0
    """Webhooks that are still to come where all is well."""
    complete: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, request: web.Request) -> web.Response:
        await request.read()
        if request.match_info["name"] == HANG:
            self.hanging += 1
            await asyncio.Event().wait()
        arrived = self.arrived[request.match_info["name"]]
        if request.headers["webhook-id"] not in arrived:
            arrived[request.headers["webhook-id"]] = asyncio.get_running_loop().time()
            self.awaited -= 1
            if not self.awaited:
                self.complete.set()
        return web.Response(status=204)


@dataclass(frozen=True)
class Figures:
    latencies_s: list[float]
    elapsed_s: float
    hanging: int
    """Sends under way, or given up, at the endpoint that hangs."""

    def line(self, name: str) -> str:
        cuts = statistics.quantiles(self.latencies_s, n=100)
        return (
            f"{name:22} {len(self.latencies_s):6d} webhooks in {self.elapsed_s:5.1f} s"
            f"  {len(self.latencies_s) / self.elapsed_s:6.0f}/s"
            f"  median {cuts[49] * 1000:6.0f} ms  p99 {cuts[98] * 1000:6.0f} ms"
            f"  max {max(self.latencies_s) * 1000:6.0f} ms  sends to the hanging one {self.hanging}"
        )


async def measure(url: str, *, endpoints: int, events: int, every_s: float, hangs: bool) -> Figures:
    """`events` committed one by one, `every_s` apart, while the stage runs."""
    receivers = Receivers()
    app = web.Application()
    app.router.add_post("/{name}", receivers.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    names = [HANG if hangs and n == 0 else str(n) for n in range(endpoints)]
    clock = SystemClock()
    loop = asyncio.get_running_loop()
    well = [name for name in names if name != HANG]
    receivers.awaited = len(well) * events
    committed: dict[str, float] = {}
    db = await Database.open(url)
    sender = HttpSender(clock=clock, allow_private=True)
    try:
        await added(db, *(an_endpoint(n, url=f"{base}/{name}") for n, name in enumerate(names)))
        dispatch = Dispatch(db, sender, clock, jitter=lambda: 0.5)
        stop = asyncio.Event()

        async def ticking() -> None:
            while not stop.is_set():
                if not (await dispatch.tick()).has_more:
                    await asyncio.sleep(Cadence().dispatch_s)

        task = asyncio.create_task(ticking())
        started = loop.time()
        for number in range(events):
            each = an_event(number, at=clock.now())
            await added(db, each)
            committed[each.id] = loop.time()
            await asyncio.sleep(every_s)
        await receivers.complete.wait()
        elapsed_s = loop.time() - started
        stop.set()
        await task
        await dispatch.drain(0)
    finally:
        await sender.close()
        await db.dispose()
        await runner.cleanup()
    latencies = [at - committed[id_] for name in well for id_, at in receivers.arrived[name].items()]
    return Figures(latencies_s=latencies, elapsed_s=elapsed_s, hanging=receivers.hanging)


async def _main(endpoints: int, events: int, every_s: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, hangs in (("all well", False), ("one of them hangs", True)):
            url = f"sqlite:///{Path(folder) / f'{hangs}.db'}"
            await migrate.upgrade(url)
            figures = await measure(url, endpoints=endpoints, events=events, every_s=every_s, hangs=hangs)
            sys.stdout.write(figures.line(name) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoints", type=int, default=50)
    parser.add_argument("--events", type=int, default=100)
    parser.add_argument("--every-s", type=float, default=0.5, help="pause between events; 0: as fast as they commit")
    given = parser.parse_args()
    asyncio.run(_main(given.endpoints, given.events, given.every_s))
