"""Variables laid over the file, and secrets read from files."""

from __future__ import annotations

from pathlib import Path

import pytest

from settler.config import anvil_program
from settler.domain.finality import Depth
from tests.config.samples import BASE, PRIVATE, RPC, problems, read


def test_load__variables__override_the_file(tmp_path: Path) -> None:
    settings = read(
        tmp_path,
        BASE,
        {
            "SETTLER__DATABASE__URL": "sqlite:///other.db",
            "SETTLER__INVOICES__EXPIRES_IN_S": "60",
            "SETTLER__INVOICES__UNDERPAYMENT_TOLERANCE_MAX": "5",
            "SETTLER__WEBHOOKS__ALLOW_PRIVATE_ADDRESSES": "true",
            "SETTLER__CHAINS__BASE__RPC": "https://elsewhere.example/key",
            "SETTLER__CHAINS__BASE__FINALITY": "7",
            "SETTLER__CHAINS__BASE__TOKENS": '["USDC", "EURC"]',
            "SETTLER__RUNTIME__DRAIN_TIMEOUT_S": "2.5",
            "SETTLER_PORT": "tcp://10.0.0.1:80",
            "PATH": "/bin",
        },
    )
    base = settings.chains["base"]
    assert settings.database_url == "sqlite:///other.db"
    assert settings.invoices.expires_in_s == 60
    assert settings.webhooks.allow_private_addresses
    assert settings.runtime.drain_timeout_s == 2.5
    assert base.providers == ("elsewhere.example",)
    assert base.finality == Depth(blocks=7)
    assert [t.symbol for t in base.tokens] == ["USDC", "EURC"]


def test_load__variables__reach_keys_with_hyphens_and_capitals(tmp_path: Path) -> None:
    text = '[chains.base-sepolia]\nrpc = "http://a.example"\ntokens = ["USDC"]\n' + PRIVATE
    settings = read(
        tmp_path,
        text,
        {
            "SETTLER__CHAINS__BASE_SEPOLIA__RPC": "http://b.example",
            "SETTLER__CHAINS__PRIVATE__TOKEN__ACME__DECIMALS": "18",
        },
    )
    assert settings.chains["base-sepolia"].providers == ("b.example",)
    assert settings.chains["private"].tokens[0].decimals == 18


def test_load__a_chain_from_variables_alone(tmp_path: Path) -> None:
    environ = {"SETTLER__CHAINS__BASE__RPC": RPC, "SETTLER__CHAINS__BASE__TOKENS": '["USDC"]'}
    assert read(tmp_path, "", environ).chains["base"].chain_id == 8453


def test_load__file_variable__reads_a_secret(tmp_path: Path) -> None:
    secret = tmp_path / "rpc"
    secret.write_text("https://from-a-file.example/key\n")
    settings = read(tmp_path, BASE, {"SETTLER__CHAINS__BASE__RPC_FILE": str(secret)})
    assert settings.chains["base"].rpc[0].get_secret_value() == "https://from-a-file.example/key"


@pytest.mark.parametrize(
    ("environ", "key", "message"),
    [
        ({"SETTLER__DATABASE__ULR": "x"}, "database.ulr", "did you mean url? (set by SETTLER__DATABASE__ULR)"),
        (
            {"SETTLER__INVOICES__EXPIRES_IN_S": "soon"},
            "invoices.expires_in_s",
            "(set by SETTLER__INVOICES__EXPIRES_IN_S)",
        ),
        ({"SETTLER__DATABASE__URL_FILE": "/nope"}, "SETTLER__DATABASE__URL_FILE", "the file /nope cannot be read"),
        ({"SETTLER__CHAINS__BASE__TOKENS": '["USDC'}, "SETTLER__CHAINS__BASE__TOKENS", "is no valid TOML"),
        ({"SETTLER__CHAINS__BASE__RPC__X": "x"}, "SETTLER__CHAINS__BASE__RPC__X", "chains.base.rpc is not a table"),
        ({"SETTLER__": "x"}, "SETTLER__", "names no key"),
        ({"SETTLER__FOO": "x"}, "foo", "is not a known key"),
    ],
)
def test_load__wrong_variable__is_named(tmp_path: Path, environ: dict[str, str], key: str, message: str) -> None:
    found = problems(tmp_path, BASE, environ)
    assert list(found) == [key]
    assert message in found[key]


def test_load__value_and_file_both__is_refused(tmp_path: Path) -> None:
    environ = {"SETTLER__DATABASE__URL": "sqlite:///a.db", "SETTLER__DATABASE__URL_FILE": "/run/x"}
    assert "unset one of the two" in problems(tmp_path, BASE, environ)["SETTLER__DATABASE__URL_FILE"]


def test_load__ipv6_address_to_listen_on__is_no_list(tmp_path: Path) -> None:
    """It was refused as bad TOML: what begins with a bracket was taken for a list."""
    assert str(read(tmp_path, BASE, {"SETTLER__API__LISTEN": "[::1]:8080"}).api.listen) == "[::1]:8080"


def test_anvil_program__comes_from_the_environment() -> None:
    assert anvil_program({}) is None
    assert anvil_program({"SETTLER_ANVIL": ""}) is None
    assert anvil_program({"SETTLER_ANVIL": "/opt/anvil"}) == "/opt/anvil"


def test_load__unknown_key_from_a_variable__names_the_variable(tmp_path: Path) -> None:
    """Nobody finds `databas` in a file that does not have it."""
    found = problems(tmp_path, BASE, {"SETTLER__DATABAS__URL": "sqlite:///other.db"})
    assert found == {"databas": "is not a known key; did you mean database? (set by SETTLER__DATABAS__URL)"}
