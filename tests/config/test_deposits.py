"""`[deposits]`: an extended public key is read, and a private one is never taken nor shown."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from chains.address import parse_address
from settler.config import ConfigError
from settler.domain.deposits import POOL_ONLY
from tests.config.samples import BASE, problems, read
from tests.support.wallet import ANVIL_ADDRESSES, SEED_WORDS, XPRV, XPUB


def test_load__without_a_table__addresses_come_from_the_pool(tmp_path: Path) -> None:
    assert read(tmp_path, BASE).deposit_policy() == POOL_ONLY


@pytest.mark.parametrize(
    ("path", "steps"), [("", "0"), ('xpub_path = "0"\n', "0"), ('xpub_path = "1/2"\n', "1/2"), ('xpub_path = ""\n', "")]
)
def test_load__extended_public_key__derives_the_addresses_of_its_wallet(tmp_path: Path, path: str, steps: str) -> None:
    settings = read(tmp_path, BASE + f'[deposits]\nxpub = "{XPUB}"\nquarantine_s = 60\n{path}')
    policy = settings.deposit_policy()
    assert policy.quarantine == timedelta(minutes=1)
    assert policy.key is not None
    assert policy.key.path == steps
    is_receiving = policy.key.address(3) == parse_address(ANVIL_ADDRESSES[3])
    assert is_receiving is (steps == "0")


def test_load__extended_public_key_from_a_file__is_read(tmp_path: Path) -> None:
    (tmp_path / "xpub").write_text(XPUB + "\n")
    policy = read(tmp_path, BASE, {"SETTLER__DEPOSITS__XPUB_FILE": str(tmp_path / "xpub")}).deposit_policy()
    assert policy.key is not None
    assert policy.key.address(0) == parse_address(ANVIL_ADDRESSES[0])


@pytest.mark.parametrize(
    ("line", "key", "says"),
    [
        (f'xpub = "{XPRV}"', "deposits.xpub", "is a private key, which can spend and which this program never holds"),
        (f'xpub = "{XPRV}"', "deposits.xpub", "give the extended public key of the account (xpub…) instead"),
        (f'xpub = "{XPRV[:-1]}"', "deposits.xpub", "is a private key"),
        (f'xpub = "{XPRV.replace("xprv", "tprv")}"', "deposits.xpub", "is a private key"),
        (f'xpub = "{SEED_WORDS}"', "deposits.xpub", "is a private key"),
        (f'xpub = "0x{"ab" * 32}"', "deposits.xpub", "is a private key"),
        (f'xpub = "{XPUB[:-1]}x"', "deposits.xpub", "has a wrong checksum"),
        (f'xpub = "{XPUB[:-5]}"', "deposits.xpub", "106 characters instead of 111"),
        ('xpub = ""', "deposits.xpub", "is no extended public key"),
        (f'xpub = ["{XPRV}"]', "deposits.xpub", "a list is not text"),
        (f'xprv = "{XPRV}"', "deposits.xprv", "is not a known key; known there are quarantine_s, xpub"),
        (f'xpub = "{XPUB}"\nxpub_path = "0\'"', "deposits.xpub_path", "has a hardened step"),
        (f'xpub = "{XPUB}"\nxpub_path = "m/0"', "deposits.xpub_path", "is no path"),
        (f'xpub_path = "{XPRV}"', "deposits.xpub_path", "is no path"),
        (f'xpub = "{XPUB}"\nxpub_path = 0', "deposits.xpub_path", "0 is not text; write it in quotes"),
        ("quarantine_s = -1", "deposits.quarantine_s", "-1 is out of range"),
        ("quarantine_s = true", "deposits.quarantine_s", "true is not a number"),
    ],
)
def test_load__wrong__is_named_without_the_key(tmp_path: Path, line: str, key: str, says: str) -> None:
    found = problems(tmp_path, f"{BASE}[deposits]\n{line}\n")
    assert list(found) == [key]
    assert says in found[key]
    for secret in (XPRV[4:30], XPUB[4:30], "test test", "abababab"):
        assert secret not in found[key]


def test_load__private_key_in_place_of_the_table__is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        read(tmp_path, f'deposits = "{XPRV}"\n{BASE}')
    assert XPRV[4:20] not in str(refused.value)


def test_load__private_key_from_a_variable__names_the_variable_and_not_the_key(tmp_path: Path) -> None:
    found = problems(tmp_path, BASE, {"SETTLER__DEPOSITS__XPUB": XPRV})
    assert "(set by SETTLER__DEPOSITS__XPUB)" in found["deposits.xpub"]
    assert XPRV[4:20] not in str(found)


def test_settings__repr__shows_nothing_of_the_key(tmp_path: Path) -> None:
    settings = read(tmp_path, BASE + f'[deposits]\nxpub = "{XPUB}"\n')
    assert XPUB[4:20] not in repr(settings) + str(settings) + repr(settings.deposit_policy())
