"""What metrics and health learn of a chain after each tick, and when its row is read for them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from chains.model import BlockHash, BlockNumber, ChainId
from settler.clock import FakeClock
from settler.health import Health
from settler.metrics import Metrics
from settler.runtime.loop import Ticked
from settler.runtime.watching import TickWatcher
from settler.storage import chains
from settler.storage.chains import ChainState
from settler.storage.engine import Database

NOW = datetime(2026, 3, 1, tzinfo=UTC)
BASE = ChainId(8453)


class CountedReads:
    """A database that counts what is read: `Database.read` as far as the watcher sees."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.reads = 0

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        self.reads += 1
        async with self.db.read() as conn:
            yield conn


class Watched:
    def __init__(self, db: Database) -> None:
        clock = FakeClock(NOW)
        self.db = db
        self.counted = CountedReads(db)
        self.metrics = Metrics(clock, version="0")
        self.health = Health(clock)
        self.health.expect_chain("base")
        self.watcher = TickWatcher(
            db=self.counted,  # type: ignore[arg-type]  # all that the watcher uses of a Database
            metrics=self.metrics,
            health=self.health,
            chains={"base": BASE},
        )

    async def row(self, head: int, **changes: object) -> ChainState:
        """The chain's row, once it says so."""
        block = BlockHash(bytes([head]) * 32)
        heights = {
            f"{which}_{what}": value
            for which in ("scanned", "settled")
            for what, value in (("number", BlockNumber(head)), ("hash", block), ("time", NOW))
        }
        async with self.db.write() as conn:
            before = await chains.get(conn, BASE)
            if before is None:
                await chains.register(conn, chain_id=BASE, name="base", tokens=[], now=NOW)
                before = await chains.get(conn, BASE)
            assert before is not None
            values = {**heights, "head_number": BlockNumber(head), "head_time": NOW, **changes}
            return await chains.advance(conn, before, now=NOW, guard=(), **values)

    async def tick(self, stage: str, row: ChainState | None, mark: int, error: Exception | None = None) -> None:
        await self.watcher.after_tick(Ticked(stage=stage, chain="base", outcome="ok", row=row, mark=mark, error=error))

    @property
    def head(self) -> float | None:
        return self.metrics._on.registry.get_sample_value("settler_head_block", {"chain": "base"})


@pytest.fixture
def watched(db: Database) -> Watched:
    return Watched(db)


async def test_after_tick__its_row__is_shown_without_reading_it_again(watched: Watched) -> None:
    await watched.tick("watch", await watched.row(7), watched.watcher.before_tick("base"))
    await watched.tick("watch", await watched.row(8), watched.watcher.before_tick("base"))
    assert (watched.head, watched.counted.reads) == (8, 0)


async def test_after_tick__no_row__is_read(watched: Watched) -> None:
    await watched.row(7)
    await watched.tick("announced", None, watched.watcher.before_tick("base"))
    assert (watched.head, watched.counted.reads) == (7, 1)


async def test_after_tick__another_stage_showed_a_newer_row_meanwhile__is_not_undone(watched: Watched) -> None:
    """Settle halts the chain while watch waits for its node with the row of before: it stays halted to see."""
    mark = watched.watcher.before_tick("base")
    of_before = await watched.row(7)
    halted = await watched.row(8, halted_at=NOW, halt_reason="finality violation")
    await watched.tick("settle", halted, watched.watcher.before_tick("base"))
    await watched.tick("watch", of_before, mark)
    assert watched.health.chain("base").halt_reason == "finality violation"
    assert (watched.head, watched.counted.reads) == (8, 1)


async def test_after_tick__a_lag__is_of_the_row(watched: Watched) -> None:
    row = await watched.row(7)
    behind = replace(row, head_number=BlockNumber(9), head_time=NOW + timedelta(seconds=24))
    await watched.tick("watch", behind, watched.watcher.before_tick("base"))
    assert watched.health.chain("base").lag_s == 24.0
