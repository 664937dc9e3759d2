"""Chains and tokens that are known by name: data with sources, in `chains/data`, checked when first read.

A default, not an authority: no chain was asked when the data was gathered, so a program that uses an entry still asks
the node for `eth_chainId`, code and `decimals()` before it trusts one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TypeVar

import msgspec

from chains.address import parse_address
from chains.model import Address, ChainId, Tag, Token

E = TypeVar("E")
K = TypeVar("K")
V = TypeVar("V")

DECIMALS_MAX = 36
"""Beyond it is a typing error: 18 is the most any stablecoin has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalityFacts:
    """A recommended policy: final when `tag` has reached the block and `min_depth` blocks stand on it."""

    tag: Tag
    min_depth: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainFacts:
    key: str
    """The name a configuration uses: `base`."""
    name: str
    chain_id: ChainId
    block_time_s: float
    """0 where blocks come on demand (anvil)."""
    is_testnet: bool
    has_safe_tag: bool | None
    """`None`: nobody has verified it."""
    has_finalized_tag: bool | None
    finality: FinalityFacts | None
    """The strictest policy the chain is known to keep; `None`: the operator has to choose one."""
    typical_finality_s: tuple[float, float]
    """From block to final, the usual range."""
    explorer: str | None
    """A web site that shows a transaction at `/tx/0x…` below this address; `None`: none is known."""
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownToken:
    token: Token
    name: str
    issuer: str
    representation: str
    """`native`, `bridged`, `binance-peg`, `oft` …: who redeems it."""
    aliases: tuple[str, ...]
    """Other names a configuration may use for it on its chain."""
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownContracts:
    """Contracts of one chain, beside its tokens, that may be believed for what they say."""

    request_proxies: tuple[Address, ...] = ()
    """Request Network's ERC20FeeProxy."""
    payment_escrows: tuple[Address, ...] = ()
    """AuthCaptureEscrow of Base commerce-payments."""
    sanctions_oracle: Address | None = None
    """Chainalysis'."""


def known_contracts(chain_id: int) -> KnownContracts:
    return _contracts().get(ChainId(chain_id), KnownContracts())


def known_chain(name: str) -> ChainFacts | None:
    """The chain of a key such as `base`, `None` if it is not known."""
    return _chains().by_key.get(name)


def chain_by_id(chain_id: int) -> ChainFacts | None:
    return _chains().by_id.get(ChainId(chain_id))


def token(chain_id: int, symbol: str) -> Token | None:
    """The token of a symbol or an alias on one chain; spelt exactly (`USDe` and `USDE` are different coins)."""
    found = known_token(chain_id, symbol)
    return found.token if found is not None else None


def known_token(chain_id: int, symbol: str) -> KnownToken | None:
    """As `token`, with what is known beside it."""
    return _tokens().get((ChainId(chain_id), symbol))


def all_chains() -> tuple[ChainFacts, ...]:
    return tuple(_chains().by_key.values())


def all_tokens() -> tuple[KnownToken, ...]:
    return tuple(dict.fromkeys(_tokens().values()))


# -- the files ---------------------------------------------------------------------------------------------------------


class _Finality(msgspec.Struct, forbid_unknown_fields=True):
    tag: Tag
    min_depth: int = 0


class _Chain(msgspec.Struct, forbid_unknown_fields=True):
    key: str
    name: str
    chain_id: int
    block_time_s: float
    is_testnet: bool
    typical_finality_s: tuple[float, float]
    confidence: str
    sources: tuple[str, ...]
    safe_tag: bool | None = None
    finalized_tag: bool | None = None
    finality: _Finality | None = None
    explorer: str | None = None


class _Token(msgspec.Struct, forbid_unknown_fields=True):
    chain_id: int
    symbol: str
    name: str
    address: str
    decimals: int
    currency: str
    issuer: str
    representation: str
    decimals_basis: str
    sources: tuple[str, ...]
    aliases: tuple[str, ...] = ()
    onchain_symbol: str | None = None
    any_symbol: bool = False


class _ChainsFile(msgspec.Struct, forbid_unknown_fields=True):
    chain: list[_Chain]


class _TokensFile(msgspec.Struct, forbid_unknown_fields=True):
    token: list[_Token]


class _Contracts(msgspec.Struct, forbid_unknown_fields=True):
    chain_id: int
    sources: tuple[str, ...]
    request_proxies: tuple[str, ...] = ()
    payment_escrows: tuple[str, ...] = ()
    sanctions_oracle: str | None = None


class _ContractsFile(msgspec.Struct, forbid_unknown_fields=True):
    chain: list[_Contracts]


@cache
def _contracts() -> Mapping[ChainId, KnownContracts]:
    return _unique(
        (
            ChainId(raw.chain_id),
            KnownContracts(
                request_proxies=tuple(map(parse_address, raw.request_proxies)),
                payment_escrows=tuple(map(parse_address, raw.payment_escrows)),
                sanctions_oracle=None if raw.sanctions_oracle is None else parse_address(raw.sanctions_oracle),
            ),
        )
        for raw in _read("contracts.toml", _ContractsFile).chain
    )


@dataclass(frozen=True, slots=True)
class _ChainIndex:
    by_key: Mapping[str, ChainFacts]
    by_id: Mapping[ChainId, ChainFacts]


@cache
def _chains() -> _ChainIndex:
    facts = [_chain_facts(raw) for raw in _read("chains.toml", _ChainsFile).chain]
    return _ChainIndex(
        by_key=_unique((each.key, each) for each in facts), by_id=_unique((each.chain_id, each) for each in facts)
    )


@cache
def _tokens() -> Mapping[tuple[ChainId, str], KnownToken]:
    known = [_known_token(raw) for raw in _read("tokens.toml", _TokensFile).token]
    _unique(((each.token.chain_id, each.token.address), each) for each in known)
    return _unique(((each.token.chain_id, name), each) for each in known for name in (each.token.symbol, *each.aliases))


def _read(name: str, shape: type[E]) -> E:
    return msgspec.toml.decode((files("chains.data") / name).read_bytes(), type=shape)


def _chain_facts(raw: _Chain) -> ChainFacts:
    return ChainFacts(
        key=raw.key,
        name=raw.name,
        chain_id=ChainId(raw.chain_id),
        block_time_s=raw.block_time_s,
        is_testnet=raw.is_testnet,
        has_safe_tag=raw.safe_tag,
        has_finalized_tag=raw.finalized_tag,
        finality=FinalityFacts(tag=raw.finality.tag, min_depth=raw.finality.min_depth) if raw.finality else None,
        typical_finality_s=raw.typical_finality_s,
        explorer=raw.explorer,
        sources=raw.sources,
    )


def _known_token(raw: _Token) -> KnownToken:
    if not 0 <= raw.decimals <= DECIMALS_MAX:
        raise ValueError(f"{raw.symbol} on {raw.chain_id}: {raw.decimals} decimals")
    return KnownToken(
        token=Token(
            chain_id=ChainId(raw.chain_id),
            symbol=raw.symbol,
            address=parse_address(raw.address),
            decimals=raw.decimals,
            currency=raw.currency,
            onchain_symbol=raw.onchain_symbol,
            is_symbol_known=not raw.any_symbol,
        ),
        name=raw.name,
        issuer=raw.issuer,
        representation=raw.representation,
        aliases=raw.aliases,
        sources=raw.sources,
    )


def _unique(pairs: Iterable[tuple[K, V]]) -> dict[K, V]:
    """Raises `ValueError` where a dict would silently keep the last."""
    found: dict[K, V] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the registry has {key} twice")
        found[key] = value
    return found
