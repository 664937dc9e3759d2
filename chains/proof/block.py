"""`prove_block`: one node's answers held against the block's hash, once; then a proof for each payment. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from chains.errors import NodeInconsistent
from chains.hex import read_hash, to_hex
from chains.labels import RawLog, labels
from chains.model import (
    Address,
    BaseUnits,
    BlockHash,
    ChainId,
    Label,
    LogQuery,
    Transfer,
    TransferIdentity,
    TxHash,
)
from chains.proof import rlp, trie
from chains.proof.errors import ProofFailed
from chains.proof.evidence import Readers, ReceiptProof, position_of, remembering, verify
from chains.proof.header import RECEIPTS_ROOT, TIMESTAMP, TRANSACTIONS_ROOT, encode_header
from chains.proof.keccak import keccak
from chains.proof.profile import Profile, Status
from chains.proof.receipt import encode_receipt
from chains.proof.trie import Trie
from chains.proof.wire import WireBlock, WireReceipt
from contracts_abi import TRANSFER_TOPIC

_ZERO_ADDRESS = "0x" + "00" * 20
_PADDING = bytes(12)
_WORD = 32
_ADDRESS = 20
_TRANSFER_TOPICS = 3
_TRANSFER_HEAD = b"\xf8\x63\xa0" + TRANSFER_TOPIC + b"\xa0" + _PADDING
"""What stands in a receipt between token and sender of every transfer: RLP has one form for three topics."""
_TO_RECIPIENT = len(_TRANSFER_HEAD) + _ADDRESS + 1 + len(_PADDING)
"""From there to the recipient: the sender, the prefix of the third topic and its padding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenBlock:
    """A block whose header has its hash, and all of whose receipts are those its header commits to."""

    hash: BlockHash
    header: bytes = field(repr=False)
    receipts: tuple[bytes, ...] = field(repr=False)
    """As they are hashed, in order."""
    receipts_trie: Trie = field(repr=False)
    tx_hashes: tuple[bytes, ...] = field(repr=False)
    """As the node listed them; may have one more than there are receipts (Polygon)."""
    transactions_trie: Trie | None = field(repr=False)
    """Where raw transactions were given: `tx_hashes` is proven then."""
    places: Mapping[bytes, int] = field(repr=False)
    """Where in `tx_hashes` each stands."""
    readers: Readers = field(default_factory=remembering, repr=False, compare=False)

    def prove(self, transfer: Transfer) -> ReceiptProof:
        """The evidence that this transfer is in this block; `verify` has passed it. Raises `ProofFailed`."""
        if transfer.block_hash != self.hash:
            raise ProofFailed("the transfer stands in another block")
        index = self.places.get(transfer.identity.tx_hash)
        if index is None:
            raise ProofFailed("the block does not list the transaction")
        if index >= len(self.receipts):
            raise ProofFailed("the transaction is one the node appends, with a receipt that no trie holds")
        logs = self.readers.logs(self.receipts[index])
        proof = ReceiptProof(
            header=self.header,
            path=self.receipts_trie.path(index),
            tx_index=index,
            log_position=position_of(logs, transfer.identity),
            tx_hash=transfer.identity.tx_hash,
            transaction_path=self.transactions_trie.path(index) if self.transactions_trie is not None else None,
        )
        verify(proof, transfer, readers=self.readers)
        return proof

    def transfers(self, chain_id: ChainId, query: LogQuery) -> frozenset[TransferIdentity]:
        """All transfers the query wants in this block, by its receipts: a reading that lacks one left it out."""
        return frozenset(
            identity
            for tx_hash, receipt in zip(self.tx_hashes, self.receipts, strict=False)
            if _may_hold(receipt, query)
            for identity in self._transfers_of(chain_id, TxHash(tx_hash), receipt)
            if query.wants(identity)
        )

    def labels(self, found: Sequence[Transfer], query: LogQuery) -> dict[TransferIdentity, tuple[Label, ...]]:
        """What the proven receipts say that transfers are for; those that are in none of them are left out. Each
        receipt is read once, however many of its transfers are asked for.
        """
        by_tx: dict[TxHash, list[TransferIdentity]] = {}
        for transfer in found:
            by_tx.setdefault(transfer.identity.tx_hash, []).append(transfer.identity)
        said: dict[TransferIdentity, tuple[Label, ...]] = {}
        for tx_hash, identities in by_tx.items():
            if not self.has_receipt_of(tx_hash):
                continue
            try:
                logs = self.readers.logs(self.receipts[self.places[tx_hash]])
            except ProofFailed:
                continue  # of a transaction that failed: it moved nothing
            raw = [RawLog(address=log.address, topics=log.topics, data=log.data) for log in logs]
            by_position = labels(raw, query.sources, query.tokens)
            for identity in identities:
                with suppress(ProofFailed):
                    said[identity] = by_position.get(position_of(logs, identity), ())
        return said

    @property
    def timestamp_s(self) -> int:
        """Seconds since 1970, by the header."""
        fields = rlp.decode(self.header)
        assert isinstance(fields, list), "a header is a list: it was encoded as one"
        timestamp = fields[TIMESTAMP]
        assert isinstance(timestamp, bytes), "a quantity was encoded there"
        return int.from_bytes(timestamp, "big")

    def has_receipt_of(self, tx_hash: TxHash) -> bool:
        """The transaction is listed at a position that has a receipt in the trie."""
        return self.places.get(tx_hash, len(self.receipts)) < len(self.receipts)

    def lists(self, tx_hash: TxHash) -> bool:
        """The block lists the transaction, maybe as one that the node appended and no trie holds."""
        return tx_hash in self.places

    def _transfers_of(self, chain_id: ChainId, tx_hash: TxHash, receipt: bytes) -> Iterator[TransferIdentity]:
        try:
            logs = self.readers.logs(receipt)
        except ProofFailed:
            return  # of a transaction that failed: it moved nothing
        equal: Counter[tuple[Address, bytes, bytes, bytes]] = Counter()
        for log in logs:
            if len(log.topics) != _TRANSFER_TOPICS or log.topics[0] != TRANSFER_TOPIC or len(log.data) != _WORD:
                continue
            _, sender, recipient = log.topics
            if not (sender.startswith(_PADDING) and recipient.startswith(_PADDING)):
                continue
            token = Address(log.address)
            ordinal = equal[token, sender, recipient, log.data]
            equal[token, sender, recipient, log.data] += 1
            yield TransferIdentity(
                chain_id=chain_id,
                tx_hash=tx_hash,
                token=token,
                sender=Address(sender[len(_PADDING) :]),
                recipient=Address(recipient[len(_PADDING) :]),
                amount=BaseUnits(int.from_bytes(log.data, "big")),
                ordinal=ordinal,
            )


