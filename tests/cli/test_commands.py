"""What the commands store and show."""

from __future__ import annotations

import socket
import sqlite3
from contextlib import closing

import pytest

from tests.cli.conftest import CONFIG, SHOP, TOKEN, Shell


def test_invoice_create__shows_what_the_api_would(settler: Shell) -> None:
    made = settler.create("order-1", "--metadata", "cart=7", "--expires-in-s", "60").json
    assert made["id"].startswith("inv_")
    assert (made["status"], made["merchant"], made["currency"]) == ("pending", "default", "USD")
    assert made["amount_requested"] == "100.00"
    assert made["metadata"] == {"cart": "7"}
    (option,) = made["options"]
    assert (option["chain"], option["token"], option["token_address"]) == ("local", "USDC", TOKEN)
    assert (option["pay_to"], option["amount_base"], option["match"]) == (SHOP, "100000000", "address")
    assert option["uri"] == f"ethereum:{TOKEN}@31337/transfer?address={SHOP}&uint256=100000000"


def test_invoice_create__by_single_options__is_the_same(settler: Shell) -> None:
    ran = settler(
        *("invoice", "create", "--amount", "5", "--reference", "a", "--json"),
        *("--chain", "local", "--token", "USDC", "--pay-to", SHOP, "--match", "amount"),
    )
    (option,) = ran.json["options"]
    assert option["match"] == "amount"
    assert int(option["amount_base"]) > 5_000_000


def test_invoice_show__for_people__has_every_field_in_full(settler: Shell) -> None:
    made = settler.create("order-1").json
    shown = settler("invoice", "show", made["id"])
    assert shown.code == 0
    for value in (made["id"], "order-1", SHOP, made["options"][0]["uri"], "100.00"):
        assert value in shown.out
    assert settler("invoice", "show", made["id"], "--json").json == made


def test_invoice_list__newest_first_filtered_and_paged(settler: Shell) -> None:
    ids = [settler.create(f"order-{n}", "--merchant", f"m{n % 2}").json["id"] for n in range(4)]
    assert [i["id"] for i in settler("invoice", "list", "--json").json] == ids[::-1]
    assert [i["reference"] for i in settler("invoice", "list", "--json", "--merchant", "m1").json] == [
        "order-3",
        "order-1",
    ]
    first = settler("invoice", "list", "--json", "--limit", "2").json
    rest = settler("invoice", "list", "--json", "--before", first[-1]["id"]).json
    assert [i["id"] for i in first + rest] == ids[::-1]
    assert settler("invoice", "list", "--json", "--status", "settled").json == []
    assert len(settler("invoice", "list", "--json", "--reference", "order-2").json) == 1


def test_invoice_list__piped__is_a_plain_table_that_cuts_nothing(settler: Shell) -> None:
    reference = "order-" + "x" * 190
    made = settler.create(reference).json
    header, row = settler("invoice", "list").out.splitlines()
    assert header.split()[:4] == ["ID", "REFERENCE", "MERCHANT", "STATUS"]
    assert row.split()[:4] == [made["id"], reference, "default", "pending"]


def test_invoice_cancel__again__is_refused(settler: Shell) -> None:
    made = settler.create("order-1").json
    canceled = settler("invoice", "cancel", made["id"], "--reason", "typo", "--json").json
    assert canceled["status"] == "canceled"
    again = settler("invoice", "cancel", made["id"])
    assert (again.code, again.errors) == (2, [f"status: {made['id']} is canceled already"])
    assert settler("invoice", "show", made["id"], "--json").json == canceled
    assert settler.count("operator_actions") == 1


@pytest.mark.parametrize("group", ["invoice", "transfer", "settlement", "hold", "chain", "api-key"])
def test_list__of_nothing__is_fine(settler: Shell, group: str) -> None:
    assert settler(group, "list", "--json").json == []
    people = settler(group, "list")
    assert (people.code, people.out) == (0, "")
    assert people.err.startswith("no ")


