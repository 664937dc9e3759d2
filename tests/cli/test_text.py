"""Tables and objects as they are printed."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest

from settler.cli.failures import PROBLEM, lines_and_code
from settler.cli.text import Columns, print_list, print_one
from settler.storage.errors import StorageUnavailable

COLUMNS: Columns = {"id": lambda o: o["id"], "pay to": lambda o: o.get("to")}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_print_list__terminal__folds_and_never_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    out = Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setenv("COLUMNS", "40")
    print_list([{"id": "x" * 60, "to": "[bold]not markup[/bold]"}], COLUMNS, as_json=False, nothing="none")
    shown = out.getvalue()
    assert shown.count("x") == 60
    assert "…" not in shown
    assert "[bold]" in shown


def test_print_list__control_characters__are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    print_list([{"id": "a\x1b[2J\nb"}], COLUMNS, as_json=False, nothing="none")
    assert capsys.readouterr().out.splitlines() == ["ID           PAY_TO", "a\\x1b[2J\\nb  -"]


@pytest.mark.parametrize(
    ("value", "lines"),
    [
        ({"a": 1, "long": True, "n": None}, ["a     1", "long  yes", "n     -"]),
        ({"l": [], "m": {}, "s": ["x", "y"]}, ["l  -", "m  -", "s  x, y"]),
        ({"o": [{"k": "v"}, {"k": "w"}]}, ["o[0]", "  k  v", "o[1]", "  k  w"]),
        ({"m": {"k": {"z": 1}}}, ["m", "  k", "    z  1"]),
    ],
)
def test_print_one__nests(capsys: pytest.CaptureFixture[str], value: dict[str, Any], lines: list[str]) -> None:
    print_one(value, as_json=False)
    assert capsys.readouterr().out.splitlines() == lines


def test_print_list__more_than_the_terminal_is_wide__keeps_ids_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """`transfer list` was columns of four characters at a width of 80: no id, address or hash could be read or
    copied. A row that is too long is left to the terminal to wrap."""
    out = Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setenv("COLUMNS", "80")
    row = {"id": "trf_01m82hcf18rd3ztb4f4xwh3c58", "to": "0x" + "7b" * 32}
    print_list([row], COLUMNS, as_json=False, nothing="none")
    assert row["id"] in out.getvalue()
    assert row["to"] in out.getvalue()


def test_lines_and_code__a_message_of_several_lines__reads_as_one() -> None:
    """libpq breaks its lines: it was `Connection refused\\n\\tIs the server running`."""
    said = lines_and_code(StorageUnavailable("connection refused\n\tIs the server running?\n"))
    assert said is not None
    lines, code = said
    assert lines == ["error: the database: connection refused Is the server running?; see that it runs and try again"]
    assert code == PROBLEM
