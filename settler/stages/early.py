"""Settles invoices of small amounts above the final height, as far as their tier allows (RULES.md section 1).

    #  settled           tier "safe"     tier 2        head
    #  .. 100 | 101 ..   140 | 141 ..    157 | 158     160

A payment is read again as the second reading reads it: of as many providers as the quorum, proven and screened; only
the height is another. Which tier applies is judged by all that is at stake for the invoice, never by one payment. The
risk is accepted: when the second reading comes to these blocks and finds the payment elsewhere or not at all, it is
taken back (`settle`), its settlement gets a reversal, and the chain goes on.

While no invoice waits that a tier takes, nothing is asked of anybody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import assert_never

from sqlalchemy.ext.asyncio import AsyncConnection

from chains.errors import ChainError, NodeInconsistent
from chains.model import BlockNumber, BlockSpan, Transfer, TransferIdentity
from chains.pool import Pool
from chains.quorum import gist
from settler.clock import Clock
from settler.domain.finality import FinalityPolicy, Tier, tier_of
from settler.domain.invoices import TransferRecord, TransferStatus
from settler.domain.settlement import at_stake
from settler.stages.agreement import Agreement
from settler.stages.assessing import TIER, assess_invoices
from settler.stages.effects import Reporter
from settler.stages.examining import Examiner
from settler.stages.looking import AskOn, Final, Look, Replaced, look, weigh
from settler.stages.progress import Progress
from settler.stages.recording import record
from settler.stages.setup import ChainSetup, Judgement
from settler.storage import chains, evidence, invoices, transfers
from settler.storage.chains import ChainState
from settler.storage.engine import Database
from settler.storage.watched import WatchedAddresses

PAYMENTS_MAX = 500
"""Looked at in one tick, lowest block first; or pages of so many, to find some that a tier takes."""
PAGES_MAX = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiting:
    payment: TransferRecord
    tier: Tier


class Early:
    """Of one chain that has tiers. `tick` may be killed anywhere: facts are one transaction, and there is no cursor."""

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

    async def tick(self) -> Progress:
        """Raises `ChainError`, `CursorMoved`, `StorageUnavailable`; nothing is written then."""
        async with self._db.read() as conn:
            state = await chains.get(conn, self._chain.chain_id)
            assert state is not None and state.is_started, f"{self._chain.name} was not opened"
            waiting = [] if state.is_halted else await self._waiting(conn, state)
        if not waiting:
            return Progress(has_more=False, chain=state, facts={"waiting": 0})
        heights = await self._heights({w.tier.policy for w in waiting}, state)
        due = [w for w in waiting if w.payment.block_number <= heights.get(w.tier.policy, -1)]
        if not due:
            return Progress(has_more=False, chain=state, facts={"waiting": len(waiting)})
        return await self._settle(state, due, heights)

    async def _waiting(self, conn: AsyncConnection, state: ChainState) -> list[_Waiting]:
        """Payments that a tier takes, page by page: many that none takes must not keep them waiting."""
        waiting: list[_Waiting] = []
        for page in range(PAGES_MAX):
            found = await transfers.waiting(conn, state.chain_id, limit=PAYMENTS_MAX, skip=page * PAYMENTS_MAX)
            waiting += await self._within_tiers(conn, found)
            if len(found) < PAYMENTS_MAX or len(waiting) >= PAYMENTS_MAX:
                break
        return waiting[:PAYMENTS_MAX]

    async def _heights(self, policies: Set[FinalityPolicy], state: ChainState) -> dict[FinalityPolicy, BlockNumber]:
        """Up to where each policy allows settling. A policy that cannot be asked for stops no other; raises the error
        where none can.
        """
        found: dict[FinalityPolicy, BlockNumber] = {}
        failure: ChainError | None = None
        for policy in sorted(policies, key=str):
            try:
                height = await self._height(policy, state)
            except ChainError as error:
                failure = error
                continue
            if height is not None:
                found[policy] = height
        if failure is not None and not found:
            raise failure
        return found

    async def _within_tiers(self, conn: AsyncConnection, found: Sequence[TransferRecord]) -> list[_Waiting]:
        ids = {t.invoice_id for t in found if t.invoice_id is not None}
        owners = await invoices.get_many(conn, ids)
        paid = await transfers.of_invoices(conn, ids)
        tiers = {
            id_: tier_of(self._chain.tiers, at_stake(invoice, paid[id_]), invoice.scale)
            for id_, invoice in owners.items()
        }
        return [
            _Waiting(payment=t, tier=tier)
            for t in found
            if t.invoice_id is not None and (tier := tiers[t.invoice_id]) is not None
        ]

    async def _height(self, policy: FinalityPolicy, state: ChainState) -> BlockNumber | None:
        """Up to where the policy allows settling, as a quorum shows it."""
        chain, settled = replace(self._chain, finality=policy), state.settled
        looks: dict[str, Look] = {}
        while True:
            try:
                answers = await self._pool.ask(
                    lambda reader: look(reader, chain, settled),
                    count=max(1, chain.quorum - len(looks)),
                    but_not=tuple(looks),
                    is_needed=True,
                )
            except ChainError:
                if len(looks) < chain.quorum:
                    raise
                answers = []
            looks |= {answer.source: answer.value for answer in answers}
            has_others = bool(answers) and len(looks) < len(self._pool.names)
            seen = weigh(looks, chain=chain, settled=settled, has_others=has_others)
            match seen:
                case AskOn():
                    continue
                case Replaced():
                    raise NodeInconsistent(f"another block is shown at the settled height {settled.number}")
                case Final():
                    return seen.number
                case _:
                    assert_never(seen)

    async def _settle(
        self, state: ChainState, due: Sequence[_Waiting], heights: Mapping[FinalityPolicy, BlockNumber]
    ) -> Progress:
        """Reads the blocks of the payments again, and makes final those that a quorum shows."""
        numbers = [w.payment.block_number for w in due]
        span = BlockSpan(first=min(numbers), last=min(max(numbers), BlockNumber(min(numbers) + self._pool.width - 1)))
        query = self._chain.query(await self._watched.current())
        asked = Agreement(
            self._pool,
            lambda reader: reader.read_span(span, query, anchor=state.settled.number),
            quorum=self._chain.quorum,
            gist=gist,
            what=f"blocks {span}",
            reaching=span.last,
        )
        believed = await asked.reached()
        anchor = believed.value.anchor
        if anchor is None or anchor.hash != state.settled_hash:
            raise NodeInconsistent(f"the reading does not stand on block {state.settled.number}, which is settled")
        tiers: Mapping[TransferIdentity, Tier] = {w.payment.identity: w.tier for w in due}

        def is_due(t: Transfer) -> bool:
            # it may stand higher by now than where it was looked up
            tier = tiers.get(t.identity)
            return tier is not None and t.block_number <= heights[tier.policy]

        read = replace(believed.value, transfers=tuple(t for t in believed.value.transfers if is_due(t)))
        proofs = await self._examiner.evidence(believed.value, query, believed.sources, is_final=False)
        now = self._clock.now()
        async with self._db.write() as conn:
            # nothing of it moves: it is only to be as it was
            await chains.advance(conn, state, now=now, guard=("settled_number", "settled_hash", "halted_at"))
            held = await transfers.by_identity(conn, (t.identity for t in read.transfers))
            known = {i: t for i, t in held.items() if t.status is TransferStatus.DETECTED and t.invoice_id is not None}
            await transfers.save(
                conn,
                [replace(t, evidence={**t.evidence, TIER: str(tiers[i].up_to)}) for i, t in known.items()],
            )
            read = replace(read, transfers=tuple(t for t in read.transfers if t.identity in known))
            recorded = await record(
                conn, read, status=TransferStatus.FINAL, missing=(), policy=self._judgement.policy, now=now
            )
            await evidence.add(conn, recorded.finalized, proofs, now=now)
            assessed = await assess_invoices(conn, recorded.touched, self._judgement, now=now, recorded=recorded)
        self._reporter.recorded(recorded, now)
        self._reporter.assessed(assessed, 0.0)
        return Progress(
            has_more=len(due) > len(recorded.finalized) > 0,
            facts={"span": str(span), "final": len(recorded.finalized), "settled": len(assessed.settled)},
        )
