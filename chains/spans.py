"""`WindowedReader`: one provider's reader that takes a span of any width, in as many pieces as this provider wants.

    read_span(1..5000)   provider refuses 2000 blocks, "max is 800"
      1 .. 799                        asked with the caller's anchor
              799 | 800 .. 1598       each further piece with the last block of the one before as its anchor:
                   1598 | 1599 ..     a hash that differs there is a fork between two pieces, and the reading is void

What the provider takes is learned here and kept: its cap of blocks, how dense its logs are just now, how long it
needs; and what we take ourselves, a few megabytes at a time. A block with more logs than it answers with is read token
by token, then by its receipts.

What does not belong here: reading pieces side by side (the caller divides), choosing among providers, and retries of
passing failures (`chains.rpc`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from chains.errors import NodeInconsistent, RangeTooWide, Rejected, ResultTooLarge, Timeout, Transient, Unknown
from chains.logs_window import NEW_PROVIDER, LogsWindow, bounded, narrowed, next_span, unanswered, widened
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
    Transfer,
    TxHash,
)
from chains.proof import WireBlock, WireReceipt
from chains.reader import ProviderReader

SLOW_S = 5.0
"""An answer that took longer narrows the next span: half the time-out of one attempt (`chains.rpc.TIMEOUT_S`)."""
SLOW_FLOOR_BLOCKS = 100
"""Slowness alone does not narrow below this: waiting for one's turn, or out a rate limit, looks the same, and more
requests make it worse. A time-out does narrow further."""
SLOW_STILL = 0.75
"""A narrower answer that took this part of the time a wider one did, or more, is not slow for its width."""
SILENCES_MAX = 2
"""Time-outs, or refusals in unknown words, of one piece before the error goes up. Each may have taken 45 s with
its retries (`chains.rpc`); the window stays narrowed, so that the next reading begins where this one gave up."""
SUGGESTIONS_BELIEVED = 3
"""Refusals of one piece whose suggested range is followed; after them the piece is halved, or a provider that always
suggests one block less would be asked ten thousand times."""


class WindowedReader:
    """A `ChainReader`. May be asked for several spans at once: what one of them learns, the others follow."""

    def __init__(
        self, reader: ProviderReader, *, monotonic: Callable[[], float], window: LogsWindow | None = None
    ) -> None:
        """`monotonic`: seconds that never go back. `window`: what is known of the provider already."""
        self._reader = reader
        self._monotonic = monotonic
        self._window = window or NEW_PROVIDER
        self._slow: tuple[int, float] | None = None
        """(blocks, seconds) of the last slow answer that width was blamed for; none since the last quick one."""

    @property
    def name(self) -> str:
        """The provider's name: a host, never a URL."""
        return self._reader.name

    @property
    def width(self) -> int:
        """Blocks that would now be asked for in one go."""
        return self._window.width

    @property
    def provider(self) -> ProviderReader:
        """The provider's own reader, which refuses what is too wide."""
        return self._reader

    async def chain_id(self) -> ChainId:
        return await self._reader.chain_id()

    async def headers(self, wanted: Sequence[BlockNumber | Tag]) -> tuple[BlockRef | None, ...]:
        return await self._reader.headers(wanted)

    async def read_span(self, span: BlockSpan, query: LogQuery, *, anchor: BlockNumber | None = None) -> SpanRead:
        """As `ChainReader.read_span`, but never raises `RangeTooWide`: a block with more than this provider answers in
        any way raises `Rejected`. One more header is asked for each further piece.

        Raises `NodeInconsistent` when the chain changed between two pieces. Bounded for each piece; how many pieces a
        span has is the caller's choice (`width`).
        """
        pieces = [await self._read_beginning(span, query, anchor)]
        while (last := pieces[-1].end).number < span.last:
            rest = BlockSpan(first=BlockNumber(last.number + 1), last=span.last)
            piece = await self._read_beginning(rest, query, last.number)
            if piece.anchor is None or piece.anchor.hash != last.hash:
                raise NodeInconsistent(f"{self.name}: block {last.number} was replaced while {span} was read in pieces")
            pieces.append(piece)
        return joined(span, pieces)

    async def proof_material(self, block_hash: BlockHash) -> tuple[WireBlock, Sequence[WireReceipt]]:
        return await self._reader.proof_material(block_hash)

    async def token_facts(self, token: Address) -> TokenFacts:
        return await self._reader.token_facts(token)

    async def announcements(self, span: BlockSpan, tokens: frozenset[Address]) -> tuple[Announcement, ...]:
        """As `ChainReader.announcements`, in pieces as wide as the provider takes. They are rare: no width is too much
        for their number, only for the provider's rules. Raises `Rejected` for a block it takes in no way.
        """
        found: list[Announcement] = []
        cursor, limit, refusals = BlockNumber(span.first - 1), len(span), 0
        while (piece := next_span(cursor, span.last, min(limit, self.width))) is not None:
            try:
                found += await self._reader.announcements(piece, tokens)
            except RangeTooWide as error:
                if len(piece) == 1:
                    raise Rejected(f"{self.name}: announcements of block {piece.first} are refused: {error}") from error
                refusals += 1
                self._refused(piece, error, is_believed=refusals <= SUGGESTIONS_BELIEVED)
                limit = len(piece) - 1
            else:
                cursor, limit = piece.last, len(span)
        return tuple(found)

    async def contract_calls(self, calls: Sequence[ContractCall]) -> tuple[bytes | None, ...]:
        return await self._reader.contract_calls(calls)

    async def close(self) -> None:
        await self._reader.close()

    # -- pieces --------------------------------------------------------------------------------------------------------

    async def _read_beginning(self, span: BlockSpan, query: LogQuery, anchor: BlockNumber | None) -> SpanRead:
        """As much of the beginning of `span` as the provider serves in one answer, at least one block."""
        limit = len(span)
        before = self._window
        refusals = silences = 0
        while True:
            # the limit of this piece never grows, whatever others learn meanwhile: so it ends
            limit = min(limit, self.width)
            piece = next_span(BlockNumber(span.first - 1), span.last, limit)
            assert piece is not None, "a span has at least one block"
            started = self._monotonic()
            try:
                read = await self._reader.read_span(piece, query, anchor=anchor)
            except RangeTooWide as error:
                if len(piece) == 1:
                    if not isinstance(error, ResultTooLarge):
                        # no range is narrower: it was not the width, and may come back by doubling
                        self._window = replace(self._window, careful_from=before.careful_from)
                    return await self._read_block(piece.first, query, anchor)
                refusals += 1
                self._refused(piece, error, is_believed=refusals <= SUGGESTIONS_BELIEVED)
                limit = min(self.width, len(piece) - 1)
            except (Timeout, Unknown):
                # unknown words may well be about the range: they are tried on a narrower one
                silences += 1
                self._window = unanswered(self._window, len(piece))
                limit = len(piece) // 2
                if len(piece) == 1 or silences >= SILENCES_MAX:
                    raise
            else:
                self._served(piece, logs=read.log_count, seconds=self._monotonic() - started)
                return read

    def _refused(self, piece: BlockSpan, error: RangeTooWide, *, is_believed: bool) -> None:
        suggested = error.max_span if is_believed else None
        self._window = narrowed(self._window, len(piece), suggested, is_cap=not isinstance(error, ResultTooLarge))

    def _served(self, piece: BlockSpan, *, logs: int, seconds: float) -> None:
        if seconds > SLOW_S:
            if len(piece) >= 2 * SLOW_FLOOR_BLOCKS and self._is_width_to_blame(len(piece), seconds):
                self._slow = (len(piece), seconds)
                self._window = narrowed(self._window, len(piece))
        else:
            self._slow = None
            if len(piece) >= self.width:
                self._window = widened(self._window)
            self._window = bounded(self._window, len(piece), logs)

    def _is_width_to_blame(self, blocks: int, seconds: float) -> bool:
        """Not where narrowing did not help before: then it is the way there, or a queue, and narrowing makes it
        longer.
        """
        return self._slow is None or blocks >= self._slow[0] or seconds < SLOW_STILL * self._slow[1]

    # -- one block that is too much ------------------------------------------------------------------------------------

    async def _read_block(self, number: BlockNumber, query: LogQuery, anchor: BlockNumber | None) -> SpanRead:
        """A block whose logs are refused as too many: token by token, and where that does not help by its receipts."""
        try:
            if len(query.tokens) > 1:
                return await self._read_by_token(number, query, anchor)
        except RangeTooWide:
            pass  # one token alone is too much
        try:
            return await self._reader.read_block_by_receipts(number, query, anchor=anchor)
        except ResultTooLarge as error:
            raise Rejected(f"{self.name}: block {number} is more than it answers with, in any way") from error
        except RangeTooWide as error:
            # Base's gateway says "no backend is currently healthy" of wide ranges, and when none is
            raise Transient(f"{self.name}: a single block is refused as too wide: it is out of order") from error

    async def _read_by_token(self, number: BlockNumber, query: LogQuery, anchor: BlockNumber | None) -> SpanRead:
        span = BlockSpan(first=number, last=number)
        reads = [
            await self._reader.read_span(span, replace(query, tokens=frozenset([token])), anchor=anchor)
            for token in sorted(query.tokens)
        ]
        if len({(read.end.hash, read.anchor and read.anchor.hash) for read in reads}) != 1:
            raise NodeInconsistent(f"{self.name}: block {number} was replaced while it was read token by token")
        found = sorted((each for read in reads for each in read.transfers), key=_place)
        if len({(each.identity.tx_hash, each.log_index) for each in found}) != len(found):
            raise NodeInconsistent(f"{self.name}: one log of block {number} was answered for two tokens")
        return replace(
            reads[0],
            transfers=tuple(found),
            blocks={hash_: ref for read in reads for hash_, ref in read.blocks.items()},
            log_count=sum(read.log_count for read in reads),
        )


