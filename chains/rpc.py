"""One JSON-RPC provider: typed calls and batches, paced, counted, timed, bounded, retried in this one place.

Over HTTP (`chains.post`) or a WebSocket (`chains.socket`), by the scheme of its URL: all that is promised here holds
for both. An attempt is one request with one time-out, waiting for a free slot and for a socket included; before that
it waits its turn, where calls a second are bounded (`chains.pace`). Passing failures (`Transient`, but not
`BlockNotFound`: that one is the next tick's) are tried `attempts` times with growing, jittered waits. A provider
that asks for a longer rest than `MAX_WAIT_S` is not asked again here: `RateLimited` goes up with what it said.
So a call ends within attempts * (timeout_s + MAX_WAIT_S): 45 s by default, and with `max_rps` set at most
`MAX_PACE_WAIT_S` more an attempt.

What does not belong here: what a block or a log means (`chains.evm`), subscriptions (`chains.heads`), and choosing
between providers.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

import msgspec
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt

from chains.errors import BlockNotFound, ChainError, RateLimited, Timeout, Transient
from chains.pace import Pace
from chains.post import MAX_RESPONSE_BYTES, HttpSession, Post
from chains.replies import Answer, BatchRefused, Call, read_batch, read_single
from chains.socket import RpcSocket
from chains.unknown import UnknownWords
from chains.url import Scrubber, checked_host, is_socket

T = TypeVar("T")

TIMEOUT_S = 10.0
"""One attempt. Providers themselves give up a getLogs after 10 s or so; a head that takes longer is no head."""
ATTEMPTS = 3
FIRST_WAIT_S = 0.2
MAX_WAIT_S = 5.0
"""The longest wait between attempts, and the longest `Retry-After` that is waited for here."""
MAX_IN_FLIGHT = 8
"""Requests under way at once: below what free plans allow a second."""
MAX_BATCH = 100
"""Calls in one batch. Providers cap batches at 100 (QuickNode, Chainstack) to 1000."""

BATCHES_SENT_ALONE = 200
"""After a refusal of batches, this many are sent call by call before one is tried again: a gateway may have slipped."""


class Transport(Protocol):
    """Carries one request at a time to the provider, several of them under way at once."""

    async def exchange(self, body: bytes, ids: Sequence[int]) -> Answer:
        """What came back for `body`, a call or a batch with these ids, undecoded and bounded in bytes.

        Raises `ChainError`. The time-out is the caller's: cancelled, it leaves nothing behind.
        """
        ...

    async def close(self) -> None:
        """Lets go of its connections. Idempotent."""
        ...


class CallObserver(Protocol):
    """Told of every JSON-RPC call of every attempt: calls of a batch count one by one."""

    def on_call(self, method: str, outcome: str, seconds: float) -> None:
        """`outcome`: `ok`, or the label of the error (`chains.errors`). `seconds`: of the attempt, waiting for a slot
        included, waiting for its turn (`max_rps`) not.
        """
        ...


class SilentObserver:
    """Observes nothing."""

    def on_call(self, method: str, outcome: str, seconds: float) -> None:
        return None


class RpcProvider:
    """A JSON-RPC endpoint. Raises `ChainError` and nothing else of the network's."""

    def __init__(
        self,
        url: str,
        *,
        session: HttpSession | None = None,
        timeout_s: float = TIMEOUT_S,
        attempts: int = ATTEMPTS,
        max_in_flight: int = MAX_IN_FLIGHT,
        max_rps: float | None = None,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
        observer: CallObserver | None = None,
        unknown_words: UnknownWords | None = None,
        name: str | None = None,
        jitter: random.Random | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`session`: for HTTP only; used and left open. Without one the provider makes its own at the first call and
        closes it.

        `attempts`: how often a request is sent before its passing failure goes up. 1: never again, for a caller to whom
        asking another provider is the retry; a refused batch is then still asked call by call, that is no retry.

        `max_rps`: calls a second, those of a batch counted one by one; `None`: unbounded. A batch larger than a
        second's worth is let through whole, and paid for by those after it. A queue of more than `MAX_PACE_WAIT_S`
        is `RateLimited` without asking.

        `unknown_words`: told of each refusal in words nobody has collected, once.
        """
        if attempts < 1:
            raise ValueError(f"attempts must be at least 1, got {attempts}")
        host = checked_host(url)
        self.name = name or host
        """Host of the URL, for logs and metrics; the caller may tell two of one host apart."""
        self._url = url
        self._scrubber = Scrubber(url)
        self._transport: Transport = (
            RpcSocket(url, max_bytes=max_response_bytes, name=self.name)
            if is_socket(url)
            else Post(url, session=session, max_connections=max_in_flight, max_bytes=max_response_bytes)
        )
        self._timeout_s = timeout_s
        self._attempts = attempts
        self._slots = asyncio.Semaphore(max_in_flight)
        self._pace = None if max_rps is None else Pace(max_rps, sleep=sleep)
        self._observer: CallObserver = observer or SilentObserver()
        self._unknown_words = unknown_words or UnknownWords(lambda _, __: None)
        self._jitter = jitter or random.Random()  # noqa: S311 - spreads retries, keeps no secret
        self._sleep = sleep
        self._ids = itertools.count(1)
        self._alone_left = 0
        self._is_closed = False

    def __repr__(self) -> str:
        return f"RpcProvider({self.name})"

    async def call(self, method: str, params: Sequence[object], result: msgspec.json.Decoder[T]) -> T:
        """The decoded result of one call. Raises `ChainError`."""
        outcomes = await self._with_retries([Call(method=method, params=params, result=result)])
        return _result(outcomes[0])

    async def batch(self, calls: Sequence[Call[T]]) -> tuple[T, ...]:
        """The results of calls sent as one batch, in order. Raises the first error if any call failed."""
        return tuple([_result(outcome) for outcome in await self.batch_outcomes(calls)])

    async def batch_outcomes(self, calls: Sequence[Call[T]]) -> list[T | ChainError]:
        """As `batch`, with the lasting errors as values beside the results; passing failures still raise.

        A provider that refuses batches is asked call by call for a while: its answers may then come from different
        moments, which the checks of `chains.evm` and the second reading have to catch.
        """
        if len(calls) > MAX_BATCH:
            raise ValueError(f"a batch has at most {MAX_BATCH} calls, got {len(calls)}")
        return await self._with_retries(calls) if calls else []

    async def close(self) -> None:
        """Closes its connections; a given session stays open. Idempotent."""
        self._is_closed = True
        await self._transport.close()

    # -- attempts ------------------------------------------------------------------------------------------------------

    async def _with_retries(self, calls: Sequence[Call[T]]) -> list[T | ChainError]:
        # Most calls succeed at once: those need none of the machinery below.
        try:
            return await self._send(calls)
        except ChainError as error:
            if not _is_worth_retrying(error):
                raise
            failure = error
        async for attempt in AsyncRetrying(
            stop=stop_after_attempt(self._attempts),
            wait=self._wait_s,
            retry=retry_if_exception(_is_worth_retrying),
            sleep=self._sleep,
            reraise=True,
        ):
            with attempt:
                if attempt.retry_state.attempt_number == 1:
                    raise failure  # the attempt made above
                return await self._send(calls)
        raise AssertionError("tenacity either returns or raises")

    async def _send(self, calls: Sequence[Call[T]]) -> list[T | ChainError]:
        """All outcomes; raises the first failure that is worth another attempt of the whole."""
        if len(calls) > 1 and not self._is_batch_to_be_split():
            outcomes = await self._send_batch(calls)
        else:
            outcomes = await self._send_singles(calls)
        for outcome in outcomes:
            if isinstance(outcome, ChainError) and _is_worth_retrying(outcome):
                raise outcome
        return outcomes

    async def _send_single(self, call: Call[T]) -> T | ChainError:
        call_id = next(self._ids)
        refusal = await self._wait_turn(1)
        started = asyncio.get_running_loop().time()
        answer = refusal or await self._exchange(_encoded(call, call_id), [call_id])
        outcome = answer if isinstance(answer, ChainError) else read_single(answer, call, call_id)
        self._observe([call], [outcome], started)
        return outcome

    async def _send_singles(self, calls: Sequence[Call[T]]) -> list[T | ChainError]:
        """At once, as far as there are slots: they should see the same moment of the chain."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._send_single(call), name=f"{self.name} {call.method}") for call in calls]
        return [task.result() for task in tasks]

    async def _send_batch(self, calls: Sequence[Call[T]]) -> list[T | ChainError]:
        ids = [next(self._ids) for _ in calls]
        refusal = await self._wait_turn(len(calls))
        started = asyncio.get_running_loop().time()
        answer = refusal or await self._exchange(b"[" + b",".join(map(_encoded, calls, ids)) + b"]", ids)
        if isinstance(answer, ChainError):
            outcomes: list[T | ChainError] = [answer] * len(calls)
        else:
            read = read_batch(answer, calls, ids)
            if isinstance(read, BatchRefused):
                self._observe(calls, [read.error] * len(calls), started)
                return await self._send_refused(calls, is_lasting=read.is_lasting)
            outcomes = read
        self._observe(calls, outcomes, started)
        return outcomes

    async def _send_refused(self, calls: Sequence[Call[T]], *, is_lasting: bool) -> list[T | ChainError]:
        """After a refused batch. Remembered only when the calls themselves are welcome: a bad key refuses both."""
        outcomes = await self._send_singles(calls)
        if is_lasting and not any(isinstance(outcome, ChainError) for outcome in outcomes):
            self._alone_left = BATCHES_SENT_ALONE
        return outcomes

    def _is_batch_to_be_split(self) -> bool:
        if self._alone_left == 0:
            return False
        self._alone_left -= 1
        return True

    async def _wait_turn(self, calls: int) -> ChainError | None:
        """Before the attempt's clock runs: our own slowness is no failure of the provider's."""
        if self._pace is None:
            return None
        try:
            await self._pace.wait(calls)
        except ChainError as error:
            return error
        return None

    async def _exchange(self, body: bytes, ids: Sequence[int]) -> Answer | ChainError:
        try:
            async with asyncio.timeout(self._timeout_s), self._slots:
                if self._is_closed:
                    return Transient("the provider is closed")
                return await self._transport.exchange(body, ids)
        except TimeoutError:
            return Timeout(f"no whole answer within {self._timeout_s:g} s")
        except ChainError as error:
            return error

    def _wait_s(self, state: RetryCallState) -> float:
        """What the provider asked for, else full jitter over 0.2, 0.4, 0.8 … s."""
        error = state.outcome.exception() if state.outcome is not None else None
        if isinstance(error, RateLimited) and error.retry_after_s is not None:
            return error.retry_after_s
        return float(self._jitter.uniform(0, min(MAX_WAIT_S, FIRST_WAIT_S * 2**state.attempt_number)))

    def _observe(self, calls: Sequence[Call[T]], outcomes: Sequence[T | ChainError], started: float) -> None:
        """Tells the observer, and puts provider and method before the text of each error, its secrets taken out."""
        seconds = asyncio.get_running_loop().time() - started
        named: set[int] = set()
        for call, outcome in zip(calls, outcomes, strict=True):
            label = "ok"
            if isinstance(outcome, ChainError):
                label = outcome.label
                if id(outcome) not in named:
                    named.add(id(outcome))
                    outcome.args = (f"{self.name}: {call.method}: {self._scrubber.scrubbed(str(outcome))}",)
                    self._unknown_words.note(self.name, outcome)
            self._observer.on_call(call.method, label, seconds)


def _encoded(call: Call[T], call_id: int) -> bytes:
    return msgspec.json.encode({"jsonrpc": "2.0", "id": call_id, "method": call.method, "params": call.params})


def _result(outcome: T | ChainError) -> T:
    if isinstance(outcome, ChainError):
        raise outcome
    return outcome


def _is_worth_retrying(error: BaseException) -> bool:
    if isinstance(error, RateLimited):
        return error.retry_after_s is None or error.retry_after_s <= MAX_WAIT_S
    return isinstance(error, Transient) and not isinstance(error, BlockNotFound)
