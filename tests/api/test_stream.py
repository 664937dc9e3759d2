"""`/v1/invoices/{id}/stream`: over real HTTP, by a clock that moves when it is told to."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
import pytest_asyncio
import sqlalchemy as sa
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from structlog.testing import capture_logs

from settler.api import errors, listener, stream
from settler.api.app import make_app
from settler.api.limits import NO_LIMITS, Limits
from settler.api.stream import STREAMS, StreamBounds, Streams
from settler.clock import FakeClock
from settler.domain.drafting import Catalog, InvoiceDefaults
from settler.health import Health
from settler.metrics import Metrics
from settler.storage import api_keys, invoices, reading, schema
from settler.storage.api_keys import Scope
from settler.storage.engine import Database, StorageUnavailable
from tests.api.conftest import NOW, Api, Start, address, entropy, invoice
from tests.support.db import sqlite_alone
from tests.support.world import World

WITHIN_S = 20.0
"""For what is to come. Nothing here is asserted to be quick."""


class HeldClock(FakeClock):
    """Moves only when told; who sleeps on it waits until it did."""

    def __init__(self, start: datetime) -> None:
        super().__init__(start)
        self._sleepers: list[tuple[float, asyncio.Event]] = []

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.Event()
        self._sleepers.append((self.monotonic() + seconds, woken))
        await woken.wait()

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        for at, woken in self._sleepers:
            if at <= self.monotonic():
                woken.set()
        self._sleepers = [each for each in self._sleepers if not each[1].is_set()]

    async def run_until(self, is_so: Callable[[], bool]) -> None:
        """Half seconds, as many as it takes."""
        async with asyncio.timeout(WITHIN_S):
            while not is_so():
                self.advance(stream.LOOK_EVERY_S)
                await asyncio.sleep(0.005)


@dataclass
class Events:
    """What a listener reads."""

    response: aiohttp.ClientResponse
    clock: HeldClock

    async def block(self) -> dict[str, str] | None:
        """The fields of the next block, comments as field ``; `None`: the stream has ended. Time goes on meanwhile."""
        reading_ = asyncio.create_task(self._block())
        await self.clock.run_until(reading_.done)
        return reading_.result()

    async def event(self) -> dict[str, Any]:
        """The next event's data; heartbeats and `retry` are passed over. With its id as `_id`."""
        while True:
            block = await self.block()
            assert block is not None, "the stream has ended"
            if "event" in block:
                assert block["event"] == "invoice"
                return {**json.loads(block["data"]), "_id": block["id"]}

    async def end(self) -> None:
        while await self.block() is not None:
            pass

    async def _block(self) -> dict[str, str] | None:
        found: dict[str, str] = {}
        async for line in self.response.content:
            text = line.decode().rstrip("\n")
            if not text:
                return found
            name, _, value = text.partition(":")
            assert name not in found, "one line a field"
            found[name] = value.removeprefix(" ")
        return None


@dataclass
class Site:
    api: Api
    clock: HeldClock

    @property
    def app(self) -> web.Application:
        server = self.api.client.server
        assert isinstance(server, TestServer)
        return server.app

    @property
    def streams(self) -> Streams:
        return self.app[STREAMS]

    @asynccontextmanager
    async def listen(
        self, path: str, *, key: str | None = None, status: int = 200, **headers: str
    ) -> AsyncIterator[Events]:
        sent = {
            "Authorization": f"Bearer {key or self.api.key}",
            **{k.replace("_", "-"): v for k, v in headers.items()},
        }
        async with self.api.client.get(path, headers=sent) as response:
            assert response.status == status, await response.text()
            yield Events(response, self.clock)

    async def made(self, **changes: Any) -> dict[str, Any]:
        answer: dict[str, Any] = await self.api.post("/v1/invoices", invoice(**changes))
        return answer

    async def cancel(self, made: dict[str, Any]) -> None:
        await self.api.post(f"/v1/invoices/{made['id']}/cancel", {"reason": "so"}, status=200)


def path_of(made: dict[str, Any]) -> str:
    return f"/v1/invoices/{made['id']}/stream"


db_url = sqlite_alone  # what differs between databases is in tests/storage/test_fingerprints.py


