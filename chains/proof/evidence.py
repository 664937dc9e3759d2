"""`ReceiptProof`: what is stored with a settlement, and checked again without any node, now or in ten years. Pure.

What `verify` shows, given that the block hash is the right one:

    block hash ◀─keccak─ header ──receiptsRoot──▶ path of nodes ──▶ receipt: status 1, the transfer at `log_position`

- the header is that block's, and its height is the transfer's;
- the receipt at `tx_index` of that block is exactly this one, and its transaction succeeded;
- its log at `log_position` is the transfer: token, sender, recipient, amount; and so many equal logs stand before it
  in that transaction as the transfer's `ordinal` says, so one log never proves two payments.

What it does not show:

- that the block is canonical or final: this rests on the quorum that agreed on its hash;
- the transaction's hash, unless `transaction_path` is there (`is_transaction_proven`): receipts do not hold it. It is
  else what the node listed at `tx_index` of the block's transactions, and a lying node can put another hash beside a
  true payment. (block hash, `tx_index`, `log_position`) names the payment beyond doubt either way;
- the log's index in the block, the transaction's sender, and the contract it created: nothing commits to them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from chains.errors import NodeInconsistent
from chains.hex import read_bytes, read_hash, to_hex
from chains.model import Transfer, TransferIdentity, TxHash
from chains.proof import rlp, trie
from chains.proof.errors import ProofFailed
from chains.proof.header import LEAST_FIELDS, NUMBER, RECEIPTS_ROOT, TRANSACTIONS_ROOT
from chains.proof.keccak import keccak
from chains.proof.receipt import Log, decode_receipt
from contracts_abi import TRANSFER_TOPIC

VERSION = 1
"""Of the JSON. A reader refuses what it does not know."""
MAX_PATH_NODES = 10
"""rlp(index) has at most 10 nibbles for 2**32 transactions in a block."""

_PADDING = bytes(12)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptProof:
    header: bytes
    """As it is hashed."""
    path: tuple[bytes, ...]
    """Nodes of the receipts trie from the root to the leaf, which holds the receipt."""
    tx_index: int
    """Position of the transaction in its block, from 0: the key in the trie."""
    log_position: int
    """Position of the log in its receipt, from 0. Not the log's index in the block."""
    tx_hash: TxHash
    """What the node listed at `tx_index`."""
    transaction_path: tuple[bytes, ...] | None = None
    """Nodes of the transactions trie, to the transaction of that hash. `None`: the hash is taken on the node's word."""

    @property
    def is_transaction_proven(self) -> bool:
        return self.transaction_path is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Readers:
    """How the parts of a proof are read. Proofs of one block share its header and most nodes: see `remembering`."""

    hash_of: Callable[[bytes], bytes]
    decoded: Callable[[bytes], rlp.Item]
    logs: Callable[[bytes], tuple[Log, ...]]
    """Of a receipt: `read_logs`."""
    hex_of: Callable[[bytes], str]


def verify(proof: ReceiptProof, transfer: Transfer, *, readers: Readers | None = None) -> None:
    """Returns if the proof shows this transfer in the block `transfer.block_hash`. Raises `ProofFailed` saying why not.

    Takes nothing from the proof on trust; for what is shown and what is not, see the module. `readers`: of
    `remembering`, for whoever verifies many proofs of one block.
    """
    using = readers or _PLAIN
    try:
        roots = _header_roots(proof, transfer, using)
        logs = using.logs(_value(roots.receipts, proof.tx_index, proof.path, using))
        if proof.transaction_path is not None:
            raw = _value(roots.transactions, proof.tx_index, proof.transaction_path, using)
            if keccak(raw) != proof.tx_hash:
                raise ProofFailed("the transaction at this position has another hash")
    except rlp.Malformed as error:
        raise ProofFailed(str(error)) from error
    if proof.tx_hash != transfer.identity.tx_hash:
        raise ProofFailed("the proof is for another transaction")
    _check_log(logs, proof.log_position, transfer.identity)


def position_of(logs: Sequence[Log], identity: TransferIdentity) -> int:
    """Where in the receipt's logs the transfer stands: the `ordinal`-th of the equal ones. Raises `ProofFailed`."""
    equal = [position for position, log in enumerate(logs) if _is(log, identity)]
    if identity.ordinal >= len(equal):
        raise ProofFailed(f"the receipt has {len(equal)} such logs, the transfer is number {identity.ordinal + 1}")
    return equal[identity.ordinal]


def read_logs(encoded: bytes) -> tuple[Log, ...]:
    """The logs of a receipt whose transaction succeeded. Raises `ProofFailed`."""
    try:
        receipt = decode_receipt(encoded)
    except rlp.Malformed as error:
        raise ProofFailed(str(error)) from error
    if receipt.is_success is None:
        raise ProofFailed("a receipt from before Byzantium, which does not say whether the transaction succeeded")
    if not receipt.is_success:
        raise ProofFailed("the transaction failed")
    return receipt.logs


