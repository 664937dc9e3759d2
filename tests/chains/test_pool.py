"""`Pool`: whom it asks, in whose place, and whose head it believes. Simulated providers, a clock moved by hand."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from chains.errors import (
    BlockNotFound,
    ChainError,
    MethodUnsupported,
    NodeInconsistent,
    QuorumLost,
    RateLimited,
    Rejected,
    Timeout,
    Transient,
    WrongChain,
)
from chains.model import Address, BlockNumber, BlockRef, BlockSpan, ChainId, LogQuery, Tag
from chains.pool import PROBE_EVERY_S, Answer, Pool
from chains.reader import ChainReader
from chains.simulated import SimFaults, SimulatedChain, SimulatedReader
from chains.spans import WindowedReader
from chains.standing import DISTRUSTED_REST_S, HEAD_FRESH_S, IN_NEED_EVERY_S, REMOVED_REST_S, Standing, State

CHAIN = ChainId(1)
OTHER = ChainId(5)
NOBODY = LogQuery(tokens=frozenset([Address(bytes(20))]), recipients=frozenset())
DOWN = SimFaults(is_down=True)
FOREIGN = SimFaults(wrong_chain_id=OTHER)


@dataclass
class Now:
    seconds: float = 0.0

    def __call__(self) -> float:
        return self.seconds


@dataclass
class Observed:
    """A `PoolObserver` that remembers."""

    states: list[tuple[str, State]] = field(default_factory=list)
    disagreements: list[str] = field(default_factory=list)

    def on_standing(self, standing: Standing) -> None:
        self.states.append((standing.name, standing.state))

    def on_disagreement(self, provider: str, what: str) -> None:
        assert what
        self.disagreements.append(provider)


class Node(SimulatedReader):
    """A provider that may be held up, refuse in a way of its own, and claim another head."""

    def __init__(self, chain: SimulatedChain, name: str) -> None:
        super().__init__(chain, name=name)
        self.gate: asyncio.Event | None = None
        self.error: Exception | None = None
        self.cancelled = 0
        self.claims: int | None = None

    async def headers(self, wanted: Sequence[BlockNumber | Tag]) -> tuple[BlockRef | None, ...]:
        if self.gate is not None:
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        if self.error is not None:
            self.calls["refused"] += 1
            raise self.error
        found = await super().headers(wanted)
        if self.claims is None or found[0] is None:
            return found
        first = found[0]
        claimed = BlockRef(
            number=BlockNumber(self.claims), hash=first.hash, parent_hash=first.parent_hash, time=first.time
        )
        return (claimed, *found[1:])

    @property
    def asked(self) -> int:
        return sum(self.calls.values())


@dataclass
class Providers:
    nodes: list[Node]
    pool: Pool
    now: Now
    observed: Observed

    def state(self, name: str) -> State:
        return self.states["abcdefgh".index(name)]

    def asked(self) -> dict[str, int]:
        """Calls since asked last, of those that were asked at all."""
        counts = {node.name: node.asked for node in self.nodes if node.asked}
        for node in self.nodes:
            node.calls = Counter()
        return counts

    @property
    def states(self) -> list[State]:
        return [standing.state for standing in self.pool.standings]


async def providers(count: int, *, hedge_after_s: float | None = None, blocks: int = 100) -> Providers:
    """All of them up, with their chain ids and heads known."""
    chain = SimulatedChain(seed=1, chain_id=CHAIN)
    chain.mine_empty(blocks)
    nodes = [Node(chain, "abcdefgh"[number]) for number in range(count)]
    now, observed = Now(), Observed()
    pool = Pool(
        [WindowedReader(node, monotonic=now) for node in nodes],
        chain_id=CHAIN,
        monotonic=now,
        observer=observed,
        hedge_after_s=hedge_after_s,
    )
    made = Providers(nodes=nodes, pool=pool, now=now, observed=observed)
    await pool.chain_id()
    made.asked()
    observed.states.clear()
    return made


async def latest(reader: ChainReader) -> BlockRef:
    (head,) = await reader.headers([Tag.LATEST])
    assert head is not None
    return head


def sources(answers: Sequence[Answer[BlockRef]]) -> list[str]:
    return [answer.source for answer in answers]


# -- whom it asks ------------------------------------------------------------------------------------------------------


def test_no_provider__or_one_name_twice__is_refused() -> None:
    def made(names: str) -> Pool:
        chain = SimulatedChain(seed=1, chain_id=CHAIN)
        return Pool(
            [WindowedReader(Node(chain, name), monotonic=Now()) for name in names], chain_id=CHAIN, monotonic=Now()
        )

    for names in ("", "aba"):
        with pytest.raises(ValueError, match=r"provider"):
            made(names)


async def test_ask__the_most_preferred_and_nobody_else() -> None:
    p = await providers(3)
    assert sources(await p.pool.ask(latest)) == ["a"]
    assert p.asked() == {"a": 1}
    assert sources(await p.pool.ask(latest, count=2)) == ["a", "b"]
    assert sources(await p.pool.ask(latest, count=9)) == ["a", "b", "c"]
    assert sources(await p.pool.ask(latest, count=2, but_not=["a"])) == ["b", "c"]


async def test_ask__one_fails__another_is_asked_in_its_place_at_once() -> None:
    p = await providers(3)
    p.nodes[0].faults = DOWN
    assert sources(await p.pool.ask(latest, count=2)) == ["b", "c"]
    assert p.observed.states == [("a", State.RESTING)]


async def test_ask__resting__is_not_asked_until_its_rest_is_over() -> None:
    p = await providers(2)
    p.nodes[0].faults = DOWN
    await p.pool.headers([Tag.LATEST])
    p.asked()
    await p.pool.headers([Tag.LATEST])
    assert p.asked() == {"b": 1}
    p.nodes[0].faults = SimFaults()
    p.now.seconds += 1.0
    await p.pool.headers([Tag.LATEST])
    assert p.asked() == {"a": 2}, "its chain id, then the question"
    assert p.states == [State.UP, State.UP]
    assert p.observed.states == [("a", State.RESTING), ("a", State.UP)]


async def test_ask__its_rests_grow_while_it_stays_down() -> None:
    p = await providers(2)
    p.nodes[0].error = NodeInconsistent("nonsense")
    seen = []
    for _ in range(40):
        await p.pool.headers([Tag.LATEST])
        seen.append(p.asked().get("a", 0))
        p.now.seconds += 1.0
    assert [second for second, calls in enumerate(seen) if calls] == [0, 1, 3, 7, 15, 31]


async def test_ask__retry_after__is_honoured() -> None:
    p = await providers(2)
    p.nodes[0].error = RateLimited("429", retry_after_s=45.0)
    await p.pool.headers([Tag.LATEST])
    p.nodes[0].error = None
    for seconds, asked in ((44.0, {"b": 1}), (1.0, {"a": 2})):
        p.asked()
        p.now.seconds += seconds
        await p.pool.headers([Tag.LATEST])
        assert p.asked() == asked


async def test_ask__all_rest__the_one_that_is_back_soonest_is_asked_anyway() -> None:
    p = await providers(3)
    for node, asked_s in zip(p.nodes, (50.0, 20.0, 30.0), strict=True):
        node.error = RateLimited("429", retry_after_s=asked_s)
    with pytest.raises(RateLimited):
        await p.pool.headers([Tag.LATEST])
    p.asked()
    for node in p.nodes:
        node.error = None
    await p.pool.headers([Tag.LATEST])
    assert p.asked() == {"b": 2}
    assert p.states == [State.RESTING, State.UP, State.RESTING]


async def test_only_one__is_never_switched_off() -> None:
    p = await providers(1)
    p.nodes[0].faults = DOWN
    for _ in range(8):
        with pytest.raises(Timeout):
            await p.pool.headers([Tag.LATEST])
    p.nodes[0].faults = SimFaults()
    assert (await p.pool.head()).number == 100
    assert p.states == [State.UP]


async def test_ask__nobody_left_to_compare_with__says_who_is_away_and_why() -> None:
    p = await providers(3)
    p.nodes[1].faults = p.nodes[2].faults = DOWN
    assert sources(await p.pool.ask(latest, count=3)) == ["a"]
    with pytest.raises(QuorumLost, match=r"no other provider than a .* b for 1 s .*timeout.* c for 1 s"):
        await p.pool.ask(latest, but_not=["a"])


async def test_ask__needed__those_that_rest_are_tried_now_and_then__what_they_say_has_to_agree() -> None:
    """Found by the fault proxy: one provider distrusted, one removed, and nothing settled for minutes after both were
    honest again, since nobody asked them."""
    p = await providers(3)
    p.nodes[1].error, p.nodes[2].faults = Rejected("key"), FOREIGN
    p.pool.standings[2].is_chain_known = False
    assert sources(await p.pool.ask(latest, count=3)) == ["a"]
    assert p.states == [State.UP, State.RESTING, State.REMOVED]
    p.nodes[1].error, p.nodes[2].faults = None, SimFaults()
    with pytest.raises(QuorumLost):
        await p.pool.ask(latest, but_not=["a"], is_needed=True)
    p.asked()
    p.now.seconds += IN_NEED_EVERY_S
    assert sources(await p.pool.ask(latest, count=2, is_needed=True)) == ["a", "b"]
    assert p.states == [State.UP, State.UP, State.REMOVED], "no more than are needed"
    assert sources(await p.pool.ask(latest, count=3, is_needed=True)) == ["a", "b", "c"]
    assert p.states == [State.UP] * 3


async def test_ask__needed__one_that_asked_for_its_rest_gets_it() -> None:
    p = await providers(2)
    p.nodes[1].error = RateLimited("429", retry_after_s=45.0)
    assert sources(await p.pool.ask(latest, count=2)) == ["a"]
    p.asked()
    p.now.seconds += 44.0
    with pytest.raises(QuorumLost, match="it asks to be asked less"):
        await p.pool.ask(latest, but_not=["a"], is_needed=True)
    assert p.asked() == {}


async def test_ask__needed__fails_again__is_a_lost_quorum() -> None:
    p = await providers(2)
    p.nodes[1].faults = DOWN
    with pytest.raises(QuorumLost, match="b for 1 s"):
        await p.pool.ask(latest, but_not=["a"], is_needed=True)


async def test_ask__an_answer_that_contradicts_itself__is_told_of_where_there_are_others() -> None:
    p = await providers(2)
    p.nodes[0].error = NodeInconsistent("the bloom rules it out")
    assert sources(await p.pool.ask(latest)) == ["b"]
    assert p.observed.disagreements == ["a"]
    alone = await providers(1)
    alone.nodes[0].error = NodeInconsistent("nonsense")
    with pytest.raises(NodeInconsistent):
        await alone.pool.ask(latest)
    assert alone.observed.disagreements == []


async def test_ask__all_fail__what_may_pass_goes_first_else_the_most_preferred() -> None:
    for errors, expected in (
        ((Rejected("key"), Timeout("slow")), Timeout),
        ((Rejected("key"), MethodUnsupported("no")), Rejected),
        ((MethodUnsupported("no"), Rejected("key")), MethodUnsupported),
    ):
        p = await providers(2)
        p.nodes[0].error, p.nodes[1].error = errors
        with pytest.raises(expected):
            await p.pool.ask(latest)


async def test_ask__a_lagging_one_is_asked_after_the_others() -> None:
    p = await providers(3)
    p.nodes[0].lag = 6
    await p.pool.head()
    p.asked()
    await p.pool.headers([BlockNumber(50)])
    assert p.asked() == {"b": 1}
    p.nodes[0].lag = 5
    p.now.seconds += PROBE_EVERY_S
    await p.pool.head()
    p.asked()
    await p.pool.headers([BlockNumber(50)])
    assert p.asked() == {"a": 1}, "five blocks are no lag"


async def test_read_span__one_that_showed_a_lower_head_is_not_asked_for_it() -> None:
    p = await providers(3)
    p.nodes[0].lag = 3
    await p.pool.head()
    p.asked()
    span = BlockSpan(first=BlockNumber(90), last=BlockNumber(99))
    await p.pool.read_span(span, NOBODY)
    assert list(p.asked()) == ["b"]
    p.nodes[0].lag = 0
    p.now.seconds += HEAD_FRESH_S
    await p.pool.read_span(span, NOBODY)
    assert list(p.asked()) == ["a"], "after a while it may have come so far"


async def test_read_span__nobody_is_so_far__is_block_not_found_and_nobody_is_asked() -> None:
    p = await providers(2)
    await p.pool.head()
    p.asked()
    with pytest.raises(BlockNotFound, match="none of a, b has reached block 101"):
        await p.pool.ask(latest, reaching=BlockNumber(101))
    assert p.asked() == {}


async def test_read_span__a_head_without_the_block_behind_it__is_believed_less() -> None:
    """A node that shows a head and then lacks that block is not asked for it again at once."""
    p = await providers(2)
    await p.pool.head()
    p.nodes[0].faults = SimFaults(missing_end_rate=1.0)
    span = BlockSpan(first=BlockNumber(100), last=BlockNumber(100))
    await p.pool.read_span(span, NOBODY)
    p.asked()
    await p.pool.read_span(span, NOBODY)
    assert list(p.asked()) == ["b"]
    assert p.states == [State.UP, State.UP]


# -- the chain it serves -----------------------------------------------------------------------------------------------


async def test_wrong_chain__is_removed_and_asked_for_its_id_before_it_is_used_again() -> None:
    p = await providers(2)
    p.nodes[0].faults = DOWN
    await p.pool.headers([Tag.LATEST])
    p.nodes[0].faults = FOREIGN
    p.now.seconds += 1.0
    p.asked()
    await p.pool.headers([Tag.LATEST])
    assert p.asked() == {"a": 1, "b": 1}, "its id, and no question"
    assert p.states == [State.REMOVED, State.UP]
    p.now.seconds += REMOVED_REST_S - 1
    await p.pool.headers([Tag.LATEST])
    assert p.asked() == {"b": 1}
    p.nodes[0].faults = SimFaults()
    p.now.seconds += 1
    await p.pool.headers([Tag.LATEST])
    assert p.asked() == {"a": 2}
    assert p.states == [State.UP, State.UP]


async def test_wrong_chain__is_never_used_even_if_it_is_all_there_is() -> None:
    p = await providers(2)
    for node in p.nodes:
        node.faults = DOWN
    with pytest.raises(Timeout):
        await p.pool.headers([Tag.LATEST])
    p.nodes[0].faults = FOREIGN
    for _ in range(5):
        p.now.seconds += 70.0
        with pytest.raises(ChainError):
            await p.pool.headers([Tag.LATEST])
    assert p.state("a") is State.REMOVED
    assert p.nodes[0].calls["eth_getBlockByNumber"] <= 1


async def test_chain_id__the_configured_one_if_anybody_serves_it() -> None:
    p = await providers(3)
    p.nodes[0].faults, p.nodes[1].faults = FOREIGN, DOWN
    assert await p.pool.chain_id() == CHAIN
    assert p.states == [State.REMOVED, State.RESTING, State.UP]


async def test_chain_id__nobody_serves_it__is_what_they_serve() -> None:
    p = await providers(2)
    p.nodes[0].faults, p.nodes[1].faults = DOWN, FOREIGN
    assert await p.pool.chain_id() == OTHER


async def test_chain_id__nobody_answers__raises() -> None:
    p = await providers(2)
    p.nodes[0].faults = p.nodes[1].faults = DOWN
    with pytest.raises(Timeout):
        await p.pool.chain_id()


# -- the head ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claims", "believed"),
    [
        ((100,), 100),
        ((100, 104), 100),
        ((104, 100), 100),
        ((100, 100, 100), 100),
        ((1_000_000, 100, 101), 101),
        ((100, 1_000_000, 101), 101),
        ((0, 100, 101), 100),
        ((100, 0, 101), 100),
        ((1_000_000, 0, 101), 101),
        ((100, 90, 80, 70), 80),
        ((1_000_000, 2_000_000, 100, 101, 102), 102),
        ((0, 1, 100, 101, 102), 100),
        ((102, 101, 100, 0, 1), 100),
    ],
)
async def test_head__is_one_that_a_strict_majority_has_reached(claims: Sequence[int], believed: int) -> None:
    p = await providers(len(claims))
    for node, claim in zip(p.nodes, claims, strict=True):
        node.claims = claim
    assert (await p.pool.head()).number == believed
    reached = sum(claim >= believed for claim in claims)
    assert reached > len(claims) / 2


async def test_head__half_is_no_majority() -> None:
    p = await providers(4)
    for node, claim in zip(p.nodes, (1_000_000, 1_000_000, 100, 100), strict=True):
        node.claims = claim
    assert (await p.pool.head()).number == 100


async def test_head__two_of_three_down__is_that_of_the_third() -> None:
    p = await providers(3)
    p.nodes[0].faults = p.nodes[1].faults = DOWN
    assert (await p.pool.head()).number == 100


async def test_head__too_few_answer__is_the_lowest_of_theirs() -> None:
    p = await providers(5)
    for node, claim in zip(p.nodes, (1_000_000, 99, 0, 0, 0), strict=True):
        node.claims = claim
    for node in p.nodes[2:]:
        node.faults = DOWN
    assert (await p.pool.head()).number == 99


async def test_head__all_down__raises() -> None:
    p = await providers(3)
    for node in p.nodes:
        node.faults = DOWN
    with pytest.raises(Timeout):
        await p.pool.head()


async def test_head__a_node_without_a_latest_block__is_replaced_by_another() -> None:
    class Blank(Node):
        async def headers(self, wanted: Sequence[BlockNumber | Tag]) -> tuple[BlockRef | None, ...]:
            return (None,) * len(wanted)

    p = await providers(1)
    now = Now()
    blank = Blank(p.nodes[0].chain, "blank")
    pool = Pool([WindowedReader(node, monotonic=now) for node in (blank, p.nodes[0])], chain_id=CHAIN, monotonic=now)
    assert (await pool.head()).number == 100
    assert pool.standings[0].state is State.RESTING


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
async def test_head__all_well__costs_three_calls_at_most_and_hears_of_everybody(count: int) -> None:
    """Reproduced: with four or five providers, each minute's probe of those in reserve was a fourth call."""
    p = await providers(count)
    heard: set[str] = set()
    for _ in range(300):
        p.now.seconds += 1.0
        await p.pool.head()
        asked = p.asked()
        assert sum(asked.values()) <= 3
        heard |= set(asked)
    assert heard == {node.name for node in p.nodes}