def prove_block(
    block: WireBlock,
    receipts: Sequence[WireReceipt],
    *,
    block_hash: BlockHash,
    profile: Profile,
    raw_transactions: Sequence[bytes] | None = None,
) -> ProvenBlock:
    """Holds one node's answers against the hash that the quorum agreed on. 3 to 5 ms for 200 receipts.

    `block`: `eth_getBlockByHash`, with transaction hashes or whole transactions. `receipts`: `eth_getBlockReceipts`.
    `raw_transactions`: all of the block's, as signed, in order (`debug_getRawBlock`, or one
    `eth_getRawTransactionByBlockHashAndIndex` each); with them the transaction hashes are proven too.

    Raises `Unprovable` for what this program does not know, and `NodeInconsistent` for what does not fit together:
    another provider may answer better.
    """
    header = encode_header(block, block_hash, profile)
    fields = rlp.decode(header)
    assert isinstance(fields, list), "a header is a list: it was encoded as one"
    encoded = [encode_receipt(receipt, profile) for receipt in receipts]
    built, kept = _matching_trie(encoded, receipts, fields[RECEIPTS_ROOT], profile)
    if built is None:
        raise _wrong_root(block_hash, len(receipts), profile)
    hashes = _tx_hashes(block)
    _check_listed(hashes, receipts[:kept])
    return ProvenBlock(
        hash=block_hash,
        header=header,
        receipts=tuple(encoded[:kept]),
        receipts_trie=built,
        tx_hashes=hashes,
        transactions_trie=_transactions_trie(raw_transactions, hashes[:kept], fields[TRANSACTIONS_ROOT]),
        places={tx_hash: index for index, tx_hash in enumerate(hashes)},
    )


