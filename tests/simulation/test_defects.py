"""The simulation can fail: a few of the planted defects, those that simple worlds show soon. All of them stand in
README.md, with what finds each, by `python -m tests.simulation.defects`.
"""

from __future__ import annotations

from collections.abc import Iterator
from multiprocessing.pool import Pool

import pytest

from tests.simulation.defects import STEPS, Found, look_for, processes, simplest_first
from tests.simulation.defects_planting import DEFECTS, take_back

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

WORLDS = 3
"""At most so many are tried: plans may be drawn otherwise one day, and then another world shows it first."""
QUICK = (
    "needs no second reading",
    "drops what nobody was asked for",
    "tells at every look",
    "has delivered before it sends",
)


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Pool]:
    """A defect damages its process for good: each has its own."""
    with processes(2) as pool:
        yield pool


@pytest.fixture(scope="module")
def tried(elsewhere: Pool) -> dict[str, Found]:
    wanted = [(name, simplest_first(name, range(20))[:WORLDS]) for name in QUICK]
    found = elsewhere.starmap(look_for, wanted, chunksize=1)
    return {each.name: each for each in found}


@pytest.mark.parametrize("name", QUICK)
def test_look_for__planted_defect__is_found(tried: dict[str, Found], name: str) -> None:
    assert tried[name].seed is not None, f"{tried[name].tried} worlds did not show that the program {name}"


def test_look_for__same_worlds_undamaged__finds_nothing(elsewhere: Pool, tried: dict[str, Found]) -> None:
    worlds = {(each.seed, tuple(DEFECTS[each.name].faults)): each for each in tried.values() if each.seed is not None}
    wanted = [(each.name, [each.seed], STEPS, False) for each in worlds.values()]
    found = elsewhere.starmap(look_for, wanted, chunksize=1)

    assert [each.by for each in found] == [""] * len(worlds)


@pytest.mark.parametrize("name", DEFECTS)
def test_plant__each_defect__finds_the_source_it_edits(name: str) -> None:
    """A defect whose place in the program is gone proves nothing any more."""
    try:
        DEFECTS[name].plant()
    finally:
        planted = take_back()

    assert planted > 0
