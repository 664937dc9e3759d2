"""`ChainReader`: the one way the rest of the program reads a chain.

Promises of every implementation (the conformance suite runs them over a real node and the simulated chain):

- headers of one `headers` call, and header + logs of one `read_span` call, come from one provider, in one batch;
- every answer is checked against what was asked; a contradiction raises `NodeInconsistent`, never a partial result;
- a block the node does not have is `None` (`headers`) or `BlockNotFound` (`read_span`), never an empty list of logs;
- every call ends within a bound of time, or raises `Transient`.

What does not belong here: payments, cursors, policies, and anything that writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from chains.model import (
    Address,
    Announcement,
    BlockHash,
    BlockNumber,
    BlockRef,
    BlockSpan,
    ChainId,
    ContractCall,
    LogQuery,
    SpanRead,
    Tag,
    TokenFacts,
)
from chains.proof import WireBlock, WireReceipt


class ChainReader(Protocol):
    """One chain, readable. Every method raises `chains.errors.ChainError` and nothing else of the network's."""

    async def chain_id(self) -> ChainId:
        """The id the provider reports now (not the configured one)."""
        ...

    async def headers(self, wanted: Sequence[BlockNumber | Tag]) -> tuple[BlockRef | None, ...]:
        """One header a wanted block, in order; `None` where the provider has no such block.

        Raises `MethodUnsupported` for a tag the provider does not know.
        """
        ...

    async def read_span(self, span: BlockSpan, query: LogQuery, *, anchor: BlockNumber | None = None) -> SpanRead:
        """All transfers the query wants in `span` (inclusive), with the header of `span.last` and of `anchor`.

        The end header, the anchor header and the logs are asked in one batch of one provider. Raises `BlockNotFound`
        if the provider lacks `span.last`, `RangeTooWide` if it will not answer so wide a span.
        """
        ...

    async def proof_material(self, block_hash: BlockHash) -> tuple[WireBlock, Sequence[WireReceipt]]:
        """A block with its transaction hashes, and its receipts, as one provider answers them: material for
        `chains.proof.prove_block`, which holds it against the hash. Nothing is checked before that.

        Raises `BlockNotFound` if the provider lacks either, `MethodUnsupported` if it has no `eth_getBlockReceipts`.
        """
        ...

    async def token_facts(self, token: Address) -> TokenFacts:
        """Code, `decimals()` and `symbol()` of a token contract at the latest block."""
        ...

    async def announcements(self, span: BlockSpan, tokens: frozenset[Address]) -> tuple[Announcement, ...]:
        """What the tokens' contracts announced of themselves in `span` (inclusive), in order.

        Raises as `read_span`.
        """
        ...

    async def contract_calls(self, calls: Sequence[ContractCall]) -> tuple[bytes | None, ...]:
        """What contracts answer at the latest block, in order; `None` for one that reverts, or where there is none."""
        ...

    async def close(self) -> None:
        """Releases connections. Idempotent."""
        ...


class ProviderReader(ChainReader, Protocol):
    """A `ChainReader` of one provider, with the way that is left when a block has more logs than it answers with."""

    @property
    def name(self) -> str:
        """The provider's name: a host, never a URL."""
        ...

    async def read_block_by_receipts(
        self, number: BlockNumber, query: LogQuery, *, anchor: BlockNumber | None = None
    ) -> SpanRead:
        """As `read_span` of this one block, equal to it, but read from its receipts: no limit of logs applies.

        Raises `MethodUnsupported` if the provider has no `eth_getBlockReceipts`.
        """
        ...
