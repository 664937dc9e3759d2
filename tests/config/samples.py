"""Configurations as operators write them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from settler.config import ConfigError, Settings, load

RPC = "https://base.example/v2/k3y-of-the-provider"
ACME = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
BASE = f'[chains.base]\nrpc = "{RPC}"\ntokens = ["USDC"]\n'
PRIVATE = f"""
[chains.private]
chain_id = 424242
rpc = "http://node.example:8545"
finality = 3
[chains.private.token.ACME]
address = "{ACME}"
decimals = 6
"""


def read(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> Settings:
    file = folder / "settler.toml"
    file.write_text(text)
    return load(file, environ or {})


def problems(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Key to message of everything that is wrong with a file."""
    with pytest.raises(ConfigError) as caught:
        read(folder, text, environ)
    found = {p.key: p.message for p in caught.value.problems}
    assert len(found) == len(caught.value.problems), "each key has one problem"
    return found
