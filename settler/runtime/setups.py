"""What the stages are told of each chain, from the settings: for the daemon, and for commands that do its work once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import assert_never

from settler.config import ChainSettings, Settings
from settler.domain.finality import ByTag, Depth
from settler.runtime.providers import proof_profile
from settler.stages.setup import ChainSetup, Judgement, PriceFeed

INSTANT_FINALITY_S = 2.0
"""A chain known to be final within this: its finality tag may equal the head."""
TAG_STUCK_AFTER_S = 86_400.0
"""At least; on chains known to need longer, four times their longest usual time to finality."""


def setup_of(chain: ChainSettings) -> ChainSetup:
    return ChainSetup(
        name=chain.name,
        chain_id=chain.chain_id,
        tokens=chain.tokens,
        finality=chain.finality,
        start_block=chain.start_block,
        quorum=chain.quorum,
        proof=proof_profile(chain),
        tiers=chain.tiers,
        label_sources=chain.label_sources,
        price_feeds={
            token: PriceFeed(address=feed.address, max_age=timedelta(seconds=feed.max_age_s))
            for token, feed in chain.price_feeds.items()
        },
        depeg_floor=chain.depeg_floor,
        sanctions_oracle=chain.sanctions_oracle,
        is_instant=chain.facts is not None and chain.facts.typical_finality_s[1] <= INSTANT_FINALITY_S,
        tag_stuck_after_s=tag_stuck_after_s(chain),
    )


def tag_stuck_after_s(chain: ChainSettings) -> float:
    """Chain time by which a finality tag may trail the head before it counts as stuck."""
    slowest_s = chain.facts.typical_finality_s[1] if chain.facts is not None else 0.0
    return max(TAG_STUCK_AFTER_S, 4 * slowest_s)


def usual_finality_s(chain: ChainSettings) -> float | None:
    """The longest usual time from a block to its finality by the configured policy; `None`: the chain is not known."""
    if chain.facts is None:
        return None
    match chain.finality:
        case Depth(blocks=blocks):
            return blocks * chain.facts.block_time_s
        case ByTag(min_depth=min_depth):
            return max(chain.facts.typical_finality_s[1], min_depth * chain.facts.block_time_s)
        case _:
            assert_never(chain.finality)


def judgement_of(settings: Settings) -> Judgement:
    reading = {
        name: {"finality": str(chain.finality), "quorum": chain.quorum, "proof": chain.proof}
        for name, chain in settings.chains.items()
    }
    return Judgement(
        policy=settings.invoice_policy(),
        reading=reading,
        tiers={name: chain.tiers for name, chain in settings.chains.items() if chain.tiers},
        version=_version(settings, reading),
    )


def _version(settings: Settings, reading: Mapping[str, Mapping[str, object]]) -> str:
    """A digest of every rule by which invoices are judged: who asks later sees whether two settlements had the same."""
    rules = {
        "invoices": settings.invoices.model_dump(mode="json"),
        "policy": settings.policy.model_dump(mode="json"),
        "chains": {
            name: {
                **reading[name],
                "tiers": [[tier.up_to, str(tier.policy)] for tier in chain.tiers],
                "price_feeds": sorted([t.hex(), f.address.hex(), f.max_age_s] for t, f in chain.price_feeds.items()),
                "sanctions_oracle": None if chain.sanctions_oracle is None else chain.sanctions_oracle.hex(),
            }
            for name, chain in settings.chains.items()
        },
    }
    text = json.dumps(rules, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()[:16]
