"""A simulated provider that lies in ways the checks of one answer cannot see: only other providers can."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta

from chains.model import BaseUnits, BlockHash, BlockNumber, BlockRef, BlockSpan, LogQuery, SpanRead, Tag, TxHash
from chains.simulated import SimulatedReader
from chains.simulated_chain import SimulatedChain
from tests.support.world import ChainWorld, World

LieOfSpan = Callable[[SpanRead, LogQuery], SpanRead]
LieOfHeader = Callable[[BlockNumber | Tag, BlockRef | None], BlockRef | None]


class LyingReader(SimulatedReader):
    """Answers as the chain it was given says, and then alters it."""

    lie_of_span: LieOfSpan | None = None
    lie_of_header: LieOfHeader | None = None

    async def headers(self, wanted: Sequence[BlockNumber | Tag]) -> tuple[BlockRef | None, ...]:
        found = await super().headers(wanted)
        lie = self.lie_of_header
        return found if lie is None else tuple(lie(asked, shown) for asked, shown in zip(wanted, found, strict=True))

    async def read_span(self, span: BlockSpan, query: LogQuery, *, anchor: BlockNumber | None = None) -> SpanRead:
        read = await super().read_span(span, query, anchor=anchor)
        return read if self.lie_of_span is None else self.lie_of_span(read, query)


def liar(world: World, at: int, *, on: str | None = None, chain: SimulatedChain | None = None) -> LyingReader:
    """Puts a liar in the place of a provider, told the truth until it is given a lie; `chain`: of a fork."""
    where = world.chains[on] if on else world.it
    made = LyingReader(chain or where.chain, name=where.readers[at].name, seed=at)
    where.readers[at] = made
    world.restart()
    return made


def honest(where: ChainWorld) -> None:
    """All providers show the chain, and nothing but it."""
    for reader in where.readers:
        reader.chain = where.chain
        reader.lag = 0
        if isinstance(reader, LyingReader):
            reader.lie_of_span = reader.lie_of_header = None


# -- lies about logs ---------------------------------------------------------------------------------------------------


def omits(read: SpanRead, _: LogQuery) -> SpanRead:
    return replace(read, transfers=(), blocks={})


def raises_amounts(read: SpanRead, _: LogQuery) -> SpanRead:
    raised = [
        replace(t, identity=replace(t.identity, amount=BaseUnits(1_000 * t.identity.amount + 7)))
        for t in read.transfers
    ]
    return replace(read, transfers=tuple(raised))


def doubles(read: SpanRead, _: LogQuery) -> SpanRead:
    """Each payment a second time, in a transaction that does not exist."""
    again = [
        replace(t, identity=replace(t.identity, tx_hash=TxHash(b"\xee" + t.identity.tx_hash[1:])), log_index=99)
        for t in read.transfers
    ]
    return replace(read, transfers=(*read.transfers, *again))


def antedates(read: SpanRead, _: LogQuery) -> SpanRead:
    """All times a month earlier: nothing comes late."""
    month = timedelta(days=30)
    return replace(
        read,
        blocks={block_hash: replace(ref, time=ref.time - month) for block_hash, ref in read.blocks.items()},
        end=replace(read.end, time=read.end.time - month),
    )


def other_end(read: SpanRead, _: LogQuery) -> SpanRead:
    return replace(read, end=replace(read.end, hash=BlockHash(b"\x0f" * 32)))


LIES: dict[str, LieOfSpan] = {
    "omits": omits,
    "raises amounts": raises_amounts,
    "doubles": doubles,
    "antedates": antedates,
    "other end": other_end,
}


# -- lies about headers ------------------------------------------------------------------------------------------------


def far_ahead(asked: BlockNumber | Tag, shown: BlockRef | None) -> BlockRef | None:
    """Its newest and its final block are a million blocks ahead."""
    if not isinstance(asked, Tag) or shown is None:
        return shown
    return replace(shown, number=BlockNumber(shown.number + 1_000_000))


def far_behind(asked: BlockNumber | Tag, shown: BlockRef | None) -> BlockRef | None:
    if not isinstance(asked, Tag) or shown is None:
        return shown
    return replace(shown, number=BlockNumber(max(0, shown.number - 1_000_000)))


def foreign(asked: BlockNumber | Tag, shown: BlockRef | None) -> BlockRef | None:
    """Another block at every height."""
    if isinstance(asked, Tag) or shown is None:
        return shown
    return replace(shown, hash=BlockHash(b"\xf0" + shown.hash[1:]))


def postdates(_: BlockNumber | Tag, shown: BlockRef | None) -> BlockRef | None:
    return None if shown is None else replace(shown, time=shown.time + timedelta(days=3650))


HEADER_LIES: dict[str, LieOfHeader] = {
    "far ahead": far_ahead,
    "far behind": far_behind,
    "foreign": foreign,
    "postdates": postdates,
}
