"""Keeps up with what the chain's tokens announce of themselves: pauses, upgrades, freezes. Up to what is settled.

    #  read up to        settled
    #  .. 800 | 801 ..   1000       read now and then, and before a payment settles

Not here: what follows from an announcement (`domain.risks`, `stages.screening`).
"""

from __future__ import annotations

from chains.errors import QuorumLost
from chains.model import Announcement, AnnouncementKind, BlockNumber, BlockSpan
from chains.pool import Pool
from settler.clock import Clock
from settler.stages.progress import Progress
from settler.stages.setup import ChainSetup
from settler.storage import chains, risks
from settler.storage.engine import Database

SPAN_BLOCKS = 100_000
"""Read in one tick at most: far behind, others get their turn in between."""
_ENDS = frozenset({AnnouncementKind.UNPAUSED, AnnouncementKind.UNBLOCKED})


class Announced:
    """Of one chain. As many providers as the quorum are asked, and trouble that any of them shows is kept: for holding
    money back one that speaks is enough, for letting it pass none is alone.
    """

    def __init__(self, *, chain: ChainSetup, pool: Pool, db: Database, clock: Clock) -> None:
        self._chain = chain
        self._pool = pool
        self._db = db
        self._clock = clock

    async def tick(self) -> Progress:
        """Reads on to the settled height. Raises `ChainError`, `CursorMoved`, `StorageUnavailable`."""
        async with self._db.read() as conn:
            state = await chains.get(conn, self._chain.chain_id)
        assert state is not None, f"{self._chain.name} was not opened"
        assert state.settled_number is not None, f"{self._chain.name} was not opened"
        is_done = await self.read_to(state.settled_number)
        return Progress(has_more=not is_done, facts={"settled": state.settled_number})

    async def read_to(self, height: BlockNumber) -> bool:
        """One piece further, at most to `height`; whether that was all. What was announced before the chain was first
        opened is not looked for: the tokens were configured as they were then.
        """
        async with self._db.read() as conn:
            state = await chains.get(conn, self._chain.chain_id)
        assert state is not None, f"{self._chain.name} was not opened"
        before = state.risks_number
        assert before is not None, f"{self._chain.name} was not opened"
        upto = BlockNumber(min(height, before + SPAN_BLOCKS))
        if upto <= before:
            return True
        found = await self._asked(BlockSpan(first=BlockNumber(before + 1), last=upto))
        now = self._clock.now()
        async with self._db.write() as conn:
            await risks.add(conn, state.chain_id, found, now=now)
            await chains.advance(conn, state, now=now, guard=("risks_number", "halted_at"), risks_number=upto)
        return upto >= height

    async def beyond(self, height: BlockNumber) -> frozenset[Announcement]:
        """What was announced above what is kept, up to a height that is not final: to look at, never to keep."""
        async with self._db.read() as conn:
            state = await chains.get(conn, self._chain.chain_id)
        assert state is not None, f"{self._chain.name} was not opened"
        before = state.risks_number
        assert before is not None, f"{self._chain.name} was not opened"
        if height <= before:
            return frozenset()
        return await self._asked(BlockSpan(first=BlockNumber(before + 1), last=height))

    async def _asked(self, span: BlockSpan) -> frozenset[Announcement]:
        """Trouble that any of a quorum shows; its end only where all of them do."""
        answers = await self._pool.ask(
            lambda reader: reader.announcements(span, self._chain.token_addresses),
            count=self._chain.quorum,
            reaching=span.last,
            is_needed=True,
        )
        if len(answers) < self._chain.quorum:
            raise QuorumLost(f"only {len(answers)} of {self._chain.quorum} say what the tokens announced")
        shown = [frozenset(answer.value) for answer in answers]
        by_all = frozenset.intersection(*shown)
        return frozenset(a for a in frozenset.union(*shown) if a.kind not in _ENDS or a in by_all)
