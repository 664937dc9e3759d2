"""The chain changes its mind: RULES.md section 1, on a real node."""

from __future__ import annotations

from pathlib import Path

import pytest

from chains.model import TxHash
from tests.anvil.shop import FINALITY, UNIT, Shop, open_shop
from tests.support import evm
from tests.support.daemon import Json, cli_json, pay_to, until


async def paid(shop: Shop, amount: str = "100.00") -> tuple[Json, TxHash]:
    """An invoice, paid in the newest block, which was read."""
    invoice = await shop.api.create(amount)
    tx = await shop.pay(invoice)
    await shop.mine()
    await shop.api.reaches(invoice, "processing")
    return invoice, tx


async def test_reorg__drops_a_payment__and_the_invoice_waits_again(shop: Shop) -> None:
    invoice, tx = await paid(shop)
    raw = await evm.raw_transaction(shop.node, tx)

    await evm.reorg(shop.node, 1)

    seen = await shop.api.reaches(invoice, "pending")
    assert seen["amount_received"] == "0.00"
    assert [p["status"] for p in seen["payments"]] == ["orphaned"]
    await shop.finish()
    assert (await shop.api.invoice(invoice))["status"] == "pending"

    await evm.send_raw(shop.node, raw)
    await shop.finish()

    settled = await shop.api.reaches(invoice, "settled")
    assert [p["status"] for p in settled["payments"]] == ["final"], "mined again it is the same payment"
    assert await shop.api.told_of(invoice) == [
        "invoice.created", "invoice.processing", "invoice.pending", "invoice.processing", "invoice.settled",
    ]  # fmt: skip
    metrics = await shop.api.metrics()
    assert metrics.one("settler_reorgs_total", chain="anvil") == 1
    assert metrics.one("settler_reorg_depth_blocks_sum", chain="anvil") == 1


async def test_reorg__moves_a_payment_to_another_block_and_log_index(shop: Shop) -> None:
    invoice, tx = await paid(shop)
    other = await shop.api.create("5.00")
    before = (await shop.api.invoice(invoice))["payments"][0]
    raw = await evm.raw_transaction(shop.node, tx)
    nonce = await evm.next_nonce(shop.node, evm.address_of(shop.node.accounts[2]))
    first = evm.sign_transfer(
        shop.node, shop.node.accounts[2], shop.token, pay_to(other), 5 * UNIT, nonce=nonce
    )  # fmt: skip
    await shop.mine()
    await shop.see_all()

    await evm.reorg(shop.node, 2, [(first, 1), (raw, 1)])

    after = (
        await until(
            lambda: shop.api.invoice(invoice),
            lambda i: i["payments"][0]["block_hash"] != before["block_hash"] and i["status"] == "processing",
            what="the payment in its new place",
        )
    )["payments"]
    assert len(after) == 1
    assert after[0]["transfer_id"] == before["transfer_id"]
    assert after[0]["block_number"] == before["block_number"] + 1
    assert {before["log_index"], after[0]["log_index"]} <= {0, 1}

    await shop.finish()

    settled = await shop.api.reaches(invoice, "settled")
    line = (await shop.api.settlement_of(invoice))["payments"][0]
    place = settled["payments"][0]
    assert (line["block_number"], line["log_index"]) == (place["block_number"], place["log_index"])
    assert len(await shop.api.transfers(status="final")) == 2
    await shop.api.reaches(other, "settled")


async def test_reverted_to_a_snapshot__a_shorter_chain_changes_nothing__until_it_is_longer(shop: Shop) -> None:
    """The node goes back (as one that lags does): nothing is undone. Another chain grows past: that one is followed."""
    snapshot = await evm.snapshot(shop.node)
    first = await shop.head()
    invoice, tx = await paid(shop)
    raw = await evm.raw_transaction(shop.node, tx)
    await shop.mine(2)
    await shop.see_all()

    await evm.revert(shop.node, snapshot)

    await until(
        shop.api.metrics,
        lambda m: m.one("settler_stage_ticks_total", stage="watch", chain="anvil", outcome="ok") > 0,
        what="a tick",
    )
    assert (await shop.api.invoice(invoice))["status"] == "processing"
    assert await shop.head() == first

    await shop.mine(4)
    await shop.api.reaches(invoice, "pending")
    await evm.send_raw(shop.node, raw)
    await shop.finish()
    await shop.api.reaches(invoice, "settled")


