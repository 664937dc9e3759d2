"""The pool, derived addresses and QR codes on the command line."""

from __future__ import annotations

import io
import json
import sqlite3
from contextlib import closing

import aiohttp
import pytest
import segno

from settler.runtime.embedded import embedded
from tests.cli.conftest import CONFIG, SHOP, TOKEN, Ran, Shell
from tests.support.wallet import ANVIL_ADDRESSES, XPRV, XPUB

ONE, TWO, THREE = ANVIL_ADDRESSES[:3]
DEPOSITS = f'[deposits]\nxpub = "{XPUB}"\n'


def configure(settler: Shell, more: str) -> None:
    (settler.folder / "settler.toml").write_text(more + CONFIG)


def listed(settler: Shell) -> dict[str, str]:
    return {each["address"]: each["state"] for each in settler("address", "list", "--json").json}


def own(ran: Ran) -> str:
    """The address that an invoice was given."""
    (option,) = ran.json["options"]
    return str(option["pay_to"])


def finish(settler: Shell) -> None:
    """All invoices are done with and not monitored any more."""
    with closing(sqlite3.connect(settler.folder / "settler.db")) as db, db:
        db.execute("UPDATE invoices SET status = 'expired', monitoring_until = '2020-01-01T00:00:00.000000Z'")


def audit(settler: Shell) -> list[tuple[str, str, str]]:
    with closing(sqlite3.connect(settler.folder / "settler.db")) as db:
        return db.execute("SELECT action, object_id, reason FROM operator_actions ORDER BY seq").fetchall()


def test_add__shows_what_is_there_and_create_takes_it(settler: Shell) -> None:
    added = settler("address", "add", ONE, TWO, "--reason", "cold wallet", "--json").json
    assert {each["address"]: each["state"] for each in added} == {ONE: "free", TWO: "free"}
    assert {each["source"] for each in added} == {"pool"}
    made = settler.create("order-1", option="local:USDC")
    address = own(made)
    assert address in {ONE, TWO}
    assert listed(settler) == {ONE: "free", TWO: "free", address: "taken"}
    (taken,) = settler("address", "list", "--state", "taken", "--json").json
    assert (taken["invoice_id"], taken["path"]) == (made.json["id"], None)
    assert taken["free_from"] > made.json["monitoring_until"]
    assert audit(settler) == [("address.add", "pool", "cold wallet")]


def test_add__file__with_comments_and_blank_lines(settler: Shell) -> None:
    file = settler.folder / "pool.txt"
    file.write_text(f"# ours\n\n{ONE}\n  {TWO}  # the second\r\n{ONE}\n")
    assert settler("address", "add", THREE, "--file", "pool.txt").code == 0
    assert set(listed(settler)) == {ONE, TWO, THREE}
    table = settler("address", "list").out.splitlines()
    assert table[0].split() == ["ADDRESS", "SOURCE", "PATH", "INVOICE", "FREE_FROM", "STATE"]
    assert len(table) == 4


def test_add__wrong_lines__are_all_named_and_nothing_is_added(settler: Shell) -> None:
    (settler.folder / "pool.txt").write_text(f"{ONE}\n{TWO.lower()}\n0x12\n")
    ran = settler("address", "add", "--file", "pool.txt", "nonsense")
    assert ran.code == 2
    assert [error.split(": ")[0] for error in ran.errors] == ["address 'nonsense'", "pool.txt:2", "pool.txt:3"]
    assert f"write {TWO}" in ran.errors[1]
    assert listed(settler) == {}


def test_derived__each_invoice_has_the_next_with_its_path(settler: Shell) -> None:
    configure(settler, DEPOSITS)
    assert [own(settler.create(f"order-{n}", option="local:USDC")) for n in range(2)] == [ONE, TWO]
    found = {each["address"]: (each["source"], each["path"]) for each in settler("address", "list", "--json").json}
    assert found == {ONE: ("derived", "0/0"), TWO: ("derived", "0/1")}
    stored = (settler.folder / "settler.db").read_bytes()
    assert XPUB[10:60].encode() not in stored


