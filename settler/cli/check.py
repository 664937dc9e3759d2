"""`settler check`: asks every chain's provider whether what was configured is true, and shows a table.

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
    "check": lambda row: row["check"],
    "result": lambda row: row["result"],
    "detail": lambda row: row["detail"],
}


def check(config: Config = CONFIG, as_json: AsJson = False) -> int:
    """Validates the configuration, then asks every RPC: chain id, head, finality, log range, tokens."""
    import asyncio

    from settler.cli.opened import quiet_logs
    from settler.config import load

    settings = load(config)
    quiet_logs()
    rows = asyncio.run(_rows(settings))
    print_list(rows, _COLUMNS, as_json=as_json, nothing="no chains")
    return PROBLEM if any(row["result"] == "wrong" for row in rows) else 0


async def _rows(settings: Settings) -> list[Json]:
    """All chains at once, shown in the order of the file."""
    import asyncio

    from chains.evm import EvmReader
    from chains.rpc import RpcProvider
    from settler.cli.probing import ATTEMPTS, findings
    from settler.clock import SystemClock

    providers = {
        name: RpcProvider(chain.rpc.get_secret_value(), attempts=ATTEMPTS) for name, chain in settings.chains.items()
    }
    now = SystemClock().now()
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(
                    findings(chain, EvmReader(providers[name], chain_id=chain.chain_id), now=now), name=f"check {name}"
                )
                for name, chain in settings.chains.items()
            ]
    finally:
        for provider in providers.values():
            await provider.close()
    return [
        {"chain": name, "check": found.check, "result": found.result, "detail": found.detail}
        for name, task in zip(settings.chains, tasks, strict=True)
        for found in task.result()
    ]
