"""`settler bench match`: what it did and what it says, at sizes of a moment."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import func, select

from settler.bench.databases import opened
from settler.bench.filling import FIRST_SHARED, SHARE_ONE, Waits, sqlite_filler
from settler.bench.matching import TOKEN, matching
from settler.domain.invoices import Match
from settler.storage import migrate, schema
from settler.storage.types import UINT256_DIGITS

pytestmark = pytest.mark.slow
"""Whole benchmarks, small: seconds each."""

FIELDS = {
    "database", "open_invoices", "warm_cpu_us", "warm_wall_us", "cold_cpu_us", "cold_wall_us", "matched",
    "database_mib", "rss_mib", "peak_rss_mib", "cpu_ratio", "wall_ratio", "filled_s",
}  # fmt: skip


async def test_match__of_two_sizes__matches_nine_in_ten_at_each() -> None:
    report = await matching(sizes=[300, 40], database=None, transfers_a_span=30)
    assert [(row["database"], row["open_invoices"]) for row in report.rows] == [("sqlite", 40), ("sqlite", 300)]
    for row in report.rows:
        assert set(row) == FIELDS
        assert 20 <= row["matched"] <= 30
        assert row["warm_cpu_us"] > 0
    assert report.rows[0]["cpu_ratio"] == report.rows[0]["wall_ratio"] == 1.0


@pytest.mark.postgres
async def test_match__on_postgresql__is_measured_beside_sqlite(postgres_db_url: str) -> None:
    report = await matching(sizes=[40], database=postgres_db_url, transfers_a_span=30)
    assert [row["database"] for row in report.rows] == ["sqlite", "postgresql"]
    assert report.rows[0]["matched"] == report.rows[1]["matched"]


def test_waits__of_twenty_in_a_row__are_the_mix() -> None:
    kinds = [Waits.of(number).match for number in range(20)]
    assert [kinds.count(each) for each in (Match.ADDRESS, Match.AMOUNT, Match.REFERENCE, Match.PAYER)] == [14, 3, 2, 1]
    assert kinds.index(Match.AMOUNT) == FIRST_SHARED


def test_waits__for_an_amount_at_one_address__are_all_different() -> None:
    amounts = [Waits.of(n).amount for n in range(SHARE_ONE) if Waits.of(n).match is Match.AMOUNT]
    assert len(set(amounts)) == len(amounts)


async def test_filler__two_steps__write_each_invoice_once_as_the_daemon_has_them(tmp_path: Path) -> None:
    path = tmp_path / "filled.db"
    await migrate.upgrade(f"sqlite:///{path}")
    filler = sqlite_filler(path)
    for upto in (30, 2 * SHARE_ONE + 50):
        await asyncio.to_thread(filler.fill, upto, chain="base", token=TOKEN)
    async with opened(f"sqlite:///{path}") as db, db.read() as conn:
        options = schema.invoice_options
        found = (await conn.execute(select(options.c.pay_to, options.c.amount_base))).all()
        watched = (await conn.execute(select(func.count()).select_from(schema.watched_addresses))).scalar_one()
        (text,) = (await conn.exec_driver_sql("SELECT amount_base FROM invoice_options LIMIT 1")).one()
    assert len(found) == 2 * SHARE_ONE + 50
    assert {row.pay_to for row in found} == {Waits.of(n).pay_to for n in range(2 * SHARE_ONE + 50)}
    assert watched == len({row.pay_to for row in found})
    assert len(text) == UINT256_DIGITS
