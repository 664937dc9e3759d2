"""`settler token`: what tokens announced, and trusting one again."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from tests.cli.conftest import TOKEN, Shell

NOW = "2026-03-01T12:00:00.000000Z"
ZEROS = bytes(32)


def announced(settler: Shell) -> None:
    """A chain that was read, and an upgrade of its token."""
    token = bytes.fromhex(TOKEN[2:])
    with closing(sqlite3.connect(settler.folder / "settler.db")) as db, db:
        db.execute("INSERT INTO chains (chain_id, name, updated_at) VALUES (31337, 'local', ?)", (NOW,))
        db.execute("INSERT INTO tokens VALUES (31337, ?, 'USDC', 6, 'USD', ?)", (token, NOW))
        db.execute(
            "INSERT INTO token_risks (chain_id, token, block_number, tx_hash, log_index, kind, subject, seen_at)"
            " VALUES (31337, ?, 7, ?, 0, 'upgraded', ?, ?)",
            (token, ZEROS, token, NOW),
        )


def test_token_accept__once__is_listed_and_audited(settler: Shell) -> None:
    assert settler("token", "list").err == "no token announced anything\n"
    announced(settler)
    (row,) = settler("token", "list", "--json").json
    assert (row["token"], row["kind"], row["subject"], row["is_accepted"]) == ("USDC", "upgraded", TOKEN, False)
    accepted = settler("token", "accept", "USDC", "--chain", "local", "--reason", "read the code", "--json").json
    assert accepted == {"chain": "local", "token": "USDC", "accepted": 1}
    assert settler("token", "list").out.split()[-1] == "yes"
    assert settler.count("operator_actions") == 1
    again = settler("token", "accept", "USDC", "--chain", "local", "--reason", "read the code")
    assert (again.code, again.errors) == (
        2,
        ["token: it announced nothing that was not accepted; there is nothing to do"],
    )


def test_token_accept__of_nothing_known__says_what_there_is(settler: Shell) -> None:
    announced(settler)
    for args, problem in (
        (["SCAM", "--chain", "local"], "token 'SCAM' is not known on local; choose one of USDC"),
        (["USDC", "--chain", "moon"], "chain 'moon' is not known; choose one of local"),
    ):
        ran = settler("token", "accept", *args, "--reason", "x")
        assert (ran.code, ran.errors) == (2, [problem])
    empty = settler("token", "accept", "USDC", "--chain", "local", "--reason", " ")
    assert (empty.code, empty.errors) == (2, ["--reason: is empty; say why the token is trusted again"])
    assert settler.count("operator_actions") == 0