@pytest_asyncio.fixture
async def site(start: Start) -> Site:
    clock = HeldClock(NOW)
    api = await start(clock=clock)
    return Site(api, clock)


# -- what is told ------------------------------------------------------------------------------------------------------


async def test_stream__present_state_first_then_each_change(site: Site) -> None:
    made = await site.made(metadata={"note": "line\nbreak", "ünï": "☃"})
    async with site.listen(path_of(made)) as events:
        assert events.response.content_type == "text/event-stream"
        assert events.response.headers["Cache-Control"] == "no-store, no-transform"
        first = await events.block()
        assert first is not None
        assert 2_000 <= int(first["retry"]) < 5_000
        shown = await events.event()
        id_ = shown.pop("_id")
        assert shown == await site.api.get(f"/v1/invoices/{made['id']}")
        assert id_.startswith("1-")
        await site.cancel(made)
        canceled = await events.event()
        assert (canceled["status"], canceled["version"]) == ("canceled", 2)
        assert canceled["_id"].startswith("2-")


async def test_stream__last_event_id_of_the_present_state__is_not_repeated(site: Site) -> None:
    made = await site.made()
    async with site.listen(path_of(made)) as events:
        id_ = (await events.event())["_id"]
    async with site.listen(path_of(made), Last_Event_ID=id_) as events:
        assert "retry" in (await events.block() or {})
        assert await events.block() == {"": ""}, "a heartbeat, and nothing before it"
        await site.cancel(made)
        assert (await events.event())["status"] == "canceled"
    async with site.listen(path_of(made), Last_Event_ID=id_) as events:
        assert (await events.event())["status"] == "canceled", "it has changed since"
    async with site.listen(path_of(made), Last_Event_ID="9" * 500) as events:
        assert (await events.event())["status"] == "canceled", "nobody's id is as good as none"


async def test_stream__head__answers_at_once_with_nothing(site: Site) -> None:
    made = await site.made()
    headers = {"Authorization": f"Bearer {site.api.key}"}
    async with site.api.client.head(path_of(made), headers=headers) as response:
        assert (response.status, response.content_type, await response.read()) == (200, "text/event-stream", b"")
    async with site.api.client.head(made["pay_path"] + "/stream") as response:
        assert (response.status, response.content_type, await response.read()) == (200, "text/event-stream", b"")
    assert len(site.streams) == 0


async def test_stream__by_page__tells_a_payer_what_the_page_shows_and_no_more(site: Site) -> None:
    made = await site.made(merchant="acme", metadata={"margin": "secret-margin"}, amount="12.50", reference="order 7")
    async with site.listen(made["pay_path"] + "/stream") as events, site.listen(path_of(made)) as whole:
        told = await events.event()
        assert told.pop("_id") == (await whole.event())["_id"], "one state, one id"
        state = told.pop("state")
        assert told == {
            "reference": "order 7",
            "stage": "waiting",
            "currency": "USD",
            "amount_requested": "12.50",
            "amount_received": "0.00",
            "amount_missing": "12.50",
            "expires_at": made["expires_at"],
            "settled_at": None,
            "is_overpaid": False,
            "payments": [],
            "payments_left_out": 0,
        }
        await site.cancel(made)
        canceled = await events.event()
        assert canceled["stage"] == "canceled"
        assert canceled["state"] != state
        assert (await whole.event())["metadata"] == {"margin": "secret-margin"}


# -- payments ----------------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def world(db: Database) -> World:
    return await World.on(db)


@asynccontextmanager
async def served(world: World, *, catalog: Catalog | None = None, limits: Limits = NO_LIMITS) -> AsyncIterator[Site]:
    """The world's database behind the API."""
    clock = HeldClock(NOW)
    app = make_app(
        db=world.db,
        clock=clock,
        catalog=catalog or world.catalog(),
        defaults=InvoiceDefaults(),
        operator=world.operating,
        auth="none",
        metrics=Metrics(clock, version="0"),
        health=Health(clock),
        providers=None,
        entropy=entropy,
        allow_private_webhooks=False,
        limits=limits,
    )
    async with TestClient(TestServer(app)) as client:
        api = Api(client=client, db=world.db, clock=clock, health=Health(clock), key="none")
        yield Site(api, clock)


