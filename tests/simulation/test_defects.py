"""The simulation can fail: a few of the planted defects, those that simple worlds show soon. All of them stand in
README.md, with what finds each, by `python -m tests.simulation.defects`.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from tests.simulation.defects import STEPS, Found, look_for, simplest_first
from tests.simulation.defects_planting import DEFECTS, take_back

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

WORLDS = 3
"""At most so many are tried: plans may be drawn otherwise one day, and then another world shows it first."""
QUICK = {
    "overlooks payments below the head": "I1",
    "tells at every look": "I6",
    "is final one block early": "I7",
}
"""Defects, and the invariant that tells of each first."""


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[ProcessPoolExecutor]:
    """A defect damages its process for good: each has its own."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        yield pool


@pytest.fixture(scope="module")
def tried(elsewhere: ProcessPoolExecutor) -> dict[str, Found]:
    found = elsewhere.map(look_for, QUICK, [simplest_first(name, range(20))[:WORLDS] for name in QUICK])
    return {each.name: each for each in found}


@pytest.mark.parametrize("name", QUICK)
def test_look_for__planted_defect__is_found(tried: dict[str, Found], name: str) -> None:
    assert tried[name].seed is not None, f"{tried[name].tried} worlds did not show that the program {name}"
    assert tried[name].by.startswith(QUICK[name]), tried[name].by


def test_look_for__same_worlds_undamaged__finds_nothing(
    elsewhere: ProcessPoolExecutor, tried: dict[str, Found]
) -> None:
    worlds = {(each.seed, tuple(DEFECTS[each.name].faults)): each for each in tried.values() if each.seed is not None}
    found = list(
        elsewhere.map(
            look_for,
            [each.name for each in worlds.values()],
            [[each.seed] for each in worlds.values()],
            [STEPS] * len(worlds),
            [False] * len(worlds),
        )
    )

    assert [each.by for each in found] == [""] * len(worlds)


@pytest.mark.parametrize("name", DEFECTS)
def test_plant__each_defect__finds_the_source_it_edits(name: str) -> None:
    """A defect whose place in the program is gone proves nothing any more."""
    try:
        DEFECTS[name].plant()
    finally:
        planted = take_back()

    assert planted > 0
