from __future__ import annotations

from pathlib import Path

import pytest

from settler.anvil import AnvilError, find_anvil


def _program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without anvil."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr("settler.anvil._PROJECT_ROOT", tmp_path / "project")
    monkeypatch.setattr("settler.anvil._platform", lambda: "linux-amd64")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_find_anvil__nowhere__names_the_remedy(bare: Path) -> None:
    with pytest.raises(AnvilError, match="make anvil"):
        find_anvil()


def test_find_anvil__override_comes_first(bare: Path) -> None:
    _program(bare / "bin/anvil")
    mine = _program(bare / "elsewhere/my-anvil")
    assert find_anvil(str(mine)) == mine


def test_find_anvil__override_that_cannot_run__is_refused(bare: Path) -> None:
    _program(bare / "bin/anvil")
    with pytest.raises(AnvilError, match="SETTLER_ANVIL"):
        find_anvil(str(bare / "missing"))


def test_find_anvil__empty_override__counts_as_unset(bare: Path) -> None:
    on_path = _program(bare / "bin/anvil")
    assert find_anvil("") == on_path


@pytest.mark.parametrize("root", [".", "project"])
def test_find_anvil__installed_by_make(bare: Path, root: str) -> None:
    installed = _program(bare / root / "node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil")
    assert find_anvil() == installed
