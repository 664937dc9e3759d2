"""`Member`: a provider of a pool, which takes note of the heads its answers show."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from chains.errors import BlockNotFound
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
from chains.spans import WindowedReader
from chains.standing import Standing


class Member:
    """A `ChainReader`: the provider's own, with its standing."""

    def __init__(self, reader: WindowedReader, monotonic: Callable[[], float]) -> None:
        self.reader = reader
        self.name = reader.name
        self.standing = Standing(reader.name)
        self._monotonic = monotonic

    async def chain_id(self) -> ChainId:
        return await self.reader.chain_id()

    async def headers(self, wanted: Sequence[BlockNumber | Tag]) -> tuple[BlockRef | None, ...]:
        found = await self.reader.headers(wanted)
        for asked, header in zip(wanted, found, strict=True):
            if header is not None and asked is Tag.LATEST:
                self.standing.shows(header.number, self._monotonic())
            elif header is not None:
                self.standing.reached(header.number)
        return found

    async def read_span(self, span: BlockSpan, query: LogQuery, *, anchor: BlockNumber | None = None) -> SpanRead:
        try:
            read = await self.reader.read_span(span, query, anchor=anchor)
        except BlockNotFound:
            if self.standing.head is not None and self.standing.head >= span.last:
                self.standing.shows(BlockNumber(span.last - 1), self._monotonic())
            raise
        self.standing.reached(read.end.number)
        return read

    async def proof_material(self, block_hash: BlockHash) -> tuple[WireBlock, Sequence[WireReceipt]]:
        return await self.reader.proof_material(block_hash)

    async def token_facts(self, token: Address) -> TokenFacts:
        return await self.reader.token_facts(token)

    async def announcements(self, span: BlockSpan, tokens: frozenset[Address]) -> tuple[Announcement, ...]:
        return await self.reader.announcements(span, tokens)

    async def contract_calls(self, calls: Sequence[ContractCall]) -> tuple[bytes | None, ...]:
        return await self.reader.contract_calls(calls)

    async def close(self) -> None:
        await self.reader.close()
