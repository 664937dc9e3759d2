"""`SimulatedChain`: a forking chain in memory, the same for the same seed and the same calls.

Nothing waits, nothing reads a clock, nothing is random: hashes, log indices and times follow from the seed and from
what was mined. Blocks carry ERC-20 transfers and nothing else; each block's log indices begin somewhere above zero, as
if others had logged before, so that a transaction mined again in another block stands at another index.

    chain = SimulatedChain(seed=7, chain_id=ChainId(8453))
    paid = chain.tx(SimTransfer(token=USDC, sender=alice, recipient=shop, amount=BaseUnits(100)))
    chain.mine([paid])                 #  0 | 1: paid
    chain.mine_empty(3)                #  0 | 1: paid | 2 | 3 | 4
    chain.reorg(4, shift=1)            #  0 | 1' | 2': paid | 3' | 4'

What it is not: a reader. `chains.simulated.SimulatedReader` reads it, with faults where they are wanted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from chains.model import (
    Address,
    Announcement,
    AnnouncementKind,
    BaseUnits,
    BlockHash,
    BlockNumber,
    BlockRef,
    BlockSpan,
    ChainId,
    ContractCall,
    Label,
    Tag,
    Token,
    TokenFacts,
    Transfer,
    TransferIdentity,
    TxHash,
)

START_TIME = datetime(2026, 1, 1, tzinfo=UTC)
BLOCK_TIME_S = 2
SAFE_LAG_BLOCKS = 32
FINALIZED_LAG_BLOCKS = 64
"""The lags anvil has, so that both ends of the conformance suite are alike."""

_FOREIGN_LOGS_MAX = 7
"""Log indices of a block begin at 0 .. 7, by its hash."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimTransfer:
    """What one ERC-20 log says."""

    token: Address
    sender: Address
    recipient: Address
    amount: BaseUnits
    labels: tuple[Label, ...] = ()
    """What other logs of the transaction say it is for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimTx:
    """A transaction: the same hash in whichever block it is mined."""

    hash: TxHash
    transfers: tuple[SimTransfer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SimBlock:
    ref: BlockRef
    txs: tuple[SimTx, ...]
    transfers: tuple[Transfer, ...]
    """In log order, ordinals set."""


class SimulatedChain:
    """One chain's canonical blocks, and how they change. Mutable: every reader of it sees the change at once."""

    def __init__(
        self,
        *,
        seed: int,
        chain_id: ChainId,
        start_time: datetime = START_TIME,
        block_time_s: int = BLOCK_TIME_S,
        safe_lag: int | None = SAFE_LAG_BLOCKS,
        finalized_lag: int | None = FINALIZED_LAG_BLOCKS,
    ) -> None:
        """A lag of `None`: the chain does not know that tag."""
        self.seed = seed
        self.id = chain_id
        self._block_time_s = block_time_s
        self._lags: dict[Tag, int | None] = {Tag.LATEST: 0, Tag.SAFE: safe_lag, Tag.FINALIZED: finalized_lag}
        self._tokens: dict[Address, TokenFacts] = {}
        self._announcements: list[Announcement] = []
        self._contracts: dict[Address, Callable[[bytes], bytes | None]] = {}
        self._fork = 0
        self._name = ""
        self._txs = 0
        genesis = BlockRef(
            number=BlockNumber(0),
            hash=BlockHash(_digest("genesis", seed, chain_id)),
            parent_hash=BlockHash(bytes(32)),
            time=start_time,
        )
        self._blocks: list[SimBlock] = [SimBlock(ref=genesis, txs=(), transfers=())]

    # -- looking -------------------------------------------------------------------------------------------------------

    @property
    def head(self) -> BlockRef:
        return self._blocks[-1].ref

    def block_at(self, number: int) -> SimBlock | None:
        """The canonical block of a height, `None` above the head."""
        return self._blocks[number] if 0 <= number < len(self._blocks) else None

    def transfers(self, span: BlockSpan | None = None) -> tuple[Transfer, ...]:
        """Every canonical transfer (of `span`), in (block, log index) order: what a test holds the program against."""
        first, last = (0, len(self._blocks) - 1) if span is None else (span.first, span.last)
        return tuple(transfer for block in self._blocks[first : last + 1] for transfer in block.transfers)

    def lag_of(self, tag: Tag) -> int | None:
        """Blocks the tag trails the head; `None`: not supported."""
        return self._lags[tag]

    @property
    def token_facts(self) -> Mapping[Address, TokenFacts]:
        return self._tokens

    @property
    def announcements(self) -> Sequence[Announcement]:
        """What tokens announced, in the order of their blocks; forks leave them where they are."""
        return self._announcements

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
        number = BlockNumber(self.head.number + 1)
        self._announcements.append(
            Announcement(
                token=token,
                kind=kind,
                subject=subject,
                block_number=number,
                tx_hash=TxHash(_digest("announcement", self.seed, len(self._announcements))),
                log_index=1_000 + len(self._announcements),
            )
        )

    def set_contract(self, at: Address, answer: Callable[[bytes], bytes | None]) -> None:
        """Puts a contract there that answers as `answer` says; `None`: it reverts."""
        self._contracts[at] = answer

    def set_finalized_lag(self, blocks: int | None, *, safe_blocks: int | None = None) -> None:
        """Moves the `finalized` tag, and `safe` to `safe_blocks` or half of that. It may move back, as real ones
        have."""
        self._lags[Tag.FINALIZED] = blocks
        self._lags[Tag.SAFE] = safe_blocks if safe_blocks is not None or blocks is None else blocks // 2

    def tx(self, *transfers: SimTransfer) -> SimTx:
        """A new transaction, in no block yet."""
        self._txs += 1
        return SimTx(hash=TxHash(_digest("tx", self.seed, self._name, self._txs)), transfers=transfers)

    def mine(self, txs: Sequence[SimTx] = (), *, after_s: int | None = None) -> BlockRef:
        """One block on the head. `after_s`: seconds since its parent, the chain's block time by default."""
        parent = self.head
        block = self._block(parent, tuple(txs), self._block_time_s if after_s is None else after_s)
        self._blocks.append(block)
        return block.ref

    def mine_empty(self, count: int) -> BlockRef:
        """`count` blocks without transfers."""
        for _ in range(count):
            self.mine()
        return self.head

    def reorg(
        self,
        depth: int,
        *,
        drop: Collection[TxHash] = (),
        shift: int = 0,
        length: int | None = None,
        add: Sequence[SimTx] = (),
    ) -> BlockRef:
        """Replaces the top `depth` blocks by `length` others (as many by default; fewer makes the head go back).

        Transactions of the replaced blocks are mined again, `shift` blocks later (at most in the last one), but for
        those in `drop`; `add` goes into the first new block. Times follow the block time.
        """
        if not 0 < depth < len(self._blocks):
            raise ValueError(f"cannot replace {depth} of {len(self._blocks) - 1} blocks above genesis")
        count = depth if length is None else length
        replaced = self._blocks[-depth:]
        del self._blocks[-depth:]
        self._fork += 1
        again: list[list[SimTx]] = [[] for _ in range(count)]
        if count:
            again[0].extend(add)
            for place, block in enumerate(replaced):
                again[min(place + shift, count - 1)] += [tx for tx in block.txs if tx.hash not in drop]
        for txs in again:
            self.mine(txs)
        return self.head

    def forked(self, name: str) -> SimulatedChain:
        """A second chain with the same past, whose further blocks are others: a node on its own fork."""
        twin = SimulatedChain(seed=self.seed, chain_id=self.id, block_time_s=self._block_time_s)
        twin._lags = dict(self._lags)
        twin._tokens = dict(self._tokens)
        twin._announcements = list(self._announcements)
        twin._contracts = dict(self._contracts)
        twin._blocks = list(self._blocks)
        twin._fork = self._fork
        twin._txs = self._txs
        twin._name = f"{self._name}/{name}"
        return twin

    def _block(self, parent: BlockRef, txs: tuple[SimTx, ...], after_s: int) -> SimBlock:
        number = BlockNumber(parent.number + 1)
        block_hash = BlockHash(
            _digest("block", parent.hash.hex(), number, self._name, self._fork, *(tx.hash.hex() for tx in txs))
        )
        ref = BlockRef(
            number=number,
            hash=block_hash,
            parent_hash=parent.hash,
            time=parent.time + timedelta(seconds=after_s),
        )
        return SimBlock(ref=ref, txs=txs, transfers=_logs(self.id, ref, txs))


def _logs(chain_id: ChainId, ref: BlockRef, txs: Sequence[SimTx]) -> tuple[Transfer, ...]:
    index = ref.hash[0] % (_FOREIGN_LOGS_MAX + 1)
    found: list[Transfer] = []
    for tx in txs:
        counts: dict[tuple[object, ...], int] = {}
        for sent in tx.transfers:
            equal = (sent.token, sent.sender, sent.recipient, sent.amount)
            ordinal = counts.get(equal, 0)
            counts[equal] = ordinal + 1
            identity = TransferIdentity(
                chain_id=chain_id,
                tx_hash=tx.hash,
                token=sent.token,
                sender=sent.sender,
                recipient=sent.recipient,
                amount=sent.amount,
                ordinal=ordinal,
            )
            found.append(
                Transfer(
                    identity=identity,
                    block_number=ref.number,
                    block_hash=ref.hash,
                    log_index=index,
                    labels=sent.labels,
                )
            )
            index += 1
    return tuple(found)


def _digest(*parts: object) -> bytes:
    return hashlib.blake2b("|".join(map(str, parts)).encode(), digest_size=32).digest()