async def test_stream__confirmations_grow__is_told_until_the_payment_is_final(world: World) -> None:
    owed = await world.invoice("100")
    async with served(world) as site, site.listen(f"/v1/invoices/{owed.id}/stream") as events:
        assert (await events.event())["payments"] == []
        world.pay(owed, "40")
        world.mine()
        await world.watch()
        partly = await events.event()
        assert (partly["status"], partly["amount_received"]) == ("pending", "40.00"), "the invoice itself is unchanged"
        world.pay(owed, "60")
        world.mine()
        await world.watch()
        paid = await events.event()
        assert (paid["status"], [p["confirmations"] for p in paid["payments"]]) == ("processing", [2, 1])
        world.mine()
        await world.watch()
        later = await events.event()
        assert (later["version"], [p["confirmations"] for p in later["payments"]]) == (paid["version"], [3, 2])
        world.mine(empty_after=5)
        await world.catch_up()
        while (settled := await events.event())["status"] != "settled":
            pass
        assert {p["status"] for p in settled["payments"]} == {"final"}
        # growing confirmations of what is final are no news: the next event is of another kind
        world.mine(empty_after=5)
        await world.watch()
        block = await events.block()
        assert block == {"": ""}


async def test_stream__payment_taken_back_by_a_reorg__is_told(world: World) -> None:
    owed = await world.invoice("100")
    async with served(world) as site, site.listen(f"/v1/invoices/{owed.id}/stream") as events:
        await events.event()
        sent = world.pay(owed)
        world.mine()
        await world.watch()
        assert (await events.event())["status"] == "processing"
        world.it.chain.reorg(1, drop=[sent.hash], length=2)
        await world.watch()
        pending = await events.event()
        assert (pending["status"], [p["status"] for p in pending["payments"]]) == ("pending", ["orphaned"])


# -- what it costs -----------------------------------------------------------------------------------------------------


