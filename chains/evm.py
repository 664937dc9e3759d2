"""`EvmReader`: a chain read from one provider. The checks that need two answers side by side are here.

    one tick, idle, is three calls in two batches (RULES.md section 1):
    headers([latest, finalized])                        2 calls
    read_span: [anchor header,] end header, getLogs     2 or 3 calls, only when there are new blocks

What does not belong here: choosing, comparing or trusting several providers (a pool is a `ChainReader` made of these).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

from chains.decode import Asked, block_ref, check_linked, transfers
from chains.errors import BlockNotFound, ChainError, MethodUnsupported, NodeInconsistent, Rejected
from chains.hex import read_quantity, to_hex, to_quantity
from chains.model import (
    Address,
    BlockHash,
    BlockNumber,
    BlockRef,
    BlockSpan,
    ChainId,
    LogQuery,
    SpanRead,
    Tag,
    TokenFacts,
    Transfer,
)
from chains.replies import Call
from chains.rpc import MAX_BATCH, RpcProvider
from chains.tokens import read_token_facts
from chains.wire import HEADER, LOGS, TEXT, WireHeader, WireLog
from contracts_abi import TRANSFER_TOPIC

FILTER_RECIPIENTS_MAX = 500
"""More recipients than this are not put into the filter but matched here: providers cap filters, often at 1,000 topics
(RULES.md section 1), and from a few thousand on the filter costs the node more than the logs do."""


class EvmReader:
    """A `ChainReader` over one provider. `chain_id` is the configured one: it becomes part of every identity."""

    def __init__(self, provider: RpcProvider, *, chain_id: ChainId) -> None:
        self._provider = provider
        self._chain_id = chain_id

    @property
    def name(self) -> str:
        """The provider's name: a host, never a URL."""
        return self._provider.name

    async def chain_id(self) -> ChainId:
        """What the provider says now; whether it is the configured one is the caller's question."""
        return ChainId(read_quantity(await self._provider.call("eth_chainId", [], TEXT), "eth_chainId"))

    async def headers(self, wanted: Sequence[BlockNumber | Tag]) -> tuple[BlockRef | None, ...]:
        """As `ChainReader.headers`: exactly one call each, in one batch up to `MAX_BATCH`."""
        found: list[BlockRef | None] = []
        for start in range(0, len(wanted), MAX_BATCH):
            found += await self._headers_batch(wanted[start : start + MAX_BATCH])
        check_linked(header for header in found if header is not None)
        return tuple(found)

    async def read_span(self, span: BlockSpan, query: LogQuery, *, anchor: BlockNumber | None = None) -> SpanRead:
        """As `ChainReader.read_span`. Two calls, three with an anchor, and one more for each block with transfers."""
        anchor_header, end, logs = await self._span_batch(span, query, anchor)
        if end is None:
            raise BlockNotFound(f"{self.name}: block {span.last} is not there yet")
        check_linked(header for header in (anchor_header, end) if header is not None)
        asked = Asked(
            chain_id=self._chain_id,
            span=span,
            query=query,
            is_filtered=_filtered_recipients(query) is not None,
        )
        found = transfers(logs, asked)
        return SpanRead(
            span=span,
            end=end,
            anchor=anchor_header,
            transfers=found,
            blocks=await self._blocks_of(found, (end,) if anchor_header is None else (end, anchor_header)),
        )

    async def token_facts(self, token: Address) -> TokenFacts:
        """As `ChainReader.token_facts`."""
        return await read_token_facts(self._provider, token)

    async def close(self) -> None:
        await self._provider.close()

    # -- batches -------------------------------------------------------------------------------------------------------

    async def _headers_batch(self, wanted: Sequence[BlockNumber | Tag]) -> list[BlockRef | None]:
        outcomes = await self._provider.batch_outcomes([_header_call(block) for block in wanted])
        return [_header(block, outcome) for block, outcome in zip(wanted, outcomes, strict=True)]

    async def _span_batch(
        self, span: BlockSpan, query: LogQuery, anchor: BlockNumber | None
    ) -> tuple[BlockRef | None, BlockRef | None, list[WireLog]]:
        """(anchor, end, logs) of one batch; an empty query asks for no logs, since nodes read `[]` as anything."""
        blocks = [span.last] if anchor is None else [anchor, span.last]
        calls: list[Call[WireHeader | list[WireLog] | None]] = [_header_call(block) for block in blocks]
        if query.tokens and (query.recipients is None or query.recipients):
            calls.append(_logs_call(span, query))
        outcomes = await self._provider.batch_outcomes(calls)
        headers = [
            _header(block, cast("WireHeader | ChainError | None", outcome))
            for block, outcome in zip(blocks, outcomes, strict=False)
        ]
        end = headers[-1]
        if end is None:
            return None, None, []
        logs = outcomes[len(blocks)] if len(outcomes) > len(blocks) else []
        if isinstance(logs, ChainError):
            raise logs
        return (headers[0] if anchor is not None else None), end, cast("list[WireLog]", logs)

    async def _blocks_of(self, found: Sequence[Transfer], held: Iterable[BlockRef]) -> dict[BlockHash, BlockRef]:
        """The header of every block a transfer stands in, canonical and with the very hash its logs name."""
        hashes = {transfer.block_number: transfer.block_hash for transfer in found}
        by_number = {header.number: header for header in held}
        missing = [number for number in hashes if number not in by_number]
        for header in await self.headers(missing):
            if header is None:
                raise NodeInconsistent(f"{self.name}: a block it answered logs of is not there")
            by_number[header.number] = header
        for number, block_hash in hashes.items():
            if by_number[number].hash != block_hash:
                raise NodeInconsistent(f"{self.name}: the logs of block {number} are of another fork than its header")
        check_linked(by_number.values())
        return {block_hash: by_number[number] for number, block_hash in hashes.items()}


