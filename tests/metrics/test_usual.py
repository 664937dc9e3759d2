"""What alerts measure a chain against: what it is known for, under the policy that is configured."""

from __future__ import annotations

from pathlib import Path

import pytest

from settler.runtime.setups import usual_finality_s
from tests.config.samples import BASE, PRIVATE, read


@pytest.mark.parametrize(
    ("finality", "expected"),
    [
        ('"finalized"', 1500.0),
        ('"safe"', 1500.0),
        ("12", 24.0),
        ('{ tag = "finalized", min_depth = 50 }', 1500.0),
        ('{ tag = "finalized", min_depth = 2000 }', 4000.0),
    ],
)
def test_usual_finality__follows_the_policy(tmp_path: Path, finality: str, expected: float) -> None:
    assert usual_finality_s(read(tmp_path, f"{BASE}\nfinality = {finality}\n").chains["base"]) == expected


def test_usual_finality__of_a_chain_nobody_knows__is_not_known(tmp_path: Path) -> None:
    assert usual_finality_s(read(tmp_path, PRIVATE).chains["private"]) is None
