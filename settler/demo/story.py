"""What happens in the demo, in order. The daemon in it is the real one, spoken to through its API."""

from __future__ import annotations

import asyncio
import itertools
import socket
import tempfile
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp
from rich.console import Console

from chains.address import to_checksum
from chains.model import Address
from settler import devchain, logs
from settler.anvil import CHAIN_ID, Anvil, find_anvil
from settler.demo.table import Screen
from settler.runtime.embedded import embedded

PORT = 8080
"""The API's, if it is free."""
BLOCK_TIME_S = 1
FINAL_AFTER_BLOCKS = 3
POLL_S = 0.25
PATIENCE_S = 120.0
"""All invoices should be settled within; it takes about ten seconds."""
DECIMALS = 6
UNIT = 10**DECIMALS
KINDS = ("exact", "in two parts", "too much")
"""How the invoices are paid, in turn."""
VISITORS_UNITS = 1_000_000
"""TUSD for whoever tries it by hand, at the node's first account."""
MERCHANT_ADDRESSES = 0x5E771E5 << 128
"""Deposit addresses of the demo count up from here; nobody has their keys."""

CONFIG = """\
[database]
url = "sqlite:///{database}"
[api]
listen = "127.0.0.1:{port}"
auth = "none"
[webhooks]
allow_private_addresses = true
[chains.anvil]
chain_id = {chain_id}
rpc = "{rpc}"
start_block = 0
finality = {finality}
poll_interval_s = 0.3
[chains.anvil.token.TUSD]
address = "{token}"
decimals = {decimals}
"""


async def tell(*, invoices: int, exit_when_settled: bool, anvil: str | None) -> int:
    """The demo from start to end; its exit code."""
    logs.configure("console", "error")
    console = Console()
    async with Anvil(find_anvil(anvil), block_time_s=BLOCK_TIME_S) as node:
        console.print(
            f"anvil, a local chain, listens on {node.url} (chain id {CHAIN_ID}, a block a second)", soft_wrap=True
        )
        token = await devchain.deploy_token(node, "TUSD", DECIMALS)
        console.print(f"deployed the test stablecoin TUSD at {to_checksum(token)}", soft_wrap=True)
        with tempfile.TemporaryDirectory(prefix="settler-demo-") as folder:
            config = Path(folder) / "settler.toml"
            config.write_text(
                CONFIG.format(
                    database=Path(folder) / "settler.db",
                    port=_free_port(),
                    chain_id=CHAIN_ID,
                    rpc=node.url,
                    finality=FINAL_AFTER_BLOCKS,
                    token=to_checksum(token),
                    decimals=DECIMALS,
                )
            )
            async with embedded(config) as (address, stop), aiohttp.ClientSession(address) as api:
                console.print(
                    f"settler runs on SQLite, its API on {address}; final is what {FINAL_AFTER_BLOCKS} blocks stand on"
                )
                is_settled = await _play(console, node, token, api, address, invoices)
                if not is_settled:
                    console.print(f"not all invoices were settled within {PATIENCE_S:.0f} s")
                    return 1
                console.print(f"all {invoices} invoices are settled")
                console.print(f"  API      {address}/v1/invoices   {address}/v1/settlements", soft_wrap=True)
                console.print(f"  metrics  {address}/metrics   health  {address}/readyz", soft_wrap=True)
                console.print(f"  docs     {address}/docs   README.md, docs/", soft_wrap=True)
                console.print(f"  operate  {address}/ops", soft_wrap=True)
                if not exit_when_settled:
                    await devchain.mint(node, token, devchain.address_of(node.accounts[0]), VISITORS_UNITS * UNIT)
                    console.print("it keeps running; Ctrl-C ends it and everything it started")
                    console.print('to go on by hand (README.md, "Ten minutes"), in another terminal:')
                    payer = to_checksum(devchain.address_of(node.accounts[0]))
                    console.print(
                        f"  export URL={address} NODE={node.url} TOKEN={to_checksum(token)} FROM={payer}",
                        soft_wrap=True,
                        highlight=False,
                    )
                    await stop.wait()
    return 0


