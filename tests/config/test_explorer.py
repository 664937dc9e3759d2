"""`chains.X.explorer`: where links to transactions go."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.samples import BASE, PRIVATE, problems, read


def explorer(folder: Path, text: str) -> str | None:
    return read(folder, text).catalog()[text.partition("[chains.")[2].partition("]")[0]].explorer


def test_explorer__of_a_known_chain__is_the_known_one_unless_another_is_given(tmp_path: Path) -> None:
    assert explorer(tmp_path, BASE) == "https://basescan.org"
    assert explorer(tmp_path, BASE + 'explorer = "http://scan.example:8080/base/"\n') == "http://scan.example:8080/base"


def test_explorer__of_an_unknown_chain__is_none_unless_given(tmp_path: Path) -> None:
    given = PRIVATE.replace("finality = 3\n", 'finality = 3\nexplorer = "https://scan.example"\n')
    assert explorer(tmp_path, PRIVATE) is None
    assert explorer(tmp_path, given) == "https://scan.example"


@pytest.mark.parametrize(
    "text",
    ["javascript:alert(1)", "basescan.org", "https://", "https://user:pw@scan.example", "https://scan.example/?q=", ""],
)
def test_explorer__that_is_no_web_site__is_refused(tmp_path: Path, text: str) -> None:
    found = problems(tmp_path, BASE + f'explorer = "{text}"\n')
    assert found == {"chains.base.explorer": "is no address of a web site; write one like https://basescan.org"}
