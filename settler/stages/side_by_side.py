"""Neighbouring spans that one provider reads side by side: which, how, and how much of them is committed at a time.

#  settled                                             final
#  .. 100 | 101 .. 200 | 201 .. 300 | 301 .. 400 | ..  900        read at once, each standing on the one before
#           none          none         80 payments                two transactions: 101 .. 300, 301 .. 400
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace

from chains.errors import BlockNotFound, NodeInconsistent
from chains.logs_window import next_span
from chains.model import BlockNumber, BlockSpan, LogQuery, SpanRead
from chains.quorum import gist
from chains.reader import ChainReader
from chains.spans import joined

PARALLEL_SPANS = 4
"""Spans read at once when far behind: enough to hide the node's latency, few enough to bound memory and its
patience.
"""
JOINED_TRANSFERS_MAX = 50
"""Neighbouring spans with no more transfers than this are one transaction: it is waiting for the disk that they cost
then, and others wait only for as long as those payments take."""


def next_spans(cursor: BlockNumber, upto: BlockNumber, width: int) -> tuple[BlockSpan, ...]:
    """At most `PARALLEL_SPANS` spans in order, at least one."""
    spans: list[BlockSpan] = []
    while len(spans) < PARALLEL_SPANS and (span := next_span(cursor, upto, width)) is not None:
        spans.append(span)
        cursor = span.last
    return tuple(spans)


async def read_all(reader: ChainReader, spans: Sequence[BlockSpan], query: LogQuery) -> tuple[SpanRead, ...]:
    """All spans by one provider, side by side, each standing on the one before."""
    tasks = [asyncio.ensure_future(reader.read_span(span, query, anchor=BlockNumber(span.first - 1))) for span in spans]
    try:
        reads = tuple([await task for task in tasks])
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for number, read in enumerate(reads):
        if read.anchor is None:
            raise BlockNotFound(f"the node has no block {read.span.first - 1}, which is settled: it is behind")
        if number > 0 and read.anchor.hash != reads[number - 1].end.hash:
            raise NodeInconsistent(f"block {read.anchor.number} has two hashes within one reading")
    return reads


def gists(reads: Sequence[SpanRead]) -> Hashable:
    """What two providers' readings of the same spans must have in common."""
    return tuple(gist(read) for read in reads)


def gathered(reads: Sequence[SpanRead]) -> Iterator[SpanRead]:
    """The readings in order, each to be committed by itself: neighbours with few transfers are joined, and such without
    any (with which nothing else has to be looked up). Raises `NodeInconsistent` for a transaction that stands in two.
    """
    some: list[SpanRead] = []
    for read in reads:
        count = sum(len(each.transfers) for each in (*some, read))
        if some and (count > JOINED_TRANSFERS_MAX or bool(read.transfers) != bool(some[0].transfers)):
            yield _joined(some)
            some = []
        some.append(read)
    if some:
        yield _joined(some)


def _joined(reads: Sequence[SpanRead]) -> SpanRead:
    """With the header of each of the ends: those are held, to find where a violation of finality began."""
    whole = joined(BlockSpan(first=reads[0].span.first, last=reads[-1].span.last), reads)
    return replace(whole, blocks={**whole.blocks, **{read.end.hash: read.end for read in reads}})
