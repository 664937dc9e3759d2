"""Keeps up with what the chain's tokens announce of themselves: pauses, upgrades, freezes. Up to what is settled.

    #  read up to        settled
    #  .. 800 | 801 ..   1000       read now and then, and before a payment settles

Not here: what follows from an announcement (`domain.risks`, `stages.screening`).
"""

from __future__ import annotations

from chains.errors import QuorumLost
from chains.model import BlockNumber, BlockSpan
from chains.pool import Pool
from settler.clock import Clock
from settler.stages.progress import Progress
from settler.stages.setup import ChainSetup
from settler.storage import chains, risks
from settler.storage.engine import Database

SPAN_BLOCKS = 100_000
"""Read in one tick at most: far behind, others get their turn in between."""


class Announced:
    """Of one chain. As many providers as the quorum are asked, and what any of them shows is kept: for holding money
    back one that speaks is enough.
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
        span = BlockSpan(first=BlockNumber(before + 1), last=upto)
        answers = await self._pool.ask(
            lambda reader: reader.announcements(span, self._chain.token_addresses),
            count=self._chain.quorum,
            reaching=upto,
            is_needed=True,
        )
        if len(answers) < self._chain.quorum:
            raise QuorumLost(f"only {len(answers)} of {self._chain.quorum} say what the tokens announced")
        now = self._clock.now()
        async with self._db.write() as conn:
            await risks.add(conn, state.chain_id, {each for answer in answers for each in answer.value}, now=now)
            await chains.advance(conn, state, now=now, guard=("risks_number",), risks_number=upto)
        return upto >= height
