"""What the demo and the tests do to a local chain: deploy, mint, pay, mine, reorganise. Over
`settler.anvil.Anvil`, without
web3. Never used by the daemon: it holds no keys and sends nothing.

Addresses and hashes are bytes and amounts base units, as in `chains.model`. A node answers a sent transaction with its
hash before it is mined: `transfer`, `send_raw`, `payout` and `repeat` return then; `wait_mined` waits. `deploy…` and
`mint` return when they are mined, and mine a block themselves where the node does not mine by itself.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from eth_abi.abi import decode, encode
from eth_account.signers.local import LocalAccount
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from chains.model import Address, BlockHash, BlockNumber, BlockRef, TxHash
from contracts_abi import artifact
from settler.anvil import Anvil

MINED_TIMEOUT_S = 10.0
_POLL_S = 0.002
_MAX_FEE_WEI = 1_000 * 10**9  # a ceiling far above any base fee full blocks drive up; the base fee is what is paid
_TRANSFER_GAS = 80_000
_DEPLOY_GAS = 3_000_000
_PAYOUT_GAS = 60_000
_PAYOUT_GAS_EACH = 35_000  # a recipient who holds none yet: a new storage slot, 20,000


def address_of(account: LocalAccount) -> Address:
    return Address(bytes.fromhex(account.address[2:]))


async def deploy_token(
    anvil: Anvil, symbol: str = "USDC", decimals: int = 6, *, account: LocalAccount | None = None
) -> Address:
    """A TestStablecoin, mined. Called twice with one symbol it gives the real token and its counterfeit."""
    arguments = encode(["string", "string", "uint8"], [f"Test {symbol}", symbol, decimals])
    return await _deploy(anvil, artifact("TestStablecoin").bytecode + arguments, account)


async def deploy_batch_payout(anvil: Anvil, *, account: LocalAccount | None = None) -> Address:
    """A BatchPayout, mined. It pays out of its own balance: `mint` to it first."""
    return await _deploy(anvil, artifact("BatchPayout").bytecode, account)


async def mint(
    anvil: Anvil, token: Address, to: Address, amount_base: int, *, account: LocalAccount | None = None
) -> TxHash:
    """New tokens for `to`, mined. It is a Transfer log from the zero address."""
    data = _selector("mint(address,uint256)") + encode(["address", "uint256"], [to, amount_base])
    tx_hash = await call_contract(anvil, account or anvil.accounts[0], token, data)
    await _settle(anvil, tx_hash)
    return tx_hash


async def transfer(
    anvil: Anvil, account: LocalAccount, token: Address, to: Address, amount_base: int, *, nonce: int | None = None
) -> TxHash:
    """Signs and sends one token transfer. `nonce` given replaces a waiting transaction, or leaves a gap."""
    if nonce is None:
        nonce = await next_nonce(anvil, address_of(account))
    return await send_raw(anvil, sign_transfer(anvil, account, token, to, amount_base, nonce=nonce))


async def batch_transfers(
    anvil: Anvil, account: LocalAccount, token: Address, payments: Sequence[tuple[Address, int]]
) -> list[TxHash]:
    """One transaction a payment `(to, amount_base)`, sent in large JSON-RPC batches. Hashes in the same order."""
    first = await next_nonce(anvil, address_of(account))
    raws = [
        sign_transfer(anvil, account, token, to, amount_base, nonce=first + index)
        for index, (to, amount_base) in enumerate(payments)
    ]
    answers = await anvil.batch([("eth_sendRawTransaction", ["0x" + raw.hex()]) for raw in raws])
    return [TxHash(_bytes(answer)) for answer in answers]


async def payout(
    anvil: Anvil, account: LocalAccount, batch: Address, token: Address, payments: Sequence[tuple[Address, int]]
) -> TxHash:
    """All payments `(to, amount_base)` in one transaction, from the balance of the BatchPayout `batch`."""
    data = _selector("payout(address,address[],uint256[])") + encode(
        ["address", "address[]", "uint256[]"], [token, [to for to, _ in payments], [amount for _, amount in payments]]
    )
    return await call_contract(anvil, account, batch, data, gas=_PAYOUT_GAS + _PAYOUT_GAS_EACH * len(payments))


async def repeat(
    anvil: Anvil, account: LocalAccount, batch: Address, token: Address, to: Address, amount_base: int, times: int
) -> TxHash:
    """`times` equal transfers in one transaction, from the balance of `batch`; a block has gas for about 2,500."""
    data = _selector("repeat(address,address,uint256,uint256)") + encode(
        ["address", "address", "uint256", "uint256"], [token, to, amount_base, times]
    )
    return await call_contract(anvil, account, batch, data, gas=2 * _PAYOUT_GAS + 12_000 * times)


async def call_contract(
    anvil: Anvil, account: LocalAccount, to: Address, data: bytes, *, gas: int = 2 * _TRANSFER_GAS
) -> TxHash:
    """Signs and sends a transaction with this call data."""
    nonce = await next_nonce(anvil, address_of(account))
    return await send_raw(anvil, _sign(anvil, account, to=to, data=data, nonce=nonce, gas=gas))


def sign_transfer(
    anvil: Anvil, account: LocalAccount, token: Address, to: Address, amount_base: int, *, nonce: int
) -> bytes:
    """A signed token transfer, not sent: for `reorg`, or to send it late or twice."""
    data = _selector("transfer(address,uint256)") + bytes(12) + to + amount_base.to_bytes(32, "big")
    return _sign(anvil, account, to=token, data=data, nonce=nonce, gas=_TRANSFER_GAS)


async def send_raw(anvil: Anvil, raw: bytes) -> TxHash:
    return TxHash(_bytes(await anvil.rpc("eth_sendRawTransaction", "0x" + raw.hex())))


async def raw_transaction(anvil: Anvil, tx_hash: TxHash) -> bytes:
    """A known transaction as it was signed."""
    return _bytes(await anvil.rpc("eth_getRawTransactionByHash", "0x" + tx_hash.hex()))


async def next_nonce(anvil: Anvil, account: Address) -> int:
    """Counts what waits in the pool too."""
    return int(await anvil.rpc("eth_getTransactionCount", "0x" + account.hex(), "pending"), 16)


async def mine(anvil: Anvil, blocks: int = 1, *, interval_s: int | None = None) -> BlockRef:
    """The new head after `blocks` more, timestamps `interval_s` (1) apart; the first takes what is in the pool."""
    await anvil.rpc("anvil_mine", hex(blocks), *([] if interval_s is None else [hex(interval_s)]))
    return await head(anvil)


async def reorg(anvil: Anvil, depth: int, txs: Sequence[tuple[bytes, int]] = ()) -> BlockRef:
    """Replaces the last `depth` blocks by as many new ones. The new head, at the same height.

    `txs`: signed transactions with the new block they go into, 0 the oldest. What was mined in the old blocks and is
    not among them is dropped: it does not return to the pool.

        height      98   99 | 100  101      depth 2
        old         a    b  | c    d
        new         a    b  | c'   d'       txs [(raw, 1)] is mined in d'
    """
    await anvil.rpc("anvil_reorg", depth, [["0x" + raw.hex(), block] for raw, block in txs])
    return await head(anvil)


async def snapshot(anvil: Anvil) -> str:
    """An id for `revert`, good once."""
    return str(await anvil.rpc("evm_snapshot"))


async def revert(anvil: Anvil, snapshot_id: str) -> None:
    """Back to the snapshot: later blocks are gone, the chain is shorter."""
    assert await anvil.rpc("evm_revert", snapshot_id) is True, f"anvil knows no snapshot {snapshot_id}"


async def set_automine(anvil: Anvil, is_on: bool) -> None:
    """On: each transaction gets its block at once. Off: only `mine` makes blocks."""
    await anvil.rpc("evm_setAutomine", is_on)


async def increase_time(anvil: Anvil, seconds: int) -> None:
    """Moves the timestamps of later blocks; makes no block."""
    await anvil.rpc("evm_increaseTime", hex(seconds))


async def head(anvil: Anvil) -> BlockRef:
    found = await block(anvil, "latest")
    assert found is not None, "a chain has a latest block"
    return found


async def block(anvil: Anvil, which: int | str) -> BlockRef | None:
    """By height or tag. `None`: there is none."""
    answer = await anvil.rpc("eth_getBlockByNumber", which if isinstance(which, str) else hex(which), False)
    if answer is None:
        return None
    return BlockRef(
        number=BlockNumber(int(answer["number"], 16)),
        hash=BlockHash(_bytes(answer["hash"])),
        parent_hash=BlockHash(_bytes(answer["parentHash"])),
        time=datetime.fromtimestamp(int(answer["timestamp"], 16), UTC),
    )


async def receipt(anvil: Anvil, tx_hash: TxHash) -> dict[str, Any] | None:
    """As JSON-RPC gives it. `None`: not mined, or dropped by a reorg."""
    answer: dict[str, Any] | None = await anvil.rpc("eth_getTransactionReceipt", "0x" + tx_hash.hex())
    return answer


async def wait_mined(anvil: Anvil, tx_hash: TxHash) -> dict[str, Any]:
    """The receipt of a transaction that succeeded. Fails after `MINED_TIMEOUT_S`, or when it was reverted."""
    async with asyncio.timeout(MINED_TIMEOUT_S):
        while (found := await receipt(anvil, tx_hash)) is None:  # noqa: ASYNC110 -- another process mines it
            await asyncio.sleep(_POLL_S)
    assert found["status"] == "0x1", f"transaction 0x{tx_hash.hex()} was reverted"
    return found


async def balance_of(anvil: Anvil, token: Address, owner: Address) -> int:
    data = _selector("balanceOf(address)") + encode(["address"], [owner])
    answer = await anvil.rpc("eth_call", {"to": "0x" + token.hex(), "data": "0x" + data.hex()}, "latest")
    (amount_base,) = decode(["uint256"], _bytes(answer))
    return int(amount_base)


async def _deploy(anvil: Anvil, creation_code: bytes, account: LocalAccount | None) -> Address:
    deployer = account or anvil.accounts[0]
    nonce = await next_nonce(anvil, address_of(deployer))
    raw = _sign(anvil, deployer, to=None, data=creation_code, nonce=nonce, gas=_DEPLOY_GAS)
    mined = await _settle(anvil, await send_raw(anvil, raw))
    return Address(_bytes(mined["contractAddress"]))


async def _settle(anvil: Anvil, tx_hash: TxHash) -> dict[str, Any]:
    if not await anvil.rpc("anvil_getAutomine"):
        await anvil.rpc("evm_mine")
    return await wait_mined(anvil, tx_hash)


def _sign(anvil: Anvil, account: LocalAccount, *, to: Address | None, data: bytes, nonce: int, gas: int) -> bytes:
    transaction: dict[str, Any] = {
        "type": 2,
        "chainId": anvil.chain_id,
        "nonce": nonce,
        "gas": gas,
        "maxFeePerGas": _MAX_FEE_WEI,
        "maxPriorityFeePerGas": 1,
        "value": 0,
        "data": data,
    }
    if to is not None:
        transaction["to"] = to_checksum_address(to)
    return bytes(account.sign_transaction(transaction).raw_transaction)


@functools.cache
def _selector(signature: str) -> bytes:
    return keccak(text=signature)[:4]


def _bytes(answer: object) -> bytes:
    assert isinstance(answer, str) and answer.startswith("0x"), f"no 0x hex: {answer!r}"
    return bytes.fromhex(answer[2:])
