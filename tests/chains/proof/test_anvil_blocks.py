"""Blocks a real node made: every size at which the trie changes shape, every transaction type it has, failures among
them. What they cost is printed (`pytest -s`), never judged: machines differ."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from eth_account.signers.local import LocalAccount

from chains import wire
from chains.address import to_checksum
from chains.decode import Asked, transfers
from chains.errors import NodeInconsistent
from chains.model import Address, BlockHash, BlockNumber, BlockSpan, ChainId, LogQuery, Transfer, TxHash
from chains.proof import (
    BLOCK,
    RECEIPTS,
    ProvenBlock,
    WireReceipt,
    from_json,
    profile_of,
    prove_block,
    to_json,
    verify,
)
from chains.proof.keccak import IMPLEMENTATION
from settler.anvil import Anvil, find_anvil
from tests.support import evm

pytestmark = pytest.mark.anvil  # most start a node of another fork than the fixture does

SIZES = (0, 1, 2, 10, 16, 17, 127, 128, 129, 200, 300)
TOO_MUCH = 10**30
"""More than the payer has: the transaction is mined and fails."""
ANVIL = profile_of(ChainId(31337))
PAYEE = Address(b"\x22" * 20)


async def test_prove__blocks_of_every_size__each_payment_is_proven_and_stays_proven(anvil: Anvil) -> None:
    payer = anvil.accounts[0]
    token = await _token_of(anvil, payer)
    await evm.set_automine(anvil, False)
    for size in SIZES:
        await _send(anvil, payer, token, size)
        number = (await evm.mine(anvil)).number
        block, receipts = await _read(anvil, number)
        assert len(receipts) == size
        payments = await _payments(anvil, token, number)
        assert len(payments) == sum(index % 4 != 3 for index in range(size))
        whole = _prove(block, receipts)
        proofs = [whole.prove(payment) for payment in payments]
        for proof, payment in zip(proofs, payments, strict=True):
            verify(from_json(msgspec.json.decode(msgspec.json.encode(to_json(proof)))), payment)
        for wrong in (receipts[1:], receipts[:-1]) if receipts else ():
            with pytest.raises(NodeInconsistent):
                _prove(block, wrong)
        _print_costs(size, block, receipts, whole, payments)


@pytest.mark.parametrize("hardfork", ["london", "shanghai", "cancun", "prague", "osaka"])
async def test_prove__block_of_each_fork__has_its_header_fields(hardfork: str) -> None:
    async with Anvil(find_anvil(), hardfork=hardfork) as node:
        token = await evm.deploy_token(node, account=node.accounts[1])
        await evm.mint(node, token, PAYEE, 7, account=node.accounts[1])
        number = (await evm.head(node)).number
        payments = await _payments(node, token, number)
        whole = _prove(*await _read(node, number))
        for payment in payments:
            verify(whole.prove(payment), payment)
        assert len(payments) == 1


async def test_prove__set_code_transaction__is_proven() -> None:
    async with Anvil(find_anvil(), hardfork="prague", no_mining=True) as node:
        payer = node.accounts[0]
        token = await _token_of(node, payer)
        delegation: Any = node.accounts[1].sign_authorization(
            {"chainId": node.chain_id, "address": "0x" + token.hex(), "nonce": 0}
        )
        nonce = await evm.next_nonce(node, evm.address_of(payer))
        fields = {**_fees(node, token, nonce, _transfer_data(5), 4), "authorizationList": [delegation]}
        await _prove_one(node, token, bytes(payer.sign_transaction(fields).raw_transaction), "0x4")


async def test_prove_block__op_stack_deposit__hashes_nonce_and_version() -> None:
    """anvil as an OP-stack node. Its depositNonce is one off op-geth's (foundry #16940), but it hashes what it says."""
    node = Anvil(find_anvil(), hardfork="prague")
    fork = node._command.index("--hardfork")
    node._command[fork : fork + 2] = ["--network", "optimism"]
    async with node:
        bridge = "0x" + "de" * 20
        await node.rpc("anvil_impersonateAccount", bridge)
        deposit = {"from": bridge, "to": "0x" + PAYEE.hex(), "type": "0x7e", "sourceHash": "0x" + "22" * 32}
        sent = await node.rpc("eth_sendTransaction", {**deposit, "mint": "0x0", "isSystemTx": False, "gas": "0x5208"})
        # mined a moment after it is answered
        mined = await evm.wait_mined(node, TxHash(bytes.fromhex(sent[2:])))
        block, receipts = await _read(node, BlockNumber(int(mined["blockNumber"], 16)))
    assert [(each.type, each.deposit_receipt_version) for each in receipts] == [("0x7E", "0x1")]
    block_hash = BlockHash(bytes.fromhex(str(block["hash"])[2:]))
    assert prove_block(block, receipts, block_hash=block_hash, profile=profile_of(ChainId(10))).hash == block_hash


@pytest.mark.slow
async def test_prove__blob_transaction__is_proven() -> None:
    """Slow: signing one loads the KZG trusted setup, 9 s of CPU."""
    async with Anvil(find_anvil(), hardfork="prague", no_mining=True) as node:
        payer = node.accounts[0]
        token = await _token_of(node, payer)
        nonce = await evm.next_nonce(node, evm.address_of(payer))
        fields = {**_fees(node, token, nonce, _transfer_data(5), 3), "maxFeePerBlobGas": 10**9}
        signed = payer.sign_transaction(fields, blobs=[bytes(131_072)])
        await _prove_one(node, token, bytes(signed.raw_transaction), "0x3")