async def test_head__whose_rest_is_over__is_heard_again_though_nobody_needs_it() -> None:
    p = await providers(3)
    p.nodes[2].faults = DOWN
    await p.pool.ask(latest, count=3)
    p.nodes[2].faults = SimFaults()
    await p.pool.head()
    assert p.state("c") is State.RESTING
    p.now.seconds += 1.0
    await p.pool.head()
    assert p.state("c") is State.UP


async def test_head__distrusted__is_back_on_probation_after_its_time_and_costs_no_more_calls() -> None:
    p = await providers(3)
    for _ in range(3):
        p.pool.differed(["c"], "the logs")
    assert p.state("c") is State.DISTRUSTED
    p.now.seconds += DISTRUSTED_REST_S
    await p.pool.head()
    assert p.state("c") is State.UP
    p.asked()
    await p.pool.head()
    assert p.asked() == {"a": 1, "b": 1}
    p.pool.differed(["c"], "the logs")
    assert p.state("c") is State.DISTRUSTED


async def test_head__a_probe_that_fails__is_nobodys_trouble() -> None:
    p = await providers(3)
    p.nodes[2].faults = DOWN
    p.now.seconds += PROBE_EVERY_S
    assert (await p.pool.head()).number == 100
    assert p.states == [State.UP, State.UP, State.RESTING]


