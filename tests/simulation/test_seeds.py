"""Worlds as a change meets them: every kind of fault, seeds that once found something, and seeds nobody has seen.

A world that fails prints the end of its trace, what was wrong, and the command that plays it again.
"""

from __future__ import annotations

import secrets
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from settler.simulation.plan import ALL_FAULTS, FAULT_GROUPS, STEPS
from settler.simulation.run import run_seed
from settler.simulation.verdict import Verdict

pytestmark = pytest.mark.timeout(900)

LINES_SHOWN = 40
PROVIDERS, CHAINS, PROCESSES, STORES, RECEIVERS = FAULT_GROUPS
COVERING: Sequence[tuple[int, Sequence[str]]] = (
    (96, PROVIDERS[0::5]),
    (75, PROVIDERS[1::5]),
    (194, PROVIDERS[2::5]),
    (96, PROVIDERS[3::5]),
    (254, PROVIDERS[4::5]),
    (116, (*CHAINS, *PROCESSES)),
    (96, STORES),
    (75, RECEIVERS[0::2]),
    (194, RECEIVERS[1::2]),
)
"""Worlds of one chain with a tag, three providers of which two must agree, and somebody who is told: whatever may go
wrong can. Each has its share of all kinds, so that each strikes, whatever a change does to the draws.
"""
COVERING_STEPS = 60
ATTEMPTS = 3
FRESH = 4
FRESH_STEPS = 60


@dataclass(frozen=True, kw_only=True)
class Found:
    """A world that found something once, and is kept."""

    seed: int
    steps: int = STEPS
    only: Sequence[str] = ()
    story: str


FOUND: tuple[Found, ...] = ()
"""A seed means the same world only as long as worlds are drawn alike: what a world finds gets an ordinary test too."""


def lived(seed: int, steps: int, only: Sequence[str] = ()) -> Verdict:
    """The verdict of a world, which is to be good."""
    verdict = run_seed(seed, steps, only=only).verdict
    if not verdict.is_good:
        kinds = "".join(f" --fault {shlex.quote(kind)}" for kind in only)
        again = f"settler simulate --seeds 1 --seed {seed} --steps {steps}{kinds}"
        said = [*verdict.lines[-LINES_SHOWN:], *map(str, verdict.violations), *verdict.problems]
        pytest.fail("\n".join([*said, f"trace {verdict.digest}; to see it again: {again}"]), pytrace=False)
    return verdict


@pytest.mark.parametrize(("seed", "kinds"), COVERING)
def test_every_kind_of_fault__strikes_and_breaks_nothing(seed: int, kinds: Sequence[str]) -> None:
    struck: Counter[str] = Counter()
    left = list(kinds)
    for attempt in range(ATTEMPTS):  # what had no opportunity gets more of them, in a longer life
        if left:
            struck += lived(seed, COVERING_STEPS * (1 + attempt), left).faults
            left = [kind for kind in kinds if not struck[kind]]
    assert left == []


def test_every_kind_of_fault__has_its_share() -> None:
    assert Counter(kind for _, kinds in COVERING for kind in kinds) == Counter(ALL_FAULTS)


@pytest.mark.parametrize("found", [*FOUND, *[None] * FRESH], ids=lambda found: f"{found.seed}" if found else "fresh")
def test_seed__breaks_nothing(found: Found | None) -> None:
    """`None`: one that nobody has seen, another in each run."""
    if found is None:
        found = Found(seed=secrets.randbelow(2**31), steps=FRESH_STEPS, story="")
    lived(found.seed, found.steps, found.only)
