"""Whether what a node shows continues what we hold. Pure (RULES.md section 1).

Unit of truth is (number, hash). A head that goes backwards is a lagging node; another hash at a height we hold is
a fork.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chains.model import BlockNumber, BlockRef


@dataclass(frozen=True, slots=True)
class Extends:
    """The newest block we hold is still in the chain."""


@dataclass(frozen=True, slots=True)
class Forked:
    """The chain was replaced above `ancestor`, the highest block we hold that is still in it."""

    ancestor: BlockRef


@dataclass(frozen=True, slots=True)
class Behind:
    """The node lacks a block we hold, and shows no other in its place: it lags. Do nothing."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """Not even the oldest block we hold is in it: a fork below everything we know, to be judged by the settle stage."""


Continuity = Extends | Forked | Behind | Foreign


def compare(ours: Sequence[BlockRef], theirs: Mapping[BlockNumber, BlockRef | None]) -> Continuity:
    """Our held headers (ascending, the last is the cursor) against the node's view of the same heights.

    `theirs` must have an entry for each of `ours`; `None` where the node has no such block.
    """
    assert ours, "compare needs at least the cursor's header"
    newest = theirs[ours[-1].number]
    if newest is None:
        return Behind()
    if newest.hash == ours[-1].hash:
        return Extends()
    for held in reversed(ours):
        shown = theirs[held.number]
        if shown is not None and shown.hash == held.hash:
            return Forked(ancestor=held)
    return Foreign()
