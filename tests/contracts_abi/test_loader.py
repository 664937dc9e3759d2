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
CONTRACTS = sorted(path.stem for path in (PACKAGE / "sources").iterdir())
REAL_EVENTS = {
    ("AddedBlackList", "42e160154868087d6bfdc0ca23d96a1c1cfa32f1b72ba9ba27b69b98a0d819dc"): {1},
    ("Approval", "8c5be1e5ebec7d5bd14f71427d1e84f3dd0314c0f7b2291e5b200ac8c7c3b925"): {3},
    ("AuthorizationAlreadyUsed", "d309466d0e5c5e3b306abfb2c1e7f3b4318b670dbd1236cc92288848a27384cb"): {3},
    ("AuthorizationCanceled", "1cdd46ff242716cdaa72d159d339a485b3438398348d68f09d7c8c0a59353d81"): {3},
    ("AuthorizationUsed", "98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5"): {3},
    ("Blacklisted", "ffa4e6181777692565cf28528fc88fd1516ea86b56da075235fa575af6a4b855"): {2},
    ("Burn", "cc16f5dbb4873280815c1ee09dbd06736cffcc184412cf7a71a0fdb75d397ca5"): {2},
    ("Deprecate", "cc358699805e9a8b7f77b522628c7cb9abd07d9efb86b6fb616af1609036a99e"): {1},
    ("DestroyedBlackFunds", "61e6e66b0d6339b2980aecc6ccc0039736791f0ccde9ed512e789a7fbdd698c6"): {1},
    ("ExecutionFailure", "23428b18acfb3ea64b08dc0c1d296ea9c09702c09083ca5272e64d115b687d23"): {2},
    ("ExecutionSuccess", "442e715f626346e8c54381002da614f62bee8d27386535b2521ec8540898556e"): {2},
    ("Issue", "cb8241adb0c3fdb35b70c24ce35c5eb0c17af7431c99f827d44a445ca624176a"): {1},
    ("Mint", "ab8530f87dc9b59234c4623bf917212bb2536d647574c8e7e5da92c2ede0c9f8"): {3},
    ("Params", "b044a1e409eac5c48e5af22d4af52670dd1a99059537a78b31b48c6500a6354e"): {1},
    ("Pause", "6985a02210a168e66602d3235cb6db0e70f92b3ba4d376a33c0f3d9434bff625"): {1},
    ("PaymentAuthorized", "1c81fb2e3bab27f6bb09bee9a0dddf61600b7cbaf2c12683e4864e0cbdb9d284"): {2},
    ("PaymentCaptured", "e749f7bbd01b49bb05abf26ca492cb4dfdea6bedeada8a40fdccd478c73a74e2"): {2},
    ("PaymentCharged", "943ae4341dd799d7aeedc501f616cd26b134639e0bc2ec059581ba3ebbf1e7d0"): {2},
    ("PaymentReclaimed", "78e1d723d17e13b7f40eeab9bf6dd9148a630bafde4203ab7bb5fca983516d17"): {2},
    ("PaymentRefunded", "1bf415371b303ca6b8bbb4ce479b177cba5ad15dbe0c9a7750a588aa6bcd25b2"): {2},
    ("PaymentVoided", "cadce8c3acb008e3e1c64ca7f60d22a3c87069183182b7dbb9e4d8cfb3a15842"): {2},
    ("Redeem", "702d5967f45f6513a38ffc42d6ba9bf230bd40e8f53b16363c7eb4fd2deb9a44"): {1},
    ("RemovedBlackList", "d7e9ec6e6ecd65492dce6bf513cd6867560d49544421d0783ddf06e76c24470c"): {1},
    ("SanctionedAddressesAdded", "2596d7dd6966c5673f9c06ddb0564c4f0e6d8d206ea075b83ad9ddd71a4fb927"): {1},
    ("SanctionedAddressesRemoved", "32aab684eee99db715515d1a9987a8fe33bb6341b0e35e60db7eab48a08f9a3a"): {1},
    ("TokenStoreCreated", "d8699a107a4fe8ea740423e52159bafb235249dce5c2df55fa265db06964d136"): {2},
    ("Transfer", "ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"): {3, 4},
    ("TransferReference", "7855a21bb35d93fe5a30e66615bc3857a3c381837ae3e655b44ea96c9456e80a"): {2},
    ("TransferWithMemo", "57bc7354aa85aed339e000bccffabbc529466af35f0772c8f8ee1145927de7f0"): {4},
    ("TransferWithReferenceAndFee", "9f16cbcc523c67a60c450e5ffe4f3b7b6dbe772e7abcadb2686ce029a9a0a2b6"): {2},
    ("UnBlacklisted", "117e3210bb9aa7d9baff172026820255c6f6c30ba8999d1c2fd88e2848137c4e"): {2},
    ("Unpause", "7805862f689e2f13df9f062ff482ad3ad112aca9e0847911ed832e158c525b33"): {1},
    ("Upgraded", "bc7cd75a20ee27fd9adebab32041f755214dbc6bffa90cc0225b39da2e5c2d3b"): {1, 2},
    ("UserOperationEvent", "49628fd1471006c1482da88028e9ce4dbb080b815c9b0344d39e5a8e6ec1419f"): {4},
}
"""Topic 0 by event, and how many topics its logs have, as issuers' and standards' sources say: EIP-20, EIP-721,
EIP-1967, EIP-3009, ERC-7699, Circle's stablecoin-evm, TetherToken, Paxos' token contracts, Tempo's TIP-20, Request
Network's ERC20FeeProxy, Base's commerce-payments, Safe 1.4.1, ERC-4337's EntryPoint, Chainalysis' oracle. Two counts
are two contracts: `Transfer` of ERC-721, `Upgraded` of Circle's proxy."""


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


@pytest.mark.parametrize("name", CONTRACTS)
def test_artifact__is_made_from_the_source_beside_it(name: str) -> None:
    source = json.loads((PACKAGE / "artifacts" / f"{name}.json").read_text())["source"]
    assert source == {"file": f"sources/{name}.sol", "sha256": LISTED[f"sources/{name}.sol"]}


def test_artifacts__can_be_deployed__but_for_the_base_of_others() -> None:
    assert [name for name in CONTRACTS if not artifact(name).bytecode] == ["TokenBase"]


def test_events__have_the_topics_of_the_contracts_they_are_modelled_on() -> None:
    """An argument's type or `indexed` that differs would make a test of ours pass where the real log fails."""
    own = {"Rebased"}
    found: dict[tuple[str, str], set[int]] = {}
    for name in CONTRACTS:
        for entry in artifact(name).abi:
            if entry["type"] == "event" and entry["name"] not in own:
                topics = 1 + sum(bool(each.get("indexed")) for each in entry["inputs"])
                found.setdefault((entry["name"], event_abi_to_log_topic(entry).hex()), set()).add(topics)
    assert found == REAL_EVENTS


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
