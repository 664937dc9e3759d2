"""`EvmReader`: a chain read from one provider. The checks that need two answers side by side are here.

    one tick, idle, is three calls in two batches (RULES.md section 1):
    headers([latest, finalized])                        2 calls
    read_span: [anchor header,] end header, getLogs     2 or 3 calls, only when there are new blocks

What does not belong here: choosing, comparing or trusting several providers (a pool is a `ChainReader` made of these).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from chains.announcements import announcements
from chains.bloom import check_held, is_doubtful, read_bloom
from chains.decode import Asked, check_linked, transfers
from chains.errors import (
    BlockNotFound,
    ChainError,
    FilterTooLong,
    MethodUnsupported,
    NodeInconsistent,
    RangeTooWide,
    Rejected,
    Reverted,
)
from chains.evm_calls import (
    Header,
    announcements_call,
    asks_logs,
    call_call,
    checked,
    header_call,
    header_of,
    logs_call,
)
from chains.hex import read_bytes, read_hash, read_quantity, to_hex, to_quantity
from chains.labelling import transactions_to_label, with_labels
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
from chains.planning import Filters, Learned, answered, plan, refused
from chains.proof import BLOCK, RECEIPTS, WireBlock, WireReceipt
from chains.receipts import transfer_logs
from chains.replies import Call
from chains.rpc import MAX_BATCH, RpcProvider
from chains.tokens import read_token_facts
from chains.wire import LISTING, LOG_RECEIPT, LOG_RECEIPTS, TEXT, WireHeader, WireListing, WireLog, WireLogReceipt

RECEIPTS_BATCH = 20
"""Receipts asked at once for their labels: a batch payout's may be a megabyte."""


