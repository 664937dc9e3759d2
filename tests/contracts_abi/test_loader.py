from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from eth_abi.abi import encode
from eth_utils.abi import event_abi_to_log_topic, function_abi_to_4byte_selector
from web3 import Web3

import contracts_abi
from contracts_abi import TRANSFER_TOPIC, ContractDataError, abi, artifact

PACKAGE = Path(contracts_abi.__file__).parent
LISTED = contracts_abi._hashes()


def test_transfer_topic__is_the_keccak_of_the_event() -> None:
    (transfer,) = (entry for entry in abi("erc20") if entry["type"] == "event" and entry["name"] == "Transfer")
    assert event_abi_to_log_topic(transfer) == TRANSFER_TOPIC


def test_erc20__has_the_selectors_of_the_standard() -> None:
    """From the list every explorer shows; a wrong argument type would change them."""
    functions = [entry for entry in abi("erc20") if entry["type"] == "function"]
    selectors = {entry["name"]: function_abi_to_4byte_selector(entry).hex() for entry in functions}
    assert selectors == {
        "name": "06fdde03",
        "symbol": "95d89b41",
        "decimals": "313ce567",
        "totalSupply": "18160ddd",
        "balanceOf": "70a08231",
        "allowance": "dd62ed3e",
        "transfer": "a9059cbb",
        "transferFrom": "23b872dd",
        "approve": "095ea7b3",
    }


def test_abi__is_accepted_by_web3() -> None:
    contract = Web3().eth.contract(abi=abi("erc20"))
    assert contract.encode_abi("decimals") == "0x313ce567"


@pytest.mark.parametrize("path", sorted(LISTED))
def test_sources__every_listed_file_has_its_hash(path: str) -> None:
    assert hashlib.sha256((PACKAGE / path).read_bytes()).hexdigest() == LISTED[path]


def test_sources__every_file_is_listed() -> None:
    rooms = [PACKAGE / room for room in ("abi", "artifacts", "sources")]
    assert {str(path.relative_to(PACKAGE)) for room in rooms for path in room.iterdir()} == set(LISTED)


@pytest.mark.parametrize("name", ["TestStablecoin", "BatchPayout"])
def test_artifact__is_made_from_the_source_beside_it(name: str) -> None:
    source = json.loads((PACKAGE / "artifacts" / f"{name}.json").read_text())["source"]
    assert source == {"file": f"sources/{name}.sol", "sha256": LISTED[f"sources/{name}.sol"]}


def test_artifact__test_stablecoin() -> None:
    found = artifact("TestStablecoin")
    assert found.contract == "TestStablecoin"
    assert found.compiler.startswith("0.8.30+commit.")
    assert len(found.bytecode) > 1_000
    assert encode(["string", "string", "uint8"], ["a", "b", 6])  # its constructor's arguments
    assert {entry["name"] for entry in found.abi if entry["type"] == "function"} >= {"mint", "transfer", "decimals"}


def test_abi__unknown__says_what_there_is() -> None:
    with pytest.raises(ContractDataError, match=r"no abi/nope\.json.*abi/erc20\.json"):
        abi("nope")


def test_abi__altered_file__is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contracts_abi, "_hashes", lambda: {"abi/erc20.json": "00" * 32})
    abi.cache_clear()
    with pytest.raises(ContractDataError, match="altered"):
        abi("erc20")
