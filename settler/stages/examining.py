"""All that is asked about payments between reading and settling them: are they proven, and what speaks against them."""

from __future__ import annotations

from dataclasses import replace

from chains.model import LogQuery, SpanRead, Transfer
from chains.pool import Pool
from settler.clock import Clock
from settler.domain.invoices import TransferRecord
from settler.stages.proven import moves_money
from settler.stages.proving import Prover
from settler.stages.screening import Screener
from settler.stages.setup import ChainSetup
from settler.storage import transfers
from settler.storage.chains import ChainState
from settler.storage.engine import Database
from settler.storage.evidence import Evidence


class Examiner:
    """Of one chain. Asked before the transaction that makes payments final, never within."""

    def __init__(self, *, chain: ChainSetup, pool: Pool, db: Database, clock: Clock) -> None:
        self._chain = chain
        self._db = db
        self._prover = Prover(chain=chain, pool=pool)
        self._screener = Screener(chain=chain, pool=pool, db=db, clock=clock)

    async def evidence(
        self, read: SpanRead, query: LogQuery, sources: tuple[str, ...], *, is_final: bool = True
    ) -> Evidence:
        """What each transfer of the reading rests on, and what speaks against it. Raises as `Prover` and `Screener`."""
        proven = await self._prover.evidence(read, query, sources)
        flagged = await self._screener.flags(read, is_final=is_final)
        return {i: replace(given, flags=flagged[i]) if i in flagged else given for i, given in proven.items()}

    async def prepare(self, state: ChainState) -> None:
        """Proves blocks with payments that wait to be final, before they are. Raises no `ChainError`."""
        ahead = self._prover.ahead
        if ahead is None or state.scanned_number is None:
            return
        span = ahead.due(state.settled.number, state.scanned_number)
        if span is None:
            return
        async with self._db.read() as conn:
            held = await transfers.detected_in(conn, self._chain.chain_id, span)
        await ahead.prove(span, filter(moves_money, map(_as_read, held)))


def _as_read(held: TransferRecord) -> Transfer:
    return Transfer(
        identity=held.identity,
        block_number=held.block_number,
        block_hash=held.block_hash,
        log_index=held.log_index,
    )
