"""`settler check`: asks every provider of every chain whether what was configured is true, and shows a table.

An RPC that is down is a row with the reason. Asks, and changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from settler.cli.failures import PROBLEM
from settler.cli.options import CONFIG, AsJson, Config
from settler.cli.text import Columns, Json, print_list

if TYPE_CHECKING:
    from settler.config import Settings

_COLUMNS: Columns = {
    "chain": lambda row: row["chain"],
    "provider": lambda row: row["provider"],
    "check": lambda row: row["check"],
    "result": lambda row: row["result"],
    "detail": lambda row: row["detail"],
}


def check(config: Config = CONFIG, as_json: AsJson = False) -> int:
    """Validates the configuration, then asks every RPC: chain id, head, finality, log range, receipts, tokens."""
    import asyncio

    from settler.cli.opened import quiet_logs
    from settler.config import load

    settings = load(config)
    quiet_logs()
    rows = asyncio.run(_rows(settings))
    print_list(rows, _COLUMNS, as_json=as_json, nothing="no chains")
    return PROBLEM if any(row["result"] == "wrong" for row in rows) else 0


async def _rows(settings: Settings) -> list[Json]:
    """All providers at once, shown in the order of the file."""
    import asyncio

    from settler.cli.probing import ATTEMPTS, findings
    from settler.clock import SystemClock
    from settler.runtime.providers import make_readers

    clock = SystemClock()
    readers = {
        name: make_readers(chain, monotonic=clock.monotonic, attempts=ATTEMPTS)
        for name, chain in settings.chains.items()
    }
    asked = [(settings.chains[name], reader) for name, of_chain in readers.items() for reader in of_chain]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(
                    findings(chain, reader.provider, now=clock.now()), name=f"check {chain.name} {reader.name}"
                )
                for chain, reader in asked
            ]
    finally:
        for _, reader in asked:
            await reader.close()
    return [
        {
            "chain": chain.name,
            "provider": reader.name,
            "check": found.check,
            "result": found.result,
            "detail": found.detail,
        }
        for (chain, reader), task in zip(asked, tasks, strict=True)
        for found in task.result()
    ]
