"""Blocks for `settler bench proof`, equal for equal inputs, as a node answers them.

A third of the transactions log nothing, a third log one transfer, the rest several logs of 32 to 256 bytes: 3 logs a
transaction, as on mainnet. Header, receipts, blooms and hashes are whole: another implementation finds them true.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec

from chains.bloom import BLOOM_BYTES
from chains.model import (
    Address,
    BaseUnits,
    BlockHash,
    BlockNumber,
    BlockRef,
    BlockSpan,
    ChainId,
    LogQuery,
    SpanRead,
    Transfer,
    TransferIdentity,
    TxHash,
)
from chains.proof import WireReceipt, profile_of, receipts_root, rlp
from chains.proof.keccak import keccak
from contracts_abi import TRANSFER_TOPIC

WATCHED = 10_000
CHAIN = ChainId(1)
NUMBER = BlockNumber(20_000_000)
TIME = datetime(2026, 1, 1, tzinfo=UTC)
TOKEN = Address(bytes.fromhex("a0b86991c6218b36c1d19d4a2e9eb0ce3606eb48"))
OTHER_TOKEN = Address(bytes.fromhex("dac17f958d2ee523a2206206994597c13d831ec7"))
TOPICS = tuple(keccak(name) for name in (b"Swap", b"Sync", b"Approval", b"Deposit"))
PROFILE = profile_of(CHAIN)


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeBlock:
    """A block as a node answers it, and the payments in it."""

    hash: BlockHash
    block_json: bytes = field(repr=False)
    receipts_json: bytes = field(repr=False)
    logs: int
    payments: tuple[Transfer, ...] = field(repr=False)
    query: LogQuery = field(repr=False)

    @property
    def read(self) -> SpanRead:
        """The reading that names the payments."""
        home = BlockRef(number=NUMBER, hash=self.hash, parent_hash=BlockHash(b"\x01" * 32), time=TIME)
        span = BlockSpan(first=NUMBER, last=NUMBER)
        return SpanRead(span=span, end=home, anchor=None, transfers=self.payments, blocks={self.hash: home})


def make_block(transactions: int, payments: int) -> MadeBlock:
    """A block of so many transactions, of which `payments` pay one watched address each."""
    chance = random.Random(transactions * 1_000_003 + payments)  # noqa: S311 - equal inputs, no secrets
    watched = [Address(chance.randbytes(20)) for _ in range(WATCHED)]
    paying = set(chance.sample(range(transactions), payments))
    hashes = [chance.randbytes(32) for _ in range(transactions)]
    receipts: list[dict[str, object]] = []
    paid: list[TransferIdentity] = []
    places: list[int] = []
    log_index = 0
    for index, tx_hash in enumerate(hashes):
        if index in paying:
            sender, recipient, amount = chance.randbytes(20), watched[index % WATCHED], chance.randrange(1, 10**9)
            logs = [_transfer(TOKEN, sender, recipient, amount)]
            paid.append(
                TransferIdentity(
                    chain_id=CHAIN,
                    tx_hash=TxHash(tx_hash),
                    token=TOKEN,
                    sender=Address(sender),
                    recipient=recipient,
                    amount=BaseUnits(amount),
                    ordinal=0,
                )
            )
            places.append(log_index)
        else:
            logs = _other_logs(chance)
        receipts.append(_receipt(index, tx_hash, logs, log_index, chance))
        log_index += len(logs)
    block = _block(hashes, receipts)
    block_hash = BlockHash(bytes.fromhex(str(block["hash"])[2:]))
    for receipt in receipts:
        receipt["blockHash"] = block["hash"]
    return MadeBlock(
        hash=block_hash,
        block_json=msgspec.json.encode(block),
        receipts_json=msgspec.json.encode(receipts),
        logs=log_index,
        payments=tuple(
            Transfer(identity=identity, block_number=NUMBER, block_hash=block_hash, log_index=place)
            for identity, place in zip(paid, places, strict=True)
        ),
        query=LogQuery(tokens=frozenset([TOKEN, OTHER_TOKEN]), recipients=frozenset(watched)),
    )


Log = tuple[bytes, list[bytes], bytes]
"""Address, topics, data."""


def _transfer(token: bytes, sender: bytes, recipient: bytes, amount: int) -> Log:
    return token, [TRANSFER_TOPIC, bytes(12) + sender, bytes(12) + recipient], amount.to_bytes(32, "big")


def _other_logs(chance: random.Random) -> list[Log]:
    kind = chance.random()
    if kind < 0.33:
        return []
    transfer = _transfer(
        TOKEN if chance.random() < 0.5 else OTHER_TOKEN,
        chance.randbytes(20),
        chance.randbytes(20),
        chance.randrange(10**12),
    )
    if kind < 0.66:
        return [transfer]
    more = 4 if kind < 0.9 else 14
    return [transfer] + [
        (
            chance.randbytes(20),
            [chance.choice(TOPICS), *(bytes(12) + chance.randbytes(20) for _ in range(chance.randrange(3)))],
            chance.randbytes(32 * chance.choice((1, 1, 2, 4, 8))),
        )
        for _ in range(more)
    ]


def _receipt(
    index: int, tx_hash: bytes, logs: Sequence[Log], first_log: int, chance: random.Random
) -> dict[str, object]:
    """As go-ethereum answers one."""
    return {
        "blockHash": "",
        "blockNumber": hex(NUMBER),
        "contractAddress": None,
        "cumulativeGasUsed": hex(65_000 * (index + 1)),
        "effectiveGasPrice": hex(12_345_678_901),
        "from": _hex(chance.randbytes(20)),
        "gasUsed": hex(65_000),
        "logs": [
            {
                "address": _hex(address),
                "topics": [_hex(topic) for topic in topics],
                "data": _hex(data),
                "blockNumber": hex(NUMBER),
                "transactionHash": _hex(tx_hash),
                "transactionIndex": hex(index),
                "blockHash": _hex(bytes(32)),
                "blockTimestamp": hex(int(TIME.timestamp())),
                "logIndex": hex(first_log + position),
                "removed": False,
            }
            for position, (address, topics, data) in enumerate(logs)
        ],
        "logsBloom": _hex(_bloom(logs)),
        "status": "0x1",
        "to": _hex(chance.randbytes(20)),
        "transactionHash": _hex(tx_hash),
        "transactionIndex": hex(index),
        "type": "0x2",
    }


def _bloom(logs: Sequence[Log]) -> bytes:
    bits = 0
    for address, topics, _ in logs:
        for item in (address, *topics):
            digest = keccak(item)
            for at in (0, 2, 4):
                bits |= 1 << (int.from_bytes(digest[at : at + 2], "big") & 2047)
    return bits.to_bytes(BLOOM_BYTES, "big")


def _block(hashes: Sequence[bytes], receipts: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """A header of today over these receipts, with its hash, and what nodes answer beside it."""
    wire = msgspec.convert(receipts, list[WireReceipt])
    fields: dict[str, bytes | int] = {
        "parentHash": b"\x01" * 32,
        "sha3Uncles": b"\x02" * 32,
        "miner": b"\x03" * 20,
        "stateRoot": b"\x04" * 32,
        "transactionsRoot": b"\x05" * 32,
        "receiptsRoot": receipts_root(wire, PROFILE),
        "logsBloom": bytes(BLOOM_BYTES),
        "difficulty": 0,
        "number": NUMBER,
        "gasLimit": 60_000_000,
        "gasUsed": 65_000 * len(hashes),
        "timestamp": int(TIME.timestamp()),
        "extraData": b"bench",
        "mixHash": b"\x06" * 32,
        "nonce": bytes(8),
        "baseFeePerGas": 10**9,
        "withdrawalsRoot": b"\x07" * 32,
        "blobGasUsed": 131_072,
        "excessBlobGas": 0,
        "parentBeaconBlockRoot": b"\x08" * 32,
        "requestsHash": b"\x09" * 32,
    }
    header = rlp.encode_list(
        rlp.encode_int(value) if isinstance(value, int) else rlp.encode_bytes(value) for value in fields.values()
    )
    answered: dict[str, object] = {
        name: hex(value) if isinstance(value, int) else _hex(value) for name, value in fields.items()
    }
    return {
        "hash": _hex(keccak(header)),
        **answered,
        "size": "0x1",
        "uncles": [],
        "transactions": [_hex(each) for each in hashes],
    }


def _hex(raw: bytes) -> str:
    return "0x" + raw.hex()
