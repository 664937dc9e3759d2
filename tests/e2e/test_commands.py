"""The command line from outside, beside a daemon that runs on the same SQLite file."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest

from chains.address import to_checksum
from settler.anvil import find_anvil
from tests.e2e.conftest import Market
from tests.support import evm
from tests.support.daemon import (
    ChainTable,
    Process,
    TokenTable,
    clean_environment,
    cli,
    cli_json,
    new_address,
    pay_to,
    program,
    write_config,
)


async def run(*args: str, config: Path) -> tuple[int, str, str]:
    done = await asyncio.to_thread(cli, *args, config=config)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.timeout(300)
async def test_invoices_transfers_settlements__beside_a_running_daemon(market: Market) -> None:
    async with Process(market.config) as process:
        await process.api.is_ready()
        way = f"anvil:USDC:{to_checksum(new_address())}"
        create = ("invoice", "create", "--amount", "12.50", "--option", way)
        made = await cli_json(*create, "--reference", "order-7", "--metadata", "shelf=3", config=market.config)
        assert made == await process.api.invoice(made), "the CLI prints what the API shows"
        assert (made["status"], made["metadata"]) == ("pending", {"shelf": "3"})

        code, _, said = await run(*create, "--reference", "order-7", config=market.config)
        assert code == 2
        assert "order-7" in said
        assert len(said.splitlines()) == 1

        unwanted = await cli_json(
            "invoice", "create", "--amount", "1", "--option", f"anvil:USDC:{to_checksum(new_address())}",
            "--reference", "order-8", config=market.config,
        )  # fmt: skip
        canceled = await cli_json("invoice", "cancel", unwanted["id"], "--reason", "out of stock", config=market.config)
        assert canceled["status"] == "canceled"

        await market.pay(made)
        await evm.transfer(market.node, market.node.accounts[1], market.token.address, pay_to(unwanted), 77)
        settled = await process.api.reaches(made, "settled")
        head = (await evm.head(market.node)).number
        await process.api.decided(head)
        code, _, said = await run("invoice", "cancel", made["id"], config=market.config)
        assert (code, len(said.splitlines())) == (2, 1)

        shown = await cli_json("invoice", "show", made["id"], config=market.config)
        assert (shown["status"], shown["settlement_id"]) == ("settled", settled["settlement_id"])
        listed = await cli_json("invoice", "list", "--status", "settled", config=market.config)
        assert [i["id"] for i in listed] == [made["id"]]
        (queue,) = await cli_json("transfer", "list", config=market.config)
        assert (queue["reason"], queue["amount_base"], queue["status"]) == ("no_invoice", "77", "final")
        assert len(await cli_json("transfer", "list", "--all", config=market.config)) == 2
        (settlement,) = await cli_json("settlement", "list", config=market.config)
        assert settlement == await cli_json("settlement", "show", settlement["id"], config=market.config)
        assert settlement == await process.api.get(f"/v1/settlements/{settlement['id']}")

        code, table, _ = await run("invoice", "list", config=market.config)
        assert code == 0
        assert table.splitlines()[0].split()[:4] == ["ID", "REFERENCE", "MERCHANT", "STATUS"]
        assert any(made["id"] in line and "settled" in line for line in table.splitlines())
        code, table, _ = await run("settlement", "show", settlement["id"], config=market.config)
        assert (code, settlement["invoice_id"] in table) == (0, True)
        code, table, _ = await run("chain", "list", config=market.config)
        assert (code, "anvil" in table, "halted" in table) == (0, True, False)
        for wrong in (("invoice", "show", "inv_nothing"), ("settlement", "show", "stl_nothing")):
            code, out, said = await run(*wrong, config=market.config)
            assert (code, out, len(said.splitlines())) == (2, "", 1)


async def test_check__fine__is_a_table_and_exit_0(market: Market) -> None:
    code, table, said = await run("check", config=market.config)
    assert (code, said) == (0, "")
    assert table.splitlines()[0].split() == ["CHAIN", "PROVIDER", "CHECK", "RESULT", "DETAIL"]
    rows = {re.split(r"\s{2,}", line)[2]: line for line in table.splitlines()[1:] if line.startswith("anvil")}
    assert {"chain id", "head", "tag safe", "tag finalized", "log range", "token USDC"} <= rows.keys()
    assert "wrong" not in table
    rows_too = json.loads((await run("check", "--json", config=market.config))[1])
    assert {(row["chain"], row["result"]) for row in rows_too} <= {("anvil", "ok"), ("anvil", "note")}


@pytest.mark.parametrize("fault", ["another token", "nobody there", "rpc down", "chain id"])
async def test_check__something_wrong__says_what_and_exits_1(fault: str, market: Market, tmp_path: Path) -> None:
    folder = tmp_path / "wrong"
    folder.mkdir()
    dai = await evm.deploy_token(market.node, "DAI", 18)
    address = {"another token": dai, "nobody there": new_address()}.get(fault, market.token.address)
    rpc = "http://127.0.0.1:1/secret-key" if fault == "rpc down" else market.node.url
    chain_id = 4242 if fault == "chain id" else market.chain.chain_id
    chain = ChainTable(name="mine", rpc=rpc, chain_id=chain_id, tokens=[TokenTable(address=address)])
    code, table, said = await run("check", config=write_config(folder, chain))
    assert code == 1, said
    (wrong,) = [line for line in table.splitlines() if "  wrong  " in line]
    named = {
        "another token": ("token USDC", "18"),
        "nobody there": ("token USDC", "no contract"),
        "rpc down": ("rpc", "URL"),
        "chain id": ("chain id", "31337"),
    }[fault]
    assert all(word in wrong for word in named), wrong
    assert "secret-key" not in table + said


async def test_check__of_a_wrong_file__exits_2(tmp_path: Path) -> None:
    config = tmp_path / "settler.toml"
    config.write_text("[chains.base]\nrpc = 'ftp://example'\nfinalty = 3\n")
    code, table, said = await run("check", config=config)
    assert (code, table) == (2, "")
    assert "chains.base.finalty" in said
    code, _, said = await run("check", config=tmp_path / "none.toml")
    assert (code, len(said.splitlines())) == (2, 1)
    assert "none.toml" in said


@pytest.mark.timeout(240)
async def test_demo__without_a_terminal__tells_the_story_and_exits_0(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        program(), "demo", "--exit-when-settled", "--invoices", "5",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=tmp_path,
        env={**clean_environment(), "SETTLER_ANVIL": str(find_anvil())},
    )  # fmt: skip
    try:
        async with asyncio.timeout(200):
            out, err = (text.decode() for text in await process.communicate())
    finally:
        if process.returncode is None:
            process.kill()
    assert (process.returncode, err) == (0, ""), out + err
    assert "\x1b" not in out, "no colours where nobody looks"
    last = {line.partition(":")[0]: line for line in out.splitlines() if line.startswith("order-")}
    assert len(last) == 5
    assert all(": settled" in line and "in block" in line for line in last.values())
    in_parts = [line for name, line in last.items() if "in two parts" in name]
    (too_much,) = [line for name, line in last.items() if "too much" in name]
    assert [line.count("in block") for line in in_parts] == [2, 2]
    assert "overpaid" in too_much
    assert "a reorg replaced" in out
    assert "all 5 invoices are settled" in out
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"