_PLAIN = Readers(hash_of=keccak, decoded=rlp.decode, logs=read_logs, hex_of=to_hex)


def remembering() -> Readers:
    """Readers that read the very same bytes once: what they say follows from all of the bytes and nothing else, so a
    proof passes with them exactly when it does without. They hold what they have read as long as they live.
    """
    return Readers(
        hash_of=functools.cache(keccak),
        decoded=functools.cache(rlp.decode),
        logs=functools.cache(read_logs),
        hex_of=functools.cache(to_hex),
    )


def to_json(proof: ReceiptProof, *, hex_of: Callable[[bytes], str] = to_hex) -> dict[str, object]:
    """Plain JSON: integers, 0x hex, lists. `hex_of`: of `remembering`; proofs of one block then share their texts."""
    tx_path = proof.transaction_path
    return {
        "version": VERSION,
        "header": hex_of(proof.header),
        "path": [hex_of(node) for node in proof.path],
        "tx_index": proof.tx_index,
        "log_position": proof.log_position,
        "tx_hash": hex_of(proof.tx_hash),
        "transaction_path": None if tx_path is None else [hex_of(node) for node in tx_path],
    }


def from_json(stored: Mapping[str, object]) -> ReceiptProof:
    """The proof `to_json` gave. Raises `ProofFailed` for anything else; what it says is for `verify` to judge."""
    if not isinstance(stored, Mapping):
        raise ProofFailed("stored evidence is no object")
    if stored.get("version") != VERSION:
        raise ProofFailed(f"stored evidence of version {ascii(stored.get('version'))[:24]}; known is {VERSION}")
    tx_path = stored.get("transaction_path")
    try:
        return ReceiptProof(
            header=_bytes(stored.get("header")),
            path=_path(stored.get("path")),
            tx_index=_count(stored.get("tx_index")),
            log_position=_count(stored.get("log_position")),
            tx_hash=TxHash(read_hash(_text(stored.get("tx_hash")), "tx_hash")),
            transaction_path=None if tx_path is None else _path(tx_path),
        )
    except NodeInconsistent as error:
        raise ProofFailed(f"stored evidence: {error}") from error


# -- steps of verify ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Roots:
    receipts: bytes
    transactions: bytes


def _header_roots(proof: ReceiptProof, transfer: Transfer, using: Readers) -> _Roots:
    if using.hash_of(proof.header) != transfer.block_hash:
        raise ProofFailed("the header has not the block's hash")
    fields = using.decoded(proof.header)
    if not isinstance(fields, list) or len(fields) < LEAST_FIELDS:
        raise ProofFailed("the header has too few fields")
    receipts, transactions, number = fields[RECEIPTS_ROOT], fields[TRANSACTIONS_ROOT], fields[NUMBER]
    if not (isinstance(receipts, bytes) and isinstance(transactions, bytes) and isinstance(number, bytes)):
        raise ProofFailed("the header has lists where roots and number were due")
    if int.from_bytes(number, "big") != transfer.block_number:
        raise ProofFailed("the header has another height")
    return _Roots(receipts=receipts, transactions=transactions)


def _value(root: bytes, index: int, path: Sequence[bytes], using: Readers) -> bytes:
    return trie.value_at(root, index, path, hash_of=using.hash_of, decoded=using.decoded)


def _check_log(logs: Sequence[Log], position: int, identity: TransferIdentity) -> None:
    if not 0 <= position < len(logs):
        raise ProofFailed(f"the receipt has {len(logs)} logs, none at position {position}")
    log = logs[position]
    if log.address != identity.token:
        raise ProofFailed("the log is of another contract than the token")
    if not _is(log, identity):
        raise ProofFailed("the log is not this transfer: its parties or its amount differ")
    if position_of(logs, identity) != position:
        raise ProofFailed(f"the log is not number {identity.ordinal + 1} of the equal ones in its transaction")


def _is(log: Log, identity: TransferIdentity) -> bool:
    return (
        log.address == identity.token
        and log.topics == (TRANSFER_TOPIC, _PADDING + identity.sender, _PADDING + identity.recipient)
        and log.data == identity.amount.to_bytes(32, "big")
    )


# -- stored values -----------------------------------------------------------------------------------------------------


def _path(value: object) -> tuple[bytes, ...]:
    if not isinstance(value, list) or len(value) > MAX_PATH_NODES:
        raise ProofFailed(f"stored evidence: a path is not a list of at most {MAX_PATH_NODES} nodes")
    return tuple(_bytes(node) for node in value)


def _bytes(value: object) -> bytes:
    text = _text(value)
    return read_bytes(text, "bytes", max(0, len(text) // 2 - 1))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ProofFailed("stored evidence: hex is missing")
    return value


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ProofFailed("stored evidence: a position is missing")
    return value