async def _play(
    console: Console, node: Anvil, token: Address, api: aiohttp.ClientSession, address: str, count: int
) -> bool:
    """Makes the invoices, pays them, shows what the API says until all are settled. Whether they were in time."""
    await _until_ready(api)
    made = [await _create(api, number, KINDS[number % len(KINDS)]) for number in range(count)]
    for invoice in made:
        console.print(f"  pay page {address}{invoice['pay_path']}", soft_wrap=True, highlight=False)
    with Screen(console) as screen:
        payers = asyncio.create_task(_pay_all(screen, node, token, made), name="demo payers")
        try:
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    shown = [await _get(api, f"/v1/invoices/{i['id']}") for i in made]
                    chain = (await _get(api, "/v1/chains"))["data"][0]
                    screen.show(shown, chain)
                    if payers.done():
                        payers.result()
                        if all(i["status"] == "settled" for i in shown):
                            return True
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            return False
        finally:
            payers.cancel()
            await asyncio.gather(payers, return_exceptions=True)


async def _until_ready(api: aiohttp.ClientSession) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            async with api.get("/readyz") as response:
                if response.status == HTTPStatus.OK:
                    return
            await asyncio.sleep(POLL_S)


async def _create(api: aiohttp.ClientSession, number: int, kind: str) -> Mapping[str, Any]:
    to = Address((MERCHANT_ADDRESSES + number).to_bytes(20, "big"))
    body = {
        "amount": f"{25 * (number + 1)}.00",
        "reference": f"order-{number + 1} ({kind})",
        "options": [{"chain": "anvil", "token": "TUSD", "pay_to": to_checksum(to)}],
    }
    async with api.post("/v1/invoices", json=body) as response:
        answer: dict[str, Any] = await response.json()
        assert response.status == 201, f"the API refused the demo's invoice: {answer}"
        return answer


async def _get(api: aiohttp.ClientSession, path: str) -> Mapping[str, Any]:
    async with api.get(path) as response:
        answer: dict[str, Any] = await response.json()
        assert response.status == 200, f"the API answered {path} with {response.status}: {answer}"
        return answer


async def _pay_all(screen: Screen, node: Anvil, token: Address, made: Sequence[Mapping[str, Any]]) -> None:
    """Each invoice from an account of its own, in its own way; the first one's block is replaced by a reorg."""
    payers = itertools.cycle(node.accounts[1:])
    for number, invoice in enumerate(made):
        payer = next(payers)
        option = invoice["options"][0]
        due, to = int(option["amount_base"]), Address(bytes.fromhex(option["pay_to"][2:]))
        await devchain.mint(node, token, devchain.address_of(payer), 2 * due)
        match KINDS[number % len(KINDS)]:
            case "exact":
                amounts = [due]
            case "in two parts":
                amounts = [due * 2 // 5, due - due * 2 // 5]
            case _:
                amounts = [due + UNIT]
        for amount in amounts:
            sent = await devchain.transfer(node, payer, token, to, amount)
            mined = await devchain.wait_mined(node, sent)
            if number == 0:
                await _reorg(screen, node, sent, int(mined["blockNumber"], 16))


async def _reorg(screen: Screen, node: Anvil, sent: Any, block: int) -> None:
    """The payment's block is replaced; its transaction is mined again one block later."""
    raw = await devchain.raw_transaction(node, sent)
    await asyncio.sleep(1.2 * BLOCK_TIME_S)
    depth = (await devchain.head(node)).number - block + 1
    await devchain.reorg(node, depth, [(raw, depth - 1)])
    again = await devchain.wait_mined(node, sent)
    screen.say(
        f"a reorg replaced {depth} blocks: the payment of block {block} is in block "
        f"{int(again['blockNumber'], 16)} now, "
        "the same payment, its confirmations counted afresh"
    )


def _free_port() -> int:
    """`PORT`, or some free one when another program has it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", PORT))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
