"""Raw headers and logs to `BlockRef` and `Transfer`, every field checked. Pure.

A log becomes money later, so nothing is repaired here: a field that is not what the execution API says raises
`NodeInconsistent`, and the whole reading is thrown away. Passed over is what a contract may emit and is no payment:
ERC-721 transfers (the same topic0, the id as a fourth topic), transfers in an older form (parties in the data), amounts
that are not one word, parties that are no addresses (one odd token must not stop its chain); and logs that belong to no
transaction (hash zero, or the block's own hash: zkSync, Celo).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from chains.errors import NodeInconsistent
from chains.hex import read_bytes, read_hash, read_quantity
from chains.model import (
    Address,
    BaseUnits,
    BlockHash,
    BlockNumber,
    BlockRef,
    BlockSpan,
    ChainId,
    LogQuery,
    Transfer,
    TransferIdentity,
    TxHash,
)
from chains.wire import WireHeader, WireLog
from contracts_abi import TRANSFER_TOPIC

MAX_HEIGHT = 2**63 - 1
"""What a signed 64-bit column holds; no chain comes near."""
MAX_TIMESTAMP_S = 253_402_300_799
"""9999-12-31T23:59:59Z, the last second a `datetime` can say."""

_TRANSFER_TOPIC_HEX = "0x" + TRANSFER_TOPIC.hex()
_NO_TRANSACTION = bytes(32)
_PADDING = bytes(12)
_TRANSFER_TOPICS = 3
_WORD = 32


def block_ref(raw: WireHeader) -> BlockRef:
    """A header with its hashes at 32 bytes and its time in aware UTC."""
    timestamp_s = read_quantity(raw.timestamp, "block timestamp", maximum=MAX_TIMESTAMP_S)
    return BlockRef(
        number=BlockNumber(read_quantity(raw.number, "block number", maximum=MAX_HEIGHT)),
        hash=BlockHash(read_hash(raw.hash, "block hash")),
        parent_hash=BlockHash(read_hash(raw.parent_hash, "block parentHash")),
        time=datetime.fromtimestamp(timestamp_s, tz=UTC),
    )


def check_linked(headers: Iterable[BlockRef]) -> None:
    """Headers of one answer must be of one chain: one hash a height, and each the parent of the next height.

    Raises `NodeInconsistent`: the node changed forks between two calls, or is two nodes.
    """
    by_number: dict[BlockNumber, BlockRef] = {}
    for header in headers:
        if by_number.setdefault(header.number, header).hash != header.hash:
            raise NodeInconsistent(f"two headers of height {header.number} in one answer")
    for number, header in by_number.items():
        parent = by_number.get(BlockNumber(number - 1))
        if parent is not None and header.parent_hash != parent.hash:
            raise NodeInconsistent(f"header {number} does not stand on header {number - 1} of the same answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a `eth_getLogs` asked for: every log answered is held against it."""

    chain_id: ChainId
    span: BlockSpan
    query: LogQuery
    is_filtered: bool
    """The recipients were in the filter: a log to anybody else is then no answer to it."""


def transfers(logs: Iterable[WireLog], asked: Asked) -> tuple[Transfer, ...]:
    """The transfers the query wants, in (block, log index) order, with their ordinals.

    Equal logs of one transaction (token, parties, amount) are told apart by counting them in log order, which a
    filtered and an unfiltered reading do alike. Raises `NodeInconsistent` for a log that was not asked for, comes
    twice, is marked removed (the node is in the middle of a reorg), or puts one height or one transaction into two
    blocks.
    """
    known = _Known(asked)
    placed = [found for log in logs if (found := _placed(log, known)) is not None]
    placed.sort()
    _check_places(placed)
    return _numbered(placed, asked.chain_id)


class _Placed(NamedTuple):
    """A transfer that does not know its ordinal yet. A tuple, and sorted as one: there may be 100,000."""

    block_number: BlockNumber
    log_index: int
    block_hash: BlockHash
    tx_hash: TxHash
    token: Address
    sender: Address
    recipient: Address
    amount: BaseUnits


