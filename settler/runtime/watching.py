"""Keeps metrics and health in step with what the loops did and what the database holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from sqlalchemy.ext.asyncio import AsyncConnection

from chains.errors import HistoryPruned, MethodUnsupported, Rejected
from chains.model import Address, ChainId, Token
from settler.clock import Clock
from settler.health import Health
from settler.metrics import Metrics
from settler.runtime.loop import Ticked
from settler.stages.opening import Refused
from settler.stages.progress import Progress
from settler.storage import chains, holds, invoices, leases, reconciliations, suspense, transfers, webhooks
from settler.storage.chains import ChainState
from settler.storage.engine import Database, StorageUnavailable

_LOOKING = ("open", "watch")
"""The stages that ask for the head at every tick: whether the node answers is theirs to say."""


class TickWatcher:
    """`settler.runtime.loop.Watcher`: after each tick, tells the metrics and the health of it."""

    def __init__(self, *, db: Database, metrics: Metrics, health: Health, chains: Mapping[str, ChainId]) -> None:
        self._db = db
        self._metrics = metrics
        self._health = health
        self._chains = chains
        self._shown: Counter[str] = Counter()
        """How often each chain's row was shown."""

    def before_tick(self, chain: str) -> int:
        return self._shown[chain]

    async def after_tick(self, tick: Ticked) -> None:
        stage, chain, error = tick.stage, tick.chain, tick.error
        self._metrics.tick(stage, chain, tick.outcome)
        self._health.ticked(f"{stage}:{chain}" if chain else stage)
        if not chain:
            return
        if stage in _LOOKING and isinstance(error, Rejected | MethodUnsupported | HistoryPruned):
            # whoever answers, answers this: it is not passing, and the pool does not call it down
            reason = f"the provider refuses what it is asked ({error.label}); the log has its words"
            self._health.provider_down(chain, reason)
        if isinstance(error, Refused):
            self._health.refused(chain, str(error))
        elif error is None:
            await self._show(tick, is_head_known=stage in _LOOKING)

    async def _show(self, tick: Ticked, *, is_head_known: bool) -> None:
        chain = tick.chain
        try:
            state = await self._row(tick)
        except StorageUnavailable:
            return
        if state is not None:
            self._tell(chain, state, is_head_known=is_head_known)

    def on_standby(self, chain: str, state: ChainState) -> None:
        """Where a chain stands that another worker leads, as the database has it."""
        self._tell(chain, state, is_head_known=True)

    def _tell(self, chain: str, state: ChainState, *, is_head_known: bool) -> None:
        if not state.is_started:
            return
        self._shown[chain] += 1
        self._metrics.chain(
            chain,
            head=state.head_number,
            scanned=state.scanned_number,
            final=state.final_number,
            settled=state.settled_number,
            head_time=state.head_time,
            scanned_time=state.scanned_time,
            final_time=state.final_time,
        )
        if is_head_known:
            self._health.progressed(chain, lag_s=lag_s(state))
        self._metrics.halted(chain, state.is_halted)
        if state.halt_reason is not None:
            self._health.halted(chain, state.halt_reason)
        else:
            self._health.resumed(chain)

    async def _row(self, tick: Ticked) -> ChainState | None:
        """The chain's, as the tick has it; looked up where another stage may have shown a newer one meanwhile."""
        if tick.row is not None and tick.mark == self._shown[tick.chain]:
            return tick.row
        async with self._db.read() as conn:
            return await chains.get(conn, self._chains[tick.chain])


def lag_s(state: ChainState) -> float:
    """Time of the head less time of the newest block read, in seconds of chain time; 0 when all is read."""
    if state.head_time is None or state.scanned_time is None:
        return 0.0
    if state.head_number is not None and state.scanned_number is not None and state.scanned_number >= state.head_number:
        return 0.0
    return max(0.0, (state.head_time - state.scanned_time).total_seconds())


COUNTING_SHARE = 0.01
"""Of the time, that counting invoices may take: 10^6 are counted every ten seconds or so, 10^7 every few minutes."""


class Gauges:
    """A stage that only looks: counts what the database holds, for the gauges that no single tick knows."""

    def __init__(
        self, *, db: Database, metrics: Metrics, clock: Clock, tokens: dict[tuple[ChainId, Address], Token]
    ) -> None:
        self._db = db
        self._metrics = metrics
        self._clock = clock
        self._tokens = tokens
        self._count_at_s = 0.0
        """By the clock's monotonic time: invoices are not counted again before."""

    async def tick(self) -> Progress:
        now = self._clock.now()
        async with self._db.read() as conn:
            await self._count_invoices(conn)
            unmatched = await transfers.unmatched_counts(conn)
            waiting = await suspense.waiting(conn)
            by_reason = await holds.count_by_reason(conn)
            oldest = await transfers.oldest_unsettled(conn)
            outbox = await webhooks.outbox_stats(conn, now)
            names = chains.names(await chains.all_states(conn))
            led = await leases.all_rows(conn)
            reconciled = await reconciliations.newest(conn)
        self._metrics.unmatched(
            {
                (names[chain_id], self._tokens[chain_id, token].symbol, reason.value): count
                for chain_id, token, reason, count in unmatched
                if (chain_id, token) in self._tokens
            }
        )
        self._metrics.unmatched_amounts(
            {
                (names[each.chain_id], self._tokens[each.chain_id, each.token].symbol): each.amount
                for each in waiting
                if (each.chain_id, each.token) in self._tokens
            }
        )
        self._metrics.holds({reason.value: count for reason, count in by_reason.items()})
        for chain_id, name in names.items():
            since = oldest.get(chain_id)
            self._metrics.oldest_unsettled(name, 0.0 if since is None else max(0.0, (now - since).total_seconds()))
            if chain_id in led:
                self._metrics.lease(name, led[chain_id].fencing)
            if chain_id in reconciled:
                newest = reconciled[chain_id]
                self._metrics.reconciled(name, breaks=newest.breaks, at=newest.finished_at)
        self._metrics.outbox(pending=outbox.pending, oldest_seconds=outbox.oldest_s, dead=outbox.dead_letters)
        return Progress(has_more=False)

    async def _count_invoices(self, conn: AsyncConnection) -> None:
        """Reads an entry of an index for each invoice there ever was, so the more there are, the less often."""
        started = self._clock.monotonic()
        if started < self._count_at_s:
            return
        by_status = await invoices.count_by_status(conn)
        self._metrics.invoices({status.value: count for status, count in by_status.items()})
        self._count_at_s = started + (self._clock.monotonic() - started) / COUNTING_SHARE
