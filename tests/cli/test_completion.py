"""What a shell offers after Tab."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import CONFIG, Shell

BASH = shutil.which("bash") or "bash"


def offered(monkeypatch: pytest.MonkeyPatch, settler: Shell, line: str) -> list[str]:
    """The words for the last one of the line, asked for as the script of bash asks."""
    words = line.split(" ")
    monkeypatch.setenv("_SETTLER_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    settler.capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        settler()
    out, err = settler.capsys.readouterr()
    assert (ended.value.code, err) == (0, "")
    return out.split()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("settler inv", ["invoice"]),
        ("settler invoice list --status s", ["settled"]),
        ("settler invoice create --match pay", ["payer"]),
        ("settler hold list --reason d", ["depeg"]),
        ("settler export led", ["ledger"]),
        ("settler export ledger --format p", ["parquet"]),
        ("settler completion f", ["fish"]),
        ("settler rescan --chain ", ["local"]),
        ("settler chain resume l", ["local"]),
        ("settler rescan -c other.toml --chain ", ["base", "bnb"]),
        ("settler rescan -c missing.toml --chain ", []),
        ("settler rescan -c broken.toml --chain ", []),
    ],
)
def test_completion__of_what_is_known_without_a_database(
    bare_settler: Shell, monkeypatch: pytest.MonkeyPatch, line: str, words: list[str]
) -> None:
    (bare_settler.folder / "other.toml").write_text(CONFIG.replace("chains.local", "chains.base") + "[chains.bnb]\n")
    (bare_settler.folder / "broken.toml").write_bytes(b"[chains\xff")
    assert offered(monkeypatch, bare_settler, line) == words


def test_completion__a_strangers_configuration__offers_nothing_that_a_shell_would_carry_out(
    bare_settler: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script for zsh evaluates what it is offered, and escapes `$` but no backslash before it: one Tab in a folder
    with this file ran the command."""
    hostile = r"""[chains.base]
[chains."\\$(touch broken)"]
[chains."x'\"; touch broken"]
[chains."two\nlines"]
"""
    (bare_settler.folder / "other.toml").write_text(hostile)
    assert offered(monkeypatch, bare_settler, "settler rescan -c other.toml --chain ") == ["base"]


@pytest.mark.parametrize(
    ("shell", "sign"), [("bash", "complete -o"), ("zsh", "#compdef settler"), ("fish", "--no-files")]
)
def test_completion__script__is_printed_for_each_shell(bare_settler: Shell, shell: str, sign: str) -> None:
    ran = bare_settler("completion", shell)
    assert (ran.code, ran.err) == (0, "")
    assert sign in ran.out
    assert "_SETTLER_COMPLETE" in ran.out


def test_completion__in_bash__offers_commands(bare_settler: Shell, tmp_path: Path) -> None:
    """The script in a real shell, with the program on its path under its own name."""
    program = tmp_path / "bin" / "settler"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m settler "$@"\n')
    program.chmod(0o755)
    script = bare_settler("completion", "bash").out
    asked = 'COMP_WORDS=(settler invoice c); COMP_CWORD=2; _settler_completion settler; echo "${COMPREPLY[@]}"'
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [BASH, "--norc", "-c", script + asked],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PATH": path, "PYTHONPATH": root},
    )
    assert done.stdout.split() == ["create", "cancel"]
