"""A thousand invoices on two chains, by the real process: how long, how much memory, how many calls."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import psutil
import pytest

from chains.model import Address
from settler.anvil import Anvil, find_anvil
from tests.support import evm
from tests.support.daemon import (
    Api,
    ChainTable,
    Json,
    Process,
    TokenTable,
    due,
    option,
    pay_to,
    show,
    until,
    write_config,
)

INVOICES = 1_000
CREATORS = 8
RSS_MAX_MIB = 200
UNIT = 10**6
IDLE_S = 4.0
CALLS_A_TICK_MAX = 3.0


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_thousand_invoices_on_two_chains__are_settled_within_bounds(tmp_path: Path) -> None:
    async with (
        Anvil(find_anvil(), block_time_s=1, chain_id=31337) as one,
        Anvil(find_anvil(), block_time_s=1, chain_id=31338) as two,
    ):
        nodes = {"one": one, "two": two}
        tokens = {name: await evm.deploy_token(node) for name, node in nodes.items()}
        chains = [
            ChainTable(
                name=name,
                chain_id=node.chain_id,
                rpc=node.url,
                tokens=[TokenTable(address=tokens[name])],
                poll_interval_s=0.5,
            )
            for name, node in nodes.items()
        ]
        async with Process(write_config(tmp_path, *chains), is_installed=True) as process:
            await process.api.is_ready()
            made = await _create(process.api, list(nodes))
            started = time.monotonic()
            await asyncio.gather(
                *(
                    _pay(node, tokens[name], [i for i in made if i["options"][0]["chain"] == name])
                    for name, node in nodes.items()
                )
            )
            paid_s = time.monotonic() - started
            await until(
                lambda: _settled(process.api),
                lambda n: n == INVOICES,
                what="all to be settled",
                within_s=120,
                every_s=0.5,
            )
            settled_s = time.monotonic() - started
            rss_mib = psutil.Process(process.pid).memory_info().rss / 2**20
            before = await process.api.metrics()
            await asyncio.sleep(IDLE_S)
            after = await process.api.metrics()
            calls = after.total("settler_rpc_requests_total")
            for name in nodes:
                ticks = after.total("settler_stage_ticks_total", chain=name) - before.total(
                    "settler_stage_ticks_total", chain=name
                )
                idle = after.total("settler_rpc_requests_total", chain=name) - before.total(
                    "settler_rpc_requests_total", chain=name
                )
                show(f"{name}: {idle:.0f} calls in {ticks:.0f} idle ticks while blocks came")
                assert 0 < idle <= CALLS_A_TICK_MAX * ticks
            show(
                f"{INVOICES} invoices paid in {paid_s:.1f} s, all settled {settled_s:.1f} s after the first payment; "
                f"RSS {rss_mib:.0f} MiB; {calls:.0f} RPC calls in all"
            )
            assert rss_mib < RSS_MAX_MIB


async def _create(api: Api, chains: list[str]) -> list[Json]:
    turn = asyncio.Semaphore(CREATORS)

    async def create(number: int) -> Json:
        async with turn:
            return await api.create(f"{1 + number % 90}.50", option(chain=chains[number % len(chains)]))

    return list(await asyncio.gather(*(create(number) for number in range(INVOICES))))


async def _pay(node: Anvil, token: Address, made: list[Json]) -> None:
    payer = node.accounts[1]
    await evm.mint(node, token, evm.address_of(payer), 10**9 * UNIT)
    await evm.batch_transfers(node, payer, token, [(pay_to(i), due(i)) for i in made])


async def _settled(api: Api) -> int:
    return int((await api.metrics()).total("settler_invoices", status="settled"))
