"""`settler rescan` and `settler reconcile`: what they refuse, and what they say when no node answers."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing

import pytest

from settler.storage.engine import Database
from tests.cli.conftest import Shell
from tests.support.world import World


async def _read(url: str) -> int:
    """A chain that was read; up to where it is settled."""
    db = await Database.open(url)
    try:
        world = await World.on(db)
        world.mine(20)
        await world.catch_up()
        settled = (await world.state()).settled_number
        assert settled is not None
        return settled
    finally:
        await db.dispose()


@pytest.fixture
def settled(settler: Shell) -> int:
    file = settler.folder / "settler.toml"
    file.write_text(file.read_text().replace("chains.local", "chains.anvil"))
    return asyncio.run(_read(f"sqlite:///{settler.folder / 'settler.db'}"))


ALL = ("--chain", "anvil", "--from", "0", "--to", "5")


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("rescan --chain anvil --from 0 --to {above}", "--to {above}: anvil is settled up to block {settled}"),
        ("rescan --chain anvil --from 5 --to 4", "--from 5 --to 4: is no range"),
        ("rescan --chain base --from 0 --to 4", "--chain 'base' is not configured; choose one of anvil"),
        ("rescan --chain anvil --from -1 --to 4", "Invalid value for '--from'"),
        ("rescan --chain anvil --from 0", "Missing option '--to'"),
        ("reconcile --to {above}", "--to {above}: anvil is settled up to block {settled}"),
        ("reconcile --chain base", "--chain 'base' is not configured; choose one of anvil"),
        ("reconcile --rpc ftp://127.0.0.1/k3y-of-it", "--rpc: an RPC URL must be http:// or https://"),
    ],
)
def test_wrong_usage__is_one_line_and_exit_2(settler: Shell, settled: int, command: str, reason: str) -> None:
    names = {"above": settled + 1, "settled": settled}
    ran = settler(*command.format(**names).split())
    assert (ran.code, ran.out, len(ran.errors)) == (2, "", 1)
    assert reason.format(**names) in ran.errors[0]
    assert "k3y" not in ran.err


@pytest.mark.parametrize("command", [("rescan", *ALL), ("reconcile",)])
def test_chain_never_read__is_refused(settler: Shell, command: tuple[str, ...]) -> None:
    ran = settler(*(arg.replace("anvil", "local") for arg in command))
    assert (ran.code, ran.out) == (2, "")
    assert ran.errors == ["local was not read yet; run settler run first"]


@pytest.mark.parametrize("args", [[], ["--rpc", "http://127.0.0.1:1/k3y-of-another"]])
def test_reconcile__nobody_answers__is_a_problem(settler: Shell, settled: int, args: list[str]) -> None:
    ran = settler("reconcile", *args)
    assert settled > 0
    assert (ran.code, ran.out, len(ran.errors)) == (1, "", 1)
    assert "127.0.0.1: " in ran.errors[0]
    assert "k3y" not in ran.err


def test_reconcile__several_chains__one_failing_is_told_beside_the_others(settler: Shell, settled: int) -> None:
    file = settler.folder / "settler.toml"
    table = file.read_text()[file.read_text().index("[chains.anvil]") :]
    other = table.replace("chains.anvil", "chains.other").replace("31337", "31338\nfinality = 3").replace("k3y", "k3y2")
    file.write_text(file.read_text() + other)
    assert settled > 0
    ran = settler("reconcile", "--to", "3")
    assert (ran.code, ran.errors) == (2, ["--chain: --from and --to are of one chain; give one of anvil, other"])
    ran = settler("reconcile", "--json")
    assert ran.code == 1
    found = json.loads(ran.out)["chains"]
    assert [each["chain"] for each in found] == ["anvil", "other"]
    assert "127.0.0.1" in found[0]["failure"]
    assert found[1]["failure"] == "other was not read yet; run settler run first"
    assert "k3y" not in ran.out + ran.err


def test_reconcile__nobody_answers__still_tells_what_the_database_says(settler: Shell, settled: int) -> None:
    with closing(sqlite3.connect(settler.folder / "settler.db")) as db, db:
        db.execute("UPDATE chains SET scanned_number = ?", [settled - 1])
    ran = settler("reconcile")
    assert ran.code == 1
    assert "127.0.0.1: " in ran.errors[0]
    header, row, *_ = ran.out.splitlines()
    assert header.split() == ["INVARIANT", "SUBJECT", "DETAIL"]
    assert row.split(maxsplit=2) == ["I7", "anvil", f"is settled up to {settled}, and scanned up to {settled - 1} only"]


def test_reconcile__violations__are_counted_and_a_healthy_database_has_none(settler: Shell, settled: int) -> None:
    file = settler.folder / "settler.toml"
    table = file.read_text()[file.read_text().index("[chains.anvil]") :]
    other = table.replace("chains.anvil", "chains.other").replace("31337", "31338\nfinality = 3").replace("k3y", "k3y2")
    file.write_text(file.read_text() + other)
    assert settled > 1
    before = json.loads(settler("reconcile", "--json").out)
    assert (before["violations"], before["notes"], before["breaks"]) == ([], [], 0)
    with closing(sqlite3.connect(settler.folder / "settler.db")) as db, db:
        db.execute("UPDATE chains SET final_number = 1 WHERE name = 'anvil'")
    found = json.loads(settler("reconcile", "--json").out)
    assert [(v["invariant"], v["subject"]) for v in found["violations"]] == [("I7", "anvil")]
    assert found["breaks"] == 1
    assert settler("reconcile").out.splitlines()[-1].endswith("cursors: 1 violations of the invariants")
