"""The latencies of `settler bench live`: a block with payments is mined → they are recorded; they are final → their
invoices are settled. The real daemon, three providers of which two must agree, receipts proven.

    #   block      │ 5 payments │ … │ 1,000 payments │ empty │ empty │ empty │
    #              mined ─▶ recorded                                 final ─▶ settled      polled every 0.25 s

Chain and payers are a process of their own (`payers`); what is said of processor time and of the loop is the daemon's.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from settler.anvil import CHAIN_ID, AnvilError
from settler.bench.measuring import Meter, Report, percentile
from settler.bench.payers import BLOCK_S, DECIMALS, FINALITY_BLOCKS, SYMBOL, WAIT_S, Load, Seen
from settler.runtime.collecting import collect_seldom
from settler.runtime.embedded import embedded

POLL_S = 0.25
PROVIDERS, QUORUM, PROOF = 3, 2, "receipts"
SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
LOOP_LOOK_S = 0.005
START_S = 60.0
"""Until the chain is there, or its payers are."""
ORDER_S = 0.2
"""An invoice may take at most, on average, before its payment."""
LINE_LIMIT = 2**24
"""Bytes of what payers say at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    name: str
    load: Load


def loads(*, steady_blocks: int, payments: int, busy_blocks: int) -> tuple[Named, ...]:
    """A small load that goes on, and single blocks full of payments: each payer's own transaction, and payouts."""
    return (
        Named(
            name="steady",
            load=Load(payments=min(5, payments), per_transaction=1, blocks=steady_blocks, is_alone=False),
        ),
        Named(
            name="one block, one each",
            load=Load(payments=payments, per_transaction=1, blocks=busy_blocks, is_alone=True),
        ),
        Named(
            name="one block, payouts of 100",
            load=Load(payments=payments, per_transaction=min(100, payments), blocks=busy_blocks, is_alone=True),
        ),
    )


async def latencies(
    *, steady_blocks: int, payments: int, busy_blocks: int, anvil: str | None, database: str | None
) -> Report:
    """One row a load. `payments`: in a busy block. `database`: a URL; `None`: SQLite in a temporary directory.

    Raises `AnvilError`, and what the daemon raises before it runs.
    """
    collect_seldom()  # as the daemon's own process does
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="settler-bench-") as folder:
        url = database or f"sqlite:///{Path(folder) / 'settler.db'}"
        async with _payers(anvil) as payers:
            ready = await payers.heard(within_s=START_S)
            config = Path(folder) / "settler.toml"
            config.write_text(_config(ready, url))
            async with embedded(config) as (address, _):
                payers.say({"api": address, "database": url})
                await payers.heard(within_s=START_S)
                for each in loads(steady_blocks=steady_blocks, payments=payments, busy_blocks=busy_blocks):
                    rows.append(await _measured(payers, each))  # noqa: PERF401  # one after the other
    inputs = {
        "providers": PROVIDERS,
        "quorum": QUORUM,
        "proof": PROOF,
        "poll_s": POLL_S,
        "block_s": BLOCK_S,
        "database": "postgresql" if url.startswith("postgres") else "sqlite",
    }
    return Report(benchmark="live latencies", inputs=inputs, rows=rows)


async def _measured(payers: _Process, each: Named) -> dict[str, Any]:
    load = each.load
    payments = load.payments * load.blocks
    payers.say(asdict(load))
    await payers.heard(within_s=START_S + payments * ORDER_S)
    with Meter() as spent, _holds() as holds:
        seen = Seen(**await payers.heard(within_s=load.blocks * (1 + FINALITY_BLOCKS) * 2 * BLOCK_S + WAIT_S))
    return {
        "load": each.name,
        "payments": payments,
        "blocks": load.blocks,
        **{f"recorded_{name}_ms": percentile(seen.recorded_ms, share) for name, share in SHARES.items()},
        **{f"settled_{name}_ms": percentile(seen.settled_ms, share) for name, share in SHARES.items()},
        "cpu_ms": round(1000 * spent.cpu_s / payments, 2),
        "longest_hold_ms": round(max(holds), 1),
    }


@contextmanager
def _holds() -> Iterator[list[float]]:
    """How long the loop kept others waiting, each time that it was asked, in milliseconds."""
    held = [0.0]

    async def ask() -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LOOP_LOOK_S
            await asyncio.sleep(LOOP_LOOK_S)
            held.append(1000 * (loop.time() - due))

    asking = asyncio.create_task(ask(), name="holds")
    try:
        yield held
    finally:
        asking.cancel()


class _Process:
    """The payers, spoken to in lines of JSON."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    def say(self, line: dict[str, object]) -> None:
        assert self._process.stdin is not None, "it was given a pipe"
        self._process.stdin.write(json.dumps(line).encode() + b"\n")

    async def heard(self, *, within_s: float) -> dict[str, Any]:
        assert self._process.stdout is not None, "it was given a pipe"
        async with asyncio.timeout(within_s):
            line = await self._process.stdout.readline()
        if not line:
            raise AnvilError("the chain and its payers ended before they were done; their words are above")
        heard: dict[str, Any] = json.loads(line)
        return heard


@asynccontextmanager
async def _payers(anvil: str | None) -> AsyncIterator[_Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "settler.bench.payers", json.dumps({"anvil": anvil}),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=LINE_LIMIT,
    )  # fmt: skip
    try:
        yield _Process(process)
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.terminate()
        await process.wait()


def _config(ready: dict[str, Any], database: str) -> str:
    urls = [f"{ready['rpc']}/?provider={number}" for number in range(PROVIDERS)]
    return f"""\
[database]
url = {json.dumps(database)}
[api]
listen = "127.0.0.1:0"
auth = "none"
[runtime]
worker = "live"
[chains.anvil]
chain_id = {CHAIN_ID}
rpc = {json.dumps(urls)}
start_block = 0
finality = {FINALITY_BLOCKS}
quorum = {QUORUM}
proof = "{PROOF}"
poll_interval_s = {POLL_S}
[chains.anvil.token.{SYMBOL}]
address = "{ready["token"]}"
decimals = {DECIMALS}
"""