class _Known:
    """What was asked, as the text it will come back as: a log that is not wanted is passed over unconverted."""

    __slots__ = ("_heights", "is_filtered", "recipients", "span", "tokens")

    def __init__(self, asked: Asked) -> None:
        wanted = asked.query.recipients
        self.span = asked.span
        self.is_filtered = asked.is_filtered
        self.tokens = {"0x" + token.hex(): token for token in asked.query.tokens}
        self.recipients = (
            None if wanted is None else {"0x" + _PADDING.hex() + recipient.hex(): recipient for recipient in wanted}
        )
        self._heights: dict[str, BlockNumber] = {}

    def height(self, text: str) -> BlockNumber:
        """A height of the span, converted once for all logs of its block."""
        number = self._heights.get(text)
        if number is None:
            number = BlockNumber(read_quantity(text, "log blockNumber", maximum=MAX_HEIGHT))
            if number not in self.span:
                raise NodeInconsistent(f"a log of block {number}, asked was {self.span}")
            self._heights[text] = number
        return number


def _placed(log: WireLog, known: _Known) -> _Placed | None:
    """The transfer of one log; `None` when it is none, or is to nobody the query wants."""
    token = known.tokens.get(log.address) or known.tokens.get(log.address.lower())
    if token is None:
        raise NodeInconsistent(f"a log of another contract than asked ({log.address[:42]!a})")
    if log.removed:
        raise NodeInconsistent("a log marked removed: the node is changing forks")
    number = known.height(log.block_number)
    topics = log.topics
    if not topics or (topics[0] != _TRANSFER_TOPIC_HEX and topics[0].lower() != _TRANSFER_TOPIC_HEX):
        raise NodeInconsistent("a log with another topic0 than Transfer")
    recipient = _wanted_recipient(topics, known)
    if recipient is None or len(topics) != _TRANSFER_TOPICS:
        return None
    tx_hash = TxHash(read_hash(log.transaction_hash, "log transactionHash"))
    block_hash = BlockHash(read_hash(log.block_hash, "log blockHash"))
    if tx_hash in (_NO_TRANSACTION, block_hash):
        return None
    sender = _address(topics[1], "log topic 1")
    data = read_bytes(log.data, "log data", max(0, len(log.data) - len("0x")) // 2)
    if sender is None or len(data) != _WORD:
        return None
    return _Placed(
        number,
        read_quantity(log.log_index, "log logIndex"),
        block_hash,
        tx_hash,
        token,
        sender,
        recipient,
        BaseUnits(int.from_bytes(data)),
    )


def _wanted_recipient(topics: tuple[str, ...], known: _Known) -> Address | None:
    if len(topics) < _TRANSFER_TOPICS:
        if known.is_filtered:
            raise NodeInconsistent(f"a log with {len(topics)} topics, asked was for a recipient in the third")
        return None
    if known.recipients is None:
        return _address(topics[2], "log topic 2")
    recipient = known.recipients.get(topics[2]) or known.recipients.get(topics[2].lower())
    if recipient is None and known.is_filtered:
        raise NodeInconsistent("a log to another recipient than asked")
    return recipient


def _address(topic: str, field: str) -> Address | None:
    """The address in a topic: 12 zero bytes, then its 20; `None` for a word that is no address."""
    word = read_bytes(topic, field, _WORD)
    return Address(word[12:]) if word.startswith(_PADDING) else None


def _check_places(placed: list[_Placed]) -> None:
    """Duplicates are told by (transaction, index): some chains start the index anew in each transaction."""
    hashes: dict[BlockNumber, BlockHash] = {}
    blocks: dict[TxHash, BlockHash] = {}
    seen: set[tuple[TxHash, int]] = set()
    for found in placed:
        number, index, block_hash, tx_hash = found[:4]
        if hashes.setdefault(number, block_hash) != block_hash:
            raise NodeInconsistent(f"logs of two blocks at height {number}")
        if blocks.setdefault(tx_hash, block_hash) != block_hash:
            raise NodeInconsistent("logs of one transaction in two blocks")
        if (tx_hash, index) in seen:
            raise NodeInconsistent(f"log {index} of a transaction in block {number} came twice")
        seen.add((tx_hash, index))


def _numbered(placed: list[_Placed], chain_id: ChainId) -> tuple[Transfer, ...]:
    """Equal logs counted in log order: what is equal is everything but the place in the block."""
    counts: dict[tuple[object, ...], int] = {}
    numbered = []
    for found in placed:
        equal = found[3:]
        ordinal = counts.get(equal, 0)
        counts[equal] = ordinal + 1
        identity = TransferIdentity(
            chain_id=chain_id,
            tx_hash=found.tx_hash,
            token=found.token,
            sender=found.sender,
            recipient=found.recipient,
            amount=found.amount,
            ordinal=ordinal,
        )
        numbered.append(
            Transfer(
                identity=identity,
                block_number=found.block_number,
                block_hash=found.block_hash,
                log_index=found.log_index,
            )
        )
    return tuple(numbered)
