"""What an operator decides on the command line, after money has moved on a simulated chain."""

from __future__ import annotations

import asyncio
import getpass
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from settler.cli.transfers import _age
from settler.domain.views import time_text
from settler.storage.engine import Database
from tests.cli.conftest import Shell
from tests.stages.test_operating import of_usdc, stray
from tests.support.world import World

WHY = ("--reason", "customer wrote")
ID = "01kjmma2g0ge4f94hcy47t12sp"


async def _some_money(url: str) -> tuple[str, str]:
    """An open invoice of 100.00, and 100.00 that came to nobody: their ids."""
    db = await Database.open(url)
    try:
        world = await World.on(db)
        money = await stray(world)
        return (await of_usdc(world)).id, money.id
    finally:
        await db.dispose()


@pytest.fixture
def ids(settler: Shell) -> tuple[str, str]:
    file = settler.folder / "settler.toml"
    file.write_text(file.read_text().replace("chains.local", "chains.anvil"))
    return asyncio.run(_some_money(f"sqlite:///{settler.folder / 'settler.db'}"))


def audited(shell: Shell) -> list[tuple[str, ...]]:
    """Action, object, who and why; the newest first."""
    with closing(sqlite3.connect(shell.folder / "settler.db")) as db:
        return db.execute("SELECT action, object_id, who, reason FROM operator_actions ORDER BY seq DESC").fetchall()


def test_assign__settles(settler: Shell, ids: tuple[str, str]) -> None:
    invoice, money = ids
    assigned = settler("transfer", "assign", money, invoice, *WHY, "--json").json
    assert (assigned["allocation"], assigned["invoice_id"]) == ("invoice", invoice)
    assert settler("invoice", "show", invoice, "--json").json["status"] == "settled"
    assert audited(settler)[0] == ("transfer.assign", money, f"cli:{getpass.getuser()}", "customer wrote")
    again = settler("transfer", "assign", money, invoice, *WHY)
    assert (again.code, again.out, len(again.errors)) == (2, "", 1)
    assert f"pays {invoice}" in again.errors[0]


def test_dismiss__leaves_the_queue(settler: Shell, ids: tuple[str, str]) -> None:
    _, money = ids
    assert settler("transfer", "dismiss", money, *WHY, "--json").json["allocation"] == "dismissed"
    assert settler("transfer", "list", "--json").json == []
    assert settler("transfer", "dismiss", money, *WHY).errors == [f"transfer: {money} is dismissed already"]


def test_mark__settles(settler: Shell, ids: tuple[str, str]) -> None:
    invoice, _ = ids
    marked = settler("invoice", "mark", invoice, "settled", *WHY, "--json").json
    assert (marked["status"], marked["exceptions"]) == ("settled", ["marked", "underpaid"])
    shown = settler("settlement", "show", marked["settlement_id"], "--json").json
    assert shown["policy"]["marked"]["by"].startswith("cli:")
    assert settler("settlement", "verify", marked["settlement_id"], "--json").json["is_verified"]
    assert settler("invoice", "mark", invoice, "settled", *WHY).code == 2


