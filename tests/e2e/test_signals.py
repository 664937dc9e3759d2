"""`settler run` is asked to stop: it drains, ends with 0 and leaves nothing half done."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import time
from pathlib import Path

import aiohttp
import pytest

from tests.e2e.conftest import Market
from tests.support.daemon import Json, Process, cli, until, write_config
from tests.support.dump import audit

DRAIN_S = 10.0
"""The configuration's default."""


async def order(process: Process, made: list[Json]) -> None:
    """One invoice after another, until the daemon is gone."""
    try:
        while True:
            made.append(await process.api.create("3.00"))
    except (aiohttp.ClientError, OSError, AssertionError):
        return  # refused, or cut off, by a daemon that stops


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_under_load__drains_and_ends_with_0(number: signal.Signals, market: Market) -> None:
    made: list[Json] = []
    async with Process(market.config, is_installed=True) as process:
        await process.api.is_ready()
        customers = [asyncio.create_task(order(process, made), name="customer") for _ in range(4)]
        await until(lambda: asyncio.sleep(0, len(made)), lambda count: count > 40, what="load")
        await market.pay(*made[:40])

        asked = time.monotonic()
        assert await process.signal(number, within_s=DRAIN_S + 20) == 0
        took_s = time.monotonic() - asked

        await asyncio.gather(*customers)
        assert took_s < DRAIN_S + 5, "requests and ticks under way end within the drain"
        events = [line["event"] for line in process.log]  # and every line is JSON
        assert events.count("daemon.stopped") == 1
        assert next(line for line in process.log if line["event"] == "daemon.stopped")["drained"] is True
        assert all({"timestamp", "level", "event"} <= line.keys() for line in process.log)
        assert "Traceback" not in "".join(process.errors)

    async with Process(market.config) as again:  # what was answered is there, and goes on
        for invoice in made[:40]:
            await again.api.reaches(invoice, "settled")
        known = {i["id"] for i in await again.api.every("/v1/invoices")}
        assert {i["id"] for i in made} <= known
        assert await again.signal(number) == 0
    await audit(f"sqlite:///{market.config.parent / 'settler.db'}")


async def test_signal_while_the_node_is_silent__ends_with_0_within_the_drain(tmp_path: Path, market: Market) -> None:
    """A tick waits for an answer that does not come: it is cut off, and nothing of it was written."""
    silent = await asyncio.start_server(lambda _reader, _writer: asyncio.sleep(3_600), "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    config = tmp_path / "silent.toml"
    config.write_text(market.config.read_text().replace(market.node.url, f"http://127.0.0.1:{port}"))
    config.write_text(config.read_text() + "[runtime]\ndrain_timeout_s = 1.0\n")
    try:
        async with Process(config) as process:
            await asyncio.sleep(0.5)
            assert await process.signal(signal.SIGTERM, within_s=20) == 0
            (stopped,) = [line for line in process.log if line["event"] == "daemon.stopped"]
            assert stopped["drained"] is False
            assert "Traceback" not in "".join(process.errors)
    finally:
        silent.close()


@pytest.mark.parametrize("interrupt", [signal.SIG_DFL, signal.SIG_IGN], ids=["foreground", "background"])
async def test_command_that_waits__sigterm__ends_with_143_and_one_line_at_most(
    tmp_path: Path, market: Market, interrupt: signal.Handlers
) -> None:
    """As the first process of a container it has no default for the signal, and would run on. In the background shells
    have it ignore SIGINT: there it hung, for SIGTERM was handed on as that."""
    is_asked = asyncio.Event()
    silent = await asyncio.start_server(lambda _reader, _writer: is_asked.set(), "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    config = tmp_path / "silent.toml"
    config.write_text(market.config.read_text().replace(market.node.url, f"http://127.0.0.1:{port}"))
    command = await asyncio.create_subprocess_exec(
        *(sys.executable, "-X", "faulthandler", "-m", "settler", "check", "-c", config),
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, interrupt),  # it only calls the system
    )
    try:
        async with asyncio.timeout(30):
            await is_asked.wait()
        command.terminate()
        try:
            async with asyncio.timeout(30):
                await command.wait()
        except TimeoutError:
            command.send_signal(signal.SIGABRT)  # it says where it hangs
        _, said = await command.communicate()
        assert command.returncode == 128 + signal.SIGTERM, said.decode()
        assert b"Traceback" not in said
    finally:
        silent.close()
        if command.returncode is None:
            command.kill()


async def test_port_that_is_taken__is_one_line_and_exit_1(market: Market) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        market.config.write_text(market.config.read_text().replace("127.0.0.1:0", address))
        done = await asyncio.to_thread(cli, "run", config=market.config)
    assert done.returncode == 1
    (line,) = [each for each in done.stderr.splitlines() if not each.startswith("{")]
    assert "api.listen" in line
    assert address in line


async def test_wrong_configuration__is_told_at_once_and_exit_2(tmp_path: Path, market: Market) -> None:
    text = (
        market.config.read_text().replace('auth = "none"', 'auth = "nobody"').replace("decimals = 6", "decimals = 99")
    )
    config = tmp_path / "wrong.toml"
    config.write_text(text)
    done = await asyncio.to_thread(cli, "run", config=config)
    assert (done.returncode, done.stdout) == (2, "")
    lines = done.stderr.splitlines()
    assert len(lines) == 2, lines
    assert "api.auth" in done.stderr
    assert "chains.anvil.token.USDC.decimals" in done.stderr


@pytest.mark.postgres
async def test_postgres__is_migrated_by_migrate_only(
    market: Market, empty_postgres_db_url: str, tmp_path: Path
) -> None:
    folder = tmp_path / "postgres"
    folder.mkdir()
    config = write_config(folder, market.chain, database=empty_postgres_db_url)

    refused = await asyncio.to_thread(cli, "run", config=config)

    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    assert "settler migrate" in line
    assert (await asyncio.to_thread(cli, "invoice", "list", config=config)).returncode == 2

    migrated = await asyncio.to_thread(cli, "migrate", config=config)
    assert migrated.returncode == 0, migrated.stderr
    assert "created the tables" in migrated.stdout
    assert "already" in (await asyncio.to_thread(cli, "migrate", config=config)).stdout

    async with Process(config) as process:
        invoice = await process.api.create("10.00")
        await market.pay(invoice)
        await process.api.reaches(invoice, "settled")
        assert await process.signal(signal.SIGTERM) == 0
        assert "Traceback" not in "".join(process.errors)
    await audit(empty_postgres_db_url)
