"""One question to several providers, until enough of them answer alike (RULES.md section 1).

    agreement = Agreement(pool, question, quorum=2, gist=gist)
    await agreement.ask_on(at_most=1)       one provider a tick where nobody waits: that keeps to the budget of calls
    await agreement.reached()               as many as it takes, at once

Who differs is told to the pool, which counts it and, if it goes on, distrusts it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar, assert_never

from chains.errors import Disagreement, QuorumLost
from chains.model import BlockNumber, BlockRef, Tag
from chains.pool import Pool
from chains.quorum import Agreed, Undecided, judge
from chains.reader import ChainReader

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Believed(Generic[T]):
    """An answer that as many providers gave as had to."""

    value: T
    sources: tuple[str, ...]
    """Who gave it, by name."""


class Agreement(Generic[T]):
    """May be asked on over several ticks. Raises `ChainError`; after that it is to be thrown away."""

    def __init__(
        self,
        pool: Pool,
        question: Callable[[ChainReader], Awaitable[T]],
        *,
        quorum: int,
        gist: Callable[[T], Hashable],
        what: str,
        reaching: BlockNumber | None = None,
    ) -> None:
        """`gist`: what two answers must have in common to be alike. `what` is asked about, in words, for messages."""
        self._pool = pool
        self._question = question
        self._quorum = quorum
        self._gist = gist
        self._what = what
        self._reaching = reaching
        self._answers: dict[str, T] = {}

    async def ask_on(self, *, at_most: int | None = None) -> Believed[T] | None:
        """Asks those that are missing for a quorum, `at_most` so many of them now. `None`: more are to be asked.

        Raises `Disagreement` when all that can be asked have answered, and too few alike.
        """
        missing = max(1, self._quorum - len(self._answers))
        count = missing if at_most is None else min(missing, at_most)
        has_others = True
        try:
            for answer in await self._pool.ask(
                self._question,
                count=count,
                but_not=tuple(self._answers),
                reaching=self._reaching,
                is_needed=True,
            ):
                self._answers[answer.source] = answer.value
        except QuorumLost:
            if len(self._answers) < self._quorum:
                raise
            has_others = False
        verdict = judge({name: self._gist(value) for name, value in self._answers.items()}, self._quorum)
        match verdict:
            case Agreed(by=by, against=against):
                self._pool.differed(against, self._what)
                self._pool.agreed(by)
                return Believed(value=self._answers[by[0]], sources=by)
            case Undecided(parties=parties):
                if not has_others or len(self._answers) >= len(self._pool.names):
                    self._pool.disputed(tuple(self._answers), self._what)
                    sides = " against ".join(" and ".join(party) for party in parties)
                    raise Disagreement(
                        f"providers differ over {self._what}, and {self._quorum} must agree: {sides}; nothing settles"
                    )
                return None
            case _:
                assert_never(verdict)

    async def reached(self) -> Believed[T]:
        """Asks until there is a quorum. Raises `QuorumLost` or `Disagreement` when there is none."""
        while (believed := await self.ask_on()) is None:
            pass
        return believed


async def agreed_headers(
    pool: Pool, wanted: Sequence[BlockNumber | Tag], *, quorum: int
) -> tuple[BlockRef | None, ...]:
    """Headers that a quorum shows alike. Raises as `Agreement.reached`."""

    def whole(found: tuple[BlockRef | None, ...]) -> Hashable:
        return found  # with their times: invoices expire by them

    what = f"blocks {', '.join(map(str, wanted))}"
    asked = Agreement(pool, lambda reader: reader.headers(wanted), quorum=quorum, gist=whole, what=what)
    return (await asked.reached()).value