# -- who differs -------------------------------------------------------------------------------------------------------


async def test_differed__is_told_counted_and_distrusted() -> None:
    p = await providers(3)
    for _ in range(3):
        p.pool.differed(["a"], "the logs")
    assert p.observed.disagreements == ["a"] * 3
    assert p.observed.states == [("a", State.DISTRUSTED)]
    assert sources(await p.pool.ask(latest, count=3)) == ["b", "c"]
    p.pool.agreed(["a", "b"])
    assert sources(await p.pool.ask(latest)) == ["a"]


async def test_differed__of_a_single_provider__is_told_and_it_is_asked_on() -> None:
    p = await providers(1)
    for _ in range(9):
        p.pool.differed(["a"], "itself")
    assert p.observed.disagreements == ["a"] * 9
    assert p.states == [State.UP]


async def test_disputed__is_told_of_and_held_against_nobody() -> None:
    p = await providers(3)
    for _ in range(9):
        p.pool.disputed(["a", "b"], "the logs")
    assert Counter(p.observed.disagreements) == {"a": 9, "b": 9}
    assert p.states == [State.UP] * 3


# -- more than one question at a time ----------------------------------------------------------------------------------


async def test_ask__side_by_side() -> None:
    p = await providers(3)
    gate = asyncio.Event()
    for node in p.nodes:
        node.gate = gate
    asking = asyncio.create_task(p.pool.ask(latest, count=3))
    await _spin()
    gate.set()
    assert sources(await asking) == ["a", "b", "c"]


