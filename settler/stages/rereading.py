"""A past range, read again in spans that are each bounded, with what the database holds of it. For `rescan` and
`reconcile`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from chains.errors import ChainError, HistoryPruned, MethodUnsupported, Rejected, WrongChain
from chains.logs_window import next_span
from chains.model import BlockNumber, BlockSpan, LogQuery, SpanRead
from settler.domain.reconciling import Compared, compare, with_altered
from settler.stages.recording import id_of
from settler.storage import transfers
from settler.storage.chains import ChainState

T = TypeVar("T")

TRIES = 6
"""Of one span, waits between them included about a minute: more than a provider's pause, less than an operator's
patience.
"""
FIRST_WAIT_S = 1.0
MAX_WAIT_S = 30.0
_LASTING = (WrongChain, Rejected, HistoryPruned, MethodUnsupported)


class RangeRefused(Exception):
    """The range is not one that may be read again. Caught by the CLI (exit 2), which shows the message."""


def checked_range(state: ChainState | None, name: str, first: BlockNumber, last: BlockNumber) -> BlockSpan:
    """`first .. last`, decided all of it. Raises `RangeRefused` saying what may be asked for."""
    if state is None or state.settled_number is None:
        raise RangeRefused(f"{name} was not read yet; run settler run first")
    if not 0 <= first <= last:
        raise RangeRefused(f"--from {first} --to {last}: is no range; --from is the lower end, both are read")
    if last > state.settled_number:
        raise RangeRefused(
            f"--to {last}: {name} is settled up to block {state.settled_number}; the daemon still reads above it"
        )
    return BlockSpan(first=first, last=last)


def pieces(span: BlockSpan, width: Callable[[], int]) -> Iterator[BlockSpan]:
    """The span in order, each piece as wide as `width` says by then."""
    cursor = BlockNumber(span.first - 1)
    while (piece := next_span(cursor, span.last, width())) is not None:
        yield piece
        cursor = piece.last


async def persistently(work: Callable[[], Awaitable[T]], *, sleep: Callable[[float], Awaitable[object]]) -> T:
    """`work`, tried again while its errors are such as pass. Raises the last `ChainError`."""
    wait_s = FIRST_WAIT_S
    for left in range(TRIES - 1, -1, -1):
        try:
            return await work()
        except ChainError as error:
            if left == 0 or isinstance(error, _LASTING):
                raise
        await sleep(wait_s)
        wait_s = min(MAX_WAIT_S, 2 * wait_s)
    raise AssertionError("the last try returns or raises")


async def compared_with(conn: AsyncConnection, state: ChainState, read: SpanRead, query: LogQuery) -> Compared:
    """The reading held against the records, as they are in this transaction."""
    within = await transfers.final_in(conn, state.chain_id, read.span)
    of_shown = await transfers.final_of(conn, state.chain_id, (t.identity.tx_hash for t in read.transfers))
    final = {t.id: t for t in (*within, *of_shown)}
    compared = compare(read.transfers, final.values(), {t.id for t in within if query.wants(t.identity)})
    # a record keeps its id when somebody changes what it says: under that id it is looked for as well
    ids = {id_of(t, read.block_of(t)): t for t in compared.unrecorded}
    changed = [
        held for held in (await transfers.get_many(conn, ids)).values() if held.identity != ids[held.id].identity
    ]
    return with_altered(compared, [(held, ids[held.id]) for held in changed])
