"""Questions that come while an answer is under way are asked together, in the next: many small transactions become one.

    #  one asks           ├── answered ──┤
    #  three ask meanwhile   . .  .      ├── answered together ──┤

Promises: who asks alone is not kept waiting for others to come; what is asked is looked up, or done, after it was
asked; who gives up waiting undoes nothing of others'; nothing is held for longer than the answers take.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")


class Gathered(Generic[Q, A]):
    """Of one event loop."""

    def __init__(
        self,
        ask: Callable[[Sequence[Q]], Awaitable[Sequence[A | BaseException]]],
        *,
        most: int,
        lanes: int = 1,
        name: str,
    ) -> None:
        """`ask`: an answer for each, in order; what it raises is each one's answer. `most`: questions asked together.
        `lanes`: so many are under way at once.
        """
        assert most >= 1 and lanes >= 1, "somebody is asked something"
        self._ask = ask
        self._most = most
        self._lanes = lanes
        self._name = name
        self._waiting: deque[tuple[Q, asyncio.Future[A]]] = deque()
        self._under_way: set[asyncio.Task[None]] = set()

    async def __call__(self, question: Q) -> A:
        """The answer. Raises what was answered, or what asking raised."""
        answer: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, answer))
        if len(self._under_way) < self._lanes:
            # a task of its own: who asks may be cancelled, and the others still want to know; in a context of its own,
            # or what it logs would bear the first one's name
            task = asyncio.create_task(self._work(), name=self._name, context=Context())
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
        return await answer

    async def end(self) -> None:
        """Gives up what is under way: nobody waits for it any more."""
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    async def _work(self) -> None:
        """As long as somebody waits."""
        try:
            while self._waiting:
                asked = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
                wanted = [(question, answer) for question, answer in asked if not answer.done()]
                if wanted:
                    await self._answer(wanted)
        finally:
            # not when the task is found done, which is later: who asks in between would wait for nobody
            task = asyncio.current_task()
            assert task is not None, "it runs in one"
            self._under_way.discard(task)

    async def _answer(self, wanted: Sequence[tuple[Q, asyncio.Future[A]]]) -> None:
        try:
            answers = await self._ask([question for question, _ in wanted])
        except Exception as error:  # noqa: BLE001  # theirs who wait: each raises it where it is answered and logged
            answers = [error] * len(wanted)
        except BaseException:
            for _, future in wanted:
                future.cancel()
            raise
        for (_, future), answer in zip(wanted, answers, strict=True):
            if future.done():
                continue  # who asked has given up
            if isinstance(answer, BaseException):
                future.set_exception(answer)
            else:
                future.set_result(answer)
