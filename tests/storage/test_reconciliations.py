"""Which runs of `settler reconcile` are kept for the metrics."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from chains.model import BlockNumber, BlockSpan, ChainId
from settler.storage import chains, reconciliations
from settler.storage.engine import Database

NOW = datetime(2026, 3, 1, tzinfo=UTC)
BASE = ChainId(8453)


class Kept:
    def __init__(self, db: Database) -> None:
        self.db = db
        self.runs = 0

    async def store(self, first: int, last: int, *, breaks: int = 0, is_from_start: bool = True) -> bool:
        self.runs += 1
        async with self.db.write() as conn:
            return await reconciliations.store(
                conn,
                chain_id=BASE,
                span=BlockSpan(first=BlockNumber(first), last=BlockNumber(last)),
                is_from_start=is_from_start,
                breaks=breaks,
                now=NOW + timedelta(days=self.runs),
            )

    async def row(self) -> tuple[int, int, int, int]:
        """First and last block, breaks, and which run it was."""
        async with self.db.read() as conn:
            (found,) = (await reconciliations.newest(conn)).values()
        return found.first_number, found.last_number, found.breaks, (found.finished_at - NOW).days


@pytest.fixture
async def kept(db: Database) -> Kept:
    async with db.write() as conn:
        await chains.register(conn, chain_id=BASE, name="base", tokens=[], now=NOW)
    return Kept(db)


async def test_store__a_newer_run__replaces_the_older(kept: Kept) -> None:
    assert await kept.store(5, 90, breaks=2)
    assert await kept.row() == (5, 90, 2, 1)
    assert await kept.store(5, 100)
    assert await kept.row() == (5, 100, 0, 2)


async def test_store__a_part_that_goes_on_from_a_clean_run__is_both_together(kept: Kept) -> None:
    await kept.store(5, 90)
    assert await kept.store(91, 100, is_from_start=False)
    assert await kept.row() == (5, 100, 0, 2)
    assert await kept.store(80, 120, breaks=1, is_from_start=False)
    assert await kept.row() == (5, 120, 1, 3)


@pytest.mark.parametrize(
    ("first", "last", "breaks"),
    [(92, 100, 0), (50, 89, 0), (91, 100, 3)],
    ids=["leaves a gap", "ends before the newest", "follows breaks"],
)
async def test_store__a_part_that_says_nothing_of_the_whole__is_not_kept(
    kept: Kept, first: int, last: int, breaks: int
) -> None:
    await kept.store(5, 90, breaks=breaks)
    assert not await kept.store(first, last, is_from_start=False)
    assert await kept.row() == (5, 90, breaks, 1)


async def test_store__a_part_with_nothing_before_it__is_not_kept(kept: Kept) -> None:
    assert not await kept.store(50, 90, is_from_start=False)
    async with kept.db.read() as conn:
        assert await reconciliations.newest(conn) == {}
