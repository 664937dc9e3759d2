"""What a right configuration becomes."""

from __future__ import annotations

from pathlib import Path

import pytest

from chains import registry
from chains.address import to_checksum
from chains.model import Tag
from settler.config import ConfigError, load
from settler.domain.drafting import InvoiceDefaults
from settler.domain.finality import ByTag, Depth, FinalityPolicy
from settler.domain.settlement import InvoicePolicy, LatePolicy
from tests.config.samples import ACME, BASE, PRIVATE, RPC, read


def test_load__the_least_a_file_needs__has_the_promised_defaults(tmp_path: Path) -> None:
    settings = read(tmp_path, BASE)
    assert settings.database_url == "sqlite:///settler.db"
    assert str(settings.api.listen) == "127.0.0.1:8080"
    assert settings.api.auth == "keys"
    assert settings.invoice_defaults() == InvoiceDefaults(expires_in_s=3_600, monitoring_s=86_400)
    assert settings.invoice_policy() == InvoicePolicy(
        underpayment_tolerance_bps=0, underpayment_tolerance_max=0, late=LatePolicy.HOLD
    )
    assert settings.runtime.drain_timeout_s == 10
    assert not settings.webhooks.allow_private_addresses


def test_load__known_chain__brings_its_facts_along(tmp_path: Path) -> None:
    base = read(tmp_path, BASE).chains["base"]
    assert base.chain_id == 8453
    assert base.tokens == (registry.token(8453, "USDC"),)
    assert base.finality == ByTag(tag=Tag.FINALIZED)
    assert base.start_block == "latest"
    assert base.poll_interval_s == 1.0
    assert base.providers == ("base.example",)
    assert [url.get_secret_value() for url in base.rpc] == [RPC]
    assert (base.quorum, base.proof) == (1, "none")


def test_load__several_providers__are_named_by_their_hosts_and_two_must_agree(tmp_path: Path) -> None:
    urls = ["https://a.example/1", "wss://b.example/2", "https://a.example/3", "http://A.example:1/4"]
    base = read(tmp_path, BASE.replace(f'"{RPC}"', str(urls))).chains["base"]
    assert base.providers == ("a.example", "b.example", "a.example#2", "a.example#3")
    assert [url.get_secret_value() for url in base.rpc] == urls
    assert base.quorum == 2
    assert read(tmp_path, BASE.replace(f'"{RPC}"', str(urls)) + "quorum = 4\n").chains["base"].quorum == 4


def test_load__proof__is_the_default_where_recorded_blocks_of_a_main_net_were_proven(tmp_path: Path) -> None:
    ethereum = BASE.replace("chains.base", "chains.ethereum")
    assert read(tmp_path, ethereum).chains["ethereum"].proof == "receipts"
    assert read(tmp_path, ethereum + 'proof = "none"\n').chains["ethereum"].proof == "none"
    assert read(tmp_path, BASE + 'proof = "receipts"\n').chains["base"].proof == "receipts"
    anvil = BASE.replace("chains.base]", "chains.anvil]").replace('tokens = ["USDC"]', "") + (
        '[chains.anvil.token.ACME]\naddress = "0x5FbDB2315678afecb367f032d93F642f64180aa3"\ndecimals = 6\n'
    )
    assert read(tmp_path, anvil).chains["anvil"].proof == "none"


def test_load__unknown_chain__takes_what_is_given(tmp_path: Path) -> None:
    private = read(tmp_path, PRIVATE).chains["private"]
    assert private.chain_id == 424242
    assert private.facts is None
    assert private.finality == Depth(blocks=3)
    assert private.poll_interval_s == 2.0
    (acme,) = private.tokens
    assert (acme.symbol, to_checksum(acme.address), acme.decimals, acme.currency) == ("ACME", ACME, 6, "USD")


