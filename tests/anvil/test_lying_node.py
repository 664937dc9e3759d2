"""A node that answers wrongly: nothing is written, it is counted and asked again; once it is right, all is well.

The node is real; between it and the daemon stands one that changes answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.anvil.shop import FINALITY, UNIT, Shop
from tests.support.daemon import Json, Metrics, until
from tests.support.rpc_proxy import Lie, RpcProxy


def in_each_log(change: Callable[[Json], Mapping[str, Any]]) -> Lie:
    """Changes fields of every log; a field that is `None` is left out."""

    def lie(_params: Any, result: Any) -> Any:
        return [{k: v for k, v in {**log, **change(log)}.items() if v is not None} for log in result]

    return lie


def in_each_header(change: Callable[[Json], Mapping[str, Any]]) -> Lie:
    def lie(_params: Any, result: Any) -> Any:
        return None if result is None else {k: v for k, v in {**result, **change(result)}.items() if v is not None}

    return lie


LIES: dict[str, tuple[str, Lie]] = {
    "null blocks": ("eth_getBlockByNumber", lambda _params, _result: None),
    "another block than asked": (
        "eth_getBlockByNumber", in_each_header(lambda block: {"number": hex(int(block["number"], 16) + 1)}),
    ),
    "headers without a hash": ("eth_getBlockByNumber", in_each_header(lambda _: {"hash": None})),
    "logs out of range": (
        "eth_getLogs", in_each_log(lambda log: {"blockNumber": hex(int(log["blockNumber"], 16) + 900)}),
    ),
    "logs without a transaction": ("eth_getLogs", in_each_log(lambda _: {"transactionHash": None})),
    "logs of another token": ("eth_getLogs", in_each_log(lambda _: {"address": "0x" + "77" * 20})),
    "logs to another recipient": (
        "eth_getLogs", in_each_log(lambda log: {"topics": [*log["topics"][:2], "0x" + "00" * 12 + "88" * 20]}),
    ),
    "logs of another fork": ("eth_getLogs", in_each_log(lambda _: {"blockHash": "0x" + "99" * 32})),
    "removed logs": ("eth_getLogs", in_each_log(lambda _: {"removed": True})),
    "amounts that are no hex": ("eth_getLogs", in_each_log(lambda _: {"data": "0x" + "zz" * 32})),
    "every log twice": ("eth_getLogs", lambda _params, result: [*result, *result]),
    "no list of logs": ("eth_getLogs", lambda _params, _result: {"logs": []}),
    "null logs": ("eth_getLogs", lambda _params, _result: None),
}  # fmt: skip


def failures(metrics: Metrics) -> float:
    """Ticks of the readings that did not end well."""
    stages = [
        metrics.total("settler_stage_ticks_total", chain="anvil", stage=stage)
        - metrics.total("settler_stage_ticks_total", chain="anvil", stage=stage, outcome="ok")
        for stage in ("watch", "settle")
    ]
    return sum(stages)


@pytest.mark.parametrize("lie", LIES)
async def test_lie__writes_nothing__is_counted__and_heals(lie: str, proxied: tuple[Shop, RpcProxy]) -> None:
    shop, proxy = proxied
    await shop.finish()
    await shop.see_all()
    before, counted = await shop.api.chain(), failures(await shop.api.metrics())
    invoice = await shop.api.create("100.00")
    proxy.lie(*LIES[lie])
    await shop.pay(invoice)
    await shop.mine(1 + FINALITY)

    metrics = await until(shop.api.metrics, lambda m: failures(m) >= counted + 2, what="two ticks to fail")

    after = await shop.api.chain()
    assert (after["scanned"], after["settled"]) == (before["scanned"], before["settled"])
    assert await shop.api.transfers() == []
    assert (await shop.api.invoice(invoice))["status"] == "pending"
    assert metrics.total("settler_rpc_requests_total", chain="anvil", method=LIES[lie][0]) > 0
    assert sum(proxy.told.values()) >= 2, "asked again"

    proxy.be_honest()

    settled = await shop.api.reaches(invoice, "settled")
    assert len(settled["payments"]) == 1
    await shop.api.decided(await shop.head() - FINALITY)
    await shop.api.is_ready()


async def test_empty_logs_once__the_second_reading_finds_the_payment(proxied: tuple[Shop, RpcProxy]) -> None:
    """A node behind a load balancer that has the block and not yet its logs."""
    shop, proxy = proxied
    await shop.finish()
    invoice = await shop.api.create("100.00")
    await shop.see_all()
    proxy.lie("eth_getLogs", lambda _params, _result: [], times=1)
    await shop.pay(invoice)
    await shop.mine()
    await shop.see_all()
    assert proxy.told["eth_getLogs"] == 1
    assert (await shop.api.invoice(invoice))["status"] == "pending", "the first reading was told nothing"

    await shop.finish()

    settled = await shop.api.reaches(invoice, "settled")
    assert [p["status"] for p in settled["payments"]] == ["final"]


async def test_invented_payment__is_orphaned_by_the_second_reading(proxied: tuple[Shop, RpcProxy]) -> None:
    """A payment that only one reading was told of never settles."""
    shop, proxy = proxied
    real, invented = await shop.api.create("1.00"), await shop.api.create("100.00")
    await shop.finish()
    word = "0x" + "00" * 12 + invented["options"][0]["pay_to"][2:].lower()

    def invent(_params: Any, result: Any) -> Any:
        more = [
            {**log, "transactionHash": "0x" + "ab" * 32, "logIndex": "0x9",
             "topics": [*log["topics"][:2], word], "data": "0x" + (100 * UNIT).to_bytes(32).hex()}
            for log in result[:1]
        ]  # fmt: skip
        return result + more

    proxy.lie("eth_getLogs", invent, times=1)
    await shop.pay(real)
    await shop.mine()
    await shop.api.reaches(invented, "processing")
    await shop.finish()
    await shop.api.reaches(real, "settled")
    seen = await shop.api.reaches(invented, "pending")
    assert [p["status"] for p in seen["payments"]] == ["orphaned"]
    assert "payment.orphaned" in [e["type"] for e in await shop.api.events()]