async def test_streams__many_listeners__one_look_and_one_rendering_for_all(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    rendered: list[int] = []
    fingerprints, views = invoices.fingerprints, reading.invoice_views

    async def counted_look(conn: Any, ids: Any) -> Any:
        looks.append(len(ids))
        return await fingerprints(conn, ids)

    async def counted_views(conn: Any, found: Any) -> Any:
        rendered.extend([1] * len(found))
        return await views(conn, found)

    made = [await site.made() for _ in range(3)]
    async with AsyncExitStack() as stack:
        readers = [await stack.enter_async_context(site.listen(path_of(made[n % 3]))) for n in range(30)]
        for each in readers:
            await each.event()
        await site.cancel(made[0])
        monkeypatch.setattr(invoices, "fingerprints", counted_look)
        monkeypatch.setattr(reading, "invoice_views", counted_views)
        before = site.clock.monotonic()
        for each in readers[::3]:
            assert (await each.event())["status"] == "canceled"
        ticks = int((site.clock.monotonic() - before) / stream.LOOK_EVERY_S)
        assert rendered == [1], "one invoice changed: it is rendered once, for ten listeners"
        assert set(looks) == {3}, "all invoices in one look"
        assert 1 <= len(looks) <= ticks + 1, "and no more looks than the clock allows"
    await site.clock.run_until(lambda: len(site.streams) == 0)
    looks.clear()
    for _ in range(20):
        site.clock.advance(1)
        await asyncio.sleep(0.001)
    assert len(looks) <= 1, "nobody listens, nobody looks"


async def test_streams__dear_to_look_at__are_looked_at_less_often(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A payment page that a stranger had followed and sent thousands of grains of dust to was read and rendered anew
    with each block, a quarter of a second of the whole process for each such invoice.
    """
    looked_at: list[float] = []
    fingerprints = invoices.fingerprints

    async def dear(conn: Any, ids: Any) -> Any:
        looked_at.append(site.clock.monotonic())
        site.clock.advance(1)
        return await fingerprints(conn, ids)

    asked = await site.made()
    async with site.listen(path_of(asked)) as events:
        await events.event()
        monkeypatch.setattr(invoices, "fingerprints", dear)
        await site.clock.run_until(lambda: len(looked_at) == 4)
        await site.cancel(asked)
        assert (await events.event())["status"] == "canceled", "later, and not never"
    pauses = [after - before for before, after in pairwise(looked_at)]
    assert all(pause >= 1 + stream.RESTS for pause in pauses[1:]), pauses


async def test_streams__slow_reader__keeps_one_event_waiting_and_is_cut_off(site: Site) -> None:
    """Nothing is read at the other end: what was written stays under way, and later states replace each other."""
    made = await site.made(
        metadata={str(n): "x" * 200 for n in range(35)},
        options=[{"chain": "base", "token": "USDC", "pay_to": address()} for _ in range(50)],
    )
    server = urlsplit(str(site.api.client.make_url("/")))
    with socket.socket() as lazy:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        lazy.connect((server.hostname, server.port))
        lazy.sendall(
            f"GET {path_of(made)} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {site.api.key}\r\n\r\n".encode()
        )
        await site.clock.run_until(lambda: len(site.streams) == 1)
        (slow,) = site.streams._listeners

        def waiting() -> int:
            transport = slow.request.transport
            return 0 if transport is None else transport.get_write_buffer_size()

        held: list[int] = []
        for _ in range(40):
            await _touch(site.api.db, made["id"])
            seen = slow.last_id

            def has_moved(seen: str | None = seen) -> bool:
                return slow.last_id != seen or slow not in site.streams._listeners

            await site.clock.run_until(has_moved)
            held.append(waiting())
            if slow not in site.streams._listeners:
                break
        await site.clock.run_until(lambda: len(site.streams) == 0)
        one_event = len(json.dumps(await site.api.get(f"/v1/invoices/{made['id']}")))
        assert 0 < max(held) < 2 * one_event, "one event is under way; the others were never kept"


async def _touch(db: Database, id_: str) -> None:
    async with db.write() as conn:
        await conn.execute(
            sa.update(schema.invoices).where(schema.invoices.c.id == id_).values(version=schema.invoices.c.version + 1)
        )


# -- bounds ------------------------------------------------------------------------------------------------------------


async def test_streams__too_many__are_refused_with_a_time_to_come_again(start: Start) -> None:
    clock = HeldClock(NOW)
    site = Site(await start(clock=clock, streams=StreamBounds(total=5, visitors=3, per_holder=3, per_page=2)), clock)
    made, other = await site.made(), await site.made()
    another_key = await site.api.key_for(Scope.READ)

    async def refused(path: str, status: int, **how: Any) -> None:
        problem = await site.api.refused("GET", path, status, **how)
        response, _ = await site.api.ask("GET", path, **how)
        assert int(response.headers["Retry-After"]) > 0
        assert problem["type"] == "urn:settler:problem:too-many-streams"

    async with AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(site.listen(made["pay_path"] + "/stream"))
        await refused(made["pay_path"] + "/stream", 429)  # of one page
        await stack.enter_async_context(site.listen(other["pay_path"] + "/stream"))
        await refused(other["pay_path"] + "/stream", 503)  # of visitors: the rest is for programs
        for _ in range(2):
            await stack.enter_async_context(site.listen(path_of(made)))
        await refused(path_of(made), 503, key=another_key)  # of all
    await site.clock.run_until(lambda: len(site.streams) == 0)
    async with AsyncExitStack() as stack:
        for _ in range(3):
            await stack.enter_async_context(site.listen(path_of(made)))
        await refused(path_of(made), 429)  # of one key
        await stack.enter_async_context(site.listen(path_of(made), key=another_key))


async def test_stream__who_may_not_see_the_invoice__is_told_nothing(site: Site) -> None:
    made = await site.made(merchant="acme")
    other = await site.api.key_for(Scope.READ, merchant="umbrella")
    write_only = await site.api.key_for(Scope.WRITE)
    await site.api.refused("GET", path_of(made), 404, key=other)
    await site.api.refused("GET", path_of(made), 403, key=write_only)
    await site.api.refused("GET", path_of(made), 401, key="sk_" + "0" * 64)
    await site.api.refused("GET", "/v1/invoices/inv_" + "0" * 26 + "/stream", 404)
    await site.api.refused("GET", path_of(made) + "?after=1", 422)
    await site.api.refused("GET", "/pay/" + "0" * 26 + "/stream", 404)
    await site.api.refused("GET", "/pay/%00/stream", 404)
    assert len(site.streams) == 0


# -- time --------------------------------------------------------------------------------------------------------------


async def test_stream__nothing_happens__a_comment_comes_every_15_s_and_the_end_after_an_hour(site: Site) -> None:
    made = await site.made()
    async with site.listen(path_of(made)) as events:
        await events.event()
        start = site.clock.monotonic()
        for beat in (1, 2, 3):
            assert await events.block() == {"": ""}
            assert site.clock.monotonic() - start >= beat * listener.HEARTBEAT_S - stream.LOOK_EVERY_S
        site.clock.advance(listener.LIFE_S)
        await events.end()


async def test_stream__key_revoked__ends_with_the_next_heartbeat(site: Site) -> None:
    made = await site.made()
    key = await site.api.key_for(Scope.READ)
    async with site.listen(path_of(made), key=key) as doomed, site.listen(path_of(made)) as other:
        await doomed.event()
        await other.event()
        async with site.api.db.write() as conn:
            row = (await conn.execute(sa.select(schema.api_keys.c.id).where(_has_text(key)))).one()
            await api_keys.revoke(conn, row.id, now=NOW, who="test", reason="lost")
        await doomed.end()
        await site.cancel(made)
        assert (await other.event())["status"] == "canceled", "another key's stream goes on"
    await site.api.refused("GET", path_of(made), 401, key=key)


def _has_text(key: str) -> sa.ColumnElement[bool]:
    return schema.api_keys.c.key_hash == hashlib.sha256(key.encode()).digest()


async def test_stream__has_no_deadline_as_other_requests_have(site: Site) -> None:
    made = await site.made()
    async with site.listen(path_of(made)) as events:
        await events.event()
        (open_,) = site.streams._listeners
        deadline = open_.request[errors._DEADLINE]
        assert deadline.when() is None
        assert not deadline.expired()


async def test_stream__shut_down__ends_at_once_and_takes_no_more(site: Site) -> None:
    made = await site.made()
    async with site.listen(path_of(made)) as events, site.listen(made["pay_path"] + "/stream") as page:
        await events.event()
        await page.event()
        await site.app.shutdown()  # the first thing a stop does; no time passes
        async with asyncio.timeout(WITHIN_S):
            assert await events._block() is None
            assert await page._block() is None
    await site.api.refused("GET", path_of(made), 503)


async def test_stream__listener_leaves__is_forgotten(site: Site) -> None:
    made = await site.made()
    async with site.listen(path_of(made)) as events:
        await events.event()
        assert len(site.streams) == 1
    await site.clock.run_until(lambda: len(site.streams) == 0)


# -- trouble -----------------------------------------------------------------------------------------------------------


async def test_streams__database_away__stay_open_and_go_on(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    made = await site.made()
    async with site.listen(path_of(made)) as events:
        await events.event()
        read = site.api.db.read

        def away() -> Any:
            raise StorageUnavailable("the database is restarting")

        monkeypatch.setattr(site.api.db, "read", away)
        assert await events.block() == {"": ""}, "the connection is kept alive"
        assert await events.block() == {"": ""}
        monkeypatch.setattr(site.api.db, "read", read)
        await site.cancel(made)
        assert (await events.event())["status"] == "canceled"


async def test_streams__a_bug__ends_them_is_logged_and_new_ones_begin(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silent streams would look as if nothing happened."""
    made = await site.made()
    with capture_logs() as logged:
        async with site.listen(path_of(made)) as events:
            await events.event()
            with monkeypatch.context() as patched:
                patched.setattr(invoices, "fingerprints", _broken)
                await events.end()
    assert [line["event"] for line in logged if line["log_level"] == "error"] == ["streams.failed"]
    async with site.listen(path_of(made)) as events:
        assert (await events.event())["status"] == "pending"


async def _broken(*_: Any) -> Any:
    raise RuntimeError("a bug")


@pytest.mark.parametrize(("connections", "total"), [(1_000, 500), (2_000, 1_000), (3, 1), (1, 1)])
def test_stream_bounds__leave_half_of_the_connections_to_others(connections: int, total: int) -> None:
    bounds = StreamBounds.within(connections)
    assert bounds.total == total
    assert 1 <= bounds.per_holder <= bounds.visitors <= bounds.total
