"""`settler audit`: who did what, and a log that somebody changed is a problem."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from datetime import UTC, datetime

import pytest

from settler.storage import operator_actions
from settler.storage.engine import Database
from tests.cli.conftest import Shell

NOW = datetime(2026, 1, 31, tzinfo=UTC)


@pytest.fixture
def acted(settler: Shell) -> Shell:
    """Three actions."""

    async def act() -> None:
        db = await Database.open(f"sqlite:///{settler.folder / 'settler.db'}")
        async with db.write() as conn:
            for n, action in enumerate(("invoice.cancel", "invoice.cancel", "api_key.create"), start=1):
                await operator_actions.add(
                    conn, action=action, object_id=f"obj_{n}", who="cli:ada", reason=f"typo in {n}", now=NOW
                )
        await db.dispose()

    asyncio.run(act())
    return settler


def forge(shell: Shell, *statements: str) -> None:
    with closing(sqlite3.connect(shell.folder / "settler.db")) as db, db:
        for change in ("update", "delete"):
            db.execute(f"DROP TRIGGER operator_actions_no_{change}")
        for statement in statements:
            db.execute(statement)


def head(shell: Shell) -> str:
    ran = shell("audit", "verify")
    assert ran.code == 0, ran.err
    first, last = ran.out.splitlines()
    assert first == "3 actions, none changed"
    return last.removeprefix("head ")


def test_list__newest_first_and_filtered(acted: Shell) -> None:
    listed = acted("audit", "list", "--json").json
    assert [(a["seq"], a["action"]) for a in listed] == [
        (3, "api_key.create"),
        (2, "invoice.cancel"),
        (1, "invoice.cancel"),
    ]
    assert [listed[1][name] for name in ("who", "reason", "object_id")] == ["cli:ada", "typo in 2", "obj_2"]
    assert acted("audit", "list", "--json", "--object", listed[2]["object_id"]).json == [listed[2]]
    assert acted("audit", "list", "--json", "--action", "invoice.cancel", "--limit", "1").json == [listed[1]]
    assert acted("audit", "list", "--json", "--before", "2").json == [listed[2]]
    assert acted("audit", "list", "--json", "--who", "api:nobody").json == []
    assert acted("audit", "list", "--json", "--from", "2020-01-01T00:00:00+01:00").json == listed
    assert acted("audit", "list", "--json", "--to", listed[2]["at"][:10]).json == []
    header, row, *_ = acted("audit", "list").out.splitlines()
    assert header.split() == ["SEQ", "AT", "WHO", "ACTION", "OBJECT", "REASON", "DETAIL"]
    assert row.startswith("3 ")
    assert acted("audit", "list", "--from", "noon").code == 2


def test_verify__empty_log__is_whole(settler: Shell) -> None:
    assert settler("audit", "verify").out == f"0 actions, none changed\nhead 0:{'0' * 64}\n"


def test_verify__head_kept_elsewhere__is_still_there(acted: Shell) -> None:
    kept = head(acted)
    assert acted("audit", "verify", "--json").json == {
        "is_whole": True,
        "head": {"seq": 3, "hash": kept.split(":")[1]},
        "broken": None,
        "problem": None,
    }
    assert acted("api-key", "create", "--name", "two", "--scope", "read").code == 0
    for known in (kept, kept.split(":")[1], f"0:{'0' * 64}"):
        ran = acted("audit", "verify", "--expect-head", known)
        assert (ran.code, ran.out.splitlines()[0]) == (0, "4 actions, none changed")


def test_verify__changed_row__is_a_problem_that_names_it(acted: Shell) -> None:
    forge(acted, "UPDATE operator_actions SET reason = 'as agreed' WHERE seq = 2")
    ran = acted("audit", "verify")
    assert (ran.code, ran.out, len(ran.errors)) == (1, "", 1)
    assert "broken at row 2: was changed" in ran.errors[0]
    shown = acted("audit", "verify", "--json")
    assert shown.code == 1
    assert '"seq": 2' in shown.out


def test_verify__newest_rows_cut_off__shows_by_the_head_alone(acted: Shell) -> None:
    kept = head(acted)
    forge(acted, "DELETE FROM operator_actions WHERE seq = 3")
    assert acted("audit", "verify").code == 0
    for known in (kept, kept.split(":")[1]):
        ran = acted("audit", "verify", "--expect-head", known)
        assert ran.code == 1
        assert "the audit log ends at row 2 and does not hold" in ran.errors[0]


def test_verify__written_anew_from_a_row_on__shows_by_the_head_alone(acted: Shell) -> None:
    kept = head(acted)
    forge(acted, "DELETE FROM operator_actions WHERE seq = 3")
    assert acted("api-key", "create", "--name", "instead", "--scope", "read").code == 0
    assert acted("audit", "verify").code == 0
    ran = acted("audit", "verify", "--expect-head", kept)
    assert (ran.code, "row 3 is" in ran.errors[0]) == (1, True)


@pytest.mark.parametrize("text", ["", "3", "3:abc", "x:" + "0" * 64])
def test_verify__no_head__is_wrong_usage(settler: Shell, text: str) -> None:
    ran = settler("audit", "verify", "--expect-head", text)
    assert (ran.code, len(ran.errors)) == (2, 1)
    assert ran.errors[0].startswith("--expect-head")
