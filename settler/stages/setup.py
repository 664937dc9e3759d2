"""What a stage is told of the chain it serves. Built by the supervisor from the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from chains.model import TOKENS_ALONE, Address, BlockNumber, ChainId, LabelSources, LogQuery, Token
from chains.proof import Profile
from settler.domain.finality import FinalityPolicy, Tier
from settler.domain.settlement import InvoicePolicy
from settler.storage.watched import Watched


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceFeed:
    """A contract that says what one token is worth (Chainlink's AggregatorV3Interface)."""

    address: Address
    max_age: timedelta
    """Older than this an answer is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainSetup:
    name: str
    chain_id: ChainId
    tokens: tuple[Token, ...]
    finality: FinalityPolicy
    start_block: BlockNumber | Literal["latest"]
    tiers: tuple[Tier, ...] = ()
    """Policies for small amounts, the smallest first."""
    label_sources: LabelSources = TOKENS_ALONE
    """Contracts whose references are believed, beside the tokens."""
    quorum: int = 1
    """Providers that must agree before anything settles."""
    proof: Profile | None = None
    """How receipts are proven before a payment settles; `None`: they are not."""
    price_feeds: Mapping[Address, PriceFeed] = field(default_factory=dict)
    """By token; tokens without one are taken at par unasked."""
    depeg_floor: int = 0
    """In 10**-18 of the currency for one token: below it settlements are held."""
    sanctions_oracle: Address | None = None
    """Who is asked about payers; `None`: nobody."""
    is_instant: bool = False
    """Blocks are final at once: the finality tag may equal the head."""
    tag_stuck_after_s: float = 86_400.0
    """Chain time by which a tag may trail the head before it counts as stuck."""

    @property
    def token_addresses(self) -> frozenset[Address]:
        return frozenset(t.address for t in self.tokens)

    def query(self, watched: Watched) -> LogQuery:
        """What is asked of the chain's logs."""
        return LogQuery(
            tokens=self.token_addresses,
            recipients=watched.addresses,
            labelled=watched.labelled,
            sources=self.label_sources,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """By which rules invoices are judged, on every chain alike."""

    policy: InvoicePolicy
    reading: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """Under what each chain, by name, is settled: `finality`, `quorum`, `proof`, as it is stored on settlements."""
    tiers: Mapping[str, tuple[Tier, ...]] = field(default_factory=dict)
    """Of each chain that has any, by name."""
    version: str = ""
    """Names all of the rules in force: a digest of them, equal for equal rules. Stored on settlements."""