# -- calls and their answers -------------------------------------------------------------------------------------------


def _header_call(block: BlockNumber | Tag) -> Call[WireHeader | None]:
    name = block.value if isinstance(block, Tag) else to_quantity(block)
    return Call(method="eth_getBlockByNumber", params=[name, False], result=HEADER)


def _logs_call(span: BlockSpan, query: LogQuery) -> Call[list[WireLog]]:
    topics: list[object] = [to_hex(TRANSFER_TOPIC)]
    if (recipients := _filtered_recipients(query)) is not None:
        topics += [None, ["0x" + "00" * 12 + recipient.hex() for recipient in recipients]]
    return Call(
        method="eth_getLogs",
        params=[
            {
                "fromBlock": to_quantity(span.first),
                "toBlock": to_quantity(span.last),
                "address": [to_hex(token) for token in sorted(query.tokens)],
                "topics": topics,
            }
        ],
        result=LOGS,
    )


def _filtered_recipients(query: LogQuery) -> list[Address] | None:
    """The recipients to put into the filter, sorted (equal queries are equal bytes); `None`: ask without."""
    if query.recipients is None or len(query.recipients) > FILTER_RECIPIENTS_MAX:
        return None
    return sorted(query.recipients)


def _header(wanted: BlockNumber | Tag, outcome: WireHeader | ChainError | None) -> BlockRef | None:
    """The header wanted, `None` where the node has no such block."""
    if isinstance(outcome, BlockNotFound) or outcome is None:
        return None
    # every node has `latest`: who refuses that refuses us
    if isinstance(outcome, Rejected) and isinstance(wanted, Tag) and wanted is not Tag.LATEST:
        raise MethodUnsupported(f"the tag {wanted.value} is refused: {outcome}") from outcome
    if isinstance(outcome, ChainError):
        raise outcome
    header = block_ref(outcome)
    if not isinstance(wanted, Tag) and header.number != wanted:
        raise NodeInconsistent(f"asked for block {wanted}, got block {header.number}")
    return header
