"""The first reading: follows the head. What it says is provisional (RULES.md section 1).

    #  settled        scanned         head
    #  .. 100 | 101 .. 104 | 105 .. 107      one tick reads (scanned, head], at most a window of it

A tick costs at most 3 calls with up to five providers: those to look at the head (of a majority of them); with one
provider then 2 more, if it is the very next block (its parent hash links it); else the reading is left to the next
tick, which costs 2 or 3: the header of the cursor, the header of the end, the logs.

Not here: anything that lasts. A transfer this stage missed or invented is put right by `settle`.
"""

from __future__ import annotations

from dataclasses import replace

from chains.errors import BlockNotFound, NodeInconsistent
from chains.logs_window import next_span
from chains.model import BlockNumber, BlockRef, BlockSpan, SpanRead
from chains.pool import Pool
from settler.clock import Clock
from settler.domain.continuity import Behind, Extends, Foreign, Forked, compare
from settler.domain.invoices import TransferStatus
from settler.stages.assessing import assess_invoices
from settler.stages.effects import Reporter
from settler.stages.progress import Progress
from settler.stages.recording import record
from settler.stages.setup import ChainSetup, Judgement
from settler.storage import chains, transfers
from settler.storage.chains import ChainState
from settler.storage.engine import Database
from settler.storage.watched import WatchedAddresses

CATCH_UP_BLOCKS = 128
"""Further than this below the final height, blocks are read once, by `settle`; reading them twice would only cost."""
WALK_BACK_BATCH = 50
"""Headers asked at once when walking back to a common ancestor."""


