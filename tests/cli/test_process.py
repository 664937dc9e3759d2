"""The program from outside: a process, its output, its exit code."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import CONFIG, SHOP

ROOT = Path(__file__).parents[2]
HEAVY = (
    "aiohttp",
    "alembic",
    "eth_account",
    "prometheus_client",
    "pydantic",
    "rich",
    "sqlalchemy",
    "structlog",
    "web3",
)


def settler(folder: Path, *args: str, **environ: str) -> subprocess.CompletedProcess[str]:
    (folder / "settler.toml").write_text(CONFIG)
    return subprocess.run(
        [sys.executable, "-c", "import sys; from settler.cli import main; sys.exit(main())", *args],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_process__creates_and_lists(tmp_path: Path) -> None:
    args = ("--amount", "1.50", "--reference", "a", "--option", f"local:USDC:{SHOP}", "--json")
    made = settler(tmp_path, "invoice", "create", *args)
    assert (made.returncode, made.stderr) == (0, "")
    listed = settler(tmp_path, "invoice", "list", "--json")
    assert json.loads(listed.stdout) == [json.loads(made.stdout)]


def test_process__environment__overrides_the_file(tmp_path: Path) -> None:
    ran = settler(tmp_path, "invoice", "list", SETTLER__INVOICES__LATE="never")
    assert ran.returncode == 2
    assert ran.stderr == (
        "error: invoices.late: 'never' is not known; write 'accept' or 'hold' (set by SETTLER__INVOICES__LATE)\n"
    )


def test_process__wrong_usage__is_one_line_and_no_traceback(tmp_path: Path) -> None:
    ran = settler(tmp_path, "nope")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == "error: settler: No such command 'nope'; see settler --help\n"


def test_help__loads_nothing_heavy(tmp_path: Path) -> None:
    probe = (
        "import sys; from settler.cli import main; code = main(['--help']);"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr); sys.exit(code)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", probe],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0
    assert ran.stderr.strip() == "[]"
    for command in (
        "demo",
        "run",
        "migrate",
        "check",
        "invoice",
        "transfer",
        "settlement",
        "chain",
        "webhook",
        "api-key",
    ):
        assert command in ran.stdout


@pytest.mark.slow
def test_process__reader_that_goes_away__is_no_traceback(tmp_path: Path, sqlite_template: Path) -> None:
    (tmp_path / "settler.toml").write_text(CONFIG)
    shutil.copy(sqlite_template, tmp_path / "settler.db")
    shell = f"{sys.executable} -c 'import sys; from settler.cli import main; sys.exit(main())' invoice list | true"
    ran = subprocess.run(
        ["/bin/sh", "-c", shell],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in ran.stderr


def by_shell(folder: Path, after: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """What a shell that runs the program `after` so sees."""
    (folder / "settler.toml").write_text(CONFIG)
    program = f"{sys.executable} -c 'import sys; from settler.cli import main; sys.exit(main())'"
    return subprocess.run(
        ["/bin/sh", "-c", f"{program} {after}"],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_process__output_to_a_full_disk__is_a_line(tmp_path: Path) -> None:
    """It was a traceback, or, where Python held the output back to the end, exit code 120."""
    for python in ({}, {"PYTHONUNBUFFERED": "1"}):
        ran = by_shell(tmp_path, "invoice list --json > /dev/full", **python)
        assert (ran.returncode, ran.stderr) == (1, "error: the output cannot be written: No space left on device\n")


def test_process__output_closed__is_no_traceback(tmp_path: Path) -> None:
    ran = by_shell(tmp_path, "config reference >&-")
    assert (ran.returncode, ran.stderr) == (0, "")


def test_process__output_that_the_terminal_cannot_show__is_a_line(tmp_path: Path) -> None:
    ran = by_shell(tmp_path, "config reference", PYTHONIOENCODING="ascii")
    assert ran.returncode == 1
    assert ran.stderr.startswith("error: the output holds ")
    assert ran.stderr.endswith(", which ascii has no bytes for; set PYTHONIOENCODING=utf-8\n")


@pytest.mark.parametrize("command", ["invoice list --reference", "api-key create --scope read --name"])
def test_process__argument_that_is_no_text__is_a_line(tmp_path: Path, command: str) -> None:
    ran = by_shell(tmp_path, f"{command} \"$(printf 'x\\377')\"")
    assert ran.returncode == 2
    assert ran.stderr == "error: an argument holds bytes that are not UTF-8, '\\udcff'; write it in UTF-8\n"
