"""`settler bench live`."""

from __future__ import annotations

from typing import Annotated

import typer

from settler.cli.failures import Failure
from settler.cli.options import AsJson
from settler.cli.text import Columns, Json, print_list

_LIVE: Columns = {
    "chain": lambda row: row["chain"],
    "providers": lambda row: str(row["providers"]),
    "quorum": lambda row: str(row["quorum"]),
    "proof": lambda row: row["proof"],
    "load": lambda row: row["load"],
    "blocks": lambda row: str(row["blocks"]),
    "calls/1000 blocks": lambda row: str(row["calls_per_1000_blocks"]),
    "calls/poll": lambda row: str(row["calls_per_poll"]),
}


def live(
    polls: Annotated[int, typer.Option("--polls", min=10, max=10_000, help="Polls each figure is taken over.")] = 60,
    as_json: AsJson = False,
) -> None:
    """RPC calls per 1,000 blocks, idle and busy, with one provider, with a quorum, and with proofs. Starts anvil."""
    import asyncio

    from settler import logs
    from settler.anvil import AnvilError
    from settler.config import anvil_program

    logs.configure("console", "error")
    try:
        rows = asyncio.run(_live(polls, anvil_program()))
    except AnvilError as error:
        raise Failure(str(error)) from error
    print_list(rows, _LIVE, as_json=as_json, nothing="nothing was measured")


async def _live(polls: int, anvil: str | None) -> list[Json]:
    from settler.bench.live import figures

    return [figure.as_json() async for figure in figures(polls=polls, anvil=anvil)]
