"""`Pool`: one chain, read from several providers. A `ChainReader` for whoever needs one good answer, and `ask` for
whoever needs several to compare.

What it promises beside `ChainReader`:

- providers are asked in the order of preference; one that fails rests and another is asked in its place, at once;
- one that rests is not asked, unless all of them rest, or a quorum cannot do without it: the last one is never
  switched off;
- one whose chain id is wrong is removed, and says so; its id is asked again before it is ever used again;
- one that showed a lower head a moment ago is not asked for what lies above it;
- the head is the one a strict majority has reached, not the highest;
- asking another provider is the retry: its members are to be made with `attempts=1` where there are several.

What does not belong here: comparing answers (`chains.quorum`), widths of spans (`chains.spans`), pace and bounds of
one provider (`chains.rpc`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from chains.errors import BlockNotFound, ChainError, NodeInconsistent, QuorumLost, Transient, WrongChain
from chains.member import Member
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
)
from chains.proof import WireBlock, WireReceipt
from chains.reader import ChainReader
from chains.spans import WindowedReader
from chains.standing import Standing

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

LAGGING_BLOCKS = 5
"""Further than this below the believed head, a provider is asked after the others: it lags, it is not a block late."""
PROBE_EVERY_S = 60.0
"""A provider that was not heard of for so long is asked its head: its health is not what it was an hour ago."""
LOOK_CALLS_MAX = 3
"""Calls of one look at the head while nothing is wrong: what a tick may cost (RULES.md section 1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Generic[T_co]):
    source: str
    """The provider's name."""
    value: T_co


class PoolObserver(Protocol):
    """Told of what operators want to know of providers."""

    def on_standing(self, standing: Standing) -> None:
        """It was heard of for the first time, began or ceased to be up, or its reason changed."""
        ...

    def on_disagreement(self, provider: str, what: str) -> None:
        """It answered otherwise than the others, or contradicted itself."""
        ...


class SilentPoolObserver:
    """Observes nothing."""

    def on_standing(self, standing: Standing) -> None:
        return None

    def on_disagreement(self, provider: str, what: str) -> None:
        return None


