"""The second reading: follows the final height. What it says is the truth (RULES.md section 1).

    #  settled                  final          head
    #  .. 100 | 101 .. 104 ..   140 | 141 ..   160     one reading: up to PARALLEL_SPANS spans of (settled, final]

Nothing is committed before as many providers as the quorum have read it alike. Spans are read side by side and
committed in order, each in a transaction of its own, or several that hold little in one: transfers the first reading
missed are inserted, those it invented or that a reorg dropped are orphaned, the rest become final; then invoices are
assessed and settlements, ledger and events written, with the cursor. Meanwhile the spans after them are read already,
where there are any; that reading is forgotten when anything goes wrong.

While no payment waits, one tick asks one provider: 3 calls (look: head, tag, the settled block again; read: the settled
block again, the end, the logs). Otherwise it asks as many at once as have to agree.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import assert_never

from sqlalchemy.ext.asyncio import AsyncConnection

from chains.errors import ChainError, Disagreement, NodeInconsistent
from chains.model import BlockHash, BlockNumber, BlockRef, BlockSpan, LogQuery, SpanRead, TransferIdentity
from chains.pool import Pool
from settler.clock import Clock
from settler.domain.ids import TransferId
from settler.domain.invoices import TransferRecord
from settler.stages.agreement import Agreement, Believed
from settler.stages.deciding import decide
from settler.stages.effects import Reporter
from settler.stages.examining import Examiner
from settler.stages.halt import halt_chain
from settler.stages.looking import AskOn, Final, Look, Replaced, look, weigh
from settler.stages.omissions import Omissions
from settler.stages.progress import Progress
from settler.stages.setup import ChainSetup, Judgement
from settler.stages.side_by_side import gathered, gists, next_spans, read_all
from settler.stages.undoing import take_back
from settler.storage import chains, evidence, transfers
from settler.storage.chains import ChainState
from settler.storage.engine import Database
from settler.storage.watched import WatchedAddresses

VIOLATION_SIGHTINGS = 3
"""Ticks in a row in which a quorum must show another block at the settled height before the chain is halted: nodes on a
fork of their own come back, a finality violation stays."""
KEEP_SETTLED_BLOCKS = 4_096
"""Heights below the settled one whose headers are still held, to find where a finality violation began."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """Spans that are being read by one provider after another. Forgotten whenever anything goes wrong."""

    settled_hash: BlockHash
    """It goes on from there."""
    final: BlockNumber
    """The final height looked up last. Never taken from the database: a head somebody once claimed must not make
    blocks final later."""
    query: LogQuery
    spans: tuple[BlockSpan, ...]
    agreement: Agreement[tuple[SpanRead, ...]]
    believed: Believed[tuple[SpanRead, ...]] | None = None
    """What it came to, where it was read ahead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """What we have of payments that a reading may be about."""

    within: Sequence[TransferRecord]
    """In the chain as we knew it, standing in the span."""
    shown: Mapping[TransferIdentity, TransferRecord]
    """Those that the reading shows, wherever they stood."""

    def undecided(self, read: SpanRead) -> list[TransferRecord]:
        """What the span decides about: all that stand in it, and such as a tier made final above it that it shows."""
        above = [t for t in self.shown.values() if t.is_final and t.block_number > read.span.last]
        return [*self.within, *above]


class _Unchecked(chains.CursorMoved):
    """A payment is left out, and nobody looked whether its block is still there; or it was seen since somebody did."""