async def test_ask__canceled__cancels_its_questions_and_blames_nobody() -> None:
    p = await providers(2)
    for node in p.nodes:
        node.gate = asyncio.Event()
    asking = asyncio.create_task(p.pool.ask(latest, count=2))
    await _spin()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert [node.cancelled for node in p.nodes] == [1, 1]
    assert p.states == [State.UP, State.UP]


async def test_ask__a_bug__is_not_swallowed_and_leaves_nothing_running() -> None:
    p = await providers(2)
    p.nodes[0].error = KeyError("a bug")
    p.nodes[1].gate = asyncio.Event()
    with pytest.raises(ExceptionGroup):
        await p.pool.ask(latest, count=2)
    assert p.nodes[1].cancelled == 1


async def test_ask__rate_limited_while_another_question_is_answered__rests_all_the_same() -> None:
    p = await providers(2)
    node = p.nodes[0]
    node.gate = asyncio.Event()
    early = asyncio.create_task(p.pool.ask(latest))
    await _spin()
    gate, node.gate, node.error = node.gate, None, RateLimited("429", retry_after_s=30.0)
    assert sources(await p.pool.ask(latest)) == ["b"]
    node.error = None
    gate.set()
    assert sources(await early) == ["a"]
    assert p.state("a") is State.RESTING
    assert sources(await p.pool.ask(latest)) == ["b"]


