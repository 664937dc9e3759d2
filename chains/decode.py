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

from msgspec import UNSET

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
_ADDRESS_AT = len("0x") + 2 * len(_PADDING)
"""Where in a topic's text an address stands."""
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
    placed = _wanted(logs, asked)
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
    """What was asked, as the text it comes back as: most logs differ from the one before in nothing else."""

    __slots__ = ("_heights", "_tokens", "span", "tokens")

    def __init__(self, asked: Asked) -> None:
        self.span = asked.span
        self._tokens = {"0x" + token.hex(): token for token in asked.query.tokens}
        self.tokens = dict(self._tokens)
        """Those that were asked for, by every spelling that came."""
        self._heights: dict[str, BlockNumber] = {}

    def add_spelling(self, address: str) -> None:
        """Nodes answer checksums of upper and lower case."""
        token = self._tokens.get(address.lower())
        if token is None:
            raise NodeInconsistent(f"a log of another contract than asked ({address[:42]!a})")
        self.tokens[address] = token

    def height(self, text: str) -> BlockNumber:
        """A height of the span, converted once for all logs of its block."""
        number = self._heights.get(text)
        if number is None:
            number = BlockNumber(read_quantity(text, "log blockNumber", maximum=MAX_HEIGHT))
            if number not in self.span:
                raise NodeInconsistent(f"a log of block {number}, asked was {self.span}")
            self._heights[text] = number
        return number


def _wanted(logs: Iterable[WireLog], asked: Asked) -> list[_Placed]:
    """The transfers among the logs that the query wants, in the order of the answer.

    The one loop that runs for every log of the chain, also for those to nobody we know: few steps, and no call unless
    something is new or wanted.
    """
    known = _Known(asked)
    tokens, recipients, is_filtered = known.tokens, asked.query.recipients, asked.is_filtered
    from_hex, kind = bytes.fromhex, _TRANSFER_TOPIC_HEX
    placed: list[_Placed] = []
    height: str | None = None
    for log in logs:
        topics = log.topics
        if log.address not in tokens:
            known.add_spelling(log.address)
        if log.removed:
            raise NodeInconsistent("a log marked removed: the node is changing forks")
        if log.block_number != height:
            known.height(log.block_number)
            height = log.block_number
        if topics.kind != kind and (topics.kind is UNSET or topics.kind.lower() != kind):
            raise NodeInconsistent("a log with another topic0 than Transfer")
        to = topics.third
        if to is UNSET:
            if is_filtered:
                raise NodeInconsistent("a log without a third topic, asked was for a recipient in it")
            continue
        try:
            is_wanted = recipients is None or from_hex(to[_ADDRESS_AT:]) in recipients
        except ValueError:
            is_wanted = False
        # what was looked up is what it ends with: the whole of it is read here
        recipient = _address(to, "log topic 2") if is_wanted else None
        if recipient is None:
            if is_filtered:
                raise NodeInconsistent("a log to another recipient than asked")
        elif (found := _placed(log, recipient, known)) is not None:
            placed.append(found)
    return placed


def _placed(log: WireLog, recipient: Address, known: _Known) -> _Placed | None:
    """The transfer of a log; `None` when it is none."""
    sender = log.topics.second
    if sender is UNSET or log.topics.fourth is not UNSET:
        return None
    tx_hash = TxHash(read_hash(log.transaction_hash, "log transactionHash"))
    block_hash = BlockHash(read_hash(log.block_hash, "log blockHash"))
    if tx_hash in (_NO_TRANSACTION, block_hash):
        return None
    from_ = _address(sender, "log topic 1")
    data = read_bytes(log.data, "log data", max(0, len(log.data) - len("0x")) // 2)
    if from_ is None or len(data) != _WORD:
        return None
    return _Placed(
        known.height(log.block_number),
        read_quantity(log.log_index, "log logIndex"),
        block_hash,
        tx_hash,
        known.tokens[log.address],
        from_,
        recipient,
        BaseUnits(int.from_bytes(data)),
    )


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