def test_hold__placed_listed_and_released(settler: Shell, ids: tuple[str, str]) -> None:
    invoice, _ = ids
    placed = settler("hold", "place", invoice, *WHY, "--json").json
    assert (placed["status"], placed["reason"], placed["detail"]) == ("held", "manual", "customer wrote")
    assert settler("hold", "list", "--json").json == [placed]
    header, row = settler("hold", "list").out.splitlines()
    assert header.split()[:4] == ["ID", "INVOICE", "MERCHANT", "REASON"]
    assert row.split()[:4] == [placed["id"], invoice, "default", "manual"]
    released = settler("hold", "release", placed["id"], *WHY, "--json").json
    assert released["status"] == "released"
    assert settler("hold", "list", "--json").json == []
    assert settler("hold", "list", "--status", "all", "--invoice", invoice, "--json").json == [released]
    assert settler("hold", "list", "--status", "released", "--reason", "late", "--json").json == []
    assert settler("hold", "release", placed["id"], *WHY).code == 2


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (["transfer", "assign", "{money}", "order-1", *WHY], "invoice_id: 'order-1' is no invoice id"),
        (["transfer", "assign", "{money}", f"inv_{ID}", *WHY], f"there is no invoice inv_{ID}"),
        (["transfer", "assign", "trf_x", "{invoice}", *WHY], "there is no transfer trf_x"),
        (["transfer", "assign", "{money}", "{invoice}"], "Missing option '--reason'"),
        (["transfer", "dismiss", "{money}", "--reason", " "], "reason: is empty; say why"),
        (["transfer", "refund", "{money}", "--tx", "0x12", *WHY], "--tx '0x12': is no transaction hash"),
        (["transfer", "refund", "{money}", "--tx", "é" * 64, *WHY], "is no transaction hash"),
        (["transfer", "refund", "trf_x", "--tx", "0x" + "ab" * 32, *WHY], "there is no transfer 'trf_x'"),
        (["transfer", "refund", "{money}", "--tx", "0x" + "ab" * 32, "--reason", ""], "reason: is empty"),
        (["invoice", "mark", "{invoice}", "canceled", *WHY], "settler invoice cancel"),
        (["invoice", "mark", "{invoice}", "paid", *WHY], 'only "settled" can'),
        (["invoice", "mark", "inv_x", "settled", *WHY], "there is no invoice inv_x"),
        (["hold", "place", "x", *WHY], "invoice_id: 'x' is no invoice id"),
        (["hold", "release", "hld_x", *WHY], "there is no hold hld_x"),
        (["hold", "list", "--status", "standing"], "Invalid value for '--status'"),
    ],
)
def test_wrong_usage__is_one_line_and_exit_2(
    settler: Shell, ids: tuple[str, str], args: list[str], reason: str
) -> None:
    invoice, money = ids
    before = len(audited(settler))
    ran = settler(*(arg.replace("{invoice}", invoice).replace("{money}", money) for arg in args))
    assert (ran.code, ran.out, len(ran.errors)) == (2, "", 1)
    assert reason in ran.errors[0]
    assert len(audited(settler)) == before


def test_refund__no_node_answers__is_a_problem_and_records_nothing(settler: Shell, ids: tuple[str, str]) -> None:
    _, money = ids
    ran = settler("transfer", "refund", money, "--tx", "0x" + "ab" * 32, *WHY)
    assert (ran.code, ran.out, len(ran.errors)) == (1, "", 1)
    assert ran.errors[0].startswith("anvil: ")
    assert ran.errors[0].endswith("nothing was recorded, try again")
    assert "k3y" not in ran.err
    assert settler.count("refunds") == 0


def test_refund__a_chain_no_longer_configured__says_so(settler: Shell, ids: tuple[str, str]) -> None:
    file = settler.folder / "settler.toml"
    file.write_text(file.read_text().replace("chains.anvil", "chains.other").replace("31337", "31338\nfinality = 3"))
    ran = settler("transfer", "refund", ids[1], "--tx", "0x" + "ab" * 32, *WHY)
    assert (ran.code, len(ran.errors)) == (2, 1)
    assert "on chain id 31337, which is not configured" in ran.errors[0]


def test_transfer_list__shows_how_long_money_waits(settler: Shell, ids: tuple[str, str]) -> None:
    header, row = settler("transfer", "list").out.splitlines()
    at = header.split().index("REASON")
    assert header.split()[at + 1] == "AGE"
    assert row.split()[at] == "no_invoice"
    assert row.split()[at + 1].endswith("d")
    (shown,) = settler("transfer", "list", "--json").json
    assert "age" not in shown
    settler("transfer", "assign", ids[1], ids[0], *WHY)
    assert settler("transfer", "list", "--all").out.splitlines()[1].split()[at + 1] == "-"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-5, "0s"), (0, "0s"), (59, "59s"), (60, "1m 0s"), (3_599, "59m 59s"), (3_600, "1h 0m"),
        (90_061, "1d 1h"), (86_400, "1d 0h"),
    ],
)  # fmt: skip
def test_age__is_told_in_its_two_largest_units(seconds: int, shown: str) -> None:
    came = datetime(2026, 1, 1, tzinfo=UTC)
    assert _age({"block_time": time_text(came)}, came + timedelta(seconds=seconds)) == shown
