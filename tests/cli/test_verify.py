"""`settler settlement verify`: without a node, from what is stored; anything that was changed afterwards shows."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest

from settler.domain.ids import ReversalId, SettlementId
from settler.domain.records import Reversal
from settler.storage import settlements
from settler.storage.engine import Database
from tests.cli.conftest import Shell
from tests.support.world import World


async def _settled(url: str) -> str:
    """One invoice paid too much and settled; the settlement's id."""
    db = await Database.open(url)
    try:
        world = await World.on(db)
        invoice = await world.invoice("100", reference="order-1")
        world.pay(invoice, "101")
        world.mine(5)
        await world.catch_up()
        return str((await world.view(invoice.id))["settlement_id"])
    finally:
        await db.dispose()


def url_of(shell: Shell) -> str:
    return f"sqlite:///{shell.folder / 'settler.db'}"


@pytest.fixture
def id_(settler: Shell) -> str:
    return asyncio.run(_settled(url_of(settler)))


def tampered(shell: Shell, table: str, change: str) -> None:
    """As somebody with the database's password would: past the triggers too."""
    with closing(sqlite3.connect(shell.folder / "settler.db")) as db, db:
        triggers = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")]
        for name in triggers:
            db.execute(f"DROP TRIGGER {name}")
        assert db.execute(f"UPDATE {table} SET {change}").rowcount > 0


def said(shell: Shell, id_: str) -> Any:
    ran = shell("settlement", "verify", id_, "--json")
    assert (ran.code, ran.err) == (1, "")
    return json.loads(ran.out)


def test_settled_without_a_proof__is_not_verified_and_names_the_remedy(settler: Shell, id_: str) -> None:
    found = said(settler, id_)
    (payment,) = found["payments"]
    assert (found["is_verified"], found["contradictions"], found["reversal"]) == (False, [], None)
    assert (payment["proof"], payment["node"], payment["sources"]) == ("missing", "not_asked", ["node-0"])
    assert payment["detail"] == "it was settled without a proof; ask a node of anvil with --rpc URL"
    table = settler("settlement", "verify", id_)
    header, row, verdict = table.out.splitlines()
    assert header.split()[:3] == ["TRANSFER", "CHAIN", "BLOCK"]
    assert payment["transfer_id"] in row
    assert verdict == f"{id_}: NOT verified"


@pytest.mark.parametrize(
    ("table", "change", "reason"),
    [
        ("settlement_lines", "payer = zeroblob(20)", "the settlement and its transfer differ in sender"),
        ("transfers", "recipient = zeroblob(20)", "the settlement and its transfer differ in recipient"),
        ("settlement_lines", "amount_settled = amount_surplus", "the settlement and its transfer differ in amount"),
        ("payment_evidence", "proof = '{}'", "its proof does not hold: stored evidence of version None; known is 1"),
        ("payment_evidence", "proof = '[]'", "its proof does not hold: stored evidence is no object"),
        ("payment_evidence", "proof_failure = 'no node would'", "it could not be proven: no node would"),
        ("payment_evidence", "block_hash = zeroblob(32)", "no evidence is stored for this block"),
    ],
)
def test_changed_afterwards__says_what(settler: Shell, id_: str, table: str, change: str, reason: str) -> None:
    tampered(settler, table, change)
    found = said(settler, id_)
    assert not found["is_verified"]
    assert reason in found["payments"][0]["detail"]


def test_sum_changed_afterwards__contradicts_its_lines(settler: Shell, id_: str) -> None:
    tampered(settler, "settlements", "amount_settled = amount_surplus")
    assert said(settler, id_)["contradictions"] == ["its amount_settled is not the sum of its lines"]
    assert "wrong: its amount_settled is not the sum of its lines" in settler("settlement", "verify", id_).out


def test_evidence_that_is_no_json__is_one_line(settler: Shell, id_: str) -> None:
    tampered(settler, "payment_evidence", "proof = 'garbage'")
    ran = settler("settlement", "verify", id_)
    assert ran.code == 1
    assert ran.errors[0].startswith(f"{id_}: what is stored of its payments cannot be read")


def test_reversed__is_shown(settler: Shell, id_: str) -> None:
    async def reverse() -> None:
        db = await Database.open(url_of(settler))
        try:
            async with db.write() as conn:
                found = await settlements.get(conn, SettlementId(id_))
                assert found is not None
                undone = Reversal(id=ReversalId("rev_1"), reason="fork", reversed_at=datetime(2026, 1, 1, tzinfo=UTC))
                await settlements.reverse(conn, found.id, undone)
        finally:
            await db.dispose()

    asyncio.run(reverse())
    assert said(settler, id_)["reversal"]["reason"] == "fork"
    assert "reversed at 2026-01-01T00:00:00Z: fork" in settler("settlement", "verify", id_).out


@pytest.mark.parametrize(
    ("args", "code", "reason"),
    [
        (["stl_none"], 2, "there is no settlement 'stl_none'"),
        (["{id}", "--rpc", "ftp://k3y.example/k3y"], 2, "--rpc: an RPC URL must be http:// or https://"),
        (["{id}", "--rpc", "http://127.0.0.1:1/k3y-of-the-node"], 1, "--rpc 127.0.0.1: "),
    ],
)
def test_wrong_usage__is_one_line(settler: Shell, id_: str, args: list[str], code: int, reason: str) -> None:
    ran = settler("settlement", "verify", *[arg.format(id=id_) for arg in args])
    assert (ran.code, ran.out, len(ran.errors)) == (code, "", 1)
    assert reason in ran.errors[0]
    assert "k3y-of" not in ran.err
