"""What a chain is made of: blocks, spans of blocks, token transfers. Pure values, no reading.

Bytes inside, 0x-hex at the edges (STYLE): hashes and addresses are `bytes` here and are turned
into text only by `settler.api.views`, the CLI and the logs. Amounts are integers of base units.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NewType

ChainId = NewType("ChainId", int)
"""EIP-155 chain id; `eip155:<id>` in CAIP-2."""
BlockNumber = NewType("BlockNumber", int)
"""Height of a block, 0 is genesis. Alone it names no block: only a hash does."""
BlockHash = NewType("BlockHash", bytes)
"""32 bytes."""
TxHash = NewType("TxHash", bytes)
"""32 bytes."""
Address = NewType("Address", bytes)
"""20 bytes."""
BaseUnits = NewType("BaseUnits", int)
"""An amount of a token in its smallest unit; 0 ≤ n < 2**256."""

UINT256_MAX = 2**256 - 1


class Tag(StrEnum):
    """A block tag of the execution API (https://ethereum.github.io/execution-apis)."""

    LATEST = "latest"
    SAFE = "safe"
    FINALIZED = "finalized"


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockRef:
    """A header as far as following a chain needs it."""

    number: BlockNumber
    hash: BlockHash
    parent_hash: BlockHash
    time: datetime
    """Block timestamp, aware UTC, whole seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSpan:
    """Blocks `first .. last`, both inclusive, at least one block."""

    first: BlockNumber
    last: BlockNumber

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.last:
            raise ValueError(f"a span needs 0 <= first <= last, got {self.first}..{self.last}")

    def __len__(self) -> int:
        return self.last - self.first + 1

    def __contains__(self, number: int) -> bool:
        return self.first <= number <= self.last

    def __str__(self) -> str:
        return f"{self.first}..{self.last}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token contract on one chain. Decimals belong to (chain, token), never to a symbol."""

    chain_id: ChainId
    symbol: str
    """The name the configuration gives it; unique on its chain."""
    address: Address
    decimals: int
    currency: str
    """What one token stands for, e.g. `USD`."""
    onchain_symbol: str | None = None
    """What `symbol()` must answer where it differs from `symbol` (e.g. `USD₮0`)."""
    is_symbol_known: bool = True
    """`False`: no source says what `symbol()` answers, so nothing is concluded from it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferIdentity:
    """What a payment is, whichever block it is mined in (RULES.md section 1).

    `ordinal` counts equal logs of that transaction in log order: all a filtered read can see.
    """

    chain_id: ChainId
    tx_hash: TxHash
    token: Address
    sender: Address
    recipient: Address
    amount: BaseUnits
    ordinal: int


class LabelKind(StrEnum):
    """Who says what a transfer is for (`chains.labels`)."""

    AUTHORIZATION = "eip3009"
    TRANSFER_REFERENCE = "erc7699"
    MEMO = "tip20"
    REQUEST = "request"
    COMMERCE = "commerce"


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """What another log of its transaction says a transfer is for. It moves no money."""

    kind: LabelKind
    key: bytes
    """32 bytes: the nonce, reference, memo or payment hash; of Request Network keccak-256 of the reference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSources:
    """Contracts beside the tokens whose labels are believed: anyone may deploy one that says anything."""

    proxies: frozenset[Address]
    """Request Network's ERC20FeeProxy."""
    escrows: frozenset[Address]
    """Base commerce-payments' AuthCaptureEscrow."""


TOKENS_ALONE = LabelSources(proxies=frozenset(), escrows=frozenset())
"""Only what the tokens themselves say is believed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """One ERC-20 `Transfer` log, with the place it has now. A reorg changes the place, not the identity."""

    identity: TransferIdentity
    block_number: BlockNumber
    block_hash: BlockHash
    log_index: int
    labels: tuple[Label, ...] = ()
    """Read for the recipients that the query wants labelled; empty for all others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogQuery:
    """Which transfers are asked for: those of `tokens` to `recipients` (`None`: to anybody)."""

    tokens: frozenset[Address]
    recipients: Set[Address] | None
    """Of any size, and never changed: who compares two readings had both asked with the same."""
    labelled: Set[Address] = frozenset()
    """Recipients whose transfers are to carry their labels: one call more for each of their transactions."""
    sources: LabelSources = TOKENS_ALONE

    def wants_labels(self, identity: TransferIdentity) -> bool:
        return identity.recipient in self.labelled and identity.amount > 0

    def wants(self, identity: TransferIdentity) -> bool:
        return identity.token in self.tokens and (self.recipients is None or identity.recipient in self.recipients)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanRead:
    """One provider's answer for a span, checked against what was asked.

    `end` is the header of `span.last`, asked in the same batch as the logs. `anchor` is the header asked
    beside it (usually `span.first - 1`), `None` when the node has no such block or none was asked.
    """

    span: BlockSpan
    end: BlockRef
    anchor: BlockRef | None
    transfers: tuple[Transfer, ...]
    """In (block, log index) order; only such as the query wants."""
    blocks: Mapping[BlockHash, BlockRef] = field(default_factory=dict)
    """Headers of every block a transfer stands in, each canonical on that provider at the time of reading."""
    log_count: int = field(default=0, compare=False)
    """Logs it was found among, wanted or not: how dense the span is. Other providers may have been asked otherwise."""

    def block_of(self, transfer: Transfer) -> BlockRef:
        return self.blocks[transfer.block_hash]


class AnnouncementKind(StrEnum):
    """What a token's contract may announce of itself (`chains.announcements`)."""

    PAUSED = "paused"
    UNPAUSED = "unpaused"
    UPGRADED = "upgraded"
    """It runs other code from then on."""
    DEPRECATED = "deprecated"
    """Another contract takes its place."""
    BLOCKED = "blocked"
    """An address can neither send nor receive."""
    UNBLOCKED = "unblocked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    token: Address
    kind: AnnouncementKind
    subject: Address | None
    """The address that is blocked, or the contract that takes over; `None` where none is named."""
    block_number: BlockNumber
    tx_hash: TxHash
    log_index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractCall:
    """A question to a contract, at the latest block."""

    to: Address
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """A feed's newest round: `answer` / 10**`decimals` of the quote currency for one token."""

    answer: int
    """May be zero or less: then the feed is broken."""
    decimals: int
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFacts:
    """What a token's contract says of itself."""

    has_code: bool
    decimals: int | None
    """`None`: the call reverted or answered something that is no uint8."""
    symbol: str | None