class Watch:
    """One chain's first reading. `tick` may be killed anywhere: facts and cursor are one transaction."""

    def __init__(
        self,
        *,
        chain: ChainSetup,
        pool: Pool,
        db: Database,
        watched: WatchedAddresses,
        clock: Clock,
        judgement: Judgement,
        reporter: Reporter,
    ) -> None:
        self._chain = chain
        self._pool = pool
        self._db = db
        self._watched = watched
        self._clock = clock
        self._judgement = judgement
        self._reporter = reporter
        self._head: BlockRef | None = None
        """The head seen last and not read up to yet; forgotten whenever anything goes wrong."""

    async def tick(self) -> Progress:
        """Looks for new blocks and reads them. Raises `ChainError`, `CursorMoved`, `StorageUnavailable`; nothing
        is written then.
        """
        head, self._head = self._head, None
        async with self._db.read() as conn:
            state = await chains.get(conn, self._chain.chain_id)
        assert state is not None and state.is_started, f"{self._chain.name} was not opened"
        cursor = _cursor(state)
        seen = state
        has_looked = head is None or head.number <= cursor.number
        if has_looked:
            head, seen = await self._look(state)
        assert head is not None, "looking raises or answers"
        if head.number < cursor.number:
            return Progress(has_more=False, chain=seen, facts={"state": "node is behind", "head": head.number})
        if head.number == cursor.number:
            if head.hash != cursor.hash:
                return await self._walk_back(state, head)
            return Progress(has_more=False, chain=seen, facts={"head": head.number})
        # a final height above the head was made up once: it must not keep this stage from reading
        if min(state.final_number or 0, head.number) - cursor.number > CATCH_UP_BLOCKS:
            return Progress(has_more=False, chain=seen, facts={"state": "catching up", "head": head.number})
        is_next = head.number == cursor.number + 1
        if has_looked and not (is_next and len(self._pool.names) == 1):
            self._head = head
            return Progress(has_more=True, chain=seen, facts={"head": head.number})
        return await self._read(state, head, is_next=is_next)

    async def _look(self, state: ChainState) -> tuple[BlockRef, ChainState]:
        """The head now, as a majority shows it, kept in the database if it is news; and the chain's row since. 1 call
        with one provider, 2 with two or three.
        """
        head = await self._pool.head()
        cursor = _cursor(state)
        # lower than before, but not below what was read: somebody made the higher one up, or it was of a fork
        known = head if head.number >= cursor.number else cursor
        if state.head_number != known.number:
            async with self._db.write() as conn:
                after = await chains.advance(
                    conn,
                    state,
                    now=self._clock.now(),
                    guard=("head_number", "scanned_number"),
                    head_number=known.number,
                    head_time=known.time,
                )
            return head, after
        return head, state

    async def _read(self, state: ChainState, head: BlockRef, *, is_next: bool) -> Progress:
        """Reads on from the cursor. 2 calls if the next block links to it, else 3."""
        cursor = _cursor(state)
        span = next_span(cursor.number, head.number, self._pool.width)
        assert span is not None, "the head is above the cursor"
        read = await self._read_span(span, anchor=None if is_next else cursor.number)
        if not is_next and read.anchor is None:
            raise BlockNotFound(f"the node has no block {cursor.number}, where we are: it is behind")
        continues = (
            read.end.parent_hash == cursor.hash
            if is_next
            else read.anchor is not None and read.anchor.hash == cursor.hash
        )
        if not continues:
            return await self._walk_back(state, head)
        progress = await self._commit(state, read, keep_above=cursor.number)
        if span.last < head.number:
            self._head = head
            return replace(progress, has_more=True)
        return progress

    async def _read_span(self, span: BlockSpan, anchor: BlockNumber | None) -> SpanRead:
        # after the head was seen: an invoice made from now on can only be paid in a block above it
        watched = await self._watched.current()
        query = self._chain.query(watched)
        return await self._pool.read_span(span, query, anchor=anchor)

    async def _walk_back(self, state: ChainState, head: BlockRef) -> Progress:
        """The chain was replaced below our cursor: finds the common ancestor and reads again from there."""
        cursor, floor = _cursor(state), state.settled_number
        assert floor is not None, "an opened chain has a settled height"
        async with self._db.read() as conn:
            held = await chains.held_blocks(conn, state.chain_id, first=floor, last=cursor.number)
        if not held or held[-1].hash != cursor.hash:
            raise chains.CursorMoved("the second reading moved on, or halted the chain, while a fork was looked at")
        theirs: dict[BlockNumber, BlockRef | None] = {}
        for at in range(0, len(held), WALK_BACK_BATCH):
            numbers = [b.number for b in held[at : at + WALK_BACK_BATCH]]
            theirs |= dict(zip(numbers, await self._pool.headers(numbers), strict=True))
        continuity = compare(held, theirs)
        match continuity:
            case Extends() | Behind():
                return Progress(has_more=False, facts={"state": "fork seen and gone again"})
            case Foreign():
                # at or below the settled height: settle judges it, with its own confirmation
                return Progress(has_more=False, facts={"state": "fork below the settled height"})
            case Forked(ancestor=ancestor):
                return await self._follow_fork(state, ancestor, head)

    async def _follow_fork(self, state: ChainState, ancestor: BlockRef, head: BlockRef) -> Progress:
        depth = _cursor(state).number - ancestor.number
        span = next_span(ancestor.number, head.number, self._pool.width)
        if span is None:
            return Progress(has_more=False, facts={"state": "fork is not above its ancestor yet"})
        read = await self._read_span(span, anchor=ancestor.number)
        if read.anchor is None or read.anchor.hash != ancestor.hash:
            raise NodeInconsistent("the chain changed again while the fork was read")
        progress = await self._commit(state, read, keep_above=ancestor.number, fork_head=head)
        self._reporter.reorg(depth)
        return replace(
            progress,
            has_more=span.last < head.number,
            facts={**progress.facts, "reorg_depth": depth, "ancestor": ancestor.number},
        )

    async def _commit(
        self, state: ChainState, read: SpanRead, *, keep_above: int, fork_head: BlockRef | None = None
    ) -> Progress:
        """One transaction: cursor, held headers, transfers, invoices, events.

        Provisional transfers held above `keep_above` that this reading does not show are orphaned: within the span
        they are
        not there, above it the blocks they stood in are gone and will be read again. `fork_head`: the head of the fork
        that is followed, maybe lower than the one of before.
        """
        now = self._clock.now()
        chain_id = state.chain_id
        async with self._db.write() as conn:
            after = await chains.advance(
                conn,
                state,
                now=now,
                guard=("scanned_number", "scanned_hash", "halted_at"),
                scanned_number=read.end.number,
                scanned_hash=read.end.hash,
                scanned_time=read.end.time,
                # else invoices made from now on would take payments below the vanished head for older than themselves
                **({} if fork_head is None else {"head_number": fork_head.number, "head_time": fork_head.time}),
            )
            if after.settled_number is None or after.settled_number > keep_above:
                raise chains.CursorMoved("the second reading decided blocks this tick meant to replace")
            above = BlockSpan(first=BlockNumber(keep_above + 1), last=BlockNumber(2**62))
            held = await transfers.detected_in(conn, chain_id, above)
            missing = [t for t in held if t.identity.token in self._chain.token_addresses]
            await chains.drop_blocks(conn, chain_id, above=keep_above)
            await chains.hold_blocks(conn, chain_id, [*read.blocks.values(), read.end])
            recorded = await record(
                conn,
                read,
                status=TransferStatus.DETECTED,
                missing=missing,
                policy=self._judgement.policy,
                now=now,
            )
            assessed = await assess_invoices(conn, recorded.touched, self._judgement, now=now, recorded=recorded)
        self._reporter.recorded(recorded, now)
        self._reporter.assessed(assessed, 0.0)
        return Progress(
            has_more=False,
            chain=after,
            facts={
                "span": str(read.span),
                "transfers": len(recorded.added),
                "moved": len(recorded.moved),
                "orphaned": len(recorded.orphaned),
            },
        )


def _cursor(state: ChainState) -> BlockRef:
    """Where the first reading stands, as a header (its parent is not kept and not needed)."""
    assert state.scanned_number is not None
    assert state.scanned_hash is not None
    assert state.scanned_time is not None
    return BlockRef(
        number=state.scanned_number,
        hash=state.scanned_hash,
        parent_hash=state.scanned_hash,
        time=state.scanned_time,
    )
