"""All that is asked about payments between reading and settling them: are they proven, and what speaks against them."""

from __future__ import annotations

from dataclasses import replace

from chains.model import LogQuery, SpanRead
from chains.pool import Pool
from settler.clock import Clock
from settler.stages.proving import Prover
from settler.stages.screening import Screener
from settler.stages.setup import ChainSetup
from settler.storage.engine import Database
from settler.storage.evidence import Evidence


class Examiner:
    """Of one chain. Asked before the transaction that makes payments final, never within."""

    def __init__(self, *, chain: ChainSetup, pool: Pool, db: Database, clock: Clock) -> None:
        self._prover = Prover(chain=chain, pool=pool)
        self._screener = Screener(chain=chain, pool=pool, db=db, clock=clock)

    async def evidence(
        self, read: SpanRead, query: LogQuery, sources: tuple[str, ...], *, is_final: bool = True
    ) -> Evidence:
        """What each transfer of the reading rests on, and what speaks against it. Raises as `Prover` and `Screener`."""
        proven = await self._prover.evidence(read, query, sources)
        flagged = await self._screener.flags(read, is_final=is_final)
        return {i: replace(given, flags=flagged[i]) if i in flagged else given for i, given in proven.items()}
