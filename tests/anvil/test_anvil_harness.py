"""The local chain the other tests stand on does what they believe it does."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from chains.model import Address
from contracts_abi import TRANSFER_TOPIC
from settler.anvil import Anvil, AnvilCallError, AnvilError, dev_accounts, find_anvil
from tests.support import evm

SHOP = Address(bytes.fromhex("00000000000000000000000000000000000000aa"))
OTHER = Address(bytes.fromhex("00000000000000000000000000000000000000bb"))


async def test_accounts__are_the_funded_ones_of_the_node(anvil: Anvil) -> None:
    assert [account.address.lower() for account in anvil.accounts] == await anvil.rpc("eth_accounts")
    assert anvil.accounts[0].address == "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"


async def test_transfer__moves_tokens_and_logs_them(anvil: Anvil) -> None:
    payer = anvil.accounts[1]
    token = await evm.deploy_token(anvil)
    await evm.mint(anvil, token, evm.address_of(payer), 250_000_000)
    tx_hash = await evm.transfer(anvil, payer, token, SHOP, 100_000_000)

    mined = await evm.wait_mined(anvil, tx_hash)

    (log,) = mined["logs"]
    assert log["topics"] == [
        "0x" + TRANSFER_TOPIC.hex(),
        "0x" + bytes(12).hex() + payer.address[2:].lower(),
        "0x" + (bytes(12) + SHOP).hex(),
    ]
    assert int(log["data"], 16) == 100_000_000
    assert await evm.balance_of(anvil, token, SHOP) == 100_000_000
    assert await evm.balance_of(anvil, token, evm.address_of(payer)) == 150_000_000


async def test_deploy_token__twice_with_one_symbol__gives_two_contracts(anvil: Anvil) -> None:
    assert await evm.deploy_token(anvil, "USDC") != await evm.deploy_token(anvil, "USDC")


async def test_payout__pays_many_recipients_in_one_transaction(anvil: Anvil) -> None:
    token, batch = await evm.deploy_token(anvil), await evm.deploy_batch_payout(anvil)
    await evm.mint(anvil, token, batch, 10**12)
    people = [Address(index.to_bytes(20, "big")) for index in range(1_000, 1_200)]

    tx_hash = await evm.payout(anvil, anvil.accounts[0], batch, token, [(who, 5) for who in people])

    mined = await evm.wait_mined(anvil, tx_hash)
    assert ["0x" + (bytes(12) + who).hex() for who in people] == [log["topics"][2] for log in mined["logs"]]
    assert [int(log["logIndex"], 16) for log in mined["logs"]] == list(range(200))


async def test_repeat__makes_200_equal_transfers_in_one_transaction(anvil: Anvil) -> None:
    token, batch = await evm.deploy_token(anvil), await evm.deploy_batch_payout(anvil)
    await evm.mint(anvil, token, batch, 10**12)

    mined = await evm.wait_mined(anvil, await evm.repeat(anvil, anvil.accounts[0], batch, token, SHOP, 7, 200))

    assert len(mined["logs"]) == 200
    assert await evm.balance_of(anvil, token, SHOP) == 1_400


async def test_batch_transfers__one_transaction_each_in_one_block(anvil: Anvil) -> None:
    payer = anvil.accounts[2]
    token = await evm.deploy_token(anvil)
    await evm.mint(anvil, token, evm.address_of(payer), 10**9)
    await evm.set_automine(anvil, False)

    hashes = await evm.batch_transfers(anvil, payer, token, [(SHOP, amount) for amount in range(1, 101)])
    head = await evm.mine(anvil)

    receipts = [await evm.receipt(anvil, tx_hash) for tx_hash in hashes]
    assert [int(found["blockNumber"], 16) for found in receipts if found] == [head.number] * 100
    assert await evm.balance_of(anvil, token, SHOP) == sum(range(1, 101))


async def test_reorg__drops_one_transaction_and_mines_the_other_again(anvil: Anvil) -> None:
    payer = anvil.accounts[1]
    token = await evm.deploy_token(anvil)
    await evm.mint(anvil, token, evm.address_of(payer), 10**9)
    kept = await evm.transfer(anvil, payer, token, SHOP, 1)
    kept_before = await evm.wait_mined(anvil, kept)
    dropped = await evm.transfer(anvil, payer, token, OTHER, 2)
    await evm.wait_mined(anvil, dropped)
    old = await evm.mine(anvil)

    new = await evm.reorg(anvil, 3, [(await evm.raw_transaction(anvil, kept), 1)])

    assert new.number == old.number
    assert new.hash != old.hash
    kept_after = await evm.wait_mined(anvil, kept)
    assert int(kept_after["blockNumber"], 16) == int(kept_before["blockNumber"], 16) + 1
    assert await evm.receipt(anvil, dropped) is None
    assert await anvil.rpc("eth_getTransactionByHash", "0x" + dropped.hex()) is None
    assert await evm.balance_of(anvil, token, OTHER) == 0
    # The chain is linked, and the old head is unknown.
    parent = await evm.block(anvil, new.number - 1)
    assert parent is not None and new.parent_hash == parent.hash
    assert await anvil.rpc("eth_getBlockByHash", "0x" + old.hash.hex(), False) is None


async def test_reorg__the_dropped_transaction_may_be_sent_again(anvil: Anvil) -> None:
    payer = anvil.accounts[1]
    token = await evm.deploy_token(anvil)
    await evm.mint(anvil, token, evm.address_of(payer), 10)
    tx_hash = await evm.transfer(anvil, payer, token, SHOP, 10)
    await evm.wait_mined(anvil, tx_hash)
    raw = await evm.raw_transaction(anvil, tx_hash)
    await evm.reorg(anvil, 1)

    assert await evm.send_raw(anvil, raw) == tx_hash

    await evm.wait_mined(anvil, tx_hash)


async def test_reorg__64_blocks_deep(anvil: Anvil) -> None:
    before = await evm.mine(anvil, 100)
    after = await evm.reorg(anvil, 64)
    assert (before.number, after.number) == (100, 100)
    assert before.hash != after.hash


async def test_snapshot_and_revert(anvil: Anvil) -> None:
    before = await evm.mine(anvil, 3)
    taken = await evm.snapshot(anvil)
    await evm.mine(anvil, 5)
    await evm.revert(anvil, taken)
    assert await evm.head(anvil) == before


async def test_mine_and_increase_time__move_timestamps(anvil: Anvil) -> None:
    start = await evm.mine(anvil)
    assert (await evm.mine(anvil, 10, interval_s=12)).time.timestamp() - start.time.timestamp() >= 9 * 12
    before = await evm.head(anvil)
    await evm.increase_time(anvil, 3_600)
    assert (await evm.mine(anvil)).time.timestamp() - before.time.timestamp() >= 3_600


async def test_tags__follow_slots_in_an_epoch() -> None:
    async with Anvil(find_anvil(), slots_in_an_epoch=4) as anvil:
        await evm.mine(anvil, 20)
        heads = [await evm.block(anvil, tag) for tag in ("latest", "safe", "finalized")]
        assert [head.number for head in heads if head] == [20, 16, 12]


async def test_options__chain_id_timestamp_no_mining() -> None:
    async with Anvil(find_anvil(), chain_id=8453, timestamp=1_700_000_000, no_mining=True) as anvil:
        token = await evm.deploy_token(anvil)
        assert int(await anvil.rpc("eth_chainId"), 16) == 8453
        genesis = await evm.block(anvil, 0)
        assert genesis is not None and genesis.time.timestamp() == 1_700_000_000
        waiting = await evm.transfer(anvil, anvil.accounts[0], token, SHOP, 0)
        assert await evm.receipt(anvil, waiting) is None
        await evm.mine(anvil)
        assert await evm.receipt(anvil, waiting) is not None


async def test_rpc__an_error_names_the_method(anvil: Anvil) -> None:
    with pytest.raises(AnvilCallError, match="anvil_reorg"):
        await anvil.rpc("anvil_reorg", 5, [])


async def test_anvil__leaves_no_process_and_no_files() -> None:
    home = Path.home() / ".foundry"
    before = _files(home)
    async with Anvil(find_anvil()) as anvil:
        process = psutil.Process(anvil.pid)
        temporary = Path(process.cwd())
        await evm.mine(anvil, 300)
        assert process.is_running()
        assert sum(path.stat().st_size for path in temporary.rglob("*") if path.is_file()) == 0
    assert not process.is_running()
    assert not temporary.exists()
    assert _files(home) == before


async def test_anvil__two_at_once__are_apart() -> None:
    async with Anvil(find_anvil()) as one, Anvil(find_anvil()) as two:
        await evm.mine(one, 2)
        assert (await evm.head(one)).number == 2
        assert (await evm.head(two)).number == 0


async def test_anvil__port_taken__says_so() -> None:
    async with Anvil(find_anvil()) as one:
        port = int(one.url.rpartition(":")[2])
        with pytest.raises(AnvilError, match=r"(?i)address already in use"):
            await Anvil(find_anvil(), port=port).__aenter__()
        assert (await evm.head(one)).number == 0


async def test_anvil__stopped_process__is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("settler.anvil.STOP_TIMEOUT_S", 0.3)
    async with Anvil(find_anvil()) as anvil:
        process = psutil.Process(anvil.pid)
        process.suspend()  # SIGTERM waits, SIGKILL does not
        started = time.monotonic()
    assert time.monotonic() - started < 5
    assert not process.is_running()


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
async def test_anvil__ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    """A killed demo left its node running, and with it a port and a CPU."""
    program = (
        "import asyncio\n"
        "from settler.anvil import Anvil, find_anvil\n"
        "async def main():\n"
        "    async with Anvil(find_anvil()) as anvil:\n"
        "        print(anvil.pid, flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=os.environ | {"TMPDIR": str(tmp_path)}
    )
    try:
        assert parent.stdout is not None
        child = psutil.Process(int(await asyncio.to_thread(parent.stdout.readline)))
    finally:
        os.kill(parent.pid, signal.SIGKILL)
        parent.communicate()
    await asyncio.to_thread(psutil.wait_procs, [child], timeout=10)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def _files(directory: Path) -> set[Path]:
    return {path for path in directory.rglob("*") if path.is_file()} if directory.exists() else set()


def test_dev_accounts__are_ten_different_ones() -> None:
    assert len({account.address for account in dev_accounts()}) == 10
