"""`settler transfer refund` beside the daemon, over a real node: what was sent back leaves the books."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from chains.address import to_checksum
from tests.anvil.shop import UNIT, Shop, open_shop
from tests.support import evm
from tests.support.daemon import cli, new_address

WHY = ("--reason", "sent too much")


async def run(shop: Shop, *args: str) -> tuple[int, Any]:
    """Exit code, and what it prints with `--json`, or the lines of its errors."""
    done = await asyncio.to_thread(cli, "transfer", "refund", *args, *WHY, "--json", config=shop.config)
    return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr.splitlines()


async def test_surplus_and_suspense__sent_back__are_recorded_as_the_chain_shows_them(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        invoice = await shop.api.create("100.00")
        await shop.pay(invoice, 130 * UNIT)
        await shop.finish()
        settled = await shop.api.reaches(invoice, "settled")
        payment = settled["payments"][0]["transfer_id"]
        await shop.pay(invoice, 5 * UNIT)
        await shop.finish()
        (stray,) = await shop.api.transfers(allocation="unmatched")

        # from the second payer's purse: who pays back is the shop's affair
        to = new_address()
        sent = f"0x{(await shop.send(to, 30 * UNIT, payer=2)).hex()}"
        code, said = await run(shop, payment, "--tx", sent)
        assert (code, len(said)) == (2, 1)
        assert "is in no block of anvil yet" in said[0]
        await shop.mine()
        code, said = await run(shop, payment, "--tx", sent)
        block = await shop.head()
        assert (code, len(said)) == (2, 1)
        assert f"it is in block {block} and not final yet" in said[0]
        await shop.finish()
        code, made = await run(shop, payment, "--tx", sent)
        assert code == 0, made
        assert (made["amount"], made["left"], made["settlement_id"]) == ("30.00", "0.00", settled["settlement_id"])
        assert (made["recipient"], made["block_number"]) == (to_checksum(to), block)
        code, said = await run(shop, payment, "--tx", sent)
        assert (code, len(said)) == (2, 1)
        assert "was sent back already" in said[0]

        batch = await evm.deploy_batch_payout(shop.node)
        await evm.mint(shop.node, shop.token, batch, 5 * UNIT)
        both = await evm.payout(
            shop.node, shop.node.accounts[0], batch, shop.token, [(to, 2 * UNIT), (new_address(), 3 * UNIT)]
        )
        await shop.finish()
        code, said = await run(shop, stray["id"], "--tx", f"0x{both.hex()}")
        assert code == 2
        assert "2 transfers of the token; say which with --log-index: 0, 1" in said[0]
        code, made = await run(shop, stray["id"], "--tx", f"0x{both.hex()}", "--log-index", "1")
        assert (code, made["amount"], made["left"], made["allocation"]) == (0, "3.00", "2.00", "unmatched")
        code, made = await run(shop, stray["id"], "--tx", f"0x{both.hex()}", "--log-index", "0")
        assert (code, made["left"], made["allocation"]) == (0, "0.00", "dismissed")
        assert await shop.api.transfers(allocation="unmatched") == []

        done = await asyncio.to_thread(cli, "reconcile", "--json", config=shop.config)
        assert (done.returncode, json.loads(done.stdout)["breaks"]) == (0, 0)


async def test_transaction_that_failed__is_refused(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        invoice = await shop.api.create("100.00", expires_in_s=1)
        await shop.pay(invoice, 150 * UNIT)
        await shop.finish()
        (payment,) = await shop.api.transfers()
        poor = await evm.deploy_batch_payout(shop.node)  # has nothing to pay out: it reverts
        failed = await evm.payout(shop.node, shop.node.accounts[0], poor, shop.token, [(new_address(), UNIT)])
        await shop.finish()
        code, said = await run(shop, payment["id"], "--tx", f"0x{failed.hex()}")
        assert code == 2
        assert "failed: it sent nothing" in said[0]