class Pool:
    """Providers of one chain, in order of preference. Names are to be distinct."""

    def __init__(
        self,
        readers: Sequence[WindowedReader],
        *,
        chain_id: ChainId,
        monotonic: Callable[[], float],
        observer: PoolObserver | None = None,
        hedge_after_s: float | None = None,
    ) -> None:
        """`hedge_after_s`: a request for one answer that takes longer is asked of a second provider as well, and the
        first answer counts. `None`: never; it costs calls.
        """
        if not readers:
            raise ValueError("a pool needs at least one provider")
        self._members = tuple(Member(reader, monotonic) for reader in readers)
        if len({member.name for member in self._members}) != len(self._members):
            raise ValueError("two providers of a pool have one name")
        self._chain_id = chain_id
        self._monotonic = monotonic
        self._observer: PoolObserver = observer or SilentPoolObserver()
        self._hedge_after_s = hedge_after_s
        self._head: BlockNumber | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(member.name for member in self._members)

    @property
    def standings(self) -> tuple[Standing, ...]:
        """In order of preference."""
        return tuple(member.standing for member in self._members)

    @property
    def width(self) -> int:
        """Blocks that the provider asked next takes in one go; others take more pieces if they must."""
        return self._in_order()[0].reader.width

    # -- several answers -----------------------------------------------------------------------------------------------

    async def ask(
        self,
        question: Callable[[ChainReader], Awaitable[T]],
        *,
        count: int = 1,
        but_not: Collection[str] = (),
        reaching: BlockNumber | None = None,
        is_needed: bool = False,
    ) -> list[Answer[T]]:
        """Answers of up to `count` different providers, none of `but_not`, in order of preference.

        At least one, maybe fewer than `count`: providers that failed were replaced by others while there were any.
        `is_needed`: where too few others are left, those are asked too that rest for what they did, not those that
        asked for it; what they say is only believed where another says the same.

        If all that could be asked failed, raises an error that may pass, if any of them is such, else that of the most
        preferred; `BlockNotFound` if none has reached the block `reaching`; `QuorumLost` if none is left to be asked
        beside `but_not`, or they failed.
        """
        left = self._to_ask(but_not, reaching, is_needed=is_needed)
        answers: list[Answer[T]] = []
        errors: list[ChainError] = []
        while left and len(answers) < count:
            batch, left = left[: count - len(answers)], left[count - len(answers) :]
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._outcome(m, question), name=f"ask {m.name}") for m in batch]
            for member, task in zip(batch, tasks, strict=True):
                outcome = task.result()
                if isinstance(outcome, _Failed):
                    errors.append(outcome.error)
                else:
                    answers.append(Answer(source=member.name, value=outcome))
        if answers:
            return answers
        error = _worst(errors)
        if but_not and is_needed and not isinstance(error, BlockNotFound):
            raise QuorumLost(self._who_is_missing(but_not)) from error
        raise error

    def agreed(self, names: Collection[str]) -> None:
        """They gave the answer that is believed."""
        for member in self._members:
            if member.name in names:
                self._change(member, lambda standing, now: standing.agreed(now))

    def differed(self, names: Collection[str], what: str) -> None:
        """They gave another answer than the one that is believed, or one that contradicts itself. `what`: in words."""
        for member in self._members:
            if member.name in names:
                self._observer.on_disagreement(member.name, what)
                if len(self._members) > 1:
                    self._change(member, lambda standing, now: standing.differed(now))

    def disputed(self, names: Collection[str], what: str) -> None:
        """They contradict each other, and nobody knows who is right: counted, held against none."""
        for name in names:
            self._observer.on_disagreement(name, what)

    # -- one answer: a `ChainReader` -----------------------------------------------------------------------------------

    async def head(self) -> BlockRef:
        """The head that a strict majority of the providers has reached. One call each of a majority of them.

        One of the others is asked as well when it was not heard of for long; where a majority is `LOOK_CALLS_MAX`, in
        place of one of it. When the heads differ by more than `LAGGING_BLOCKS`, all are asked; where fewer than a
        majority answer, it is the lowest of theirs.
        """
        majority = len(self._members) // 2 + 1
        due = self._due_in_reserve(majority)
        count = majority - len(due) if majority >= LOOK_CALLS_MAX else majority
        answers = await self.ask(_latest, count=count, but_not=due)
        answers += await self._more(_latest, due)
        if len(answers) < majority:
            answers += await self._more(_latest, self._unheard(answers), count=majority - len(answers))
        numbers = [answer.value.number for answer in answers]
        if max(numbers) - min(numbers) > LAGGING_BLOCKS:
            answers += await self._more(_latest, self._unheard(answers))
        ordered = sorted((answer.value for answer in answers), key=lambda ref: ref.number, reverse=True)
        believed = ordered[min(majority, len(ordered)) - 1]
        self._head = believed.number
        return believed

    async def chain_id(self) -> ChainId:
        """The configured id if any provider serves it, else the id of one that does not. Asks all of them, at once.

        Raises the first error when none answers.
        """
        for member in self._members:
            member.standing.is_chain_known = False
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._outcome(m, _nothing_more), name=f"ask {m.name}") for m in self._members]
        outcomes = [task.result() for task in tasks]
        failures = [outcome.error for outcome in outcomes if isinstance(outcome, _Failed)]
        if len(failures) < len(outcomes):
            return self._chain_id
        served = next((error.found for error in failures if isinstance(error, _Foreign)), None)
        if served is None:
            raise failures[0]
        return served

    async def headers(self, wanted: Sequence[BlockNumber | Tag]) -> tuple[BlockRef | None, ...]:
        return await self._first(lambda reader: reader.headers(wanted))

    async def read_span(self, span: BlockSpan, query: LogQuery, *, anchor: BlockNumber | None = None) -> SpanRead:
        return await self._first(lambda reader: reader.read_span(span, query, anchor=anchor), reaching=span.last)

    async def proof_material(self, block_hash: BlockHash) -> tuple[WireBlock, Sequence[WireReceipt]]:
        return await self._first(lambda reader: reader.proof_material(block_hash))

    async def token_facts(self, token: Address) -> TokenFacts:
        return await self._first(lambda reader: reader.token_facts(token))

    async def announcements(self, span: BlockSpan, tokens: frozenset[Address]) -> tuple[Announcement, ...]:
        return await self._first(lambda reader: reader.announcements(span, tokens), reaching=span.last)

    async def contract_calls(self, calls: Sequence[ContractCall]) -> tuple[bytes | None, ...]:
        return await self._first(lambda reader: reader.contract_calls(calls))

    async def close(self) -> None:
        for member in self._members:
            await member.reader.close()

    # -- asking --------------------------------------------------------------------------------------------------------

    async def _first(
        self, question: Callable[[ChainReader], Awaitable[T]], *, reaching: BlockNumber | None = None
    ) -> T:
        if self._hedge_after_s is None or len(self._members) == 1:
            return (await self.ask(question, reaching=reaching))[0].value
        return await self._hedged(question, self._hedge_after_s, reaching)

    async def _hedged(
        self, question: Callable[[ChainReader], Awaitable[T]], after_s: float, reaching: BlockNumber | None
    ) -> T:
        """The first good answer of the preferred provider and, once that takes too long, of the next."""
        left = self._to_ask((), reaching)
        running: set[asyncio.Task[T | _Failed]] = set()
        errors: list[ChainError] = []
        try:
            while left or running:
                if left:
                    member = left.pop(0)
                    running.add(asyncio.create_task(self._outcome(member, question), name=f"ask {member.name}"))
                wait_s = after_s if left and len(running) == 1 else None
                done, running = await asyncio.wait(running, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    outcome = task.result()
                    if not isinstance(outcome, _Failed):
                        return outcome
                    errors.append(outcome.error)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        raise _worst(errors)

    async def _more(
        self,
        question: Callable[[ChainReader], Awaitable[T]],
        names: Collection[str],
        *,
        count: int | None = None,
    ) -> list[Answer[T]]:
        """Of these and no others, those left out that rest or fail. `count`: no more than so many."""
        if not names:
            return []
        try:
            return await self.ask(question, count=count or len(names), but_not=set(self.names) - set(names))
        except ChainError:
            return []

    async def _outcome(self, member: Member, question: Callable[[ChainReader], Awaitable[T]]) -> T | _Failed:
        """The answer or the error, either taken note of."""
        started = self._monotonic()
        try:
            if not member.standing.is_chain_known:
                await self._check_chain(member)
            value = await question(member)
        except ChainError as error:
            failure = error
            if isinstance(error, NodeInconsistent) and len(self._members) > 1:
                self._observer.on_disagreement(member.name, str(error))
            self._change(member, lambda standing, now: standing.failed(failure, now))
            return _Failed(error)
        self._change(member, lambda standing, now: standing.answered(now - started, now))
        return value

    async def _check_chain(self, member: Member) -> None:
        found = await member.reader.chain_id()
        if found != self._chain_id:
            raise _Foreign(f"it serves chain id {found}, configured is {self._chain_id}", found=found)
        member.standing.is_chain_known = True

    def _change(self, member: Member, change: Callable[[Standing, float], None]) -> None:
        """The observer is told of the first answer, and of what is another state than before."""
        standing = member.standing
        before = (standing.is_heard, standing.state, standing.reason)
        change(standing, self._monotonic())
        if (standing.is_heard, standing.state, standing.reason) != before:
            self._observer.on_standing(standing)

    # -- whom to ask ---------------------------------------------------------------------------------------------------

    def _in_order(self) -> list[Member]:
        """Everybody: those that may be asked first, then by lagging, then by preference."""
        now = self._monotonic()

        def rank(member: Member) -> tuple[bool, bool]:
            head = member.standing.head
            is_lagging = head is not None and self._head is not None and head < self._head - LAGGING_BLOCKS
            return (member.standing.is_resting(now), is_lagging)

        return sorted(self._members, key=rank)

    def _to_ask(
        self, but_not: Collection[str], reaching: BlockNumber | None, *, is_needed: bool = False
    ) -> list[Member]:
        now = self._monotonic()
        ordered = self._in_order()
        awake = [m for m in ordered if not m.standing.is_resting(now)]
        if not awake:
            awake = [min(ordered, key=lambda member: member.standing.rest_left_s(now))]
        if is_needed:
            awake += [m for m in ordered if m not in awake and m.standing.may_help(now)]
        left = [m for m in awake if m.name not in but_not]
        if not left:
            raise QuorumLost(self._who_is_missing(but_not))
        if reaching is None:
            return left
        able = [m for m in left if not m.standing.lacks(reaching, now)]
        if not able:
            raise BlockNotFound(f"none of {', '.join(m.name for m in left)} has reached block {reaching}")
        return able

    def _who_is_missing(self, but_not: Collection[str]) -> str:
        now = self._monotonic()
        away = [
            f"{m.name} for {m.standing.rest_left_s(now):.0f} s ({m.standing.reason})"
            for m in self._members
            if m.name not in but_not
        ]
        return f"no other provider than {', '.join(but_not)} can be asked; away: {', '.join(away) or 'there is none'}"

    def _due_in_reserve(self, needed: int) -> list[str]:
        """At most one of those after the first `needed`: not heard of for long, or back from its rest."""
        now = self._monotonic()
        due = [
            m.name
            for m in self._in_order()[needed:]
            if not m.standing.is_resting(now) and not (m.standing.is_up and now - m.standing.heard_at < PROBE_EVERY_S)
        ]
        return due[:1]

    def _unheard(self, answers: Sequence[Answer[BlockRef]]) -> list[str]:
        heard = {answer.source for answer in answers}
        return [name for name in self.names if name not in heard]


@dataclass(frozen=True, slots=True)
class _Failed:
    error: ChainError


class _Foreign(WrongChain):
    """`WrongChain` that remembers which."""

    def __init__(self, message: str, *, found: ChainId) -> None:
        super().__init__(message)
        self.found = found


def _worst(errors: Sequence[ChainError]) -> ChainError:
    """One that may pass says more than one that stays: somebody may answer yet."""
    return next((error for error in errors if isinstance(error, Transient)), errors[0])


async def _latest(reader: ChainReader) -> BlockRef:
    (head,) = await reader.headers([Tag.LATEST])
    if head is None:
        raise NodeInconsistent("the node answers no latest block")
    return head


async def _nothing_more(_: ChainReader) -> None:
    """The pool asks the chain id of whoever it does not know, before any question."""
