"""The shipped data against what is known of the best-known tokens."""

from __future__ import annotations

import re

import pytest

from chains import registry
from chains.address import parse_address, to_checksum
from chains.model import Tag

# (chain, symbol, address, decimals): Circle's and Tether's own pages, and what every wallet shows
BEST_KNOWN = [
    ("ethereum", "USDC", "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48", 6),
    ("base", "USDC", "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913", 6),
    ("arbitrum", "USDC", "0xaf88d065e77c8cC2239327C5EDb3A432268e5831", 6),
    ("optimism", "USDC", "0x0b2C639c533813f4Aa9D7837CAf62653d097Ff85", 6),
    ("polygon", "USDC", "0x3c499c542cEF5E3811e1192ce70d8cC03d5c3359", 6),
    ("avalanche", "USDC", "0xB97EF9Ef8734C71904D8002F8b6Bc66Dd9c48a6E", 6),
    ("bnb", "USDC", "0x8AC76a51cc950d9822D68b83fE1Ad97B32Cd580d", 18),
    ("ethereum", "USDT", "0xdAC17F958D2ee523a2206206994597C13D831ec7", 6),
    ("bnb", "USDT", "0x55d398326f99059fF775485246999027B3197955", 18),
    ("avalanche", "USDT", "0x9702230A8Ea53601f5cD2dc00fDBc13d4dF4A8c7", 6),
    ("arbitrum", "USDT0", "0xFd086bC7CD5C481DCC9C85ebE478A1C0b69FCbb9", 6),
    ("ethereum", "DAI", "0x6B175474E89094C44Da98b954EedeAC495271d0F", 18),
    ("ethereum", "EURC", "0x1aBaEA1f7C830bD89Acc67eC4af516284b1bC33c", 6),
    ("ethereum", "PYUSD", "0x6c3ea9036406852006290770BEdFcAbA0e23A0e8", 6),
    ("sepolia", "USDC", "0x1c7D4B196Cb0C7B01d743Fbc6116a902379C7238", 6),
    ("base-sepolia", "USDC", "0x036CbD53842c5426634e7929541eC2318f3dCF7e", 6),
]


@pytest.mark.parametrize(("chain", "symbol", "address", "decimals"), BEST_KNOWN)
def test_token__best_known(chain: str, symbol: str, address: str, decimals: int) -> None:
    facts = registry.known_chain(chain)
    assert facts is not None
    token = registry.token(facts.chain_id, symbol)
    assert token is not None
    assert (to_checksum(token.address), token.decimals) == (address, decimals)
    assert token.currency == ("EUR" if symbol == "EURC" else "USD")


@pytest.mark.parametrize(
    "known", registry.all_tokens(), ids=lambda known: f"{known.token.chain_id}-{known.token.symbol}"
)
def test_tokens__each__is_whole(known: registry.KnownToken) -> None:
    assert parse_address(to_checksum(known.token.address)) == known.token.address
    assert known.token.decimals in {6, 18}
    assert known.token.currency in {"USD", "EUR"}
    assert known.token.symbol.isascii()
    assert known.token.symbol.isprintable()
    assert len(known.sources) >= 2
    assert registry.token(known.token.chain_id, known.token.symbol) == known.token
    for alias in known.aliases:
        assert registry.token(known.token.chain_id, alias) == known.token


def test_tokens__addresses__are_unique_on_their_chain() -> None:
    places = [(known.token.chain_id, known.token.address) for known in registry.all_tokens()]
    assert len(set(places)) == len(places)
    assert len(places) >= 90


@pytest.mark.parametrize(("chain_id", "symbol"), [(42161, "PYUSD"), (130, "USDS"), (43114, "DAI"), (324, "DAI")])
def test_tokens__with_conflicting_sources__are_not_shipped(chain_id: int, symbol: str) -> None:
    assert registry.token(chain_id, symbol) is None


def test_token__unknown_or_spelt_otherwise__is_none() -> None:
    assert registry.token(1, "NOPE") is None
    assert registry.token(1, "usdc") is None
    assert registry.token(999_999_999, "USDC") is None


def test_token__tether_zero__has_an_ascii_name_and_its_own() -> None:
    token = registry.token(42161, "USDT0")
    assert token is not None
    assert token.onchain_symbol == "USD₮0"
    assert registry.token(42161, "USD₮0") == registry.token(42161, "USDT") == token


def test_chains__keys_and_ids() -> None:
    assert len({chain.chain_id for chain in registry.all_chains()}) == len(registry.all_chains()) == 33
    for chain in registry.all_chains():
        assert chain.key == chain.key.lower()
        assert chain.key.isascii()
        assert registry.known_chain(chain.key) is chain
        assert registry.chain_by_id(chain.chain_id) is chain
        assert chain.sources
    assert registry.known_chain("Ethereum") is None
    assert registry.chain_by_id(0) is None


@pytest.mark.parametrize(
    ("chain", "min_depth"), [("ethereum", 0), ("base", 0), ("polygon", 50), ("bnb", 15), ("monad", 4), ("anvil", 0)]
)
def test_chains__default_finality__is_the_tag_with_its_least_depth(chain: str, min_depth: int) -> None:
    facts = registry.known_chain(chain)
    assert facts is not None
    assert facts.finality == registry.FinalityFacts(tag=Tag.FINALIZED, min_depth=min_depth)
    assert facts.has_finalized_tag


@pytest.mark.parametrize("chain", ["scroll", "sonic", "plasma", "arc", "hyperevm"])
def test_chains__unverified_tags__give_no_default(chain: str) -> None:
    facts = registry.known_chain(chain)
    assert facts is not None
    assert facts.finality is None
    assert facts.has_finalized_tag is None


def test_chains__linea__has_no_safe_tag() -> None:
    facts = registry.known_chain("linea")
    assert facts is not None
    assert facts.has_safe_tag is False


def test_chains__explorers__are_web_sites_of_their_own_chain() -> None:
    known = {chain.key: chain.explorer for chain in registry.all_chains() if chain.explorer is not None}
    assert known["base"] == "https://basescan.org"
    assert len(set(known.values())) == len(known) == 31, "two chains with one explorer: one link is wrong"
    assert all(re.fullmatch(r"https://[a-z0-9.-]+", url) for url in known.values()), "paths are put after it as it is"