async def _spin(turns: int = 10) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


# -- hedging -----------------------------------------------------------------------------------------------------------


async def test_hedge__a_quick_answer__costs_one_call() -> None:
    p = await providers(2, hedge_after_s=60.0)
    await p.pool.headers([Tag.LATEST])
    assert p.asked() == {"a": 1}


async def test_hedge__a_slow_one__the_second_is_asked_and_the_first_let_go() -> None:
    p = await providers(3, hedge_after_s=0.0)
    p.nodes[0].gate = asyncio.Event()
    await p.pool.headers([Tag.LATEST])
    assert p.asked() == {"b": 1}
    assert p.nodes[0].cancelled == 1
    assert p.states == [State.UP] * 3


async def test_hedge__at_most_two_at_once() -> None:
    p = await providers(3, hedge_after_s=0.0)
    gate = asyncio.Event()
    p.nodes[0].gate = p.nodes[1].gate = gate
    asking = asyncio.create_task(p.pool.headers([Tag.LATEST]))
    await _spin(50)
    assert p.asked() == {}
    gate.set()
    await asking
    assert "c" not in p.asked()


async def test_hedge__the_first_fails__the_next_is_asked_at_once() -> None:
    p = await providers(3, hedge_after_s=60.0)
    p.nodes[0].faults = p.nodes[1].faults = DOWN
    await p.pool.headers([Tag.LATEST])
    assert p.asked()["c"] == 1


async def test_hedge__all_fail__raises() -> None:
    p = await providers(2, hedge_after_s=60.0)
    p.nodes[0].error, p.nodes[1].error = Rejected("key"), Transient("later")
    with pytest.raises(Transient):
        await p.pool.headers([Tag.LATEST])


async def test_hedge__canceled__lets_go_of_both() -> None:
    p = await providers(2, hedge_after_s=0.0)
    for node in p.nodes:
        node.gate = asyncio.Event()
    asking = asyncio.create_task(p.pool.headers([Tag.LATEST]))
    await _spin()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert [node.cancelled for node in p.nodes] == [1, 1]


async def test_hedge__several_answers_are_never_hedged() -> None:
    p = await providers(3, hedge_after_s=0.0)
    await p.pool.ask(latest, count=2)
    assert p.asked() == {"a": 1, "b": 1}


async def test_wrong_chain__error_says_both_ids() -> None:
    p = await providers(1)
    p.nodes[0].faults = DOWN
    with pytest.raises(Timeout):
        await p.pool.headers([Tag.LATEST])
    p.nodes[0].faults = FOREIGN
    with pytest.raises(WrongChain, match=r"serves chain id 5, configured is 1"):
        await p.pool.headers([Tag.LATEST])
