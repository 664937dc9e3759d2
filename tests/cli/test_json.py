"""`--json`: on everything that prints a result; JSON and nothing else on stdout, errors in lines on stderr."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.cli.conftest import SHOP, Shell
from tests.cli.tree import COMMANDS, Listed

WITHOUT = {"demo", "run", "completion"}
"""They print no result: two run until they are stopped, one prints a shell's script."""


@pytest.mark.parametrize("listed", [each for each in COMMANDS if str(each) not in WITHOUT], ids=str)
def test_json__is_an_option_of_what_prints_a_result(listed: Listed) -> None:
    assert "--json" in listed.options


def test_json__of_lists__is_an_array_also_where_there_is_nothing(settler: Shell) -> None:
    for listed in COMMANDS:
        if listed.path[-1] == "list":
            ran = settler(*listed.path, "--json")
            assert (ran.code, json.loads(ran.out), ran.err) == (0, [], ""), str(listed)


OUTWARD = {
    "bench backfill",
    "bench create",
    "bench live",
    "bench match",
    "bench proof",
    "bench soak",
    "bench webhooks",
    "simulate",
}
"""Those of `bench` measure for seconds to minutes, the last runs a hundred worlds (`tests/simulation`)."""


def test_json__of_every_command__is_json_on_stdout_or_errors_on_stderr(settler: Shell) -> None:
    """Each by the first example of its help, where nothing that it names exists: most are refused."""
    for listed in COMMANDS:
        if str(listed) in WITHOUT | OUTWARD or listed.path[-1] == "list":
            continue
        words = [word for word in listed.examples[0][1:] if word != "--json"]
        ran = settler(*words, "--json")
        assert ran.code in {0, 1, 2}, str(listed)
        if ran.out:
            json.loads(ran.out)
        else:
            assert ran.code in {1, 2}, f"{listed} says nothing"
            assert ran.errors, str(listed)


def _events(settler: Shell) -> list[str]:
    settler.create("order-1")
    return ["event", "list"]


def _transfer(_: Shell) -> list[str]:
    return ["address", "add", SHOP]


@pytest.mark.parametrize("prepare", [_events, _transfer])
def test_json__of_what_was_found__is_all_of_stdout(settler: Shell, prepare: Callable[[Shell], list[str]]) -> None:
    found = settler(*prepare(settler), "--json").json
    assert len(found) == 1
    assert isinstance(found[0], dict)


def test_event_list__goes_on_behind_an_event(settler: Shell) -> None:
    for number in range(3):
        settler.create(f"order-{number}")
    found = settler("event", "list", "--json").json
    assert [e["type"] for e in found] == ["invoice.created"] * 3
    assert [e["data"]["reference"] for e in found] == ["order-0", "order-1", "order-2"]
    assert settler("event", "list", "--after", found[0]["id"], "--json").json == found[1:]
    assert settler("event", "list", "--limit", "2", "--json").json == found[:2]
    ran = settler("event", "list", "--after", "inv_01kb2y7t3q8m5x9n4c6w0r1hzd")
    assert ran.code == 2
    assert "evt_ and its 26 characters" in ran.errors[0]


def test_event_list__for_people__names_the_object(settler: Shell) -> None:
    made = settler.create("order-1").json
    header, row = settler("event", "list").out.splitlines()
    assert header.split() == ["ID", "CREATED", "TYPE", "OBJECT", "VERSION"]
    assert row.split()[2:] == ["invoice.created", made["id"], "1"]


def test_migrate__json__tells_the_revisions(bare_settler: Shell) -> None:
    made = bare_settler("migrate", "--json").json
    assert made["before"] is None
    assert bare_settler("migrate", "--json").json == {"before": made["after"], "after": made["after"]}


def test_address_retire__json__is_its_state(settler: Shell) -> None:
    settler("address", "add", SHOP)
    shown = settler("address", "retire", SHOP, "--reason", "closed", "--json").json
    assert shown == {"address": SHOP, "state": "retired"}


def test_export__json__tells_what_was_written(settler: Shell) -> None:
    ran = settler("export", "settlements", "-o", "out.csv", "--json")
    assert ran.json == {"what": "settlements", "format": "csv", "output": "out.csv", "rows": 0}
    assert (settler.folder / "out.csv").read_text().startswith("settlement_id,")


def test_export__json_to_stdout__is_wrong_usage(settler: Shell) -> None:
    ran = settler("export", "settlements", "--json")
    assert (ran.code, ran.out) == (2, "")
    assert ran.errors == ["--json tells what was written to a file: give --output FILE, or --format jsonl"]


def test_transfer_show__unknown__is_one_line_on_stderr(settler: Shell) -> None:
    ran = settler("transfer", "show", "trf_01kb2y7t3q8m5x9n4c6w0r1hzd", "--json")
    assert (ran.code, ran.out) == (2, "")
    assert ran.errors == ["there is no transfer 'trf_01kb2y7t3q8m5x9n4c6w0r1hzd'; see settler transfer list --all"]