# -- joining -----------------------------------------------------------------------------------------------------------


def joined(span: BlockSpan, pieces: Sequence[SpanRead]) -> SpanRead:
    """One reading of neighbouring pieces that cover `span`: equal to one answer for all of it.

    Ordinals count within a transaction, and a transaction stands in one block: no piece knows anything of another.
    Raises `NodeInconsistent` for a transaction that two pieces answered.
    """
    if len(pieces) == 1:
        return pieces[0]
    homes: dict[TxHash, BlockHash] = {}
    for each in (transfer for piece in pieces for transfer in piece.transfers):
        if homes.setdefault(each.identity.tx_hash, each.block_hash) != each.block_hash:
            raise NodeInconsistent("logs of one transaction in two blocks")
    return SpanRead(
        span=span,
        end=pieces[-1].end,
        anchor=pieces[0].anchor,
        transfers=tuple(transfer for piece in pieces for transfer in piece.transfers),
        blocks={block_hash: ref for piece in pieces for block_hash, ref in piece.blocks.items()},
        log_count=sum(piece.log_count for piece in pieces),
    )


def _place(transfer: Transfer) -> tuple[object, ...]:
    """The order of `chains.decode.transfers` within one block; some chains start the index anew in each transaction."""
    identity = transfer.identity
    return (transfer.log_index, identity.tx_hash, identity.token, identity.sender, identity.recipient, identity.amount)
