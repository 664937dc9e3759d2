"""`Agreement` and `agreed_headers`: one question to several providers, over one tick or many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from chains.errors import BlockNotFound, Disagreement, QuorumLost
from chains.model import BlockNumber, ChainId, Tag
from chains.pool import Pool
from chains.reader import ChainReader
from chains.simulated import SimFaults, SimulatedChain
from chains.spans import WindowedReader
from chains.standing import Standing, State
from settler.stages.agreement import Agreement, agreed_headers
from tests.support.lying import LyingReader, foreign, postdates

CHAIN = ChainId(1)
DOWN = SimFaults(is_down=True)


@dataclass
class Asked:
    """Providers a, b, c …, each of which answers one letter, and a pool of them."""

    readers: list[LyingReader]
    says: dict[str, str]
    pool: Pool
    order: list[str] = field(default_factory=list)
    disagreements: Counter[str] = field(default_factory=Counter)

    def on_standing(self, standing: Standing) -> None:
        return None

    def on_disagreement(self, provider: str, what: str) -> None:
        assert what == "the weather"
        self.disagreements[provider] += 1

    def agreement(self, quorum: int) -> Agreement[str]:
        async def question(reader: ChainReader) -> str:
            await reader.headers([Tag.LATEST])
            name = getattr(reader, "name")  # noqa: B009 -- a pool's member has one, a reader need not
            self.order.append(name)
            return self.says[name]

        return Agreement(self.pool, question, quorum=quorum, gist=str.lower, what="the weather")


async def asked(says: Sequence[str]) -> Asked:
    chain = SimulatedChain(seed=1, chain_id=CHAIN)
    chain.mine_empty(20)
    readers = [LyingReader(chain, name="abcde"[at]) for at in range(len(says))]
    made: Asked
    pool = Pool([WindowedReader(r, monotonic=lambda: 0.0) for r in readers], chain_id=CHAIN, monotonic=lambda: 0.0)
    made = Asked(readers=readers, says=dict(zip("abcde", says, strict=False)), pool=pool)
    pool._observer = made
    await pool.chain_id()
    return made


@pytest.mark.parametrize(
    ("says", "quorum", "value", "sources", "against", "questions"),
    [
        ("x", 1, "x", "a", "", 1),
        ("xyz", 1, "x", "a", "", 1),
        ("xXx", 2, "x", "ab", "", 2),
        ("xyx", 2, "x", "ac", "b", 3),
        ("yxx", 2, "x", "bc", "a", 3),
        ("xxx", 3, "x", "abc", "", 3),
        ("xyxx", 3, "x", "acd", "b", 4),
        ("xyzzz", 3, "z", "cde", "ab", 5),
        ("xyzyx", 2, "y", "bd", "ac", 4),
    ],
)
async def test_reached__the_answer_of_a_quorum(
    says: str, quorum: int, value: str, sources: str, against: str, questions: int
) -> None:
    a = await asked(says)
    believed = await a.agreement(quorum).reached()
    assert (believed.value, believed.sources) == (value, tuple(sources))
    assert a.disagreements == Counter(against)
    assert len(a.order) == len(set(a.order)) == questions


@pytest.mark.parametrize(("says", "quorum"), [("xy", 2), ("xyz", 2), ("xxy", 3), ("xxyyz", 3)])
async def test_reached__too_few_alike__raises_and_holds_it_against_nobody(says: str, quorum: int) -> None:
    a = await asked(says)
    for _ in range(5):
        with pytest.raises(Disagreement, match=r"differ over the weather, and \d must agree: .* against .*; nothing"):
            await a.agreement(quorum).reached()
    assert set(a.disagreements) == set("abcde"[: len(says)])
    assert {standing.state for standing in a.pool.standings} == {State.UP}


async def test_reached__too_few_can_be_asked__raises() -> None:
    a = await asked("xxx")
    a.readers[0].faults = a.readers[1].faults = DOWN
    with pytest.raises(QuorumLost):
        await a.agreement(2).reached()
    assert a.disagreements == {}


async def test_reached__two_differ_and_the_third_is_away__is_a_disagreement() -> None:
    a = await asked("xyx")
    a.readers[2].faults = DOWN
    with pytest.raises(Disagreement, match="a against b"):
        await a.agreement(2).reached()
    assert a.disagreements == Counter("ab")


async def test_ask_on__one_at_a_time__asks_nobody_twice() -> None:
    a = await asked("xyzx")
    agreement = a.agreement(2)
    for asked_so_far in ("a", "ab", "abc"):
        assert await agreement.ask_on(at_most=1) is None
        assert a.order == list(asked_so_far)
    believed = await agreement.ask_on(at_most=1)
    assert believed is not None
    assert believed.sources == ("a", "d")


async def test_ask_on__asks_no_more_than_are_missing() -> None:
    a = await asked("xxxxx")
    agreement = a.agreement(3)
    assert await agreement.ask_on(at_most=2) is None
    assert await agreement.ask_on(at_most=2) is not None
    assert a.order == list("abc")


async def test_ask_on__one_that_fails_is_replaced() -> None:
    a = await asked("xyy")
    a.readers[0].faults = DOWN
    believed = await a.agreement(2).ask_on()
    assert believed is not None
    assert (believed.value, believed.sources) == ("y", ("b", "c"))


async def test_agreed__earns_trust_back() -> None:
    a = await asked("xxy")
    for _ in range(3):
        a.pool.differed(["a"], "the weather")
    a.says["b"] = "y"
    assert (await a.agreement(2).reached()).sources == ("b", "c")
    assert a.pool.standings[0].state is State.DISTRUSTED


# -- headers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("lie", [foreign, postdates])
async def test_agreed_headers__one_lies__are_the_true_ones_times_included(at: int, lie: object) -> None:
    """Reproduced: hashes alone were compared, and the first provider alone said at what time the chain stands."""
    a = await asked("xxx")
    a.pool._observer = _Silent()
    a.readers[at].lie_of_header = foreign if lie is foreign else postdates
    wanted = [BlockNumber(number) for number in (3, 7, 21)]
    chain = a.readers[0].chain
    true = [block and block.ref for block in map(chain.block_at, wanted)]
    assert list(await agreed_headers(a.pool, wanted, quorum=2)) == true


async def test_agreed_headers__two_of_three_alike__whoever_lacks_one_differs() -> None:
    a = await asked("xxx")
    a.pool._observer = _Silent()
    a.readers[0].lag = 5
    (found,) = await agreed_headers(a.pool, [BlockNumber(18)], quorum=2)
    assert found is not None


async def test_reaching__nobody_left_who_has_it__is_block_not_found() -> None:
    a = await asked("xx")
    await a.pool.ask(lambda reader: reader.headers([Tag.LATEST]), count=2)
    agreement = Agreement(
        a.pool,
        lambda reader: reader.headers([BlockNumber(21)]),
        quorum=2,
        gist=repr,
        what="block 21",
        reaching=BlockNumber(21),
    )
    with pytest.raises(BlockNotFound):
        await agreement.reached()


class _Silent:
    def on_standing(self, standing: Standing) -> None:
        return None

    def on_disagreement(self, provider: str, what: str) -> None:
        return None
