"""Processes beside a benchmark: who pays, orders, answers or receives has one of its own, so that the daemon alone is
measured. Both sides speak lines of JSON.

    benchmark                                          python -m settler.bench.payers '{"anvil": null}'
    async with companion("payers", anvil=None) as it:     Load(**argument())
        await it.heard(within_s=60)                    ◀─    answer({"rpc": …})
        it.say({"api": …})                             ─▶    await asked()

A companion ends with its standard input, or is ended; on Linux also when the benchmark is killed. What it writes to
standard error is seen at the terminal: an error of it is told there in full, and by `CompanionFailed` in a sentence.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from settler.bench.measuring import Unmeasurable
from settler.children import end_with_parent

START_S = 120.0
"""Until it is there: a moment on an idle machine; the rest is for busy ones."""
END_S = 5.0
"""Between the end of its standard input and SIGTERM, and between that and SIGKILL."""
LINE_MAX_BYTES = 2**28
"""Of one line: ten million latencies are 200 MB."""


class CompanionFailed(Unmeasurable):
    """It ended before it was done, or said nothing in time."""


# -- the benchmark's side ----------------------------------------------------------------------------------------------


@asynccontextmanager
async def companion(name: str, /, **given: object) -> AsyncIterator[Companion]:
    """The module `settler.bench.NAME` as a process, which is gone when the block ends, however it ends. `given`: its
    argument.
    """
    module = f"settler.bench.{name}"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, json.dumps(given),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=LINE_MAX_BYTES,
        preexec_fn=end_with_parent(),
    )  # fmt: skip
    try:
        yield Companion(module, process)
    finally:
        await _end(process)


class Companion:
    def __init__(self, module: str, process: asyncio.subprocess.Process) -> None:
        self._module = module
        self._process = process

    def say(self, line: Mapping[str, object]) -> None:
        assert self._process.stdin is not None, "it was given a pipe"
        self._process.stdin.write(json.dumps(line).encode() + b"\n")

    async def heard(self, *, within_s: float = START_S) -> dict[str, Any]:
        """What it says next. Raises `CompanionFailed` if it ends instead, or says nothing for `within_s` seconds."""
        assert self._process.stdout is not None, "it was given a pipe"
        try:
            async with asyncio.timeout(within_s):
                line = await self._process.stdout.readline()
                if not line.endswith(b"\n"):
                    code = await self._process.wait()
                    raise CompanionFailed(
                        f"{self._module} ended with {code} before it was done; its own words are above"
                    )
        except TimeoutError as error:
            raise CompanionFailed(f"{self._module} said nothing for {within_s:g} s") from error
        said: dict[str, Any] = json.loads(line)
        return said


async def _end(process: asyncio.subprocess.Process) -> None:
    assert process.stdin is not None, "it was given a pipe"
    process.stdin.close()
    for harder in (process.terminate, process.kill):
        with suppress(TimeoutError):
            async with asyncio.timeout(END_S):
                await process.wait()
                return
        with suppress(ProcessLookupError):
            harder()
    await process.wait()


# -- the companion's side ----------------------------------------------------------------------------------------------


def argument() -> dict[str, Any]:
    given: dict[str, Any] = json.loads(sys.argv[1])
    return given


def answer(line: Mapping[str, object]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


async def asked() -> dict[str, Any] | None:
    """What the benchmark says next; `None`: nothing more, it needs this no longer."""
    line = await asyncio.to_thread(sys.stdin.readline)
    heard: dict[str, Any] | None = json.loads(line) if line.strip() else None
    return heard


async def dismissed() -> None:
    """Returns when the benchmark needs this no longer."""
    await asyncio.to_thread(sys.stdin.read)