async def test_prove__raw_transactions_of_the_node__prove_the_hashes(anvil: Anvil) -> None:
    payer = anvil.accounts[0]
    token = await _token_of(anvil, payer)
    await evm.set_automine(anvil, False)
    await _send(anvil, payer, token, 20)
    number = (await evm.mine(anvil)).number
    block, receipts = await _read(anvil, number)
    asked = [("eth_getRawTransactionByHash", [each.transaction_hash]) for each in receipts]
    raws = [bytes.fromhex(str(raw)[2:]) for raw in await anvil.batch(asked)]
    whole = _prove(block, receipts, raws)
    for payment in await _payments(anvil, token, number):
        proof = whole.prove(payment)
        assert proof.is_transaction_proven
        verify(proof, payment)


# -- the chain ---------------------------------------------------------------------------------------------------------


async def _token_of(anvil: Anvil, payer: LocalAccount) -> Address:
    token = await evm.deploy_token(anvil)
    await evm.mint(anvil, token, evm.address_of(payer), 10**12)
    return token


async def _prove_one(anvil: Anvil, token: Address, raw: bytes, kind: str) -> None:
    """Mines one payment of this type and proves it."""
    await evm.send_raw(anvil, raw)
    number = (await evm.mine(anvil)).number
    block, receipts = await _read(anvil, number)
    assert [each.type for each in receipts] == [kind]
    whole = _prove(block, receipts)
    (payment,) = await _payments(anvil, token, number)
    verify(whole.prove(payment), payment)


async def _send(anvil: Anvil, payer: LocalAccount, token: Address, count: int) -> None:
    """Legacy, access list and dynamic fee in turn; every fourth fails."""
    first = await evm.next_nonce(anvil, evm.address_of(payer))
    raws = []
    for index in range(count):
        data = _transfer_data(TOO_MUCH if index % 4 == 3 else 1 + index)
        transaction = _fees(anvil, token, first + index, data, index % 3)
        raws.append(bytes(payer.sign_transaction(transaction).raw_transaction))
    if raws:
        await anvil.batch([("eth_sendRawTransaction", ["0x" + raw.hex()]) for raw in raws])


def _fees(anvil: Anvil, token: Address, nonce: int, data: bytes, kind: int) -> dict[str, Any]:
    common = {"chainId": anvil.chain_id, "nonce": nonce, "gas": 90_000, "to": to_checksum(token), "value": 0}
    if kind == 0:
        return {**common, "data": data, "gasPrice": 10**12}
    if kind == 1:
        return {**common, "data": data, "type": 1, "gasPrice": 10**12, "accessList": []}
    return {**common, "data": data, "type": kind, "maxFeePerGas": 10**12, "maxPriorityFeePerGas": 1}


def _transfer_data(amount: int) -> bytes:
    return bytes.fromhex("a9059cbb") + bytes(12) + PAYEE + amount.to_bytes(32, "big")


async def _read(anvil: Anvil, number: BlockNumber) -> tuple[dict[str, object], list[WireReceipt]]:
    block, receipts = await anvil.batch(
        [("eth_getBlockByNumber", [hex(number), False]), ("eth_getBlockReceipts", [hex(number)])]
    )
    header = BLOCK.decode(msgspec.json.encode(block))
    decoded = RECEIPTS.decode(msgspec.json.encode(receipts))
    assert header is not None and decoded is not None
    return header, decoded


async def _payments(anvil: Anvil, token: Address, number: BlockNumber) -> tuple[Transfer, ...]:
    """As the reader gets them, by `eth_getLogs`."""
    height = hex(number)
    logs = await anvil.rpc("eth_getLogs", {"fromBlock": height, "toBlock": height, "address": "0x" + token.hex()})
    asked = Asked(
        chain_id=ChainId(anvil.chain_id),
        span=BlockSpan(first=number, last=number),
        query=LogQuery(tokens=frozenset({token}), recipients=None),
        is_filtered=False,
    )
    return transfers(wire.LOGS.decode(msgspec.json.encode(logs)), asked)


def _prove(
    block: dict[str, object], receipts: Sequence[WireReceipt], raws: Sequence[bytes] | None = None
) -> ProvenBlock:
    block_hash = BlockHash(bytes.fromhex(str(block["hash"])[2:]))
    return prove_block(block, receipts, block_hash=block_hash, profile=ANVIL, raw_transactions=raws)


def _print_costs(
    size: int,
    block: dict[str, object],
    receipts: list[WireReceipt],
    whole: ProvenBlock,
    payments: Sequence[Transfer],
) -> None:
    least, median = _cpu_ms(lambda: _prove(block, receipts))
    line = f"{IMPLEMENTATION}: {size:3} receipts, prove_block {least:.2f} ms least, {median:.2f} median"
    if payments:
        proof = whole.prove(payments[0])
        line += f"; prove {_cpu_ms(lambda: whole.prove(payments[0]))[1]:.2f}"
        line += f", verify {_cpu_ms(lambda: verify(proof, payments[0]))[1]:.2f}"
        line += f"; stored {len(msgspec.json.encode(to_json(proof)))} bytes"
    print(line)  # noqa: T201 -- shown by `pytest -s`


def _cpu_ms(work: Callable[[], object], times: int = 9) -> tuple[float, float]:
    """Least and median CPU time."""
    taken = []
    for _ in range(times):
        start = time.process_time_ns()
        work()
        taken.append((time.process_time_ns() - start) / 1e6)
    taken.sort()
    return taken[0], taken[times // 2]
