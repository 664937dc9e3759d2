"""What `settler reconcile` keeps for the metrics, and says where it keeps nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from chains.model import BlockNumber, BlockSpan
from settler.cli.reconcile import _keep, _Records, _Run
from settler.storage import chains, reconciliations
from settler.storage.engine import Database
from tests.config.samples import BASE, read

NOW = datetime(2026, 3, 1, tzinfo=UTC)


class Runs:
    def __init__(self, db: Database, folder: Path) -> None:
        self.db = db
        chain = read(folder, BASE).chains["base"]
        self.run = _Run(chain=chain, span=BlockSpan(first=BlockNumber(0), last=BlockNumber(90)), breaks=2)

    async def keep(self, *, is_from_start: bool = True, violations: int = 0, **changes: object) -> list[str]:
        """The notes that the command prints."""
        records = _Records(violations=[{} for _ in range(violations)])
        run = replace(self.run, **changes)  # type: ignore[arg-type]  # its own fields
        await _keep(self.db, [run], records, is_from_start=is_from_start)
        return records.notes

    async def breaks(self) -> list[int]:
        async with self.db.read() as conn:
            return [each.breaks for each in (await reconciliations.newest(conn)).values()]


@pytest.fixture
async def runs(db: Database, tmp_path: Path) -> Runs:
    made = Runs(db, tmp_path)
    async with db.write() as conn:
        await chains.register(conn, chain_id=made.run.chain.chain_id, name="base", tokens=[], now=NOW)
    return made


async def test_keep__breaks_and_violations_of_the_whole_database__count_together(runs: Runs) -> None:
    assert await runs.keep(violations=3) == []
    assert await runs.breaks() == [5]


async def test_keep__a_part_that_follows_no_clean_run__is_noted_and_hides_no_break(runs: Runs) -> None:
    await runs.keep()
    (note,) = await runs.keep(
        is_from_start=False, breaks=0, span=BlockSpan(first=BlockNumber(80), last=BlockNumber(99))
    )
    assert note.startswith("base: a part of the chain was read")
    assert await runs.breaks() == [2]


async def test_keep__a_database_that_takes_nothing__is_noted_and_no_failure(runs: Runs) -> None:
    """A replica, or a role that may only read."""
    async with runs.db.write() as conn:
        await conn.execute(sa.text("DROP TABLE reconciliations"))
    (note,) = await runs.keep()
    assert note.startswith("the result is not kept for settler_reconciliation_breaks: ")
    assert "\n" not in note
