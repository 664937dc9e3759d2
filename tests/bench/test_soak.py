"""`settler bench soak`: what it measures, on a run of seconds."""

from __future__ import annotations

import pytest

from settler.bench.soak import slope
from tests.bench.commands import said


@pytest.mark.parametrize(
    ("ys", "expected"),
    [
        ([5.0, 5.0, 5.0, 5.0], 0.0),
        ([1.0, 3.0, 5.0, 7.0], 2.0),
        ([0.0, 1.0, 0.0, 1.0], 0.2),  # by hand: sum of (x - 1.5)(y - 0.5) is 1, of (x - 1.5)² is 5
    ],
)
def test_slope__of_points__is_that_of_the_nearest_line(ys: list[float], expected: float) -> None:
    assert slope([0.0, 1.0, 2.0, 3.0], ys) == pytest.approx(expected)


def test_slope__of_one_place__is_none_to_speak_of() -> None:
    assert slope([3.0], [7.0]) == 0.0


@pytest.mark.slow
@pytest.mark.anvil
async def test_soak__of_seconds__settles_every_payment_and_says_what_it_measured() -> None:
    figure = await said("soak", "--minutes", "0.1", "--rate", "10")
    assert figure["payments"] == figure["settled"] == 60
    assert 0 < figure["payments_per_s"] <= 11
    assert figure["samples"] >= 8
    assert 50 < figure["rss_mib_warm"] < 500
    least, most = figure["open_files"]
    assert 5 < least <= most < 100
    least, most = figure["tasks"]
    assert 5 < least <= most < 200
