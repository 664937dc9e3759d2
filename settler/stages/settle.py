"""The second reading: follows the final height. What it says is the truth (RULES.md section 1).

    #  settled                  final          head
    #  .. 100 | 101 .. 104 ..   140 | 141 ..   160     one tick reads up to PARALLEL_SPANS spans of (settled, final]

Spans are read side by side and committed in order, each in a transaction of its own: transfers the first reading
missed are
inserted, those it invented or that a reorg dropped are orphaned, the rest become final; then invoices are assessed and
settlements, ledger and events written, with the cursor.

A tick that has nothing to read looks for a new final height: 3 calls with a tag, 2 with a depth, both asking again
for the
header of the settled height. If that one was replaced, `halt` is called upon.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import assert_never

from chains.errors import BlockNotFound, ChainError, NodeInconsistent, RangeTooWide, ResultTooLarge
from chains.logs_window import LogsWindow, narrowed, next_span, widened
from chains.model import BlockNumber, BlockRef, BlockSpan, LogQuery, SpanRead, Tag
from chains.reader import ChainReader
from settler.clock import Clock
from settler.domain.finality import ByTag, Depth, final_height, tag_fault
from settler.domain.invoices import TransferStatus
from settler.stages.assessing import assess_invoices
from settler.stages.effects import Reporter
from settler.stages.halt import halt_chain
from settler.stages.progress import Progress
from settler.stages.recording import record
from settler.stages.setup import ChainSetup, Judgement
from settler.storage import chains, transfers
from settler.storage.chains import ChainState
from settler.storage.engine import Database

PARALLEL_SPANS = 4
"""Spans read at once when far behind: enough to hide the node's latency, few enough to bound memory and its
patience.
"""
VIOLATION_SIGHTINGS = 3
"""Ticks in a row that must see another block at the settled height before the chain is halted: a node on a fork of
its own
comes back, a finality violation stays."""
OMISSION_SIGHTINGS = 3
"""Readings in a row that must leave out a payment the first reading saw, in a block that is still in the chain, before
it is orphaned: a node whose logs lag its blocks catches up, a payment somebody invented never comes.
"""
PROBE_BATCH = 50
"""Headers asked at once when payments were left out."""
KEEP_SETTLED_BLOCKS = 4_096
"""Heights below the settled one whose headers are still held, to find where a finality violation began."""


class TagUnusable(ChainError):
    """The finality tag is missing, stuck or ahead. The tick fails and says why; nothing settles, there is no
    fall-back to depth.
    """

    label = "tag_unusable"


class Settle:
    """One chain's second reading. `tick` may be killed anywhere: facts and cursor are one transaction."""

    def __init__(
        self,
        *,
        chain: ChainSetup,
        reader: ChainReader,
        db: Database,
        clock: Clock,
        judgement: Judgement,
        reporter: Reporter,
    ) -> None:
        self._chain = chain
        self._reader = reader
        self._db = db
        self._clock = clock
        self._judgement = judgement
        self._reporter = reporter
        self._window = LogsWindow()
        self._final_seen_at = clock.monotonic()
        self._sightings = 0
        self._omissions = 0
        self._final: BlockNumber | None = None
        """The final height looked up last and not read up to yet. Forgotten whenever anything goes wrong, and never
        taken from the database: a head somebody once claimed must not make blocks final later."""

    async def is_awaited(self) -> bool:
        """Whether any payment waits for this stage: then it should look at every poll, else now and then is enough."""
        async with self._db.read() as conn:
            return await transfers.has_detected(conn, self._chain.chain_id)

    async def tick(self) -> Progress:
        """Reads what became final. Raises `ChainError`, `CursorMoved`, `StorageUnavailable`; what was committed
        before stands.
        """
        final, self._final = self._final, None
        async with self._db.read() as conn:
            state = await chains.get(conn, self._chain.chain_id)
        assert state is not None and state.is_started, f"{self._chain.name} was not opened"
        if state.is_halted:
            return Progress(has_more=False, facts={"state": "halted"})
        if final is not None and final > _settled(state).number:
            return await self._read(state, final)
        return await self._look(state)

    async def _look(self, state: ChainState) -> Progress:
        """A new final height? Also asks for the settled block again, so that a violation is seen without new blocks."""
        policy = self._chain.finality
        settled = _settled(state)
        match policy:
            case ByTag(tag=tag):
                head, tagged, anchor = await self._reader.headers([Tag.LATEST, tag, settled.number])
                self._check_tag(policy, head, tagged)
            case Depth():
                head, anchor = await self._reader.headers([Tag.LATEST, settled.number])
                tagged = None
            case _:
                assert_never(policy)
        if anchor is not None and not await self._still_stands(state, anchor):
            return Progress(has_more=False, facts={"state": "halted: finality violation"})
        if head is None:
            raise NodeInconsistent("the node answers no latest block")
        final = final_height(policy, head=head.number, tagged=None if tagged is None else tagged.number)
        if final is None:
            return Progress(has_more=False, facts={"final": state.final_number or 0})
        if final > (state.final_number or 0):
            # less than before is a lagging node: the final height never goes back
            is_tagged_block = tagged is not None and tagged.number == final
            async with self._db.write() as conn:
                await chains.advance(
                    conn,
                    state,
                    now=self._clock.now(),
                    guard=("final_number", "settled_number", "halted_at"),
                    final_number=final,
                    final_time=tagged.time if tagged is not None and is_tagged_block else state.final_time,
                )
            self._final_seen_at = self._clock.monotonic()
        if final <= settled.number:
            return Progress(has_more=False, facts={"final": state.final_number or 0})
        self._final = final
        return Progress(has_more=True, facts={"final": final})

    def _check_tag(self, policy: ByTag, head: BlockRef | None, tagged: BlockRef | None) -> None:
        fault = tag_fault(
            head=head,
            tagged=tagged,
            is_instant=self._chain.is_instant,
            stuck_after_s=self._chain.tag_stuck_after_s,
        )
        if fault is not None:
            raise TagUnusable(
                f"the {policy.tag} tag cannot be settled on: {fault}; "
                f"nothing settles on {self._chain.name} until it is right"
            )

    async def _read(self, state: ChainState, final: BlockNumber) -> Progress:
        """Reads spans of (settled, final] side by side, commits them in order. 3 calls a span while nothing was
        paid.
        """
        async with self._db.read() as conn:
            watched = await chains.watched(conn)
        query = LogQuery(tokens=self._chain.token_addresses, recipients=watched)
        spans = _spans(_settled(state).number, final, self._window.width)
        if len(spans) > 1 and await self._reader.headers([final]) == (None,):
            # the first spans are committed before the last is read: without this, on the word of whoever named the head
            raise BlockNotFound(f"the node has no block {final}, which was said to be final")
        reads = [
            asyncio.ensure_future(self._reader.read_span(span, query, anchor=BlockNumber(span.first - 1)))
            for span in spans
        ]
        facts: dict[str, int | str] = {
            "span": f"{spans[0].first}..{spans[-1].last}",
            "transfers": 0,
            "final": 0,
            "settled": 0,
        }
        try:
            for span, reading in zip(spans, reads, strict=True):
                try:
                    read = await reading
                except RangeTooWide as error:
                    if len(span) == 1:
                        raise
                    self._window = narrowed(
                        self._window, len(span), error.max_span, is_cap=not isinstance(error, ResultTooLarge)
                    )
                    self._final = final
                    return Progress(has_more=True, facts={**facts, "width": self._window.width})
                if read.anchor is None:
                    raise BlockNotFound(f"the node has no block {span.first - 1}, which is settled: it is behind")
                if span is spans[0] and not await self._still_stands(state, read.anchor):
                    return Progress(has_more=False, facts={"state": "halted: finality violation"})
                if read.anchor.hash != _settled(state).hash:
                    raise NodeInconsistent(f"block {span.first - 1} has two hashes within one reading")
                await self._check_omissions(state, read)
                state = await self._commit(state, read, facts)
                if len(span) == self._window.width:
                    self._window = widened(self._window)
        finally:
            await _drop(reads)
        if spans[-1].last < final:
            self._final = final
        return Progress(has_more=spans[-1].last < final, facts=facts)

    async def _check_omissions(self, state: ChainState, read: SpanRead) -> None:
        """Whether payments the first reading saw are left out although their blocks are still in the chain: a block
        never loses a log. Raises `NodeInconsistent` until several readings running left some out.
        """
        async with self._db.read() as conn:
            held = await transfers.detected_in(conn, state.chain_id, read.span)
        seen = {t.identity for t in read.transfers}
        missing = {t.block_number: t.block_hash for t in held if t.identity not in seen}
        shown = await self._reader.headers(sorted(missing)[:PROBE_BATCH])
        standing = [b.number for b in shown if b is not None and b.hash == missing[b.number]]
        if not standing:
            return
        self._omissions += 1
        if self._omissions < OMISSION_SIGHTINGS:
            raise NodeInconsistent(
                f"the node leaves out payments seen before, of blocks it still has: {standing} "
                f"(seen {self._omissions} of {OMISSION_SIGHTINGS} times before they are given up)"
            )

    async def _commit(self, state: ChainState, read: SpanRead, facts: dict[str, int | str]) -> ChainState:
        """One transaction: cursor, transfers, invoices, settlements, ledger, events."""
        now = self._clock.now()
        end = read.end
        settled = {"settled_number": end.number, "settled_hash": end.hash, "settled_time": end.time}
        scanned = {"scanned_number": end.number, "scanned_hash": end.hash, "scanned_time": end.time}
        async with self._db.write() as conn:
            current = await chains.get(conn, state.chain_id)
            assert current is not None, "a chain's row is never deleted"
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
            missing = await transfers.detected_in(conn, state.chain_id, read.span)
            recorded = await record(conn, read, status=TransferStatus.FINAL, missing=missing, now=now)
            # what the first reading held of these heights may be of a fork
            await chains.drop_blocks(conn, state.chain_id, above=read.span.first - 1, below=end.number + 1)
            await chains.hold_blocks(conn, state.chain_id, [*read.blocks.values(), end])
            await chains.drop_blocks(conn, state.chain_id, below=end.number - KEEP_SETTLED_BLOCKS)
            assessed = await assess_invoices(conn, recorded.touched, self._judgement, now=now)
        self._omissions = 0
        self._reporter.recorded(recorded, now)
        self._reporter.assessed(assessed, self._clock.monotonic() - self._final_seen_at)
        for name, count in (
            ("transfers", len(recorded.added)),
            ("final", len(recorded.finalized)),
            ("settled", len(assessed.settled)),
        ):
            facts[name] = int(facts[name]) + count
        return after

    async def _still_stands(self, state: ChainState, anchor: BlockRef) -> bool:
        """Whether the settled block is still in the chain. `False`: it is not, and the chain has been halted.

        Raises `NodeInconsistent` until another block was seen there in several ticks running.
        """
        settled = _settled(state)
        if anchor.hash == settled.hash:
            self._sightings = 0
            return True
        self._sightings += 1
        if self._sightings < VIOLATION_SIGHTINGS:
            raise NodeInconsistent(
                f"block {settled.number} is settled, and the node shows another one there "
                f"(seen {self._sightings} of {VIOLATION_SIGHTINGS} times before the chain is halted)"
            )
        self._sightings = 0
        reversed_count = await halt_chain(
            state,
            reader=self._reader,
            db=self._db,
            judgement=self._judgement,
            now=self._clock.now(),
        )
        self._reporter.reversed(reversed_count)
        return False


def _settled(state: ChainState) -> BlockRef:
    """Where the second reading stands, as a header (its parent is not kept and not needed)."""
    assert state.settled_number is not None
    assert state.settled_hash is not None
    assert state.settled_time is not None
    return BlockRef(
        number=state.settled_number,
        hash=state.settled_hash,
        parent_hash=state.settled_hash,
        time=state.settled_time,
    )


def _spans(cursor: BlockNumber, upto: BlockNumber, width: int) -> list[BlockSpan]:
    """At most `PARALLEL_SPANS` spans in order, at least one."""
    spans: list[BlockSpan] = []
    while len(spans) < PARALLEL_SPANS and (span := next_span(cursor, upto, width)) is not None:
        spans.append(span)
        cursor = span.last
    return spans


async def _drop(reads: Sequence[asyncio.Future[SpanRead]]) -> None:
    """Ends what is still being read, and takes note of every failure, so that none is reported as never retrieved."""
    for reading in reads:
        reading.cancel()
    await asyncio.gather(*reads, return_exceptions=True)
