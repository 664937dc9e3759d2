"""`SimulatedChain`: a forking chain in memory, the same for the same seed and the same calls.

Nothing waits, nothing reads a clock, nothing is random: hashes, log indices and times follow from the seed and from
what was mined. Blocks carry token transfers with what other contracts say about them, announcements of tokens, and
whatever noise is put there; each block's log indices begin somewhere above zero, as if others had logged before, so
that a transaction mined again in another block stands at another index.

    chain = SimulatedChain(seed=7, chain_id=ChainId(8453))
    paid = chain.tx(SimTransfer(token=USDC, sender=alice, recipient=shop, amount=BaseUnits(100)))
    chain.mine([paid])                 #  0 | 1: paid
    chain.mine_empty(3)                #  0 | 1: paid | 2 | 3 | 4
    chain.reorg(4, shift=1)            #  0 | 1' | 2': paid | 3' | 4'

An empty block costs about 100 bytes and a few microseconds, so a chain may have a million of them.

What it is not: a reader. `chains.simulated.SimulatedReader` reads it, with faults where they are wanted, and
`chains.simulated_node.SimulatedNode` answers JSON-RPC for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from chains.labels import RawLog
from chains.model import (
    Address,
    Announcement,
    AnnouncementKind,
    BlockHash,
    BlockNumber,
    BlockRef,
    ChainId,
    ContractCall,
    LabelSources,
    Tag,
    Token,
    TokenFacts,
    TxHash,
)
from chains.simulated_blocks import Content, SimBlock, bodies_of, executed
from chains.simulated_forks import Fate, branch
from chains.simulated_headers import EMPTY, header_hash, roots_of
from chains.simulated_line import SimBlocks
from chains.simulated_tags import SimTags
from chains.simulated_txs import LABEL_SOURCES, SimTransfer, SimTx, announcement_log

__all__ = ["START_TIME", "Fate", "SimBlock", "SimTransfer", "SimTx", "SimulatedChain"]

START_TIME = datetime(2026, 1, 1, tzinfo=UTC)
BLOCK_TIME_S = 2
SAFE_LAG_BLOCKS = 32
FINALIZED_LAG_BLOCKS = 64
"""The lags anvil has, so that both ends of the conformance suite are alike."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)


