"""The chain of the benchmarks that run on anvil: its token, and the configuration of a daemon that watches it."""

from __future__ import annotations

import json
from pathlib import Path

from settler.anvil import CHAIN_ID

SYMBOL, DECIMALS = "TUSD", 6
UNIT = 10**DECIMALS
FINALITY_BLOCKS = 3


def configured(
    folder: Path,
    *,
    rpc: str,
    token: str,
    database: str,
    poll_interval_s: float,
    providers: int = 1,
    quorum: int = 1,
    proof: str = "none",
) -> Path:
    """A configuration file in `folder`. `providers`: one node behind several names, since what counts is what is asked.
    `database`: a URL.
    """
    urls = [f"{rpc}/?provider={number}" for number in range(providers)]
    config = folder / "settler.toml"
    config.write_text(f"""\
[database]
url = {json.dumps(database)}
[api]
listen = "127.0.0.1:0"
auth = "none"
[runtime]
worker = "bench"
[chains.anvil]
chain_id = {CHAIN_ID}
rpc = {json.dumps(urls)}
start_block = 0
finality = {FINALITY_BLOCKS}
quorum = {quorum}
proof = {json.dumps(proof)}
poll_interval_s = {poll_interval_s}
[chains.anvil.token.{SYMBOL}]
address = "{token}"
decimals = {DECIMALS}
""")
    return config
