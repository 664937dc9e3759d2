"""Reads a past range again and adds what is missing; what the second reading would have done, done later.

    #   from              to        settled          head
    #   100 .. 199 | 200 .. 250 ..  400 ..           410      cursors stay where they are

Each piece is one transaction, under the chain's lock, beside a running daemon. Payments that were missed become final,
are matched, booked and assessed by the very code of the second reading (`deciding`); the evidence of those that are
there is replaced. Nothing is taken back: a final payment that the quorum does not show is reported, and stays.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from chains.errors import BlockNotFound, NodeInconsistent
from chains.model import BlockHash, BlockNumber, BlockSpan, LogQuery, SpanRead
from chains.pool import Pool
from chains.quorum import gist
from settler.clock import Clock
from settler.domain.invoices import TransferRecord
from settler.domain.reconciling import Break, conflicts
from settler.stages.agreement import Agreement, Believed, agreed_headers
from settler.stages.deciding import decide
from settler.stages.examining import Examiner
from settler.stages.rereading import compared_with, persistently, pieces
from settler.stages.setup import ChainSetup, Judgement
from settler.storage import chains, evidence
from settler.storage.chains import ChainState, CursorMoved
from settler.storage.engine import Database
from settler.storage.watched import WatchedAddresses

REMEDY = "ask another node: settler reconcile --chain {chain} --from {{block}} --to {{block}} --rpc URL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescanned:
    """What came of it so far."""

    blocks: int = 0
    found: int = 0
    """Transfers that the quorum shows."""
    added: int = 0
    """Of them: those that were not recorded as final."""
    settled: int = 0
    """Invoices."""
    unproven: int = 0
    """Transfers that a proof was wanted for and could not be had."""
    breaks: tuple[Break, ...] = ()
    up_to: BlockNumber | None = None
    """The last block that is done."""


class Rescan:
    """One range of one chain; `done` is what is committed, also when `run` raises."""

    def __init__(
        self,
        *,
        chain: ChainSetup,
        pool: Pool,
        db: Database,
        clock: Clock,
        judgement: Judgement,
        sleep: Callable[[float], Awaitable[object]],
    ) -> None:
        self._chain = chain
        self._pool = pool
        self._db = db
        self._clock = clock
        self._judgement = judgement
        self._sleep = sleep
        self._watched = WatchedAddresses(db, monotonic=clock.monotonic)
        self._examiner = Examiner(chain=chain, pool=pool, db=db, clock=clock)
        self.done = Rescanned()

    async def run(
        self, span: BlockSpan, state: ChainState, on_piece: Callable[[Rescanned], None] = lambda _: None
    ) -> Rescanned:
        """Reads `span`, which is settled by `state`. Raises `ChainError`, `CursorMoved` when the chain was halted
        meanwhile, `StorageUnavailable`; what was committed stands, and it may be run again.
        """
        await persistently(lambda: self._check_settled_stands(state), sleep=self._sleep)
        before: BlockHash | None = None
        for piece in pieces(span, lambda: self._pool.width):
            before = await self._one(piece, before)
            on_piece(self.done)
        return self.done

    async def _check_settled_stands(self, state: ChainState) -> None:
        """Raises `NodeInconsistent` if a quorum shows another chain than the one that was settled."""
        assert state.settled_number is not None, "a range is checked against the settled height"
        (shown,) = await agreed_headers(self._pool, [state.settled_number], quorum=self._chain.quorum)
        if shown is None:
            raise BlockNotFound(
                f"the providers have no block {state.settled_number}, which is settled: they are behind"
            )
        if shown.hash != state.settled_hash:
            raise NodeInconsistent(f"the providers show another block at the settled height {state.settled_number}")

    async def _one(self, piece: BlockSpan, before: BlockHash | None) -> BlockHash:
        """One piece, read, proven and committed; the hash of its last block."""

        async def read() -> tuple[Believed[SpanRead], LogQuery, evidence.Evidence]:
            query = self._chain.query(await self._watched.current())
            believed = await self._agreed(piece, query)
            anchor = believed.value.anchor
            if before is not None and (anchor is None or anchor.hash != before):
                raise NodeInconsistent(f"block {piece.first - 1} was replaced while the range was read")
            return believed, query, await self._examiner.evidence(believed.value, query, believed.sources)

        believed, query, proofs = await persistently(read, sleep=self._sleep)
        await self._commit(believed.value, query, proofs)
        return believed.value.end.hash

    async def _agreed(self, piece: BlockSpan, query: LogQuery) -> Believed[SpanRead]:
        anchor = BlockNumber(piece.first - 1) if piece.first > 0 else None
        asked = Agreement(
            self._pool,
            lambda reader: reader.read_span(piece, query, anchor=anchor),
            quorum=self._chain.quorum,
            gist=gist,
            what=f"blocks {piece}",
            reaching=piece.last,
        )
        return await asked.reached()

    async def _commit(self, read: SpanRead, query: LogQuery, proofs: evidence.Evidence) -> None:
        now = self._clock.now()
        async with self._db.write() as conn:
            state = await chains.lock(conn, self._chain.chain_id)
            if state.settled_number is None or state.settled_number < read.span.last:
                raise CursorMoved(
                    f"{state.name} was halted meanwhile, and is settled up to {state.settled_number} only"
                )
            compared = await compared_with(conn, state, read, query)
            stored = await evidence.of_payments(conn, ((t.id, t.block_hash) for t in compared.matching))
            decided = await decide(
                conn,
                replace(read, transfers=compared.unrecorded),
                proofs,
                self._judgement,
                missing=(),
                known=[t for t in compared.matching if _is_better(t, stored, proofs)],
                now=now,
            )
        before = self.done
        self.done = Rescanned(
            blocks=before.blocks + len(read.span),
            found=before.found + len(read.transfers),
            added=before.added + len(decided.recorded.finalized),
            settled=before.settled + len(decided.assessed.settled),
            unproven=before.unproven + sum(given.failure is not None for given in proofs.values()),
            breaks=before.breaks + tuple(conflicts(state.name, compared, remedy=REMEDY.format(chain=state.name))),
            up_to=read.span.last,
        )


def _is_better(held: TransferRecord, stored: evidence.Stored, proofs: evidence.Evidence) -> bool:
    """Whether the new evidence of a payment may replace the old: a proof is never given up for the lack of one."""
    old = stored.get(held.id)
    return old is None or old.evidence.proof is None or proofs[held.identity].proof is not None
