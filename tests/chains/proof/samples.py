"""Blocks made up for a test: receipts, the header that commits to them, and its hash, by the reference code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
from eth_hash.auto import keccak

from chains.model import (
    Address,
    BaseUnits,
    BlockHash,
    BlockNumber,
    ChainId,
    Transfer,
    TransferIdentity,
    TxHash,
)
from chains.proof import Profile, WireReceipt, WireReceiptLog, profile_of
from contracts_abi import TRANSFER_TOPIC
from tests.chains.proof.reference import Nested, rlp_encode, trie_root

GOLDEN = Path(__file__).parent / "golden"
CHAIN = ChainId(1)
NUMBER = BlockNumber(20_000_000)
TOKEN = Address(bytes.fromhex("a0b86991c6218b36c1d19d4a2e9eb0ce3606eb48"))
PAYER = Address(b"\x11" * 20)
PAYEE = Address(b"\x22" * 20)
NO_BLOOM = "0x" + "00" * 256
ETHEREUM: Profile = profile_of(CHAIN)


def tx_hash_of(index: int) -> TxHash:
    return TxHash(index.to_bytes(32, "big"))


def transfer_log(
    amount: int = 5_000_000, *, token: bytes = TOKEN, sender: bytes = PAYER, to: bytes = PAYEE
) -> WireReceiptLog:
    return WireReceiptLog(
        address="0x" + token.hex(),
        topics=("0x" + TRANSFER_TOPIC.hex(), "0x" + "00" * 12 + sender.hex(), "0x" + "00" * 12 + to.hex()),
        data=f"0x{amount:064x}",
    )


def receipt(
    index: int = 0,
    *logs: WireReceiptLog,
    type: str | None = "0x2",  # noqa: A002 -- the field's name
    status: str | None = "0x1",
    root: str | None = None,
    deposit_nonce: str | None = None,
    deposit_receipt_version: str | None = None,
    base_fee: str | None = None,
    sender: str | None = None,
) -> WireReceipt:
    return WireReceipt(
        transaction_hash="0x" + tx_hash_of(index).hex(),
        cumulative_gas_used=hex(21_000 * (index + 1)),
        logs_bloom=NO_BLOOM,
        logs=logs,
        type=type,
        status=status,
        root=root,
        deposit_nonce=deposit_nonce,
        deposit_receipt_version=deposit_receipt_version,
        base_fee=base_fee,
        sender=sender,
    )


def encoded(receipt: WireReceipt, *tail: int) -> bytes:
    """As the reference encodes it."""
    number = int(receipt.type or "0x0", 16)
    outcome = int(receipt.status, 16) if receipt.status is not None else _raw(receipt.root or "0x")
    logs: list[Nested] = [
        [_raw(log.address), [_raw(topic) for topic in log.topics], _raw(log.data)] for log in receipt.logs
    ]
    payload = rlp_encode([outcome, int(receipt.cumulative_gas_used, 16), _raw(receipt.logs_bloom), logs, *tail])
    return payload if number == 0 else bytes([number]) + payload


def block_of(
    values: Sequence[bytes], *, listed: int | None = None, transactions_root: bytes = bytes(32), **more: str
) -> dict[str, object]:
    """A Cancun-era header over these trie values, with its hash. `more` fields are answered, not hashed."""
    fields: list[tuple[str, bytes | int]] = [
        ("parentHash", b"\x01" * 32),
        ("sha3Uncles", b"\x02" * 32),
        ("miner", b"\x03" * 20),
        ("stateRoot", b"\x04" * 32),
        ("transactionsRoot", transactions_root),
        ("receiptsRoot", trie_root(values)),
        ("logsBloom", bytes(256)),
        ("difficulty", 0),
        ("number", NUMBER),
        ("gasLimit", 30_000_000),
        ("gasUsed", 21_000),
        ("timestamp", 1_700_000_000),
        ("extraData", b"\x00"),
        ("mixHash", b"\x05" * 32),
        ("nonce", bytes(8)),
        ("baseFeePerGas", 0),
        ("withdrawalsRoot", b"\x06" * 32),
        ("blobGasUsed", 131_072),
        ("excessBlobGas", 0),
        ("parentBeaconBlockRoot", b"\x07" * 32),
    ]
    hashed = keccak(rlp_encode([value for _, value in fields]))
    block: dict[str, object] = {
        name: hex(value) if isinstance(value, int) else "0x" + value.hex() for name, value in fields
    }
    count = len(values) if listed is None else listed
    listed_hashes = ["0x" + tx_hash_of(index).hex() for index in range(count)]
    return {**block, "hash": "0x" + hashed.hex(), "transactions": listed_hashes, "size": "0x1", **more}


def hash_of(block: dict[str, object]) -> BlockHash:
    return BlockHash(_raw(str(block["hash"])))


def transfer_in(block: dict[str, object], index: int, *, amount: int = 5_000_000, ordinal: int = 0) -> Transfer:
    identity = TransferIdentity(
        chain_id=CHAIN,
        tx_hash=tx_hash_of(index),
        token=TOKEN,
        sender=PAYER,
        recipient=PAYEE,
        amount=BaseUnits(amount),
        ordinal=ordinal,
    )
    return Transfer(identity=identity, block_number=NUMBER, block_hash=hash_of(block), log_index=0)


class GoldenHeader(msgspec.Struct):
    chain_id: int
    what: str
    block: dict[str, object]


def golden_headers() -> list[GoldenHeader]:
    return msgspec.json.decode((GOLDEN / "headers.json").read_bytes(), type=list[GoldenHeader])


def _raw(text: str) -> bytes:
    return bytes.fromhex(text[2:])
