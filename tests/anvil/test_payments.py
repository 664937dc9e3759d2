"""What customers do with an invoice, on a real node, through the API: RULES.md sections 3 and 4."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.anvil.shop import FINALITY, UNIT, Shop, open_shop
from tests.support import evm
from tests.support.daemon import Json, due, new_address, option, pay_to, token_of


def amounts(settlement: Json) -> tuple[str, str]:
    return settlement["amount_settled"], settlement["amount_surplus"]


def states(transfers: list[Json]) -> list[tuple[str, str | None]]:
    return sorted((t["allocation"], t["reason"]) for t in transfers)


async def test_exact__processing_until_final__then_settled(shop: Shop) -> None:
    invoice = await shop.api.create("100.00", reference="order-42")
    paid = await shop.pay(invoice)
    block = (await shop.mine(FINALITY)).number - FINALITY + 1
    seen = await shop.api.reaches(invoice, "processing")
    await shop.see_all()
    assert (seen["amount_received"], seen["amount_settled"], seen["settled_at"]) == ("100.00", "0.00", None)
    await shop.api.decided(block - 1)
    assert (await shop.api.invoice(invoice))["status"] == "processing", "one block short of final"

    await shop.mine()

    settled = await shop.api.reaches(invoice, "settled")
    assert (settled["amount_settled"], settled["exceptions"]) == ("100.00", [])
    (payment,) = settled["payments"]
    assert payment["tx_hash"] == "0x" + paid.hex()
    assert (payment["block_number"], payment["status"]) == (block, "final")
    assert payment["confirmations"] >= FINALITY
    assert payment["payer"] == shop.node.accounts[1].address
    settlement = await shop.api.settlement_of(invoice)
    assert amounts(settlement) == ("100.00", "0.00")
    assert re.fullmatch(r"sha256:[0-9a-f]{16}", settlement["policy"].pop("version"))
    assert settlement["policy"] == {
        "finality": {"anvil": str(FINALITY)},
        "quorum": {"anvil": 1},
        "proof": {"anvil": "none"},
    }
    assert [line["transfer_id"] for line in settlement["payments"]] == [payment["transfer_id"]]
    told = await shop.api.told_of(invoice)
    assert told == ["invoice.created", "invoice.processing", "invoice.settled"]


async def test_in_parts__adds_up(shop: Shop) -> None:
    invoice = await shop.api.create("100.00")
    await shop.pay(invoice, 40 * UNIT)
    await shop.mine()
    await shop.pay(invoice, 35 * UNIT, payer=2)
    await shop.mine(FINALITY + 1)
    await shop.see_all()
    half = await shop.api.invoice(invoice)
    assert (half["status"], half["amount_received"]) == ("pending", "75.00")

    await shop.pay(invoice, 25 * UNIT)
    await shop.finish()

    settled = await shop.api.reaches(invoice, "settled")
    assert len(settled["payments"]) == 3
    settlement = await shop.api.settlement_of(invoice)
    assert [line["amount_settled"] for line in settlement["payments"]] == ["40.00", "35.00", "25.00"]
    assert amounts(settlement) == ("100.00", "0.00")


async def test_too_much__settles_with_a_surplus__and_more_goes_to_suspense(shop: Shop) -> None:
    invoice = await shop.api.create("100.00")
    await shop.pay(invoice, 101 * UNIT)
    await shop.finish()
    settled = await shop.api.reaches(invoice, "settled")
    assert (settled["amount_settled"], settled["amount_received"]) == ("100.00", "101.00")
    assert settled["exceptions"] == ["overpaid"]
    assert amounts(await shop.api.settlement_of(invoice)) == ("100.00", "1.00")

    await shop.pay(invoice, 7 * UNIT)
    await shop.finish()

    (more,) = await shop.api.transfers(allocation="unmatched")
    assert (more["reason"], more["amount"], more["status"]) == ("surplus", "7.00", "final")
    assert (await shop.api.invoice(invoice))["amount_received"] == "101.00"


async def test_too_little__expires_by_the_chains_time(shop: Shop) -> None:
    invoice = await shop.api.create("100.00", expires_in_s=600)
    await shop.pay(invoice, 99 * UNIT)
    await shop.finish()
    assert (await shop.api.invoice(invoice))["status"] == "pending"

    await evm.increase_time(shop.node, 700)
    await shop.mine()

    expired = await shop.api.reaches(invoice, "expired")
    assert (expired["exceptions"], expired["amount_received"]) == (["underpaid"], "99.00")
    assert [p["status"] for p in expired["payments"]] == ["final"]
    assert (await shop.api.get("/v1/settlements", invoice_id=invoice["id"]))["data"] == []


@pytest.mark.parametrize("policy", ["accept", "hold"])
async def test_late__is_accepted_or_held__as_the_operator_said(policy: str, tmp_path: Path) -> None:
    async with open_shop(tmp_path, invoices={"late": policy}) as shop:
        invoice = await shop.api.create("100.00", expires_in_s=600)
        await evm.increase_time(shop.node, 700)
        await shop.mine()
        await shop.api.reaches(invoice, "expired")

        await shop.pay(invoice)
        await shop.mine()
        await shop.finish()

        if policy == "accept":
            settled = await shop.api.reaches(invoice, "settled")
            assert settled["exceptions"] == ["late"]
            assert amounts(await shop.api.settlement_of(invoice)) == ("100.00", "0.00")
        else:
            held = await shop.api.invoice(invoice)
            assert (held["status"], held["exceptions"]) == ("expired", ["late", "on_hold"])
            assert "invoice.on_hold" in await shop.api.told_of(invoice)
            assert (await shop.api.get("/v1/settlements"))["data"] == []


async def test_later_than_monitored__goes_to_suspense(tmp_path: Path) -> None:
    async with open_shop(tmp_path, invoices={"late": "accept", "monitoring_s": 100}) as shop:
        invoice = await shop.api.create("100.00", expires_in_s=600)
        await evm.increase_time(shop.node, 800)
        await shop.pay(invoice)
        await shop.mine()
        await shop.finish()
        assert states(await shop.api.transfers()) == [("unmatched", "late")]
        await shop.api.reaches(invoice, "expired")


async def test_one_transaction__pays_two_invoices_and_one_twice(shop: Shop) -> None:
    first, second = await shop.api.create("10.00"), await shop.api.create("20.00")
    batch = await evm.deploy_batch_payout(shop.node)
    await evm.mint(shop.node, shop.token, batch, 1_000 * UNIT)

    tx = await evm.payout(
        shop.node,
        shop.node.accounts[1],
        batch,
        shop.token,
        [(pay_to(first), 5 * UNIT), (pay_to(second), 20 * UNIT), (pay_to(first), 5 * UNIT)],
    )
    await shop.finish()

    of_first = (await shop.api.reaches(first, "settled"))["payments"]
    of_second = (await shop.api.reaches(second, "settled"))["payments"]
    assert {p["tx_hash"] for p in (*of_first, *of_second)} == {"0x" + tx.hex()}
    assert sorted(p["log_index"] for p in (*of_first, *of_second)) == [0, 1, 2]
    assert [p["amount"] for p in of_first] == ["5.00", "5.00"], "two equal logs are two payments"
    assert len(await shop.api.transfers()) == 3


async def test_batch_payout__settles_every_recipients_invoice(shop: Shop) -> None:
    """An exchange's withdrawal run: the payer the chain shows is a contract, the recipient decides."""
    invoices = [await shop.api.create(f"{10 + number}.50") for number in range(40)]
    batch = await evm.deploy_batch_payout(shop.node)
    await evm.mint(shop.node, shop.token, batch, 10_000 * UNIT)
    await evm.payout(
        shop.node, shop.node.accounts[1], batch, shop.token, [(pay_to(i), due(i)) for i in invoices]
    )  # fmt: skip
    await shop.finish()
    settled = await shop.api.every("/v1/invoices", status="settled")
    assert {i["id"] for i in settled} == {i["id"] for i in invoices}
    assert {p["payer"].lower() for i in settled for p in i["payments"]} == {"0x" + batch.hex()}


