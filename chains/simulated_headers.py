"""Headers and receipts of simulated blocks as Ethereum's clients hash and answer them, so that `chains.proof` has
something to prove. Pure.

Written anew and not by way of `chains.proof`, but for Keccak, RLP and the trie: what is proven should not come from
the code that proves it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from chains.labels import RawLog
from chains.model import BlockHash, TxHash
from chains.proof import rlp, trie
from chains.proof.keccak import keccak

TX_GAS = 21_000
LOG_GAS = 30_000
GAS_LIMIT = 36_000_000
BLOOM_BYTES = 256

_BLOOM_BITS = 8 * BLOOM_BYTES
_NO_UNCLES = bytes.fromhex("1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347")
"""keccak256(rlp([]))."""
_NO_REQUESTS = bytes.fromhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
"""sha256 of nothing (EIP-7685)."""
_MINER = b"\xfe" * 20
_STATE_ROOT = b"\x57" * 32
_BASE_FEE = 7
_DYNAMIC_FEE = 2
"""The type of every transaction (EIP-1559)."""


class Roots(NamedTuple):
    """What a header commits to of its block's content."""

    transactions: bytes
    receipts: bytes
    bloom: bytes
    gas_used: int


EMPTY = Roots(transactions=trie.EMPTY_ROOT, receipts=trie.EMPTY_ROOT, bloom=bytes(BLOOM_BYTES), gas_used=0)
"""Of a block without transactions."""


class ReceiptBody(NamedTuple):
    """One transaction's receipt, as far as it is hashed."""

    tx_hash: TxHash
    has_failed: bool
    cumulative_gas: int
    logs: tuple[RawLog, ...]


def roots_of(receipts: Sequence[ReceiptBody]) -> Roots:
    """The trie of transactions holds their hashes alone: nobody is told what they are made of."""
    if not receipts:
        return EMPTY
    return Roots(
        transactions=trie.build([receipt.tx_hash for receipt in receipts]).root,
        receipts=trie.build([_encoded_receipt(receipt) for receipt in receipts]).root,
        bloom=bloom_of(log for receipt in receipts for log in receipt.logs),
        gas_used=receipts[-1].cumulative_gas,
    )


def bloom_of(logs: Iterable[RawLog]) -> bytes:
    """Three bits an address and a topic (Yellow Paper, section 4.3.1)."""
    bits = 0
    for log in logs:
        bits |= _bits(log.address)
        for topic in log.topics:
            bits |= _bits(topic)
    return bits.to_bytes(BLOOM_BYTES, "big")


def header_hash(parent_hash: bytes, number: int, time_s: int, extra: bytes, roots: Roots) -> BlockHash:
    """keccak256 of the header's encoding, with all fields up to Prague."""
    payload = b"".join(
        (
            b"\xa0",
            parent_hash,
            _BETWEEN if roots is EMPTY else _between(roots),
            rlp.encode_int(number),
            _GAS_LIMIT,
            rlp.encode_int(roots.gas_used),
            rlp.encode_int(time_s),
            rlp.encode_bytes(extra),
            _BEHIND,
        )
    )
    return BlockHash(keccak(rlp.prefix(len(payload)) + payload))


def header_json(
    number: int, block_hash: bytes, parent_hash: bytes, time_s: int, extra: bytes, roots: Roots
) -> dict[str, object]:
    """As `eth_getBlockByNumber` answers it, without its transactions. New at each call, lists included."""
    header = _TEMPLATE.copy()
    header["hash"] = "0x" + block_hash.hex()
    header["number"] = hex(number)
    header["parentHash"] = "0x" + parent_hash.hex()
    header["timestamp"] = hex(time_s)
    header["extraData"] = "0x" + extra.hex()
    header["uncles"] = []
    header["withdrawals"] = []
    if roots is not EMPTY:
        header["transactionsRoot"] = "0x" + roots.transactions.hex()
        header["receiptsRoot"] = "0x" + roots.receipts.hex()
        header["logsBloom"] = "0x" + roots.bloom.hex()
        header["gasUsed"] = hex(roots.gas_used)
    return header


# -- to bytes ----------------------------------------------------------------------------------------------------------


def _between(roots: Roots) -> bytes:
    """From the uncles to the difficulty."""
    hashes = (_STATE_ROOT, roots.transactions, roots.receipts)
    return b"".join(
        (
            b"\xa0" + _NO_UNCLES,
            b"\x94" + _MINER,
            *(b"\xa0" + each for each in hashes),
            rlp.encode_bytes(roots.bloom),
            rlp.encode_int(0),
        )
    )


_BETWEEN = _between(EMPTY)
_GAS_LIMIT = rlp.encode_int(GAS_LIMIT)
_BEHIND = b"".join(
    (
        b"\xa0" + bytes(32),  # mixHash
        b"\x88" + bytes(8),  # nonce
        rlp.encode_int(_BASE_FEE),
        b"\xa0" + trie.EMPTY_ROOT,  # withdrawalsRoot
        rlp.encode_int(0),  # blobGasUsed
        rlp.encode_int(0),  # excessBlobGas
        b"\xa0" + bytes(32),  # parentBeaconBlockRoot
        b"\xa0" + _NO_REQUESTS,
    )
)


def _encoded_receipt(receipt: ReceiptBody) -> bytes:
    fields = (
        rlp.encode_int(0 if receipt.has_failed else 1),
        rlp.encode_int(receipt.cumulative_gas),
        rlp.encode_bytes(bloom_of(receipt.logs)),
        rlp.encode_list(_encoded_log(log) for log in receipt.logs),
    )
    return bytes((_DYNAMIC_FEE,)) + rlp.encode_list(fields)


def _encoded_log(log: RawLog) -> bytes:
    indexed = rlp.encode_list(rlp.encode_bytes(topic) for topic in log.topics)
    return rlp.encode_list((rlp.encode_bytes(log.address), indexed, rlp.encode_bytes(log.data)))


@lru_cache(maxsize=16_384)
def _bits(item: bytes) -> int:
    digest = keccak(item)
    bits = 0
    for at in (0, 2, 4):
        bits |= 1 << (int.from_bytes(digest[at : at + 2], "big") % _BLOOM_BITS)
    return bits


_TEMPLATE: dict[str, object] = {
    "hash": "",
    "number": "",
    "parentHash": "",
    "timestamp": "",
    "sha3Uncles": "0x" + _NO_UNCLES.hex(),
    "miner": "0x" + _MINER.hex(),
    "stateRoot": "0x" + _STATE_ROOT.hex(),
    "transactionsRoot": "0x" + EMPTY.transactions.hex(),
    "receiptsRoot": "0x" + EMPTY.receipts.hex(),
    "logsBloom": "0x" + EMPTY.bloom.hex(),
    "difficulty": "0x0",
    "gasLimit": hex(GAS_LIMIT),
    "gasUsed": "0x0",
    "extraData": "0x",
    "mixHash": "0x" + "00" * 32,
    "nonce": "0x" + "00" * 8,
    "baseFeePerGas": hex(_BASE_FEE),
    "withdrawalsRoot": "0x" + trie.EMPTY_ROOT.hex(),
    "blobGasUsed": "0x0",
    "excessBlobGas": "0x0",
    "parentBeaconBlockRoot": "0x" + "00" * 32,
    "requestsHash": "0x" + _NO_REQUESTS.hex(),
    "size": "0x29a",
    "transactions": [],
    "uncles": [],
    "withdrawals": [],
}