async def test_run__the_api_of_the_daemon_gives_the_same_addresses(settler: Shell) -> None:
    configure(settler, '[api]\nlisten = "127.0.0.1:0"\nauth = "none"\n' + DEPOSITS)
    body = {"amount": "5", "reference": "a", "options": [{"chain": "local", "token": "USDC"}]}
    async with (
        embedded(settler.folder / "settler.toml") as (address, _stop),
        aiohttp.ClientSession() as session,
        session.post(f"{address}/v1/invoices", json=body) as response,
    ):
        made = await response.json()
        assert response.status == 201, made
    assert made["options"][0]["pay_to"] == ONE


def test_preview__shows_what_the_wallet_shows_and_gives_nothing_out(settler: Shell) -> None:
    refused = settler("address", "preview")
    assert (refused.code, refused.errors) == (2, ["deposits.xpub: is not configured, so no addresses are derived"])
    configure(settler, DEPOSITS)
    shown = settler("address", "preview", "--count", "4", "--json").json
    assert [(each["path"], each["address"]) for each in shown] == [
        (f"0/{index}", address) for index, address in enumerate(ANVIL_ADDRESSES)
    ]
    assert listed(settler) == {}
    assert own(settler.create("a", option="local:USDC")) == ONE


def test_derived__another_process_and_another_key_between__counts_on(settler: Shell) -> None:
    configure(settler, DEPOSITS)
    assert own(settler.create("a", option="local:USDC")) == ONE
    configure(settler, DEPOSITS + 'xpub_path = "1"\n')
    assert own(settler.create("b", option="local:USDC")) not in ANVIL_ADDRESSES
    configure(settler, DEPOSITS)
    assert own(settler.create("c", option="local:USDC")) == TWO


@pytest.mark.parametrize("command", [["invoice", "list"], ["address", "list"], ["check"], ["run"], ["migrate"]])
def test_private_key_in_the_configuration__is_exit_2_and_not_shown(settler: Shell, command: list[str]) -> None:
    configure(settler, f'[deposits]\nxpub = "{XPRV}"\n')
    ran = settler(*command)
    assert ran.code == 2
    (error,) = ran.errors
    assert error.startswith("deposits.xpub: is a private key")
    assert "give the extended public key" in error
    assert XPRV[4:20] not in ran.err + ran.out


def test_retire__is_audited_and_ends_it(settler: Shell) -> None:
    settler("address", "add", ONE)
    address = own(settler.create("order-1", option="local:USDC"))
    refused = settler("address", "retire", address, "--reason", "closed")
    assert refused.code == 2
    assert f"{address} is that of inv_" in refused.errors[0]
    finish(settler)
    assert settler("address", "retire", address, "--reason", "closed").code == 0
    assert listed(settler) == {ONE: "retired"}
    assert audit(settler)[-1] == ("address.retire", ONE, "closed")


def test_retire__an_address_that_callers_gave(settler: Shell) -> None:
    settler.create("order-1")
    finish(settler)
    ran = settler("address", "retire", SHOP, "--reason", "sold")
    assert (ran.code, ran.out.split()[0]) == (0, SHOP)
    with closing(sqlite3.connect(settler.folder / "settler.db")) as db:
        ((retired_at,),) = db.execute("SELECT retired_at FROM watched_addresses").fetchall()
    assert retired_at is not None


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["add"], "no address is given"),
        (["add", "--file", "nope.txt"], "--file nope.txt: cannot be read: No such file or directory"),
        (["add", "--file", "binary"], "--file binary: is not UTF-8 at byte 0"),
        (["add", "--file", "large"], "--file large: is larger than"),
        (["add", "--file", "many"], "10001 addresses are given; give at most 10000 at once"),
        (["add", TOKEN.lower()], f"write {TOKEN}"),
        (["add", "0x" + "0" * 40], "is the zero address"),
        (["list", "--state", "used"], "'used' is not one of 'free', 'taken', 'quarantined', 'retired'"),
        (["retire", ONE], "Missing option '--reason'"),
        (["retire", ONE, "--reason", " "], "--reason: is empty"),
        (["retire", ONE, "--reason", "x"], f"{ONE} is not watched"),
        (["retire", "0x12", "--reason", "x"], "address '0x12': '0x12' is no address"),
    ],
)
def test_wrong_use__is_one_line_and_exit_2(settler: Shell, args: list[str], said: str) -> None:
    from chains.address import to_checksum
    from chains.model import Address

    (settler.folder / "binary").write_bytes(b"\xff\xfe")
    (settler.folder / "large").write_text("#" * (1 << 20) + "\n")
    many = (to_checksum(Address(n.to_bytes(20))) for n in range(1, 10_002))
    (settler.folder / "many").write_text("\n".join(many) if "many" in args else "")
    ran = settler("address", *args)
    assert ran.code == 2
    (error,) = ran.errors
    assert said in error
    assert listed(settler) == {}