async def test_reorg__below_the_settled_height__halts_and_reverses__and_goes_on_when_resumed(shop: Shop) -> None:
    untouched, _ = await paid(shop, "7.00")
    await shop.finish()
    await shop.api.reaches(untouched, "settled")
    invoice, tx = await paid(shop)
    block = await shop.payment_block(tx)
    raw = await evm.raw_transaction(shop.node, tx)
    await shop.finish()
    await shop.api.reaches(invoice, "settled")
    settlement = await shop.api.settlement_of(invoice)

    await evm.reorg(shop.node, await shop.head() - block + 1)
    await shop.mine()

    reasons = await shop.api.refusals("finality violation")
    assert [r["chain"] for r in reasons] == ["anvil"]
    seen = await shop.api.reaches(invoice, "reversed")
    assert (seen["settlement_id"], seen["amount_settled"]) == (None, "0.00")
    assert (await shop.api.invoice(untouched))["status"] == "settled"
    undone = await shop.api.get(f"/v1/settlements/{settlement['id']}")
    assert "finality violation" in undone["reversal"]["reason"]
    assert undone["version"] == settlement["version"] + 1
    beside = {"reversal", "version"}
    assert {k: v for k, v in undone.items() if k not in beside} == {
        k: v for k, v in settlement.items() if k not in beside
    }
    types = [e["type"] for e in await shop.api.events()]
    assert types.count("settlement.reversed") == types.count("invoice.reversed") == 1
    metrics = await shop.api.metrics()
    assert metrics.one("settler_reversals_total", chain="anvil") == 1

    # halted, it records what it sees, and settles nothing
    await evm.send_raw(shop.node, raw)
    new = await shop.api.create("3.00")
    await shop.pay(new)
    await shop.mine(2 * FINALITY)
    await shop.api.reaches(new, "processing")
    seen = await shop.api.invoice(invoice)
    assert (seen["status"], seen["amount_received"]) == ("reversed", "100.00")
    assert (await shop.api.chain())["halted"] is True
    assert (await shop.api.get("/v1/settlements"))["data"][0]["id"] == settlement["id"]

    resumed = await cli_json("chain", "resume", "anvil", "--reason", "the node was repaired", config=shop.config)

    assert resumed["halted"] is False
    await shop.api.reaches(invoice, "settled")
    await shop.api.reaches(new, "settled")
    again = await shop.api.settlement_of(invoice)
    assert (again["generation"], again["reversal"]) == (2, None)
    assert again["payments"][0]["transfer_id"] == settlement["payments"][0]["transfer_id"]
    await shop.api.is_ready()


@pytest.mark.parametrize("depth", [1, 2, 3])
async def test_reorg_after_reorg__ends_where_the_chain_ends(depth: int, tmp_path: Path) -> None:
    """Four forks one after the other, some faster than the daemon looks."""
    async with open_shop(tmp_path, finality=4) as shop:
        invoices = [await shop.api.create(f"{n}.00") for n in range(1, 5)]
        await shop.mine(depth)
        for invoice in invoices:
            tx = await shop.pay(invoice)
            await shop.mine()
            raw = await evm.raw_transaction(shop.node, tx)
            await evm.reorg(shop.node, depth, [(raw, 0)])
        await shop.mine(4)
        for invoice in invoices:
            await shop.api.reaches(invoice, "settled")
        await shop.api.decided(await shop.head() - 4)
        assert len(await shop.api.transfers(status="final")) == 4
        assert await shop.api.transfers(status="orphaned") == []