async def test_nothing_sent__changes_nothing(shop: Shop) -> None:
    """Address poisoning: transfers of zero that anybody may send in anybody's name."""
    invoice = await shop.api.create("10.00")
    await shop.pay(invoice, 0)
    await shop.finish()
    assert states(await shop.api.transfers()) == [("unmatched", "ignored_zero")]
    seen = await shop.api.invoice(invoice)
    assert (seen["status"], seen["payments"]) == ("pending", [])
    assert await shop.api.told_of(invoice) == ["invoice.created"]


async def test_counterfeit_of_the_same_symbol__credits_nothing(shop: Shop) -> None:
    invoice = await shop.api.create("100.00")
    fake = await evm.deploy_token(shop.node, "USDC")
    assert fake != shop.token
    await evm.mint(shop.node, fake, evm.address_of(shop.node.accounts[1]), 1_000 * UNIT)
    await shop.send(pay_to(invoice), 100 * UNIT, token=fake)
    await shop.finish()
    seen = await shop.api.invoice(invoice)
    assert (seen["status"], seen["amount_received"], seen["payments"]) == ("pending", "0.00", [])
    assert await shop.api.transfers() == []

    await shop.pay(invoice)
    await shop.finish()

    await shop.api.reaches(invoice, "settled")


async def test_six_and_eighteen_decimals__add_up_in_one_invoice(tmp_path: Path) -> None:
    async with open_shop(tmp_path, tokens={"USDC": 6, "DAI": 18}) as shop:
        to = new_address()
        invoice = await shop.api.create("100.00", option(to), option(to, token="DAI"))
        assert [due(invoice, 0), due(invoice, 1)] == [100 * 10**6, 100 * 10**18]
        dai = token_of(invoice, 1)
        await shop.pay(invoice, 40 * UNIT)
        await evm.transfer(shop.node, shop.node.accounts[2], dai, to, 60 * 10**18 - 1)
        await shop.mine()
        await shop.finish()
        seen = await shop.api.invoice(invoice)
        assert (seen["status"], seen["amount_received"]) == ("pending", "99.999999999999999999")

        await evm.transfer(shop.node, shop.node.accounts[2], dai, to, 1)
        await shop.mine()
        await shop.finish()

        settled = await shop.api.reaches(invoice, "settled")
        assert settled["exceptions"] == []
        lines = (await shop.api.settlement_of(invoice))["payments"]
        assert sorted((line["token"], line["amount_settled_base"]) for line in lines) == [
            ("DAI", "1"), ("DAI", str(60 * 10**18 - 1)), ("USDC", str(40 * UNIT)),
        ]  # fmt: skip