def test_create__without_an_address_and_nothing_configured__names_the_ways(settler: Shell) -> None:
    ran = settler.create("order-1", option="local:USDC")
    assert ran.code == 2
    (error,) = ran.errors
    assert error.startswith("options[0].pay_to: is missing; give the address to be paid, fill the address pool")
    assert "[deposits] xpub" in error
    assert settler.count("invoices") == 0


def test_create__by_reference_and_payer(settler: Shell) -> None:
    configure(settler, DEPOSITS)
    (made,) = settler.create("a", option="local:USDC:match=reference").json["options"]
    assert (made["pay_to"], made["match"], len(made["reference"])) == (ONE, "reference", 66)
    (given,) = settler.create("b", option=f"local:USDC:{SHOP}:reference:reference=0xa0098add01acc736:payer={TWO}").json[
        "options"
    ]
    assert (given["reference"], given["payer"]) == ("0xa0098add01acc736", TWO)
    by_flags = settler(
        *("invoice", "create", "--amount", "5", "--reference", "c", "--chain", "local", "--token", "USDC", "--json"),
        *("--pay-to", SHOP, "--match", "payer", "--payer", TWO),
    )
    assert by_flags.json["options"][0]["payer"] == TWO
    taken = settler.create("d", option=f"local:USDC:{SHOP}:match=reference:reference=0xa0098add01acc736")
    assert taken.code == 2
    assert taken.errors[0].startswith("options[0].reference: 0xa0098add01acc736 names another invoice")
    assert settler.count("invoices") == 3


def terminal(uri: str) -> str:
    out = io.StringIO()
    segno.make(uri).terminal(out, compact=True)
    return out.getvalue()


def test_show__qr__has_the_code_of_the_option_under_the_invoice(settler: Shell) -> None:
    made = settler.create("order-1", "--option", f"local:USDC:{ONE}").json
    plain = settler("invoice", "show", made["id"]).out
    for args, uri in (([], made["options"][0]["uri"]), (["--option", "1"], made["options"][1]["uri"])):
        assert settler("invoice", "show", made["id"], "--qr", *args).out == plain + terminal(uri)
    assert terminal(made["options"][0]["uri"]) != terminal(made["options"][1]["uri"])


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--qr", "--option", "1"], "option: 1 is not offered; inv_"),
        (["--qr", "--option", "-1"], "option: -1 is not offered"),
        (["--option", "0"], "--option goes with --qr"),
        (["--qr", "--json"], "leave one of them out"),
    ],
)
def test_show__wrong_use_of_qr__is_exit_2(settler: Shell, args: list[str], said: str) -> None:
    made = settler.create("order-1").json
    ran = settler("invoice", "show", made["id"], *args)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.errors[0]


def test_list__of_nothing(settler: Shell) -> None:
    assert json.loads(settler("address", "list", "--json").out) == []
    people = settler("address", "list")
    assert (people.code, people.out, people.err) == (0, "", "no deposit addresses\n")
