"""Up to which height a chain is final, by the operator's policy. Pure (RULES.md section 1).

#        final           head
#  .. 102 | 103  104  105        Depth(3): final once 3 blocks stand on it, height <= head - 3
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from chains.model import BlockNumber, BlockRef, Tag
from settler.domain.money import rescale_down


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """Final once `blocks` blocks stand on it."""

    blocks: int

    def __str__(self) -> str:
        return str(self.blocks)


@dataclass(frozen=True, slots=True, kw_only=True)
class ByTag:
    """Final as the node's `safe` or `finalized` tag says, and at least `min_depth` below the head (tags have been
    retracted).
    """

    tag: Tag
    min_depth: int = 0

    def __str__(self) -> str:
        return f"{self.tag} and {self.min_depth} blocks" if self.min_depth else str(self.tag)


FinalityPolicy = Depth | ByTag


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """A policy for small amounts: their risk is accepted."""

    up_to: int
    """The invoice's amount up to which it applies, in 10**-`FINEST_SCALE` of its currency."""
    policy: FinalityPolicy


def tier_of(tiers: Sequence[Tier], amount: int, scale: int) -> Tier | None:
    """The lowest tier that takes an amount in units of 10**-`scale`; `None`: the chain's own policy applies."""
    taking = [t for t in tiers if amount <= rescale_down(t.up_to, scale)]
    return min(taking, key=lambda t: t.up_to, default=None)


def final_height(policy: FinalityPolicy, *, head: int, tagged: int | None) -> BlockNumber | None:
    """The highest final height, `None` while there is none (a young chain, a tag not answered yet).

    `head`: number of the head the node reports. `tagged`: number behind the policy's tag.
    """
    match policy:
        case Depth(blocks=blocks):
            height = head - blocks
        case ByTag(min_depth=min_depth):
            if tagged is None:
                return None
            height = min(tagged, head - min_depth)
        case _:
            assert_never(policy)
    return BlockNumber(height) if height >= 0 else None


class TagFault(StrEnum):
    """Why a tag cannot be settled on. An error to show, never a silent fall-back to depth."""

    MISSING = "the node does not answer it"
    AHEAD = "it is above the node's own head"
    EQUALS_HEAD = "it equals the head on a chain whose blocks are not final at once"
    STUCK = "it trails the head by more than this chain allows"


def tag_fault(
    *, head: BlockRef | None, tagged: BlockRef | None, is_instant: bool, stuck_after_s: float
) -> TagFault | None:
    """What is wrong with a tag's answer, `None` if nothing. Head and tag are to come from one batch.

    `is_instant`: blocks of this chain are final at once, so the tag may equal the head. `stuck_after_s`: seconds
    of chain
    time by which the tagged block may trail the head.
    """
    if tagged is None or head is None:
        return TagFault.MISSING
    if tagged.number > head.number:
        return TagFault.AHEAD
    if tagged.number == head.number > 0 and not is_instant:
        return TagFault.EQUALS_HEAD
    if (head.time - tagged.time).total_seconds() > stuck_after_s:
        return TagFault.STUCK
    return None
