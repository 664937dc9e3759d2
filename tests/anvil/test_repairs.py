"""Payments that a lying node kept from the daemon: `reconcile` finds them, `rescan` adds them; and what a settlement
rests on, told by `settlement verify`. The commands run as processes of their own, beside the daemon.
"""

from __future__ import annotations

import asyncio
import json
import shlex
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from settler.anvil import Anvil, find_anvil
from tests.anvil.shop import FINALITY, UNIT, Shop, open_shop
from tests.support import evm
from tests.support.daemon import Json, cli, new_address
from tests.support.rpc_proxy import RpcProxy


async def run(shop: Shop, *args: str) -> tuple[int, Any]:
    """Exit code, and what it prints with `--json` (or the lines of its errors)."""
    done = await asyncio.to_thread(cli, *args, "--json", config=shop.config)
    return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr.splitlines()


async def people(shop: Shop, *args: str) -> tuple[int, str]:
    done = await asyncio.to_thread(cli, *args, config=shop.config)
    assert done.stderr == "", done.stderr
    return done.returncode, done.stdout


async def missed(shop: Shop, proxy: RpcProxy) -> tuple[Json, int]:
    """An invoice that was paid while the daemon's node left all logs out; and the payment's block."""
    invoice = await shop.api.create("100.00")
    await shop.see_all()
    proxy.lie("eth_getLogs", lambda _params, _result: [])
    paid = await shop.pay(invoice)
    await shop.finish()
    proxy.be_honest()
    assert (await shop.api.invoice(invoice))["status"] == "pending"
    return invoice, await shop.payment_block(paid)


async def settled(shop: Shop) -> Json:
    """The settlement of an invoice that was paid too much."""
    invoice = await shop.api.create("100.00")
    await shop.pay(invoice, 101 * UNIT)
    await shop.finish()
    await shop.api.reaches(invoice, "settled")
    return await shop.api.settlement_of(invoice)


@pytest.fixture
async def lied_to(tmp_path: Path) -> AsyncIterator[tuple[Shop, RpcProxy]]:
    """A shop whose daemon believes a provider that may lie, with an honest one after it."""
    async with (
        Anvil(find_anvil(), no_mining=True) as node,
        RpcProxy(node.url) as proxy,
        open_shop(tmp_path, node=node, rpc=[proxy.url, node.url], quorum=1) as shop,
    ):
        yield shop, proxy


@pytest.fixture
async def proving(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path, proof="receipts") as shop:
        yield shop


async def test_missed_payment__reconcile_finds_it__rescan_repairs_it(lied_to: tuple[Shop, RpcProxy]) -> None:
    shop, proxy = lied_to
    before = await settled(shop)
    invoice, block = await missed(shop, proxy)

    proxy.lie("eth_getLogs", lambda _params, _result: [])
    code, found = await run(shop, "reconcile")
    proxy.be_honest()

    (chain,) = found["chains"]
    assert (code, found["breaks"], chain["failure"]) == (1, 1, None)
    assert chain["provider"] == "127.0.0.1#2", "not the one that the daemon asks first"
    (only,) = chain["breaks"]
    assert (only["kind"], only["block_number"], only["amount"]) == ("unrecorded", block, "100.00")
    assert only["address"] == invoice["options"][0]["pay_to"]
    assert chain["balances"] == 2

    settler, *remedy = shlex.split(only["remedy"])
    assert settler == "settler"
    assert remedy[1:3] == ["-c", str(shop.config)]
    code, done = await run(shop, remedy[0], *remedy[3:])
    assert (code, done["transfers"], done["added"], done["settled"], done["breaks"]) == (0, 1, 1, 1, [])
    paid = await shop.api.reaches(invoice, "settled")
    assert [p["status"] for p in paid["payments"]] == ["final"]
    assert await shop.api.told_of(invoice) == ["invoice.created", "invoice.settled"]
    assert (await shop.api.chain())["halted"] is False

    code, found = await run(shop, "reconcile")
    assert (code, found["breaks"]) == (0, 0)
    assert found["chains"][0]["matching"] == 2
    code, again = await run(shop, "rescan", "--chain", "anvil", "--from", "0", "--to", str(block))
    assert (code, again["blocks"], again["transfers"], again["added"]) == (0, block + 1, 2, 0)
    code, table = await people(shop, "rescan", "--chain", "anvil", "--from", "0", "--to", str(block))
    assert code == 0
    assert f"anvil 0..{block}: {block + 1} of {block + 1} blocks; 2 transfers, 0 added" in table.splitlines()[0]
    assert (await shop.api.settlement_of({"id": before["invoice_id"]})) == before


