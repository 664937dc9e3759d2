"""A benchmark's companions: spoken to in lines, heard of when they fail, and gone in the end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict

import psutil
import pytest

from settler.bench import companions
from settler.bench.buyers import Orders
from settler.bench.companions import CompanionFailed, companion
from settler.bench.customers import Order

pytestmark = pytest.mark.slow
"""Whole benchmarks, small: seconds each."""


def left() -> list[psutil.Process]:
    """The companions of this process that still run."""
    running = [each for each in psutil.Process().children() if each.status() != psutil.STATUS_ZOMBIE]
    return [each for each in running if "settler.bench." in " ".join(each.cmdline())]


@asynccontextmanager
async def deaf() -> AsyncIterator[Orders]:
    """Orders for a server that never answers: who places them waits, and does not look whether it is still wanted."""

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        yield Orders(host=host, port=port, key="sk_none", count=1, at_once=1)


async def test_companion__that_takes_lines__answers_them_and_ends_with_its_input(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(companions, "END_S", 60.0)  # it is not told to end otherwise
    started = time.monotonic()
    async with companion("webhook_receiver") as receiver:
        assert (await receiver.heard())["url"].startswith("http://127.0.0.1:")
        assert len(left()) == 1
    assert left() == []
    assert time.monotonic() - started < 30


async def test_companion__that_ends_early__is_an_error_that_names_it(capfd: pytest.CaptureFixture[str]) -> None:
    order = Order(rate=1, seconds=1, anvil="/there/is/no/anvil")
    with pytest.raises(CompanionFailed, match=r"settler\.bench\.customers ended with 1 before it was done"):
        async with companion("customers", **asdict(order)) as customers:
            await customers.heard()
    assert "/there/is/no/anvil" in capfd.readouterr().err
    assert left() == []


async def test_companion__told_something_after_it_ended__is_the_same_error() -> None:
    async with companion("customers") as customers:
        left()[0].kill()
        for _ in range(2):
            with pytest.raises(CompanionFailed, match="ended with -9"):
                await customers.heard()
            customers.say({"api": "http://127.0.0.1:9"})


async def test_companion__that_says_nothing__is_an_error_in_time() -> None:
    async with companion("webhook_receiver") as receiver:
        await receiver.heard()
        with pytest.raises(CompanionFailed, match=r"webhook_receiver said nothing for 0\.2 s"):
            await receiver.heard(within_s=0.2)
    assert left() == []


async def test_companion__of_a_benchmark_that_fails__is_gone_all_the_same() -> None:
    with pytest.raises(ZeroDivisionError):
        async with companion("webhook_receiver") as receiver:
            await receiver.heard()
            raise ZeroDivisionError
    assert left() == []


async def test_companion__of_a_benchmark_that_is_cancelled__is_gone_all_the_same() -> None:
    ready = asyncio.Event()

    async def benchmark() -> None:
        async with companion("webhook_receiver") as receiver:
            await receiver.heard()
            ready.set()
            await receiver.heard()

    running = asyncio.create_task(benchmark())
    await asyncio.wait_for(ready.wait(), 60)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert left() == []


@pytest.mark.parametrize("is_stopped", [False, True], ids=["deaf", "stopped"])
async def test_companion__that_does_not_look_at_its_input__is_ended(
    is_stopped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(companions, "END_S", 0.2)
    async with deaf() as orders, companion("buyers", **asdict(orders)):
        (process,) = left()
        if is_stopped:
            process.suspend()  # SIGTERM waits, SIGKILL does not
    assert left() == []
    assert not process.is_running()


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
async def test_companion__of_a_benchmark_that_is_killed__ends() -> None:
    """Also one that does not look whether its input has ended."""
    program = (
        "import asyncio, json, sys\n"
        "from settler.bench.companions import companion\n"
        "async def main():\n"
        "    async with companion('buyers', **json.loads(sys.argv[1])) as buyers:\n"
        "        print('started', flush=True)\n"
        "        await buyers.heard()\n"
        "asyncio.run(main())\n"
    )
    async with deaf() as orders:
        parent = subprocess.Popen([sys.executable, "-c", program, json.dumps(asdict(orders))], stdout=subprocess.PIPE)
        try:
            assert parent.stdout is not None
            assert await asyncio.to_thread(parent.stdout.readline) == b"started\n"
            (child,) = psutil.Process(parent.pid).children()
        finally:
            os.kill(parent.pid, signal.SIGKILL)
            parent.communicate()
        await asyncio.to_thread(psutil.wait_procs, [child], timeout=10)
        assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
