"""`WindowedReader`: whatever a provider takes, the joined reading is what one answer for all of it would be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chains.errors import (
    BlockNotFound,
    ChainError,
    HistoryPruned,
    MethodUnsupported,
    NodeInconsistent,
    RangeTooWide,
    Rejected,
    ResultTooLarge,
    Timeout,
    Transient,
    Unknown,
)
from chains.logs_window import MAX_BLOCKS, START_BLOCKS, WANTED_LOGS, LogsWindow
from chains.model import Address, BaseUnits, BlockHash, BlockNumber, BlockSpan, ChainId, LogQuery, SpanRead
from chains.simulated import SimFaults, SimTransfer, SimulatedChain, SimulatedReader
from chains.spans import SILENCES_MAX, SLOW_FLOOR_BLOCKS, SLOW_S, WindowedReader, joined

TOKENS = [Address(bytes([number]) * 20) for number in (0x70, 0x71, 0x72)]
ALICE = Address(b"\xa1" * 20)
SHOP = Address(b"\x5a" * 20)
EVERYTHING = LogQuery(tokens=frozenset(TOKENS), recipients=None)
ONE_TOKEN = LogQuery(tokens=frozenset(TOKENS[:1]), recipients=None)

Refuses = Callable[[BlockSpan, LogQuery], ChainError | None]


def pay(amount: int = 5, token: Address = TOKENS[0]) -> SimTransfer:
    return SimTransfer(token=token, sender=ALICE, recipient=SHOP, amount=BaseUnits(amount))


def span(first: int, last: int) -> BlockSpan:
    return BlockSpan(first=BlockNumber(first), last=BlockNumber(last))


@dataclass
class Now:
    """A clock that moves when told."""

    seconds: float = 0.0

    def __call__(self) -> float:
        return self.seconds


@dataclass
class Asked:
    """What reached the provider."""

    spans: list[str] = field(default_factory=list)
    anchors: list[int | None] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    by_receipts: list[int] = field(default_factory=list)


class Provider(SimulatedReader):
    """A simulated provider that refuses as a test says, and takes the time a test says."""

    def __init__(self, chain: SimulatedChain, *, faults: SimFaults | None = None) -> None:
        super().__init__(chain, faults=faults or SimFaults())
        self.asked = Asked()
        self.now = Now()
        self.refuses: Refuses = lambda *_: None
        self.takes_s: Callable[[BlockSpan], float] = lambda _: 0.0
        self.receipts_error: ChainError | None = None
        self.before_read: Callable[[BlockSpan], None] = lambda _: None
        self.logs_a_block = 0
        """To anybody, beside the transfers that are asked for."""

    async def read_span(self, span: BlockSpan, query: LogQuery, *, anchor: BlockNumber | None = None) -> SpanRead:
        self.asked.spans.append(str(span))
        self.asked.anchors.append(anchor)
        self.asked.tokens.append(len(query.tokens))
        self.before_read(span)
        await asyncio.sleep(0)
        self.now.seconds += self.takes_s(span)
        if (error := self.refuses(span, query)) is not None:
            raise error
        read = await super().read_span(span, query, anchor=anchor)
        return replace(read, log_count=self.logs_a_block * len(span))

    async def read_block_by_receipts(
        self, number: BlockNumber, query: LogQuery, *, anchor: BlockNumber | None = None
    ) -> SpanRead:
        self.asked.by_receipts.append(number)
        if self.receipts_error is not None:
            raise self.receipts_error
        return await super().read_block_by_receipts(number, query, anchor=anchor)


def long_chain(blocks: int) -> SimulatedChain:
    chain = SimulatedChain(seed=1, chain_id=ChainId(1))
    chain.mine_empty(blocks)
    return chain


def wrapped(provider: Provider, *, width: int = START_BLOCKS, cap: int = MAX_BLOCKS) -> WindowedReader:
    return WindowedReader(provider, monotonic=provider.now, window=LogsWindow(width=width, cap=cap))


def wider_than(blocks: int, error: Callable[[], ChainError]) -> Refuses:
    return lambda span, _: error() if len(span) > blocks else None


def replacing(chain: SimulatedChain, *, depth: int, before: int) -> Callable[[BlockSpan], None]:
    """Replaces the top `depth` blocks when the piece that begins at `before` is asked for."""

    def act(span: BlockSpan) -> None:
        if span.first == before:
            chain.reorg(depth)

    return act


# -- pieces ------------------------------------------------------------------------------------------------------------


async def test_read_span__within_the_width__is_one_answer() -> None:
    provider = Provider(long_chain(30))
    reader = wrapped(provider, width=30)
    assert await reader.read_span(span(1, 30), EVERYTHING) == await provider.read_span(span(1, 30), EVERYTHING)
    assert provider.asked.anchors[0] is None
    assert len(provider.asked.spans) == 2


async def test_read_span__wider__is_read_in_pieces_each_anchored_on_the_last() -> None:
    provider = Provider(long_chain(30))
    read = await wrapped(provider, width=10, cap=10).read_span(span(3, 30), EVERYTHING, anchor=BlockNumber(2))
    assert provider.asked.spans == ["3..12", "13..22", "23..30"]
    assert provider.asked.anchors == [2, 12, 22]
    assert (read.span, read.end.number, read.anchor and read.anchor.number) == (span(3, 30), 30, 2)


async def test_read_span__refused__follows_the_suggestion_and_remembers_the_cap() -> None:
    provider = Provider(long_chain(3000), faults=SimFaults(max_span=799))
    reader = wrapped(provider)
    await reader.read_span(span(1, 1600), EVERYTHING)
    assert provider.asked.spans == ["1..1600", "1..799", "800..1598", "1599..1600"]
    assert reader.width == 799
    provider.faults = SimFaults()
    provider.asked.spans.clear()
    await reader.read_span(span(1, 3000), EVERYTHING)
    assert provider.asked.spans[0] == "1..799"
    assert reader.width == 799


async def test_read_span__too_many_logs__narrows_and_grows_back() -> None:
    chain = long_chain(300)
    chain.mine([chain.tx(pay(), pay(), pay())])
    chain.mine([chain.tx(pay(), pay(), pay())])
    chain.mine_empty(6000)
    provider = Provider(chain, faults=SimFaults(max_logs=3))
    reader = wrapped(provider)
    read = await reader.read_span(span(1, 302), EVERYTHING)
    assert len(read.transfers) == 6
    assert (narrow := reader.width) < 302
    for _ in range(3):
        await reader.read_span(span(303, 6302), EVERYTHING)
    assert reader.width > 10 * narrow
    assert provider.asked.by_receipts == []


async def test_read_span__suggestion_that_hardly_helps__is_not_followed_for_ever() -> None:
    provider = Provider(long_chain(2000))
    provider.refuses = lambda span, _: (
        RangeTooWide("a little less, please", max_span=len(span) - 1) if len(span) > 10 else None
    )
    read = await wrapped(provider).read_span(span(1, 20), EVERYTHING)
    assert read.span == span(1, 20)
    assert len(provider.asked.spans) < 20


async def test_read_span__beyond_the_head__is_not_found_though_pieces_were_there() -> None:
    provider = Provider(long_chain(25))
    with pytest.raises(BlockNotFound):
        await wrapped(provider, width=10, cap=10).read_span(span(1, 30), EVERYTHING)


async def test_read_span__dense_chain__is_asked_in_answers_of_some_megabytes() -> None:
    provider = Provider(long_chain(1_200))
    provider.logs_a_block = WANTED_LOGS // 200
    reader = WindowedReader(provider, monotonic=provider.now)
    read = await reader.read_span(span(1, 1_200), EVERYTHING)
    assert provider.asked.spans[:3] == ["1..100", "101..300", "301..500"]
    assert read.log_count == 1_200 * provider.logs_a_block
    provider.logs_a_block = 1
    for _ in range(4):
        await reader.read_span(span(1, 1_200), EVERYTHING)
    assert reader.width > 1_200, "its blocks are quiet now"


async def test_read_span__sparse_chain__is_asked_as_widely_as_most_take_after_one_answer() -> None:
    provider = Provider(long_chain(2_200))
    await WindowedReader(provider, monotonic=provider.now).read_span(span(1, 2_200), EVERYTHING)
    assert provider.asked.spans == ["1..100", "101..2100", "2101..2200"]


@pytest.mark.parametrize("error", [Transient("?"), NodeInconsistent("?"), HistoryPruned("?"), Rejected("?")])
async def test_read_span__any_other_failure__goes_up_and_changes_nothing(error: ChainError) -> None:
    provider = Provider(long_chain(50))
    provider.refuses = lambda *_: error
    reader = wrapped(provider)
    with pytest.raises(type(error)):
        await reader.read_span(span(1, 50), EVERYTHING)
    assert (reader.width, len(provider.asked.spans)) == (START_BLOCKS, 1)


async def test_read_span__several_at_once__share_what_one_learns() -> None:
    chain = long_chain(1000)
    chain.mine([chain.tx(pay(), pay(2))])
    chain.mine_empty(5000)
    provider = Provider(chain, faults=SimFaults(max_span=100))
    reader = wrapped(provider)
    wanted = [span(first, first + 1999) for first in (1, 2001, 4001)]
    reads = await asyncio.gather(*[reader.read_span(each, EVERYTHING) for each in wanted])
    assert [read.span for read in reads] == wanted
    assert [len(read.transfers) for read in reads] == [2, 0, 0]
    assert reader.width == 100
    assert len(provider.asked.spans) == 3 + 3 * 20


# -- a chain that moves between two pieces -----------------------------------------------------------------------------


async def test_read_span__fork_between_two_pieces__is_inconsistent() -> None:
    chain = long_chain(20)
    provider = Provider(chain)
    provider.before_read = replacing(chain, depth=15, before=11)
    with pytest.raises(NodeInconsistent, match="block 10 was replaced"):
        await wrapped(provider, width=10, cap=10).read_span(span(1, 20), EVERYTHING)


async def test_read_span__fork_above_the_pieces_read__is_read_through() -> None:
    chain = long_chain(20)
    provider = Provider(chain)
    provider.before_read = replacing(chain, depth=10, before=11)
    read = await wrapped(provider, width=10, cap=10).read_span(span(1, 20), EVERYTHING)
    assert read.end == chain.head


async def test_read_span__anchor_gone_between_two_pieces__is_inconsistent() -> None:
    """A pool of nodes: one has block 10, the next has not."""

    class Forgetful(Provider):
        async def read_span(self, span: BlockSpan, query: LogQuery, *, anchor: BlockNumber | None = None) -> SpanRead:
            return replace(await super().read_span(span, query, anchor=anchor), anchor=None)

    with pytest.raises(NodeInconsistent, match="block 10 was replaced"):
        await wrapped(Forgetful(long_chain(20)), width=10, cap=10).read_span(span(1, 20), EVERYTHING)


async def test_joined__one_transaction_in_two_pieces__is_inconsistent() -> None:
    chain = SimulatedChain(seed=1, chain_id=ChainId(1))
    chain.mine([chain.tx(pay())])
    chain.mine([chain.tx(pay())])
    reader = SimulatedReader(chain)
    one, two = [await reader.read_span(span(number, number), ONE_TOKEN) for number in (1, 2)]
    (first,), (second,) = one.transfers, two.transfers
    moved = replace(second, identity=replace(second.identity, tx_hash=first.identity.tx_hash, ordinal=1))
    with pytest.raises(NodeInconsistent, match="two blocks"):
        joined(span(1, 2), [one, replace(two, transfers=(moved,))])


# -- slowness and silence ----------------------------------------------------------------------------------------------


async def test_read_span__slow_answer__narrows_the_next() -> None:
    provider = Provider(long_chain(4000))
    provider.takes_s = lambda span: SLOW_S * len(span) / 600
    reader = wrapped(provider)
    await reader.read_span(span(1, 4000), EVERYTHING)
    assert provider.asked.spans[:4] == ["1..2000", "2001..3000", "3001..3500", "3501..4000"]


async def test_read_span__slow_whatever_the_width__is_narrowed_once() -> None:
    """Waiting for its turn among many calls, an answer is slow however narrow: more calls would make it slower."""
    provider = Provider(long_chain(9000))
    provider.takes_s = lambda _: SLOW_S + 1
    reader = wrapped(provider)
    await reader.read_span(span(1, 9000), EVERYTHING)
    assert reader.width == START_BLOCKS // 2
    provider.takes_s = lambda _: 0.1
    await reader.read_span(span(1, 9000), EVERYTHING)
    assert reader.width > START_BLOCKS // 2


async def test_read_span__slow_and_narrow__is_not_narrowed_further() -> None:
    provider = Provider(long_chain(1000))
    provider.takes_s = lambda _: SLOW_S + 1
    reader = wrapped(provider, width=2 * SLOW_FLOOR_BLOCKS - 1)
    await reader.read_span(span(1, 1000), EVERYTHING)
    assert reader.width == 2 * SLOW_FLOOR_BLOCKS - 1


@pytest.mark.parametrize("silence", [Timeout("no answer"), Unknown("blocks too plentiful")])
async def test_read_span__no_answer__is_asked_narrower(silence: ChainError) -> None:
    """Words nobody has collected yet may be about the range."""
    provider = Provider(long_chain(2000))
    provider.refuses = wider_than(1000, lambda: silence)
    read = await wrapped(provider).read_span(span(1, 2000), EVERYTHING)
    assert provider.asked.spans == ["1..2000", "1..1000", "1001..2000"]
    assert read.span == span(1, 2000)


async def test_read_span__no_answer_at_all__gives_up_and_begins_narrower_next_time() -> None:
    provider = Provider(long_chain(2000))
    provider.refuses = wider_than(400, lambda: Timeout("no answer"))
    reader = wrapped(provider)
    with pytest.raises(Timeout):
        await reader.read_span(span(1, 2000), EVERYTHING)
    assert len(provider.asked.spans) == SILENCES_MAX
    read = await reader.read_span(span(1, 2000), EVERYTHING)
    assert read.span == span(1, 2000)


async def test_read_span__no_answer_to_one_block__goes_up_at_once() -> None:
    provider = Provider(long_chain(10))
    provider.refuses = lambda *_: Timeout("no answer")
    with pytest.raises(Timeout):
        await wrapped(provider).read_span(span(5, 5), EVERYTHING)
    assert len(provider.asked.spans) == 1


async def test_read_span__provider_that_was_down__is_wide_again_after_a_few_spans() -> None:
    provider = Provider(long_chain(9000))
    provider.refuses = lambda *_: Timeout("down")
    reader = wrapped(provider)
    for _ in range(20):
        with pytest.raises(Timeout):
            await reader.read_span(span(1, 2000), EVERYTHING)
    assert reader.width == 1
    provider.refuses = lambda *_: None
    provider.asked.spans.clear()
    await reader.read_span(span(1, 9000), EVERYTHING)
    assert reader.width >= START_BLOCKS
    assert len(provider.asked.spans) < 20


# -- one block that is too much ----------------------------------------------------------------------------------------


def crowded(logs_a_token: Sequence[int]) -> SimulatedChain:
    """Block 2 holds so many transfers of each token, mixed within its transactions."""
    chain = long_chain(1)
    paid = [pay(1, token) for token, count in zip(TOKENS, logs_a_token, strict=False) for _ in range(count)]
    chain.mine([chain.tx(*paid[0::2]), chain.tx(*paid[1::2])])
    chain.mine_empty(1)
    return chain


async def test_read_block__too_many_logs__is_read_token_by_token() -> None:
    provider = Provider(crowded([2, 2, 1]), faults=SimFaults(max_logs=2))
    read = await wrapped(provider).read_span(span(1, 3), EVERYTHING, anchor=BlockNumber(0))
    direct = await SimulatedReader(provider.chain).read_span(span(1, 3), EVERYTHING, anchor=BlockNumber(0))
    assert read == direct
    assert len(read.transfers) == 5
    assert provider.asked.by_receipts == []
    assert provider.asked.tokens.count(1) == 3


async def test_read_block__one_token_is_too_much__is_read_by_receipts() -> None:
    provider = Provider(crowded([2, 3, 1]), faults=SimFaults(max_logs=2))
    read = await wrapped(provider).read_span(span(1, 3), EVERYTHING)
    assert read == await SimulatedReader(provider.chain).read_span(span(1, 3), EVERYTHING)
    assert provider.asked.by_receipts == [2]


async def test_read_block__query_of_one_token__goes_to_the_receipts_at_once() -> None:
    provider = Provider(crowded([3]), faults=SimFaults(max_logs=2))
    read = await wrapped(provider).read_span(span(2, 2), ONE_TOKEN, anchor=BlockNumber(1))
    assert (len(read.transfers), read.anchor and read.anchor.number) == (3, 1)
    assert provider.asked.spans == ["2..2"]


@pytest.mark.parametrize(
    ("answered", "raised"),
    [
        (ResultTooLarge("64 MiB"), Rejected),
        (RangeTooWide("no backend is currently healthy"), Transient),
        (MethodUnsupported("no receipts"), MethodUnsupported),
    ],
)
async def test_read_block__not_even_by_receipts__is_never_range_too_wide(
    answered: ChainError, raised: type[ChainError]
) -> None:
    provider = Provider(crowded([3]), faults=SimFaults(max_logs=2))
    provider.receipts_error = answered
    with pytest.raises(raised):
        await wrapped(provider).read_span(span(1, 3), ONE_TOKEN)


async def test_read_block__replaced_between_two_tokens__is_inconsistent() -> None:
    chain = crowded([1, 1, 1])
    provider = Provider(chain, faults=SimFaults(max_logs=2))
    reader = wrapped(provider)

    def replace_before_the_second_token(_: BlockSpan) -> None:
        if provider.asked.tokens.count(1) == 2:
            chain.reorg(2)

    provider.before_read = replace_before_the_second_token
    with pytest.raises(NodeInconsistent, match="token by token"):
        await reader.read_span(span(2, 2), EVERYTHING)


async def test_read_block__one_log_answered_for_two_tokens__is_inconsistent() -> None:
    class Confused(Provider):
        async def read_span(self, span: BlockSpan, query: LogQuery, *, anchor: BlockNumber | None = None) -> SpanRead:
            read = await super().read_span(span, query, anchor=anchor)
            if len(query.tokens) > 1:
                return read
            first = read.transfers[0]
            return replace(read, transfers=(replace(first, log_index=0),))

    chain = long_chain(1)
    chain.mine([chain.tx(*[pay(1, token) for token in TOKENS])])
    with pytest.raises(NodeInconsistent, match="two tokens"):
        await wrapped(Confused(chain, faults=SimFaults(max_logs=2))).read_span(span(2, 2), EVERYTHING)


async def test_read_block__refused_as_a_range__is_an_outage_and_costs_no_width() -> None:
    """Base's gateway: the same words for a range too wide and for having no node at all."""
    provider = Provider(long_chain(9000))
    provider.refuses = lambda *_: RangeTooWide("no backend is currently healthy")
    provider.receipts_error = RangeTooWide("no backend is currently healthy")
    reader = wrapped(provider)
    with pytest.raises(Transient, match="out of order"):
        await reader.read_span(span(1, 9000), EVERYTHING)
    assert reader.width == 1
    provider.refuses = lambda *_: None
    provider.asked.spans.clear()
    await reader.read_span(span(1, 9000), EVERYTHING)
    assert reader.width >= START_BLOCKS
    assert len(provider.asked.spans) < 20