def test_api_key__is_shown_once_and_stored_as_a_hash(settler: Shell) -> None:
    made = settler("api-key", "create", "--name", "shop", "--scope", "read", "--merchant", "m1", "--json").json
    assert made["key"].startswith("sk_")
    assert (made["scopes"], made["merchant"]) == (["read"], "m1")
    (listed,) = settler("api-key", "list", "--json").json
    assert listed == {name: value for name, value in made.items() if name != "key"}
    assert made["key"].encode() not in (settler.folder / "settler.db").read_bytes()
    revoked = settler("api-key", "revoke", made["id"], "--reason", "leaked", "--json").json
    assert revoked["revoked_at"] is not None
    assert settler("api-key", "revoke", made["id"]).code == 2
    assert settler.count("operator_actions") == 2


def test_webhook_endpoint__add_list_remove(settler: Shell) -> None:
    added = settler(
        "webhook", "endpoint", "add", "https://shop.example/hook", "--type", "invoice.settled", "--json"
    ).json
    assert added["secret"].startswith("whsec_")
    (listed,) = settler("webhook", "endpoint", "list", "--json").json
    assert listed == {name: value for name, value in added.items() if name != "secret"}
    removed = settler("webhook", "endpoint", "remove", added["id"], "--json").json
    assert removed["disabled_reason"].startswith("removed by cli:")
    assert settler("webhook", "endpoint", "remove", added["id"]).code == 0
    assert settler("webhook", "endpoint", "list", "--json").json == []
    assert len(settler("webhook", "endpoint", "list", "--all", "--json").json) == 1


def test_migrate__says_what_it_did(bare_settler: Shell) -> None:
    assert bare_settler("migrate").out.startswith("created the tables, revision ")
    assert bare_settler("migrate").out.startswith("the database is at revision ")


def test_first_command__makes_the_tables_of_sqlite_itself(bare_settler: Shell) -> None:
    assert bare_settler.create("order-1").code == 0
    assert bare_settler.count("invoices") == 1


def test_database_of_a_newer_settler__is_refused(settler: Shell) -> None:
    with closing(sqlite3.connect(settler.folder / "settler.db")) as db, db:
        db.execute("UPDATE alembic_version SET version_num = '9999'")
    for command in (["invoice", "list"], ["run"], ["migrate"]):
        ran = settler(*command)
        assert ran.code == 2
        assert "revision 9999" in ran.errors[0]


@pytest.mark.postgres
def test_postgresql_without_tables__names_migrate(bare_settler: Shell, empty_postgres_db_url: str) -> None:
    settler = bare_settler
    file = settler.folder / "settler.toml"
    file.write_text(CONFIG.replace("sqlite:///settler.db", empty_postgres_db_url))
    ran = settler("invoice", "list")
    assert ran.code == 2
    assert "run settler migrate -c settler.toml" in ran.errors[0]
    assert settler("migrate").code == 0
    assert settler("invoice", "list", "--json").json == []


def test_postgresql_down__is_a_problem_without_the_password(settler: Shell) -> None:
    url = "postgresql://u:hunter2hunter2@127.0.0.1:1/x"
    (settler.folder / "settler.toml").write_text(CONFIG.replace("sqlite:///settler.db", url))
    ran = settler("invoice", "list")
    assert ran.code == 1
    assert len(ran.errors) == 1
    assert "hunter2" not in ran.err


def test_no_output__shows_a_secret(settler: Shell) -> None:
    settler.create("order-1")
    for command in (["check"], ["check", "--json"], ["chain", "list", "--json"], ["invoice", "list", "--json"]):
        ran = settler(*command)
        assert "k3y" not in ran.out + ran.err


def test_run__port_taken__is_a_problem_that_names_it(settler: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        (settler.folder / "settler.toml").write_text(f'[api]\nlisten = "{listen}"\n' + CONFIG)
        ran = settler("run")
    assert ran.code == 1
    assert f"error: api.listen: cannot listen on {listen}: Address already in use; choose another" in ran.err


def test_version(settler: Shell) -> None:
    from settler import __version__

    assert settler("--version").out == f"settler {__version__}\n"
