"""What all benchmarks share."""

from __future__ import annotations

import pytest

from settler.bench.measuring import Machine, Meter, Report, forget_peak, machine, peak_rss_mib, percentile, rss_mib


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1.0), (0.01, 1.0), (0.5, 50.0), (0.95, 95.0), (0.99, 99.0), (1.0, 100.0)]
)
def test_percentile__of_one_to_a_hundred__is_the_nearest_rank(share: float, expected: float) -> None:
    assert percentile([float(n) for n in range(100, 0, -1)], share) == expected


def test_percentile__of_none__is_an_error() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


def test_meter__of_work__counts_processor_time_within_wall_time() -> None:
    with Meter() as spent:
        sum(range(300_000))
    assert spent.cpu_s > 0
    assert spent.wall_s > 0


def test_peak__after_a_large_block_was_let_go__is_above_what_is_held() -> None:
    forget_peak()
    before = rss_mib()
    block = bytearray(b"\1") * (64 * 2**20)
    del block
    assert peak_rss_mib() >= before + 60


def test_report__as_json__has_machine_inputs_and_rows() -> None:
    where = Machine(processor="P", cores=2, python="3.11", system="Linux x86_64")
    report = Report(benchmark="proof", inputs={"logs": 5}, rows=[{"step": "trie", "ms": 1.5}], machine=where)
    assert report.as_json() == {
        "benchmark": "proof",
        "machine": {"processor": "P", "cores": 2, "python": "3.11", "system": "Linux x86_64"},
        "inputs": {"logs": 5},
        "rows": [{"step": "trie", "ms": 1.5}],
    }


def test_machine__here__names_its_processor_and_cores() -> None:
    assert machine().cores >= 1
    assert machine().line().startswith(f"{machine().cores} cores of ")
