"""Up to which height the chain is final, and whether the settled block still stands: by what a quorum shows. Pure.

provider   settled block   finalized
a          ours            140          quorum 2: 138 is final, both say so
b          ours            138
c          another         190          differs; believed only if as many as the quorum showed that other block
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from chains.errors import ChainError, Disagreement, NodeInconsistent
from chains.model import BlockNumber, BlockRef, Tag
from chains.pool import LAGGING_BLOCKS
from chains.quorum import Agreed, judge
from chains.reader import ChainReader
from settler.domain.finality import ByTag, TagFault, final_height, tag_fault
from settler.stages.setup import ChainSetup


class TagUnusable(ChainError):
    """The finality tag is missing, stuck or ahead. The tick fails and says why; nothing settles, there is no
    fall-back to depth.
    """

    label = "tag_unusable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one provider shows, in one batch."""

    head: BlockRef
    tagged: BlockRef | None
    """The block of the policy's tag; `None` also where the policy has none."""
    anchor: BlockRef | None
    """What it has at the settled height."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Final:
    """`number` is final as far as a quorum says; `None`: nothing is yet."""

    number: BlockNumber | None
    head: BlockNumber | None
    """The head that a quorum has reached; `None`: too few have what we settled."""
    block: BlockRef | None
    """Its header, where one came with the answers."""
    against: tuple[str, ...]
    """Providers that show another block at the settled height."""


@dataclass(frozen=True, slots=True)
class AskOn:
    """Too few have been asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replaced:
    """A quorum shows another block at the settled height: a finality violation, if it lasts."""

    by: tuple[str, ...]


async def look(reader: ChainReader, chain: ChainSetup, settled: BlockRef) -> Look:
    """Two calls with a depth, three with a tag, in one batch."""
    policy = chain.finality
    wanted: list[BlockNumber | Tag] = [Tag.LATEST, settled.number]
    if isinstance(policy, ByTag):
        wanted.append(policy.tag)
    head, anchor, *tagged = await reader.headers(wanted)
    if head is None:
        raise NodeInconsistent("the node answers no latest block")
    return Look(head=head, anchor=anchor, tagged=tagged[0] if tagged else None)


def weigh(
    looks: Mapping[str, Look], *, chain: ChainSetup, settled: BlockRef, has_others: bool
) -> Final | AskOn | Replaced:
    """What the looks come to. `has_others`: there are providers that were not asked.

    Raises, when nobody is left to ask: `Disagreement`, `TagUnusable`.
    """
    shown = {name: each.anchor.hash for name, each in looks.items() if each.anchor is not None}
    verdict = judge(shown, chain.quorum)
    if not isinstance(verdict, Agreed):
        if has_others:
            return AskOn()
        if set(shown.values()) <= {settled.hash}:
            # the others lag: that is no news
            return Final(number=None, head=None, block=None, against=())
        raise Disagreement(f"providers show different blocks at the settled height {settled.number}; nothing settles")
    if shown[verdict.by[0]] != settled.hash:
        return Replaced(by=verdict.by)
    faults = {name: fault for name in verdict.by if (fault := _fault(looks[name], chain)) is not None}
    heights = sorted(
        ((_height(looks[name], chain), name) for name in verdict.by if name not in faults),
        key=lambda each: -1 if each[0] is None else each[0],
        reverse=True,
    )
    if len(heights) < chain.quorum:
        if has_others:
            return AskOn()
        raise _unusable(faults, chain)
    number, name = heights[chain.quorum - 1]
    highest = heights[0][0]
    if has_others and highest is not None and highest - (number or 0) > LAGGING_BLOCKS:
        # one of them lags: the others may say more
        return AskOn()
    tagged = looks[name].tagged
    heads = sorted((looks[each].head.number for _, each in heights), reverse=True)
    return Final(
        number=number,
        head=heads[chain.quorum - 1],
        block=tagged if tagged is not None and tagged.number == number else None,
        against=verdict.against,
    )


def _height(seen: Look, chain: ChainSetup) -> BlockNumber | None:
    tagged = None if seen.tagged is None else seen.tagged.number
    return final_height(chain.finality, head=seen.head.number, tagged=tagged)


def _fault(seen: Look, chain: ChainSetup) -> TagFault | None:
    if not isinstance(chain.finality, ByTag):
        return None
    return tag_fault(
        head=seen.head, tagged=seen.tagged, is_instant=chain.is_instant, stuck_after_s=chain.tag_stuck_after_s
    )


def _unusable(faults: Mapping[str, TagFault], chain: ChainSetup) -> TagUnusable:
    assert isinstance(chain.finality, ByTag), "only tags have faults"
    told = "; ".join(dict.fromkeys(fault.value for fault in faults.values()))
    return TagUnusable(
        f"the {chain.finality.tag} tag cannot be settled on: {told} ({', '.join(faults)}); "
        f"nothing settles on {chain.name} until it is right"
    )