async def test_records_the_chain_does_not_show__are_breaks_and_stay(lied_to: tuple[Shop, RpcProxy]) -> None:
    shop, proxy = lied_to
    settlement = await settled(shop)
    block = settlement["payments"][0]["block_number"]
    proxy.lie("eth_getLogs", lambda _params, _result: [])
    code, done = await run(shop, "rescan", "--chain", "anvil", "--from", str(block), "--to", str(block))
    assert (code, [each["kind"] for each in done["breaks"]]) == (1, ["gone"])
    assert "settler reconcile --chain anvil" in done["breaks"][0]["remedy"]
    code, found = await run(shop, "reconcile", "--rpc", proxy.url)
    kinds = {each["kind"] for each in found["chains"][0]["breaks"]}
    assert (code, kinds) == (1, {"gone", "balance"}), "its balances give the liar away"
    code, table = await people(shop, "reconcile", "--rpc", proxy.url)
    assert code == 1
    assert table.splitlines()[-1].startswith("anvil: ")
    proxy.be_honest()
    assert await shop.api.settlement_of({"id": settlement["invoice_id"]}) == settlement
    assert (await run(shop, "reconcile", "--rpc", proxy.url))[0] == 0


async def test_swept_address__balances_agree(shop: Shop) -> None:
    invoice = await shop.api.create("100.00", pay_to=evm.address_of(shop.node.accounts[2]))
    await shop.pay(invoice, payer=1)
    await shop.finish()
    await shop.api.reaches(invoice, "settled")
    await shop.send(evm.address_of(shop.node.accounts[3]), 40 * UNIT, payer=2)
    await shop.finish()
    code, found = await run(shop, "reconcile")
    (chain,) = found["chains"]
    assert (code, chain["breaks"], chain["balances"], chain["notes"]) == (0, [], 1, [])


async def test_verify__with_a_proof__needs_no_node(proving: Shop) -> None:
    settlement = await settled(proving)
    code, found = await run(proving, "settlement", "verify", settlement["id"])
    assert (code, found["is_verified"]) == (0, True)
    assert [(p["proof"], p["node"], p["detail"]) for p in found["payments"]] == [("proven", "not_asked", None)]
    code, found = await run(proving, "settlement", "verify", settlement["id"], "--rpc", proving.node.url)
    assert (code, [(p["proof"], p["node"]) for p in found["payments"]]) == (0, [("proven", "confirmed")])

    shown = await proving.api.get(f"/v1/settlements/{settlement['id']}/evidence")
    (payment,) = shown["payments"]
    assert (payment["amount_base"], payment["ordinal"], payment["sources"]) == (f"{101 * UNIT}", 0, ["127.0.0.1"])
    assert payment["proof"]["version"] == 1
    assert (payment["proof_failure"], payment["block_hash"]) == (None, settlement["payments"][0]["block_hash"])


TAMPERED = {
    "proof of another block": "UPDATE payment_evidence SET proof = json_replace(proof, '$.header', '0xc0')",
    "another place in the block": "UPDATE payment_evidence SET proof = json_replace(proof, '$.tx_index', 7)",
    "amount of the settlement": "UPDATE settlement_lines SET amount_surplus = amount_settled",
}


