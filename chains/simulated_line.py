"""`SimBlocks`: the canonical blocks of one chain in memory, a hundred bytes for each empty one, and what is found in
them.

    number          0    1    2    3    4
    content         -    -    2 txs -   -      kept for blocks that are not empty, with indices to find it by

What does not belong here: why a block is mined or replaced, and what its hash is made of (`chains.simulated_chain`).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from datetime import UTC, datetime

from chains.model import Address, BlockHash, BlockNumber, BlockRef, BlockSpan, Transfer, TxHash
from chains.simulated_blocks import Content, SimBlock
from chains.simulated_txs import SimTx


class SimBlocks:
    """From genesis to the head, without a gap. Changed at its end alone, by who inherits from it."""

    def __init__(self, genesis_hash: BlockHash, genesis_s: int, extra: bytes) -> None:
        self._hashes = [genesis_hash]
        self._times_s = array("q", [genesis_s])
        self._extras = [extra]
        """`extraData` of each block: names the fork it was mined on."""
        self._contents: dict[int, Content] = {}
        self._full: list[int] = []
        """Heights of blocks that are not empty, ascending."""
        self._tx_at: dict[TxHash, BlockNumber] = {}
        self._spent: dict[tuple[Address, int], TxHash] = {}
        """Which transaction took a sender's nonce."""
        self._moved_at: dict[tuple[Address, Address], list[int]] = {}
        """By token and holder, the heights at which something came or went, ascending."""

    @property
    def height(self) -> BlockNumber:
        """The head's."""
        return BlockNumber(len(self._hashes) - 1)

    @property
    def head(self) -> BlockRef:
        return self.ref_at(self.height)

    def ref_at(self, number: int) -> BlockRef:
        """Of a canonical block. Raises `IndexError` above the head."""
        return BlockRef(
            number=BlockNumber(number),
            hash=self._hashes[number],
            parent_hash=self._hashes[number - 1] if number else BlockHash(bytes(32)),
            time=datetime.fromtimestamp(self._times_s[number], tz=UTC),
        )

    def block_at(self, number: int) -> SimBlock | None:
        """The canonical block of a height, `None` above the head."""
        if not 0 <= number < len(self._hashes):
            return None
        content = self._contents.get(number)
        if content is None:
            return SimBlock(ref=self.ref_at(number), txs=(), transfers=())
        return SimBlock(ref=self.ref_at(number), txs=content.txs, transfers=content.transfers)

    def hash_at(self, number: int) -> BlockHash:
        return self._hashes[number]

    def time_s_at(self, number: int) -> int:
        """Timestamp, Unix seconds."""
        return self._times_s[number]

    def extra_at(self, number: int) -> bytes:
        """`extraData`."""
        return self._extras[number]

    def content_at(self, number: int) -> Content | None:
        """`None` for an empty block."""
        return self._contents.get(number)

    def contents(self, first: int, last: int) -> Iterator[Content]:
        """Blocks `first .. last` that are not empty, by height."""
        full = self._full
        for at in range(bisect_left(full, first), bisect_right(full, last)):
            yield self._contents[full[at]]

    def number_of(self, block_hash: bytes) -> BlockNumber | None:
        """The height of a canonical block; the newest are found soonest."""
        for number in range(len(self._hashes) - 1, -1, -1):
            if self._hashes[number] == block_hash:
                return BlockNumber(number)
        return None

    def find(self, tx_hash: bytes) -> BlockNumber | None:
        """The block a transaction stands in; `None`: in none."""
        return self._tx_at.get(TxHash(tx_hash))

    def takes(self, tx: SimTx) -> bool:
        """Whether the transaction may be mined: neither it nor another with its sender and nonce is."""
        if tx.hash in self._tx_at:
            return False
        return tx.sender is None or tx.nonce is None or (tx.sender, tx.nonce) not in self._spent

    def transfers(self, span: BlockSpan | None = None) -> tuple[Transfer, ...]:
        """Every canonical transfer (of `span`), in (block, log index) order: what a test holds the program against."""
        first, last = (0, self.height) if span is None else (span.first, span.last)
        return tuple([transfer for content in self.contents(first, last) for transfer in content.transfers])

    def balance_of(self, token: Address, holder: Address, *, at: int) -> int:
        """What came in less what went out, up to and with that block: nobody here had anything before."""
        total = 0
        for number in self._moved_at.get((token, holder), ()):
            if number > at:
                break
            for moved in (transfer.identity for transfer in self._contents[number].transfers):
                if moved.token == token:
                    total += moved.amount * ((moved.recipient == holder) - (moved.sender == holder))
        return total

    # -- changing its end ----------------------------------------------------------------------------------------------

    def _fill(self, content: Content) -> None:
        """Keeps what stands in the block that is pushed next."""
        number = content.number
        for receipt in content.receipts:
            tx = receipt.tx
            if tx.sender is not None and tx.nonce is not None:
                if self._spent.get((tx.sender, tx.nonce), tx.hash) != tx.hash:
                    raise ValueError(f"another transaction has sender and nonce of {tx.hash.hex()}")
                self._spent[tx.sender, tx.nonce] = tx.hash
            self._tx_at[tx.hash] = number
        self._contents[number] = content
        self._full.append(number)
        for heights in self._heights_of(content):
            if not heights or heights[-1] != number:
                heights.append(number)

    def _push(self, block_hash: BlockHash, time_s: int, extra: bytes) -> None:
        self._hashes.append(block_hash)
        self._times_s.append(time_s)
        self._extras.append(extra)

    def _cut(self, count: int) -> None:
        """Leaves the first `count` blocks."""
        for number in reversed(self._full[bisect_left(self._full, count) :]):
            content = self._contents.pop(number)
            for heights in self._heights_of(content):
                if heights and heights[-1] == number:
                    heights.pop()
            for receipt in content.receipts:
                tx = receipt.tx
                self._tx_at.pop(tx.hash, None)
                if tx.sender is not None and tx.nonce is not None:
                    self._spent.pop((tx.sender, tx.nonce), None)
            self._full.pop()
        del self._hashes[count:], self._times_s[count:], self._extras[count:]

    def _take(self, other: SimBlocks) -> None:
        """Becomes a copy of the other."""
        self._hashes = list(other._hashes)
        self._times_s = other._times_s[:]
        self._extras = list(other._extras)
        self._contents = dict(other._contents)
        self._full = list(other._full)
        self._tx_at = dict(other._tx_at)
        self._spent = dict(other._spent)
        self._moved_at = {key: list(heights) for key, heights in other._moved_at.items()}

    def _heights_of(self, content: Content) -> Iterator[list[int]]:
        for moved in (transfer.identity for transfer in content.transfers):
            for holder in (moved.sender, moved.recipient):
                yield self._moved_at.setdefault((moved.token, holder), [])

    def _top(self, depth: int) -> list[tuple[SimTx, ...]]:
        found = [self._contents.get(number) for number in range(len(self._hashes) - depth, len(self._hashes))]
        return [() if content is None else content.txs for content in found]