async def test_shared_address__the_unique_amount_tells_who_paid(shop: Shop) -> None:
    shared = new_address()
    one, other, third = [await shop.api.create("10.00", option(shared, match="amount")) for _ in range(3)]
    assert len({due(i) for i in (one, other, third)}) == 3
    await shop.pay(other)
    await shop.pay(third, payer=2)
    await shop.send(shared, 10 * UNIT, payer=3)
    await shop.finish()
    assert [(await shop.api.invoice(i))["status"] for i in (one, other, third)] == ["pending", "settled", "settled"]
    (stray,) = await shop.api.transfers(allocation="unmatched")
    assert (stray["reason"], stray["amount_base"]) == ("wrong_amount", str(10 * UNIT))


async def test_another_token_than_asked__is_found_and_named(tmp_path: Path) -> None:
    async with open_shop(tmp_path, tokens={"USDC": 6, "USDT": 6}) as shop:
        invoice = await shop.api.create("100.00")
        usdt = token_of(await shop.api.create("1.00", option(token="USDT")))
        await shop.send(pay_to(invoice), 100 * UNIT, token=usdt)
        await shop.mine()
        await shop.finish()
        (wrong,) = await shop.api.transfers()
        assert (wrong["allocation"], wrong["reason"], wrong["token"]) == ("unmatched", "wrong_asset", "USDT")
        assert wrong["evidence"]["candidates"] == [invoice["id"]]
        assert (await shop.api.invoice(invoice))["status"] == "pending"
        unmatched = await shop.api.metrics()
        assert unmatched.total("settler_transfers_total", token="USDT", allocation="unmatched") == 1


async def test_money_to_an_address_nobody_watches__is_none_of_our_business(shop: Shop) -> None:
    await shop.api.create("100.00")
    await shop.send(new_address(), 100 * UNIT)
    await shop.finish()
    assert await shop.api.transfers() == []


async def test_canceled__money_goes_to_suspense(shop: Shop) -> None:
    invoice = await shop.api.create("10.00")
    await shop.api.post(f"/v1/invoices/{invoice['id']}/cancel", {"reason": "no longer wanted"})
    await shop.pay(invoice)
    await shop.finish()
    assert states(await shop.api.transfers()) == [("unmatched", "no_invoice")]
    assert (await shop.api.invoice(invoice))["status"] == "canceled"
