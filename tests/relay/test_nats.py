"""The relay on a real NATS server: the program as an operator starts it, and what is done to either of the two."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from settler.domain.events import Event
from settler.stages.nats_stream import NatsTarget
from settler.stages.relay_nats import NatsPublisher
from settler.stages.relaying import PublishRefused
from settler.storage import relays
from settler.storage.engine import Database
from settler.webhook.sign import encode
from tests.relay import nats_jwt, nats_server
from tests.relay.nats_server import STREAM, SUBJECT, NatsServer
from tests.relay.samples import a_message, tell
from tests.support import nursery
from tests.support.daemon import ChainTable, TokenTable, clean_environment, cli, new_address, until, write_config
from tests.support.nursery import Bred

pytestmark = pytest.mark.slow
MANY = 6_000
"""Twelve batches: time enough to break in."""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    async with nats_server.serving(tmp_path) as serving:
        yield serving


class Started:
    """`settler relay nats` as a process of its own."""

    def __init__(self, bred: Bred, log: Path) -> None:
        self.bred = bred
        self._log = log

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._log.read_text().splitlines() if line.startswith("{")]

    @property
    def errors(self) -> list[str]:
        return [line for line in self._log.read_text().splitlines() if not line.startswith("{")]

    async def ended(self) -> int:
        async with asyncio.timeout(30):
            return await self.bred.wait()


@asynccontextmanager
async def relaying(config: Path, server: NatsServer, *args: str) -> AsyncIterator[Started]:
    log = config.with_name(f"relay-{os.urandom(4).hex()}.log")
    words = ["relay", "nats", "-c", str(config), "--url", server.url, *args]
    with log.open("wb") as stderr:
        bred = nursery.start(words, env=clean_environment(), stderr=stderr)
    try:
        yield Started(bred, log)
    finally:
        bred.kill()
        await bred.wait()


async def once(config: Path, server: NatsServer, *args: str) -> tuple[int, Any, str]:
    words = ("relay", "nats", "--url", server.url, "--once", "--json", *args)
    done = await asyncio.to_thread(cli, *words, config=config)
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr


async def position(db: Database, name: str = "default") -> int:
    async with db.read() as conn:
        return await relays.position(conn, name)


async def moves(db: Database) -> None:
    """Returns when the relay is at work."""
    before = await position(db)
    await until(lambda: position(db), lambda now: now > before, what="events to be on their way", every_s=0.005)


async def has_all(server: NatsServer, told: list[Event]) -> None:
    """Each once, in the order of the feed, as a webhook has it."""
    stored = await nats_server.stored(server)
    assert [m.id for m in stored] == [e.id for e in told]
    assert [m.headers["Settler-Position"] for m in stored] == [str(n) for n in range(1, len(told) + 1)]
    for message, event in zip(stored[:50], told[:50], strict=True):
        assert (message.subject, message.body) == (f"settler.{event.type.value}", encode(event.body()))
        assert (message.headers["Settler-Type"], message.headers["Settler-Merchant"]) == (event.type.value, "m1")


async def test_relay__stream_made_by_it__has_every_event_once_in_order(
    db: Database, db_url: str, tmp_path: Path, server: NatsServer
) -> None:
    """On both databases; and again with nothing new, and with some more."""
    config = _config(tmp_path, db_url)
    told = await tell(db, 0, 1_200)
    code, said, _ = await once(config, server, "--create-stream")
    assert (code, said) == (0, {"name": "default", "events": 1_200, "position": 1_200, "trouble": None})
    await has_all(server, told)
    assert (await once(config, server))[1]["events"] == 0
    told += await tell(db, 1_200, 3)
    assert (await once(config, server))[1]["events"] == 3
    await has_all(server, told)


async def test_relay__server_killed_in_mid_flight__goes_on_by_itself_in_order(
    sqlite_db: Database, tmp_path: Path, server: NatsServer
) -> None:
    config = _config(tmp_path)
    told = await tell(sqlite_db, 0, MANY)
    await nats_server.add_stream(server)
    async with relaying(config, server) as started:
        for _ in range(2):
            await moves(sqlite_db)
            await server.stop(signal.SIGKILL)
            await server.start()
        await until(lambda: position(sqlite_db), lambda p: p == MANY, what="all to be handed on")
        assert started.lines[-1]["event"] == "relay.tick"
        assert any(line.get("outcome") == "unpublished" for line in started.lines), "it was never in mid-flight"
        started.bred.send_signal(signal.SIGTERM)
        assert await started.ended() == 0
        assert started.lines[-1]["event"] == "relay.stopped"
    await has_all(server, told)


async def test_relay__killed_between_publishing_and_its_position__repeats_and_the_stream_drops_it(
    postgres_db: Database, tmp_path: Path, server: NatsServer, postgres_db_url: str
) -> None:
    """Its position is locked by another transaction, so that it has published for certain and kept nothing."""
    config = _config(tmp_path, postgres_db_url)
    told = await tell(postgres_db, 0, 700)
    await nats_server.add_stream(server)
    async with postgres_db.write() as conn:
        assert await relays.advance(conn, "default", seen=0, to=1, now=told[0].created_at)
    async with relaying(config, server) as started, postgres_db.write() as conn:
        await relays.advance(conn, "default", seen=1, to=2, now=told[0].created_at)
        await until(lambda: nats_server.count(server), lambda n: n == 500, what="a batch to be published")
        started.bred.kill()
        assert await started.ended() == -signal.SIGKILL
        await conn.rollback()
    assert await position(postgres_db) == 1
    async with relaying(config, server):
        await until(lambda: position(postgres_db), lambda p: p == 700, what="all to be handed on")
    stored = await nats_server.stored(server)
    assert [m.id for m in stored] == [e.id for e in told[1:]]


@pytest.mark.postgres
async def test_relay__two_of_one_name_and_one_frozen__hand_each_on_once(
    postgres_db: Database, tmp_path: Path, server: NatsServer, postgres_db_url: str
) -> None:
    config = _config(tmp_path, postgres_db_url)
    told = await tell(postgres_db, 0, 3_000)
    await nats_server.add_stream(server)
    async with relaying(config, server) as one, relaying(config, server) as other:
        await moves(postgres_db)
        one.bred.send_signal(signal.SIGSTOP)
        told += await tell(postgres_db, 3_000, 500)
        await until(lambda: position(postgres_db), lambda p: p == 3_500, what="the other to hand all on")
        one.bred.send_signal(signal.SIGCONT)
        told += await tell(postgres_db, 3_500, 10)
        await until(lambda: position(postgres_db), lambda p: p == 3_510, what="the last to be handed on")
        for each in (one, other):
            each.bred.send_signal(signal.SIGTERM)
            assert await each.ended() == 0
    await has_all(server, told)


async def test_relay__without_a_stream__ends_with_what_to_do(
    sqlite_db: Database, tmp_path: Path, server: NatsServer
) -> None:
    config = _config(tmp_path)
    await tell(sqlite_db, 0, 1)
    code, _, said = await once(config, server)
    assert (code, said) == (1, "error: NATS has no stream SETTLER; make it, or give --create-stream\n")
    assert await position(sqlite_db) == 0


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"subjects": ["other.>"]}, "takes no settler.invoice.created; add settler.> to its subjects"),
        ({"duplicate_window": 5}, "knows duplicates for 5 s only"),
        ({"no_ack": True}, "acknowledges nothing"),
    ],
)
async def test_relay__stream_of_no_use__is_refused(
    sqlite_db: Database, tmp_path: Path, server: NatsServer, settings: dict[str, Any], problem: str
) -> None:
    config = _config(tmp_path)
    await tell(sqlite_db, 0, 1)
    await nats_server.add_stream(server, **settings)
    code, _, said = await once(config, server)
    assert code == 1
    assert said.startswith(f"error: stream {STREAM} {problem}")


# The first has what docs/relay.md says it needs, and no more.
USERS = """authorization { users: [
  { user: "relay", password: "s3cret", permissions: {
      publish: ["settler.>", "$JS.API.STREAM.INFO.SETTLER", "$JS.API.STREAM.CREATE.SETTLER"]
      subscribe: ["_INBOX.>"] } }
  { user: "reader", password: "s3cret", permissions: { publish: ["_INBOX.>", "$JS.API.>"] } }
] }"""


async def test_relay__wrong_password_or_no_permission__is_refused_and_not_shown(
    sqlite_db: Database, tmp_path: Path
) -> None:
    config = _config(tmp_path)
    await tell(sqlite_db, 0, 1)
    async with nats_server.serving(tmp_path, extra=USERS) as server:
        host, secret = f"127.0.0.1:{server.port}", tmp_path / "nats-url"
        words = ("relay", "nats", "--url-file", str(secret), "--once", "--create-stream")
        for user, word in (("relay:wr0ng", "authorization violation"), ("reader:s3cret", "permissions violation")):
            secret.write_text(f"nats://{user}@{host}\n")
            done = await asyncio.to_thread(cli, *words, config=config)
            assert done.returncode == 1
            assert word in done.stderr.lower()
            assert len(done.stderr.splitlines()) == 1
            assert user.partition(":")[2] not in done.stderr + done.stdout
        secret.write_text(f"nats://relay:s3cret@{host}\n")
        done = await asyncio.to_thread(cli, *words, config=config)
        assert (done.returncode, done.stdout) == (0, "1 events handed on, up to position 1\n")


async def test_relay__server_asks_for_credentials__has_them_of_a_file(sqlite_db: Database, tmp_path: Path) -> None:
    config = _config(tmp_path)
    await tell(sqlite_db, 0, 5)
    async with nats_server.serving(tmp_path, extra=nats_jwt.server_settings()) as server:
        file = tmp_path / "settler.creds"
        file.write_text(nats_jwt.credentials(nats_jwt.STRANGER))
        code, _, said = await once(config, server, "--create-stream", "--creds", str(file))
        assert code == 1
        assert "authorization violation" in said.lower()
        file.write_text(nats_jwt.credentials())
        code, handed_on, said = await once(config, server, "--create-stream", "--creds", str(file))
        assert (code, handed_on["events"]) == (0, 5), said


async def test_relay__server_away__once_is_a_problem(sqlite_db: Database, tmp_path: Path, server: NatsServer) -> None:
    config = _config(tmp_path)
    await tell(sqlite_db, 0, 1)
    await server.stop()
    code, said, err = await once(config, server)
    assert (code, said["events"], err) == (1, 0, "")
    assert said["trouble"].startswith(f"NATS at 127.0.0.1:{server.port}: ")


async def test_publish__server_hangs__is_trouble_within_bounds(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("settler.stages.relay_nats.CONFIRM_WITHIN_S", 0.5)
    monkeypatch.setattr("settler.stages.relay_nats.CONNECT_WITHIN_S", 1.0)
    await nats_server.add_stream(server)
    publisher = NatsPublisher(NatsTarget(servers=(server.url,), stream=STREAM, subject=SUBJECT))
    await publisher.publish([a_message(1)], in_flight=1)
    server.pause()
    published = await publisher.publish([a_message(2), a_message(3)], in_flight=8)
    assert (published.confirmed, published.trouble) == (0, "NATS confirmed 0 of 2 messages within 0 s")
    assert (await publisher.publish([a_message(2)], in_flight=8)).trouble is not None
    server.go_on()
    assert (await publisher.publish([a_message(2), a_message(3)], in_flight=8)).confirmed == 2
    await publisher.close()
    assert [m.id for m in await nats_server.stored(server)] == ["evt_000001", "evt_000002", "evt_000003"]


async def test_publish__larger_than_the_server_takes__is_refused_by_name(server: NatsServer) -> None:
    await nats_server.add_stream(server)
    publisher = NatsPublisher(NatsTarget(servers=(server.url,), stream=STREAM, subject=SUBJECT))
    with pytest.raises(PublishRefused, match="event evt_000001 has 2000000 bytes"):
        await publisher.publish([a_message(1, body=b"x" * 2_000_000)], in_flight=1)
    await publisher.close()


def _config(folder: Path, database: str | None = None) -> Path:
    chain = ChainTable(rpc="http://127.0.0.1:1", tokens=[TokenTable(address=new_address())])
    return write_config(folder, chain, database=database)
