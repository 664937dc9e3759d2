"""The latencies of `settler bench live`: a block with payments is mined → they are recorded; they are final → their
invoices are settled. The real daemon, three providers of which two must agree, receipts proven.

    #   block      │ 5 payments │ … │ 1,000 payments │ empty │ empty │ empty │
    #              mined ─▶ recorded                                 final ─▶ settled      polled every 0.25 s

Chain and payers are a process of their own (`payers`); what is said of processor time and of the loop is the daemon's.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from settler.bench.anvil_chain import FINALITY_BLOCKS, configured
from settler.bench.companions import START_S, Companion, companion
from settler.bench.measuring import Meter, Report, percentile
from settler.bench.payers import BLOCK_S, WAIT_S, Load, Seen
from settler.runtime.embedded import embedded
from settler.runtime.memory import keep_steady

POLL_S = 0.25
PROVIDERS, QUORUM, PROOF = 3, 2, "receipts"
SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
LOOP_LOOK_S = 0.005
ORDER_S = 0.2
"""An invoice may take at most, on average, before its payment."""


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

    Raises `CompanionFailed`, and what the daemon raises before it runs.
    """
    keep_steady()  # as the daemon's own process does
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="settler-bench-") as folder:
        url = database or f"sqlite:///{Path(folder) / 'settler.db'}"
        async with companion("payers", anvil=anvil) as payers:
            ready = await payers.heard()
            config = configured(
                Path(folder),
                database=url,
                poll_interval_s=POLL_S,
                providers=PROVIDERS,
                quorum=QUORUM,
                proof=PROOF,
                **ready,
            )
            async with embedded(config) as (address, _):
                payers.say({"api": address, "database": url})
                await payers.heard()
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


async def _measured(payers: Companion, each: Named) -> dict[str, Any]:
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