def receipts_root(receipts: Sequence[WireReceipt], profile: Profile) -> bytes:
    """The root of exactly these receipts, 32 bytes."""
    return trie.build([encode_receipt(receipt, profile) for receipt in receipts]).root


def _may_hold(receipt: bytes, query: LogQuery) -> bool:
    """Whether the bytes of a wanted transfer are in the receipt. They may be in some log's data too: no answer, only
    the reason to decode it or not to.
    """
    at = receipt.find(_TRANSFER_HEAD)
    while at >= 0:
        if receipt[at - _ADDRESS : at] in query.tokens:
            recipient = receipt[at + _TO_RECIPIENT : at + _TO_RECIPIENT + _ADDRESS]
            if query.recipients is None or recipient in query.recipients:
                return True
        at = receipt.find(_TRANSFER_HEAD, at + 1)
    return False


def _matching_trie(
    encoded: Sequence[bytes], receipts: Sequence[WireReceipt], root: rlp.Item, profile: Profile
) -> tuple[Trie | None, int]:
    """The trie that has this root, and of how many receipts: all, or all but one that the node appended itself."""
    whole = trie.build(encoded)
    if whole.root == root:
        return whole, len(encoded)
    if profile.appends_synthetic and receipts and receipts[-1].sender == _ZERO_ADDRESS:
        rest = trie.build(encoded[:-1])
        if rest.root == root:
            return rest, len(encoded) - 1
    return None, 0


def _wrong_root(block_hash: BlockHash, count: int, profile: Profile) -> NodeInconsistent:
    what = f"the {count} receipts of block {to_hex(block_hash)} do not give its receiptsRoot"
    if profile.status is Status.UNVERIFIED:
        return NodeInconsistent(
            f"{what}: the node dropped, added or altered one, or the {profile.family} profile is wrong "
            f"({profile.basis})"
        )
    return NodeInconsistent(f"{what}: the node dropped, added or altered one")


def _tx_hashes(block: WireBlock) -> tuple[bytes, ...]:
    listed = block.get("transactions")
    if not isinstance(listed, list):
        raise NodeInconsistent("a block without its transactions")
    found: list[bytes] = []
    for each in listed:
        text = each.get("hash") if isinstance(each, Mapping) else each
        if not isinstance(text, str):
            raise NodeInconsistent("a block with a transaction that has no hash")
        found.append(read_hash(text, "block transaction"))
    if len(set(found)) != len(found):
        raise NodeInconsistent("a block that lists a transaction twice")
    return tuple(found)


def _check_listed(hashes: Sequence[bytes], receipts: Sequence[WireReceipt]) -> None:
    """Two answers of one node must at least tell the same hashes, in the same order."""
    if len(hashes) < len(receipts):
        raise NodeInconsistent(f"a block of {len(hashes)} transactions with {len(receipts)} receipts")
    for listed, receipt in zip(hashes, receipts, strict=False):
        told = receipt.transaction_hash
        # spelled alike they are equal: reading each again would cost as much as the rest of this function
        if told != to_hex(listed) and read_hash(told, "receipt transactionHash") != listed:
            raise NodeInconsistent("block and receipts list different transactions at one position")


def _transactions_trie(
    raw_transactions: Sequence[bytes] | None, hashes: Sequence[bytes], root: rlp.Item
) -> Trie | None:
    if raw_transactions is None:
        return None
    if any(len(raw) < trie.MIN_VALUE_BYTES for raw in raw_transactions):
        raise NodeInconsistent("a raw transaction too short to be one")
    built = trie.build(raw_transactions)
    if built.root != root:
        raise NodeInconsistent(f"the {len(raw_transactions)} raw transactions do not give the block's transactionsRoot")
    if tuple(keccak(raw) for raw in raw_transactions) != tuple(hashes):
        raise NodeInconsistent("the block lists other transaction hashes than its transactions have")
    return built
