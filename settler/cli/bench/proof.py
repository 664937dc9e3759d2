"""`settler bench proof`."""

from __future__ import annotations

from typing import Annotated

import typer

from settler.cli.bench.printing import columns, print_report
from settler.cli.options import AsJson

_SHOWN = (
    "transactions",
    "logs",
    "payments",
    "cpu_ms",
    "floor_ms",
    "ratio",
    "longest_hold_ms",
    "json_ms",
    "rlp_ms",
    "keccak_ms",
    "trie_ms",
    "logs_ms",
    "evidence_ms",
    "rest_ms",
)
_COLUMNS = columns({name.replace("_", " "): name for name in _SHOWN})


def proof(
    repeats: Annotated[
        int, typer.Option("--repeats", min=1, max=1_000, help="How often each is measured; the least counts.")
    ] = 7,
    as_json: AsJson = False,
) -> None:
    """Processor time to prove a block's payments by its receipts, for blocks of 50 to 1,000 transactions, by step."""
    import asyncio

    from settler.bench.proof import prove

    print_report(asyncio.run(prove(repeats=repeats)), _COLUMNS, as_json=as_json)
