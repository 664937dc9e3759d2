"""What contracts look like from outside: ABIs, event topics, and the compiled contracts of the demo and the tests.

Data and its loader, nothing else: no calls, no addresses (those are facts of a chain: `chains.registry`), no decoding.
Every file is listed with its origin and hash in SOURCES.toml and checked against it when it is loaded.
"""

from __future__ import annotations

import functools
import hashlib
import json
import tomllib
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from eth_typing import ABI

TRANSFER_TOPIC = bytes.fromhex("ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef")
"""keccak256("Transfer(address,address,uint256)"): topic 0 of an ERC-20 transfer (and, with one topic more, of an
ERC-721). A test computes it from abi/erc20.json."""


class ContractDataError(RuntimeError):
    """A file of this package is missing or altered: a broken installation. Nobody catches it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A compiled contract, ready to deploy."""

    contract: str
    abi: ABI
    bytecode: bytes
    """Creation code; the ABI-encoded constructor arguments go behind it."""
    compiler: str
    """Of solc, with commit: `0.8.30+commit.73712a01…`."""


@functools.cache
def abi(name: str) -> ABI:
    """The ABI in `abi/<name>.json`, e.g. `erc20`. Shared by all callers: not to be changed."""
    return cast("ABI", json.loads(_read(f"abi/{name}.json")))


@functools.cache
def artifact(name: str) -> Artifact:
    """The compiled contract in `artifacts/<name>.json`: `TestStablecoin` or `BatchPayout`."""
    data = json.loads(_read(f"artifacts/{name}.json"))
    return Artifact(
        contract=data["contract"],
        abi=data["abi"],
        bytecode=bytes.fromhex(data["bytecode"].removeprefix("0x")),
        compiler=data["compiler"]["version"],
    )


def _read(path: str) -> bytes:
    expected = _hashes().get(path)
    if expected is None:
        raise ContractDataError(f"contracts_abi has no {path}: SOURCES.toml lists {', '.join(_hashes())}")
    try:
        content = files(__name__).joinpath(path).read_bytes()
    except FileNotFoundError as missing:
        raise ContractDataError(f"contracts_abi/{path} is missing: install settler again") from missing
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise ContractDataError(
            f"contracts_abi/{path} is altered: sha256 {found}, SOURCES.toml says {expected}; "
            "run `make contracts` if the change was meant, else install settler again"
        )
    return content


@functools.cache
def _hashes() -> dict[str, str]:
    """Path to lower-case hex sha256, as SOURCES.toml lists them."""
    listed = tomllib.loads(files(__name__).joinpath("SOURCES.toml").read_text(encoding="utf-8"))
    return {entry["path"]: entry["sha256"] for entry in listed["file"]}
