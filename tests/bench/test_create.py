"""`settler bench create`: what it did and what it says, with a few invoices."""

from __future__ import annotations

import pytest

from settler.bench.creating import creating
from tests.bench.commands import said

FIELDS = {
    "database", "invoices_per_s", "cpu_us_per_invoice", "p50_ms", "p99_ms", "store_per_s", "store_cpu_us",
    "floor_per_s", "floor_cpu_us", "wall_ratio",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.postgres
async def test_create__on_both_databases__says_what_it_measured(postgres_db_url: str) -> None:
    report = await creating(invoices=40, at_once=8, database=postgres_db_url)
    assert [row["database"] for row in report.rows] == ["sqlite", "postgresql"]
    for row in report.rows:
        assert set(row) == FIELDS
        assert 0 < row["p50_ms"] <= row["p99_ms"]
        assert row["invoices_per_s"] > 0


@pytest.mark.slow
async def test_create__by_the_command__prints_json() -> None:
    report = await said("create", "--invoices", "20", "--at-once", "4")
    assert report["benchmark"] == "create"
    assert report["inputs"] == {"invoices": 20, "at_once": 4}
    assert [set(row) for row in report["rows"]] == [FIELDS]
