"""Which of several providers' answers is believed: the one that enough of them give alike. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from chains.model import SpanRead


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreed:
    """`by` gave the answer, at least as many as were needed; `against` gave others. Names in the order of asking."""

    by: tuple[str, ...]
    against: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Undecided:
    """No answer came from enough of them."""

    parties: tuple[tuple[str, ...], ...]
    """Who gave the same answer as whom, largest first."""


Verdict = Agreed | Undecided


def judge(answers: Mapping[str, Hashable], quorum: int) -> Verdict:
    """The answer that at least `quorum` of the named providers gave, if there is exactly one most frequent such."""
    parties: dict[Hashable, list[str]] = {}
    for name, answer in answers.items():
        parties.setdefault(answer, []).append(name)
    ordered = sorted((tuple(names) for names in parties.values()), key=len, reverse=True)
    if ordered and len(ordered[0]) >= quorum and (len(ordered) == 1 or len(ordered[1]) < len(ordered[0])):
        return Agreed(by=ordered[0], against=tuple(name for name in answers if name not in ordered[0]))
    return Undecided(parties=tuple(ordered))


def gist(read: SpanRead) -> Hashable:
    """What two readings of a span must have in common: where it begins and ends, and every transfer with its place and
    the header of its block: a time decides whether a payment came late.
    """
    homes = tuple(read.block_of(transfer) for transfer in read.transfers)
    return (read.anchor, read.end, read.transfers, homes)
