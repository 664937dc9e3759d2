"""What watching costs: at most 3 calls a tick and chain while nobody pays, however many blocks go by (RULES.md 1)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from settler.anvil import Anvil, find_anvil
from tests.anvil.rpc_proxy import RpcProxy
from tests.anvil.shop import open_shop
from tests.support.daemon import Metrics, until

CALLS_A_TICK = 3
TICKS = 40
STAGES = ("watch", "settle")


def ticks(metrics: Metrics, *stages: str) -> float:
    return sum(metrics.total("settler_stage_ticks_total", chain="anvil", stage=stage) for stage in stages)


def calls(metrics: Metrics) -> float:
    return metrics.total("settler_rpc_requests_total", chain="anvil")


@pytest.mark.parametrize("blocks_a_look", [0, 1, 7, 40])
async def test_idle__at_most_three_calls_a_tick(blocks_a_look: int, tmp_path: Path) -> None:
    async with Anvil(find_anvil(), no_mining=True) as node, RpcProxy(node.url) as proxy:
        async with open_shop(tmp_path, node=node, rpc=proxy.url) as shop:
            for _ in range(3):
                await shop.api.create("100.00")  # addresses to look out for, that nobody pays
            await shop.finish()
            before, asked_before = await shop.api.metrics(), proxy.calls.copy()

            async def look() -> Metrics:
                if blocks_a_look:
                    await shop.mine(blocks_a_look)
                return await shop.api.metrics()

            after = await until(
                look, lambda m: ticks(m, "watch") >= ticks(before, "watch") + TICKS, what="ticks", every_s=0.02
            )
            asked: Counter[str] = proxy.calls - asked_before

        made, ticked = calls(after) - calls(before), ticks(after, *STAGES) - ticks(before, *STAGES)
        # a tick under way at either end is counted on one side only
        assert made <= CALLS_A_TICK * (ticked + len(STAGES))
        assert abs(asked.total() - made) <= CALLS_A_TICK * 2 * len(STAGES), "the node was asked what was counted"
        by_tick = [(line["rpc_calls"], line) for line in shop.running.log.ticks(*STAGES)]
        assert max(by_tick, key=lambda each: each[0])[0] <= CALLS_A_TICK, max(by_tick, key=lambda each: each[0])[1]
        assert set(asked) <= {"eth_getBlockByNumber", "eth_getLogs"}
        if not blocks_a_look:
            assert asked["eth_getLogs"] == 0, "no new blocks, nothing to read"
        print(
            f"\n{blocks_a_look} blocks a look: {made:.0f} calls in {ticked:.0f} ticks "
            f"({ticks(after, 'watch') - ticks(before, 'watch'):.0f} of watch), {made / ticked:.2f} a tick"
        )