class Settle:
    """One chain's second reading. `tick` may be killed anywhere: facts and cursor are one transaction."""

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
        self._examiner = Examiner(chain=chain, pool=pool, db=db, clock=clock)
        self._final_seen_at = clock.monotonic()
        self._sightings = 0
        self._omissions = Omissions(pool)
        self._looks: dict[str, Look] = {}
        """What providers showed, until it is enough. Forgotten whenever anything goes wrong."""
        self._final: BlockNumber | None = None
        """The final height a quorum named last and that is not read up to yet; forgotten likewise."""
        self._reading: _Reading | None = None
        self._kept_for: BlockHash | None = None
        """The settled block that all these go with: once another worker moved or halted the chain, they are void."""

    async def is_awaited(self) -> bool:
        """Whether any payment waits for this stage: then it should look at every poll, else now and then is enough."""
        async with self._db.read() as conn:
            return await transfers.has_detected(conn, self._chain.chain_id)

    async def tick(self) -> Progress:
        """Reads what became final. Raises `ChainError`, `CursorMoved`, `StorageUnavailable`; what was committed
        before stands.
        """
        looks, self._looks = self._looks, {}
        final, self._final = self._final, None
        reading, self._reading = self._reading, None
        async with self._db.read() as conn:
            state = await chains.get(conn, self._chain.chain_id)
            is_awaited = await transfers.has_detected(conn, self._chain.chain_id)
        assert state is not None and state.is_started, f"{self._chain.name} was not opened"
        if state.is_halted:
            return Progress(has_more=False, chain=state, facts={"state": "halted"})
        if self._kept_for != state.settled_hash:
            looks, final, reading = {}, None, None
        if reading is None and final is not None and final > state.settled.number:
            reading = await self._begun(state, final)
        if reading is not None:
            progress = await self._read(state, reading, is_awaited=is_awaited)
        else:
            progress = await self._look(state, looks, is_awaited=is_awaited)
        if is_awaited and not progress.has_more and progress.chain is not None:
            await self._examiner.prepare(progress.chain)
        return progress

    # -- the final height ------------------------------------------------------------------------------------------

    async def _look(self, state: ChainState, looks: dict[str, Look], *, is_awaited: bool) -> Progress:
        """A new final height? Also asks for the settled block again, so that a violation is seen without new blocks."""
        settled = state.settled
        chain = self._chain
        missing = max(1, chain.quorum - len(looks))
        try:
            answers = await self._pool.ask(
                lambda reader: look(reader, chain, settled),
                count=missing if is_awaited else 1,
                but_not=tuple(looks),
                is_needed=True,
            )
        except ChainError:
            if len(looks) < chain.quorum:
                raise
            # others might have said more, and cannot: it is for those who spoke to settle
            answers = []
        looks |= {answer.source: answer.value for answer in answers}
        has_others = bool(answers) and len(looks) < len(self._pool.names)
        try:
            seen = weigh(looks, chain=chain, settled=settled, has_others=has_others)
        except Disagreement:
            self._pool.disputed(tuple(looks), f"block {settled.number}, which is settled")
            raise
        match seen:
            case AskOn():
                self._looks, self._kept_for = looks, settled.hash
                return Progress(has_more=True, is_partial=True, chain=state, facts={"asked": len(looks)})
            case Replaced():
                return await self._suspect(state)
            case Final():
                return await self._found(state, seen)
            case _:
                assert_never(seen)

    async def _found(self, state: ChainState, seen: Final) -> Progress:
        self._sightings = 0
        after = state
        self._pool.differed(seen.against, f"block {state.settled_number}, which is settled")
        final = seen.number
        known = state.final_number or 0
        # less than before is a lagging node: the final height goes back only from above the head, where none can be
        is_made_up = seen.head is not None and known > seen.head
        if final is not None and (final > known or is_made_up):
            async with self._db.write() as conn:
                after = await chains.advance(
                    conn,
                    state,
                    now=self._clock.now(),
                    guard=("final_number", "settled_number", "halted_at"),
                    final_number=max(final, state.settled.number),
                    final_time=state.final_time if seen.block is None else seen.block.time,
                )
            self._final_seen_at = self._clock.monotonic()
        if final is None or final <= state.settled.number:
            return Progress(has_more=False, chain=after, facts={"final": state.final_number or 0})
        self._final, self._kept_for = final, state.settled_hash
        return Progress(has_more=True, is_partial=True, chain=after, facts={"final": final})

    async def _suspect(self, state: ChainState) -> Progress:
        """A quorum shows another block where we settled. Raises `NodeInconsistent` until it did several ticks running;
        then the chain is halted.
        """
        self._sightings += 1
        if self._sightings < VIOLATION_SIGHTINGS:
            raise NodeInconsistent(
                f"block {state.settled_number} is settled, and another one is shown there "
                f"(seen {self._sightings} of {VIOLATION_SIGHTINGS} times before the chain is halted)"
            )
        self._sightings = 0
        reversed_count = await halt_chain(
            state,
            pool=self._pool,
            quorum=self._chain.quorum,
            db=self._db,
            judgement=self._judgement,
            now=self._clock.now(),
        )
        self._reporter.reversed(reversed_count)
        return Progress(has_more=False, facts={"state": "halted: finality violation"})

    # -- the logs --------------------------------------------------------------------------------------------------

    async def _begun(self, state: ChainState, final: BlockNumber) -> _Reading:
        watched = await self._watched.current()
        query = self._chain.query(watched)
        spans = next_spans(state.settled.number, final, self._pool.width)
        agreement = Agreement(
            self._pool,
            lambda reader: read_all(reader, spans, query),
            quorum=self._chain.quorum,
            gist=gists,
            what=f"blocks {spans[0].first}..{spans[-1].last}",
            reaching=spans[-1].last,
        )
        settled_hash = state.settled.hash
        return _Reading(settled_hash=settled_hash, final=final, query=query, spans=spans, agreement=agreement)

    async def _read(self, state: ChainState, reading: _Reading, *, is_awaited: bool) -> Progress:
        """One more provider's reading, or all that are missing; commits what a quorum read alike, in order."""
        is_idle = len(reading.spans) == 1 and not is_awaited
        believed = reading.believed or await reading.agreement.ask_on(at_most=1 if is_idle else None)
        facts: dict[str, int | str] = {"span": f"{reading.spans[0].first}..{reading.spans[-1].last}"}
        if believed is None:
            self._reading, self._kept_for = reading, reading.settled_hash
            return Progress(has_more=True, is_partial=True, chain=state, facts=facts)
        anchor = believed.value[0].anchor
        assert anchor is not None, "a reading without its anchor raises"
        if anchor.hash != reading.settled_hash:
            return await self._suspect(state)
        self._sightings = 0
        facts |= {"transfers": 0, "final": 0, "settled": 0}
        async with self._reading_ahead(state, reading, believed.value[-1].end):
            for read in gathered(believed.value):
                proofs = await self._examiner.evidence(read, reading.query, believed.sources)
                try:
                    state = await self._commit(state, read, proofs, frozenset(), facts)
                except _Unchecked:
                    async with self._db.read() as conn:
                        held = await transfers.undecided_in(conn, state.chain_id, read.span)
                    checked = await self._omissions.check(filter(self._reads, held), read)
                    state = await self._commit(state, read, proofs, checked, facts)
        return Progress(has_more=reading.spans[-1].last < reading.final, chain=state, facts=facts)

    @asynccontextmanager
    async def _reading_ahead(self, state: ChainState, reading: _Reading, end: BlockRef) -> AsyncIterator[None]:
        """Reads what follows `reading`, whose last block is `end`, while that is committed; keeps it for the next tick
        if both went well. It outlives no tick.
        """
        if end.number >= reading.final:
            yield
            return
        after = replace(state, settled_number=end.number, settled_hash=end.hash, settled_time=end.time)
        following = await self._begun(after, reading.final)
        asking = asyncio.create_task(following.agreement.ask_on(), name=f"ahead:{self._chain.name}")
        try:
            yield
            try:
                self._reading = replace(following, believed=await asking)
            except ChainError:
                # the next tick asks anew, and says so if that fails too
                self._final = reading.final
            self._kept_for = end.hash
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    def _reads(self, held: TransferRecord) -> bool:
        """Whether the chain's logs are asked for its token: one that is configured no more is left as it was."""
        return held.identity.token in self._chain.token_addresses

    async def _held(self, conn: AsyncConnection, read: SpanRead) -> _Held:
        within = await transfers.undecided_in(conn, self._chain.chain_id, read.span)
        wanted = {t.identity for t in read.transfers}
        shown = {t.identity: t for t in within if t.identity in wanted}
        shown |= await transfers.by_identity(conn, wanted - shown.keys())
        return _Held(within=[t for t in within if self._reads(t)], shown=shown)

    async def _commit(
        self,
        state: ChainState,
        read: SpanRead,
        proofs: evidence.Evidence,
        checked: frozenset[TransferId],
        facts: dict[str, int | str],
    ) -> ChainState:
        """One transaction: cursor, transfers, their evidence, invoices, settlements, ledger, events.

        `checked`: payments of the first reading that may be orphaned. Raises `_Unchecked` if the reading lacks others.
        """
        now = self._clock.now()
        end = read.end
        settled = {"settled_number": end.number, "settled_hash": end.hash, "settled_time": end.time}
        scanned = {"scanned_number": end.number, "scanned_hash": end.hash, "scanned_time": end.time}
        async with self._db.write() as conn:
            # locked: else the first reading may go on between this look and the writing, and be put back
            current = await chains.lock(conn, state.chain_id)
            # at the same height too: the first reading may stand on a fork there
            is_ahead = current.scanned_number is None or end.number >= current.scanned_number
            after = await chains.advance(
                conn,
                state,
                now=now,
                guard=("settled_number", "settled_hash", "halted_at"),
                **settled,
                **(scanned if is_ahead else {}),
                **({"final_time": end.time} if end.number == state.final_number else {}),
            )
            held = await self._held(conn, read)
            shown = {t.identity for t in read.transfers}
            if any(t.id not in checked and t.identity not in shown for t in held.undecided(read)):
                raise _Unchecked("the first reading saw a payment that this one lacks, and that was not checked")
            final_early = [t for t in held.undecided(read) if t.is_final]
            early = await take_back(conn, final_early, read, now=now)
            if final_early:
                held = await self._held(conn, read)
            decided = await decide(
                conn,
                read,
                proofs,
                self._judgement,
                missing=[t for t in held.within if not t.is_final],
                known=early.standing,
                held=held.shown,
                now=now,
            )
            # what the first reading held of these heights may be of a fork
            await chains.drop_blocks(conn, state.chain_id, above=read.span.first - 1, below=end.number + 1)
            await chains.hold_blocks(conn, state.chain_id, [*read.blocks.values(), end])
            await chains.drop_blocks(conn, state.chain_id, below=end.number - KEEP_SETTLED_BLOCKS)
        recorded, assessed = decided.recorded, decided.assessed
        self._omissions.forget()
        self._reporter.reversed(early.reversed_count)
        self._reporter.recorded(recorded, now)
        self._reporter.assessed(assessed, self._clock.monotonic() - self._final_seen_at)
        for name, count in (
            ("transfers", len(recorded.added)),
            ("final", len(recorded.finalized)),
            ("settled", len(assessed.settled)),
        ):
            facts[name] = int(facts[name]) + count
        return after