class SimulatedChain(SimBlocks):
    """One chain's canonical blocks, and how they change. Mutable: every reader of it sees the change at once."""

    def __init__(
        self,
        *,
        seed: int,
        chain_id: ChainId,
        start_time: datetime = START_TIME,
        block_time_s: float = BLOCK_TIME_S,
        safe_lag: int | None = SAFE_LAG_BLOCKS,
        finalized_lag: int | None = FINALIZED_LAG_BLOCKS,
        has_real_headers: bool = False,
        label_sources: LabelSources = LABEL_SOURCES,
    ) -> None:
        """A lag of `None`: the chain does not know that tag. `block_time_s`: to the millisecond; timestamps are whole
        seconds, rounded down, so that blocks may share one.

        `has_real_headers`: block hashes are those of their headers, and these commit to the receipts, as `chains.proof`
        wants it; else hashes are invented. Costs some 10 µs a block.

        `label_sources`: the contracts whose logs name payments, at least one of each kind.
        """
        self.seed = seed
        self.id = chain_id
        self.has_real_headers = has_real_headers
        self.label_sources = label_sources
        self._block_time_ms = round(block_time_s * 1_000)
        self._tags = SimTags(safe_lag=safe_lag, finalized_lag=finalized_lag)
        self._tokens: dict[Address, TokenFacts] = {}
        self._announcements: list[Announcement] = []
        self._announced_at: dict[int, list[int]] = {}
        """By height, where in `_announcements`."""
        self._contracts: dict[Address, Callable[[bytes], bytes | None]] = {}
        self._fork = 0
        self._name = ""
        self._extra = self._new_extra()
        self._txs = 0
        self._head_ms = (start_time - _EPOCH) // _MS
        genesis_s = self._head_ms // 1_000
        genesis_hash = (
            header_hash(bytes(32), 0, genesis_s, self._extra, EMPTY)
            if has_real_headers
            else BlockHash(_digest("genesis", seed, chain_id))
        )
        super().__init__(genesis_hash, genesis_s, self._extra)

    # -- looking -------------------------------------------------------------------------------------------------------

    def height_of(self, tag: Tag, *, behind: int = 0) -> int | None:
        """Where a tag stands, to a node `behind` the head; `None`: the chain does not know it."""
        return self._tags.height_of(tag, self.height, behind=behind)

    @property
    def token_facts(self) -> Mapping[Address, TokenFacts]:
        return self._tokens

    @property
    def announcements(self) -> Sequence[Announcement]:
        """What tokens announced, in the order of their blocks; forks leave them at their height."""
        return self._announcements

    def has_code(self, at: Address) -> bool:
        return at in self._tokens or at in self._contracts

    def answer(self, call: ContractCall) -> bytes | None:
        """What a contract answers now."""
        answered = self._contracts.get(call.to)
        return None if answered is None else answered(call.data)

    # -- changing ------------------------------------------------------------------------------------------------------

    def add_token(self, token: Token) -> None:
        """Deploys a contract that answers as `token` says."""
        self._tokens[token.address] = TokenFacts(
            has_code=True, decimals=token.decimals, symbol=token.onchain_symbol or token.symbol
        )

    def announce(self, token: Address, kind: AnnouncementKind, subject: Address | None = None) -> None:
        """A token's contract announces something, in the next block."""
        number = BlockNumber(self.height + 1)
        place = len(self._announcements)
        self._announced_at.setdefault(number, []).append(place)
        self._announcements.append(
            Announcement(
                token=token,
                kind=kind,
                subject=subject,
                block_number=number,
                tx_hash=TxHash(_digest("announcement", self.seed, place)),
                log_index=0,
            )
        )

    def set_contract(self, at: Address, answer: Callable[[bytes], bytes | None]) -> None:
        """Puts a contract there that answers as `answer` says; `None`: it reverts."""
        self._contracts[at] = answer

    def set_finalized_lag(self, blocks: int | None, *, safe_blocks: int | None = None) -> None:
        """Moves the `finalized` tag, and `safe` to `safe_blocks` or half of that. It may move back, as real ones
        have."""
        self._tags.move(blocks, safe_blocks if safe_blocks is not None or blocks is None else blocks // 2)

    def hold_finality(self, is_held: bool) -> None:
        """Holds `safe` and `finalized` where they are while the head goes on, or lets them catch up."""
        self._tags.hold(is_held, self.height)

    def tx(
        self,
        *transfers: SimTransfer,
        sender: Address | None = None,
        instead_of: SimTx | None = None,
        noise: Sequence[RawLog] = (),
        has_failed: bool = False,
    ) -> SimTx:
        """A new transaction, in no block yet. `sender`: who sends it, the first payer by default. `instead_of`: one
        whose sender and nonce it has, so that a chain takes only one of the two. Else as `SimTx`.
        """
        self._txs += 1
        sender = sender or (transfers[0].sender if transfers else None)
        return SimTx(
            hash=TxHash(_digest("tx", self.seed, self._name, self._txs)),
            transfers=transfers,
            noise=tuple(noise),
            sender=sender if instead_of is None else instead_of.sender,
            nonce=self._txs if instead_of is None else instead_of.nonce,
            has_failed=has_failed,
        )

    def mine(self, txs: Sequence[SimTx] = (), *, after_s: float | None = None, at: datetime | None = None) -> BlockRef:
        """One block on the head. `after_s`: seconds since its parent, the chain's block time by default; `at`: its time
        instead, not before its parent's.
        """
        if at is not None:
            time_ms = (at - _EPOCH) // _MS
        else:
            time_ms = self._head_ms + (self._block_time_ms if after_s is None else round(after_s * 1_000))
        self._append(tuple(txs), time_ms)
        return self.head

    def mine_empty(self, count: int, *, until: datetime | None = None) -> BlockRef:
        """`count` blocks without transactions. `until`: the last one's time, the others spread evenly before it."""
        start_ms, block_ms = self._head_ms, self._block_time_ms
        whole_ms = count * block_ms if until is None else (until - _EPOCH) // _MS - start_ms
        for done in range(1, count + 1):
            self._append((), start_ms + whole_ms * done // count)
        return self.head

    def reorg(
        self,
        depth: int,
        *,
        drop: Collection[TxHash] = (),
        shift: int = 0,
        length: int | None = None,
        add: Sequence[SimTx] = (),
        swap: Mapping[TxHash, SimTx] | None = None,
        delay: Mapping[TxHash, int] | None = None,
        is_reversed: bool = False,
        until: datetime | None = None,
    ) -> tuple[Fate, ...]:
        """Replaces the top `depth` blocks by `length` others (as many by default; fewer makes the head go back).

        Transactions of the replaced blocks are mined again, `shift` blocks later (at most in the last one), but for
        those in `drop`; `add` goes into the first new block. `swap`: others in their places. `delay`: so many blocks
        later, beyond the last one not at all. Who has sender and nonce of one in `add` or `swap` gives way to it.
        `is_reversed`: in each new block the last comes first. Times follow the block time, or are spread up to `until`.
        Tags stay at their heights, on the new branch.

        Returns what became of each transaction that was replaced, in the order they stood.
        """
        self._check_depth(depth)
        count = depth if length is None else length
        replaced = self._top(depth)
        new = branch(
            replaced,
            length=count,
            drop=drop,
            shift=shift,
            add=add,
            swap=swap or {},
            delay=delay or {},
            is_reversed=is_reversed,
        )
        lowest = self.height - depth + 1
        self.replace_top(depth, new.blocks, until=until)
        return tuple(
            Fate(
                tx=tx,
                was_at=BlockNumber(lowest + place),
                is_at=self.find(tx.hash),
                replaced_by=new.replaced_by.get(tx.hash),
            )
            for place, txs in enumerate(replaced)
            for tx in txs
        )

    def replace_top(self, depth: int, blocks: Sequence[Sequence[SimTx]], *, until: datetime | None = None) -> None:
        """Puts exactly these blocks in the place of the top `depth`. Times as in `reorg`."""
        self._check_depth(depth)
        self._tags.keep(self.height)
        self._cut(len(self._hashes) - depth)
        self._head_ms = self.time_s_at(self.height) * 1_000
        self._fork += 1
        self._extra = self._new_extra()
        start_ms = self._head_ms
        whole_ms = len(blocks) * self._block_time_ms if until is None else (until - _EPOCH) // _MS - start_ms
        for done, txs in enumerate(blocks, 1):
            self._append(tuple(txs), start_ms + whole_ms * done // len(blocks))

    def forked(self, name: str) -> SimulatedChain:
        """A second chain with the same past, whose further blocks are others: a node on its own fork."""
        twin = SimulatedChain(
            seed=self.seed,
            chain_id=self.id,
            has_real_headers=self.has_real_headers,
            label_sources=self.label_sources,
        )
        twin._block_time_ms = self._block_time_ms
        twin._tags = self._tags.copy()
        twin._tokens = dict(self._tokens)
        twin._announcements = list(self._announcements)
        twin._announced_at = {number: list(places) for number, places in self._announced_at.items()}
        twin._contracts = dict(self._contracts)
        twin._head_ms = self._head_ms
        twin._take(self)
        twin._fork = self._fork
        twin._txs = self._txs
        twin._name = f"{self._name}/{name}"
        twin._extra = twin._new_extra()
        return twin

    def _check_depth(self, depth: int) -> None:
        if not 0 < depth < len(self._hashes):
            raise ValueError(f"cannot replace {depth} of {self.height} blocks above genesis")

    # -- blocks --------------------------------------------------------------------------------------------------------

    def _append(self, txs: tuple[SimTx, ...], time_ms: int) -> None:
        number = BlockNumber(len(self._hashes))
        if time_ms < self._head_ms:
            raise ValueError(f"block {number} would be older than its parent")
        time_s = time_ms // 1_000
        announced = self._announced_at.get(number)
        if txs or announced is not None:
            block_hash = self._filled(number, txs, announced or [], time_s)
        elif self.has_real_headers:
            block_hash = header_hash(self._hashes[-1], number, time_s, self._extra, EMPTY)
        else:
            block_hash = self._invented(number, txs)
        self._head_ms = time_ms
        self._push(block_hash, time_s, self._extra)

    def _filled(self, number: BlockNumber, txs: tuple[SimTx, ...], announced: Sequence[int], time_s: int) -> BlockHash:
        """Keeps what stands in the block, and returns its hash."""
        loud = tuple(self._loud(self._announcements[place]) for place in announced)
        receipts = executed((*txs, *loud), self.label_sources)
        if self.has_real_headers:
            roots = roots_of(bodies_of(receipts))
            block_hash = header_hash(self._hashes[-1], number, time_s, self._extra, roots)
        else:
            roots, block_hash = None, self._invented(number, txs)
        content = Content(number, block_hash, chain_id=self.id, txs=txs, receipts=receipts, roots=roots)
        self._fill(content)
        indices = content.log_indices()[len(txs) :]
        for place, index in zip(announced, indices, strict=True):
            self._announcements[place] = replace(self._announcements[place], log_index=index)
        return block_hash

    def _invented(self, number: int, txs: Sequence[SimTx]) -> BlockHash:
        told = (tx.hash.hex() for tx in txs)
        return BlockHash(_digest("block", self._hashes[-1].hex(), number, self._name, self._fork, *told))

    def _new_extra(self) -> bytes:
        return _digest("extra", self.seed, self.id, self._name, self._fork)[:8]

    @staticmethod
    def _loud(announcement: Announcement) -> SimTx:
        """The transaction in which a token announces."""
        return SimTx(hash=announcement.tx_hash, transfers=(), noise=(announcement_log(announcement),))


def _digest(*parts: object) -> bytes:
    return hashlib.blake2b("|".join(map(str, parts)).encode(), digest_size=32).digest()
