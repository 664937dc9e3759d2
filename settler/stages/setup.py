"""What a stage is told of the chain it serves. Built by the supervisor from the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from chains.model import TOKENS_ALONE, Address, BlockNumber, ChainId, LabelSources, LogQuery, Token
from chains.proof import Profile
from settler.domain.finality import FinalityPolicy
from settler.domain.settlement import InvoicePolicy
from settler.storage.chains import Watched


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainSetup:
    name: str
    chain_id: ChainId
    tokens: tuple[Token, ...]
    finality: FinalityPolicy
    start_block: BlockNumber | Literal["latest"]
    label_sources: LabelSources = TOKENS_ALONE
    """Contracts whose references are believed, beside the tokens."""
    quorum: int = 1
    """Providers that must agree before anything settles."""
    proof: Profile | None = None
    """How receipts are proven before a payment settles; `None`: they are not."""
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
