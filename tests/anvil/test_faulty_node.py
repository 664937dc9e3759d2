"""One provider, and everything that may be wrong with it: nothing is lost, nothing is settled that was not paid, and
all is well when it is right again.

What one provider can lie about unseen (a payment left out of both readings, or invented in both) is not here: that
takes another provider, or a proof.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from chains.faults import FAULTS, Exchange, Fault, Harm
from chains.faults.model import LOGS
from chains.faults.refusals import RANGE_WORDS
from chains.faults.sending import HUGE_BYTES
from settler.anvil import Anvil, find_anvil
from tests.anvil.shop import FINALITY, Shop, open_shop
from tests.support.daemon import Json, until
from tests.support.rpc_proxy import RpcProxy

TAG_TRAILS_BLOCKS = 2
TIMES = 3
"""A fault is told so often before it stops: again after it was seen."""
TIMES_SLOW = 2
"""So often where each time costs a time-out."""
SLOW = {"never answers", "answers late", "silence in mid-body"}
AT_START_ONLY = {"wrong chain id"}
"""Asked when the chain is opened; `test_outages` has it."""
SEEN_BY_A_WIDE_READING = {"head ahead"}
"""Its blocks are not there: who reads a narrow span of those that are takes them for final."""
PLAIN = [
    f.name for f in FAULTS.values()
    if (f.harm is Harm.PLAIN or f.name in SEEN_BY_A_WIDE_READING) and f.name not in AT_START_ONLY
]  # fmt: skip
HARMLESS = [f.name for f in FAULTS.values() if f.harm is Harm.NONE]
LIES_SEEN_BY_THE_SECOND_READING = [
    "empty logs", "partial logs", "tampered amount", "tampered token", "tampered recipient", "tampered transaction",
    "invented log",
]  # fmt: skip
LEFT_OUT = ["empty logs", "partial logs"]


@asynccontextmanager
async def proxied(tmp_path: Path, fault: str) -> AsyncIterator[tuple[Shop, RpcProxy]]:
    """A shop whose finality is a tag where the fault is about tags."""
    is_about_tag = FAULTS[fault].is_about_tag
    async with (
        Anvil(find_anvil(), no_mining=True, slots_in_an_epoch=1) as node,
        RpcProxy(node.url, seed=fault) as proxy,
    ):
        # a young chain has no finalized block apart from its head
        await node.rpc("anvil_mine", hex(2 * TAG_TRAILS_BLOCKS))
        finality = "finalized" if is_about_tag else FINALITY
        tokens = {"USDC": 6, "USDT": 6}
        async with open_shop(tmp_path, node=node, rpc=proxy.url, finality=finality, tokens=tokens) as shop:
            yield shop, proxy


async def buy(shop: Shop, count: int = 2) -> list[Json]:
    """So many invoices, each paid, together in the next block."""
    invoices = [await shop.api.create("100.00") for _ in range(count)]
    await shop.see_all()
    for number, invoice in enumerate(invoices):
        await shop.pay(invoice, payer=1 + number)
    await shop.mine()
    return invoices


async def all_settled_once(shop: Shop, invoices: list[Json], unpaid: list[Json]) -> None:
    """Each by its own payment, and nothing else was ever settled or is in suspense."""
    for invoice in invoices:
        settled = await shop.api.reaches(invoice, "settled")
        assert [p["amount"] for p in settled["payments"] if p["status"] == "final"] == ["100.00"]
    settlements = await shop.api.every("/v1/settlements")
    assert sorted(s["invoice_id"] for s in settlements) == sorted(i["id"] for i in invoices)
    assert [t for t in await shop.api.transfers(allocation="unmatched") if t["status"] != "orphaned"] == []
    for invoice in unpaid:
        seen = await shop.api.reaches(invoice, "pending")
        assert seen["amount_received"] == "0.00"


@pytest.mark.parametrize("name", PLAIN)
async def test_fault__settles_nothing_wrong__and_heals(name: str, tmp_path: Path) -> None:
    async with proxied(tmp_path, name) as (shop, proxy):
        unpaid = [await shop.api.create("100.00")]
        paid = await buy(shop)
        await shop.finish()
        proxy.inject(FAULTS[name])
        # not `buy`: with the fault at work the head may not be seen
        later = [await shop.api.create("100.00") for _ in range(2)]
        for invoice in later:
            await shop.pay(invoice)
            await shop.mine()
        times = TIMES_SLOW if name in SLOW else TIMES
        await until(lambda: mine_and_count(shop, proxy, name), lambda n: n >= times, what=f"{name} to be told")
        proxy.be_honest()

        await shop.mine()
        await shop.see_all()  # the first reading is at the head again, before anything more is final
        await shop.mine(1 + FINALITY)
        await all_settled_once(shop, paid + later, unpaid)
        await shop.api.is_ready()
        assert (await shop.api.chain())["halted"] is False
        assert proxy.figures["huge answers taken whole"] == 0
        assert proxy.figures["longest huge answer"] < HUGE_BYTES


async def mine_and_count(shop: Shop, proxy: RpcProxy, name: str) -> int:
    """How often the fault was told; some are told of new blocks only."""
    await shop.mine()
    await asyncio.sleep(0.05)
    return proxy.told[name]


@pytest.mark.parametrize("name", HARMLESS)
async def test_harmless_fault__all_settles_while_it_lasts(name: str, tmp_path: Path) -> None:
    async with proxied(tmp_path, name) as (shop, proxy):
        proxy.inject(FAULTS[name])
        unpaid = [await shop.api.create("100.00")]
        paid = await buy(shop, 3)
        await shop.mine(20)
        await all_settled_once(shop, paid, unpaid)
        assert proxy.told[name] > 0
        await shop.api.is_ready()


@pytest.mark.parametrize("name", LIES_SEEN_BY_THE_SECOND_READING)
async def test_lie_told_to_the_first_reading__is_put_right_by_the_second(name: str, tmp_path: Path) -> None:
    async with proxied(tmp_path, name) as (shop, proxy):
        unpaid = [await shop.api.create("100.00")]
        first = await buy(shop)
        await shop.finish()
        proxy.inject(told_of(FAULTS[name], 1 + await shop.head()), times=1)
        second = await buy(shop)
        await shop.see_all()
        assert proxy.told[name] == 1
        await shop.finish()
        await all_settled_once(shop, first + second, unpaid)


def told_of(fault: Fault, block: int) -> Fault:
    """The same lie about logs, told to who asks for this block's: not to a second reading of an earlier one, which a
    new block also makes due."""

    async def change(exchange: Exchange) -> bool:
        asked = [
            (call, reply) for call, reply in zip(exchange.calls, exchange.replies, strict=True)
            if call["method"] == LOGS and int(call["params"][0]["toBlock"], 16) >= block
        ]  # fmt: skip
        calls, replies = [call for call, _ in asked], [reply for _, reply in asked]
        assert fault.change is not None
        return await fault.change(dataclasses.replace(exchange, calls=calls, replies=replies))

    return dataclasses.replace(fault, change=change)


@pytest.mark.parametrize("name", LEFT_OUT)
async def test_payment_left_out_by_the_second_reading_twice__is_asked_for_again(name: str, tmp_path: Path) -> None:
    async with proxied(tmp_path, name) as (shop, proxy):
        paid = await buy(shop)
        await shop.see_all()
        for invoice in paid:
            await shop.api.reaches(invoice, "processing")
        proxy.inject(FAULTS[name], times=2)
        await shop.finish()
        assert proxy.told[name] == 2
        await all_settled_once(shop, paid, [])
        assert "payment.orphaned" not in [event["type"] for event in await shop.api.events()]


async def test_range_limit__in_the_words_of_every_provider(tmp_path: Path) -> None:
    """A limit of 2 blocks, told in all the words that were collected: read all the same, in pieces."""
    async with proxied(tmp_path, "range limit") as (shop, proxy):
        proxy.inject(FAULTS["range limit"])
        paid: list[Json] = []
        while proxy.figures["range words"] < len(RANGE_WORDS):
            paid += await buy(shop, 1)
            # the window grows by a block with each span that is served, and is refused again
            await shop.mine(10)
            await shop.see_all()
        await shop.finish()
        await all_settled_once(shop, paid, [])