class EvmReader:
    """A `ChainReader` over one provider. `chain_id` is the configured one: it becomes part of every identity."""

    def __init__(self, provider: RpcProvider, *, chain_id: ChainId, check_bloom: bool = False) -> None:
        """`check_bloom`: the headers of this chain commit to the logs of their own blocks, so that `logsBloom` speaks
        for or against an answer. So they do where receipts are proven, but for logs that nodes append to a block
        (Polygon's bridged deposits, `Profile.appends_synthetic`); elsewhere a bloom may be all zeros.
        """
        self._provider = provider
        self._chain_id = chain_id
        self._checks_bloom = check_bloom
        self._learned = Learned()

    @property
    def name(self) -> str:
        """The provider's name: a host, never a URL."""
        return self._provider.name

    async def chain_id(self) -> ChainId:
        """What the provider says now; whether it is the configured one is the caller's question."""
        return ChainId(read_quantity(await self._provider.call("eth_chainId", [], TEXT), "eth_chainId"))

    async def headers(self, wanted: Sequence[BlockNumber | Tag]) -> tuple[BlockRef | None, ...]:
        """As `ChainReader.headers`: exactly one call each, in one batch up to `MAX_BATCH`."""
        return tuple([None if header is None else header.ref for header in await self._headers(wanted)])

    async def read_span(self, span: BlockSpan, query: LogQuery, *, anchor: BlockNumber | None = None) -> SpanRead:
        """As `ChainReader.read_span`. Two calls, three with an anchor, and one more for each block with transfers,
        and for each transaction whose transfers are to be labelled; a few more where one answer would be megabytes
        (`chains.planning`).

        With `check_bloom`, two more when the bloom of the last block speaks against an answer without its logs.
        """
        filters = plan(len(span), query.recipients, self._learned) if asks_logs(query) else ()
        try:
            anchor_header, end, logs = await self._span_batch(span, query, filters, anchor)
        except FilterTooLong:
            if not filters:
                raise
            self._learned = refused(self._learned, len(filters[0]))
            return await self.read_span(span, query, anchor=anchor)
        if end is None:
            raise BlockNotFound(f"{self.name}: block {span.last} is not there yet")
        check_linked(header.ref for header in (anchor_header, end) if header is not None)
        asked = Asked(
            chain_id=self._chain_id,
            span=span,
            query=query,
            is_filtered=filters is not None,
        )
        wanted = transfers(logs, asked)
        self._learned = answered(self._learned, filters, blocks=len(span), logs=len(logs), wanted=len(wanted))
        found = await self._labelled(wanted, query)
        await self._check_nothing_left_out(end, logs, query, filters)
        return SpanRead(
            span=span,
            end=end.ref,
            anchor=None if anchor_header is None else anchor_header.ref,
            transfers=found,
            blocks=await self._blocks_of(found, (end,) if anchor_header is None else (end, anchor_header)),
            log_count=len(logs),
        )

    async def read_block_by_receipts(
        self, number: BlockNumber, query: LogQuery, *, anchor: BlockNumber | None = None
    ) -> SpanRead:
        """As `ProviderReader.read_block_by_receipts`. Two calls in one batch, three with an anchor."""
        anchor_header, listing, receipts = await self._receipts_batch(number, anchor)
        end = checked(number, listing)
        held = (end,) if anchor_header is None else (end, anchor_header)
        check_linked(header.ref for header in held)
        span = BlockSpan(first=number, last=number)
        asked = Asked(chain_id=self._chain_id, span=span, query=query, is_filtered=False)
        found = with_labels(
            transfers(transfer_logs(listing, receipts, query), asked),
            {TxHash(read_hash(each.transaction_hash, "receipt transactionHash")): each for each in receipts},
            query,
        )
        return SpanRead(
            span=span,
            end=end.ref,
            anchor=None if anchor_header is None else anchor_header.ref,
            transfers=found,
            blocks=await self._blocks_of(found, held),
        )

    async def proof_material(self, block_hash: BlockHash) -> tuple[WireBlock, Sequence[WireReceipt]]:
        """As `ChainReader.proof_material`. Two calls in one batch."""
        wanted = to_hex(block_hash)
        of_block = Call(method="eth_getBlockByHash", params=[wanted, False], result=BLOCK)
        of_receipts = Call(method="eth_getBlockReceipts", params=[wanted], result=RECEIPTS)
        calls: list[Call[WireBlock | list[WireReceipt] | None]] = [of_block, of_receipts]
        block, receipts = await self._provider.batch(calls)
        if block is None or receipts is None:
            raise BlockNotFound(f"{self.name}: block {wanted} is not there, or its receipts are not")
        return cast("WireBlock", block), cast("list[WireReceipt]", receipts)

    async def token_facts(self, token: Address) -> TokenFacts:
        """As `ChainReader.token_facts`."""
        return await read_token_facts(self._provider, token)

    async def announcements(self, span: BlockSpan, tokens: frozenset[Address]) -> tuple[Announcement, ...]:
        """As `ChainReader.announcements`. Two calls in one batch: the header of the end shows that the node has it."""
        if not tokens:
            return ()
        calls: list[Call[WireHeader | list[WireLog] | None]] = [
            header_call(span.last),
            announcements_call(span, tokens),
        ]
        header, logs = await self._provider.batch_outcomes(calls)
        if header_of(span.last, cast("WireHeader | ChainError | None", header)) is None:
            raise BlockNotFound(f"{self.name}: block {span.last} is not there yet")
        if isinstance(logs, ChainError):
            raise logs
        return announcements(cast("list[WireLog]", logs), span, tokens)

    async def contract_calls(self, calls: Sequence[ContractCall]) -> tuple[bytes | None, ...]:
        """As `ChainReader.contract_calls`. One call each, in batches."""
        found: list[bytes | None] = []
        for start in range(0, len(calls), MAX_BATCH):
            some = [call_call(call) for call in calls[start : start + MAX_BATCH]]
            for outcome in await self._provider.batch_outcomes(some):
                if isinstance(outcome, ChainError) and not isinstance(outcome, Reverted):
                    raise outcome
                found.append(None if isinstance(outcome, Reverted) else _answer(outcome))
        return tuple(found)

    async def close(self) -> None:
        await self._provider.close()

    # -- batches -------------------------------------------------------------------------------------------------------

    async def _headers(self, wanted: Sequence[BlockNumber | Tag]) -> list[Header | None]:
        found: list[Header | None] = []
        for start in range(0, len(wanted), MAX_BATCH):
            found += await self._headers_batch(wanted[start : start + MAX_BATCH])
        check_linked(header.ref for header in found if header is not None)
        return found

    async def _headers_batch(self, wanted: Sequence[BlockNumber | Tag]) -> list[Header | None]:
        outcomes = await self._provider.batch_outcomes([header_call(block) for block in wanted])
        return [header_of(block, outcome) for block, outcome in zip(wanted, outcomes, strict=True)]

    async def _span_batch(
        self, span: BlockSpan, query: LogQuery, filters: Filters | None, anchor: BlockNumber | None
    ) -> tuple[Header | None, Header | None, list[WireLog]]:
        """(anchor, end, logs) of one batch; no filters at all ask for no logs, since nodes read `[]` as anything."""
        blocks = [span.last] if anchor is None else [anchor, span.last]
        calls: list[Call[WireHeader | list[WireLog] | None]] = [header_call(block) for block in blocks]
        calls += [logs_call(span, query, recipients) for recipients in ((None,) if filters is None else filters)]
        outcomes = await self._provider.batch_outcomes(calls)
        headers = [
            header_of(block, cast("WireHeader | ChainError | None", outcome))
            for block, outcome in zip(blocks, outcomes, strict=False)
        ]
        end = headers[-1]
        if end is None:
            return None, None, []
        logs: list[WireLog] = []
        for answer in outcomes[len(blocks) :]:
            if isinstance(answer, ChainError):
                raise answer
            logs += cast("list[WireLog]", answer)
        return (headers[0] if anchor is not None else None), end, logs

    async def _receipts_batch(
        self, number: BlockNumber, anchor: BlockNumber | None
    ) -> tuple[Header | None, WireListing, list[WireLogReceipt]]:
        """(anchor, block, receipts) of one batch. Raises `BlockNotFound` when the block or its receipts are not
        there.
        """
        height = to_quantity(number)
        of_block = Call(method="eth_getBlockByNumber", params=[height, False], result=LISTING)
        of_receipts = Call(method="eth_getBlockReceipts", params=[height], result=LOG_RECEIPTS)
        calls: list[Call[WireHeader | list[WireLogReceipt] | None]] = [of_block, of_receipts]
        if anchor is not None:
            calls.append(header_call(anchor))
        listing, receipts, *others = await self._provider.batch_outcomes(calls)
        for outcome in (listing, receipts):
            if isinstance(outcome, ChainError):
                raise outcome
            if outcome is None:
                raise BlockNotFound(f"{self.name}: block {number} is not there yet, or its receipts are not")
        anchor_header = (
            header_of(anchor, cast("WireHeader | ChainError | None", others[0])) if anchor is not None else None
        )
        return anchor_header, cast("WireListing", listing), cast("list[WireLogReceipt]", receipts)

    # -- answers held against headers ----------------------------------------------------------------------------------

    async def _blocks_of(self, found: Sequence[Transfer], held: Iterable[Header]) -> dict[BlockHash, BlockRef]:
        """The header of every block a transfer stands in, canonical and with the very hash its logs name."""
        hashes = {transfer.block_number: transfer.block_hash for transfer in found}
        by_number = {header.ref.number: header for header in held}
        missing = [number for number in hashes if number not in by_number]
        for header in await self._headers(missing):
            if header is None:
                raise NodeInconsistent(f"{self.name}: a block it answered logs of is not there")
            by_number[header.ref.number] = header
        for number, block_hash in hashes.items():
            if by_number[number].ref.hash != block_hash:
                raise NodeInconsistent(f"{self.name}: the logs of block {number} are of another fork than its header")
        check_linked(header.ref for header in by_number.values())
        self._check_nothing_invented(found, by_number)
        return {block_hash: by_number[number].ref for number, block_hash in hashes.items()}

    async def _labelled(self, found: tuple[Transfer, ...], query: LogQuery) -> tuple[Transfer, ...]:
        """The transfers, with the labels that the query wants: one call more for each transaction that may have any."""
        wanted = transactions_to_label(found, query)
        receipts: dict[TxHash, WireLogReceipt] = {}
        for start in range(0, len(wanted), RECEIPTS_BATCH):
            some = wanted[start : start + RECEIPTS_BATCH]
            calls: list[Call[WireLogReceipt | None]] = [
                Call(method="eth_getTransactionReceipt", params=[to_hex(tx_hash)], result=LOG_RECEIPT)
                for tx_hash in some
            ]
            for tx_hash, receipt in zip(some, await self._provider.batch(calls), strict=True):
                if receipt is None:
                    raise NodeInconsistent(f"{self.name}: it answered logs of a transaction it has no receipt of")
                receipts[tx_hash] = receipt
        return with_labels(found, receipts, query)

    def _check_nothing_invented(self, found: Sequence[Transfer], headers: Mapping[BlockNumber, Header]) -> None:
        blooms = {number: self._bloom(header) for number, header in headers.items()}
        for transfer in found:
            if (bloom := blooms[transfer.block_number]) is not None:
                check_held(bloom, transfer.identity)

    async def _check_nothing_left_out(
        self, end: Header, logs: Sequence[WireLog], query: LogQuery, filters: Filters | None
    ) -> None:
        """Asks the receipts of the last block where its bloom speaks against an answer without any of its logs.

        Only that block: of the others there is no header, or there are logs. Raises `NodeInconsistent` when the
        receipts hold what the logs lack, and `HistoryPruned` when there are none any more: such nodes answer empty
        logs (erigontech/erigon#14434). A provider that cannot tell is let off: a second reading follows.
        """
        bloom = self._bloom(end)
        if bloom is None or not asks_logs(query):
            return
        recipients = None if filters is None else [each for part in filters for each in part]
        if not is_doubtful(bloom, query, recipients=recipients):
            return
        if any(read_quantity(log.block_number, "log blockNumber") == end.ref.number for log in logs):
            return
        try:
            read = await self.read_block_by_receipts(end.ref.number, query)
        except (MethodUnsupported, RangeTooWide, Rejected):
            return
        if read.end.hash != end.ref.hash:
            raise NodeInconsistent(f"{self.name}: block {end.ref.number} was replaced while it was read")
        if read.transfers:
            raise NodeInconsistent(
                f"{self.name}: {len(read.transfers)} transfers of block {end.ref.number} were left out of its logs"
            )

    def _bloom(self, header: Header) -> int | None:
        """`None` where it is not to be believed, or not answered."""
        return read_bloom(header.logs_bloom) if self._checks_bloom and header.logs_bloom is not None else None


def _answer(text: str) -> bytes | None:
    """What a contract returned; `None` for nothing, which is what an address without code returns."""
    size = max(0, len(text) - len("0x")) // 2
    return read_bytes(text, "eth_call", size) or None