# -- passing on --------------------------------------------------------------------------------------------------------


async def test_all_else__is_the_provider_s() -> None:
    provider = Provider(long_chain(3))
    reader = wrapped(provider)
    assert (reader.name, await reader.chain_id()) == (provider.name, ChainId(1))
    assert await reader.headers([BlockNumber(2)]) == await provider.headers([BlockNumber(2)])
    assert await reader.token_facts(TOKENS[0]) == await provider.token_facts(TOKENS[0])
    with pytest.raises(MethodUnsupported, match="simulated chain"):
        await reader.proof_material(BlockHash(bytes(32)))
    await reader.close()


# -- any provider ------------------------------------------------------------------------------------------------------


@st.composite
def chains(draw: st.DrawFn) -> SimulatedChain:
    made = SimulatedChain(seed=draw(st.integers(0, 99)), chain_id=ChainId(1))
    transfers = st.builds(pay, st.integers(0, 1), st.sampled_from(TOKENS))
    for txs in draw(st.lists(st.lists(st.lists(transfers, max_size=4), max_size=2), min_size=1, max_size=12)):
        made.mine([made.tx(*tx) for tx in txs])
    return made


@given(
    chain=chains(),
    max_span=st.one_of(st.none(), st.integers(1, 6)),
    max_logs=st.one_of(st.none(), st.integers(0, 6)),
    width=st.integers(1, 20),
    takes_s=st.sampled_from([0.0, SLOW_S + 1]),
    recipients=st.sampled_from([None, frozenset([SHOP]), frozenset[Address]()]),
    anchor=st.sampled_from([None, 0]),
    twice=st.booleans(),
)
@settings(max_examples=60, deadline=None)
async def test_read_span__whatever_the_provider_takes__is_what_one_answer_would_be(
    chain: SimulatedChain,
    max_span: int | None,
    max_logs: int | None,
    width: int,
    takes_s: float,
    recipients: frozenset[Address] | None,
    anchor: BlockNumber | None,
    twice: bool,
) -> None:
    provider = Provider(chain, faults=SimFaults(max_span=max_span, max_logs=max_logs))
    provider.takes_s = lambda _: takes_s
    reader = wrapped(provider, width=width)
    query = replace(EVERYTHING, recipients=recipients)
    whole = span(min(1, chain.head.number), chain.head.number)
    direct = await SimulatedReader(chain).read_span(whole, query, anchor=anchor)
    for _ in range(1 + twice):
        assert await reader.read_span(whole, query, anchor=anchor) == direct
