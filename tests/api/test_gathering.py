"""Questions that come while an answer is under way are asked together, in the next."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from settler.api.gathering import Gathered


class Oracle:
    """Answers each question with ten times it, when it is let; negative ones are refused."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.may_answer = asyncio.Event()

    async def __call__(self, questions: Sequence[int]) -> list[int | BaseException]:
        self.asked.append(list(questions))
        await self.may_answer.wait()
        if 13 in questions:
            raise RuntimeError("the oracle is dumb")
        return [10 * q if q >= 0 else ValueError(f"{q} is no question") for q in questions]


def ask(oracle: Oracle, *questions: int, most: int = 10, lanes: int = 1) -> list[asyncio.Task[int]]:
    gathered = Gathered[int, int](oracle, most=most, lanes=lanes, name="asking")
    return [asyncio.create_task(gathered(question)) for question in questions]


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_question__alone__is_asked_at_once() -> None:
    oracle = Oracle()
    oracle.may_answer.set()
    (one,) = ask(oracle, 4)
    assert await one == 40
    assert oracle.asked == [[4]]


@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("askers", [1, 3])
async def test_question__asked_as_soon_as_the_one_before_is_answered__is_answered(lanes: int, askers: int) -> None:
    oracle = Oracle()
    oracle.may_answer.set()
    gathered = Gathered[int, int](oracle, most=10, lanes=lanes, name="asking")

    async def one_after_the_other() -> list[int]:
        return [await gathered(n) for n in range(5)]

    async with asyncio.timeout(10):
        answers = await asyncio.gather(*(one_after_the_other() for _ in range(askers)))
    assert answers == [[0, 10, 20, 30, 40]] * askers


async def test_questions__while_an_answer_is_under_way__are_asked_together_and_bounded() -> None:
    oracle = Oracle()
    tasks = ask(oracle, *range(8), most=3)
    await settled()
    oracle.may_answer.set()
    assert await asyncio.gather(*tasks) == [10 * n for n in range(8)]
    assert oracle.asked == [[0, 1, 2], [3, 4, 5], [6, 7]]


async def test_questions__in_two_lanes__are_under_way_twice() -> None:
    oracle = Oracle()
    tasks = ask(oracle, *range(6), most=2, lanes=2)
    await settled()
    assert oracle.asked == [[0, 1], [2, 3]]
    oracle.may_answer.set()
    assert await asyncio.gather(*tasks) == [0, 10, 20, 30, 40, 50]


async def test_question__given_up__leaves_the_others_theirs() -> None:
    oracle = Oracle()
    tasks = ask(oracle, 1, 2, 3, 4, most=2)
    await settled()
    tasks[0].cancel()
    tasks[3].cancel()
    await settled()
    oracle.may_answer.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [answer for answer in found if isinstance(answer, int)] == [20, 30]
    assert oracle.asked == [[1, 2], [3]]


async def test_answer__a_refusal__is_raised_where_it_was_asked_alone() -> None:
    oracle = Oracle()
    oracle.may_answer.set()
    good, bad = ask(oracle, 1, -2)
    assert await good == 10
    with pytest.raises(ValueError, match="-2 is no question"):
        await bad


async def test_asking__fails__fails_everybody_and_the_next_are_asked() -> None:
    oracle = Oracle()
    tasks = ask(oracle, 13, 1, 2, most=2)
    await settled()
    oracle.may_answer.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(answer) for answer in found] == ["the oracle is dumb", "the oracle is dumb", "20"]
