"""`settler bench live`: what it measures and counts, on a run of seconds."""

from __future__ import annotations

import pytest

from settler.bench import live
from settler.bench.latency import loads
from settler.config import anvil_program
from tests.bench.commands import said


def test_loads__few_payments__are_never_more_in_a_transaction_than_there_are() -> None:
    steady, alone, together = (each.load for each in loads(steady_blocks=7, payments=3, busy_blocks=2))
    assert (steady.payments, steady.per_transaction, steady.blocks) == (3, 1, 7)
    assert (alone.payments, alone.per_transaction, alone.blocks) == (3, 1, 2)
    assert (together.payments, together.per_transaction, together.blocks) == (3, 3, 2)


@pytest.mark.slow
@pytest.mark.anvil
async def test_live__of_seconds__records_and_settles_every_payment() -> None:
    printed = await said("live", "--polls", "0", "--payments", "20", "--blocks", "1", "--steady", "1")
    assert printed["calls"] is None
    rows = printed["latencies"]["rows"]
    assert [row["payments"] for row in rows] == [5, 20, 20]
    for row in rows:
        for what in ("recorded", "settled"):
            assert 0 < row[f"{what}_p50_ms"] <= row[f"{what}_p95_ms"] <= row[f"{what}_p99_ms"] < 60_000
        assert row["cpu_ms"] > 0
        assert row["longest_hold_ms"] >= 0
    assert printed["latencies"]["inputs"]["quorum"] == 2
    assert printed["latencies"]["inputs"]["proof"] == "receipts"


@pytest.mark.slow
@pytest.mark.anvil
async def test_calls__of_one_chain_with_a_quorum__are_counted_idle_and_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "SETTINGS", live.SETTINGS[-1:])
    monkeypatch.setattr(live, "CADENCES", live.CADENCES[-1:])
    report = await live.calls(polls=10, anvil=anvil_program())
    idle, busy = report.rows
    assert (idle["load"], busy["load"]) == ("idle", "busy")
    for row in report.rows:
        assert (row["chain"], row["providers"], row["quorum"], row["proof"]) == ("arbitrum", 3, 2, "receipts")
        assert row["blocks"] == 20
        assert row["calls"] > 0
        assert row["calls_per_1000_blocks"] == 50 * row["calls"]
    assert busy["calls"] > idle["calls"], "payments are read again and proven"
