"""`settler bench webhooks`: everything arrives once, and each figure is there."""

from __future__ import annotations

import psutil
import pytest

from settler.bench.measuring import Unmeasurable
from settler.bench.webhooks import deliver
from settler.storage import migrate

pytestmark = pytest.mark.slow
"""Whole benchmarks, small: seconds each."""


def _check(rows: list[dict[str, float]], events: int) -> None:
    assert [row["endpoints"] for row in rows] == [1, 3]
    for row in rows:
        assert row["deliveries"] == row["posts"] == events
        assert row["body_bytes"] > 500
        assert 0 < row["ticks"] <= events + 2
        for figure in ("wall_s", "per_s", "cpu_us", "floor_cpu_us", "floor_per_s", "ratio"):
            assert row[figure] > 0, figure


async def test_deliver__a_few_events__each_arrives_once() -> None:
    report = await deliver(count=40, endpoints=(1, 3))
    assert report.inputs == {"database": "sqlite", "events": 40}
    _check([dict(row) for row in report.rows], 40)


@pytest.mark.postgres
async def test_deliver__from_postgresql__each_arrives_once(empty_postgres_db_url: str) -> None:
    with pytest.raises(Unmeasurable, match="settler migrate"):
        await deliver(count=1, database=empty_postgres_db_url)
    await migrate.upgrade(empty_postgres_db_url)
    report = await deliver(count=40, endpoints=(1, 3), database=empty_postgres_db_url)
    assert report.inputs["database"] == "postgresql"
    _check([dict(row) for row in report.rows], 40)


async def test_deliver__done__leaves_no_process_behind() -> None:
    await deliver(count=1, endpoints=(1,))
    left = [" ".join(child.cmdline()) for child in psutil.Process().children()]
    assert not [command for command in left if "webhook_receiver" in command]