def test_load__chain_id_of_a_known_chain_under_another_name__has_its_facts(tmp_path: Path) -> None:
    mine = read(tmp_path, BASE.replace("[chains.base]", "[chains.mine]\nchain_id = 8453")).chains["mine"]
    assert mine.facts is registry.known_chain("base")
    assert mine.finality == ByTag(tag=Tag.FINALIZED)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ('"finalized"', ByTag(tag=Tag.FINALIZED)),
        ('"safe"', ByTag(tag=Tag.SAFE)),
        ("12", Depth(blocks=12)),
        ('{ tag = "finalized", min_depth = 50 }', ByTag(tag=Tag.FINALIZED, min_depth=50)),
        ('{ tag = "safe" }', ByTag(tag=Tag.SAFE)),
    ],
)
def test_load__finality__in_all_its_forms(tmp_path: Path, written: str, meant: FinalityPolicy) -> None:
    assert read(tmp_path, BASE + f"finality = {written}\n").chains["base"].finality == meant


@pytest.mark.parametrize(
    ("chain", "interval_s"), [("ethereum", 4.0), ("base", 1.0), ("arbitrum", 0.5), ("anvil", 0.5), ("gnosis", 2.5)]
)
def test_load__poll_interval__is_half_a_block_within_bounds(tmp_path: Path, chain: str, interval_s: float) -> None:
    text = f'[chains.{chain}]\nrpc = "http://a.example"\n[chains.{chain}.token.T]\naddress = "{ACME}"\ndecimals = 6\n'
    assert read(tmp_path, text).chains[chain].poll_interval_s == interval_s


def test_load__every_known_chain_with_finality_and_tokens__loads(tmp_path: Path) -> None:
    for facts in registry.all_chains():
        known = [k.token.symbol for k in registry.all_tokens() if k.token.chain_id == facts.chain_id]
        finality = "" if facts.finality is not None else "finality = 5\n"
        text = f'[chains.{facts.key}]\nrpc = "http://a.example"\n{finality}tokens = {known}\n'
        if not known:
            text += f'[chains.{facts.key}.token.T]\naddress = "{ACME}"\ndecimals = 6\n'
        chain = read(tmp_path, text).chains[facts.key]
        assert chain.chain_id == facts.chain_id
        assert len(chain.tokens) == max(1, len(known))


def test_load__what_this_version_has_one_value_for__may_be_written(tmp_path: Path) -> None:
    assert read(tmp_path, BASE + 'quorum = 1\nproof = "none"\n').chains["base"].chain_id == 8453


def test_load__a_token_of_ones_own_named_in_tokens__is_the_one_given(tmp_path: Path) -> None:
    text = (
        BASE.replace('["USDC"]', '["ACME", "USDC"]') + f'[chains.base.token.ACME]\naddress = "{ACME}"\ndecimals = 2\n'
    )
    offer = read(tmp_path, text).catalog()["base"]
    assert sorted(offer.tokens) == ["ACME", "USDC"]
    assert offer.tokens["ACME"].decimals == 2


def test_load__tolerance__is_in_the_finest_scale(tmp_path: Path) -> None:
    text = '[invoices]\nunderpayment_tolerance_bps = 50\nunderpayment_tolerance_max = "1.5"\nlate = "accept"\n' + BASE
    assert read(tmp_path, text).invoice_policy() == InvoicePolicy(
        underpayment_tolerance_bps=50, underpayment_tolerance_max=1_500_000_000_000_000_000, late=LatePolicy.ACCEPT
    )


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "[::1]:8080", "localhost:80", "127.8.8.8:1"])
def test_load__auth_none__on_loopback_only(tmp_path: Path, listen: str) -> None:
    settings = read(tmp_path, f'[api]\nlisten = "{listen}"\nauth = "none"\n' + BASE)
    assert settings.api.listen.is_loopback
    assert str(settings.api.listen) == listen


def test_load__the_settings__cannot_be_changed(tmp_path: Path) -> None:
    settings = read(tmp_path, BASE)
    with pytest.raises(AttributeError):
        settings.chains = {}  # type: ignore[misc]  # that is the point
    with pytest.raises(TypeError):
        settings.chains["x"] = settings.chains["base"]  # type: ignore[index]  # that is the point


def test_load__no_file__names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nope\.toml: cannot be read: No such file or directory; .* -c"):
        load(tmp_path / "nope.toml", {})
