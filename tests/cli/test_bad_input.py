"""Bad input of `settler invoice create` and of the configuration: field, value, remedy, exit 2, nothing stored."""

from __future__ import annotations

import pytest

from tests.cli.conftest import CONFIG, SHOP, TOKEN, Shell


@pytest.mark.parametrize(
    ("amount", "said"),
    [
        ("0", "'0' is zero; an amount must be above zero"),
        ("0.00", "'0.00' is zero"),
        ("-5", "'-5' is not an amount; write a plain decimal string"),
        ("NaN", "'NaN' is not an amount"),
        ("Infinity", "'Infinity' is not an amount"),
        ("1e3", "'1e3' is not an amount"),
        ("1,000.00", "'1,000.00' is not an amount"),
        ("", "'' is not an amount"),
        ("1.0000001", "'1.0000001' has 7 decimals; at most 6 can be paid"),
        (str(2**256), "is above what a token can hold"),
        ("9" * 75, "is above what a token can hold"),
    ],
)
def test_create__wrong_amount__is_refused(settler: Shell, amount: str, said: str) -> None:
    settler.create("first")
    ran = settler.create("second", amount=amount)
    assert ran.code == 2
    assert ran.out == ""
    (error,) = ran.errors
    assert error.startswith("amount: ")
    assert said in error
    assert settler.count("invoices") == 1


@pytest.mark.parametrize(
    ("option", "field", "said"),
    [
        (f"nope:USDC:{SHOP}", "options[0].chain", "'nope' is not configured; choose one of local"),
        (f"local:NOPE:{SHOP}", "options[0].token", "'NOPE' is not configured on local; choose one of USDC"),
        (f"local:USDC:{SHOP.lower()}", "options[0].pay_to", f"and if it is meant, write {SHOP}"),
        (f"local:USDC:{SHOP[:-1]}D", "options[0].pay_to", "no valid EIP-55 checksum"),
        ("local:USDC:0x12", "options[0].pay_to", "is no address"),
        ("local:USDC", "options[0].pay_to", "is missing; give the address to be paid"),
        (f"local:USDC:{SHOP}:payer", "options[0].payer", "is missing; give the address that will pay"),
        (f"local:USDC:{SHOP}:payer:payer={TOKEN.lower()}", "options[0].payer", f"and if it is meant, write {TOKEN}"),
        (f"local:USDC:{SHOP}:payer={TOKEN}", "options[0].payer", "is not looked at where match is 'address'"),
        (f"local:USDC:{SHOP}:reference:reference=0x12", "options[0].reference", "0x12 has 1 bytes; give 8 to 32"),
        (f"local:USDC:{SHOP}:colour=red", "options[0].colour", "is not known here; known are chain, token, pay_to"),
        ("local:USDC::match=reference", "--option 'local:USDC::match=reference'", "write CHAIN:TOKEN:ADDRESS"),
        (f"local:USDC:{SHOP}:pay_to={SHOP}", f"--option 'local:USDC:{SHOP}:pay_to={SHOP}'", "write CHAIN:TOKEN"),
        (f"local:USDC:{SHOP}:guess", "options[0].match", "is not known"),
        ("local", "--option 'local'", "write CHAIN:TOKEN:ADDRESS"),
    ],
)
def test_create__wrong_option__is_refused(settler: Shell, option: str, field: str, said: str) -> None:
    ran = settler.create("order-1", option=option)
    assert ran.code == 2
    (error,) = ran.errors
    assert error.startswith(f"{field}: ")
    assert said in error


@pytest.mark.parametrize(
    ("args", "field", "said"),
    [
        (["--expires-in-s", "-60"], "expires_in_s", "-60"),
        (["--expires-in-s", "0"], "expires_in_s", "0"),
        (["--currency", "EUR"], "currency", "'EUR' is not what all options stand for (USD)"),
        (["--merchant", "no spaces"], "merchant", "no spaces"),
        (["--metadata", "novalue"], "--metadata 'novalue'", "write KEY=VALUE"),
    ],
)
def test_create__wrong_field__is_refused(settler: Shell, args: list[str], field: str, said: str) -> None:
    ran = settler.create("order-1", *args)
    assert ran.code == 2
    (error,) = ran.errors
    assert error.startswith(f"{field}: ")
    assert said in error


def test_create__reference_taken__is_refused_per_merchant(settler: Shell) -> None:
    assert settler.create("order-1").code == 0
    ran = settler.create("order-1")
    assert ran.code == 2
    assert "reference: 'order-1' is taken by another invoice of merchant 'default'; use a new" in ran.errors[0]
    assert settler.create("order-1", "--merchant", "other").code == 0
    assert settler.count("invoices") == 2
    assert settler.count("events") == 2


