"""Which chains this worker leads: looks at the leases, renews its own, takes free ones (RULES 7).

A chain runs while its lease is held, on a database that refuses each of its transactions once another worker has taken
over (`Database.guarded`): whatever a process that stood still believes when it wakes, it commits nothing. What the lead
is for is that two workers do not do the same work twice; that money is safe rests on the fencing number and on the
cursors.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import assert_never

from sqlalchemy.ext.asyncio import AsyncConnection

from chains.model import ChainId
from settler.clock import Clock, first_of
from settler.domain.leading import LOOKS_PER_RENEWAL, Sighting, Take, Wait, decide, look
from settler.logs import get_logger
from settler.stages.progress import Progress
from settler.storage import chains, leases
from settler.storage.chains import ChainState
from settler.storage.engine import Database, Guard, StorageUnavailable
from settler.storage.leases import Lease, LeaseLost

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Led:
    """A chain's time under this worker."""

    lease: Lease
    db: Database
    """Commits only while the lease holds."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the lease was lost or given back: no new tick begins."""


class Leading:
    """A stage: one look at the leases a tick. `next` hands each chain to whoever runs it."""

    def __init__(
        self,
        *,
        db: Database,
        clock: Clock,
        worker: str,
        chains: Mapping[str, ChainId],
        on_lead: Callable[[str, bool], None],
        on_standby: Callable[[str, ChainState], None],
    ) -> None:
        """`chains`: those configured, by name. `on_lead`: told when this worker begins and ceases to lead one.
        `on_standby`: told, a look, where each chain stands that another worker leads.
        """
        self._db = db
        self._clock = clock
        self._worker = worker
        self._chains = chains
        self._on_lead = on_lead
        self._on_standby = on_standby
        self._led: dict[str, Led] = {}
        self._seen: dict[ChainId, Sighting] = {}
        self._turned: dict[str, asyncio.Event] = {name: asyncio.Event() for name in chains}
        self._decided: set[str] = set()
        """Chains that this process has decided about once: what stands under its own name is then not of the process
        before it. Where the database was away there was no look, and the first is still to come.
        """
        self._looks = 0

    async def tick(self) -> Progress:
        """Renews what is led, looks at the rest, and takes what nobody leads."""
        self._looks += 1
        if self._led and self._looks % LOOKS_PER_RENEWAL == 0:
            await self._renew()
        if len(self._led) < len(self._chains):
            await self._look()
        return Progress(has_more=False, facts={"led": len(self._led)})

    async def next(self, chain: str, stop: asyncio.Event) -> Led | None:
        """Waits until this worker leads the chain; `None` once `stop` is set."""
        turned = self._turned[chain]
        while not stop.is_set():
            if (led := self._led.get(chain)) is not None and not led.ended.is_set():
                return led
            turned.clear()
            await first_of(stop.wait(), turned.wait())
        return None

    async def give_back(self, chain: str) -> None:
        """Lets another worker have the chain at once. Where the database is away it takes over when it sees no
        renewals."""
        led = self._led.get(chain)
        if led is None:
            return
        self._cease(chain, led)
        try:
            async with self._db.write() as conn:
                await leases.give_back(conn, led.lease, now=self._clock.now())
        except StorageUnavailable as error:
            _log.warning("lease.not_given_back", chain=chain, error=str(error))
            return
        _log.info("lease.given_back", chain=chain, fencing=led.lease.fencing)

    async def give_back_all(self) -> None:
        for chain in list(self._led):
            await self.give_back(chain)

    async def _renew(self) -> None:
        held = {led.lease: name for name, led in self._led.items()}
        async with self._db.write() as conn:
            lost = await leases.renew(conn, list(held), now=self._clock.now())
        for lease in lost:
            self._lose(held[lease], lease)

    async def _look(self) -> None:
        async with self._db.read() as conn:
            rows = await leases.all_rows(conn)
            states = {state.chain_id: state for state in await chains.all_states(conn)}
        for name, chain_id in self._chains.items():
            if name in self._led:
                continue
            seen = self._seen[chain_id] = look(self._seen.get(chain_id), rows.get(chain_id))
            decision = decide(
                seen, worker=self._worker, is_first_look=name not in self._decided, chains_led=len(self._led)
            )
            match decision:
                case Take():
                    await self._take(name, seen)
                case Wait(is_led=is_led):
                    if is_led and chain_id in states:
                        self._on_standby(name, states[chain_id])
                case never:
                    assert_never(never)
            self._decided.add(name)

    async def _take(self, name: str, seen: Sighting) -> None:
        if seen.row is not None and seen.row.holder is not None:
            await self._cut_off()
        async with self._db.write() as conn:
            lease = await leases.take(
                conn, self._chains[name], worker=self._worker, seen=seen.row, now=self._clock.now()
            )
        if lease is None:
            return  # somebody was faster, or its leader lives after all
        before = None if seen.row is None else seen.row.holder
        _log.info("lease.taken", chain=name, worker=self._worker, fencing=lease.fencing, before=before)
        self._led[name] = Led(lease=lease, db=self._db.guarded(self._fence(name, lease)))
        self._seen.pop(lease.chain_id, None)
        self._on_lead(name, True)
        self._turned[name].set()

    async def _cut_off(self) -> None:
        """What a leader that stands still has locked must not stop the one that follows it."""
        async with self._db.write() as conn:
            ended = await leases.cut_off(conn)
        if ended:
            _log.warning("lease.sessions_ended", sessions=ended)

    def _fence(self, name: str, lease: Lease) -> Guard:
        async def fence(conn: AsyncConnection) -> None:
            try:
                await leases.check(conn, lease)
            except LeaseLost:
                self._lose(name, lease)
                raise

        return fence

    def _lose(self, name: str, lease: Lease) -> None:
        led = self._led.get(name)
        if led is not None and led.lease == lease:
            _log.warning("lease.lost", chain=name, worker=self._worker, fencing=lease.fencing)
            self._cease(name, led)

    def _cease(self, name: str, led: Led) -> None:
        led.ended.set()
        del self._led[name]
        self._on_lead(name, False)
