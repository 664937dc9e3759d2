"""What is wrong with a configuration is said at once: each key, its value, and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from settler.config import ConfigError
from tests.config.samples import ACME, BASE, PRIVATE, RPC, problems, read

OWN = f'[chains.base.token.ACME]\naddress = "{ACME}"\ndecimals = 6\n'


@pytest.mark.parametrize(
    ("text", "key", "message"),
    [
        # the file
        (BASE + "[invoices]\nexpires = 1\n", "invoices.expires", "not a known key; did you mean expires_in_s?"),
        (BASE + "[runtme]\n", "runtme", "not a known key; did you mean runtime?"),
        (BASE + "confirmations = 3\n", "chains.base.confirmations", "known there are chain_id, explorer, finality,"),
        ("[database]\n", "chains", "none is configured; add e.g. [chains.base]"),
        ("chains = 5\n", "chains", "is not a table"),
        ("[chains]\nbase = 5\n", "chains.base", "is not a table; write it as [chains.base]"),
        # tables of the process
        ('[database]\nurl = "mysql://a@b/c"\n' + BASE, "database.url", "begins with mysql://, which is not supported"),
        (
            '[api]\nlisten = "8080"\n' + BASE,
            "api.listen",
            "'8080' is no address and port; write e.g. \"127.0.0.1:8080\"",
        ),
        ('[api]\nlisten = "127.0.0.1:99999"\n' + BASE, "api.listen", "is no address and port"),
        ('[api]\nauth = "basic"\n' + BASE, "api.auth", "'basic' is not known; write 'keys' or 'none'"),
        ('[api]\nauth = "none"\nlisten = "0.0.0.0:80"\n' + BASE, "api.auth", "who reaches 0.0.0.0:80"),
        ("[invoices]\nexpires_in_s = 0\n" + BASE, "invoices.expires_in_s", "0 is out of range; give 1 to"),
        ("[invoices]\nexpires_in_s = true\n" + BASE, "invoices.expires_in_s", "true is not a number"),
        ("[invoices]\nexpires_in_s = 1.5\n" + BASE, "invoices.expires_in_s", "1.5 is not a whole number"),
        ("[invoices]\nmonitoring_s = -1\n" + BASE, "invoices.monitoring_s", "-1 is out of range; give 0 to"),
        (
            "[invoices]\nunderpayment_tolerance_bps = 1001\n" + BASE,
            "invoices.underpayment_tolerance_bps",
            "1001 is out of range; give 0 to 1_000 bps",
        ),
        (
            "[invoices]\nunderpayment_tolerance_max = 0.5\n" + BASE,
            "invoices.underpayment_tolerance_max",
            "0.5 is not text; write it in quotes",
        ),
        (
            '[invoices]\nunderpayment_tolerance_max = "1e3"\n' + BASE,
            "invoices.underpayment_tolerance_max",
            "'1e3' is not an amount",
        ),
        (
            '[invoices]\nunderpayment_tolerance_max = "1000.01"\n' + BASE,
            "invoices.underpayment_tolerance_max",
            "'1000.01' is out of range",
        ),
        ('[invoices]\nlate = "maybe"\n' + BASE, "invoices.late", "'maybe' is not known; write 'accept' or 'hold'"),
        ("[runtime]\ndrain_timeout_s = nan\n" + BASE, "runtime.drain_timeout_s", "nan is out of range"),
        ('[runtime]\nlog_level = "loud"\n' + BASE, "runtime.log_level", "'loud' is not known"),
        (
            '[webhooks]\nallow_private_addresses = "perhaps"\n' + BASE,
            "webhooks.allow_private_addresses",
            "true nor false",
        ),
        # later versions
        ('[policy]\ndepeg_floor = "1.01"\n' + BASE, "policy.depeg_floor", "give a price above"),
        ('[policy]\ndepeg_floor = "0"\n' + BASE, "policy.depeg_floor", "give a price above"),
        ('[policy]\ndepeg_floor = "98%"\n' + BASE, "policy.depeg_floor", "'98%' is not an amount"),
        (BASE + "tiers = 5\n", "chains.base.tiers", "is no list"),
        (BASE + 'tiers = [{ up_to = "50" }]\n', "chains.base.tiers", "a tier has up_to and finality"),
        (BASE + "tiers = [{ up_to = 50, finality = 2 }]\n", "chains.base.tiers", "write the amount in quotes"),
        (BASE + 'tiers = [{ up_to = "0", finality = 2 }]\n', "chains.base.tiers", "up_to: '0' is zero"),
        (BASE + 'tiers = [{ up_to = "50", finality = "latest" }]\n', "chains.base.tiers", "'latest' is no finality"),
        (
            BASE + 'tiers = [{ up_to = "50", finality = 2 }, { up_to = "50", finality = 3 }]\n',
            "chains.base.tiers",
            "do not rise",
        ),
        (
            BASE + 'tiers = [{ up_to = "50", finality = 3 }, { up_to = "60", finality = 2 }]\n',
            "chains.base.tiers",
            "let the depths rise",
        ),
        (
            BASE + 'finality = 3\ntiers = [{ up_to = "50", finality = 3 }]\n',
            "chains.base.tiers[0]",
            "no sooner than the chain's own 3",
        ),
        (BASE + 'sanctions_oracle = "nobody"\n', "chains.base.sanctions_oracle", "'nobody'"),
        (BASE + 'request_proxies = "0x"\n', "chains.base.request_proxies", "is no list"),
        (BASE + 'payment_escrows = ["0x12"]\n', "chains.base.payment_escrows", "0x12"),
        # providers
        (BASE + "quorum = 2\n", "chains.base.quorum", "2 providers cannot agree where rpc has 1; add providers"),
        (BASE + "quorum = 0\n", "chains.base.quorum", "0 is out of range"),
        (BASE + 'proof = "trust me"\n', "chains.base.proof", "is not known"),
        (
            BASE.replace("base]", "zksync]").replace("USDC", "USDC.e") + 'proof = "receipts"\n',
            "chains.zksync.proof",
            "is not possible: chain 324 has no receipts to prove",
        ),
        (BASE.replace(f'"{RPC}"', f'["{RPC}", "{RPC}"]'), "chains.base.rpc[1]", "is the same URL as rpc[0]"),
        (BASE + "rpc_max_rps = 0\n", "chains.base.rpc_max_rps", "0 is out of range"),
        (BASE + "rpc_max_in_flight = 0\n", "chains.base.rpc_max_in_flight", "0 is out of range"),
        # a chain
        (BASE + "chain_id = 1\n", "chains.base.chain_id", "1 is not the id of Base, which is 8453"),
        (BASE + 'chain_id = "base"\n', "chains.base.chain_id", "'base' is not a whole number"),
        (BASE + "chain_id = 0\n", "chains.base.chain_id", "0 is out of range"),
        (BASE.replace("base]", "bse]"), "chains.bse.chain_id", "did you mean chains.base?"),
        (
            BASE.replace("chains.base]", 'chains."my base"]\nchain_id = 8453'),
            "chains.my base",
            "is no name for a chain",
        ),
        ('[chains.base]\ntokens = ["USDC"]\n', "chains.base.rpc", "is missing; give the http(s):// or ws(s):// URL"),
        (BASE.replace(RPC, ""), "chains.base.rpc", "is empty"),
        (
            BASE.replace(RPC, "ftp://base.example"),
            "chains.base.rpc",
            "must be http:// or https://, ws:// or wss://",
        ),
        (BASE.replace(RPC, "wss:///key"), "chains.base.rpc", "names no host after wss://"),
        (BASE.replace(RPC, "ws+unix://base.example"), "chains.base.rpc", "this one has scheme 'ws+unix'"),
        (BASE.replace(f'"{RPC}"', "8545"), "chains.base.rpc", "neither a URL in quotes nor a list"),
        (BASE + 'start_block = "earliest"\n', "chains.base.start_block", "'earliest' is no start"),
        (BASE + "start_block = -1\n", "chains.base.start_block", "-1 is no start"),
        (BASE + "poll_interval_s = 0.01\n", "chains.base.poll_interval_s", "0.01 is out of range; give 0.05 to 60 s"),
        (BASE + "finality = 0\n", "chains.base.finality", "0 blocks are out of range; give 1 to"),
        (BASE + 'finality = "latest"\n', "chains.base.finality", "'latest' is no finality; write"),
        (BASE + "finality = true\n", "chains.base.finality", "True is no finality"),
        (BASE + "finality = { min_depth = 5 }\n", "chains.base.finality", "has no tag"),
        (BASE + 'finality = { tag = "safe", depth = 5 }\n', "chains.base.finality", "has an unknown key 'depth'"),
        (PRIVATE.replace("finality = 3\n", ""), "chains.private.finality", "is missing, and the chain is not known"),
        (
            BASE + "[chains.two]\nchain_id = 8453\nrpc = 'http://a.example'\ntokens = ['USDC']\n",
            "chains.two.chain_id",
            "8453 is chains.base already",
        ),
        # tokens
        (BASE.replace('["USDC"]', "[]"), "chains.base.tokens", "is missing; name at least one token; known there"),
        (BASE.replace('["USDC"]', '["NOPE"]'), "chains.base.tokens[0]", "known there: DAI, EURC,"),
        (BASE.replace('["USDC"]', '["NOPE"]'), "chains.base.tokens[0]", "in [chains.base.token.NOPE]"),
        (
            BASE.replace('["USDC"]', '["USDC", "USDC"]'),
            "chains.base.tokens[1]",
            "named by chains.base.tokens[0] already",
        ),
        (BASE.replace('["USDC"]', "{ ACME = 1 }"), "chains.base.tokens", "as [chains.base.token.SYMBOL]"),
        (BASE + OWN.replace("decimals = 6\n", ""), "chains.base.token.ACME.decimals", "is missing; give what"),
        (BASE + OWN.replace("= 6", "= 77"), "chains.base.token.ACME.decimals", "77 is out of range"),
        (BASE + OWN.replace(ACME, ACME.lower()), "chains.base.token.ACME.address", f"if it is meant, write {ACME}"),
        (BASE + OWN.replace("0x5F", "0x5f"), "chains.base.token.ACME.address", "no valid EIP-55 checksum"),
        (BASE + OWN.replace(f'address = "{ACME}"\n', ""), "chains.base.token.ACME.address", "is missing; give the"),
        (BASE + OWN.replace(ACME, "0x" + "0" * 40), "chains.base.token.ACME.address", "is the zero address"),
        (BASE + OWN.replace(f'"{ACME}"', "5"), "chains.base.token.ACME.address", "is not text"),
        (BASE + OWN + 'currency = "usd"\n', "chains.base.token.ACME.currency", "'usd' is no currency"),
        (BASE + OWN + OWN.replace("ACME", "AC2"), "chains.base.token.AC2", "named by chains.base.token.ACME already"),
    ],
)
def test_load__one_wrong_value__is_named_with_its_remedy(tmp_path: Path, text: str, key: str, message: str) -> None:
    found = problems(tmp_path, text)
    assert list(found) == [key]
    assert message in found[key]


def test_load__wrong_toml__says_line_and_column(tmp_path: Path) -> None:
    (message,) = problems(tmp_path, "[database]\nurl = sqlite\n").values()
    assert "no valid TOML" in message
    assert "line 2, column 7" in message


def test_load__not_text__says_where(tmp_path: Path) -> None:
    file = tmp_path / "settler.toml"
    file.write_bytes(b"[database]\nurl = '\xff'\n")
    from settler.config import load

    with pytest.raises(ConfigError, match="is not UTF-8 at byte 18"):
        load(file, {})


def test_load__everything_wrong__is_said_at_once(tmp_path: Path) -> None:
    text = """
        [database]
        ulr = "x"
        [api]
        listen = "0.0.0.0:80"
        auth = "none"
        [invoices]
        expires_in_s = -1
        [chains.base]
        chain_id = 1
        finality = 0
        quorum = 0
        tokens = ["USDC", "NOPE"]
        [chains.base.token.ACME]
        address = "0x12"
        [chains.other]
        rpc = "tcp://other.example"
        tokens = ["USDC"]
    """
    assert sorted(problems(tmp_path, text)) == [
        "api.auth",
        "chains.base.chain_id",
        "chains.base.finality",
        "chains.base.quorum",
        "chains.base.rpc",
        "chains.base.token.ACME.address",
        "chains.base.token.ACME.decimals",
        "chains.base.tokens[1]",
        "chains.other.chain_id",
        "chains.other.rpc",
        "database.ulr",
        "invoices.expires_in_s",
    ]


def test_load__one_wrong_key__does_not_hide_what_follows_from_the_rest(tmp_path: Path) -> None:
    """A refused value is taken out and the rest judged; what depends on it alone is not complained of a second
    time.
    """
    found = problems(tmp_path, BASE.replace(RPC, "") + "finality = 0\nstart_block = -1\n")
    assert sorted(found) == ["chains.base.finality", "chains.base.rpc", "chains.base.start_block"]


def test_load__a_right_file__has_no_problem(tmp_path: Path) -> None:
    assert read(tmp_path, BASE + OWN).chains["base"].tokens
