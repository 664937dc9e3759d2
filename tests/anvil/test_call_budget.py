"""What watching costs: at most 3 calls a tick and chain while nobody pays, however many blocks go by (RULES.md 1)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from settler.anvil import Anvil, find_anvil
from tests.anvil.shop import POLL_S, Shop, open_shop
from tests.support.daemon import Metrics, show, until
from tests.support.rpc_proxy import RpcProxy

CALLS_A_TICK = 3
TICKS = 40
STAGES = ("watch", "settle")


def ticks(metrics: Metrics, *stages: str) -> float:
    return sum(metrics.total("settler_stage_ticks_total", chain="anvil", stage=stage) for stage in stages)


def calls(metrics: Metrics) -> float:
    return metrics.total("settler_rpc_requests_total", chain="anvil")


@pytest.mark.parametrize(("blocks_a_look", "providers"), [(0, 1), (1, 1), (7, 1), (40, 1), (0, 3), (1, 3), (7, 3)])
async def test_idle__at_most_three_calls_a_tick(blocks_a_look: int, providers: int, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(Anvil(find_anvil(), no_mining=True))
        proxies = [await stack.enter_async_context(RpcProxy(node.url)) for _ in range(providers)]
        urls = [proxy.url for proxy in proxies]
        await idle_for_a_while(
            await stack.enter_async_context(open_shop(tmp_path, node=node, rpc=urls)), proxies, blocks_a_look
        )


def asked_of(proxies: Sequence[RpcProxy]) -> Counter[str]:
    return sum((proxy.calls for proxy in proxies), Counter())


async def idle_for_a_while(shop: Shop, proxies: Sequence[RpcProxy], blocks_a_look: int) -> None:
    for _ in range(3):
        await shop.api.create("100.00")  # addresses to look out for, that nobody pays
    await shop.finish()
    # what was under way when the last invoice settled, and the look after it, belong to that
    finished = ticks(await shop.api.metrics(), *STAGES)
    await until(shop.api.metrics, lambda m: ticks(m, *STAGES) >= finished + 2 * len(STAGES), what="ticks", every_s=0.02)
    before, asked_before = await shop.api.metrics(), asked_of(proxies)

    async def look() -> Metrics:
        if blocks_a_look:
            await shop.mine(blocks_a_look)
        return await shop.api.metrics()

    after = await until(
        look, lambda m: ticks(m, "watch") >= ticks(before, "watch") + TICKS, what="ticks", every_s=POLL_S
    )  # fmt: skip
    asked = asked_of(proxies) - asked_before

    made, ticked = calls(after) - calls(before), ticks(after, *STAGES) - ticks(before, *STAGES)
    # a tick under way at either end is counted on one side only
    assert made <= CALLS_A_TICK * (ticked + len(STAGES))
    assert abs(asked.total() - made) <= CALLS_A_TICK * 2 * len(STAGES), "the node was asked what was counted"
    dearest = max(shop.running.log.ticks(*STAGES), key=lambda line: int(line["rpc_calls"]))
    assert dearest["rpc_calls"] <= CALLS_A_TICK, dearest
    assert set(asked) <= {"eth_getBlockByNumber", "eth_getLogs"}
    if not blocks_a_look:
        assert asked["eth_getLogs"] == 0, "no new blocks, nothing to read"
    looks = ticks(after, "watch") - ticks(before, "watch")
    show(
        f"{blocks_a_look} blocks a look, {len(proxies)} providers: {made:.0f} calls in {ticked:.0f} ticks "
        f"({looks:.0f} of watch), {made / ticked:.2f} a tick"
    )
