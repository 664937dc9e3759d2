"""What happens on one chain as time goes by: blocks, forks, halts and bursts, finality that stalls or is broken.

Blocks are mined when somebody looks (`catch_up`), each at the moment it was due: a chain nobody looks at costs nothing.

    #  due     0   12   24        60   60   60   72      a halt of three blocks, then a burst

What does not belong here: who sends transactions (`people`), what nodes say of it (`chains.faults`).
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from chains.model import BlockNumber
from chains.simulated_chain import SimTransfer, SimTx
from settler.domain.finality import ByTag, FinalityPolicy, final_height
from settler.simulation.clock import EPOCH
from settler.simulation.truth import ChainTruth

BURST_MAX = 50
"""Blocks that come at once after a halt."""

CHAIN_FAULTS = (
    "reorg",
    "transaction included elsewhere",
    "transaction dropped",
    "transaction replaced",
    "finality stall",
    "reorg past finality",
    "halt, then a burst",
)


@dataclass(slots=True)
class _Pending:
    tx: SimTx
    ready_s: float


class ChainDriver:
    """Moves one `SimulatedChain` along the loop's time. `struck` counts what really happened, by `CHAIN_FAULTS`."""

    def __init__(
        self,
        truth: ChainTruth,
        *,
        block_s: float,
        finality: FinalityPolicy,
        random: random.Random,
        on_event: Callable[[str], None],
    ) -> None:
        self.truth = truth
        self.chain = truth.chain
        self.block_s = block_s
        self.finality = finality
        self.struck: Counter[str] = Counter()
        self._random = random
        self._on_event = on_event
        self._loop = asyncio.get_running_loop()
        self._due_s = self._loop.time() + block_s
        self._halted_until_s: float | None = None
        self._stalled_until_s: float | None = None
        self._pending: list[_Pending] = []
        self._blocks_left: int | None = None
        self._raise_final()

    @property
    def name(self) -> str:
        return self.truth.name

    @property
    def is_idle(self) -> bool:
        """No transaction waits to be mined."""
        return not self._pending

    # -- time goes by --------------------------------------------------------------------------------------------------

    def catch_up(self) -> None:
        """Mines all blocks that are due."""
        now_s = self._loop.time()
        if self._stalled_until_s is not None and now_s >= self._stalled_until_s:
            self._mine_until(self._stalled_until_s)
            self.chain.hold_finality(False)
            self._stalled_until_s = None
            self._raise_final()  # also where no block comes that would
        if self._halted_until_s is not None:
            if now_s < self._halted_until_s:
                return
            self._burst(self._halted_until_s)
        self._mine_until(now_s)

    def send(self, *transfers: SimTransfer, after_s: float) -> SimTx:
        """A new transaction, to be mined no earlier than in `after_s` seconds."""
        tx = self.chain.tx(*transfers)
        self.resend(tx, after_s=after_s)
        return tx

    def resend(self, tx: SimTx, *, after_s: float) -> None:
        self._pending.append(_Pending(tx, self._loop.time() + after_s))

    def end_after(self, blocks: int) -> None:
        """What waits to be mined is forgotten, and after `blocks` more there are none."""
        self.catch_up()
        self._pending.clear()
        self._blocks_left = blocks

    def _mine_until(self, now_s: float) -> None:
        if self._due_s > now_s:
            return
        if not self._pending:
            count = math.floor((now_s - self._due_s) / self.block_s) + 1
            if self._blocks_left is not None:
                count = min(count, self._blocks_left)
                self._blocks_left -= count
            if count:
                self._due_s += count * self.block_s
                self.chain.mine_empty(count, until=_at(self._due_s - self.block_s))
            self._due_s = max(self._due_s, now_s + 0.001)
        while self._due_s <= now_s:
            self._mine_one(self._due_s)
            self._due_s += self.block_s
        self._raise_final()

    def _mine_one(self, at_s: float) -> None:
        ready = [p.tx for p in self._pending if p.ready_s <= at_s and self.chain.takes(p.tx)]
        if any(p.ready_s <= at_s for p in self._pending):
            self._pending = [p for p in self._pending if p.ready_s > at_s]
        self.chain.mine(ready, at=_at(at_s))

    def _burst(self, at_s: float) -> None:
        """The blocks that did not come, at once."""
        missed = min(BURST_MAX, int((at_s - self._due_s) / self.block_s))
        for _ in range(max(0, missed)):
            self._mine_one(at_s)
        self._due_s = max(self._due_s, at_s)
        self._halted_until_s = None
        self._raise_final()

    def _raise_final(self) -> None:
        head = self.chain.height
        tagged = self.chain.height_of(self.finality.tag) if isinstance(self.finality, ByTag) else None
        height = final_height(self.finality, head=head, tagged=tagged)
        if height is not None and height > self.truth.final_height:
            self.truth.final_height = height

    # -- what chains do ------------------------------------------------------------------------------------------------

    def fork(self, *, depth: int, drop_rate: float, replace_rate: float, delay_rate: float, lengthen: int = 0) -> None:
        """Replaces the top `depth` blocks, at most those that are not final, by as many and `lengthen` more.

        Their transactions come again, at another place, for the greater part; some are dropped, some replaced by
        another one of the same sender, some come blocks later.
        """
        self.catch_up()
        depth = min(depth, self.chain.height - self.truth.final_height)
        if depth >= 1:
            self._replace(depth, drop_rate=drop_rate, replace_rate=replace_rate, delay_rate=delay_rate)
            for _ in range(lengthen):
                self._mine_one(self._loop.time())
            self._raise_final()
            self.struck["reorg"] += 1

    def fork_past_finality(self, *, depth: int, drop_rate: float) -> bool:
        """Replaces blocks that were final, `depth` of them. Whether there were as many to replace."""
        self.catch_up()
        if self.truth.begun is None:
            return False
        ancestor = self.truth.final_height - depth
        if ancestor <= self.truth.begun:
            return False
        self._on_event(f"{self.name}: finality is broken above {ancestor}")
        self.truth.break_finality(_at(self._loop.time()), BlockNumber(ancestor))
        self._replace(self.chain.height - ancestor, drop_rate=drop_rate, replace_rate=0.0, delay_rate=0.2)
        self.struck["reorg past finality"] += 1
        return True

    def halt(self, for_s: float) -> None:
        """No block for a while, then those that are missing at once."""
        self.catch_up()
        if self._halted_until_s is None:
            self._on_event(f"{self.name}: no blocks for {for_s:.0f} s")
            self._halted_until_s = self._loop.time() + for_s
            self.struck["halt, then a burst"] += 1

    def stall(self, for_s: float) -> None:
        """The chain's own tags stand still for a while."""
        self.catch_up()
        if self._stalled_until_s is None and isinstance(self.finality, ByTag):
            self._on_event(f"{self.name}: finality stalls for {for_s:.0f} s")
            self._stalled_until_s = self._loop.time() + for_s
            self.chain.hold_finality(True)
            self.struck["finality stall"] += 1

    def heal(self) -> None:
        now_s = self._loop.time()
        if self._stalled_until_s is not None:
            self._stalled_until_s = min(self._stalled_until_s, now_s)
        if self._halted_until_s is not None:
            self._halted_until_s = min(self._halted_until_s, now_s)
        self.catch_up()

    def _replace(self, depth: int, *, drop_rate: float, replace_rate: float, delay_rate: float) -> None:
        top = self.chain.height
        self._on_event(f"{self.name}: fork of {depth} blocks below {top}")
        blocks: list[list[SimTx]] = []
        later: list[SimTx] = []
        for number in range(top - depth + 1, top + 1):
            txs, later = later, []
            content = self.chain.content_at(number)
            for tx in () if content is None else content.txs:
                self._place(tx, txs, later, drop_rate, replace_rate, delay_rate)
            if len(txs) > 1 and self._random.random() < 0.5:
                txs = txs[1:] + txs[:1]
            blocks.append(txs)
        blocks[-1].extend(later)
        self.chain.replace_top(depth, blocks, until=self.chain.head.time)

    def _place(
        self,
        tx: SimTx,
        now: list[SimTx],
        later: list[SimTx],
        drop_rate: float,
        replace_rate: float,
        delay_rate: float,
    ) -> None:
        drawn = self._random.random()
        if drawn < drop_rate:
            self.struck["transaction dropped"] += 1
            if self._random.random() < 0.5:  # it was only late
                self.resend(tx, after_s=self._random.uniform(0, 20) * self.block_s)
        elif drawn < drop_rate + replace_rate:
            self.struck["transaction replaced"] += 1
            now.append(self.chain.tx(*tx.transfers, instead_of=tx))
        elif drawn < drop_rate + replace_rate + delay_rate:
            self.struck["transaction included elsewhere"] += 1
            later.append(tx)
        else:
            now.append(tx)


def _at(seconds: float) -> datetime:
    return EPOCH + timedelta(seconds=seconds)
