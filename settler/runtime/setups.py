"""What the stages are told of each chain, from the settings: for the daemon, and for commands that do its work once."""

from __future__ import annotations

from settler.config import ChainSettings, Settings
from settler.runtime.providers import proof_profile
from settler.stages.setup import ChainSetup, Judgement

INSTANT_FINALITY_S = 2.0
"""A chain known to be final within this: its finality tag may equal the head."""
TAG_STUCK_AFTER_S = 86_400.0
"""At least; on chains known to need longer, four times their longest usual time to finality."""


def setup_of(chain: ChainSettings) -> ChainSetup:
    slowest_s = chain.facts.typical_finality_s[1] if chain.facts is not None else 0.0
    return ChainSetup(
        name=chain.name,
        chain_id=chain.chain_id,
        tokens=chain.tokens,
        finality=chain.finality,
        start_block=chain.start_block,
        quorum=chain.quorum,
        proof=proof_profile(chain),
        is_instant=chain.facts is not None and slowest_s <= INSTANT_FINALITY_S,
        tag_stuck_after_s=max(TAG_STUCK_AFTER_S, 4 * slowest_s),
    )


def judgement_of(settings: Settings) -> Judgement:
    return Judgement(
        policy=settings.invoice_policy(),
        reading={
            name: {"finality": str(chain.finality), "quorum": chain.quorum, "proof": chain.proof}
            for name, chain in settings.chains.items()
        },
    )