@pytest.mark.parametrize("what", TAMPERED)
async def test_verify__tampered_row__says_so(proving: Shop, what: str) -> None:
    settlement = await settled(proving)
    config = tampered(proving, TAMPERED[what])
    verify = ("settlement", "verify", settlement["id"])
    done = await asyncio.to_thread(cli, *verify, "--json", config=config)
    found = json.loads(done.stdout)
    assert (done.returncode, found["is_verified"]) == (1, False)
    (payment,) = found["payments"]
    assert payment["proof"] == "failed"
    assert "its proof does not hold" in payment["detail"]
    assert bool(found["contradictions"]) is (what == "amount of the settlement")
    done = await asyncio.to_thread(cli, *verify, "--rpc", proving.node.url, config=config)
    assert (done.returncode, done.stderr) == (1, ""), "a node's word does not heal a proof that fails"
    assert f"{settlement['id']}: NOT verified" in done.stdout


async def test_verify__without_a_proof__goes_by_the_nodes_word(shop: Shop) -> None:
    settlement = await settled(shop)
    id_ = settlement["id"]
    code, found = await run(shop, "settlement", "verify", id_)
    assert (code, found["payments"][0]["detail"]) == (
        1, "it was settled without a proof; ask a node of anvil with --rpc URL",
    )  # fmt: skip
    code, found = await run(shop, "settlement", "verify", id_, "--rpc", shop.node.url)
    assert (code, found["payments"][0]["node"]) == (0, "confirmed")

    async with Anvil(find_anvil(), no_mining=True) as other:
        code, found = await run(shop, "settlement", "verify", id_, "--rpc", other.url)
        assert (code, found["payments"][0]["node"]) == (1, "contradicted")
        assert f"the node has no block {settlement['payments'][0]['block_number']}" in found["payments"][0]["detail"]
    async with RpcProxy(shop.node.url) as liar:
        liar.lie("eth_getLogs", lambda _params, _result: [])
        code, found = await run(shop, "settlement", "verify", id_, "--rpc", liar.url)
        assert (code, found["is_verified"]) == (1, False)
        assert "holds no such transfer" in found["payments"][0]["detail"]


async def test_node_of_another_chain__is_refused_in_one_line(shop: Shop) -> None:
    settlement = await settled(shop)
    async with Anvil(find_anvil(), chain_id=4242) as other:
        code, said = await run(shop, "settlement", "verify", settlement["id"], "--rpc", other.url)
        assert (code, len(said)) == (2, 1)
        assert "serves chain id 4242, the payments are on 31337 (anvil)" in said[0]
        code, said = await run(shop, "reconcile", "--rpc", other.url)
        assert (code, len(said)) == (2, 1)
        assert "serves chain id 4242, anvil is 31337" in said[0]


async def test_range_above_the_settled_height__names_it(shop: Shop) -> None:
    await shop.finish()
    height = (await shop.api.chain())["settled"]
    assert height == await shop.head() - FINALITY
    for command in (["rescan", "--from", "0"], ["reconcile"]):
        code, said = await run(shop, *command, "--chain", "anvil", "--to", str(height + 1))
        assert (code, len(said)) == (2, 1)
        assert f"anvil is settled up to block {height}" in said[0]


async def test_payments_to_nobodys_address__are_none_of_ours(shop: Shop) -> None:
    await shop.api.create("1.00")
    await shop.send(new_address(), UNIT)
    await shop.finish()
    code, found = await run(shop, "reconcile")
    assert (code, found["chains"][0]["transfers"]) == (0, 0)


def tampered(shop: Shop, statement: str) -> Path:
    """The configuration of a copy of the database, changed as somebody with its password would: past the triggers."""
    folder = shop.config.parent / "tampered"
    folder.mkdir()
    with (
        closing(sqlite3.connect(shop.config.parent / "settler.db")) as db,
        closing(sqlite3.connect(folder / "settler.db", isolation_level=None)) as copy,
    ):
        db.backup(copy)
        for (name,) in copy.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            copy.execute(f"DROP TRIGGER {name}")
        assert copy.execute(statement).rowcount == 1
    config = folder / "settler.toml"
    config.write_text(shop.config.read_text().replace(str(shop.config.parent), str(folder)))
    return config
