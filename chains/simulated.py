"""`SimulatedReader`: a real `ChainReader` over a `SimulatedChain`, with the faults real nodes have. For tests and
simulation.

It keeps the promises of `chains.reader` while its faults are off, and breaks them only in the ways a node can that the
checks of `chains.evm` cannot see: leaving logs out, lagging, standing still, refusing. Whether a fault strikes is
decided by a digest of (seed, request, how often that request was made), so it depends on no order and no clock.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from chains.errors import BlockNotFound, ChainError, MethodUnsupported, RangeTooWide, ResultTooLarge, Timeout, Transient
from chains.labelling import transactions_to_label
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
)
from chains.proof import WireBlock, WireReceipt
from chains.rpc import CallObserver, SilentObserver
from chains.simulated_chain import SimBlock, SimTransfer, SimTx, SimulatedChain

__all__ = ["SimBlock", "SimFaults", "SimTransfer", "SimTx", "SimulatedChain", "SimulatedReader"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SimFaults:
    """What goes wrong. Rates are 0 … 1: how often a request meets the fault."""

    is_down: bool = False
    """Every call raises `Timeout`."""
    transient_rate: float = 0.0
    """A call raises `Transient`."""
    missing_end_rate: float = 0.0
    """`read_span` raises `BlockNotFound`, as a node does that lags its pool."""
    empty_logs_rate: float = 0.0
    """`read_span` answers no logs at all, beside right headers (go-ethereum#24078, #27353)."""
    omitted_log_rate: float = 0.0
    """Each single log is left out of an answer at this rate."""
    stale_head_rate: float = 0.0
    """A call sees the chain `stale_blocks` behind: heads go backwards, as behind a load balancer."""
    stale_blocks: int = 20
    max_span: int | None = None
    """Wider spans raise `RangeTooWide`, suggesting this."""
    max_logs: int | None = None
    """`read_span` with more transfers raises `ResultTooLarge`, suggesting nothing."""
    wrong_chain_id: ChainId | None = None
    """What `chain_id()` answers instead."""


NO_FAULTS = SimFaults()


class SimulatedReader:
    """A `ChainReader`. `faults` and `lag` may be changed at any time; `calls` counts as `chains.evm` would call."""

    def __init__(
        self,
        chain: SimulatedChain,
        *,
        seed: int = 0,
        lag: int = 0,
        faults: SimFaults = NO_FAULTS,
        name: str = "simulated",
        observer: CallObserver | None = None,
    ) -> None:
        """`lag`: blocks this node trails the chain's head."""
        self.chain = chain
        self.lag = lag
        self.faults = faults
        self.name = name
        self.calls: Counter[str] = Counter()
        """JSON-RPC calls by method."""
        self._seed = seed
        self._observer: CallObserver = observer or SilentObserver()
        self._asked: Counter[str] = Counter()

    async def chain_id(self) -> ChainId:
        self._begin("chain_id", {"eth_chainId": 1})
        return self.faults.wrong_chain_id or self.chain.id

    async def headers(self, wanted: Sequence[BlockNumber | Tag]) -> tuple[BlockRef | None, ...]:
        if not wanted:
            return ()
        head = self._begin(f"headers {list(wanted)}", {"eth_getBlockByNumber": len(wanted)})
        return tuple([self._header(block, head) for block in wanted])

    async def read_span(self, span: BlockSpan, query: LogQuery, *, anchor: BlockNumber | None = None) -> SpanRead:
        request = f"span {span} {anchor} {len(query.tokens)}"
        asks_logs = bool(query.tokens) and (query.recipients is None or bool(query.recipients))
        counts = {"eth_getBlockByNumber": 1 if anchor is None else 2, "eth_getLogs": int(asks_logs)}
        head = self._begin(request, counts)
        end = self._block(span.last, head)
        if end is None or self._strikes("missing end", request, self.faults.missing_end_rate):
            raise BlockNotFound(f"{self.name}: block {span.last} is not there yet")
        if asks_logs and self.faults.max_span is not None and len(span) > self.faults.max_span:
            raise RangeTooWide(f"block range exceeds {self.faults.max_span}", max_span=self.faults.max_span)
        found = self._logs(span, query, request) if asks_logs else ()
        if self.faults.max_logs is not None and len(found) > self.faults.max_logs:
            raise ResultTooLarge(f"query returned more than {self.faults.max_logs} results")
        return self._span_read(span, end, found, query, anchor, head)

    async def read_block_by_receipts(
        self, number: BlockNumber, query: LogQuery, *, anchor: BlockNumber | None = None
    ) -> SpanRead:
        """As `read_span` of one block; nothing is left out of receipts, and no limit applies."""
        request = f"receipts {number} {anchor} {len(query.tokens)}"
        counts = {"eth_getBlockByNumber": 1 if anchor is None else 2, "eth_getBlockReceipts": 1}
        head = self._begin(request, counts)
        end = self._block(number, head)
        if end is None or self._strikes("missing end", request, self.faults.missing_end_rate):
            raise BlockNotFound(f"{self.name}: block {number} is not there yet, or its receipts are not")
        found = tuple([transfer for transfer in end.transfers if query.wants(transfer.identity)])
        return self._span_read(BlockSpan(first=number, last=number), end, found, query, anchor, head)

    def _span_read(
        self,
        span: BlockSpan,
        end: SimBlock,
        found: tuple[Transfer, ...],
        query: LogQuery,
        anchor: BlockNumber | None,
        head: BlockNumber,
    ) -> SpanRead:
        anchor_block = self._block(anchor, head) if anchor is not None else None
        found = self._labelled(found, query)
        blocks = self._blocks_of(found)
        held = {end.ref.number, anchor}
        self._count({"eth_getBlockByNumber": sum(ref.number not in held for ref in blocks.values())})
        return SpanRead(
            span=span,
            end=end.ref,
            anchor=anchor_block.ref if anchor_block is not None else None,
            transfers=found,
            blocks=blocks,
        )

    def _labelled(self, found: tuple[Transfer, ...], query: LogQuery) -> tuple[Transfer, ...]:
        self._count({"eth_getTransactionReceipt": len(transactions_to_label(found, query))})
        return tuple(t if query.wants_labels(t.identity) else replace(t, labels=()) for t in found)

    async def proof_material(self, block_hash: BlockHash) -> tuple[WireBlock, Sequence[WireReceipt]]:
        """Never: hashes here are invented, so nothing could be proven against them."""
        self._begin(f"proof {block_hash.hex()}", {"eth_getBlockByHash": 1, "eth_getBlockReceipts": 1})
        raise MethodUnsupported(f"{self.name}: a simulated chain has no receipts to prove a payment with")

    async def token_facts(self, token: Address) -> TokenFacts:
        self._begin(f"token {token.hex()}", {"eth_getCode": 1, "eth_call": 2})
        return self.chain.token_facts.get(token, TokenFacts(has_code=False, decimals=None, symbol=None))

    async def announcements(self, span: BlockSpan, tokens: frozenset[Address]) -> tuple[Announcement, ...]:
        counts = {"eth_getBlockByNumber": 1, "eth_getLogs": 1}
        head = self._begin(f"announcements {span}", counts)
        if self._block(span.last, head) is None:
            raise BlockNotFound(f"{self.name}: block {span.last} is not there yet")
        if self.faults.max_span is not None and len(span) > self.faults.max_span:
            raise RangeTooWide(f"block range exceeds {self.faults.max_span}", max_span=self.faults.max_span)
        return tuple(a for a in self.chain.announcements if a.token in tokens and a.block_number in span)

    async def contract_calls(self, calls: Sequence[ContractCall]) -> tuple[bytes | None, ...]:
        if not calls:
            return ()
        self._begin(f"calls {list(calls)}", {"eth_call": len(calls)})
        return tuple(self.chain.answer(call) for call in calls)

    async def close(self) -> None:
        return None

    # -- what this node sees -------------------------------------------------------------------------------------------

    def _header(self, wanted: BlockNumber | Tag, head: BlockNumber) -> BlockRef | None:
        if not isinstance(wanted, Tag):
            block = self._block(wanted, head)
        elif (height := self.chain.height_of(wanted, behind=self.chain.height - head)) is None:
            raise MethodUnsupported(f"the tag {wanted.value} is not supported")
        else:
            block = self._block(height, head)
        return block.ref if block is not None else None

    def _block(self, number: int, head: BlockNumber) -> SimBlock | None:
        return self.chain.block_at(number) if number <= head else None

    def _logs(self, span: BlockSpan, query: LogQuery, request: str) -> tuple[Transfer, ...]:
        if self._strikes("empty logs", request, self.faults.empty_logs_rate):
            return ()
        wanted = [transfer for transfer in self.chain.transfers(span) if query.wants(transfer.identity)]
        return tuple(
            [
                transfer
                for transfer in wanted
                if not self._strikes("omitted log", f"{request} {_place(transfer)}", self.faults.omitted_log_rate)
            ]
        )

    def _blocks_of(self, found: Sequence[Transfer]) -> dict[BlockHash, BlockRef]:
        blocks = [self.chain.block_at(number) for number in dict.fromkeys(each.block_number for each in found)]
        return {block.ref.hash: block.ref for block in blocks if block is not None}

    # -- faults and counts ---------------------------------------------------------------------------------------------

    def _begin(self, request: str, counts: dict[str, int]) -> BlockNumber:
        """Counts the calls, lets faults strike, and returns the head this request sees."""
        self._asked[request] += 1
        failure: ChainError | None = None
        if self.faults.is_down:
            failure = Timeout(f"{self.name} is down")
        elif self._strikes("transient", request, self.faults.transient_rate):
            failure = Transient(f"{self.name} failed in passing")
        self._count(counts, "ok" if failure is None else failure.label)
        if failure is not None:
            raise failure
        is_stale = self._strikes("stale head", request, self.faults.stale_head_rate)
        behind = self.lag + (self.faults.stale_blocks if is_stale else 0)
        return BlockNumber(max(0, self.chain.height - behind))

    def _strikes(self, fault: str, request: str, rate: float) -> bool:
        if rate <= 0:
            return False
        drawn = hashlib.blake2b(
            f"{self._seed}|{self.name}|{fault}|{request}|{self._asked[request]}".encode(), digest_size=8
        )
        return int.from_bytes(drawn.digest()) < rate * 2**64

    def _count(self, counts: dict[str, int], outcome: str = "ok") -> None:
        for method, count in counts.items():
            for _ in range(count):
                self.calls[method] += 1
                self._observer.on_call(method, outcome, 0.0)


def _place(transfer: Transfer) -> str:
    return f"{transfer.block_hash.hex()}:{transfer.log_index}"