def test_create__several_wrong__are_said_at_once(settler: Shell) -> None:
    ran = settler.create(" ", amount="NaN", option="local:USDC:0x12")
    assert [error.split(":")[0] for error in ran.errors] == ["amount", "reference", "options[0].pay_to"]


def test_create__without_an_option__says_how(settler: Shell) -> None:
    ran = settler("invoice", "create", "--amount", "1", "--reference", "a")
    assert ran.code == 2
    assert ran.errors[0].startswith("options: ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (CONFIG.replace("decimals = 6", ""), "chains.local.token.USDC.decimals: is missing"),
        (CONFIG.replace(TOKEN, TOKEN.lower()), f"if it is meant, write {TOKEN}"),
        (CONFIG.replace("31337", "true"), "chains.local.chain_id: true is not a number"),
        ("[database\n", "settler.toml: is no valid TOML: "),
        ("", "chains: none is configured"),
    ],
)
@pytest.mark.parametrize("command", [["invoice", "list"], ["check"], ["migrate"], ["run"]])
def test_every_command__wrong_configuration__is_exit_2(
    bare_settler: Shell, command: list[str], text: str, said: str
) -> None:
    settler = bare_settler
    (settler.folder / "settler.toml").write_text(text)
    ran = settler(*command)
    assert ran.code == 2
    assert any(said in error for error in ran.errors)
    assert not (settler.folder / "settler.db").exists()


def test_configuration__several_problems__are_one_line_each(settler: Shell) -> None:
    (settler.folder / "settler.toml").write_text(CONFIG.replace("decimals = 6", "") + "finality = 0\n[runtme]\n")
    assert len(settler("invoice", "list").errors) == 3


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["invoice", "lst"], "settler invoice: No such command 'lst'"),
        (["invoice", "list", "--sttus", "x"], "No such option: --sttus"),
        (["invoice", "list", "--status", "paid"], "'paid' is not one of 'pending', 'processing'"),
        (["invoice", "list", "--limit", "0"], "--limit"),
        (["invoice", "create"], "Missing option '--amount'"),
        (["invoice", "show"], "Missing argument 'ID'"),
        (["invoice", "show", "inv_nope"], "there is no invoice 'inv_nope'; see settler invoice list"),
        (["invoice", "cancel", "inv_nope"], "there is no invoice inv_nope"),
        (["settlement", "show", "stl_nope"], "there is no settlement 'stl_nope'"),
        (["transfer", "list", "--chain", "nope"], "chain 'nope' is not known; choose one of local"),
        (["chain", "resume", "local"], "Missing option '--reason'"),
        (["chain", "resume", "local", "--reason", " "], "--reason: is empty"),
        (["chain", "resume", "local", "--reason", "looked"], "local was not read yet; there is nothing to resume"),
        (["chain", "resume", "nope", "--reason", "looked"], "chain 'nope' is not known; choose one of local"),
        (["api-key", "create", "--scope", "admin"], "--scope 'admin': write one of read, write, operate"),
        (["api-key", "create", "--merchant", "a b"], "--merchant 'a b': "),
        (["api-key", "revoke", "key_nope"], "there is no API key 'key_nope'"),
        (["webhook", "endpoint", "add", "shop.example"], "url: "),
        (["webhook", "endpoint", "add", "http://127.0.0.1/x"], "allow_private_addresses"),
        (["webhook", "endpoint", "add", "https://a.example", "--type", "x"], "types[0]: "),
        (["webhook", "endpoint", "remove", "whe_nope"], "there is no webhook endpoint whe_nope; see"),
        (["demo", "--invoices", "0"], "--invoices"),
        (["run", "-c", "nope.toml"], "nope.toml: cannot be read: No such file or directory"),
    ],
)
def test_usage__wrong__is_one_line_and_exit_2(settler: Shell, args: list[str], said: str) -> None:
    ran = settler(*args)
    assert ran.code == 2
    assert ran.out == ""
    (error,) = ran.errors
    assert said in error


def test_group_without_command__shows_its_help(settler: Shell) -> None:
    ran = settler("invoice")
    assert ran.code == 2
    assert "create" in ran.err


def test_errors__control_characters__are_escaped(settler: Shell) -> None:
    (error,) = settler("invoice", "show", "inv_\x1b[31m\n").errors
    assert "\\x1b[31m\\n" in error
