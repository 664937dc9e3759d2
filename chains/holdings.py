"""`Holdings`: what addresses hold of tokens and what left them, by one provider. For who checks books, not for who
follows a chain: it asks as many calls as there are addresses.

What does not belong here: what came in (`ChainReader.read_span`), and what the sums mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import cast

from chains.decode import Asked, transfers
from chains.errors import BlockNotFound, ChainError, MethodUnsupported, NodeInconsistent
from chains.evm import EvmReader
from chains.evm_calls import header_call, header_of
from chains.hex import to_hex, to_quantity
from chains.model import Address, BlockNumber, BlockSpan, ChainId, LogQuery, SpanRead, Transfer
from chains.planning import FILTER_RECIPIENTS_MAX
from chains.replies import Call
from chains.rpc import RpcProvider
from chains.spans import WindowedReader
from chains.tokens import read_balances
from chains.wire import LOGS, WireHeader, WireLog
from contracts_abi import TRANSFER_TOPIC


class Holdings:
    """Of one chain. Every method raises `ChainError`."""

    def __init__(self, provider: RpcProvider, *, chain_id: ChainId, monotonic: Callable[[], float]) -> None:
        self._provider = provider
        self._chain_id = chain_id
        self._monotonic = monotonic
        self._readers: dict[tuple[Address, ...], WindowedReader] = {}
        """One a chunk of senders: each learns how wide a span of its logs may be."""

    async def sent(
        self, span: BlockSpan, tokens: frozenset[Address], senders: Iterable[Address]
    ) -> tuple[Transfer, ...]:
        """All transfers of the tokens from the senders in the span. One filter at most `FILTER_RECIPIENTS_MAX` wide."""
        found: list[Transfer] = []
        for chunk in _chunks(sorted(senders)):
            if chunk not in self._readers:
                reader = _OutflowReader(self._provider, chain_id=self._chain_id, senders=chunk)
                self._readers[chunk] = WindowedReader(reader, monotonic=self._monotonic)
            read = await self._readers[chunk].read_span(span, LogQuery(tokens=tokens, recipients=None))
            found += read.transfers
        return tuple(found)

    async def balances(self, token: Address, holders: Sequence[Address], *, at: BlockNumber) -> tuple[int | None, ...]:
        """`balanceOf` of each, at the end of that block; `None` where the contract answers none.

        Raises `HistoryPruned`, or another `ChainError`, if the node has no state of that block.
        """
        return await read_balances(self._provider, token, holders, at=at)


class _OutflowReader(EvmReader):
    """Reads what the senders sent, instead of what was sent to the recipients of a query."""

    def __init__(self, provider: RpcProvider, *, chain_id: ChainId, senders: Sequence[Address]) -> None:
        super().__init__(provider, chain_id=chain_id)
        self._outflow_provider = provider
        self._outflow_chain_id = chain_id
        self._senders = senders

    async def read_span(self, span: BlockSpan, query: LogQuery, *, anchor: BlockNumber | None = None) -> SpanRead:
        """As `ChainReader.read_span`, without the headers of the blocks in between. Two calls, three with an anchor."""
        wanted = [span.last] if anchor is None else [anchor, span.last]
        calls: list[Call[WireHeader | list[WireLog] | None]] = [header_call(block) for block in wanted]
        calls.append(_outflow_call(span, query.tokens, self._senders))
        *headers, logs = await self._outflow_provider.batch_outcomes(calls)
        blocks = [
            header_of(block, cast("WireHeader | ChainError | None", outcome))
            for block, outcome in zip(wanted, headers, strict=True)
        ]
        end = blocks[-1]
        if end is None:
            raise BlockNotFound(f"{self.name}: block {span.last} is not there yet")
        if isinstance(logs, ChainError):
            raise logs
        asked = Asked(chain_id=self._outflow_chain_id, span=span, query=query, is_filtered=False)
        found = transfers(cast("list[WireLog]", logs), asked)
        if any(each.identity.sender not in self._senders for each in found):
            raise NodeInconsistent(f"{self.name}: a log from another sender than asked")
        anchored = blocks[0] if anchor is not None else None
        return SpanRead(span=span, end=end.ref, anchor=anchored and anchored.ref, transfers=found)

    async def read_block_by_receipts(
        self, number: BlockNumber, query: LogQuery, *, anchor: BlockNumber | None = None
    ) -> SpanRead:
        """Never: the last resort of a block with more logs than the provider answers with is not worth it here."""
        raise MethodUnsupported(f"{self.name}: block {number} has more outgoing transfers than it answers with")


def _outflow_call(span: BlockSpan, tokens: Iterable[Address], senders: Sequence[Address]) -> Call[list[WireLog]]:
    return Call(
        method="eth_getLogs",
        params=[
            {
                "fromBlock": to_quantity(span.first),
                "toBlock": to_quantity(span.last),
                "address": [to_hex(token) for token in sorted(tokens)],
                "topics": [to_hex(TRANSFER_TOPIC), ["0x" + "00" * 12 + sender.hex() for sender in senders]],
            }
        ],
        result=LOGS,
    )


def _chunks(senders: Sequence[Address]) -> Iterator[tuple[Address, ...]]:
    for at in range(0, len(senders), FILTER_RECIPIENTS_MAX):
        yield tuple(senders[at : at + FILTER_RECIPIENTS_MAX])
