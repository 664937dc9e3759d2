"""What `--help` says, of every command: what it does, in full, with lines that work."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from tests.cli.conftest import Shell
from tests.cli.tree import ALL, COMMANDS, Listed, parse

each_command = pytest.mark.parametrize("listed", COMMANDS, ids=str)
UNITS = re.compile(r"second|block|byte|default|row|how many|so many|number|poll|which|counted", re.IGNORECASE)


@pytest.mark.parametrize("listed", ALL, ids=str)
def test_help__says_in_a_sentence_what_it_does(listed: Listed) -> None:
    first = (listed.command.help or "").split("\n\n")[0]
    assert first.endswith("."), first
    assert len(first) < 160, first


@each_command
def test_help__every_option_and_argument__is_explained(listed: Listed) -> None:
    for name, option in listed.options.items():
        assert (option.help or "").endswith("."), name
    for argument in listed.arguments:
        assert (argument.help or "").endswith("."), argument.name


@each_command
def test_help__a_number__has_its_unit(listed: Listed) -> None:
    for name, option in listed.options.items():
        if option.bare_type in {int, float}:
            assert UNITS.search(option.help), f"{name}: {option.help}"


@each_command
def test_examples__are_of_this_command_and_parse(
    listed: Listed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert listed.examples[0][: len(listed.path) + 1] == ["settler", *listed.path]
    for words in listed.examples:  # a later one may be what comes next
        assert words[0] == "settler"
        parse(words[1:])


def test_parse__of_wrong_usage__is_noticed() -> None:
    """What the test above rests on."""
    with pytest.raises(typer.TyperException):
        parse(["invoice", "list", "--status", "paid"])
    with pytest.raises(typer.TyperException):
        parse(["invoice", "show"])


def test_help__on_a_pipe__keeps_the_examples_as_they_are_written(bare_settler: Shell) -> None:
    shown = bare_settler("invoice", "create", "--help").out
    assert "\n  Examples:\n    settler invoice create --amount 100.00 --reference order-42 \\\n" in shown


def test_help__the_table_of_the_interface__is_there() -> None:
    """The commands that INTERFACE.md promises, of those that exist."""
    there_are = {str(listed) for listed in COMMANDS}
    promised = {
        *("demo", "run", "migrate", "check", "reconcile", "rescan", "export"),
        *(f"invoice {verb}" for verb in ("create", "show", "list", "cancel", "mark")),
        *(f"transfer {verb}" for verb in ("list", "assign", "dismiss", "refund")),
        *(f"settlement {verb}" for verb in ("list", "show", "verify")),
        *(f"hold {verb}" for verb in ("list", "release")),
        *(f"webhook endpoint {verb}" for verb in ("add", "list", "remove")),
        *(f"api-key {verb}" for verb in ("create", "list", "revoke")),
        *("webhook replay", "bench live"),
    }
    assert promised <= there_are


@pytest.mark.parametrize(
    ("group", "prefix"), [("invoice", "inv"), ("transfer", "trf"), ("settlement", "stl"), ("hold", "hld")]
)
def test_before__an_id_of_another_kind__is_wrong_usage(bare_settler: Shell, group: str, prefix: str) -> None:
    """It was compared as text: the list went on at a place that has nothing to do with it, or was empty."""
    wrong = ("evt_01kb2y7t3q8m5x9n4c6w0r1hzd", f"{prefix}_01KB2Y7T3Q8M5X9N4C6W0R1HZD", f"{prefix}_1", "")
    for text in wrong:
        ran = bare_settler(group, "list", "--before", text)
        assert ran.code == 2
        (error,) = ran.errors
        assert f"Invalid value for '--before': {text!r} is no id of this list; give {prefix}_ and its" in error


def test_before__an_id_that_is_gone__goes_on_below_it(settler: Shell) -> None:
    made = settler.create("order-1").json
    assert settler("invoice", "list", "--before", "inv_7zzzzzzzzzzzzzzzzzzzzzzzzz", "--json").json == [made]
    assert settler("invoice", "list", "--before", "inv_00000000000000000000000000", "--json").json == []
